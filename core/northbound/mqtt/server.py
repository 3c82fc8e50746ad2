"""A server's side of one connection without sockets and clocks: bytes and the time go in, bytes and events come out.

Two phases. Until its owner has accepted a CONNECT, a client may send a few kilobytes and has a few seconds, since
nobody knows yet who it is. After that it may do what MQTT allows. The events are what the owner must decide: who may
come in, who hears a message, which filters are granted. Everything else (acknowledgements, aliases, keep-alive, what
breaks the protocol) is done here; when that ends the connection, ``ended`` says so. What outlives the connection,
``Inbound`` and the source of messages, is handed over in :meth:`ServerSession.accept`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import msgspec
from msgspec.structs import replace

from northbound.mqtt import packets as p
from northbound.mqtt.decoder import Decoder
from northbound.mqtt.deliveries import Deliveries
from northbound.mqtt.encoder import encode
from northbound.mqtt.errors import ProtocolError
from northbound.mqtt.inbound import Inbound, Received
from northbound.mqtt.properties import MAX_VARINT, NONE, Properties
from northbound.mqtt.reasons import (
    BAD_AUTHENTICATION_METHOD,
    KEEP_ALIVE_TIMEOUT,
    PACKET_TOO_LARGE,
    PROTOCOL,
    UNSPECIFIED,
    UNSUPPORTED_VERSION,
    return_code,
)

_NO_BOUND: Final = MAX_VARINT + 5
_SIGN_OF_LIFE: Final = 4096  # bytes of a packet that is not complete: a large one takes its time on a slow line
_PINGRESP: Final = encode(p.Pingresp(), 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What a server allows one client. Times are seconds, sizes bytes.

    Before CONNECT is accepted a client may send ``connect_bytes`` (user name and password may each be a token of
    several kilobytes) within ``connect_timeout``. ``maximum_keep_alive`` is imposed on clients of version 5 that ask
    for a longer one, or none; None leaves it to them.
    """

    connect_timeout: float = 5.0
    connect_bytes: int = 16 * 1024
    maximum_packet_size: int = 256 * 1024
    receive_maximum: int = 100
    topic_alias_maximum: int = 64
    max_inflight: int = 1000
    maximum_keep_alive: int | None = None


