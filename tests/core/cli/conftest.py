"""The command line in this process, and a folder with a small configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from northbound.cli import main

CONFIGURATION = """\
[site]
org = "org-acme"
[sources.in]
type = "jsonl"
path = "events.jsonl"
[connectors.out]
type = "file"
path = "sent.jsonl"
"""


@dataclass
class Ended:
    status: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()]


@pytest.fixture
def cli(monkeypatch, capsys):
    """Call the command as the shell would."""
    monkeypatch.setenv("NORTHBOUND_DEBUG", "")

    def call(*arguments: object) -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["northbound", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return Ended(int(ended.value.code or 0), told.out, told.err)

    return call


def event(state: str, value: object = True, **more: object) -> str:
    base = {"kind": "state", "building": "bld-1", "system": "sys-7", "driver": "dep-1", "module": "Display", "index": 1}
    return json.dumps({**base, "state": state, "value": value, **more})


def run_northbound(folder: Path, *arguments: object, **options) -> subprocess.CompletedProcess[str]:
    options.setdefault("env", {**os.environ})
    return subprocess.run(
        [sys.executable, "-m", "northbound", *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that holds northbound.toml and three events, and is the current one."""
    (tmp_path / "northbound.toml").write_text(CONFIGURATION)
    (tmp_path / "northbound.toml").chmod(0o600)
    (tmp_path / "events.jsonl").write_text("\n".join([event("power"), event("input", "hdmi"), event("power", False)]))
    monkeypatch.chdir(tmp_path)
    return tmp_path
