"""A message for many receivers: written once for each form it is needed in, the bytes shared among all of them.

With QoS 1 and 2 the packet identifier is all that differs from receiver to receiver, so a packet is kept as the bytes
before and after it. What differs more (the time left until it expires, a topic alias) is written for one receiver.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec.structs import replace

from northbound.mqtt.encoder import publish_head
from northbound.mqtt.packets import Publish
from northbound.mqtt.properties import NONE, Properties, varint


class Form:
    """How a message is written: the same for receivers of one version, granted QoS, RETAIN flag and identifiers.

    Compared by identity: get one from :func:`form`.
    """

    __slots__ = ("ids", "qos", "retain", "version")

    def __init__(self, version: int, qos: int, retain: bool, ids: tuple[int, ...]) -> None:  # noqa: FBT001 - hot
        self.version = version
        self.qos = qos
        self.retain = retain
        self.ids = ids

    def __repr__(self) -> str:
        """Say all of it."""
        return f"Form({self.version}, qos={self.qos}, retain={self.retain}, ids={self.ids})"


@lru_cache(4096)  # the identifiers are the clients' to choose
def form(version: int, qos: int, retain: bool, ids: tuple[int, ...] = ()) -> Form:  # noqa: FBT001 - hot
    """Return the one form of these. 3.1 and 3.1.1 write alike, and without subscription identifiers."""
    if version < 5 and (version != 4 or ids):
        return form(4, qos, retain)
    return Form(version, qos, retain, ids)


class Publication:
    """``qos`` is what it was published with, the most a receiver gets; ``expires`` is on the clock of the server.

    ``newest_only`` says that a receiver who cannot keep up is content with the newest message of the topic.
    ``origin`` is whatever tells its publisher from others.
    """

    __slots__ = ("_parts", "expires", "newest_only", "origin", "payload", "properties", "qos", "retain", "topic")

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 2,
        retain: bool = False,  # noqa: FBT001, FBT002 - hot
        properties: Properties = NONE,
        expires: float | None = None,
        origin: object = None,
        *,
        newest_only: bool = False,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.expires = expires
        self.origin = origin
        self.newest_only = newest_only
        self._parts: dict[Form, tuple[bytes, bytes]] | None = None

    @property
    def size(self) -> int:
        """Bytes of topic and payload, near enough."""
        return len(self.topic) + len(self.payload)

    def parts(self, how: Form) -> tuple[bytes, bytes]:
        """Return the packet before and after its identifier; all of it stands before, where there is none."""
        kept = self._parts
        if kept is None:
            kept = self._parts = {}
        parts = kept.get(how)
        if parts is None:
            parts = kept[how] = split(self._head(how, self.properties), self.payload, how.qos)
        return parts

    def parts_for_one(self, how: Form, left: int | None, alias: int = 0, *, alias_known: bool = False) -> bytes:
        """Return what stands before the payload, with the seconds ``left`` until it expires, and a topic alias.

        The packet identifier is 1, at :func:`identifier_at`.
        """
        properties = self.properties if left is None else replace(self.properties, message_expiry=left)
        return self._head(how, properties, alias, alias_known=alias_known)

    def _head(self, how: Form, properties: Properties, alias: int = 0, *, alias_known: bool = False) -> bytes:
        if how.ids:
            properties = replace(properties, subscription_ids=how.ids)
        packet = Publish(self.topic, self.payload, how.qos, how.retain, properties=properties)
        return publish_head(packet, how.version, 1 if how.qos else 0, alias=alias, alias_known=alias_known)


def identifier_at(head: bytes, payload_size: int) -> int:
    """Return where the packet identifier stands in a PUBLISH that has one."""
    # the remaining length counts what follows it, so its own size is what brings both to the same sum
    size = 1
    while len(varint(len(head) + payload_size - 1 - size)) != size:
        size += 1
    return 3 + size + (head[1 + size] << 8 | head[2 + size])


def split(head: bytes, payload: bytes, qos: int) -> tuple[bytes, bytes]:
    """Return the packet before and after its identifier."""
    if not qos:
        return head + payload, b""
    at = identifier_at(head, len(payload))
    return head[:at], head[at + 2 :] + payload
