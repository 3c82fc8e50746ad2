"""From options to what the SDK needs for TLS, WebSocket and CONNECT. Imports the SDK: imported when it is used."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from awscrt import auth, http, io

from northbound import NotConnected
from northbound_aws_iot.failures import WrongPin
from northbound_aws_iot.options import ConnectorOptions

_SIGNED_FOR = "iotdevicegateway"
_NUMBER = re.compile(r"^\d+ ")  # of the SDK's error, before its name


def now() -> datetime:
    """Return the time requests are signed at."""
    return datetime.now(UTC)


def tls_context(options: ConnectorOptions) -> Any:
    """Return the TLS context; files are read anew for every connection, so that a renewed one needs no restart.

    Raises ``NotConnected`` in words where a file or a module cannot be used.
    """
    try:
        context = _context(options)
        if options.ca is not None:
            context.override_default_trust_store_from_path(None, str(options.ca))
        if options.alpn_name is not None:
            context.alpn_list = [options.alpn_name]
        return io.ClientTlsContext(context)
    except Exception as error:  # noqa: BLE001 - the SDK raises OSError, RuntimeError, ValueError and its own
        words = f"{_what(options)} cannot be used: {_plain(error)}"
        raise WrongPin(words) if "PIN_" in words else NotConnected(words) from None


def _context(options: ConnectorOptions) -> Any:
    if options.auth == "pkcs11":
        pin = options.pkcs11_pin
        return io.TlsContextOptions.create_client_with_mtls_pkcs11(
            pkcs11_lib=_module(str(options.pkcs11_library)),
            user_pin=pin.get_secret_value() if pin is not None else None,
            slot_id=options.pkcs11_slot,
            token_label=options.pkcs11_token,
            private_key_label=options.pkcs11_key,
            cert_file_path=str(options.certificate),
        )
    if options.auth != "x509":
        return io.TlsContextOptions()
    if options.certificate_pem is not None and options.private_key_pem is not None:
        certificate, key = options.certificate_pem.get_secret_value(), options.private_key_pem.get_secret_value()
        return io.TlsContextOptions.create_client_with_mtls(certificate.encode(), key.encode())
    return io.TlsContextOptions.create_client_with_mtls_from_path(str(options.certificate), str(options.private_key))


@lru_cache(maxsize=8)
def _module(library: str) -> Any:
    """Return a PKCS#11 module, loaded once: the SDK advises one instance for the life of the process."""
    return io.Pkcs11Lib(file=library)


def _what(options: ConnectorOptions) -> str:
    if options.auth == "pkcs11":
        return f"the PKCS#11 module {options.pkcs11_library} with the certificate {options.certificate}"
    if options.auth == "x509":
        named = options.certificate or "certificate_pem"
        return f"the certificate {named} with the key {options.private_key or 'private_key_pem'}"
    return f"the CA file {options.ca}"


def _plain(error: Exception) -> str:
    name = getattr(error, "name", "")
    return f"{getattr(error, 'message', error)} ({name})" if name else _NUMBER.sub("", str(error))


def proxy(options: ConnectorOptions) -> Any | None:
    """Return the SDK's options of the proxy."""
    if options.proxy is None:
        return None
    parts = urlsplit(options.proxy.get_secret_value())
    signs_in = parts.username is not None
    return http.HttpProxyOptions(
        host_name=parts.hostname,
        port=parts.port,
        auth_type=http.HttpProxyAuthenticationType.Basic if signs_in else http.HttpProxyAuthenticationType.Nothing,
        auth_username=unquote(parts.username or "") or None,
        auth_password=unquote(parts.password or "") or None,
        connection_type=http.HttpProxyConnectionType.Tunneling,
    )


def user_name(options: ConnectorOptions) -> str | None:
    """Return the user name a custom authorizer takes apart (AWS IoT Developer Guide, "Custom authentication")."""
    if options.auth != "custom":
        return None
    pairs = []
    if options.authorizer is not None:
        pairs.append(("x-amz-customauthorizer-name", options.authorizer))
    if options.token_signature is not None:
        pairs.append(("x-amz-customauthorizer-signature", options.token_signature.get_secret_value()))
    if options.token is not None and options.token_key is not None:
        pairs.append((options.token_key, options.token.get_secret_value()))
    query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
    return f"{options.username or ''}?{query}" if query else options.username


def handshake(
    options: ConnectorOptions, note: Callable[[Exception], None], expires: Callable[[datetime | None], None]
) -> Callable[..., None] | None:
    """Return what prepares a WebSocket's request; ``None`` for MQTT without WebSocket.

    ``note`` is told why it failed, ``expires`` until when the AWS credentials hold; both on a thread of the SDK.

    The SDK passes the argument by keyword, so its name is fixed.
    """
    if not options.over_websocket:
        return None
    if options.auth == "custom":
        return lambda transform_args, **_: transform_args.set_done(None)
    provider = _provider(options)

    def sign(transform_args: Any, **_: Any) -> None:
        def end(error: Exception | None) -> None:
            if error is not None:
                note(error)
            transform_args.set_done(error)

        def found(future: Any) -> None:
            try:
                credentials = future.result()
                expires(credentials.expiration)
                config = _signing(credentials, options.signing_region)
                signed = auth.aws_sign_request(transform_args.http_request, config)
                signed.add_done_callback(lambda done: end(done.exception()))
            except Exception as error:  # noqa: BLE001 - on the SDK's thread it would be lost
                end(error)

        provider.get_credentials().add_done_callback(found)

    return sign


def _signing(credentials: Any, region: str | None) -> Any:
    return auth.AwsSigningConfig(
        algorithm=auth.AwsSigningAlgorithm.V4,
        signature_type=auth.AwsSignatureType.HTTP_REQUEST_QUERY_PARAMS,
        credentials_provider=auth.AwsCredentialsProvider.new_static(
            credentials.access_key_id, credentials.secret_access_key, credentials.session_token
        ),
        region=region,
        service=_SIGNED_FOR,
        date=now(),
        omit_session_token=True,  # IoT Core wants it beside the signature, not in it
    )


def _provider(options: ConnectorOptions) -> Any:
    make = auth.AwsCredentialsProvider
    if options.access_key_id is not None and options.secret_access_key is not None:
        token = options.session_token
        return make.new_static(
            options.access_key_id,
            options.secret_access_key.get_secret_value(),
            token.get_secret_value() if token is not None else None,
        )
    name = options.profile
    if name is None:
        return make.new_default_chain()
    ways: list[Any] = []
    kinds: tuple[tuple[Any, str], ...] = ((make.new_profile, "profile_name"), (make.new_process, "profile_to_use"))
    for way, named in kinds:
        # The SDK raises by many types where there is no such profile, or it is of the other kind.
        with contextlib.suppress(Exception):
            ways.append(way(**{named: name}))
    if not ways:
        raise NotConnected(f"there is no profile {name!r} in the AWS files that gives credentials")
    return make.new_chain(ways)
