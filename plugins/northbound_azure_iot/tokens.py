"""Connection strings and tokens, by the SDK's own code; every import of it is here.

The SDK is imported when a connection string is read or a key is there to sign with, and never for certificates alone:
it takes a quarter of a second and 25 MB.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import NamedTuple
from urllib.parse import unquote


class ConnectionString(NamedTuple):
    """What a device's connection string says; ``key`` is ``None`` where it says X.509."""

    host: str
    device_id: str
    module_id: str | None
    key: str | None
    gateway_host: str | None


class Token(NamedTuple):
    """A SAS token, and when it expires (seconds since 1970)."""

    text: str
    expires: int

    def __repr__(self) -> str:
        """Leave the token out."""
        return f"Token(expires={self.expires})"


def parse_connection_string(text: str) -> ConnectionString:
    """Take a device's or module's connection string apart; raises ``ValueError`` in words that hold no key."""
    from azure.iot.device.common.auth import connection_string as sdk  # noqa: PLC0415 - slow, and needed by some

    try:
        found = sdk.ConnectionString(text.strip().strip(";"))
    except ValueError:
        raise ValueError(
            "this is no connection string: HostName=…;DeviceId=…;SharedAccessKey=… as the portal shows it for a device"
        ) from None
    if found.get(sdk.SHARED_ACCESS_KEY_NAME) or not found.get(sdk.DEVICE_ID):
        raise ValueError(
            "this connection string is the hub's and opens it for all devices: take the one of a device (Devices, then "
            "the device, then Primary connection string)"
        )
    key = found.get(sdk.SHARED_ACCESS_KEY)
    if key is not None:
        check_key(key)
    return ConnectionString(
        found[sdk.HOST_NAME],
        found[sdk.DEVICE_ID],
        found.get(sdk.MODULE_ID),
        key,
        found.get(sdk.GATEWAY_HOST_NAME),
    )


def check_key(key: str) -> None:
    """Raise ``ValueError`` where ``key`` is none (iot-dps concepts-symmetric-key-attestation: 16 to 64 bytes)."""
    try:
        size = len(base64.b64decode(key, validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if not 16 <= size <= 64:
        raise ValueError("a key is Base64 of 16 to 64 bytes, as the portal shows it")


def prepare() -> None:
    """Import what signs, so that it is not imported in the midst of a delivery."""
    from azure.iot.device.common.auth import sastoken, signing_mechanism  # noqa: F401, PLC0415 - that is the point


def sign(resource: str, key: str, lifetime: float) -> Token:
    """Return a token for ``resource`` that holds for ``lifetime`` seconds; ``key`` is Base64."""
    from azure.iot.device.common.auth import sastoken, signing_mechanism  # noqa: PLC0415 - slow, and needed by some

    made = sastoken.RenewableSasToken(resource, signing_mechanism.SymmetricKeySigningMechanism(key), ttl=lifetime)
    return Token(str(made), made.expiry_time)


def expiry_of(token: str) -> int | None:
    """Return when a ready-made token expires; ``None`` where it does not say."""
    fields = dict(pair.partition("=")[::2] for pair in token.partition(" ")[2].split("&"))
    stated = unquote(fields.get("se", ""))
    return int(stated) if stated.isascii() and stated.isdigit() else None


def derived_key(group_key: str, registration_id: str) -> str:
    """Return the key of one registration of an enrolment group.

    HMAC-SHA256 of its id with the group's key (iot-dps how-to-legacy-device-symm-key); the SDK has it only as a sample.
    """
    digest = hmac.digest(base64.b64decode(group_key), registration_id.encode(), hashlib.sha256)
    return base64.b64encode(digest).decode()
