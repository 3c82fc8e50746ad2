"""What is allowed under ``[api]`` and yet asks for trouble: tokens that travel in the open, nobody who can sign in."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from northbound.api.keyfile import path_beside
from northbound.loading import Configuration
from northbound.serving import ApiOptions

Caveat = tuple[str, str, str]


def exposure(configuration: Configuration) -> Iterator[Caveat]:
    """Give key, message and remedy of each."""
    options = configuration.api
    if options is None:
        return
    if options.certificate is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.certificate, options.private_key)
        except (OSError, ssl.SSLError) as error:
            yield (
                "api.certificate",
                f"cannot be used with its key: {error}",
                "check both files: the service will not start",
            )
    elif not options.trusted_proxies:
        for key, addresses in (("api.listen", options.addresses), ("api.mqtt_listen", options.mqtt_addresses)):
            for address in addresses:
                if not address.loopback:
                    yield (
                        key,
                        f"others than this machine reach {address}, and tokens travel there in the open",
                        "set certificate and private_key, or name the proxy that ends TLS in trusted_proxies",
                    )
    if not options.auth.issuers and options.auth.api_keys_from is None:
        keys = path_beside(configuration.store.path)
        if not keys.exists():
            yield (
                "api.auth",
                "nobody can sign in yet",
                "make an API key with 'northbound keys create', or name an issuer",
            )


def sentence(options: ApiOptions) -> str:
    """Return where it listens, in words."""
    scheme = "https" if options.certificate else "http"
    places = [f"{scheme}://{address}" for address in options.addresses]
    return ", ".join([*places, *(f"MQTT on {address}" for address in options.mqtt_addresses)])
