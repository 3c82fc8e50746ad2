"""The properties of MQTT 5 (section 2.2.2): one table says identifier, type and where each may stand."""

from __future__ import annotations

from struct import Struct as Layout
from typing import Any, Final

import msgspec

from northbound.mqtt.errors import ProtocolError
from northbound.mqtt.reasons import MALFORMED, PROTOCOL

U16: Final = Layout(">H")
U32: Final = Layout(">I")
MAX_VARINT: Final = 268_435_455  # section 1.5.5
MAX_STRING: Final = 65_535  # section 1.5.4

# packet types (section 2.1.2); a will is no packet but has properties of its own
CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 1, 2, 3, 4, 5, 6, 7
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH, WILL = 8, 9, 10, 11, 12, 13, 14, 15, 16


class Properties(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Every property of MQTT 5; None is absent. Intervals are seconds, sizes are bytes."""

    payload_format: int | None = None
    message_expiry: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_ids: tuple[int, ...] = ()
    session_expiry: int | None = None
    assigned_client_id: str | None = None
    server_keep_alive: int | None = None
    authentication_method: str | None = None
    authentication_data: bytes | None = None
    request_problem_information: bool | None = None
    will_delay: int | None = None
    request_response_information: bool | None = None
    response_information: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: bool | None = None
    user: tuple[tuple[str, str], ...] = ()
    maximum_packet_size: int | None = None
    wildcard_subscription_available: bool | None = None
    subscription_ids_available: bool | None = None
    shared_subscription_available: bool | None = None


NONE: Final = Properties()

_ACKS = (PUBACK, PUBREC, PUBREL, PUBCOMP)
_EVERYWHERE = frozenset({CONNECT, CONNACK, PUBLISH, *_ACKS, *range(SUBSCRIBE, UNSUBACK + 1), DISCONNECT, AUTH, WILL})

# identifier, name, kind, packets (table 2-4); "bit" and "flag" are a byte of 0 or 1, kept as int and as bool
_TABLE: Final[tuple[tuple[int, str, str, frozenset[int]], ...]] = (
    (0x01, "payload_format", "bit", frozenset({PUBLISH, WILL})),
    (0x02, "message_expiry", "u32", frozenset({PUBLISH, WILL})),
    (0x03, "content_type", "string", frozenset({PUBLISH, WILL})),
    (0x08, "response_topic", "topic", frozenset({PUBLISH, WILL})),
    (0x09, "correlation_data", "binary", frozenset({PUBLISH, WILL})),
    (0x0B, "subscription_ids", "varints", frozenset({PUBLISH, SUBSCRIBE})),
    (0x11, "session_expiry", "u32", frozenset({CONNECT, CONNACK, DISCONNECT})),
    (0x12, "assigned_client_id", "string", frozenset({CONNACK})),
    (0x13, "server_keep_alive", "u16", frozenset({CONNACK})),
    (0x15, "authentication_method", "string", frozenset({CONNECT, CONNACK, AUTH})),
    (0x16, "authentication_data", "binary", frozenset({CONNECT, CONNACK, AUTH})),
    (0x17, "request_problem_information", "flag", frozenset({CONNECT})),
    (0x18, "will_delay", "u32", frozenset({WILL})),
    (0x19, "request_response_information", "flag", frozenset({CONNECT})),
    (0x1A, "response_information", "string", frozenset({CONNACK})),
    (0x1C, "server_reference", "string", frozenset({CONNACK, DISCONNECT})),
    (0x1F, "reason_string", "string", frozenset({CONNACK, *_ACKS, SUBACK, UNSUBACK, DISCONNECT, AUTH})),
    (0x21, "receive_maximum", "u16+", frozenset({CONNECT, CONNACK})),
    (0x22, "topic_alias_maximum", "u16", frozenset({CONNECT, CONNACK})),
    (0x23, "topic_alias", "u16+", frozenset({PUBLISH})),
    (0x24, "maximum_qos", "bit", frozenset({CONNACK})),
    (0x25, "retain_available", "flag", frozenset({CONNACK})),
    (0x26, "user", "pairs", _EVERYWHERE),
    (0x27, "maximum_packet_size", "u32+", frozenset({CONNECT, CONNACK})),
    (0x28, "wildcard_subscription_available", "flag", frozenset({CONNACK})),
    (0x29, "subscription_ids_available", "flag", frozenset({CONNACK})),
    (0x2A, "shared_subscription_available", "flag", frozenset({CONNACK})),
)
_BY_ID: Final = {identifier: (name, kind, where) for identifier, name, kind, where in _TABLE}


def varint(value: int) -> bytes:
    """Return a variable byte integer (section 1.5.5)."""
    if value < 128:
        return bytes((value,))
    if value > MAX_VARINT:
        raise ProtocolError(MALFORMED, f"{value} is more than a variable byte integer can hold ({MAX_VARINT})")
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the value and the index after it; the encoding must be the shortest [MQTT-1.5.5-1]."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift:
                raise ProtocolError(MALFORMED, "a variable byte integer is longer than it needs to be")
            return value, at
        shift += 7
        if shift > 21:
            raise ProtocolError(MALFORMED, "a variable byte integer has more than four bytes")


def string(text: str) -> bytes:
    """Return a UTF-8 string with its length in front (section 1.5.4)."""
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise ProtocolError(MALFORMED, "a text holds a surrogate, which MQTT forbids") from None
    if len(raw) > MAX_STRING:
        raise ProtocolError(MALFORMED, f"a text has {len(raw)} bytes; MQTT allows {MAX_STRING}")
    if "\0" in text:
        raise ProtocolError(MALFORMED, "a text holds U+0000, which MQTT forbids")
    return U16.pack(len(raw)) + raw


def binary(raw: bytes) -> bytes:
    """Return binary data with its length in front (section 1.5.6)."""
    if len(raw) > MAX_STRING:
        raise ProtocolError(MALFORMED, f"binary data has {len(raw)} bytes; MQTT allows {MAX_STRING}")
    return U16.pack(len(raw)) + raw


def read_binary(data: bytes, at: int) -> tuple[bytes, int]:
    """Return length-prefixed bytes and the index after them."""
    start = at + 2
    end = start + (data[at] << 8 | data[at + 1])
    if end > len(data):
        raise ProtocolError(MALFORMED, "a text or binary field is longer than its packet")
    return data[start:end], end


def read_string(data: bytes, at: int) -> tuple[str, int]:
    """Return a UTF-8 string and the index after it; surrogates and U+0000 are refused [MQTT-1.5.4-1, -2]."""
    raw, at = read_binary(data, at)
    return text_of(raw), at


def text_of(raw: bytes) -> str:
    """Return the text of UTF-8 bytes as MQTT restricts it."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise ProtocolError(MALFORMED, "a text is not UTF-8") from None
    if "\0" in text:
        raise ProtocolError(MALFORMED, "a text holds U+0000, which MQTT forbids")
    return text


def _uint(name: str, value: int, bits: int, least: int = 0) -> int:
    if not least <= value < 1 << bits:
        raise ProtocolError(PROTOCOL, f"the property {name} cannot be {value}")
    return value


def _encode_one(identifier: int, name: str, kind: str, value: Any) -> bytes:
    head = bytes((identifier,))
    if kind == "varints":
        return b"".join([head + varint(_uint(name, item, 28, least=1)) for item in value])
    if kind == "pairs":
        return b"".join([head + string(key) + string(item) for key, item in value])
    match kind:
        case "bit" | "flag":
            raw = bytes((_uint(name, int(value), 1),))
        case "u16" | "u16+":
            raw = U16.pack(_uint(name, value, 16, least=kind == "u16+"))
        case "u32" | "u32+":
            raw = U32.pack(_uint(name, value, 32, least=kind == "u32+"))
        case "binary":
            raw = binary(value)
        case _:
            raw = string(value)
    return head + raw


def encode_properties(properties: Properties, where: int) -> bytes:
    """Return the properties of the packet type ``where`` with their length in front."""
    if properties is NONE:
        return b"\0"
    if where == PUBLISH:
        body = _publish_properties(properties)
        return (bytes((len(body),)) if len(body) < 128 else varint(len(body))) + body
    parts = []
    for identifier, name, kind, allowed in _TABLE:
        value = getattr(properties, name)
        if value is None or value == ():
            continue
        if where not in allowed:
            raise ProtocolError(PROTOCOL, f"the property {name} has no place in this packet")
        parts.append(_encode_one(identifier, name, kind, value))
    body = b"".join(parts)
    return varint(len(body)) + body


def _publish_properties(properties: Properties) -> bytes:
    """Do the same for PUBLISH, where it is done for every message: no loop over what is rarely there."""
    out = b""
    for key, value in properties.user:
        out += b"\x26" + string(key) + string(value)
    if properties.content_type is not None:
        out += b"\x03" + string(properties.content_type)
    if properties.topic_alias is not None:
        out += b"\x23" + U16.pack(_uint("topic_alias", properties.topic_alias, 16, least=1))
    if properties.message_expiry is not None:
        out += b"\x02" + U32.pack(_uint("message_expiry", properties.message_expiry, 32))
    if properties.payload_format is not None:
        out += b"\x01" + bytes((_uint("payload_format", properties.payload_format, 1),))
    if properties.response_topic is not None:
        out += b"\x08" + string(properties.response_topic)
    if properties.correlation_data is not None:
        out += b"\x09" + binary(properties.correlation_data)
    for item_id in properties.subscription_ids:
        out += b"\x0b" + varint(_uint("subscription_ids", item_id, 28, least=1))
    return out


def _decode_one(data: bytes, at: int, name: str, kind: str) -> tuple[Any, int]:
    match kind:
        case "string":
            return read_string(data, at)
        case "topic":
            text, at = read_string(data, at)
            if "+" in text or "#" in text:
                raise ProtocolError(PROTOCOL, "the response topic holds a wildcard")  # [MQTT-3.3.2-14]
            return text, at
        case "binary":
            return read_binary(data, at)
        case "bit" | "flag":
            value: int = data[at]
            if value > 1:
                raise ProtocolError(PROTOCOL, f"the property {name} cannot be {value}")
            return (bool(value) if kind == "flag" else value), at + 1
        case "u16" | "u16+":
            value, at = data[at] << 8 | data[at + 1], at + 2
        case "u32" | "u32+":
            value, at = int.from_bytes((data[at], data[at + 1], data[at + 2], data[at + 3]), "big"), at + 4
        case _:
            value, at = read_varint(data, at)
    if value == 0 and kind in {"u16+", "u32+", "varints"}:
        raise ProtocolError(PROTOCOL, f"the property {name} cannot be 0")
    return value, at


def decode_properties(data: bytes, at: int, where: int) -> tuple[Properties, int]:
    """Return the properties at ``at`` of a packet of type ``where``, and the index after them.

    Raises ``ProtocolError`` for an identifier that is unknown, has no place there, or appears twice.
    """
    length, at = read_varint(data, at)
    if not length:
        return NONE, at
    end = at + length
    if end > len(data):
        raise ProtocolError(MALFORMED, "the properties are longer than their packet")
    found: dict[str, Any] = {}
    block = data[:end]
    while at < end:
        identifier, at = read_varint(block, at)
        try:
            name, kind, allowed = _BY_ID[identifier]
        except KeyError:
            raise ProtocolError(MALFORMED, f"there is no property {identifier:#04x}") from None
        if where not in allowed:
            raise ProtocolError(PROTOCOL, f"the property {name} has no place in this packet")
        if kind == "pairs":
            key, at = read_string(block, at)
            text, at = read_string(block, at)
            found.setdefault(name, []).append((key, text))
            continue
        value, at = _decode_one(block, at, name, kind)
        if kind == "varints" and where == PUBLISH:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise ProtocolError(PROTOCOL, f"the property {name} appears twice")
        else:
            found[name] = [value] if kind == "varints" else value
    for name in ("user", "subscription_ids"):
        if name in found:
            found[name] = tuple(found[name])
    return Properties(**found), at
