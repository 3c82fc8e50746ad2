"""A Mosquitto of the demo's own: on a free loopback port, with its files in a folder of its own, gone with the demo."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Final, Self

from northbound import NorthboundError

_FOLDERS: Final = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
_START_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 5.0
_TRIES: Final = 3
#: The shell ends the broker when its standard input ends, and that ends with this process, however it dies.
_WATCHED: Final = '"$@" & read -r _; kill $! 2>/dev/null; wait $!'


def find() -> str | None:
    """Return where Mosquitto is installed; ``None`` where it is not."""
    return shutil.which("mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), *_FOLDERS)))


def free_port() -> int:
    """Return a loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Broker:
    """Runs while the block runs. Nobody but this machine reaches it, so it asks for no credentials."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._folder.mkdir()
        for _ in range(_TRIES):
            self.port = free_port()  # another program may take it before Mosquitto does: then try again
            if self._start():
                return self
            self._stop()
        raise NorthboundError(f"{self._program} does not start: {self._last_words()}")

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> bool:
        configuration = self._folder / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\n"
            "allow_anonymous true\n"
            "persistence false\n"
            "max_queued_messages 0\n"
            "set_tcp_nodelay true\n"
            f"log_dest file {self._folder}/mosquitto.log\n"
            "log_type error\nlog_type warning\n" + ("user root\n" if os.geteuid() == 0 else "")
        )
        # A session of its own: Ctrl-C is for the demo, which still has to deliver.
        self._process = subprocess.Popen(  # noqa: S603 - the program found above
            ["/bin/sh", "-c", _WATCHED, "sh", self._program, "-c", str(configuration)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return True
        return False

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None  # noqa: S101 - asked for above
        process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _last_words(self) -> str:
        try:
            lines = (self._folder / "mosquitto.log").read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "it says nothing"
