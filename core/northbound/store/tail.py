"""The newest committed messages, kept in memory so that a connector that keeps up never reads from the disk. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from northbound.message import Message


class Tail:
    """A bounded run of messages, consecutive in sequence; the oldest go first when it grows too large."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._firsts: list[int] = []
        self._parts: list[tuple[Sequence[Message], int]] = []
        self._bytes = 0

    def extend(self, first: int, messages: Sequence[Message], size: int) -> None:
        """Add ``messages``, the first of which has the sequence ``first``, ``size`` bytes in all."""
        self._firsts.append(first)
        self._parts.append((messages, size))
        self._bytes += size
        drop = 0
        while self._bytes > self._max_bytes and drop < len(self._parts):
            self._bytes -= self._parts[drop][1]
            drop += 1
        if drop:
            del self._firsts[:drop]
            del self._parts[:drop]

    def read(self, after: int, limit: int, limit_bytes: int) -> Sequence[Message] | None:
        """Return the messages behind ``after`` in one piece, at least one; ``None`` where they are not all here."""
        position = bisect_right(self._firsts, after + 1) - 1
        if position < 0:
            return None
        messages, size = self._parts[position]
        offset = after + 1 - self._firsts[position]
        if offset >= len(messages):
            return None
        part: Sequence[Message] = messages[offset : offset + limit] if offset or len(messages) > limit else messages
        while len(part) < limit and size < limit_bytes and position + 1 < len(self._parts):
            position += 1
            more, more_size = self._parts[position]
            if size + more_size > limit_bytes:
                break
            part = [*part, *more[: limit - len(part)]]
            size += more_size
        return part if size <= limit_bytes else _within(part, limit_bytes)


def _within(part: Sequence[Message], limit_bytes: int) -> Sequence[Message]:
    used = 0
    for count, message in enumerate(part):
        used += message.size
        if used > limit_bytes and count:
            return part[:count]
    return part
