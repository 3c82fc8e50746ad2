"""What Azure IoT Hub and its Device Provisioning Service check, as pure functions: tokens, bags, twin documents.

Written from Microsoft's pages alone and not from the connector, so that each can find the other's mistakes. The pages:

* MQTT: learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-hub (copy MicrosoftDocs/azure-docs@05661010)
* messages: iot-hub-devguide-messages-construct (copy @03acc2f3), twins: iot-hub-devguide-device-twins (copy @00dee892)
* quotas: iot-hub-devguide-quotas-throttling (copy @012737e8), tokens: iot-hub-dev-guide-sas
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

#: messages: "Device-to-cloud messages can be at most 256 KB".
MAX_MESSAGE: Final = 256 * 1024
#: messages: message-id is "up to 128 characters long, of ASCII 7-bit alphanumeric characters" and these.
_MESSAGE_ID = re.compile(r"[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}")
#: MQTT: the names a device may use, with those that only the SDKs know (``$.on``, ``$.ifid``, ``$.sub``).
_SYSTEM: Final = frozenset(("$.mid", "$.cid", "$.uid", "$.ct", "$.ce", "$.exp", "$.on", "$.ifid", "$.sub"))
#: What a URI may hold unescaped (RFC 2396, section 2.3 "unreserved"), "%", and "$" which the pages' own examples use.
_ENCODED = re.compile(r"(?:[A-Za-z0-9\-_.!~*'()$]|%[0-9A-Fa-f]{2})*")
#: twins: "Maximum size of desired properties and reported properties sections are 32 KB each".
MAX_SECTION: Final = 32 * 1024
#: twins: "String values ... can have a maximum length of 4 KB"; keys "up-to 1 KB"; "The maximum depth ... is 10".
MAX_STRING: Final = 4 * 1024
MAX_KEY: Final = 1024
MAX_DEPTH: Final = 10
#: twins: "Integers can have a minimum value of -4503599627370496 and a maximum value of 4503599627370495".
_INTEGERS: Final = range(-4503599627370496, 4503599627370496)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_KEY_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f.$ ]")


class Refused(Exception):
    """What a device sent breaks a rule; the text says which. Over MQTT the device never hears it."""


def check_token(
    password: bytes | None, keys: list[str], resource: str, now: float, *, policy: str | None = None
) -> int:
    """Return the expiry (seconds since 1970) of a SAS token that one of ``keys`` (base64) signed for ``resource``.

    ``policy`` is the only ``skn`` allowed beside none.
    """
    try:
        text = (password or b"").decode("ascii")
    except UnicodeDecodeError:
        raise Refused("the token is not ASCII") from None
    scheme, _, rest = text.partition(" ")
    if scheme != "SharedAccessSignature":
        raise Refused("the password is no SharedAccessSignature")
    pairs = [pair.partition("=") for pair in rest.split("&")]
    fields = {name: value for name, _, value in pairs}
    if len(fields) != len(pairs) or not {"sr", "sig", "se"} <= fields.keys() <= {"sr", "sig", "se", "skn"}:
        raise Refused("the token's fields are not sr, sig and se, each once")
    if fields.get("skn") not in (None, "", policy):
        raise Refused(f"the token is for the policy {fields['skn']!r}, not for a device's own key")
    if unquote(fields["sr"]) != resource:
        raise Refused(f"the token is for {unquote(fields['sr'])!r}, not for {resource!r}")
    if not fields["se"].isascii() or not fields["se"].isdigit():
        raise Refused("the token's expiry is not a number")
    signed = f"{fields['sr']}\n{fields['se']}".encode()
    given = unquote(fields["sig"]).encode()
    # Every key is tried, whichever fits, so that the time tells nothing.
    fits = [hmac.compare_digest(given, _signature(key, signed)) for key in keys]
    if not any(fits):
        raise Refused("the token's signature is not one of this device's keys")
    expiry = int(fields["se"])
    if expiry <= now:
        raise Refused("the token has expired")
    return expiry


def _signature(key: str, signed: bytes) -> bytes:
    return base64.b64encode(hmac.digest(base64.b64decode(key), signed, hashlib.sha256))


def derived_key(group_key: str, registration_id: str) -> str:
    """Return the key of one device of a group enrolment (iot-dps: how-to-legacy-device-symm-key)."""
    return _signature(group_key, registration_id.encode()).decode()


def valid_key(key: str) -> bool:
    """Whether ``key`` is base64 of 16 to 64 bytes (iot-dps: concepts-symmetric-key-attestation)."""
    try:
        return 16 <= len(base64.b64decode(key, validate=True)) <= 64
    except (binascii.Error, ValueError):
        return False


def decode_bag(text: str) -> dict[str, str]:
    """Return the properties of a device-to-cloud topic; raises where the encoding or a name is not allowed.

    MQTT: "RFC 2396-encoded(<PropertyName1>)=RFC 2396-encoded(<PropertyValue1>)&..."; a name alone is null, which the
    page shows for messages to devices only, so it is refused here.
    """
    properties: dict[str, str] = {}
    if not text:
        return properties
    for pair in text.split("&"):
        raw_name, equals, raw_value = pair.partition("=")
        if not equals or not raw_name or not _ENCODED.fullmatch(raw_name) or not _ENCODED.fullmatch(raw_value):
            raise Refused(f"the property bag has a pair that is not percent-encoded name=value: {pair[:80]!r}")
        try:
            name, value = unquote(raw_name, errors="strict"), unquote(raw_value, errors="strict")
        except UnicodeDecodeError:
            raise Refused("the property bag is not UTF-8") from None
        if name in properties:
            raise Refused(f"the property {name!r} comes twice")
        # the page of messages: "Property names and values are limited to ASCII characters"
        if not name.isascii() or not value.isascii():
            raise Refused(f"the property {name!r} is not ASCII")
        if name.startswith("$.") and name not in _SYSTEM:
            raise Refused(f"there is no system property {name!r}")
        if name == "$.mid" and not _MESSAGE_ID.fullmatch(value):
            raise Refused("the message id has more than 128 characters, or others than are allowed")
        properties[name] = value
    return properties


def message_size(properties: Mapping[str, str], body: bytes) -> int:
    """Return the size as IoT Hub measures it.

    messages: "The body size in bytes. The size in bytes of all the values of the message system properties. The size in
    bytes of all user property names and values."
    """
    size = len(body)
    for name, value in properties.items():
        size += len(value) if name.startswith("$.") else len(name) + len(value)
    return size


def metered(size: int, chunk: int) -> int:
    """Return how many messages one of ``size`` bytes counts as (quotas: 4 KB chunks, 0.5 KB on the free tier)."""
    return max(1, -(-size // chunk))


def patched(reported: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Return reported properties after a patch; raises where the patch or the result breaks a rule of twins."""
    try:
        patch = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused("the patch is not JSON") from None
    if not isinstance(patch, dict):
        raise Refused("the patch is no object")
    _check_value(patch, 0)
    merged = _merge(reported, patch)
    if _size(merged) > MAX_SECTION:
        raise Refused(f"the reported properties would exceed {MAX_SECTION} bytes")
    return merged


def _merge(old: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in patch.items():
        before = merged.get(key)
        if value is None:  # MQTT: "A member set to null deletes the member from the containing object"
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merge(before if isinstance(before, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def _check_value(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise Refused(f"deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, inner in value.items():
            if len(key.encode()) > MAX_KEY or _KEY_FORBIDDEN.search(key):
                raise Refused(f"the key {key[:40]!r} is too long, or holds a control character, '.', '$' or a space")
            _check_value(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_value(inner, depth + 1)
    elif isinstance(value, str):
        if len(value.encode()) > MAX_STRING:
            raise Refused(f"a string longer than {MAX_STRING} bytes")
    elif isinstance(value, int) and not isinstance(value, bool) and value not in _INTEGERS:
        raise Refused("an integer beyond 52 bits")


def _size(value: Any) -> int:
    """Return the size of a section (twins: "Twin size is computed as follows")."""
    if isinstance(value, dict):
        return sum(_text_size(key) + _size(inner) for key, inner in value.items())
    if isinstance(value, list):
        return sum(map(_size, value))
    if isinstance(value, bool):
        return 4
    return _text_size(value) if isinstance(value, str) else 0 if value is None else 8


def _text_size(text: str) -> int:
    return len(_CONTROL.sub("", text).encode())
