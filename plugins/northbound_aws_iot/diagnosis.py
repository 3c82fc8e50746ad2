"""Finding out in words what is wrong, by a TLS handshake of our own.

The SDK takes 15 s for a certificate it does not believe, and then has a number for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from northbound import Credential, NotConnected, Unauthorised
from northbound_aws_iot.options import ConnectorOptions

#: How long a server may take to send its alert, once the handshake is done on our side (TLS 1.3).
_ALERT_SECONDS: Final = 1.0
_ANSWER_SECONDS: Final = 5.0
#: Signatures are refused when clocks are farther apart: AWS General Reference, "Signature Version 4".
_SKEW: Final = timedelta(minutes=5)
_OF_THE_CLIENT: Final = {
    "CERTIFICATE_EXPIRED": "the client certificate has expired",
    "UNKNOWN_CA": "the client certificate is signed by a CA that is not registered",
    "CERTIFICATE_REQUIRED": "a client certificate is wanted",
    "BAD_CERTIFICATE": "the client certificate is not believed",
    "CERTIFICATE_UNKNOWN": "the client certificate is not known",
    "CERTIFICATE_REVOKED": "the client certificate is revoked",
}


async def check_tls(options: ConnectorOptions, *, alerts: bool = False) -> None:
    """Shake hands as the SDK will and close; raises what is wrong, in words.

    With ``alerts`` it waits for the server to say what it dislikes about the client certificate. Behind a proxy it
    does nothing: there the SDK alone knows the way.
    """
    if options.proxy is not None:
        return
    where = f"{options.endpoint}:{options.port_in_use}"
    context, shows_certificate = await asyncio.to_thread(_context, options)
    writer: asyncio.StreamWriter | None = None
    try:
        reader, writer = await asyncio.open_connection(options.endpoint, options.port_in_use, ssl=context)
        if alerts:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ALERT_SECONDS):
                    await reader.read(1)
    except ssl.SSLCertVerificationError as error:
        raise NotConnected(
            f"the certificate of {where} cannot be trusted: {error.verify_message}; {_about_server(error)}"
        ) from None
    except ssl.SSLError as error:
        words = _about_alert(error, shows_certificate=shows_certificate)
        if words is not None:
            raise Unauthorised(f"{where} refuses the handshake: {words}") from None
        if "ALERT" not in (error.reason or "ALERT"):  # an alert may be about a certificate that only the SDK can show
            raise NotConnected(f"TLS with {where} failed ({error.reason}); check that the port speaks TLS") from None
    except socket.gaierror:
        raise NotConnected(f"the host name {options.endpoint} cannot be resolved; check the endpoint and DNS") from None
    except ConnectionRefusedError:
        raise NotConnected(f"{where} refuses the connection; check the endpoint, the port and the firewall") from None
    except OSError:
        return  # a reset tells nothing that the SDK would not tell
    finally:
        if writer is not None:
            await _drop(writer)


async def _drop(writer: asyncio.StreamWriter) -> None:
    """Close at once: a good-bye in TLS would wait for the other side's."""
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _context(options: ConnectorOptions) -> tuple[ssl.SSLContext, bool]:
    """Return a context with what can be had without the SDK, and whether that includes the client certificate."""
    try:
        context = ssl.create_default_context(cafile=options.ca)
    except OSError as error:
        raise NotConnected(f"the CA file {options.ca} cannot be used: {error.strerror or error}") from None
    if options.alpn_name is not None:
        context.set_alpn_protocols([options.alpn_name])
    if options.auth != "x509" or options.certificate is None or options.private_key is None:
        return context, False
    try:
        # a callable, since without one OpenSSL asks for a password on the terminal
        context.load_cert_chain(options.certificate, options.private_key, lambda: "")
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or "not PEM, or a key of another certificate"
        named = f"the certificate {options.certificate} with the key {options.private_key}"
        raise NotConnected(f"{named} cannot be used: {reason}") from None
    return context, True


