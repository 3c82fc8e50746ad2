"""The present values of a filter for one subscriber, each read when it can be sent (section 3.3.1.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from northbound.api.retained import Retained
from northbound.mqtt.deliveries import Delivery
from northbound.mqtt.encoder import publish_head
from northbound.mqtt.packets import Publish
from northbound.mqtt.properties import NONE, Properties
from northbound.mqtt.publication import form


class Feed:
    """``topics`` match the filter ``text``; ``allowed`` is asked for each where the filter is wider than the rights."""

    __slots__ = ("_at", "_ids", "_retained", "_topics", "allowed", "done", "qos", "text", "version")

    def __init__(
        self,
        retained: Retained,
        text: str,
        topics: Sequence[str],
        *,
        version: int,
        qos: int,
        ids: tuple[int, ...],
        allowed: Callable[[str], bool] | None,
    ) -> None:
        self.text = text
        self._retained = retained
        self._topics = topics
        self._at = 0
        self._ids = ids
        self.allowed = allowed
        self.version = version
        self.qos = qos
        self.done = False  # it was read to its end

    def next(self) -> Delivery | None:
        """Return the next value, None at the end."""
        topics = self._topics
        while self._at < len(topics):
            topic = topics[self._at]
            self._at += 1
            if self.allowed is not None and not self.allowed(topic):
                continue
            publication = self._retained.publication(topic)
            if publication is not None:
                how = form(self.version, min(self.qos, publication.qos), True, self._ids)
                return publication, how
        self.done = True
        return None

    def write(self, out: list[bytes], room: int, largest: int) -> tuple[int, int, int]:
        """Write values of QoS 0 without a detour; return the room left, how many were written, how many are too large.

        It stops at a value that a client published with something beside it: that one is for :meth:`next`.
        """
        get, plain, allowed, version = self._retained.get, self._retained.plain, self.allowed, self.version
        properties = Properties(subscription_ids=self._ids) if self._ids and version == 5 else NONE
        topics, at, end, written, too_large = self._topics, self._at, len(self._topics), 0, 0
        while at < end and room > 0:
            topic = topics[at]
            if not plain(topic):
                break
            at += 1
            message = get(topic)
            if message is None or (allowed is not None and not allowed(topic)):
                continue
            payload = message.payload
            head = publish_head(Publish(topic, payload, 0, True, properties=properties), version, 0)
            size = len(head) + len(payload)
            if size > largest:
                too_large += 1
                continue
            out.append(head)
            out.append(payload)
            written += 1
            room -= size
        self._at = at
        self.done = at >= end
        return room, written, too_large
