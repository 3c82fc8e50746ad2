"""Bytes to packets, strictly by the specifications, in time proportional to the input.

Two things are read leniently, because brokers in the field force it: a reason code need not be in the list of its
packet (Mosquitto refuses with PUBACK 149, AWS IoT Core with CONNACK 7), and in version 3.1, whose text leaves them
undefined, the flags of packets other than PUBLISH are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from northbound.mqtt import packets as p
from northbound.mqtt.errors import ProtocolError
from northbound.mqtt.properties import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    MAX_VARINT,
    NONE,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    WILL,
    Properties,
    decode_properties,
    read_binary,
    read_string,
    read_varint,
    text_of,
)
from northbound.mqtt.reasons import (
    FAILURE,
    MALFORMED,
    PACKET_TOO_LARGE,
    PROTOCOL,
    TOPIC_ALIAS_INVALID,
    TOPIC_NAME_INVALID,
    UNSUPPORTED_VERSION,
)

_NAMES: Final = (
    "0",
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "AUTH",
)
_FLAGS: Final = (0, 0, 0, 0, 0, 0, 2, 0, 2, 0, 2, 0, 0, 0, 0, 0)  # table 2-2
_LONGEST_HEADER: Final = 5


class Decoder:
    """Cuts a stream of bytes into packets.

    ``version`` None waits for a CONNECT, as a server does, and then speaks its version. A packet of more than
    ``max_packet_size`` bytes, its header included, is refused as soon as the header is read, so no more than that
    is ever held. After ``feed`` has raised, the decoder is of no more use.
    """

    __slots__ = ("_buffer", "_need", "max_packet_size", "version")

    def __init__(self, version: int | None = None, max_packet_size: int = MAX_VARINT + _LONGEST_HEADER) -> None:
        self.version = version
        self.max_packet_size = max_packet_size
        self._buffer = bytearray()
        self._need = 0

    @property
    def pending(self) -> int:
        """The number of bytes held of a packet that is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[p.Packet]:
        """Return the packets that ``data`` completes.

        Raises ``ProtocolError``; its ``packets`` are those before the offence.
        """
        if self._buffer:
            # copied once per packet, not once per piece: a packet that arrives byte by byte costs no more
            self._buffer += data
            if len(self._buffer) < self._need:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        out: list[p.Packet] = []
        try:
            at = self._cut(data, out)
        except ProtocolError as error:
            error.packets = out
            raise
        if at < len(data):
            self._buffer += data[at:] if at else data
        return out

    def _cut(self, data: bytes, out: list[p.Packet]) -> int:
        """Append the packets of ``data`` to ``out``; return where the first incomplete one begins."""
        at, total, append = 0, len(data), out.append
        self._need = 2
        # the longest PUBACK without properties; most of what a busy sender receives takes this way
        most = 0 if self.version is None or self.max_packet_size < 5 else 2 + (self.version == 5)
        while total - at >= 2:
            first, remaining = data[at], data[at + 1]
            if first == 0x40 and 2 <= remaining <= most and total - at >= 2 + remaining:
                packet_id = data[at + 2] << 8 | data[at + 3]
                if not packet_id:
                    _packet_id(data, at + 2)
                append(p.Puback(packet_id) if remaining == 2 else p.Puback(packet_id, data[at + 4]))
                at += 2 + remaining
                continue
            start = at + 2
            if remaining > 127:
                start = self._long_header(data, at)
                if not start:
                    self._need = total - at + 1
                    return at
                remaining, shift = remaining & 127, 7
                for byte in data[at + 2 : start]:
                    remaining |= (byte & 127) << shift
                    shift += 7
            size = start - at + remaining
            if size > self.max_packet_size:
                raise ProtocolError(
                    PACKET_TOO_LARGE,
                    f"a {_NAMES[first >> 4]} of {size} bytes; at most {self.max_packet_size} are accepted",
                )
            if total - at < size:
                self._check_first(first)
                self._need = size
                return at
            at += size
            append(self._packet(first, data, start, at))
        return at

    def _long_header(self, data: bytes, at: int) -> int:
        """Return the index after a remaining length of several bytes, 0 if it has not arrived."""
        for index in range(at + 2, min(at + _LONGEST_HEADER, len(data))):
            if data[index] < 128:
                if data[index] == 0 and self.version == 5:  # [MQTT-1.5.5-1]
                    raise ProtocolError(MALFORMED, "a remaining length is longer than it needs to be")
                return index + 1
        if len(data) - at >= _LONGEST_HEADER:
            raise ProtocolError(MALFORMED, "a remaining length has more than four bytes")
        return 0

    def _check_first(self, first: int) -> None:
        """Refuse by the first byte what need not be waited for."""
        kind, flags, version = first >> 4, first & 15, self.version
        if version is None:
            if first != CONNECT << 4:
                raise ProtocolError(PROTOCOL, "the first packet is not a CONNECT")  # [MQTT-3.1.0-1]
        elif kind == 0 or (kind == AUTH and version < 5):
            raise ProtocolError(MALFORMED, f"there is no packet type {kind}")
        elif kind == PUBLISH:
            if flags & 6 == 6:  # [MQTT-3.3.1-4]
                raise ProtocolError(MALFORMED, "a PUBLISH with QoS 3")
            if flags & 14 == 8 and version > 3:  # [MQTT-3.3.1-2]
                raise ProtocolError(MALFORMED, "a PUBLISH with DUP at QoS 0")
        elif flags != _FLAGS[kind] and version > 3:  # [MQTT-2.1.3-1]
            raise ProtocolError(MALFORMED, f"a {_NAMES[kind]} with the reserved flags {flags}")

    def _packet(self, first: int, data: bytes, start: int, end: int) -> p.Packet:
        self._check_first(first)
        version, kind = self.version, first >> 4
        try:
            if version is None:
                packet = _connect(data[start:end])
                self.version = packet.version
                return packet
            if kind == PUBLISH:
                return _publish(first, data, start, end, version)
            body = data[start:end]
            return _DECODERS[kind](body, version)
        except IndexError:
            raise ProtocolError(MALFORMED, f"a {_NAMES[kind]} is shorter than its fields") from None


