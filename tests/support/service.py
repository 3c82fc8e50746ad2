"""A northbound in a process of its own, to be fed, watched, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self


class Service:
    """``northbound run`` on a configuration of its own under ``tmp_path``."""

    def __init__(self, tmp_path: Path, configuration: str, *, environment: Mapping[str, str] | None = None) -> None:
        self.directory = tmp_path
        self.config = tmp_path / "northbound.toml"
        self.config.write_text(configuration)
        self.log_path = tmp_path / "northbound.log"
        self._environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "northbound", *arguments]

    def start(self, *arguments: str, stdin: int | None = subprocess.DEVNULL) -> Self:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command("run", *arguments, str(self.config)),
                stdin=stdin,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self._environment,
            )
        return self

    def once(self, stdin: bytes = b"", *, timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command("run", "--once", str(self.config)),
            input=stdin,
            capture_output=True,
            timeout=timeout,
            cwd=self.directory,
            env=self._environment,
            check=False,
        )

    def call(self, *arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self.directory,
            env=self._environment,
            check=False,
        )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it as a power cut of the process would: SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self, *, timeout: float = 30) -> int:
        """Ask it to drain and stop; returns the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def resident_mb(self) -> float:
        assert self.process is not None
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        return 0.0

    def __enter__(self) -> Self:
        return self if self.process is not None else self.start()

    def __exit__(self, *_exc: object) -> None:
        if self.running:
            try:
                self.stop(timeout=15)
            except subprocess.TimeoutExpired:
                self.kill()


def until(condition: object, *, timeout: float = 20, what: str = "") -> None:
    """Wait until ``condition()`` is true."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout} s in vain: {what}")


def lines(values: Sequence[bytes]) -> bytes:
    return b"".join(value + b"\n" for value in values)
