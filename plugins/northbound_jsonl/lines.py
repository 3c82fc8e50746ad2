"""Blocks of bytes to lines, with line numbers and places to resume at. Pure.

A line is held only until it is longer than allowed; the rest of it is dropped as it comes, so that memory stays
bounded by ``max_line`` whatever the input holds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

#: So many bytes before a place tell whether a file still is the one that was read.
WINDOW: Final = 4096
_BOM: Final = b"\xef\xbb\xbf"


class Place(NamedTuple):
    """A place between two lines: bytes and newlines before it, and the last of those bytes (at most ``WINDOW``)."""

    offset: int = 0
    line: int = 0
    window: bytes = b""

    def after(self, raw: bytes) -> Place:
        """Return the place behind ``raw``, which follows this one."""
        window = raw[-WINDOW:] if len(raw) >= WINDOW else (self.window + raw)[-WINDOW:]
        return Place(self.offset + len(raw), self.line + raw.count(b"\n"), window)


class Block(NamedTuple):
    """Whole lines, numbered from ``first``, and those refused for their length as (line number, reason).

    A refused line stands empty among ``lines``, so that positions still count. ``raw`` is what the lines were cut
    from, from ``start`` to ``end``.
    """

    first: int
    lines: list[bytes]
    refused: list[tuple[int, str]]
    raw: bytes
    start: Place
    end: Place

    def place_before(self, line: int) -> Place:
        """Return the place before line number ``line`` of this block."""
        kept = self.raw.split(b"\n")[: line - self.first]
        return self.start.after(b"\n".join([*kept, b""]))


class LineSplitter:
    """Cuts a stream into lines. ``position`` is how far it was fed, ``place`` the end of the last whole line."""

    def __init__(self, max_line: int, place: Place | None = None) -> None:
        self.max_line = max_line
        self.place = place or Place()
        self.position = self.place.offset
        #: The last bytes fed, whole lines or not.
        self.recent = self.place.window
        self._pending = bytearray()
        self._dropping = False
        self._too_long = f"longer than {max_line} bytes (max_line)"

    def feed(self, data: bytes) -> Block:
        """Return the lines that ``data`` completes."""
        before = self.recent
        self.recent = data[-WINDOW:] if len(data) >= WINDOW else (before + data)[-WINDOW:]
        self.position += len(data)
        cut = data.rfind(b"\n") + 1
        first = self.place.line + 1
        if not cut:
            return Block(first, [], self._hold(data, first), b"", self.place, self.place)
        start, head = self.place, data[:cut]
        raw = bytes(self._pending) + head if self._pending else head
        lines = raw.split(b"\n")
        lines.pop()
        refused: list[tuple[int, str]] = []
        if self._dropping:
            lines[0] = b""
            self._dropping = False
        if len(raw) > self.max_line:
            refused = [
                (first + position, self._too_long) for position, line in enumerate(lines) if len(line) > self.max_line
            ]
            for number, _ in refused:
                lines[number - first] = b""
        if first == 1:
            lines[0] = lines[0].removeprefix(_BOM)
        window = head[-WINDOW:] if cut >= WINDOW else (before + head)[-WINDOW:]
        self.place = Place(self.position - len(data) + cut, start.line + len(lines), window)
        self._pending.clear()
        refused += self._hold(data[cut:], self.place.line + 1)
        return Block(first, lines, refused, raw, start, self.place)

    def finish(self) -> Block:
        """Return the last line where it has no newline."""
        start, first, raw = self.place, self.place.line + 1, bytes(self._pending)
        self._pending.clear()
        self._dropping = False
        self.place = Place(self.position, start.line, self.recent)
        line = raw.removeprefix(_BOM) if first == 1 else raw
        return Block(first, [line] if line else [], [], raw, start, self.place)

    def _hold(self, data: bytes, line: int) -> list[tuple[int, str]]:
        if self._dropping:
            return []
        self._pending += data
        if len(self._pending) <= self.max_line:
            return []
        self._pending = bytearray()
        self._dropping = True
        return [(line, self._too_long)]
