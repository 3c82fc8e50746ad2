"""The values that travel: frozen, small, and cheap to make by the ten thousand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

Kind = Literal["state", "metadata"]

NO_PROPERTIES: Mapping[str, str] = {}


class Address(Struct, frozen=True, gc=False):
    """The place of one value.

    ``zones`` holds the zone ids below the organisation, in the order of the configured hierarchy
    (building, level, area by default); ``None`` where one is missing. ``index`` counts from 1.
    """

    org: str
    zones: tuple[str | None, ...]
    system: str
    driver: str
    module: str
    index: int
    state: str


class Message(Struct, frozen=True, gc=False):
    """The normalised form that everything after the engine sees.

    ``time`` is in milliseconds since 1970: when the value changed at the source where the source says so,
    else when it was received. An empty ``payload`` clears the topic.
    """

    topic: str
    payload: bytes
    kind: Kind
    time: int
    retain: bool

    @property
    def size(self) -> int:
        """Bytes of topic and payload, as the store and its limits count them."""
        topic = self.topic
        return (len(topic) if topic.isascii() else len(topic.encode())) + len(self.payload)


class Outgoing(Struct, frozen=True, gc=False):
    """A message shaped for one destination.

    ``source_topic`` is the normalised topic, ``topic`` what the destination sees. ``properties`` travel beside
    the payload where the protocol has a place for them. ``key`` is the idempotency key, ``<store id>-<sequence>``:
    the same for every attempt at the same message.
    """

    topic: str
    payload: bytes
    kind: Kind
    time: int
    retain: bool
    source_topic: str
    key: str
    properties: Mapping[str, str] = NO_PROPERTIES
