"""Messages on their way to a client: the window, packet identifiers, topic aliases, what is sent again.

The sending half of a server's session. It holds what is sent and unsettled, and outlives connections; what waits to be
sent is its owner's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from northbound.mqtt.errors import ProtocolError
from northbound.mqtt.exchange import Exchange
from northbound.mqtt.packets import Puback, Pubrec
from northbound.mqtt.properties import MAX_VARINT, U16
from northbound.mqtt.publication import Form, Publication, form, identifier_at

Delivery = tuple[Publication, Form]

_LARGEST: Final = MAX_VARINT + 5
_DUP: Final = 8


def spoken(how: Form, version: int) -> Form:
    """Return the form in the words of another version."""
    return form(version, how.qos, how.retain, how.ids if version == 5 else ())


class Deliveries(Exchange[Delivery]):
    """``window`` is how many messages may be unsettled, ``largest`` the largest packet the client takes."""

    def __init__(self) -> None:
        super().__init__(4)
        self.window = 0
        self.largest = _LARGEST
        self.alias_room = 0
        self._aliases: dict[str, int] = {}
        self.acknowledged = 0
        self.refusals = 0
        self.too_large = 0
        self.expired = 0

    @property
    def free(self) -> int:
        """How many messages of QoS 1 and 2 may be sent now."""
        if self._again:
            return 0
        return self.window - len(self._inflight) - len(self._released)

    @property
    def again(self) -> bool:
        """Whether something is to be sent again first."""
        return bool(self._again)

    @property
    def unsettled(self) -> list[Delivery]:
        """What is sent and not acknowledged to the end."""
        return [*self._inflight.values(), *self._released.values()]

    def withdraw(self, allowed: Callable[[str], bool]) -> None:
        """Between two connections: let go of what may not be sent again, by its topic.

        A message of QoS 2 ends with PUBREL instead, for its identifier is in use until the client has said PUBCOMP.
        """
        for packet_id, delivery in list(self._inflight.items()):
            if not allowed(delivery[0].topic):
                del self._inflight[packet_id]
                if packet_id in self._exactly_once:
                    self._exactly_once.discard(packet_id)
                    self._released[packet_id] = delivery

    def begin(
        self, version: int, window: int, largest: int | None, alias_room: int, out: list[bytes], *, resumed: bool
    ) -> None:
        """Start a connection; with ``resumed`` what is unsettled is sent again."""
        if version != self._version:
            self._inflight = {key: (item, spoken(how, version)) for key, (item, how) in self._inflight.items()}
        self._version = version
        self.window = window
        self.largest = largest or _LARGEST
        self.alias_room = alias_room
        self._aliases.clear()
        if resumed:
            self.resume(out)
        else:
            self.forget()

    def send(self, delivery: Delivery, out: list[bytes], now: float) -> int:
        """Append the packet; return its size, 0 where it is not sent: expired, or too large for this client.

        A message the client would not take counts as delivered (section 3.1.2.11.4).
        """
        publication, how = delivery
        if publication.expires is not None or self.alias_room:
            return self._send_for_one(publication, how, out, now)
        head, tail = publication.parts(how)
        if not how.qos:
            if len(head) > self.largest:
                self.too_large += 1
                return 0
            out.append(head)
            return len(head)
        size = len(head) + len(tail) + 2
        if size > self.largest:
            self.too_large += 1
            return 0
        packet_id = self.next_id()
        self._inflight[packet_id] = delivery
        if how.qos == 2:
            self._exactly_once.add(packet_id)
        out += (head, U16.pack(packet_id), tail)
        return size

    def send_many(self, waiting: deque[Delivery], out: list[bytes], now: float, room: int) -> tuple[int, int]:
        """Send messages of QoS 1 and 2 as far as window and ``room`` go; return the room left and how many were sent.

        The same as :meth:`send` for each of them, at half the cost: this is what a busy server does most.
        """
        free, sent, one_by_one, largest = self.free, 0, self.alias_room > 0, self.largest
        inflight, released, pack, append = self._inflight, self._released, U16.pack, out.append
        while waiting and free > 0 and room > 0:
            delivery = waiting.popleft()
            publication, how = delivery
            if one_by_one or publication.expires is not None:
                size = self._send_for_one(publication, how, out, now)
            else:
                head, tail = publication.parts(how)
                size = len(head) + len(tail) + 2
                if size > largest:
                    self.too_large += 1
                    continue
                packet_id = self._last_id + 1 if self._last_id < 65_535 else 1
                if packet_id in inflight or packet_id in released:
                    packet_id = self.next_id()
                self._last_id = packet_id
                inflight[packet_id] = delivery
                if how.qos == 2:
                    self._exactly_once.add(packet_id)
                append(head)
                append(pack(packet_id))
                append(tail)
            if size:
                room -= size
                free -= 1
                sent += 1
        return room, sent

    def puback(self, packet: Puback) -> None:
        """Settle a message of QoS 1: the frequent case here, the others as on every side."""
        if packet.reason or self._exactly_once or self._again or self._inflight.pop(packet.packet_id, None) is None:
            super().puback(packet)
        else:
            self.acknowledged += 1

    def _send_for_one(self, publication: Publication, how: Form, out: list[bytes], now: float) -> int:
        left = self._left(publication, now)
        if left is not None and left < 0:
            self.expired += 1
            return 0
        alias, known = 0, True
        if self.alias_room:
            alias = self._aliases.get(publication.topic, 0)
            if not alias and len(self._aliases) < self.alias_room:
                alias, known = len(self._aliases) + 1, False
        try:
            if alias:
                head = publication.parts_for_one(how, left, alias, alias_known=known)
            else:
                head = publication.parts_for_one(how, left)
        except ProtocolError:  # it came in a packet of its own, and no longer fits into one with what is added to it
            self.too_large += 1
            return 0
        size = len(head) + len(publication.payload)
        if size > self.largest:
            self.too_large += 1
            return 0
        if not known:
            self._aliases[publication.topic] = alias
        if how.qos:
            packet_id = self.next_id()
            self._inflight[packet_id] = (publication, how)
            if how.qos == 2:
                self._exactly_once.add(packet_id)
            head = _identified(head, len(publication.payload), packet_id)
        out += (head, publication.payload)
        return size

    @staticmethod
    def _left(publication: Publication, now: float) -> int | None:
        """Return the seconds until it expires, rounded up; below 0: it has."""
        if publication.expires is None:
            return None
        left = publication.expires - now
        return int(left) + (left != int(left)) if left > 0 else -1

    def send_again(self, out: list[bytes], now: float, room: int) -> int:
        """Send what the last connection left unsettled, with DUP, in order [MQTT-4.4.0-1]; return the room left."""
        while self._again and room > 0 and self.inflight - len(self._again) < self.window:
            packet_id, _ = self._again.popitem()
            publication, how = self._inflight[packet_id]
            left = self._left(publication, now)
            # what has begun must end [MQTT-4.3.3-7], so an expired one is still sent, and says so
            head = publication.parts_for_one(how, None if left is None else max(0, left))
            size = len(head) + len(publication.payload)
            if size > self.largest:
                del self._inflight[packet_id]
                self._exactly_once.discard(packet_id)
                self.too_large += 1
                continue
            head = _identified(head, len(publication.payload), packet_id)
            out += (bytes((head[0] | _DUP,)) + head[1:], publication.payload)
            room -= size
        return 0 if self._again else room

    def settled(self, entry: Delivery) -> None:  # noqa: ARG002 - the message itself is of no more use
        """Count it."""
        self.acknowledged += 1

    def refused(self, entry: Delivery, packet: Puback | Pubrec) -> None:  # noqa: ARG002 - as above
        """Count it: a refused message is not sent again, nor to anybody else [MQTT-4.8.2-6]."""
        self.refusals += 1


def _identified(head: bytes, payload_size: int, packet_id: int) -> bytes:
    at = identifier_at(head, payload_size)
    return head[:at] + U16.pack(packet_id) + head[at + 2 :]
