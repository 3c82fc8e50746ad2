"""A client's session without sockets and clocks: bytes and the time go in, bytes and messages come out.

One session outlives its connections. Its owner calls ``open`` when a transport stands, ``receive`` with what arrives,
``output`` for what is to be written, ``tick`` now and then, and ``lose`` when the transport is gone. Everything that
ends the connection is raised as a ``DeliveryError`` whose words say why; what ``output`` still holds then (a
DISCONNECT) may be written before closing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from northbound.errors import DeliveryError, NotConnected, Rejected, Unavailable
from northbound.mqtt import packets as p
from northbound.mqtt.decoder import Decoder
from northbound.mqtt.encoder import encode
from northbound.mqtt.errors import ProtocolError
from northbound.mqtt.inbound import Inbound, Received
from northbound.mqtt.names import check_filter
from northbound.mqtt.options import ClientOptions, ServerLimits, limits_of
from northbound.mqtt.outbound import Batch, Outbound
from northbound.mqtt.reasons import PROTOCOL, closed_error, connect_error

_PING_AT: Final = 0.7  # of the keep-alive, so that a late tick is still in time


class Request:
    """A SUBSCRIBE or UNSUBSCRIBE under way; ``reasons`` is its answer, one code a filter."""

    __slots__ = ("count", "error", "on_done", "reason_string", "reasons", "sent")

    def __init__(self, count: int, on_done: Callable[[], object] | None, sent: float) -> None:
        self.count = count
        self.on_done = on_done
        self.sent = sent
        self.reasons: tuple[int, ...] | None = None
        self.reason_string: str | None = None
        self.error: DeliveryError | None = None

    def finish(self) -> None:
        """Tell whoever waits."""
        done, self.on_done = self.on_done, None
        if done is not None:
            done()


class ClientSession:
    """See the module. ``limits`` is None until the broker has accepted the connection."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self.client_id = options.client_id
        self.limits: ServerLimits | None = None
        self.connack: p.Connack | None = None
        self.outbound = Outbound(options.version, options.max_inflight, aliases=options.topic_aliases)
        self.inbound = Inbound(options.version, options.topic_alias_maximum)
        self._decoder = Decoder(options.version, options.maximum_packet_size)
        self._requests: dict[int, Request] = {}
        self._control: list[bytes] = []  # goes out before any message
        self._received: list[Received] = []
        self._opened_before = False
        self._last_sent = self._last_received = 0.0
        self._pinged: float | None = None
        self._handlers: Final[dict[type[p.Packet], Callable[[Any, float], None]]] = {
            p.Connack: self._on_connack,
            p.Publish: self._on_publish,
            p.Puback: lambda packet, _now: self.outbound.puback(packet),
            p.Pubrec: lambda packet, now: self.outbound.pubrec(packet, self._control, now),
            p.Pubrel: lambda packet, _now: self.inbound.pubrel(packet, self._control),
            p.Pubcomp: lambda packet, _now: self.outbound.pubcomp(packet),
            p.Suback: self._on_answer,
            p.Unsuback: self._on_answer,
            p.Pingresp: self._on_pingresp,
            p.Disconnect: self._on_disconnect,
            p.Auth: self._on_auth,
        }

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection and nothing has ended it."""
        return self.limits is not None

    # -- the connection -----------------------------------------------------------------------------------------

    def open(self, now: float) -> None:
        """Begin a connection with CONNECT. Raises ``Rejected`` if the options cannot be written as one."""
        options = self._options
        self._decoder = Decoder(options.version, options.maximum_packet_size)
        self._control.clear()
        self._received.clear()
        self._last_sent = self._last_received = now
        self._pinged = None
        try:
            self._control.append(encode(options.connect_packet(self.client_id), options.version))
        except (ProtocolError, UnicodeEncodeError) as error:
            words = error if isinstance(error, ProtocolError) else "the password is not text"
            raise Rejected(f"the connection's settings cannot be sent: {words}") from None

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the broker. Messages are fetched with :meth:`messages`, also after an error."""
        self._last_received = now
        try:
            try:
                self._take(self._decoder.feed(data), now)
            except ProtocolError as error:
                self._take(error.packets, now)
                raise
        except ProtocolError as error:
            if self._options.version == 5 and self.limits is not None:
                self._control.append(encode(p.Disconnect(error.code), 5))
            raise NotConnected(f"the broker broke the protocol: {error}") from None

    def _take(self, packets: Sequence[p.Packet], now: float) -> None:
        if self.limits is None and packets and type(packets[0]) not in {p.Connack, p.Auth}:
            raise ProtocolError(PROTOCOL, "the broker did not begin with CONNACK")  # [MQTT-3.2.0-1]
        puback = self.outbound.puback
        for packet in packets:
            if type(packet) is p.Puback:  # by far the most frequent
                puback(packet)
                continue
            handler = self._handlers.get(type(packet))
            if handler is None:
                raise ProtocolError(PROTOCOL, f"a broker does not send {type(packet).__name__.upper()}")
            handler(packet, now)

    def output(self, now: float, room: int) -> bytes:
        """Return the bytes to write now, of messages about ``room`` at most; empty if there is nothing to say."""
        out, self._control = self._control, []
        if self.limits is not None:
            self.outbound.write(out, now, room)
        if not out:
            return b""
        self._last_sent = now
        return b"".join(out)

    def tick(self, now: float) -> None:
        """Keep the connection alive. Raises ``NotConnected`` when the broker has fallen silent."""
        if self.limits is None:
            return
        timeout = self._options.ack_timeout
        oldest = [request.sent for request in self._requests.values()]
        if (sent := self.outbound.oldest()) is not None:
            oldest.append(sent)
        if oldest and now - min(oldest) > timeout:
            raise NotConnected(
                f"the broker has not acknowledged a packet for {timeout:g} s; the connection is given up"
            )
        keep_alive = self.limits.keep_alive
        if not keep_alive:
            return
        if self._pinged is not None:
            silence = now - max(self._pinged, self._last_received)
            if silence > min(keep_alive, timeout):
                raise NotConnected(f"the broker has been silent for {silence:.0f} s and answers no ping")
        elif now - self._last_sent >= keep_alive * _PING_AT or now - self._last_received >= keep_alive:
            self._control.append(encode(p.Pingreq(), self._options.version))
            self._pinged = now

    def unheard(self, now: float) -> None:
        """Take note that reading is paused on this side, so that silence says nothing about the broker."""
        self._last_received = now

    def disconnect(self) -> None:
        """Say good-bye; the broker then does not publish the will [MQTT-3.14.4-3]."""
        if self.limits is not None:
            self._control.append(encode(p.Disconnect(), self._options.version))

    def lose(self, error: DeliveryError) -> None:
        """End the connection: everything that waits on it fails with ``error``."""
        self.limits = None
        self._control.clear()
        requests, self._requests = self._requests, {}
        self.outbound.reserved.clear()
        for request in requests.values():
            request.error = error
            request.finish()
        self.outbound.lose(error, keep=not self._options.clean_start)

    # -- what a user asks ---------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[p.Publish], on_done: Callable[[], object] | None = None) -> Batch:
        """Queue messages; ``on_done`` is called once when all are settled. An empty batch is settled already."""
        self._require()
        batch = Batch(messages, on_done)
        if messages:
            self.outbound.add(batch)
        return batch

    def subscribe(
        self, subscriptions: Sequence[p.Subscription], now: float, on_done: Callable[[], object] | None = None
    ) -> Request:
        """Ask for messages. Raises ``Rejected`` for what is no topic filter."""
        self._require()
        try:
            for item in subscriptions:
                check_filter(item.filter, no_local=item.no_local)
            packet_id = self.outbound.next_id()
            raw = encode(p.Subscribe(packet_id, tuple(subscriptions)), self._options.version)
        except ProtocolError as error:
            raise Rejected(f"the subscription cannot be sent: {error}") from None
        return self._request(packet_id, raw, Request(len(subscriptions), on_done, now))

    def unsubscribe(self, filters: Sequence[str], now: float, on_done: Callable[[], object] | None = None) -> Request:
        """End subscriptions."""
        self._require()
        try:
            packet_id = self.outbound.next_id()
            raw = encode(p.Unsubscribe(packet_id, tuple(filters)), self._options.version)
        except ProtocolError as error:
            raise Rejected(f"the end of the subscription cannot be sent: {error}") from None
        return self._request(packet_id, raw, Request(len(filters), on_done, now))

    def _request(self, packet_id: int, raw: bytes, request: Request) -> Request:
        self._requests[packet_id] = request
        self.outbound.reserved.add(packet_id)
        self._control.append(raw)
        return request

    def _require(self) -> None:
        if self.limits is None:
            raise NotConnected("there is no connection to the broker")

    def messages(self) -> list[Received]:
        """Return the messages received since the last call."""
        received, self._received = self._received, []
        return received

    def acknowledge(self, messages: Iterable[Received]) -> None:
        """Tell the broker that these messages are safe."""
        if self.limits is not None:
            self.inbound.acknowledge(messages, self._control)

    # -- what the broker says -----------------------------------------------------------------------------------

    def _on_connack(self, packet: p.Connack, now: float) -> None:
        if self.limits is not None:
            raise ProtocolError(PROTOCOL, "a second CONNACK")
        options, told = self._options, packet.properties
        if packet.reason:
            raise connect_error(packet.reason, options.version, told.reason_string, told.server_reference)
        self.connack = packet
        self.limits = limits_of(packet, options, self.client_id)
        self.client_id = self.limits.client_id
        # 3.1 has no Session Present: whoever asked for the old session may have it
        resumed = packet.session_present or (options.version == 3 and not options.clean_start)
        self.inbound.begin(resumed=resumed and self._opened_before)
        self.outbound.begin(self.limits, self._control, now, resumed=resumed and self._opened_before)
        self._opened_before = True

    def _on_publish(self, packet: p.Publish, _now: float) -> None:
        message = self.inbound.publish(packet, self._control)
        if message is not None:
            self._received.append(message)

    def _on_answer(self, packet: p.Suback | p.Unsuback, _now: float) -> None:
        request = self._requests.pop(packet.packet_id, None)
        if request is None:
            self.outbound.unknown += 1
            return
        self.outbound.reserved.discard(packet.packet_id)
        reasons = packet.reasons or (0,) * request.count  # an UNSUBACK of 3.x has none
        if len(reasons) != request.count:
            request.error = Unavailable(f"the broker answered {request.count} filters with {len(reasons)} reasons")
        request.reasons = reasons
        request.reason_string = packet.properties.reason_string
        request.finish()

    def _on_pingresp(self, _packet: p.Pingresp, _now: float) -> None:
        self._pinged = None

    def _on_disconnect(self, packet: p.Disconnect, _now: float) -> None:
        if self._options.version < 5:
            raise ProtocolError(PROTOCOL, "a broker does not send DISCONNECT before version 5")
        raise closed_error(packet.reason, packet.properties.reason_string, packet.properties.server_reference)

    def _on_auth(self, _packet: p.Auth, _now: float) -> None:
        raise NotConnected("the broker asks for enhanced authentication (AUTH), which is not supported here")
