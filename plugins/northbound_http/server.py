"""uvicorn as a guest: it owns neither the loop nor the signals, and keeps no connection for ever.

Three things uvicorn leaves to its host are done here. It waits without end for the headers of a request and for the
rest of a body that was answered early; ``BoundedProtocol`` hangs up then. It ends the process where it cannot listen;
the sockets are made here. And cancelled, it drops everything; here it finishes the requests under way first.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from northbound import NorthboundError
from northbound_http.options import Address, Options

#: Seconds that requests under way have to finish when the service stops.
GRACE = 5
#: Seconds an idle connection is kept for the next request.
KEEP_ALIVE = 30

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 48\r\n"
    b'retry-after: 1\r\nconnection: close\r\n\r\n{"error":"too many connections are open: later"}'
)


class BoundedProtocol(H11Protocol):
    """Hangs up on a client that is slower than ``patience`` with what it began, and on one too many."""

    patience: ClassVar[float] = 30.0
    max_connections: ClassVar[int] = 256

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.write(_FULL)
            transport.close()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take in data, and wait on where it completed no request."""
        if not self.transport.is_closing():
            super().data_received(data)
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_watching()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Hang up on an idle client; at once on one that does not even read its answer."""
        super().timeout_keep_alive_handler()
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _watch(self) -> None:
        """Count the time in which no request is under way; a request has timeouts of its own."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.patience, self.transport.abort)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Server(uvicorn.Server):
    """Runs in a task; cancelling it once is asking it to stop."""

    cancelled: asyncio.CancelledError | None = None
    when_started: Callable[[], None]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the service."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self.when_started()

    async def main_loop(self) -> None:
        """Serve until cancelled."""
        try:
            await super().main_loop()
        except asyncio.CancelledError as cancelled:
            self.cancelled = cancelled


async def serve(app: Any, options: Options, started: Callable[[tuple[Address, ...]], None]) -> None:
    """Serve until cancelled, then finish the requests under way; ``started`` is told the addresses bound."""
    protocol = type(
        "Protocol",
        (BoundedProtocol,),
        {"patience": options.request_timeout.total_seconds(), "max_connections": options.max_connections},
    )
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
        ssl_certfile=options.certificate,
        ssl_keyfile=options.private_key,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise NorthboundError(f"certificate and private_key cannot be used: {error}; check both files") from None
    sockets = await _bind(options.addresses)
    try:
        bound = tuple(Address(*sock.getsockname()[:2]) for sock in sockets)
        server = _Server(config)
        server.when_started = lambda: started(bound)
        await server.serve(sockets)
    finally:
        for sock in sockets:
            sock.close()
    if tasks := set(server.server_state.tasks):
        await asyncio.wait(tasks, timeout=GRACE)
    for connection in list(server.server_state.connections):
        connection.transport.abort()
    if server.cancelled is not None:
        raise server.cancelled


async def _bind(addresses: Sequence[Address]) -> list[socket.socket]:
    loop = asyncio.get_running_loop()
    sockets: list[socket.socket] = []
    try:
        for host, port in addresses:
            for family, kind, protocol, _, where in dict.fromkeys(
                await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            ):
                sock = socket.socket(family, kind, protocol)
                sockets.append(sock)
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(where)
    except OSError as error:
        for sock in sockets:
            sock.close()
        remedy = "is the port free, and the address one of this machine?"
        raise NorthboundError(f"cannot listen on {host}:{port}: {error.strerror or error}; {remedy}") from None
    return sockets
