"""Public keys that tokens are verified with: what is taken as one, and which algorithm each is for.

The algorithm follows from the key and never from the token (RFC 8725, 2.1 and 3.1), so that a public key cannot be
taken for the secret of an HMAC.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any, Final, Literal

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]

_LARGEST_FILE: Final = 65_536
_RSA_BITS: Final = (2048, 8192)  # below: RFC 7518, 3.3; above: it costs too much for what nobody needs
_RSA: Final[tuple[Algorithm, ...]] = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES: Final[dict[str, Algorithm]] = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

#: SHA-256 of public keys (SubjectPublicKeyInfo, DER) whose private half anybody can read: what they sign says nothing.
#: This one is PlaceOS's development key, which its services use where nobody has set JWT_PUBLIC or JWT_SECRET.
_PUBLISHED: Final = frozenset(("41e4b2dc793837c4e0485fbc8f5c9ff29f34c0b37324e7792d4eb62307071a74",))


def algorithms_of(key: Any) -> tuple[Algorithm, ...]:
    """Return what ``key`` (a public key of the package cryptography) may verify.

    Raises ``ValueError`` with the reason where it may verify nothing.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: PLC0415 - slow to import, and rarely needed

    _refuse_published(key)
    if isinstance(key, rsa.RSAPublicKey):
        if not _RSA_BITS[0] <= key.key_size <= _RSA_BITS[1]:
            raise ValueError(f"an RSA key of {key.key_size} bits; it must have {_RSA_BITS[0]} to {_RSA_BITS[1]}")
        return _RSA
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return (_CURVES[key.curve.name],)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return ("EdDSA",)
    raise ValueError("a key of a kind that is not taken; use RSA, P-256, P-384, P-521 or Ed25519")


def read_pem(path: Path) -> Any:
    """Return the public key in the file at ``path``: a PEM public key or certificate, or its PEM in base64.

    The last is how PlaceOS's ``JWT_PUBLIC`` is written. Raises ``ValueError`` with the reason, or ``OSError``.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE + 1)
    if len(content) > _LARGEST_FILE:
        raise ValueError("is larger than 64 KiB: name a PEM file")
    if b"-----" not in content:
        try:
            content = base64.b64decode(b"".join(content.split()), validate=True)
        except ValueError:
            raise ValueError("is neither PEM nor PEM in base64") from None
    if b"PRIVATE KEY" in content:
        raise ValueError("holds a private key; only its public half belongs here: openssl pkey -pubout")
    key = _parse(content)
    algorithms_of(key)
    return key


def _parse(pem: bytes) -> Any:
    from cryptography import x509  # noqa: PLC0415 - slow to import, and rarely needed
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - the same
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - the same

    try:
        if b"-----BEGIN CERTIFICATE-----" in pem:
            return x509.load_pem_x509_certificate(pem).public_key()
        return load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("holds no public key in PEM") from None


def _refuse_published(key: Any) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - slow to import

    written = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if hashlib.sha256(written).hexdigest() in _PUBLISHED:
        raise ValueError(
            "is PlaceOS's development key, whose private half is public: set JWT_SECRET in PlaceOS, and use its key"
        )
