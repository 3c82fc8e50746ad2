"""Two trees of retained messages beside each other: which topics one lacks, and which say something else. Pure.

Made for running beside PlaceOS's own service. So when a value was taken is no difference, nor is whether its JSON
stands there as it is or as a string, nor a null beside a topic that is clear: PlaceOS leaves one where nothing is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

Kind = Literal["missing", "extra", "differing"]

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="deterministic").encode


class Difference(Struct, frozen=True):
    """One topic: ``missing`` is only on the left, ``extra`` only on the right. A side that has nothing is ``None``."""

    kind: Kind
    topic: str
    left: bytes | None
    right: bytes | None


class Comparison(Struct):
    """What became of the topics of both sides; ``nulls`` counts a null beside nothing."""

    differences: dict[str, Difference]
    same: int = 0
    nulls: int = 0

    def lasting(self, later: Comparison) -> Comparison:
        """Return ``later`` with those of its differences that were the same before: what is not just under way."""
        kept = {topic: found for topic, found in later.differences.items() if self.differences.get(topic) == found}
        return Comparison(kept, later.same, later.nulls)


def compare(left: Mapping[str, bytes], right: Mapping[str, bytes], *, strict: bool = False) -> Comparison:
    """Return how ``right`` differs from ``left``.

    ``strict``: bytes are compared as they are but for the time, and all of the metadata; else only its name.
    """
    found = Comparison({})
    for topic, one in left.items():
        other = right.get(topic)
        if other is None:
            if _is_null(one) and not strict:
                found.nulls += 1
            else:
                found.differences[topic] = Difference("missing", topic, one, None)
        elif _same(topic, one, other, strict=strict):
            found.same += 1
        else:
            found.differences[topic] = Difference("differing", topic, one, other)
    for topic, other in right.items():
        if topic not in left:
            if _is_null(other) and not strict:
                found.nulls += 1
            else:
                found.differences[topic] = Difference("extra", topic, None, other)
    return found


def _value(payload: bytes) -> Any:
    """Return what a payload says without when; raises ``ValueError`` where it is no JSON."""
    try:
        said = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("not JSON") from None
    return said["value"] if isinstance(said, dict) and said.keys() == {"time", "value"} else said


def _is_null(payload: bytes) -> bool:
    try:
        return _value(payload) is None
    except ValueError:
        return False


def _same(topic: str, one: bytes, other: bytes, *, strict: bool) -> bool:
    if one == other:
        return True
    try:
        values = _value(one), _value(other)
    except ValueError:
        return False
    if strict:
        return _equal(*values)
    if topic.split("/")[2:3] == ["metadata"]:
        return _equal(*map(_name, values))
    return _equal(*values) or _equal(*map(_written, values))


def _equal(one: Any, other: Any) -> bool:
    """Compare as JSON: to Python true is 1, inside a list and an object, too."""
    return _encode(one) == _encode(other)


def _name(entity: Any) -> Any:
    return entity.get("name") if isinstance(entity, dict) else entity


def _written(value: Any) -> Any:
    """Return what stands in a string of JSON; anything else as it is."""
    if isinstance(value, str):
        try:
            return _decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
    return value
