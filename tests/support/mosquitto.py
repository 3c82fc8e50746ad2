"""A Mosquitto of one's own, on a free loopback port, with its files under ``tmp_path``."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

BINARY = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


def available() -> bool:
    """Whether there is a Mosquitto to start."""
    return Path(BINARY).exists()


def free_port() -> int:
    """Return a loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Mosquitto:
    """``users`` are name → password, ``acl`` the lines of an ACL file; ``tls`` are the paths of CA, certificate, key.

    ``config_lines`` are appended to the configuration as they are. The port stays the same over a restart. Use it as a
    context manager, or call :meth:`start` and :meth:`stop`.
    """

    def __init__(
        self,
        tmp_path: Path,
        *,
        config_lines: Sequence[str] = (),
        persistence: bool = False,
        users: Mapping[str, str] | None = None,
        acl: Sequence[str] = (),
        tls: tuple[Path, Path, Path] | None = None,
        require_certificate: bool = False,
        websockets: bool = False,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.host = "127.0.0.1"
        self.websocket_port = free_port() if websockets else None
        self._directory = tmp_path / f"mosquitto-{self.port}"
        self._directory.mkdir(parents=True)
        self._process: subprocess.Popen[bytes] | None = None
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {'false' if users else 'true'}",
            f"persistence {'true' if persistence else 'false'}",
            f"persistence_location {self._directory}/",
            "user root",
            f"log_dest file {self.log_path}",
            "log_type error",
            "log_type warning",
            "log_type notice",
            "log_type information",
        ]
        if users:
            passwords = self._directory / "passwords"
            passwords.write_text("".join(f"{name}:{password}\n" for name, password in users.items()))
            subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
            lines.append(f"password_file {passwords}")
        if acl:
            rules = self._directory / "acl"
            rules.write_text("\n".join(acl) + "\n")
            rules.chmod(0o600)
            lines.append(f"acl_file {rules}")
        if tls:
            ca, certificate, key = tls
            lines += [f"cafile {ca}", f"certfile {certificate}", f"keyfile {key}"]
            lines.append(f"require_certificate {'true' if require_certificate else 'false'}")
        if self.websocket_port:
            lines += [f"listener {self.websocket_port} 127.0.0.1", "protocol websockets"]
        self._config = self._directory / "mosquitto.conf"
        self._config.write_text("\n".join([*lines, *config_lines]) + "\n")

    @property
    def log_path(self) -> Path:
        """Where it writes what it does."""
        return self._directory / "log"

    @property
    def pid(self) -> int:
        """The process, for measuring it."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """Return what it has written."""
        return self.log_path.read_text() if self.log_path.exists() else ""

    def start(self) -> Self:
        """Start it and wait until it accepts connections."""
        self._process = subprocess.Popen(
            [BINARY, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"mosquitto ended with {self._process.returncode}:\n{self.log()}")
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return self
        raise RuntimeError(f"mosquitto does not listen:\n{self.log()}")

    def stop(self) -> None:
        """Let it end in good order; with ``persistence`` it writes its state first."""
        self._end(kill=False)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(kill=True)

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.kill() if kill else process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()
