"""From a message to its attributes, and what Pub/Sub would refuse about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from zlib import crc32

from northbound import Outgoing

#: cloud.google.com/pubsub/quotas, "Resource limits"
MAX_ATTRIBUTES: Final = 100
MAX_NAME_BYTES: Final = 256
MAX_VALUE_BYTES: Final = 1024
#: Beside text and payload, on the wire: of a message, and of each of its attributes, at the longest (protobuf's tags
#: and lengths).
_PER_MESSAGE: Final = 24
_PER_ATTRIBUTE: Final = 9
#: The time, the ordering key, and what an idempotency key may grow by, with their framing.
_ADDED: Final = 64
_CACHED: Final = 20_000


class Place:
    """What all messages of one topic have in common.

    ``attributes`` are those that its ``properties`` become, ``size`` all bytes beside the payload, ``problem`` why
    Pub/Sub would refuse them. ``encoded`` is room for the attributes as protobuf: to encode them anew for each message
    took more than half of its time.
    """

    __slots__ = ("attributes", "encoded", "lane", "problem", "properties", "size")

    def __init__(
        self, properties: Mapping[str, str], attributes: Mapping[str, str], lane: int, size: int, problem: str | None
    ) -> None:
        self.properties = properties
        self.attributes = attributes
        self.lane = lane
        self.size = size
        self.problem = problem
        self.encoded = b""


class Attributes:
    """Makes attributes, and finds the lane of a topic: always the same, so that its order is kept over restarts."""

    def __init__(self, lanes: int, idempotency_attribute: str, chosen: Sequence[str] | None = None) -> None:
        self._lanes = lanes
        self._chosen = None if chosen is None else frozenset(("topic", "retain", *chosen))
        self._key = idempotency_attribute
        self._places: dict[str, Place] = {}

    def place(self, message: Outgoing) -> Place:
        """Return what all messages with this topic and these properties have in common."""
        place = self._places.get(message.source_topic)
        if place is None or place.properties is not message.properties:
            if len(self._places) >= _CACHED:
                self._places.clear()
            place = self._new_place(message)
            self._places[message.source_topic] = place
        return place

    def own(self, message: Outgoing) -> dict[str, str]:
        """Return the attributes that no other message has."""
        time = str(message.time)
        return {"time": time, self._key: message.key} if self._key else {"time": time}

    def of(self, message: Outgoing) -> dict[str, str]:
        """Return all attributes of a message."""
        return {**self.place(message).attributes, **self.own(message)}

    def _new_place(self, message: Outgoing) -> Place:
        properties, chosen = message.properties, self._chosen
        attributes = properties if chosen is None else {k: v for k, v in properties.items() if k in chosen}
        size = _PER_MESSAGE + _ADDED + len(self._key) + len(message.key)
        for name, value in attributes.items():
            size += len(name.encode()) + len(value.encode()) + _PER_ATTRIBUTE
        lane = crc32(message.source_topic.encode()) % self._lanes
        problem = _problem({**attributes, "time": "", **({self._key: message.key} if self._key else {})})
        return Place(properties, attributes, lane, size, problem)


def _problem(attributes: Mapping[str, str]) -> str | None:
    if len(attributes) > MAX_ATTRIBUTES:
        return f"{len(attributes)} attributes: Pub/Sub takes {MAX_ATTRIBUTES}"
    for name, value in attributes.items():
        name_bytes, value_bytes = len(name.encode()), len(value.encode())
        if not 0 < name_bytes <= MAX_NAME_BYTES:
            return f"the attribute {name[:40]!r} has a name of {name_bytes} bytes: Pub/Sub takes 1 to {MAX_NAME_BYTES}"
        if value_bytes > MAX_VALUE_BYTES:
            return f"the attribute {name!r} has {value_bytes} bytes: Pub/Sub takes {MAX_VALUE_BYTES}"
        if name.startswith("goog"):
            return f"the attribute {name!r} begins with 'goog', which Pub/Sub keeps for itself"
    return None
