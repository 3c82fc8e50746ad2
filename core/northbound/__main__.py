"""``python -m northbound`` is the command ``northbound``."""

from northbound.cli import main

if __name__ == "__main__":
    main()
