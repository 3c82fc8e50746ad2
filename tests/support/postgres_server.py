"""A PostgreSQL of one's own, on a free loopback port, run as the user ``postgres`` where the tests run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql
from tests.support.mosquitto import free_port

_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def _program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([*map(str, _FOLDERS), os.environ.get("PATH", "")]))
    assert found is not None, f"{name} is not installed: scripts/services installs it"
    return found


class PostgresServer:
    """Trusts whoever connects from this machine: passwords are the business of libpq, not ours."""

    def __init__(self) -> None:
        self.port = free_port()
        # Not under pytest's folder, which the user postgres may not enter.
        self._directory = Path(tempfile.mkdtemp(prefix="northbound-postgres-"))
        self._as: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(self._directory, "postgres", "postgres")
            self._as = ["runuser", "-u", "postgres", "--"]
        self._numbers = count(1)
        data = str(self._directory / "data")
        options = ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-N"]
        self._call(_program("initdb"), *options)
        with (self._directory / "data/postgresql.conf").open("a") as file:
            file.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\nfsync = off\n"
                "synchronous_commit = off\nfull_page_writes = off\nmax_connections = 60\nshared_buffers = 64MB\n"
            )

    def _call(self, *command: str) -> None:
        done = subprocess.run([*self._as, *command], capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr

    def _control(self, verb: str, *more: str) -> None:
        log = str(self._directory / "log")
        data = str(self._directory / "data")
        # -l, or pg_ctl's child would keep the pipes of this process open.
        command = [*self._as, _program("pg_ctl"), "-D", data, "-l", log, "-w", "-s", verb, *more]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, cwd="/")
        assert done.returncode == 0, (self._directory / "log").read_text()

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(self.url(database), autocommit=True, **options)

    def create(self, script: str) -> str:
        """Make a database of its own with what ``script`` makes in it; returns its name."""
        name = f"test_{next(self._numbers)}"
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with self.connect(name) as connection:
            connection.execute(script)
        return name

    def drop(self, name: str) -> None:
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def secure(self, certificate: Path, key: Path, password: str) -> None:
        """Take connections over TLS with the password alone, from now on."""
        with self.connect() as connection:
            connection.execute(sql.SQL("ALTER USER postgres PASSWORD {}").format(sql.Literal(password)))
        data = self._directory / "data"
        for source, name in ((certificate, "server.crt"), (key, "server.key")):
            (data / name).write_bytes(source.read_bytes())
            (data / name).chmod(0o600)
            if self._as:
                shutil.chown(data / name, "postgres", "postgres")
        with (data / "postgresql.conf").open("a") as file:
            file.write("ssl = on\n")
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        self._control("restart", "-m", "fast")  # a crash would forget the password: nothing here is synced

    def stand_by(self) -> None:
        """Be a replica from now on, which is in recovery for ever."""
        signal = self._directory / "data/standby.signal"
        signal.touch()
        if self._as:
            shutil.chown(signal, "postgres", "postgres")
        self._control("restart", "-m", "fast")

    def start(self) -> Self:
        self._control("start")
        return self

    def stop(self) -> None:
        """End it at once, as a crash would."""
        self._control("stop", "-m", "immediate")

    def restart(self) -> None:
        self._control("restart", "-m", "immediate")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)