_Answer: TypeAlias = p.Connack | p.Suback | p.Unsuback | p.Disconnect


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The connection is over, whoever ended it. ``code`` and ``words`` say why.

    ``will`` says that the will is due (section 3.1.2.5); ``session_expiry`` is the client's change of mind, if any.
    """

    code: int
    words: str
    will: bool = True
    session_expiry: int | None = None


Event: TypeAlias = p.Connect | Received | p.Subscribe | p.Unsubscribe


class Source(Protocol):
    """Where the messages for the client come from."""

    deliveries: Deliveries

    def write(self, out: list[bytes], now: float, room: int) -> None:
        """Append whole packets, of about ``room`` bytes at most."""
        ...


class ServerSession:
    """See the module. ``connect`` is the client's CONNECT once it came, ``accepted`` says that the owner let it in.

    Once ``ended`` is set, whoever ended it, the owner writes what ``output`` still holds and closes the transport.
    """

    __slots__ = (
        "_control",
        "_decoder",
        "_events",
        "_expiry_asked",
        "_grown",
        "_head",
        "_held",
        "_inbound",
        "_largest",
        "_last_received",
        "_options",
        "_pending",
        "_received",
        "_source",
        "_started",
        "accepted",
        "connect",
        "ended",
        "keep_alive",
        "pings",
    )

    def __init__(self, options: ServerOptions, now: float) -> None:
        self._options = options
        self._decoder = Decoder(None, options.connect_bytes)
        self._control: list[bytes] = []  # goes out before any message
        self._pending = 0  # bytes of it
        self._held: list[p.Packet] = []  # came behind the CONNECT, before it was answered; or while there is no room
        self._events: list[Event] = []
        self._head = b""  # the first bytes, which tell the version of a CONNECT that is refused
        self._received = 0
        self._grown = 0  # how much there is of a packet that is not complete
        self._started = self._last_received = now
        self._inbound: Inbound | None = None
        self._source: Source | None = None
        self._largest = _NO_BOUND
        self._expiry_asked = 0
        self.connect: p.Connect | None = None
        self.accepted = False
        self.ended: Ended | None = None
        self.keep_alive = 0.0
        self.pings = 0

    @property
    def version(self) -> int:
        """3, 4 or 5; 4 while it is not known."""
        return self.connect.version if self.connect is not None else 4

    @property
    def pending(self) -> int:
        """Bytes of answers that wait to be written: an owner reads no more while there are many."""
        return self._pending

    @property
    def holds(self) -> bool:
        """Whether packets wait for answers to those before them: an owner reads no more until they are taken."""
        return bool(self._held) and self.accepted and self.ended is None

    @property
    def tells_problems(self) -> bool:
        """Whether the client wants reason strings [MQTT-3.1.2-29]."""
        connect = self.connect
        return (
            connect is not None and connect.version == 5 and connect.properties.request_problem_information is not False
        )

    # -- what arrives -------------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Take bytes from the client and return what they mean. Nothing is raised: an offence ends the connection.

        Once the owner has dealt with that, it asks for :meth:`more`.
        """
        if self.ended is not None:
            return []
        if not self.accepted:
            self._count(data)
        try:
            if self.ended is None:
                try:
                    packets = self._decoder.feed(data)
                    grown = self._decoder.pending // _SIGN_OF_LIFE
                    if packets or grown > self._grown:  # what is no packet yet is no sign of life [MQTT-3.1.2-22]
                        self._last_received = now
                    self._grown = grown
                    self._take(packets, now)
                except ProtocolError as error:
                    self._take(error.packets, now)
                    raise
        except ProtocolError as error:
            self._offend(error)
        return self._taken()

    def more(self, now: float) -> list[Event]:
        """Return what was left because too many messages were under way, as far as answers have made room.

        A client of version 5 knows how many may be: what it sent beyond is an offence where there still is no room.
        The others are never told, so theirs waits, and what comes behind it.
        """
        held, inbound = self._held, self._inbound
        if not held or inbound is None or self.ended is not None:
            return []
        first = held[0]
        if self.version < 5 and type(first) is p.Publish and not inbound.has_room(first):
            return []
        self._held = []
        left = iter(held)
        try:
            self._handle(next(left), now)
            self._take(left, now)
        except ProtocolError as error:
            self._offend(error)
        return self._taken()

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events

    def _count(self, data: bytes) -> None:
        self._received += len(data)
        if len(self._head) < 12:
            self._head += bytes(data[:12])
        if self._received > self._options.connect_bytes:
            self._offend(
                ProtocolError(
                    PACKET_TOO_LARGE, f"more than {self._options.connect_bytes} bytes before the connection is accepted"
                )
            )

    def _take(self, packets: Iterable[p.Packet], now: float) -> None:
        if self._held:
            self._held += packets
            return
        left, inbound = iter(packets), self._inbound
        for packet in left:
            if type(packet) is p.Puback and self.accepted and self._source is not None and self.ended is None:
                self._source.deliveries.puback(packet)  # by far the most frequent
                continue
            if self.ended is not None:  # what comes behind a DISCONNECT is nobody's
                return
            if self.connect is None:
                self._on_connect(packet)
            elif inbound is None or (type(packet) is p.Publish and not inbound.has_room(packet)):
                self._held = [packet, *left]
            else:
                self._handle(packet, now)

    def _on_connect(self, packet: p.Packet) -> None:
        if type(packet) is not p.Connect:  # [MQTT-3.1.0-1]
            raise ProtocolError(PROTOCOL, "the first packet is not a CONNECT")
        self.connect = packet
        self._largest = packet.properties.maximum_packet_size or _NO_BOUND
        if packet.properties.authentication_method is not None:
            self.refuse(BAD_AUTHENTICATION_METHOD, "enhanced authentication is not supported")
            return
        self._events.append(packet)

    def _handle(self, packet: p.Packet, now: float) -> None:
        source, inbound = self._source, self._inbound
        assert source is not None  # noqa: S101 - both were handed over when the connection was accepted
        assert inbound is not None  # noqa: S101
        match packet:
            case p.Publish():
                if packet.properties.subscription_ids:  # [MQTT-3.3.4-6]
                    raise ProtocolError(PROTOCOL, "a client sends no subscription identifier with a message")
                received = inbound.publish(packet, self._control)
                if received is not None:
                    self._events.append(received)
            case p.Pubrec():
                source.deliveries.pubrec(packet, self._control, now)
            case p.Pubrel():
                inbound.pubrel(packet, self._control)
            case p.Pubcomp():
                source.deliveries.pubcomp(packet)
            case p.Pingreq():
                self.pings += 1
                self._write(_PINGRESP)
            case p.Subscribe() | p.Unsubscribe():
                self._events.append(packet)
            case p.Disconnect():
                self._on_disconnect(packet)
            case p.Connect():  # [MQTT-3.1.0-2]
                raise ProtocolError(PROTOCOL, "a second CONNECT")
            case _:
                raise ProtocolError(PROTOCOL, f"a client does not send {type(packet).__name__.upper()}")

    def _on_disconnect(self, packet: p.Disconnect) -> None:
        expiry = packet.properties.session_expiry
        if expiry and not self._expiry_asked:  # section 3.14.2.2.2
            raise ProtocolError(PROTOCOL, "a session expiry at the end where there was none at the start")
        # only "normal" discards the will [MQTT-3.14.4-3]
        self._end(Ended(packet.reason, "the client said good-bye", packet.reason != 0, expiry))

    # -- what the owner decides ---------------------------------------------------------------------------------

    def accept(
        self, inbound: Inbound, source: Source, properties: Properties, now: float, *, session_present: bool
    ) -> list[Event]:
        """Let the client in. ``properties`` are the owner's part of CONNACK; return what came in the meantime.

        ``inbound`` and the source's deliveries are begun here, in the client's version and within its bounds.
        """
        connect, options = self.connect, self._options
        if connect is None or self.ended is not None:
            return []
        self.accepted = True
        self._inbound, self._source = inbound, source
        asked = connect.properties
        keep_alive, imposed = connect.keep_alive, options.maximum_keep_alive
        if connect.version == 5:
            if imposed is not None and not 0 < keep_alive <= imposed:
                keep_alive = imposed
            properties = replace(
                properties,
                receive_maximum=options.receive_maximum,
                maximum_packet_size=options.maximum_packet_size,
                topic_alias_maximum=options.topic_alias_maximum or None,
                server_keep_alive=keep_alive if keep_alive != connect.keep_alive else None,
            )
        self.keep_alive = keep_alive * 1.5  # [MQTT-3.1.2-22]
        self._expiry_asked = asked.session_expiry or 0
        self._say(p.Connack(0, session_present, properties))
        inbound.speak(connect.version, options.topic_alias_maximum)
        inbound.begin(resumed=session_present)
        source.deliveries.begin(
            connect.version,
            min(options.max_inflight, asked.receive_maximum or 65_535),
            asked.maximum_packet_size,
            min(asked.topic_alias_maximum or 0, options.topic_alias_maximum),
            self._control,
            resumed=session_present,
        )
        self._decoder.max_packet_size = options.maximum_packet_size
        self._last_received = now
        early, self._held = self._held, []
        try:
            self._take(early, now)
        except ProtocolError as error:
            self._offend(error)
        return self._taken()

    def refuse(self, code: int, words: str) -> None:
        """Do not let the client in: CONNACK says why, and the connection is over [MQTT-3.2.2-7]."""
        if self.ended is not None or self.accepted:
            return
        self._refuse(self.version, code, words)
        self._end(Ended(code, words, will=False))

    def _refuse(self, version: int, code: int, words: str) -> None:
        if version == 5:
            self._say(p.Connack(code, properties=Properties(reason_string=words)), 5)
        else:
            self._say(p.Connack(return_code(code)), 4)

    def answer(self, message: Received, reason: int, words: str | None = None) -> None:
        """Acknowledge a message, with a reason of version 5; QoS 0 needs no answer.

        Words that make the answer larger than the client takes are left out [MQTT-3.4.2-2], [MQTT-3.5.2-2].
        """
        if self._inbound is None or self.ended is not None:
            return
        properties = NONE
        if words and self.tells_problems:
            told = Properties(reason_string=words)
            if len(encode(p.Puback(1, reason, told), 5)) <= self._largest:  # a PUBREC is as long
                properties = told
        before = len(self._control)
        self._inbound.answer(message, reason, properties, self._control)
        for index in range(before, len(self._control)):
            self._pending += len(self._control[index])

    def suback(self, packet: p.Subscribe, reasons: Sequence[int], words: str | None = None) -> None:
        """Answer a SUBSCRIBE, one reason a filter."""
        properties = Properties(reason_string=words) if words and self.tells_problems else NONE
        self._say(p.Suback(packet.packet_id, tuple(reasons), properties))

    def unsuback(self, packet: p.Unsubscribe, reasons: Sequence[int]) -> None:
        """Answer an UNSUBSCRIBE."""
        self._say(p.Unsuback(packet.packet_id, tuple(reasons)))

    def disconnect(self, code: int, words: str, *, will: bool = True) -> None:
        """End the connection; version 5 hears why."""
        if self.ended is not None:
            return
        if not self.accepted:
            self.refuse(code, words)
            return
        if self.version == 5:
            self._say(p.Disconnect(code, Properties(reason_string=words)))
        self._end(Ended(code, words, will))

    def lose(self, words: str) -> None:
        """Take note that the transport is gone."""
        if self.ended is None:
            self._end(Ended(UNSPECIFIED, words, will=self.accepted))

    # -- time, and what goes out --------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """End a connection that says nothing: before CONNECT, or for one and a half keep-alives [MQTT-3.1.2-22]."""
        if self.ended is not None:
            return
        if self.holds:
            self.unheard(now)
        if not self.accepted:
            if now - self._started > self._options.connect_timeout and self.connect is None:
                self._end(Ended(UNSPECIFIED, "no CONNECT came in time", will=False))
        elif self.keep_alive and now - self._last_received > self.keep_alive:
            self.disconnect(KEEP_ALIVE_TIMEOUT, "nothing came within one and a half keep-alive intervals")

    def unheard(self, now: float) -> None:
        """Take note that reading is paused on this side, so that silence says nothing about the client."""
        self._last_received = now

    def output(self, now: float, room: int) -> list[bytes]:
        """Return pieces of whole packets to write now, of messages about ``room`` bytes at most."""
        out, self._control = self._control, []
        self._pending = 0
        if self._source is not None and self.ended is None:
            self._source.write(out, now, room)
        return out

    def _say(self, packet: _Answer, version: int | None = None) -> None:
        """Write an answer; words that make it larger than the client takes are left out [MQTT-3.2.2-19]."""
        raw = encode(packet, version or self.version)
        if len(raw) > self._largest:
            raw = encode(replace(packet, properties=_wordless(packet.properties)), version or self.version)
        self._write(raw)

    def _write(self, raw: bytes) -> None:
        self._control.append(raw)
        self._pending += len(raw)

    def _offend(self, error: ProtocolError) -> None:
        if self.ended is not None:
            return
        words = str(error)
        if self.accepted:
            self.disconnect(error.code, words)
            return
        if self.connect is not None or _level(self._head) >= 5:
            self._refuse(5 if self.connect is None else self.version, error.code, words)  # allowed by section 4.13
        elif error.code == UNSUPPORTED_VERSION:
            self._refuse(4, error.code, words)  # [MQTT-3.1.2-2] of 3.1.1
        self._end(Ended(error.code, words, will=False))

    def _end(self, ended: Ended) -> None:
        self.ended = ended
        self._held.clear()


def _level(head: bytes) -> int:
    """Return the protocol level that a CONNECT claims, 0 where it claims none."""
    at = 1
    while at < 5 and at < len(head) and head[at] > 127:
        at += 1
    named = head[:1] == b"\x10" and head[at + 1 : at + 7] == b"\0\4MQTT" and len(head) > at + 7
    return head[at + 7] if named else 0


def _wordless(properties: Properties) -> Properties:
    return replace(properties, reason_string=None, user=())
