"""Packages of npm at pinned versions, fetched once into a cache of the user's."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

MQTT_JS = "5.16.0"


def modules(name: str, version: str) -> Path:
    """Return a ``node_modules`` that has the package; several processes may ask at once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "northbound-tests"
    home = cache / f"{name}-{version}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}-{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "ready").exists():
            npm = shutil.which("npm")
            assert npm, "npm is not installed: run scripts/services"
            home.mkdir(exist_ok=True)
            command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(home)]
            done = subprocess.run([*command, f"{name}@{version}"], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            (home / "ready").touch()
    return home / "node_modules"
