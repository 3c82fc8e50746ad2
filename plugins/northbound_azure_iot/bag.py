"""The property bag: what travels beside a body, in the topic of an MQTT message to Azure IoT Hub.

``name=value`` pairs joined by ``&``, both percent-encoded; names that begin with ``$.`` are the system's
(iot-mqtt-connect-to-iot-hub, "Sending device-to-cloud messages").
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

CONTENT_TYPE: Final = "$.ct"
CONTENT_ENCODING: Final = "$.ce"
MESSAGE_ID: Final = "$.mid"
CREATED: Final = "iothub-creation-time-utc"
#: Says that all values but the system's are percent-encoded, since one of them is not ASCII. IoT Hub's pages promise
#: ASCII alone ("Property names and values are limited to ASCII characters", iot-hub-devguide-messages-construct).
ENCODED: Final = "encoded"
_PERCENT: Final = "percent"
_PLAIN: Final = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"


@lru_cache(maxsize=8192)
def _quoted(text: str) -> str:
    return quote(text, safe="")


def ascii_properties(properties: Mapping[str, str]) -> Mapping[str, str]:
    """Return properties that are ASCII: as they are, or all percent-encoded and marked so."""
    if all(value.isascii() for value in properties.values()):
        return properties
    encoded = {name: quote(value, safe=_PLAIN) for name, value in properties.items()}
    return {**encoded, ENCODED: _PERCENT}


def write_bag(properties: Mapping[str, str]) -> str:
    """Return the bag; the names of system properties keep their ``$``."""
    return "&".join(
        f"{name if name.startswith('$.') else _quoted(name)}={_quoted(value)}" for name, value in properties.items()
    )


def read_bag(bag: str) -> dict[str, str]:
    """Return the properties of a bag as they were before :func:`ascii_properties`; the inverse of what is sent."""
    pairs = (pair.partition("=") for pair in bag.split("&") if pair)
    properties = {unquote(name): unquote(value) for name, _, value in pairs}
    return plain_properties(properties)


def plain_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """Undo :func:`ascii_properties`: for consumers, who get the properties and not the bag."""
    found = dict(properties)
    if found.pop(ENCODED, None) == _PERCENT:
        own = {name for name in found if not name.startswith("$.") and name != CREATED}
        found = {name: unquote(value) if name in own else value for name, value in found.items()}
    return found


def size_of(properties: Mapping[str, str], body: bytes) -> int:
    """Return the size of a message as IoT Hub measures it.

    "The body size in bytes. The size in bytes of all the values of the message system properties. The size in bytes of
    all user property names and values." (iot-hub-devguide-messages-construct, "Message size")
    """
    names = sum(len(name) for name in properties if not name.startswith("$."))
    return len(body) + names + sum(map(len, properties.values()))