def _packet_id(data: bytes, at: int) -> int:
    packet_id = data[at] << 8 | data[at + 1]
    if not packet_id:  # [MQTT-2.2.1-3]
        raise ProtocolError(PROTOCOL, "a packet identifier of 0")
    return packet_id


def _end(data: bytes, at: int, kind: int) -> None:
    if at != len(data):
        raise ProtocolError(MALFORMED, f"a {_NAMES[kind]} has {len(data) - at} bytes too many")


def _topic(text: str) -> str:
    if "+" in text or "#" in text:  # [MQTT-3.3.2-2]
        raise ProtocolError(TOPIC_NAME_INVALID, "a topic name holds a wildcard")
    return text


def _publish(first: int, data: bytes, start: int, end: int, version: int) -> p.Publish:
    at = start + 2
    after = at + (data[start] << 8 | data[start + 1])
    qos = first >> 1 & 3
    if after + (2 if qos else 0) > end:
        raise ProtocolError(MALFORMED, "a PUBLISH is shorter than its fields")
    topic = _topic(text_of(data[at:after]))
    at = after
    packet_id = 0
    if qos:
        packet_id = _packet_id(data, at)
        at += 2
    properties = NONE
    if version == 5:
        if at >= end:
            raise ProtocolError(MALFORMED, "a PUBLISH is shorter than its fields")
        if data[at]:
            length, after = read_varint(data, at)
            if after + length > end:
                raise ProtocolError(MALFORMED, "the properties are longer than their packet")
            properties, _used = decode_properties(data[at : after + length], 0, PUBLISH)
            at = after + length
        else:
            at += 1
    if not topic and properties.topic_alias is None:  # [MQTT-4.7.3-1]
        code = TOPIC_ALIAS_INVALID if version == 5 else TOPIC_NAME_INVALID
        raise ProtocolError(code, "a PUBLISH without a topic")
    return p.Publish(topic, data[at:end], qos, bool(first & 1), bool(first & 8), packet_id, properties)