def _about_server(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in {9, 10}:  # X509_V_ERR_CERT_NOT_YET_VALID, _HAS_EXPIRED
        return "check the clock of this machine"
    if error.verify_code == 62:  # X509_V_ERR_HOSTNAME_MISMATCH
        return "it is that of another name: check the endpoint"
    return "check the CA that is configured, and whether something in between opens TLS"


def _about_alert(error: ssl.SSLError, *, shows_certificate: bool) -> str | None:
    """Return what an alert means; ``None`` where it may only mean that no certificate was shown."""
    reason = error.reason or ""
    if "UNRECOGNIZED_NAME" in reason:
        return f"it does not know the server name (SNI) that the endpoint gives ({reason})"
    if not shows_certificate:
        return None
    for text, words in _OF_THE_CLIENT.items():
        if text in reason:
            return f"{words} ({reason})"
    if "HANDSHAKE_FAILURE" in reason or "INTERNAL_ERROR" in reason:
        return f"it may not know the server name (SNI) that the endpoint gives ({reason})"
    return None


async def clock_skew(options: ConnectorOptions, now: Callable[[], datetime]) -> timedelta | None:
    """Return how far this clock is ahead of the endpoint's, if signatures suffer from it; ``None`` otherwise."""
    context, _ = await asyncio.to_thread(_context, options)
    request = f"GET / HTTP/1.1\r\nHost: {options.endpoint}\r\nConnection: close\r\n\r\n"
    with contextlib.suppress(OSError, ValueError, TypeError):  # also TimeoutError
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(options.endpoint, options.port_in_use, ssl=context)
            try:
                writer.write(request.encode())
                head = await reader.readuntil(b"\r\n\r\n")
            finally:
                await _drop(writer)
        for line in head.decode("latin-1").splitlines():
            name, _, value = line.partition(":")
            if name.lower() == "date":
                ahead = now() - parsedate_to_datetime(value.strip())
                return ahead if abs(ahead) > _SKEW else None
    return None


def likely_cause(
    words: str, options: ConnectorOptions, client_id: str, credentials: Sequence[Credential]
) -> str | None:
    """Return the likely cause of an error of connecting or publishing, by its words; ``None`` for no idea."""
    ended = next((c.expires for c in credentials if c.expires is not None and c.expires < datetime.now(UTC)), None)
    if ended is not None:
        return f"the client certificate expired on {ended:%Y-%m-%d %H:%M} UTC: install a new one"
    for text, cause in (
        ("check the clock", "the clock of this machine is wrong, or the certificate of the endpoint is not IoT Core's"),
        ("cannot be trusted", _wrong_ca(options)),
        (
            "does not allow to publish",
            "the policy has no iot:Publish (for retained messages iot:RetainPublish) on this topic",
        ),
        ("142 session taken over", f"another client is connected as {client_id}: give each its own client_id"),
        ("151 quota exceeded", f"more than one CONNECT a second as {client_id}: another client may use the same id"),
        ("135 not authorized", _not_authorised(options, client_id)),
        ("134 bad", _not_authorised(options, client_id)),
        ("SNI", "the server name (SNI) is taken from endpoint: it must be the one of this account and region"),
        ("WebSocket is refused", "the credentials, their iot:Connect, or the region are wrong"),
        ("PKCS#11", "check pkcs11_library, pkcs11_pin, the token's and the key's label, with pkcs11-tool -L -O"),
    ):
        if text in words:
            return cause
    return None


def _wrong_ca(options: ConnectorOptions) -> str:
    if options.ca is not None:
        return (
            f"{options.ca} does not hold the endpoint's CA: for IoT Core take Amazon Root CA 1 and 3, or leave ca out"
        )
    return "the system trusts no CA of this endpoint: set ca to Amazon Root CA 1, or to that of your gateway"


def _not_authorised(options: ConnectorOptions, client_id: str) -> str:
    if options.auth == "custom":
        return "the custom authorizer does not accept user name, password or token, or its policy lacks iot:Connect"
    what = "the certificate" if options.auth != "sigv4" else "the AWS identity"
    return f"the policy of {what} has no iot:Connect on client/{client_id}, or {what} is not active"
