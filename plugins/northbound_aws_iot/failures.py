"""What IoT Core and the SDK say, as the errors the engine knows.

Reason codes: MQTT 5, section 2.4, and the AWS IoT Developer Guide, "MQTT 5 reason codes". The SDK turns a code it does
not know into ``None``; of a PUBACK that is a refusal too, since it knows all that mean success.
"""

from __future__ import annotations

from typing import Any, Final

from northbound import DeliveryError, NotConnected, Rejected, Unauthorised, Unavailable

REFUSED: Final = 128  # the first code that means failure
_NOT_AUTHORISED: Final = 135
_TOPIC_NAME_INVALID: Final = 144
_PACKET_TOO_LARGE: Final = 149
_QUOTA_EXCEEDED: Final = 151
_PAYLOAD_FORMAT: Final = 153
_TAKEN_OVER: Final = 142
_CLIENT_ID: Final = 133
_OF_THE_MESSAGE: Final = {
    _NOT_AUTHORISED: "the policy does not allow to publish this",
    _TOPIC_NAME_INVALID: "IoT Core refuses this topic name",
    _PACKET_TOO_LARGE: "IoT Core refuses a message of this size",
    _PAYLOAD_FORMAT: "IoT Core refuses this payload",
}
#: Errors of the SDK that blame the message and not the connection.
_UNSENDABLE: Final = frozenset(
    (
        "AWS_ERROR_MQTT5_PACKET_VALIDATION",
        "AWS_ERROR_MQTT5_PUBLISH_OPTIONS_VALIDATION",
        "AWS_ERROR_MQTT5_ENCODE_SIZE_UNSUPPORTED_PACKET_TYPE",
        "AWS_ERROR_MQTT5_USER_PROPERTY_VALIDATION",
        "AWS_ERROR_MQTT_INVALID_TOPIC",
        "AWS_ERROR_INVALID_UTF8",
    )
)
_ACK_TIMEOUT: Final = "AWS_ERROR_MQTT_TIMEOUT"


class Unacknowledged(Unavailable):
    """No PUBACK came in time; the message may have been taken all the same."""


class WrongPin(Unauthorised):
    """The PIN of a hardware module is refused, or its token is locked."""


def spoken(packet: Any) -> str:
    """Return a reason code as people read it, with the words IoT Core put beside it."""
    code = packet.reason_code
    words = "unknown reason" if code is None else f"{int(code)} {code.name.lower().replace('_', ' ')}"
    return f"{words}: {packet.reason_string}" if packet.reason_string else words


def puback_error(puback: Any, topic: str) -> DeliveryError | None:
    """Return the error a PUBACK means, ``None`` for success. A QoS 1 publish is what it answers."""
    code = puback.reason_code
    if code is not None and code < REFUSED:
        return None
    if code is None:  # those that pass by themselves have names, and so do those that mean success
        return Rejected(f"IoT Core refuses the message, for a reason the SDK has no name for (topic {topic[:100]})")
    if code in _OF_THE_MESSAGE:
        return Rejected(f"{_OF_THE_MESSAGE[int(code)]} ({spoken(puback)}; topic {topic[:100]})")
    if code == _QUOTA_EXCEEDED:
        return Unavailable(f"a quota of IoT Core is reached ({spoken(puback)})", retry_after=1.0)
    return Unavailable(f"IoT Core could not take the message ({spoken(puback)})")


def connack_error(connack: Any) -> DeliveryError:
    """Return the error a refusing CONNACK means."""
    said = spoken(connack)
    if connack.reason_code == _CLIENT_ID:
        return Unauthorised(f"IoT Core refuses the client id ({said}); choose another client_id")
    if connack.reason_code in {134, _NOT_AUTHORISED, 138, 140}:
        return Unauthorised(f"IoT Core refuses the connection ({said})")
    return NotConnected(f"IoT Core does not accept the connection ({said})")


def disconnect_error(packet: Any | None, error: Any | None) -> NotConnected:
    """Return the error the end of a connection means.

    Also a code that blames one message is ``NotConnected``: which one is not said, and the rest of the window is
    without fault.
    """
    if packet is None:
        return NotConnected(f"the connection to IoT Core broke: {sdk_words(error)}")
    said = f"IoT Core closed the connection: {spoken(packet)}"
    if packet.reason_code == _TAKEN_OVER:
        said += "; another client uses the same client id"
    elif packet.reason_code == _NOT_AUTHORISED:
        said += "; the policy may not allow one of the topics"
    return NotConnected(said)


def publish_error(error: Any, topic: str) -> DeliveryError | None:
    """Return the error a failed publish means; ``None`` where the connection is at fault, which has its own words."""
    name = getattr(error, "name", "")
    if name in _UNSENDABLE:
        return Rejected(f"the message cannot be sent: {sdk_words(error)} (topic {topic[:100]})")
    if name == _ACK_TIMEOUT:
        return Unacknowledged("IoT Core has not acknowledged the message in time")
    return None


def sdk_words(error: Any | None) -> str:
    """Return what an error of the SDK says; its name tells more than its message."""
    if error is None:
        return "no reason given"
    name = getattr(error, "name", "")
    message = str(getattr(error, "message", error)).rstrip(".")
    return f"{message} ({name})" if name else message