def _connect(body: bytes) -> p.Connect:
    name, at = read_binary(body, 0)
    version = body[at]
    if (name, version) not in {(b"MQIsdp", 3), (b"MQTT", 4), (b"MQTT", 5)}:
        if name not in {b"MQTT", b"MQIsdp"}:  # [MQTT-3.1.2-1]
            raise ProtocolError(PROTOCOL, "the protocol name is not MQTT")
        raise ProtocolError(UNSUPPORTED_VERSION, f"there is no protocol version {version} of {name.decode()}")
    flags, keep_alive, at = body[at + 1], body[at + 2] << 8 | body[at + 3], at + 4
    will_qos = flags >> 3 & 3
    if flags & 1 and version > 3:  # [MQTT-3.1.2-3]
        raise ProtocolError(MALFORMED, "a CONNECT with the reserved flag set")
    if will_qos == 3 or (not flags & 4 and flags & 0x38):  # [MQTT-3.1.2-11] to [MQTT-3.1.2-14]
        raise ProtocolError(MALFORMED, "a CONNECT whose will flags contradict each other")
    if flags & 0xC0 == 0x40 and version < 5:  # [MQTT-3.1.2-22]
        raise ProtocolError(MALFORMED, "a CONNECT with a password and no user name")
    properties, will_properties, will, username, password = NONE, NONE, None, None, None
    if version == 5:
        properties, at = decode_properties(body, at, CONNECT)
        _check_authentication(properties)
    client_id, at = read_string(body, at)
    if flags & 4:
        if version == 5:
            will_properties, at = decode_properties(body, at, WILL)
        topic, at = read_string(body, at)
        payload, at = read_binary(body, at)
        if not topic:
            raise ProtocolError(TOPIC_NAME_INVALID, "a will without a topic")
        will = p.Will(_topic(topic), payload, will_qos, bool(flags & 0x20), will_properties)
    if flags & 0x80:
        username, at = read_string(body, at)
    if flags & 0x40:
        password, at = read_binary(body, at)
    _end(body, at, CONNECT)
    return p.Connect(
        client_id=client_id,
        version=version,
        clean_start=bool(flags & 2),
        keep_alive=keep_alive,
        username=username,
        password=password,
        will=will,
        properties=properties,
    )


def _check_authentication(properties: Properties) -> None:
    if properties.authentication_data is not None and properties.authentication_method is None:  # section 3.1.2.11.10
        raise ProtocolError(PROTOCOL, "authentication data without a method")


def _second_connect(body: bytes, _version: int) -> p.Connect:
    return _connect(body)


def _connack(body: bytes, version: int) -> p.Connack:
    flags, reason = body[0], body[1]
    if version == 3:  # the byte is reserved there, and means nothing
        flags = 0
    elif flags > 1:  # [MQTT-3.2.2-1]
        raise ProtocolError(MALFORMED, "a CONNACK with reserved flags")
    if flags and reason:  # [MQTT-3.2.2-6]
        raise ProtocolError(PROTOCOL, "a CONNACK that refuses and yet has a session")
    properties, at = NONE, 2
    if version == 5:
        if body == b"\0\1":  # how a broker of 3.x refuses version 5: in its own words
            return p.Connack(UNSUPPORTED_VERSION)
        properties, at = decode_properties(body, 2, CONNACK)
        _check_authentication(properties)
    _end(body, at, CONNACK)
    return p.Connack(reason, bool(flags), properties)


def _acknowledgement(kind: int, make: Callable[[int, int, Properties], p.Packet]) -> Callable[[bytes, int], p.Packet]:
    def decode_ack(body: bytes, version: int) -> p.Packet:
        packet_id = _packet_id(body, 0)
        if len(body) == 2:
            return make(packet_id, 0, NONE)
        if version < 5:
            _end(body, 2, kind)
        properties, at = (NONE, 3) if len(body) == 3 else decode_properties(body, 3, kind)
        _end(body, at, kind)
        return make(packet_id, body[2], properties)

    return decode_ack


