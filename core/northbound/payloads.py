"""Values to payload bytes, in the two profiles and every mixture of them. Pure.

The default profile writes ``{"time":<ms>,"value":"<the value's JSON as a string>"}``, PlaceOS's own service
``{"time":<s>,"value":<the value's JSON>}``; both compact, keys in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from northbound.errors import EventRefused
from northbound.events import LATEST_TIME
from northbound.message import Kind

TimeUnit = Literal["ms", "s"]
ValueForm = Literal["string", "json"]
MetadataForm = Literal["entity", "envelope"]

_PLAIN: Final = frozenset({type(None), bool, int, str})
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _Envelope(Struct, forbid_unknown_fields=True):
    time: Annotated[int, Meta(ge=0, le=LATEST_TIME)]
    value: Any


class _StringEnvelope(_Envelope):
    value: str


_read_any = msgspec.json.Decoder(_Envelope).decode
_read_string = msgspec.json.Decoder(_StringEnvelope).decode


class PayloadFormat(Struct, frozen=True):
    """How payloads are written; the defaults are the ``documented`` profile."""

    time: TimeUnit = "ms"
    value: ValueForm = "string"
    metadata: MetadataForm = "entity"

    def state_writer(self) -> Callable[[bytes, int], bytes]:
        """Return the function (the value's JSON, time in ms) → payload."""
        seconds = self.time == "s"
        as_string = self.value == "string"

        def write(text: bytes, time: int) -> bytes:
            if as_string:
                text = _encode(text.decode())
            return b'{"time":%d,"value":%b}' % (time // 1000 if seconds else time, text)

        return write

    def metadata_writer(self) -> Callable[[bytes, int], bytes]:
        """Return the function (the entity's JSON, time in ms) → payload."""
        if self.metadata == "entity":
            return lambda text, time: text  # noqa: ARG005 - one signature for both forms
        seconds = self.time == "s"
        return lambda text, time: b'{"time":%d,"value":%b}' % (time // 1000 if seconds else time, text)

    def in_order(self, entity: Any) -> dict[str, Any]:
        """Return an entity with its members in the order they are written: ``name`` first where it stands alone."""
        if not isinstance(entity, dict):
            raise EventRefused("the metadata is not an object")
        if self.metadata == "entity" and "name" in entity and next(iter(entity)) != "name":
            return {"name": entity["name"], **entity}
        return entity

    def timeless(self, kind: Kind, payload: bytes) -> bytes:
        """Return what two payloads have in common that say the same at different times."""
        if not payload or (kind == "metadata" and self.metadata == "entity"):
            return payload
        return payload.partition(b",")[2]  # behind {"time":…

    def read_state(self, payload: bytes) -> tuple[Any, bytes, int]:
        """Return the value that :meth:`state_writer` wrote, its JSON, and the time in ms.

        Raises ``ValueError`` for another's, and where there is more than that. What has not come from our writer may
        have whitespace or the same member twice: the JSON, written anew, holds of it what the value holds.
        """
        if self.value == "string":
            found = _read_string(payload)
            value = _decode(found.value)
            return value, _encode(value), self._ms(found.time)
        return self._read_json(payload)

    def read_metadata(self, payload: bytes) -> tuple[Any, bytes, int]:
        """Return the entity that :meth:`metadata_writer` wrote, its JSON, and the time in ms: 0 where there is none.

        As :meth:`read_state` does.
        """
        if self.metadata == "entity":
            entity = _decode(payload)
            return entity, _encode(entity), 0
        return self._read_json(payload)

    def _read_json(self, payload: bytes) -> tuple[Any, bytes, int]:
        found = _read_any(payload)
        return found.value, _encode(found.value), self._ms(found.time)

    def _ms(self, time: int) -> int:
        return time * 1000 if self.time == "s" else time


def to_json(value: Any) -> bytes:
    """Return ``value`` as compact JSON in UTF-8; raises :class:`EventRefused` where it is not a JSON value.

    JSON has null, booleans, numbers, strings, arrays (lists and tuples) and objects with string keys, and nothing
    else. The encoder would also take bytes, sets, dates and ``nan``, each silently turned into something other.
    """
    try:
        text = _encode(value)
    except RecursionError:
        raise EventRefused("the value is nested too deeply") from None
    except UnicodeEncodeError:
        raise EventRefused("the value holds a lone surrogate, which is not Unicode text") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise EventRefused(f"the value cannot be written as JSON: {str(error)[:100]}") from None
    if type(value) not in _PLAIN:
        _refuse_what_is_not_json(value)
    return text


def _refuse_what_is_not_json(value: Any) -> None:
    # A loop of its own over containers, so that depth costs no stack; the encoder has seen that there is no cycle.
    pending = [value]
    while pending:
        item = pending.pop()
        if type(item) in _PLAIN:
            continue
        if isinstance(item, float):
            if not isfinite(item):
                raise EventRefused(f"{item} is not a JSON number")
        elif isinstance(item, dict):
            for key in item:
                if not isinstance(key, str):
                    raise EventRefused(
                        f"an object has a key of type {type(key).__name__[:40]}: JSON knows strings only"
                    )
            pending.extend(item.values())
        elif isinstance(item, list | tuple):
            pending.extend(item)
        elif not isinstance(item, str | int):
            raise EventRefused(f"a value of type {type(item).__name__[:40]} is not JSON")
