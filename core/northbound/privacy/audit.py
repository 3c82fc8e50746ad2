"""The audit log: which rule did what, to which topic, how often; never to what. Append-only JSON Lines, rotated."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

import msgspec

from northbound.privacy.policy import Act

log = logging.getLogger(__name__)

#: Lines that wait while the file cannot be written; of more the oldest are lost, and counted.
_MOST_WAITING: Final = 100_000


class AuditLog:
    """Appends to one file. ``error`` says why the last lines could not be written; they are kept for the next try."""

    def __init__(self, path: Path, *, max_bytes: int, files: int) -> None:
        self.path = path
        self.error: str | None = None
        self._handler = _File(path, max_bytes, files)
        self._waiting: list[str] = []
        self._lost = 0

    def write(self, now: int, acts: Sequence[tuple[str | None, Act]]) -> None:
        """Append a line for each of ``acts``, the connector (``None``: before the store) and what a rule did there.

        ``now`` (ms since 1970) is the end of the time they were counted in. Never raises: what cannot be written is
        said in the log of the service, and kept up to a bound.
        """
        self._waiting += [_line(now, connector, act) for connector, act in acts]
        if not self._waiting:
            return
        try:
            if self._lost:
                self._handler.line(_encode({"time": now, "lost_lines": self._lost}))
                self._lost = 0
            while self._waiting:
                self._handler.line(self._waiting[0])
                del self._waiting[0]
        except OSError as error:
            self._failed(error)
        else:
            self.error = None

    def close(self) -> None:
        """Close the file."""
        self._handler.close()

    def _failed(self, error: OSError) -> None:
        words = f"the audit log {self.path} cannot be written: {error.strerror}"
        if self.error is None:
            log.error("%s; lines are kept until it can", words)
        self.error = words
        excess = len(self._waiting) - _MOST_WAITING
        if excess > 0:
            del self._waiting[:excess]
            self._lost += excess


class _File(RotatingFileHandler):
    """The standard library's rotation; what goes wrong is raised, and only the owner may read the files."""

    def __init__(self, path: Path, max_bytes: int, files: int) -> None:
        super().__init__(path, maxBytes=max_bytes, backupCount=files, delay=True)
        self._torn = False

    def _open(self) -> Any:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_CLOEXEC, 0o600)

        stream = open(self.baseFilename, "a+b", buffering=0, opener=opener)  # noqa: SIM115 - it is kept open
        if stream.tell():
            stream.seek(-1, os.SEEK_END)
            self._torn = stream.read(1) != b"\n"
        return stream

    def line(self, text: str) -> None:
        """Append one line, all of it or none that counts."""
        if self.shouldRollover(logging.LogRecord("", logging.INFO, "", 0, text, None, None)):
            self.doRollover()
        stream: Any = self.stream
        if stream is None:
            stream = self.stream = self._open()
        line = f"{text}\n".encode()
        if stream.write(b"\n" + line if self._torn else line) < len(line):
            self._torn = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False


def _line(now: int, connector: str | None, act: Act) -> str:
    row = {
        "time": now,
        "rule": act.rule,
        "action": act.action,
        "kind": act.kind,
        "topic": act.topic,
        "count": act.count,
    }
    if connector is not None:
        row["connector"] = connector
    return _encode(row)


def _encode(row: dict[str, Any]) -> str:
    return msgspec.json.encode(row).decode()
