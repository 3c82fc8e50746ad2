"""What an import brings with it, and which way imports point."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINTER = Path(sys.executable).with_name("lint-imports")


def modules_after(statement):
    """Return the top-level modules that a fresh interpreter has loaded after ``statement``."""
    run = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.partition(".")[0] for name in run.stdout.split()}


HEAVY = {"uvicorn", "uvloop", "starlette", "rich", "click", "asyncio", "ssl", "sqlite3", "tenacity", "awscrt", "google"}


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import northbound", HEAVY),
        ("import northbound.loading", HEAVY),
        ("import northbound.shaping, northbound.engine", HEAVY),
    ],
)
def test_an_import_brings_only_what_it_needs(statement, unwanted):
    assert modules_after(statement) & unwanted == set()


def test_an_import_brings_no_plugin():
    assert not {name for name in modules_after("import northbound.loading") if name.startswith("northbound_")}


@pytest.mark.skipif(not LINTER.exists(), reason="import-linter is a tool of the development environment")
def test_imports_point_one_way():
    run = subprocess.run([LINTER, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.skipif(not LINTER.exists(), reason="import-linter is a tool of the development environment")
@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("core/northbound/topics.py", "import northbound.loading", "Upper rows import lower ones"),
        ("core/northbound/engine.py", "import northbound_mqtt", "The core imports no plugin"),
        ("plugins/northbound_file/__init__.py", "import northbound_jsonl", "Plugins do not know each other"),
        ("plugins/northbound_file/__init__.py", "import northbound.shaping", "Plugins import northbound,"),
        ("core/northbound/loading.py", "import pluggy", "Only the registry manages plugins"),
        ("core/northbound/shaping.py", "import tenacity", "Only retry knows tenacity"),
    ],
)
def test_an_import_that_points_the_other_way_is_found(tmp_path, module, line, contract):
    for folder in ("core", "plugins"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    run = subprocess.run(
        [LINTER, "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}/core:{tmp_path}/plugins", "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    broken = [text for text in run.stdout.splitlines() if " BROKEN" in text]
    assert any(text.startswith(contract) for text in broken)
