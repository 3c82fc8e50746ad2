"""Transports beside plain TCP and TLS: a proxy, a pinned certificate, a WebSocket, and all three at once.

    broker ── TCP, or a proxy's tunnel ── TLS ── is the certificate a pinned one? ── WebSocket ── the driver

Each layer is imported where the options ask for it; the plain way needs none of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from northbound.mqtt.options import ClientOptions


async def dial(options: ClientOptions, factory: Callable[[], asyncio.Protocol]) -> None:
    """Connect a protocol that ``factory`` makes, over the transport that ``options`` describe.

    Raises ``Unauthorised`` where a proxy or the WebSocket's server refuses the credentials, ``NotConnected`` where they
    or the certificate stand in the way, and ``OSError`` for what TCP and TLS say.
    """
    loop = asyncio.get_running_loop()
    protocol = factory()
    websocket = gate = None
    if options.websocket is not None:
        from northbound.mqtt.websocket import WebSocket  # noqa: PLC0415 - most connections are none

        protocol = websocket = WebSocket(options, protocol, loop)
    if options.pins:
        from northbound.mqtt.pins import Gate  # noqa: PLC0415 - most connections have none

        protocol = gate = Gate(options, protocol)
    name = (options.server_hostname or options.host) if options.ssl is not None else None
    if options.proxy is None:
        transport, _ = await loop.create_connection(
            lambda: protocol, options.host, options.port, ssl=options.ssl, server_hostname=name
        )
    else:
        from northbound.mqtt.proxies import tunnel  # noqa: PLC0415 - most connections have none

        through = await tunnel(options.proxy, options.host, options.port)
        transport, _ = await loop.create_connection(
            lambda: protocol, sock=through, ssl=options.ssl, server_hostname=name
        )
    if gate is not None and gate.error is not None:
        raise gate.error  # and it has closed the connection
    if websocket is not None:
        try:
            await websocket.opened
        except BaseException:  # raised again: the connection does not stay open
            transport.abort()
            raise
