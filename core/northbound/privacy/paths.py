"""Places within a value, as JSONPath: ``$.organiser.email``, ``$..host``, ``$.attendees[*].name``, ``$['a b']``.

The part of RFC 9535 that names places: child, wildcard, index and descendant segments; no filters and no slices. A
place stands for itself and everything below it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_SEGMENT: Final = re.compile(
    r"(?P<deep>\.\.)?(?:(?P<dot>\.)?(?P<name>\*|[^\W\d][\w-]*)|\[(?:(?P<index>\d{1,9})|(?P<any>\*)"
    r"|'(?P<single>(?:[^'\\]|\\.)*)'|\"(?P<double>(?:[^\"\\]|\\.)*)\")\])"
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_LONGEST: Final = 512


class _Segment(NamedTuple):
    deep: bool
    step: str | int | None  # a key, an index, None for any

    def takes(self, step: str | int) -> bool:
        return self.step is None or self.step == step


def parse_path(text: str) -> tuple[_Segment, ...]:
    """Return the segments of a path; raises ``ValueError`` in words."""
    how = "write a path such as '$.organiser.email', '$..host' or '$.attendees[*].name'"
    if not text.startswith("$") or len(text) > _LONGEST:
        raise ValueError(how)
    segments: list[_Segment] = []
    at = 1
    while at < len(text):
        match = _SEGMENT.match(text, at)
        if match is None or (match["name"] is not None and (match["dot"] is None) == (match["deep"] is None)):
            raise ValueError(f"is no path from character {at + 1} on: {how}")
        quoted = match["single"] if match["single"] is not None else match["double"]
        step: str | int | None = None
        if quoted is not None:
            step = _ESCAPED.sub(r"\1", quoted)
        elif match["index"] is not None:
            step = int(match["index"])
        elif match["name"] not in (None, "*"):
            step = match["name"]
        segments.append(_Segment(match["deep"] is not None, step))
        at = match.end()
    return tuple(segments)


class Cursor:
    """Where a walk through a value stands among some paths; ``selected`` says whether it is at or below one of them."""

    __slots__ = ("_open", "selected")

    def __init__(self, positions: frozenset[tuple[tuple[_Segment, ...], int]], *, selected: bool = False) -> None:
        self.selected = selected or any(at == len(path) for path, at in positions)
        self._open = positions

    @classmethod
    def start(cls, paths: tuple[tuple[_Segment, ...], ...]) -> Cursor:
        """Return the cursor at the top of a value."""
        return cls(frozenset((path, 0) for path in paths))

    def into(self, step: str | int) -> Cursor:
        """Return the cursor one key or index further down."""
        if self.selected or not self._open:
            return self
        following: set[tuple[tuple[_Segment, ...], int]] = set()
        for path, at in self._open:
            segment = path[at]
            if segment.takes(step):
                following.add((path, at + 1))
            if segment.deep:
                following.add((path, at))
        return Cursor(frozenset(following))
