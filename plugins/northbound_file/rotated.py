"""The blocking side: a file of whole lines that is rotated by size.

What it holds is always whole lines: one cut short by a crash is repaired on open, one cut short by a full disk at once.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from northbound import NotConnected, Unavailable

#: With this every file of ours begins; another's is left alone.
SIGNATURE = b'{"topic":'

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BLOCK = 65_536


class RotatedFile:
    """Appends lines; every method may be called from any thread and raises only a ``DeliveryError``."""

    def __init__(self, path: Path, *, max_bytes: int, keep: int, fsync: bool, mode: int) -> None:
        self.path = path
        self.max_bytes = max_bytes
        self.keep = keep
        self.fsync = fsync
        self.mode = mode
        self._fd = -1
        self._size = 0
        # A send that was cancelled goes on in its thread; what comes next waits for it.
        self._lock = Lock()

    def open(self) -> None:
        """Open the file, make it if there is none, repair its last line."""
        with self._lock:
            self._close()
            try:
                self._open()
            except OSError as error:
                raise self._explained(error) from None

    def append(self, lines: Sequence[bytes]) -> None:
        """Append ``lines``, all on disk on return; on an error any number of the first may be in the file."""
        with self._lock:
            if self._fd < 0:
                raise NotConnected(f"{self.path} is not open")
            try:
                if self._moved():
                    self._close()
                    self._open()
                start = 0
                while start < len(lines):
                    end = self._fitting(lines, start)
                    if end == start:
                        self._rotate()
                    else:
                        self._write(b"".join(lines[start:end]))
                        start = end
                self._sync()
            except OSError as error:
                raise self._explained(error) from None

    def close(self) -> None:
        """Close the file; twice does no harm."""
        with self._lock:
            self._close()

    def _open(self) -> None:
        try:
            self._take_hold()
        except BaseException:  # raised again: nothing stays open or locked
            self._close()
            raise

    def _take_hold(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            self._fd = os.open(self.path, flags)
        except FileNotFoundError:
            self._fd = os.open(self.path, flags | os.O_CREAT | os.O_EXCL, self.mode)
            os.fchmod(self._fd, self.mode)
            self._sync_folder()
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            raise NotConnected(f"{self.path} is not a regular file: name another path")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotConnected(
                f"{self.path} is being written by another connector or process: give each a path of its own"
            ) from None
        self._size = status.st_size
        self._repair()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _moved(self) -> bool:
        """Return whether the open file is no longer the one at the path (rotated or deleted by someone else)."""
        own = os.fstat(self._fd)
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return True
        return (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino)

    def _fitting(self, lines: Sequence[bytes], start: int) -> int:
        """Return up to which of ``lines`` the file has room; an empty file has room for one of any size."""
        size, end = self._size, start
        while end < len(lines) and (size + len(lines[end]) <= self.max_bytes or not size):
            size += len(lines[end])
            end += 1
        return end

    def _write(self, data: bytes) -> None:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            self._cut(self._size)
            raise
        self._size += len(data)

    def _rotate(self) -> None:
        self._sync()
        self._close()
        if self.keep:
            names = [self.path, *(Path(f"{self.path}.{number}") for number in range(1, self.keep + 1))]
            for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
                if newer.exists():
                    newer.replace(older)
        else:
            self.path.unlink(missing_ok=True)
        self._sync_folder()
        self._open()

    def _sync(self) -> None:
        if not self.fsync:
            return
        try:
            os.fdatasync(self._fd)
        except OSError:
            # What the system could not write it may have dropped; only reading the file anew tells what is there.
            self._close()
            raise

    def _sync_folder(self) -> None:
        if not self.fsync:
            return
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _repair(self) -> None:
        if not self._size:
            return
        start = os.pread(self._fd, len(SIGNATURE), 0)
        if not SIGNATURE.startswith(start):
            raise NotConnected(f"{self.path} was not written by this connector: name another path, or move it away")
        if os.pread(self._fd, 1, self._size - 1) == b"\n":
            return
        end = self._last_line()
        if _is_whole(os.pread(self._fd, self._size - end, end)):
            self._write(b"\n")
        else:
            self._cut(end)

    def _last_line(self) -> int:
        """Return where the last line begins."""
        end = self._size
        while end:
            start = max(0, end - _BLOCK)
            found = os.pread(self._fd, end - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        return 0

    def _cut(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
            self._size = size
        except OSError:
            self._close()
            raise

    def _explained(self, error: OSError) -> Unavailable:
        if error.errno in _FULL:
            remedy = "make room, or lower max_bytes and keep"
            if self._fd >= 0:
                return Unavailable(f"{self.path} cannot grow: {error.strerror}; {remedy}")
            return NotConnected(f"{self.path} cannot grow: {error.strerror}; {remedy}")
        self._close()
        if error.errno == errno.ENOENT:
            return NotConnected(f"the folder {self.path.parent} does not exist: create it")
        return NotConnected(f"{self.path} cannot be written: {error.strerror}; check the path and its permissions")


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
