"""Messages from the other side: aliases, exactly-once, acknowledgements in the order of arrival."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from northbound.mqtt.encoder import encode
from northbound.mqtt.errors import ProtocolError
from northbound.mqtt.packets import Puback, Pubcomp, Publish, Pubrec, Pubrel
from northbound.mqtt.properties import NONE, Properties
from northbound.mqtt.reasons import FAILURE, PACKET_ID_NOT_FOUND, RECEIVE_MAXIMUM_EXCEEDED, TOPIC_ALIAS_INVALID

_PACKET_IDS = 65_535
_TAKEN = (0, NONE)
_NOTHING: Final[deque[tuple[int, int, int]]] = deque()  # 600 bytes that are shared; nothing is ever put in here


class Received(msgspec.Struct, frozen=True, gc=False):
    """A message that arrived. ``sequence`` names it for acknowledging; 0 where nothing is to be acknowledged."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    duplicate: bool
    properties: Properties
    sequence: int


class Inbound:
    """The receiving half of a session, of either side.

    ``receive_maximum`` is enforced: a client asks for none, since hanging up over it, as section 3.3.4 allows, would be
    a reconnect loop (Mosquitto 2.0.11 keeps to it at first, and no longer once messages are queued and one is
    acknowledged); a server announces one and hangs up. It can announce it in version 5 only: in the others it looks
    whether it :meth:`has_room`, and lets messages wait.
    """

    def __init__(self, version: int, alias_maximum: int, receive_maximum: int = _PACKET_IDS) -> None:
        self._version = version
        self._receive_maximum = receive_maximum
        self._alias_maximum = alias_maximum if version == 5 else 0
        self._aliases: dict[int, str] = {}
        # sequence, packet identifier, QoS; in order of arrival. Most clients of a server never send one.
        self._waiting: deque[tuple[int, int, int]] = _NOTHING
        self._answered: set[int] = set()  # sequences acknowledged before those that came earlier
        self._delivered: set[int] = set()  # identifiers of QoS 2 given to the user, PUBREC not sent
        self._owned: set[int] = set()  # identifiers of QoS 2 after PUBREC, until PUBREL
        self._refusals: dict[int, tuple[int, Properties]] = {}  # sequence → what its acknowledgement says
        self._sequence = 0

    @property
    def unacknowledged(self) -> int:
        """The number of messages the user has not acknowledged."""
        return len(self._waiting)

    def has_room(self, packet: Publish) -> bool:
        """Say whether a message can be taken now; one the user already has always can."""
        if not packet.qos or self._under_way < self._receive_maximum:
            return True
        return packet.qos == 2 and (packet.packet_id in self._owned or packet.packet_id in self._delivered)

    @property
    def _under_way(self) -> int:
        """Those that count. In 3.x, where messages wait, not those whose PUBREL may come behind the waiting ones."""
        return len(self._waiting) + (len(self._owned) if self._version == 5 else 0)

    def begin(self, *, resumed: bool) -> None:
        """Start a connection: the other side sends again what it got no acknowledgement for."""
        self._aliases.clear()
        self._waiting = _NOTHING
        self._answered.clear()
        self._refusals.clear()
        self._delivered.clear()
        if not resumed:
            self._owned.clear()

    def speak(self, version: int, alias_maximum: int) -> None:
        """Go on in another version: a client may come back to its session with one."""
        self._version = version
        self._alias_maximum = alias_maximum if version == 5 else 0

    def publish(self, packet: Publish, out: list[bytes]) -> Received | None:
        """Return the message for the user, None for one the user already has."""
        topic, qos, packet_id = packet.topic, packet.qos, packet.packet_id
        properties = packet.properties
        if properties is not NONE and properties.topic_alias is not None:
            topic = self._resolve(topic, properties.topic_alias)
        sequence = 0
        if qos:
            if qos == 2:
                if packet_id in self._owned:
                    out.append(encode(Pubrec(packet_id), self._version))
                    return None
                if packet_id in self._delivered:
                    return None
                self._delivered.add(packet_id)
            if self._under_way >= self._receive_maximum:
                raise ProtocolError(
                    RECEIVE_MAXIMUM_EXCEEDED, f"more than {self._receive_maximum} unacknowledged messages"
                )
            self._sequence = sequence = self._sequence + 1
            if self._waiting is _NOTHING:
                self._waiting = deque()
            self._waiting.append((sequence, packet_id, qos))
        return Received(topic, packet.payload, qos, packet.retain, packet.duplicate, properties, sequence)

    def _resolve(self, topic: str, alias: int) -> str:
        if alias > self._alias_maximum:  # [MQTT-3.3.2-9]
            raise ProtocolError(
                TOPIC_ALIAS_INVALID, f"the topic alias {alias}; at most {self._alias_maximum} are known"
            )
        if topic:
            self._aliases[alias] = topic
            return topic
        try:
            return self._aliases[alias]
        except KeyError:
            raise ProtocolError(TOPIC_ALIAS_INVALID, f"the topic alias {alias} was never given") from None

    def acknowledge(self, messages: Iterable[Received], out: list[bytes]) -> None:
        """Acknowledge messages; what came after one that is unacknowledged waits for it [MQTT-4.6.0-2].

        Messages of an earlier connection and those acknowledged before are passed over.
        """
        waiting = self._waiting
        first = waiting[0][0] if waiting else self._sequence + 1
        self._answered.update(item.sequence for item in messages if item.sequence >= first)
        self._answer(out)

    def answer(self, message: Received, reason: int, properties: Properties, out: list[bytes]) -> None:
        """Acknowledge one message with a reason, which 3.x cannot say: there it counts as taken."""
        if not message.sequence or not self._waiting or message.sequence < self._waiting[0][0]:
            return
        if self._version == 5 and (reason or properties is not NONE):
            self._refusals[message.sequence] = (reason, properties)
        self._answered.add(message.sequence)
        self._answer(out)

    def _answer(self, out: list[bytes]) -> None:
        waiting, answered = self._waiting, self._answered
        while waiting and waiting[0][0] in answered:
            sequence, packet_id, qos = waiting.popleft()
            answered.discard(sequence)
            reason, properties = self._refusals.pop(sequence, _TAKEN) if self._refusals else _TAKEN
            if qos == 1:
                out.append(encode(Puback(packet_id, reason, properties), self._version))
                continue
            self._delivered.discard(packet_id)
            if reason < FAILURE:  # else the exchange ends here (section 4.3.3)
                self._owned.add(packet_id)
            out.append(encode(Pubrec(packet_id, reason, properties), self._version))

    def pubrel(self, packet: Pubrel, out: list[bytes]) -> None:
        """Answer with PUBCOMP; the identifier is free again."""
        known = packet.packet_id in self._owned
        self._owned.discard(packet.packet_id)
        out.append(encode(Pubcomp(packet.packet_id, 0 if known else PACKET_ID_NOT_FOUND), self._version))