def _subscribe(body: bytes, version: int) -> p.Subscribe:
    packet_id, at, properties = _packet_id(body, 0), 2, NONE
    if version == 5:
        properties, at = decode_properties(body, 2, SUBSCRIBE)
    items = []
    while at < len(body):
        text, at = read_string(body, at)
        options = body[at]
        at += 1
        if version == 3:  # the upper bits are not used there
            options &= 3
        no_local, handling = bool(options & 4), options >> 4 & 3
        if options & 3 == 3 or handling == 3 or options & (0xC0 if version == 5 else 0xFC):  # [MQTT-3.8.3-5]
            raise ProtocolError(MALFORMED, f"a subscription with the options {options:#04x}")
        if not text:  # [MQTT-4.7.3-1]
            raise ProtocolError(MALFORMED, "a subscription with an empty topic filter")
        if no_local and text.startswith("$share/"):  # [MQTT-3.8.3-4]
            raise ProtocolError(PROTOCOL, "a shared subscription cannot be no_local")
        items.append(p.Subscription(text, options & 3, no_local, bool(options & 8), handling))
    if not items:  # [MQTT-3.8.3-2]
        raise ProtocolError(PROTOCOL, "a SUBSCRIBE without a topic filter")
    return p.Subscribe(packet_id, tuple(items), properties)


def _reasons(body: bytes, at: int, kind: int, success: int) -> tuple[int, ...]:
    codes = tuple(body[at:])
    if not codes:
        raise ProtocolError(PROTOCOL, f"a {_NAMES[kind]} without a reason")
    if any(success < code < FAILURE for code in codes):  # [MQTT-3.9.3-2]
        raise ProtocolError(MALFORMED, f"a {_NAMES[kind]} with a reserved reason")
    return codes


def _suback(body: bytes, version: int) -> p.Suback:
    packet_id, at, properties = _packet_id(body, 0), 2, NONE
    if version == 5:
        properties, at = decode_properties(body, 2, SUBACK)
    return p.Suback(packet_id, _reasons(body, at, SUBACK, 2), properties)


def _unsubscribe(body: bytes, version: int) -> p.Unsubscribe:
    packet_id, at, properties = _packet_id(body, 0), 2, NONE
    if version == 5:
        properties, at = decode_properties(body, 2, UNSUBSCRIBE)
    filters = []
    while at < len(body):
        text, at = read_string(body, at)
        if not text:
            raise ProtocolError(MALFORMED, "an UNSUBSCRIBE with an empty topic filter")
        filters.append(text)
    if not filters:  # [MQTT-3.10.3-2]
        raise ProtocolError(PROTOCOL, "an UNSUBSCRIBE without a topic filter")
    return p.Unsubscribe(packet_id, tuple(filters), properties)


def _unsuback(body: bytes, version: int) -> p.Unsuback:
    packet_id = _packet_id(body, 0)
    if version < 5:
        _end(body, 2, UNSUBACK)
        return p.Unsuback(packet_id)
    properties, at = decode_properties(body, 2, UNSUBACK)
    return p.Unsuback(packet_id, _reasons(body, at, UNSUBACK, 17), properties)


def _pingreq(body: bytes, _version: int) -> p.Pingreq:
    _end(body, 0, 12)
    return p.Pingreq()


def _pingresp(body: bytes, _version: int) -> p.Pingresp:
    _end(body, 0, 13)
    return p.Pingresp()


def _disconnect(body: bytes, version: int) -> p.Disconnect:
    if version < 5:
        _end(body, 0, DISCONNECT)
    if not body:
        return p.Disconnect()
    properties, at = (NONE, 1) if len(body) == 1 else decode_properties(body, 1, DISCONNECT)
    _end(body, at, DISCONNECT)
    return p.Disconnect(body[0], properties)


def _auth(body: bytes, _version: int) -> p.Auth:
    if not body:
        return p.Auth()
    if body[0] not in {0, 24, 25}:  # [MQTT-3.15.2-1]
        raise ProtocolError(MALFORMED, f"an AUTH with the reason {body[0]}")
    properties, at = decode_properties(body, 1, AUTH)
    _end(body, at, AUTH)
    _check_authentication(properties)
    return p.Auth(body[0], properties)


_DECODERS: Final[dict[int, Callable[[bytes, int], p.Packet]]] = {
    1: _second_connect,
    2: _connack,
    4: _acknowledgement(4, p.Puback),
    5: _acknowledgement(5, p.Pubrec),
    6: _acknowledgement(6, p.Pubrel),
    7: _acknowledgement(7, p.Pubcomp),
    8: _subscribe,
    9: _suback,
    10: _unsubscribe,
    11: _unsuback,
    12: _pingreq,
    13: _pingresp,
    14: _disconnect,
    15: _auth,
}
