"""Where each connector stands, up to the moment: a small file beside the store, mapped into memory.

Why beside the database. A settlement reaches the database with the next transaction, some milliseconds later; at
40,000 messages a second that is hundreds, which a process that is killed would deliver again. A write into mapped
memory takes a microsecond and survives the process (not the power, after which the database is right as well, only
older). A bookmark is a hint: it is used where it is whole, belongs to this store and connector, is ahead of the
database and not ahead of the log. One is not written while a dead letter behind it is on its way to the database.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from northbound.status import Counters

#: Connectors with a bookmark; any beyond that do without.
SLOTS: Final = 64
_HALF: Final = 512  # two halves a slot, written in turn: one is whole whenever the process dies
_HEAD: Final = struct.Struct("<IHQ")  # checksum of the rest, length of the content, generation


class Bookmark(Struct, array_like=True):
    """Where a connector stands; ``counters`` are totals."""

    store: str
    connector: str
    cursor: int
    counters: Counters


class Bookmarks:
    """The bookmarks of one store. Where the file cannot be had, there are none, and nothing else is different."""

    def __init__(self, path: Path, store: str) -> None:
        self._store = store
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Bookmark).decode
        self._slots: dict[str, int] = {}
        self._generations: list[int] = [0] * SLOTS
        self._map: mmap.mmap | None = None
        size = SLOTS * 2 * _HALF
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(descriptor, size)
                os.posix_fallocate(descriptor, 0, size)  # a hole would kill us when the disk is full
                self._map = mmap.mmap(descriptor, size)
            finally:
                os.close(descriptor)

    def take(self, connector: str) -> Bookmark | None:
        """Give ``connector`` a slot and return the bookmark found there."""
        if self._map is None:
            return None
        free: int | None = None
        for slot in range(SLOTS):
            found = self._read(slot)
            if found is None:
                if free is None and slot not in self._slots.values():
                    free = slot
            elif found.connector == connector:
                self._slots[connector] = slot
                return found
        if free is not None:
            self._slots[connector] = free
        return None

    def write(self, connector: str, cursor: int, counters: Counters) -> None:
        """Note where ``connector`` stands."""
        slot = self._slots.get(connector)
        if slot is not None and self._map is not None:
            self._put(slot, self._encode(Bookmark(self._store, connector, cursor, counters)))

    def erase(self, connector: str) -> None:
        """Forget what was noted of ``connector``, which keeps its slot."""
        slot = self._slots.get(connector)
        if slot is not None and self._map is not None:
            self._map[slot * 2 * _HALF : (slot + 1) * 2 * _HALF] = bytes(2 * _HALF)

    def keep(self, connectors: Collection[str]) -> None:
        """Forget every connector that is not among ``connectors``."""
        if self._map is None:
            return
        for slot in range(SLOTS):
            found = self._read(slot)
            if found is None or found.connector not in connectors:
                self._map[slot * 2 * _HALF : (slot + 1) * 2 * _HALF] = bytes(2 * _HALF)
                self._generations[slot] = 0
        self._slots = {connector: slot for connector, slot in self._slots.items() if connector in connectors}

    def close(self) -> None:
        """Let go of the file."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def _put(self, slot: int, content: bytes) -> None:
        if self._map is None or len(content) > _HALF - _HEAD.size:
            return
        generation = self._generations[slot] = self._generations[slot] + 1
        rest = _HEAD.pack(0, len(content), generation)[4:] + content
        begin = (slot * 2 + generation % 2) * _HALF
        self._map[begin : begin + 4 + len(rest)] = zlib.crc32(rest).to_bytes(4, "little") + rest

    def _read(self, slot: int) -> Bookmark | None:
        newest: Bookmark | None = None
        last = -1
        for half in (0, 1):
            assert self._map is not None  # noqa: S101 - asked by the caller
            begin = (slot * 2 + half) * _HALF
            checksum, length, generation = _HEAD.unpack_from(self._map, begin)
            content = self._map[begin + 4 : begin + _HEAD.size + length]
            if not length or length > _HALF - _HEAD.size or zlib.crc32(content) != checksum:
                continue
            try:
                bookmark = self._decode(content[_HEAD.size - 4 :])
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if bookmark.store == self._store and generation > last:
                last, newest = generation, bookmark
        self._generations[slot] = max(last, 0)
        return newest
