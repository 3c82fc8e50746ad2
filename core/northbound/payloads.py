"""Values to payload bytes, in the two profiles and every mixture of them. Pure.

The default profile writes ``{"time":<ms>,"value":"<the value's JSON as a string>"}``, PlaceOS's own service
``{"time":<s>,"value":<the value's JSON>}``; both compact, keys in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from northbound.errors import EventRefused

TimeUnit = Literal["ms", "s"]
ValueForm = Literal["string", "json"]
MetadataForm = Literal["entity", "envelope"]

_encode = msgspec.json.Encoder().encode


class PayloadFormat(Struct, frozen=True):
    """How payloads are written; the defaults are the ``documented`` profile."""

    time: TimeUnit = "ms"
    value: ValueForm = "string"
    metadata: MetadataForm = "entity"

    def state_writer(self) -> Callable[[Any, int], bytes]:
        """Return the function (value, time in ms) → payload. It raises :class:`EventRefused`."""
        seconds = self.time == "s"
        as_string = self.value == "string"

        def write(value: Any, time: int) -> bytes:
            text = to_json(value)
            if as_string:
                text = _encode(text.decode())
            return b'{"time":%d,"value":%b}' % (time // 1000 if seconds else time, text)

        return write

    def metadata_writer(self) -> Callable[[Mapping[str, Any], int], bytes]:
        """Return the function (entity, time in ms) → payload; ``name`` comes first in the entity form."""
        seconds = self.time == "s"
        if self.metadata == "envelope":
            return lambda entity, time: b'{"time":%d,"value":%b}' % (time // 1000 if seconds else time, to_json(entity))

        def write(entity: Mapping[str, Any], time: int) -> bytes:  # noqa: ARG001 - one signature for both forms
            if "name" in entity and next(iter(entity)) != "name":
                entity = {"name": entity["name"], **entity}
            return to_json(entity)

        return write


def to_json(value: Any) -> bytes:
    """Return ``value`` as compact JSON in UTF-8; raises :class:`EventRefused` where it is not a JSON value."""
    try:
        return _encode(value)
    except RecursionError:
        raise EventRefused("the value is nested too deeply") from None
    except (TypeError, ValueError, UnicodeEncodeError, OverflowError) as error:
        raise EventRefused(f"the value cannot be written as JSON: {error}") from None
