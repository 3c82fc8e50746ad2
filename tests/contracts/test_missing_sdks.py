"""Without an SDK its connector is a row with an install hint, and everything else works."""

import json
import os
import subprocess
import sys

import pytest

SDKS = {"aws": ("awscrt", "awsiot"), "azure": ("azure",), "gcp": ("google.cloud", "google.pubsub_v1", "grpc")}
TYPES = {"aws": "aws-iot", "azure": "azure-iot", "gcp": "gcp-pubsub"}
#: What stands in a machine without them: the import fails as if the package were not there.
BLOCK = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if any(name == gone or name.startswith(gone + ".") for gone in GONE):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
GONE = NAMES
sys.meta_path.insert(0, Missing())
"""


def northbound(folder, missing, *arguments, stdin=""):
    (folder / "sitecustomize.py").write_text(BLOCK.replace("NAMES", repr(missing)))
    return subprocess.run(
        [sys.executable, "-m", "northbound", *arguments],
        input=stdin, capture_output=True, text=True, timeout=60, check=False, cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip


@pytest.mark.parametrize("extra", SDKS)
def test_one_that_is_missing_is_a_row_with_a_hint(tmp_path, extra):
    done = northbound(tmp_path, SDKS[extra], "connectors", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["type"]: row for row in json.loads(done.stdout)}
    for other, name in TYPES.items():
        if other == extra:
            assert rows[name]["error"]
            assert rows[name]["hint"] == f"pip install 'northbound[{extra}]'"
        else:
            assert not rows[name]["error"], rows[name]


def test_a_configuration_that_needs_it_says_how_to_get_it(tmp_path):
    (tmp_path / "n.toml").write_text(
        '[site]\norg = "o"\n[sources.in]\ntype = "jsonl"\npath = "-"\n[connectors.c]\ntype = "gcp-pubsub"\n'
    )
    done = northbound(tmp_path, SDKS["gcp"], "check", "n.toml")
    assert done.returncode == 1
    assert "northbound[gcp]" in done.stdout
    assert "Traceback" not in done.stderr


def test_without_any_the_rest_delivers(tmp_path):
    (tmp_path / "n.toml").write_text(
        '[site]\norg = "o"\n[sources.in]\ntype = "jsonl"\npath = "-"\n[connectors.c]\ntype = "file"\npath = "out"\n'
    )
    event = {"kind": "state", "system": "s", "driver": "d", "module": "M", "index": 1, "state": "k", "value": 1}
    missing = tuple(name for names in SDKS.values() for name in names)
    done = northbound(tmp_path, missing, "run", "--once", "n.toml", stdin=json.dumps(event) + "\n")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out").read_text().splitlines()) == 1


def test_importing_northbound_imports_no_sdk():
    heavy = {"awscrt", "azure", "grpc", "google", "redis", "psycopg", "websockets", "cryptography"}
    code = f"import northbound, sys; print([m for m in sys.modules if m.split('.')[0] in {heavy}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
