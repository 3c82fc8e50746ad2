"""The server's side of one MQTT connection, 3.1, 3.1.1 and 5, with hooks for what a provider does differently.

Kept here, since every broker keeps it: CONNECT comes first and soon, and once; packets have a bound; keep-alive is
enforced at one and a half times; topic aliases and the receive maximum are those that CONNACK announced.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

import msgspec

from northbound.mqtt import (
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    ProtocolError,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    encode,
)
from northbound.mqtt.reasons import FAILURE, PROTOCOL, RECEIVE_MAXIMUM_EXCEEDED, TOPIC_ALIAS_INVALID
from northbound.testing.twins.mqtt_listener import Greeting, Wire

CONNECT_SECONDS: Final = 5.0
KEEP_ALIVE_TIMEOUT: Final = 141  # MQTT 5, section 3.14.2.1


class MqttPeer:
    """One client, as its broker sees it. Override the ``on_`` methods; they are called in the order of the packets."""

    #: The largest packet, in bytes, that is read.
    max_packet: int = 1024 * 1024

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.connect: Connect | None = None
        self.connack: Connack | None = None
        self.unacknowledged: set[int] = set()
        self.closed = False
        self._decoder = Decoder(None, self.max_packet)
        self._aliases: dict[int, str] = {}
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # -- hooks --------------------------------------------------------------------------------------------------

    def speaks_websocket(self) -> bool:
        """Whether this connection is a WebSocket; asked after TLS."""
        return False

    def on_upgrade(self, greeting: Greeting) -> tuple[HTTPStatus, str] | None:  # noqa: ARG002 - for subclasses
        """Return why the WebSocket is refused, ``None`` to take it."""
        return None

    def on_connect(self, packet: Connect) -> Connack | None:  # noqa: ARG002 - for subclasses
        """Return the answer, a refusal included; ``None`` hangs up without one."""
        return Connack()

    def on_connected(self) -> None:
        """Take note that CONNACK, with success, was sent."""

    def on_publish(self, packet: Publish) -> None:
        """Take a message; its topic is given in full, also where it came as an alias."""
        self.acknowledge(packet)

    def on_subscribe(self, packet: Subscribe) -> None:
        """Answer a subscription; nothing is granted unless a subclass does."""
        self.send(Suback(packet.packet_id, tuple(FAILURE for _ in packet.subscriptions)))

    def on_unsubscribe(self, packet: Unsubscribe) -> None:
        """Answer an unsubscription."""
        self.send(Unsuback(packet.packet_id, tuple(0 for _ in packet.filters) if self.version == 5 else ()))

    def on_pubrel(self, packet: Pubrel) -> None:
        """Complete a message of QoS 2."""
        self.unacknowledged.discard(packet.packet_id)
        self.send(Pubcomp(packet.packet_id))

    def on_acknowledged(self, packet: Puback | Pubrec | Pubcomp) -> None:
        """Take note of the client's answer to a message that was sent to it."""

    def on_disconnect(self, packet: Disconnect) -> None:
        """Take note of a good-bye; the connection is closed afterwards."""

    def on_violation(self, error: ProtocolError) -> None:
        """Answer bytes that are not MQTT, or packets out of place."""
        self.hang_up(error.code)

    def on_gone(self) -> None:
        """Take note that the connection has ended, whoever ended it."""

    # -- for subclasses -----------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """The protocol version; 5 until CONNECT said otherwise."""
        return self.connect.version if self.connect is not None else 5

    @property
    def client_id(self) -> str:
        """The client id; empty before CONNECT."""
        return self.connect.client_id if self.connect is not None else ""

    def send(self, packet: Packet) -> None:
        """Send a packet."""
        if not self.closed:
            self.wire.write(encode(packet, self.version))

    def acknowledge(self, packet: Publish, reason: int = 0, words: str | None = None) -> None:
        """Answer a message; before version 5 a reason cannot be told."""
        if packet.qos == 0:
            return
        told = Properties(reason_string=words) if words and self.version == 5 else Properties()
        if packet.qos == 1:
            self.unacknowledged.discard(packet.packet_id)
            self.send(Puback(packet.packet_id, reason, told))
        else:
            if reason >= FAILURE:
                self.unacknowledged.discard(packet.packet_id)
            self.send(Pubrec(packet.packet_id, reason, told))

    def hang_up(self, reason: int | None = None, words: str | None = None) -> None:
        """Close; before that, in version 5, tell the reason if there is one and CONNACK has been sent."""
        if self.closed:
            return
        if reason is not None and self.version == 5 and self.connack is not None:
            self.send(Disconnect(reason, Properties(reason_string=words)))
        self._end()
        self.wire.close()

    def cut(self) -> None:
        """Reset the connection without a word."""
        self._end()
        self.wire.cut()

    # -- called by the wire -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Wait for CONNECT, not for long."""
        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        if not self.closed:
            self._timer = loop.call_later(CONNECT_SECONDS, self._too_late)

    def receive(self, data: bytes) -> None:
        """Take bytes."""
        if self.closed:
            return
        self._heard = asyncio.get_running_loop().time()
        try:
            try:
                packets = self._decoder.feed(data)
            except ProtocolError as error:
                self._take(error.packets)
                raise
            self._take(packets)
        except ProtocolError as error:
            if not self.closed:
                self.on_violation(error)

    def gone(self) -> None:
        """Take note that the transport is closed."""
        self._end()
        self.on_gone()

    # -- the protocol -------------------------------------------------------------------------------------------

    def _take(self, packets: list[Packet]) -> None:
        for packet in packets:
            if self.closed:
                return
            if self.connect is None:
                self._first(packet)
            elif isinstance(packet, Publish):
                self._publish(packet)
            elif isinstance(packet, Pingreq):
                self.send(Pingresp())
            elif isinstance(packet, Subscribe):
                self.on_subscribe(packet)
            elif isinstance(packet, Unsubscribe):
                self.on_unsubscribe(packet)
            elif isinstance(packet, Puback | Pubrec | Pubcomp):
                self.on_acknowledged(packet)
            elif isinstance(packet, Pubrel):
                self.on_pubrel(packet)
            elif isinstance(packet, Disconnect):
                self.on_disconnect(packet)
                self.hang_up()
            else:  # [MQTT-3.1.0-2] and what only a server sends
                raise ProtocolError(PROTOCOL, f"a client does not send {type(packet).__name__.upper()} here")

    def _first(self, packet: Packet) -> None:
        if not isinstance(packet, Connect):
            raise ProtocolError(PROTOCOL, "the first packet is not a CONNECT")
        if self._timer is not None:
            self._timer.cancel()
        self.connect = packet
        answer = self.on_connect(packet)
        if answer is None:
            self.hang_up()
            return
        self.send(answer)
        if answer.reason:
            self.hang_up()
            return
        self.connack = answer
        self._watch()
        self.on_connected()

    def _publish(self, packet: Publish) -> None:
        told = self.connack.properties if self.connack is not None else Properties()
        alias = packet.properties.topic_alias
        if alias is not None:  # section 3.3.2.3.4
            if not 0 < alias <= (told.topic_alias_maximum or 0):
                self.hang_up(TOPIC_ALIAS_INVALID, "an alias above the maximum")
                return
            if packet.topic:
                self._aliases[alias] = packet.topic
            elif alias not in self._aliases:
                self.hang_up(PROTOCOL, "an alias without a topic")
                return
            else:
                packet = msgspec.structs.replace(packet, topic=self._aliases[alias])
        if packet.qos:
            self.unacknowledged.add(packet.packet_id)
            if self.version == 5 and len(self.unacknowledged) > (told.receive_maximum or 65_535):  # section 3.3.4
                self.hang_up(RECEIVE_MAXIMUM_EXCEEDED)
                return
        self.on_publish(packet)

    def _watch(self) -> None:
        """Enforce the keep-alive at 1.5 times [MQTT-3.1.2-22]."""
        if self.connect is None or self.closed:
            return
        told = self.connack.properties.server_keep_alive if self.connack is not None else None
        keep_alive = self.connect.keep_alive if told is None else told
        if not keep_alive:
            return
        loop = asyncio.get_running_loop()
        left = self._heard + 1.5 * keep_alive - loop.time()
        if left <= 0:
            self.hang_up(KEEP_ALIVE_TIMEOUT)
        else:
            self._timer = loop.call_later(left, self._watch)

    def _too_late(self) -> None:
        if self.connect is None:
            self.hang_up()

    def _end(self) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
