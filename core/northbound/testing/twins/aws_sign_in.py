"""How a client of AWS IoT Core proves who it is without a certificate: SigV4 over WebSocket, custom authoriser."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from northbound.testing.twins.mqtt_listener import Greeting

#: How far the clock of a signer may be off: AWS General Reference, "Signature Version 4", "RequestTimeTooSkewed".
MAX_SKEW: Final = timedelta(minutes=5)
_SERVICE: Final = "iotdevicegateway"  # reference section 1.1
_ALGORITHM: Final = "AWS4-HMAC-SHA256"


class Refused(Exception):
    """Whoever signs in is not believed; the text says why."""


class AccessKey(NamedTuple):
    """A secret access key, and the session token of temporary credentials."""

    secret: str
    session_token: str | None = None


class Authoriser(NamedTuple):
    """A custom authoriser. With ``public_key`` the token must be signed; ``decide`` is its Lambda function.

    ``decide`` gets user name (without the query), password and token. AWS IoT Developer Guide, "Custom authentication"
    (reference A3 custom-auth.md).
    """

    decide: Callable[[str, bytes | None, str | None], bool]
    token_key: str | None = None
    public_key: rsa.RSAPublicKey | None = None


def verify_sigv4(greeting: Greeting, keys: Mapping[str, AccessKey], region: str, *, now: datetime | None = None) -> str:
    """Return the access key id that signed a WebSocket's request; raises ``Refused``.

    AWS General Reference, "Add the signature to the HTTP request" with query parameters; the session token is added
    after signing and not signed (reference section 1.1).
    """
    path, _, query = (greeting.path or "").partition("?")
    pairs = parse_qsl(query, keep_blank_values=True)
    given = dict(pairs)
    if len(given) != len(pairs):
        raise Refused("a query parameter comes twice")
    if given.get("X-Amz-Algorithm") != _ALGORITHM:
        raise Refused("the request is not signed")
    key_id, *scope = given.get("X-Amz-Credential", "").split("/")
    if len(scope) != 4 or scope[1:] != [region, _SERVICE, "aws4_request"]:
        raise Refused(f"the credential's scope is not .../{region}/{_SERVICE}/aws4_request")
    key = keys.get(key_id)
    if key is None:
        raise Refused("UnrecognizedClientException: the access key is not known")
    if given.get("X-Amz-Security-Token") != key.session_token:
        raise Refused("the session token is not the one of the access key")
    date = given.get("X-Amz-Date", "")
    _check_date(date, given.get("X-Amz-Expires"), scope[0], now or datetime.now(UTC))
    signed = {name: value for name, value in pairs if name not in {"X-Amz-Signature", "X-Amz-Security-Token"}}
    names = given.get("X-Amz-SignedHeaders", "").split(";")
    if "host" not in names:
        raise Refused("the host header is not signed")
    headers = {name.lower(): value.strip() for name, value in greeting.headers}
    canonical = "\n".join(
        (
            "GET",
            path,
            "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in sorted(signed.items())),
            *(f"{name}:{headers.get(name, '')}" for name in names),
            "",
            ";".join(names),
            hashlib.sha256(b"").hexdigest(),
        )
    )
    text = "\n".join((_ALGORITHM, date, "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest()))
    signing = f"AWS4{key.secret}".encode()
    for part in scope:
        signing = hmac.digest(signing, part.encode(), "sha256")
    right = hmac.new(signing, text.encode(), "sha256").hexdigest()
    if not hmac.compare_digest(right, given.get("X-Amz-Signature", "")):
        raise Refused("SignatureDoesNotMatch")
    return key_id


def _check_date(date: str, expires: str | None, day: str, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        lifetime = timedelta(seconds=int(expires)) if expires is not None else MAX_SKEW
    except ValueError:
        raise Refused("the date or the lifetime is malformed") from None
    if not date.startswith(day):
        raise Refused("the date is not that of the credential's scope")
    if signed_at - now > MAX_SKEW:
        raise Refused(f"Signature not yet current: {date} is ahead of {now:%Y%m%dT%H%M%SZ}")
    if now - signed_at > max(lifetime, MAX_SKEW):
        raise Refused(f"Signature expired: {date} is behind {now:%Y%m%dT%H%M%SZ}")


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~")


def authorise(
    username: str | None, password: bytes | None, authorisers: Mapping[str, Authoriser], default: str | None = None
) -> str:
    """Return the name of the authoriser that accepted a CONNECT; raises ``Refused``.

    The user name is ``user?x-amz-customauthorizer-name=N&x-amz-customauthorizer-signature=S&<token key>=<token>``.
    """
    user, _, query = (username or "").partition("?")
    # "+" stands for itself here: what must be encoded is percent-encoded
    given = {name: unquote(value) for name, _, value in (item.partition("=") for item in query.split("&") if item)}
    name = given.get("x-amz-customauthorizer-name", default)
    authoriser = authorisers.get(name) if name else None
    if name is None or authoriser is None:
        raise Refused("there is no authoriser of that name, and no default one")
    token = given.get(authoriser.token_key) if authoriser.token_key else None
    if authoriser.public_key is not None:
        _check_signature(authoriser.public_key, token, given.get("x-amz-customauthorizer-signature"))
    if not authoriser.decide(user, password, token):
        raise Refused("the authoriser does not accept it")
    return name


def _check_signature(key: rsa.RSAPublicKey, token: str | None, signature: str | None) -> None:
    if token is None or signature is None:
        raise Refused("the authoriser wants a signed token")
    try:
        key.verify(base64.b64decode(signature, validate=True), token.encode(), padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, binascii.Error):
        raise Refused("the token's signature is wrong") from None
