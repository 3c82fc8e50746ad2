"""Packets to bytes.

PUBLISH is what there is much of, so :func:`publish_head` writes all of it but the payload; a sender collects heads and
payloads in one list and joins them once. Everything else goes through :func:`encode`.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct as Layout
from typing import Any, Final

from northbound.mqtt import packets as p
from northbound.mqtt.errors import ProtocolError
from northbound.mqtt.names import check_name
from northbound.mqtt.properties import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    MAX_STRING,
    MAX_VARINT,
    NONE,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    U16,
    UNSUBACK,
    UNSUBSCRIBE,
    WILL,
    Properties,
    binary,
    encode_properties,
    read_varint,
    string,
    varint,
)
from northbound.mqtt.reasons import (
    FAILURE,
    MALFORMED,
    PACKET_TOO_LARGE,
    PROTOCOL,
    QOS_NOT_SUPPORTED,
    TOPIC_NAME_INVALID,
    UNSUPPORTED_VERSION,
    return_code,
)

_SMALL: Final = Layout(">BBH")  # flags, remaining length, topic length
_MEDIUM: Final = Layout(">BBBH")
_ID_AND_NO_PROPERTIES: Final = Layout(">HB")
_ACK: Final = Layout(">BBH")
_LEVELS: Final = {3: b"\x00\x06MQIsdp\x03", 4: b"\x00\x04MQTT\x04", 5: b"\x00\x04MQTT\x05"}


def publish_head(
    message: p.Publish,
    version: int,
    packet_id: int,
    *,
    duplicate: bool = False,
    alias: int = 0,
    alias_known: bool = False,
) -> bytes:
    """Return a PUBLISH without its payload.

    With ``alias`` the topic travels beside its alias, or, with ``alias_known``, is replaced by it (section 3.3.2.3.4).
    Raises ``ProtocolError`` for a topic, QoS or property MQTT cannot carry.
    """
    topic = message.topic
    if "+" in topic or "#" in topic or "\0" in topic or not (topic or message.properties.topic_alias):
        check_name(topic)
        raise ProtocolError(TOPIC_NAME_INVALID, "the topic holds U+0000, which MQTT forbids")
    try:
        raw = b"" if alias_known else topic.encode()
    except UnicodeEncodeError:
        raise ProtocolError(TOPIC_NAME_INVALID, "the topic holds a surrogate, which MQTT forbids") from None
    size = len(raw)
    if size > MAX_STRING:
        raise ProtocolError(TOPIC_NAME_INVALID, f"the topic has {size} bytes; MQTT allows {MAX_STRING}")
    qos = message.qos
    if version < 5:
        tail = U16.pack(packet_id) if qos else b""
    elif message.properties is NONE and not alias:
        tail = _ID_AND_NO_PROPERTIES.pack(packet_id, 0) if qos else b"\0"
    else:
        properties = encode_properties(message.properties, PUBLISH)
        if alias:
            properties = _with_alias(properties, alias)
        tail = U16.pack(packet_id) + properties if qos else properties
    flags = 0x30 | qos << 1 | message.retain | duplicate << 3
    remaining = 2 + size + len(tail) + len(message.payload)
    if qos not in {0, 1, 2}:
        raise ProtocolError(QOS_NOT_SUPPORTED, f"there is no QoS {qos}")
    if remaining < 128:
        return _SMALL.pack(flags, remaining, size) + raw + tail
    if remaining < 16_384:
        return _MEDIUM.pack(flags, remaining & 127 | 128, remaining >> 7, size) + raw + tail
    if remaining > MAX_VARINT:
        raise ProtocolError(PACKET_TOO_LARGE, f"the message has {remaining} bytes; MQTT allows {MAX_VARINT}")
    return bytes((flags,)) + varint(remaining) + U16.pack(size) + raw + tail


def value_head(topic: str, payload_bytes: int, properties: bytes) -> bytes:
    """Return the same for a retained value, at QoS 0, whose topic is known to be one; at a third of the cost.

    ``properties`` are as they travel: none before version 5.
    """
    raw = topic.encode()
    size = len(raw)
    remaining = 2 + size + len(properties) + payload_bytes
    if remaining < 128:
        return _SMALL.pack(0x31, remaining, size) + raw + properties
    if remaining < 16_384:
        return _MEDIUM.pack(0x31, remaining & 127 | 128, remaining >> 7, size) + raw + properties
    return b"\x31" + varint(remaining) + U16.pack(size) + raw + properties


def _with_alias(properties: bytes, alias: int) -> bytes:
    _length, at = read_varint(properties, 0)
    body = properties[at:] + b"\x23" + U16.pack(alias)
    return varint(len(body)) + body


def encode(packet: p.Packet, version: int) -> bytes:
    """Return the packet as ``version`` (3, 4 or 5) writes it.

    What the version cannot say is left out. Raises ``ProtocolError`` for what no version could.
    """
    return _ENCODERS[type(packet)](packet, version)


def _frame(first: int, body: bytes) -> bytes:
    if len(body) > MAX_VARINT:
        raise ProtocolError(PACKET_TOO_LARGE, f"the packet has {len(body)} bytes; MQTT allows {MAX_VARINT}")
    return bytes((first,)) + varint(len(body)) + body


def _properties(properties: Properties, where: int, version: int) -> bytes:
    return encode_properties(properties, where) if version == 5 else b""


def _id(packet_id: int) -> bytes:
    if not 0 < packet_id < 65_536:
        raise ProtocolError(PROTOCOL, f"a packet identifier cannot be {packet_id}")
    return U16.pack(packet_id)


def _connect(packet: p.Connect, _version: int) -> bytes:
    version, will = packet.version, packet.will
    if version not in _LEVELS:
        raise ProtocolError(UNSUPPORTED_VERSION, f"there is no protocol version {version}")
    if packet.password is not None and packet.username is None and version < 5:  # [MQTT-3.1.2-22]
        raise ProtocolError(PROTOCOL, "a password needs a user name beside it before version 5")
    if not 0 <= packet.keep_alive < 65_536:
        raise ProtocolError(PROTOCOL, f"the keep-alive cannot be {packet.keep_alive} s; MQTT allows 0 to 65535")
    flags = packet.clean_start << 1 | (packet.password is not None) << 6 | (packet.username is not None) << 7
    parts = [string(packet.client_id)]
    if will is not None:
        check_name(will.topic)
        if will.qos not in {0, 1, 2}:
            raise ProtocolError(QOS_NOT_SUPPORTED, f"there is no QoS {will.qos}")
        flags |= 4 | will.qos << 3 | will.retain << 5
        parts += [_properties(will.properties, WILL, version), string(will.topic), binary(will.payload)]
    if packet.username is not None:
        parts.append(string(packet.username))
    if packet.password is not None:
        parts.append(binary(packet.password))
    head = _LEVELS[version] + bytes((flags,)) + U16.pack(packet.keep_alive)
    return _frame(CONNECT << 4, head + _properties(packet.properties, CONNECT, version) + b"".join(parts))


def _connack(packet: p.Connack, version: int) -> bytes:
    reason = packet.reason if version == 5 else return_code(packet.reason)
    present = packet.session_present and version > 3
    if present and reason:  # [MQTT-3.2.2-6]
        raise ProtocolError(PROTOCOL, "a refused connection has no session")
    return _frame(CONNACK << 4, bytes((present, reason)) + _properties(packet.properties, CONNACK, version))


def _publish(packet: p.Publish, version: int) -> bytes:
    if packet.qos:
        _id(packet.packet_id)
    elif packet.packet_id or packet.duplicate:
        raise ProtocolError(PROTOCOL, "QoS 0 has neither packet identifier nor DUP")  # [MQTT-3.3.1-2], [MQTT-2.2.1-2]
    return publish_head(packet, version, packet.packet_id, duplicate=packet.duplicate) + packet.payload


def _acknowledgement(first: int) -> Callable[[Any, int], bytes]:
    def encode_ack(packet: p.Puback | p.Pubrec | p.Pubrel | p.Pubcomp, version: int) -> bytes:
        packet_id, properties = packet.packet_id, packet.properties
        if version < 5 or (not packet.reason and properties is NONE):
            if not 0 < packet_id < 65_536:
                _id(packet_id)
            return _ACK.pack(first, 2, packet_id)
        body = _id(packet_id) + bytes((packet.reason,))
        if properties is not NONE:
            body += encode_properties(properties, first >> 4)
        return _frame(first, body)

    return encode_ack


def _subscribe(packet: p.Subscribe, version: int) -> bytes:
    if not packet.subscriptions:  # [MQTT-3.8.3-2]
        raise ProtocolError(PROTOCOL, "a SUBSCRIBE without a topic filter")
    parts = [_id(packet.packet_id), _properties(packet.properties, SUBSCRIBE, version)]
    for item in packet.subscriptions:
        if not item.filter or item.qos not in {0, 1, 2} or item.retain_handling not in {0, 1, 2}:
            raise ProtocolError(PROTOCOL, "a subscription with an empty filter, a QoS or a retain handling above 2")
        options = item.qos
        if version == 5:
            options |= item.no_local << 2 | item.retain_as_published << 3 | item.retain_handling << 4
        parts += [string(item.filter), bytes((options,))]
    return _frame(SUBSCRIBE << 4 | 2, b"".join(parts))


def _suback(packet: p.Suback, version: int) -> bytes:
    if not packet.reasons:
        raise ProtocolError(PROTOCOL, "a SUBACK without a reason")
    codes = packet.reasons if version == 5 else [min(code, FAILURE) for code in packet.reasons]
    return _frame(SUBACK << 4, _id(packet.packet_id) + _properties(packet.properties, SUBACK, version) + bytes(codes))


def _unsubscribe(packet: p.Unsubscribe, version: int) -> bytes:
    if not packet.filters or not all(packet.filters):  # [MQTT-3.10.3-2]
        raise ProtocolError(PROTOCOL, "an UNSUBSCRIBE without a topic filter")
    head = _id(packet.packet_id) + _properties(packet.properties, UNSUBSCRIBE, version)
    return _frame(UNSUBSCRIBE << 4 | 2, head + b"".join([string(item) for item in packet.filters]))


def _unsuback(packet: p.Unsuback, version: int) -> bytes:
    if version < 5:
        return _frame(UNSUBACK << 4, _id(packet.packet_id))
    if not packet.reasons:
        raise ProtocolError(PROTOCOL, "an UNSUBACK without a reason")
    head = _id(packet.packet_id) + encode_properties(packet.properties, UNSUBACK)
    return _frame(UNSUBACK << 4, head + bytes(packet.reasons))


def _disconnect(packet: p.Disconnect, version: int) -> bytes:
    if version < 5 or (not packet.reason and packet.properties is NONE):
        return b"\xe0\x00"
    body = bytes((packet.reason,))
    if packet.properties is not NONE:
        body += encode_properties(packet.properties, DISCONNECT)
    return _frame(DISCONNECT << 4, body)


def _auth(packet: p.Auth, version: int) -> bytes:
    if version < 5:
        raise ProtocolError(MALFORMED, "AUTH came with version 5")
    return _frame(AUTH << 4, bytes((packet.reason,)) + encode_properties(packet.properties, AUTH))


_ENCODERS: Final[dict[type[Any], Callable[[Any, int], bytes]]] = {
    p.Connect: _connect,
    p.Connack: _connack,
    p.Publish: _publish,
    p.Puback: _acknowledgement(0x40),
    p.Pubrec: _acknowledgement(0x50),
    p.Pubrel: _acknowledgement(0x62),
    p.Pubcomp: _acknowledgement(0x70),
    p.Subscribe: _subscribe,
    p.Suback: _suback,
    p.Unsubscribe: _unsubscribe,
    p.Unsuback: _unsuback,
    p.Pingreq: lambda _packet, _version: b"\xc0\x00",
    p.Pingresp: lambda _packet, _version: b"\xd0\x00",
    p.Disconnect: _disconnect,
    p.Auth: _auth,
}
