"""What a destination accepts, as data: declared by a connector, narrowed by what the broker says on connect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, get_args

import msgspec
from msgspec import Struct

#: How a destination keeps the last value of a topic: as MQTT does, as a property beside the message, or not at all.
Retain = Literal["native", "property", "none"]
#: What counts towards ``max_payload_bytes``.
Counted = Literal["payload", "payload+topic", "payload+properties", "payload+topic+properties"]

_LAXEST_FIRST: Final[Mapping[str, tuple[str, ...]]] = {"retain": get_args(Retain), "payload_counts": get_args(Counted)}


class Limits(Struct, frozen=True, kw_only=True):
    """The bounds of one destination; ``None`` means that none is known.

    Sizes are bytes, rates are per second and connection; ``connections`` is how many there are (lanes).
    ``batch_messages`` and ``batch_bytes`` bound one call of ``send``; ``batches_in_flight`` is how many calls may be
    under way at once (1: each waits for the one before). ``max_properties`` and the two after it bound what travels
    beside a payload. ``metering_bytes`` is the unit in which the provider charges.
    """

    max_topic_levels: int | None = None
    max_topic_bytes: int = 65_535
    reserved_prefixes: tuple[str, ...] = ("$",)
    max_payload_bytes: int | None = None
    payload_counts: Counted = "payload"
    max_properties: int | None = None
    max_property_name_bytes: int | None = None
    max_property_value_bytes: int | None = None
    max_qos: int = 1
    retain: Retain = "native"
    messages_per_second: float | None = None
    bytes_per_second: float | None = None
    connections: int = 1
    max_in_flight: int | None = None
    batch_messages: int = 500
    batch_bytes: int = 1_048_576
    batches_in_flight: int = 1
    keep_alive: tuple[int, int] = (0, 65_535)
    metering_bytes: int | None = None

    def narrowed(self, **stricter: Any) -> Limits:
        """Return these limits with each named bound replaced where the new one is stricter.

        A number replaces a larger one or ``None``; ``retain`` moves only from ``native`` towards ``none`` and
        ``payload_counts`` only towards counting more; ranges are intersected and reserved prefixes added.
        """
        changes: dict[str, Any] = {}
        for name, new in stricter.items():
            old = getattr(self, name)
            if new is None:
                continue
            if name in _LAXEST_FIRST:
                changes[name] = max(old, new, key=_LAXEST_FIRST[name].index)
            elif name == "keep_alive":
                changes[name] = (max(old[0], new[0]), min(old[1], new[1]))
            elif name == "reserved_prefixes":
                changes[name] = tuple(dict.fromkeys((*old, *new)))
            else:
                changes[name] = new if old is None else min(old, new)
        return msgspec.structs.replace(self, **changes)
