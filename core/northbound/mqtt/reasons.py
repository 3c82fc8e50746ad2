"""Reason codes: their names, and the typed error each one means for the sender of a message.

Names are those of MQTT 5 section 2.4; return codes of 3.x CONNACK are in 3.1.1 section 3.2.2.3. Brokers use codes
outside the list of the packet at hand (Mosquitto refuses a large message with PUBACK 149), so nothing here depends
on the packet a code came in.
"""

from __future__ import annotations

from northbound.errors import DeliveryError, NotConnected, Rejected, Unavailable
from northbound.mqtt.errors import ConnectRefused, CredentialsRefused, VersionRefused

SUCCESS = 0
DISCONNECT_WITH_WILL = 4
NO_MATCHING_SUBSCRIBERS = 16
NO_SUBSCRIPTION_EXISTED = 17
FAILURE = 128  # the first code that means failure
UNSPECIFIED = 128
MALFORMED = 129
PROTOCOL = 130
IMPLEMENTATION_SPECIFIC = 131
UNSUPPORTED_VERSION = 132
CLIENT_ID_NOT_VALID = 133
BAD_USER_NAME_OR_PASSWORD = 134
NOT_AUTHORISED = 135
SERVER_UNAVAILABLE = 136
SERVER_BUSY = 137
BANNED = 138
SERVER_SHUTTING_DOWN = 139
BAD_AUTHENTICATION_METHOD = 140
KEEP_ALIVE_TIMEOUT = 141
SESSION_TAKEN_OVER = 142
TOPIC_FILTER_INVALID = 143
TOPIC_NAME_INVALID = 144
PACKET_ID_NOT_FOUND = 146
RECEIVE_MAXIMUM_EXCEEDED = 147
TOPIC_ALIAS_INVALID = 148
PACKET_TOO_LARGE = 149
QUOTA_EXCEEDED = 151
ADMINISTRATIVE_ACTION = 152
PAYLOAD_FORMAT_INVALID = 153
RETAIN_NOT_SUPPORTED = 154
QOS_NOT_SUPPORTED = 155
CONNECTION_RATE_EXCEEDED = 159
MAXIMUM_CONNECT_TIME = 160

NAMES = {
    0: "success",
    1: "granted QoS 1",
    2: "granted QoS 2",
    4: "disconnect with will message",
    16: "no matching subscribers",
    17: "no subscription existed",
    24: "continue authentication",
    25: "re-authenticate",
    128: "unspecified error",
    129: "malformed packet",
    130: "protocol error",
    131: "implementation specific error",
    132: "unsupported protocol version",
    133: "client identifier not valid",
    134: "bad user name or password",
    135: "not authorised",
    136: "server unavailable",
    137: "server busy",
    138: "banned",
    139: "server shutting down",
    140: "bad authentication method",
    141: "keep-alive timeout",
    142: "session taken over",
    143: "topic filter invalid",
    144: "topic name invalid",
    145: "packet identifier in use",
    146: "packet identifier not found",
    147: "receive maximum exceeded",
    148: "topic alias invalid",
    149: "packet too large",
    150: "message rate too high",
    151: "quota exceeded",
    152: "administrative action",
    153: "payload format invalid",
    154: "retain not supported",
    155: "QoS not supported",
    156: "use another server",
    157: "server moved",
    158: "shared subscriptions not supported",
    159: "connection rate exceeded",
    160: "maximum connect time",
    161: "subscription identifiers not supported",
    162: "wildcard subscriptions not supported",
}

# 3.1.1 section 3.2.2.3, and 7, which AWS IoT Core sends instead of 5
RETURN_CODES = {
    0: SUCCESS,
    1: UNSUPPORTED_VERSION,
    2: CLIENT_ID_NOT_VALID,
    3: SERVER_UNAVAILABLE,
    4: BAD_USER_NAME_OR_PASSWORD,
    5: NOT_AUTHORISED,
    7: NOT_AUTHORISED,
}
_RETURN_CODE_OF = {132: 1, 133: 2, 134: 4, 135: 5, 138: 5, 140: 5}

_REFUSALS = {
    PAYLOAD_FORMAT_INVALID: "the broker refuses this payload",
    NOT_AUTHORISED: "the broker refuses to publish to this topic",
    TOPIC_NAME_INVALID: "the broker refuses this topic name",
    PACKET_TOO_LARGE: "the broker refuses a message of this size",
    RETAIN_NOT_SUPPORTED: "the broker refuses retained messages",
    QOS_NOT_SUPPORTED: "the broker refuses this QoS",
}
_CREDENTIALS = {BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORISED, BANNED, 140}


def describe(code: int, reason: str | None = None) -> str:
    """Return a code as people read it, with the broker's own words where it gave some: ``135 not authorised``."""
    words = f"{code} {NAMES.get(code, 'unknown reason')}"
    return f"{words}: {reason}" if reason else words


def return_code(code: int) -> int:
    """Return the CONNACK return code of 3.x that comes nearest to a reason code of version 5."""
    return code if code < FAILURE else _RETURN_CODE_OF.get(code, 3)


def connect_error(code: int, version: int, reason: str | None = None, server: str | None = None) -> DeliveryError:
    """Return the error a CONNACK means; ``server`` is the Server Reference of codes 156 and 157."""
    given = code
    if version < 5:
        code = RETURN_CODES.get(code, UNSPECIFIED)
        said = f"return code {given} {NAMES[code]}"
    else:
        said = describe(code, reason)
    if code == UNSUPPORTED_VERSION:
        return VersionRefused(f"the broker does not speak this protocol version ({said}); try another version")
    if code == CLIENT_ID_NOT_VALID:
        return CredentialsRefused(code, f"the broker refuses the client id ({said}); choose another client_id")
    if code in _CREDENTIALS:
        return CredentialsRefused(
            code, f"the broker refuses the credentials ({said}); check user name, password, certificate and client id"
        )
    if code in {RETAIN_NOT_SUPPORTED, QOS_NOT_SUPPORTED}:
        return ConnectRefused(
            code, f"the broker does not take the will ({said}); it is retained, or its QoS is too high"
        )
    if server:
        return ConnectRefused(code, f"the broker asks to connect to {server} ({said}); change the address")
    return ConnectRefused(code, f"the broker does not accept the connection ({said})")


def publish_error(code: int, reason: str | None = None) -> DeliveryError:
    """Return the error a PUBACK, PUBREC or PUBCOMP with a failing code means for its message."""
    said = describe(code, reason)
    if code in _REFUSALS:
        return Rejected(f"{_REFUSALS[code]} ({said})")
    return Unavailable(f"the broker could not take the message ({said})")


def closed_error(code: int, reason: str | None = None, server: str | None = None) -> DeliveryError:
    """Return the error a DISCONNECT sent by the broker means.

    Also a code that blames one message is ``NotConnected``: which message it was is not said, and the others of the
    window are without fault.
    """
    said = describe(code, reason)
    if code in {NOT_AUTHORISED, BANNED}:
        return NotConnected(f"the broker closed the connection: {said}; it may not allow one of the topics")
    if code == SESSION_TAKEN_OVER:
        return NotConnected(f"the broker closed the connection: {said}; another client uses the same client id")
    if server:
        return NotConnected(f"the broker closed the connection: {said}; it asks to connect to {server}")
    return NotConnected(f"the broker closed the connection: {said}")


def subscribe_words(code: int, reason: str | None = None) -> str:
    """Return why a filter was refused."""
    return f"the broker refuses the subscription ({describe(code, reason)})"
