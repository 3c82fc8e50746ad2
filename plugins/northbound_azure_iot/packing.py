"""From shaped messages to what is published: one each, or many as one JSON array. Pure, and with an inverse."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from northbound import Outgoing, Rejected
from northbound_azure_iot.bag import (
    CONTENT_ENCODING,
    CONTENT_TYPE,
    CREATED,
    MESSAGE_ID,
    ascii_properties,
    plain_properties,
    size_of,
    write_bag,
)

#: iot-hub-devguide-messages-construct: "Device-to-cloud messages can be at most 256 KB".
LARGEST_MESSAGE: Final = 256 * 1024
#: Of a topic in MQTT (3.1.1, section 1.5.3).
_LONGEST_TOPIC: Final = 65_535
#: How many messages a body is made of.
BATCH: Final = "batch"
_JSON: Final[Mapping[str, str]] = {CONTENT_TYPE: "application/json", CONTENT_ENCODING: "utf-8"}
_SECONDS: Final = 1000


class Packet(msgspec.Struct, frozen=True, gc=False):
    """One message to the hub: ``indices`` are those of a batch it carries, ``size`` is in bytes as the hub counts."""

    bag: str
    body: bytes
    indices: tuple[int, ...]
    size: int


class TooLarge(Exception):
    """A message that the hub would not take; ``index`` is its place in the batch."""

    def __init__(self, index: int, error: Rejected) -> None:
        self.index = index
        self.error = error
        super().__init__(str(error))


#: What one has become: a packet, or an index and why it is not sent.
Packed = Packet | TooLarge


def pack_each(batch: Sequence[Outgoing], indices: Sequence[int]) -> list[Packed]:
    """Return a packet for each of ``indices`` of ``batch``."""
    packed: list[Packed] = []
    for index in indices:
        message = batch[index]
        properties = {**_beside(message), **ascii_properties(_address(message))}
        if message.payload:
            properties |= _JSON
        packed.append(_packet(properties, message.payload, (index,)))
    return packed


def pack_many(batch: Sequence[Outgoing], indices: Sequence[int], most: int) -> list[Packed]:
    """Return packets of as many messages as fit into ``most`` bytes each, in order.

    A message that is larger by itself becomes a packet of its own.
    """
    return [*_packets(batch, indices, most)]


def _packets(batch: Sequence[Outgoing], indices: Sequence[int], most: int) -> Iterator[Packed]:
    held: list[int] = []
    items: list[bytes] = []
    shared: Mapping[str, str] = {}
    for index in indices:
        message = batch[index]
        item = _item(message)
        address = _address(message)
        common = {name: value for name, value in address.items() if shared.get(name) == value} if held else address
        if held and _joined_size(batch[held[0]], [*items, item], common) > most:
            yield from _joined(batch, held, items, shared)
            held, items, common = [], [], address
        held.append(index)
        items.append(item)
        shared = common
    if held:
        yield from _joined(batch, held, items, shared)


def _joined(
    batch: Sequence[Outgoing], held: Sequence[int], items: Sequence[bytes], shared: Mapping[str, str]
) -> Iterator[Packed]:
    """Return what is held as one packet; where that is none, each by itself."""
    packed = _join(batch, held, items, shared)
    if isinstance(packed, Packet) or len(held) == 1:
        yield packed
        return
    for index, item in zip(held, items, strict=True):
        yield _join(batch, [index], [item], _address(batch[index]))


def _joined_properties(first: Outgoing, count: int, shared: Mapping[str, str]) -> dict[str, str]:
    return {**_beside(first), **_JSON, BATCH: str(count), **ascii_properties(shared)}


def _joined_size(first: Outgoing, items: Sequence[bytes], shared: Mapping[str, str]) -> int:
    body = sum(map(len, items)) + len(items) + 1
    return body + size_of(_joined_properties(first, len(items), shared), b"")


def _join(batch: Sequence[Outgoing], held: Sequence[int], items: Sequence[bytes], shared: Mapping[str, str]) -> Packed:
    properties = _joined_properties(batch[held[0]], len(items), shared)
    return _packet(properties, b"[" + b",".join(items) + b"]", tuple(held))


def _item(message: Outgoing) -> bytes:
    """Return one message of a batch: all that can be said of it, its payload as it is where that is JSON."""
    item: dict[str, Any] = {"topic": message.topic, "id": message.key, "kind": message.kind, "time": message.time}
    if message.properties.get("retain"):
        item["retain"] = True
    if message.payload:
        try:
            msgspec.json.decode(message.payload, type=msgspec.Raw)
            message.payload.decode()
            item["payload"] = msgspec.Raw(message.payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            item["base64"] = base64.b64encode(message.payload).decode()
    return msgspec.json.encode(item)


def _beside(message: Outgoing) -> dict[str, str]:
    moment = datetime.fromtimestamp(message.time / _SECONDS, UTC).isoformat(timespec="milliseconds")
    return {MESSAGE_ID: message.key, CREATED: moment.replace("+00:00", "Z")}


def _address(message: Outgoing) -> Mapping[str, str]:
    """Return the properties of the address; the topic is that of the template where one is configured."""
    properties = message.properties
    if message.topic == message.source_topic:
        return properties
    return {**properties, "topic": message.topic}


def _packet(properties: Mapping[str, str], body: bytes, indices: tuple[int, ...]) -> Packed:
    size = size_of(properties, body)
    if size > LARGEST_MESSAGE:
        words = f"body and properties of {size:,} bytes: IoT Hub takes {LARGEST_MESSAGE:,}"
        return TooLarge(indices[0], Rejected(words))
    bag = write_bag(properties)
    if len(bag) > _LONGEST_TOPIC - 300:  # the rest is the device's part of the topic, at its longest
        return TooLarge(
            indices[0], Rejected(f"properties of {len(bag):,} bytes once they are encoded do not fit a topic")
        )
    return Packet(bag, body, indices, size)


class Read(msgspec.Struct, frozen=True):
    """A message as a consumer gets it back."""

    topic: str
    payload: bytes
    kind: str
    time: int
    retain: bool
    id: str


class _Item(msgspec.Struct, frozen=True):
    topic: str
    id: str
    kind: str
    time: int
    retain: bool = False
    payload: msgspec.Raw = msgspec.Raw(b"")
    base64: str = ""


def read_message(properties: Mapping[str, str], body: bytes) -> list[Read]:
    """Return the messages that a message of the hub holds: what every consumer does, and the tests' inverse.

    ``properties`` are the application's and, by their names in MQTT, the system's (``$.mid``).
    """
    found = plain_properties(properties)
    if BATCH not in found:
        moment = datetime.fromisoformat(found[CREATED])
        time = round(moment.timestamp() * _SECONDS)
        retain = found.get("retain") == "true"
        return [Read(found["topic"], body, found["kind"], time, retain, found[MESSAGE_ID])]
    return [
        Read(
            item.topic,
            base64.b64decode(item.base64) if item.base64 else bytes(item.payload),
            item.kind,
            item.time,
            item.retain,
            item.id,
        )
        for item in msgspec.json.decode(body, type=list[_Item])
    ]
