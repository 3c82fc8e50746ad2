"""A Redis of one's own, on a free loopback port; nothing is kept on disk unless asked."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import redis
from tests.support.mosquitto import free_port

BINARY = shutil.which("redis-server") or "/usr/bin/redis-server"


class RedisServer:
    """``persistent``: what is written survives a restart; the port stays. ``arguments`` as for redis-server."""

    def __init__(self, tmp_path: Path, *, persistent: bool = False, arguments: Sequence[str] = ()) -> None:
        self.port = free_port()
        self._directory = tmp_path / f"redis-{self.port}"
        self._directory.mkdir(parents=True)
        kept = ["--appendonly", "yes", "--appendfsync", "no"] if persistent else ["--appendonly", "no"]
        self._arguments = [
            BINARY, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", *kept,
            "--dir", str(self._directory), "--logfile", str(self._directory / "log"), *arguments,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self, **options) -> redis.Redis:
        return redis.Redis(port=self.port, **options)

    def start(self) -> Self:
        self._process = subprocess.Popen(self._arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self._directory / "log").read_text()
            try:
                with self.client(socket_connect_timeout=1) as client:
                    client.ping()
            except redis.exceptions.AuthenticationError:
                return self
            except redis.exceptions.RedisError:
                time.sleep(0.01)
            else:
                return self
        raise RuntimeError("redis-server does not answer")

    def stop(self, *, kill: bool = False) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.kill() if kill else process.terminate()
            process.wait(15)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop(kill=True)
