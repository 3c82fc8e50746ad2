import sys
from pathlib import Path

# the helpers of tests/support are plain modules, and tests are no packages
sys.path.insert(0, str(Path(__file__).parents[2] / "support"))
