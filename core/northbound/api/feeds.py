"""The present values of a filter for one subscriber, each read when it can be sent (section 3.3.1.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from northbound.api.retained import Retained
from northbound.mqtt.deliveries import Delivery
from northbound.mqtt.encoder import value_head
from northbound.mqtt.properties import PUBLISH, Properties, encode_properties
from northbound.mqtt.publication import form

IN_VAIN: Final = 32  # bytes of room that it takes to look at what is then not sent


class Feed:
    """Looks for the topics of the filter ``text`` as they can be sent, so that one that waits holds none of them.

    ``allowed`` is asked for each topic where the filter is wider than the rights. Looking takes room as sending does:
    neither many topics nor few of many keep the others from their turn.
    """

    __slots__ = ("_at", "_ids", "_retained", "_steps", "_topics", "allowed", "done", "qos", "text", "version")

    def __init__(
        self,
        retained: Retained,
        text: str,
        *,
        version: int,
        qos: int,
        ids: tuple[int, ...],
        allowed: Callable[[str], bool] | None,
    ) -> None:
        self.text = text
        self._retained = retained
        self._steps = retained.topics(text)
        self._topics: list[str] = []  # that were found last
        self._at = 0
        self._ids = ids
        self.allowed = allowed
        self.version = version
        self.qos = qos
        self.done = False  # it was read to its end

    def next(self, room: int) -> tuple[Delivery | None, int]:
        """Return the next value and the room left; None at the end, and where there is no room to look any further."""
        while True:
            while self._at < len(self._topics) and room > 0:
                topic = self._topics[self._at]
                self._at += 1
                if self.allowed is None or self.allowed(topic):
                    publication = self._retained.publication(topic)
                    if publication is not None:
                        return (publication, form(self.version, min(self.qos, publication.qos), True, self._ids)), room
                room -= IN_VAIN
            if room > 0:
                room = self._look(room)
            if room <= 0 or self.done:
                return None, room

    def write(self, out: list[bytes], room: int, largest: int) -> tuple[int, int, int]:
        """Write values of QoS 0 without a detour; return the room left, how many were written, how many are too large.

        It stops at a value that a client published with something beside it: that one is for :meth:`next`.
        """
        get, detailed, allowed, version = self._retained.get, self._retained.detailed, self.allowed, self.version
        properties = encode_properties(Properties(subscription_ids=self._ids), PUBLISH) if version == 5 else b""
        written = too_large = 0
        while room > 0 and not self.done:
            topics, at, end = self._topics, self._at, len(self._topics)
            while at < end and room > 0:
                topic = topics[at]
                if topic in detailed:
                    self._at = at
                    return room, written, too_large
                at += 1
                message = get(topic)
                if message is None or (allowed is not None and not allowed(topic)):
                    room -= IN_VAIN
                    continue
                payload = message.payload
                head = value_head(topic, len(payload), properties)
                size = len(head) + len(payload)
                if size > largest:
                    too_large += 1
                    room -= IN_VAIN
                    continue
                out.append(head)
                out.append(payload)
                written += 1
                room -= size
            self._at = at
            if room > 0:
                room = self._look(room)
        return room, written, too_large

    def _look(self, room: int) -> int:
        """Look for more topics; return the room left."""
        self._topics, self._at = [], 0
        step = next(self._steps, None)
        if step is None:
            self.done = True
            return room
        self._topics, in_vain = step
        return room - in_vain * IN_VAIN
