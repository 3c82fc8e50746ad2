"""How two topic filters lie to each other: whether one covers the other, whether they overlap. Pure.

Over all topics there can be, a level being any text, the empty one included. A topic that begins with ``$`` is not
matched by a wildcard in the first level (MQTT 5.0, 4.7.2), and ``a/#`` matches ``a`` too (4.7.1.2).
"""

from __future__ import annotations


def covers(wide: str, narrow: str) -> bool:
    """Whether every topic that matches ``narrow`` matches ``wide``."""
    outer, inner = _levels(wide), _levels(narrow)
    for position, level in enumerate(inner):
        ours = outer[position] if position < len(outer) else None
        hidden = position == 0 and level.startswith("$")
        if ours == "#":
            return not hidden
        if ours is None or level == "#":
            return False
        if ours == "+":
            if hidden:
                return False
        elif ours != level:
            return False
    return len(outer) == len(inner) or outer[len(inner) :] == ["#"]


def overlap(one: str, other: str) -> bool:
    """Whether some topic matches both."""
    left, right = _levels(one), _levels(other)
    for position in range(max(len(left), len(right))):
        a = left[position] if position < len(left) else None
        b = right[position] if position < len(right) else None
        if "#" in (a, b):
            rest = b if a == "#" else a
            return not (position == 0 and rest is not None and rest.startswith("$"))
        if a is None or b is None:
            return False
        if "+" in (a, b):
            if position == 0 and (a.startswith("$") or b.startswith("$")):
                return False
        elif a != b:
            return False
    return True


def _levels(topic_filter: str) -> list[str]:
    levels = topic_filter.split("/")
    if levels in (["#"], ["", "#"]):
        levels.insert(-1, "+")  # they say the same: no topic has no level, and none is empty [MQTT-4.7.3-1]
    return levels


def prefix_of(topic_filter: str) -> str | None:
    """Return the text that all topics matching ``topic_filter``, and no others, begin with; ``None`` for no such text.

    ``a/+/#`` matches what begins with ``a/``, and nothing else. (``a/#`` matches ``a`` as well.)
    """
    if not topic_filter.endswith("/+/#"):
        return None
    begin = topic_filter[: -len("+/#")]
    return begin if "+" not in begin else None
