"""Certificate pinning: the broker must show a known certificate, or one with a known key, before it hears a word."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import Iterable
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from northbound.errors import NotConnected
from northbound.mqtt.options import ClientOptions


def digests(certificate: bytes) -> tuple[bytes, bytes]:
    """Return the SHA-256 of a DER certificate, and that of its public key (SPKI, as in RFC 7469, section 2.4)."""
    key = x509.load_der_x509_certificate(certificate).public_key()
    return (
        hashlib.sha256(certificate).digest(),
        hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest(),
    )


def pinned(certificate: bytes, pins: Iterable[bytes]) -> bool:
    """Return whether one of ``pins`` is the digest of the certificate or of its public key."""
    found = digests(certificate)
    return any(hmac.compare_digest(pin, digest) for pin in pins for digest in found)


class Gate(asyncio.Protocol):
    """Stands before ``protocol`` until TLS is up, and lets it begin only where the certificate is a pinned one.

    ``error`` is set where it is not; the connection is then closed, and ``protocol`` has never heard of it.
    """

    def __init__(self, options: ClientOptions, protocol: asyncio.Protocol) -> None:
        self._options = options
        self._protocol = protocol
        self.error: NotConnected | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look at the certificate, and hand the connection over."""
        self.error = self._problem(transport.get_extra_info("ssl_object"))
        if self.error is not None:
            cast("asyncio.Transport", transport).abort()
            return
        transport.set_protocol(self._protocol)
        self._protocol.connection_made(transport)

    def _problem(self, tls: ssl.SSLObject | None) -> NotConnected | None:
        where = f"{self._options.host}:{self._options.port}"
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        if certificate is None:
            return NotConnected(f"{where} shows no certificate, and one is pinned")
        try:
            if pinned(certificate, self._options.pins):
                return None
            whole, key = digests(certificate)
        except ValueError as error:
            return NotConnected(f"the certificate of {where} cannot be read, and one is pinned: {error}")
        return NotConnected(
            f"the certificate of {where} is not a pinned one: its public key is sha256:{key.hex()}, the whole is "
            f"sha256:{whole.hex()}; where the broker renewed it, pin the new one, else someone is in between"
        )
