"""The blocking side: files read by position, streams read as they come. Called on the source's own thread only."""

from __future__ import annotations

import os
import select
import stat
from enum import Enum, auto
from pathlib import Path

from northbound import NorthboundError
from northbound_jsonl.checkpoint import Checkpoint, fingerprint
from northbound_jsonl.lines import Place

BLOCK = 256 * 1024


class Change(Enum):
    """What became of a file that had been read to its end."""

    NOTHING = auto()
    GROWN = auto()
    REWRITTEN = auto()  # truncated, and perhaps written again
    MOVED = auto()  # another file stands at its path, still empty
    REPLACED = auto()  # another file stands at its path, with content


class RegularFile:
    """One open file, which stays the same one when its path is given to another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(self._fd)
        self.device, self.inode = status.st_dev, status.st_ino

    def close(self) -> None:
        """Close it; twice does no harm."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def read(self, position: int) -> bytes:
        """Return the next block; empty at the end."""
        return os.pread(self._fd, BLOCK, position)

    def place_of(self, checkpoint: Checkpoint) -> Place | None:
        """Return the checkpoint's place in this file; ``None`` where other bytes stand before it."""
        window = os.pread(self._fd, checkpoint.window, checkpoint.offset - checkpoint.window)
        if len(window) != checkpoint.window or fingerprint(window) != checkpoint.fingerprint:
            return None
        return Place(checkpoint.offset, checkpoint.line, window)

    def look(self, position: int, recent: bytes) -> Change:
        """Say what became of the file since it was read up to ``position``, whose last bytes were ``recent``."""
        try:
            # Before the size, so that a file found replaced and not grown has been read to its end.
            at_path = self.path.stat()
        except FileNotFoundError:
            at_path = None
        size = os.fstat(self._fd).st_size
        if size < position:
            return Change.REWRITTEN
        if size > position:
            unchanged = os.pread(self._fd, len(recent), position - len(recent)) == recent
            return Change.GROWN if unchanged else Change.REWRITTEN
        if at_path is None or (at_path.st_dev, at_path.st_ino) == (self.device, self.inode):
            return Change.NOTHING
        return Change.REPLACED if at_path.st_size else Change.MOVED


def is_regular(path: Path) -> bool:
    """Return whether ``path`` is a regular file; raises where nothing can be read there."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from None
    if stat.S_ISDIR(mode):
        raise NorthboundError(f"{path} is a folder: name the file itself")
    return stat.S_ISREG(mode)


def open_file(path: Path, checkpoint: Checkpoint | None, *, follow: bool) -> tuple[RegularFile, Place]:
    """Return the file to go on with and the place in it.

    A followed file that was rotated away while nobody read it is found by its number beside its old path.
    """
    try:
        file = RegularFile(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from None
    if checkpoint is None:
        return file, Place()
    place = file.place_of(checkpoint)
    if place is not None and file.inode == checkpoint.inode:
        return file, place
    if follow and (rotated := _rotated(path, checkpoint)) is not None:
        file.close()
        return rotated
    return file, place or Place()


def _rotated(path: Path, checkpoint: Checkpoint) -> tuple[RegularFile, Place] | None:
    for sibling in sorted(path.parent.glob("*")):
        try:
            if not sibling.name.startswith(path.name) or sibling.lstat().st_ino != checkpoint.inode:
                continue
            file = RegularFile(sibling)
        except OSError:
            continue
        file.path = path  # what stands there is its successor
        place = file.place_of(checkpoint)
        if place is not None:
            return file, place
        file.close()
    return None


class Stream:
    """Standard input, a named pipe or a terminal: read until its writers close it.

    ``stop`` wakes a read that waits, from any thread, and makes it answer as at the end.
    """

    def __init__(self, fd: int, *, owned: bool) -> None:
        self._fd = fd
        self._owned = owned
        self._ended = False
        self._stopped, self._stop = os.pipe()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._stopped, select.POLLIN)

    @classmethod
    def open(cls, path: Path, *, follow: bool) -> Stream:
        """Open a named pipe or a device without waiting for a writer; followed, it outlives its writers."""
        # A pipe that is open for writing too never ends (Linux, fifo(7)).
        access = os.O_RDWR if follow and path.is_fifo() else os.O_RDONLY
        try:
            return cls(os.open(path, access | os.O_NONBLOCK | os.O_CLOEXEC), owned=True)
        except OSError as error:
            raise _unreadable(path, error) from None

    def read(self) -> bytes:
        """Wait for the next bytes and return what is there, up to a block; empty at the end."""
        parts: list[bytes] = []
        size = 0
        timeout: int | None = None
        while not self._ended and size < BLOCK:
            ready = dict(self._poll.poll(timeout))
            if self._stopped in ready:
                self._ended = True
            elif self._fd not in ready:
                break
            else:
                try:
                    data = os.read(self._fd, BLOCK - size)
                except BlockingIOError:
                    continue
                self._ended = not data
                parts.append(data)
                size += len(data)
                timeout = 0
        return b"".join(parts)

    def stop(self) -> None:
        """Wake a read that waits."""
        os.write(self._stop, b"\0")

    def close(self) -> None:
        """Close what is its own."""
        for fd in (self._stopped, self._stop, *([self._fd] if self._owned else [])):
            os.close(fd)


def _unreadable(path: Path, error: OSError) -> NorthboundError:
    return NorthboundError(f"{path} cannot be read: {error.strerror}; check the path and its permissions")
