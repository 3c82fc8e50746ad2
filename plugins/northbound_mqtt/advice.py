"""What of the options a preset's provider would frown at, without refusing it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from northbound_mqtt.options import BrokerOptions, ConnectorOptions

_ALTERNATIVES: Final = "move to a broker that lives: preset hivemq-cloud, emqx-serverless, myqtthub, or a mosquitto"

Warned = tuple[str, str, str]


def warnings(options: ConnectorOptions) -> list[Warned]:
    """Return key, what and remedy of each."""
    return [*_of_the_provider(options), *_of_the_limits(options), *_of_the_login(options)]


def _of_the_provider(options: BrokerOptions) -> Iterator[Warned]:
    known = options.known
    if known.retired is not None:
        yield "preset", known.retired, _ALTERNATIVES
        return
    for address in options.addresses:
        if known.hosts is not None and re.fullmatch(known.hosts, address.host.lower()) is None:
            yield (
                "url",
                f"{address.host} is no host of {options.preset} as they are known",
                f"they look like {known.form}; a private endpoint may be called anything",
            )
            return


def _of_the_limits(options: ConnectorOptions) -> Iterator[Warned]:
    known, replaced = options.known.limits, options.preset_limits.model_dump(exclude_none=True)
    for name, value in replaced.items():
        before = known.get(name)
        laxer = before is not None and (value == "none" or value > before)
        if laxer and name not in options.known.unconfirmed:
            yield (
                f"preset_limits.{name}",
                f"{value} is more than {options.preset} is known to take ({before:,})",
                "make sure that your plan allows it: what it refuses may end the connection",
            )
    most = options.provider_limits.get("messages_per_second")
    if most is not None and most < 100:
        yield (
            "preset",
            f"{options.preset} takes {most:g} messages a second from one client",
            "choose with topics what it gets; when more changes than that, the backlog keeps the latest values",
        )


def _of_the_login(options: BrokerOptions) -> Iterator[Warned]:
    if not options.verify and not options.pins:
        yield "verify", "any certificate is believed", "set ca to the broker's, or pin to its digest"
    for address in options.addresses:
        if options.login(address)[1] is not None and not address.tls and not _is_local(address.host):
            yield "url", f"the password travels to {address.host} unencrypted", "write mqtts:// or wss://"
            break
    if options.preset == "myqtthub":
        username, _ = options.login(options.address)
        if options.server_name is None and "@" not in f"{options.client_id}{username}":
            yield (
                "client_id",
                "names no domain: MyQttHub has to guess it from user and client id",
                "write client_id = 'device@domain' or username = 'user@domain'",
            )


def _is_local(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"
