"""A file of JSON Lines that is only ever appended to: rotated, readable by its owner alone, its lines whole."""

from __future__ import annotations

import errno
import logging
import os
from collections import deque
from collections.abc import Mapping, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Final

import msgspec

log = logging.getLogger(__name__)

#: Lines that wait while the file cannot be written; of more the oldest are lost, and counted.
MOST_WAITING: Final = 100_000


class Journal:
    """Appends to one file. ``error`` says why the last lines could not be written; they are kept for the next try.

    ``noun`` is what people call it: ``audit log``.
    """

    def __init__(self, path: Path, *, max_bytes: int, files: int, noun: str = "audit log") -> None:
        self.path = path
        self.error: str | None = None
        self._noun = noun
        self._handler = _File(path, max_bytes, files)
        self._waiting: deque[str] = deque()
        self._lost = 0

    def append(self, now: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append a line for each of ``rows``; ``now`` (ms since 1970) dates what has to be said of lost ones.

        Never raises: what cannot be written is said in the log of the service, and kept up to a bound.
        """
        self._waiting += map(_encode, rows)
        if not self._waiting:
            return
        try:
            if self._lost:
                self._handler.line(_encode({"time": now, "lost_lines": self._lost}))
                self._lost = 0
            while self._waiting:
                self._handler.line(self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            self._failed(error)
        else:
            self.error = None

    def close(self) -> None:
        """Close the file."""
        self._handler.close()

    def _failed(self, error: OSError) -> None:
        words = f"the {self._noun} {self.path} cannot be written: {error.strerror}"
        if self.error is None:
            log.error("%s; lines are kept until it can", words)
        self.error = words
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self._lost += 1


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


def _encode(row: Mapping[str, Any]) -> str:
    return msgspec.json.encode(row).decode()
