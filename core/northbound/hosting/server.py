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
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from northbound.errors import NorthboundError
from northbound.hosting import ListenAddress

#: Seconds that requests under way have to finish when the service stops.
GRACE: Final = 5
#: Seconds an idle connection is kept for the next request.
KEEP_ALIVE: Final = 30
#: Seconds between two pings of an idle WebSocket, and again until its answer: who never reads is gone after both.
_PING: Final = 60

_UNUSABLE: Final = "certificate and private_key cannot be used: {}; check both files"
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: 48\r\n"
    b'retry-after: 1\r\nconnection: close\r\n\r\n{"error":"too many connections are open: later"}'
)


class BoundedProtocol(H11Protocol):
    """Hangs up on a client that is slower than ``patience`` with what it began or was sent, and on one too many."""

    patience: ClassVar[float] = 30.0
    max_connections: ClassVar[int] = 5000

    _deadline: asyncio.TimerHandle | None = None
    _reading: asyncio.TimerHandle | None = None

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
            if self.transport.get_protocol() is self:  # else it is a WebSocket now
                self._watch()

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read what it asked for."""
        super().pause_writing()
        if self._reading is None:
            self._reading = self.loop.call_later(self.patience, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop waiting: it reads again."""
        self._stop_waiting()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_watching()
        self._stop_waiting()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand over to the WebSocket, which has timeouts of its own."""
        self._stop_watching()
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

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

    def _stop_waiting(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Uvicorn(uvicorn.Server):
    """Runs in a task; cancelling it once is asking it to stop."""

    cancelled: asyncio.CancelledError | None = None
    when_started: Callable[[], None]
    farewell: Callable[[], Awaitable[None]]

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the service."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self.when_started()

    async def main_loop(self) -> None:
        """Serve until cancelled; then end first what would never end by itself."""
        try:
            await super().main_loop()
        except asyncio.CancelledError as cancelled:
            self.cancelled = cancelled
            await self.farewell()


class Hosting(Protocol):
    """The options of whoever listens; both a table of the configuration and a source's own have them."""

    @property
    def addresses(self) -> Sequence[ListenAddress]:
        """Where to listen."""
        ...

    @property
    def certificate(self) -> Path | None:
        """PEM file of the certificate and its chain, for TLS."""
        ...

    @property
    def private_key(self) -> Path | None:
        """PEM file of its key."""
        ...

    @property
    def request_timeout(self) -> timedelta:
        """How long a client may take for its headers, and again for reading its answer."""
        ...

    @property
    def max_connections(self) -> int:
        """Open connections; beyond it the answer is 503."""
        ...


async def _nothing() -> None:
    pass


class HttpServer:
    """Serves one application. Make it, :meth:`bind` it, then :meth:`serve`; ``addresses`` are those bound.

    ``websocket`` is a protocol of uvicorn's for WebSockets, without which there are none; their messages may have
    ``ws_max_size`` bytes. What ``trusted_proxies`` say of a client's address is believed. Errors name the ``table`` of
    the configuration.
    """

    def __init__(
        self,
        app: Any,
        options: Hosting,
        *,
        websocket: type[asyncio.Protocol] | None = None,
        ws_max_size: int = 0,
        trusted_proxies: Sequence[str] = (),
        table: str = "",
    ) -> None:
        self.addresses: tuple[ListenAddress, ...] = ()
        self.ssl: ssl.SSLContext | None = None
        self._options = options
        self._table = f"[{table}] " if table else ""
        self._sockets: list[socket.socket] = []
        protocol = type(
            "Protocol",
            (BoundedProtocol,),
            {"patience": options.request_timeout.total_seconds(), "max_connections": options.max_connections},
        )
        self._config = uvicorn.Config(
            app,
            http=protocol,
            ws=websocket or "none",
            ws_max_size=ws_max_size,
            ws_per_message_deflate=False,
            ws_ping_interval=_PING,
            ws_ping_timeout=_PING,
            lifespan="off",
            log_config=None,
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
            ssl_certfile=options.certificate,
            ssl_keyfile=options.private_key,
        )

    async def bind(self) -> None:
        """Take the addresses; raises :class:`NorthboundError` where one cannot be had, or the certificate is wrong."""
        try:
            self._config.load()
        except (OSError, ssl.SSLError) as error:
            raise NorthboundError(f"{self._table}{_UNUSABLE.format(error)}") from None
        self.ssl = self._config.ssl
        try:
            self._sockets = await _bind(self._options.addresses)
        except NorthboundError as error:
            raise NorthboundError(f"{self._table}{error}") from None
        self.addresses = tuple(ListenAddress(*sock.getsockname()[:2]) for sock in self._sockets)

    def renew_certificate(self) -> None:
        """Read certificate and key again, for the connections from now on; raises :class:`NorthboundError`."""
        options = self._options
        if self.ssl is None or options.certificate is None:
            return
        try:
            # Into a context of its own first: one that fails half-way must not spoil what is in use.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.certificate, options.private_key)
            self.ssl.load_cert_chain(options.certificate, options.private_key)
        except (OSError, ssl.SSLError) as error:
            raise NorthboundError(f"{self._table}{_UNUSABLE.format(error)}") from None

    async def serve(self, started: Callable[[], None], farewell: Callable[[], Awaitable[None]] = _nothing) -> None:
        """Serve until cancelled; then ``farewell`` ends what would never end, and the requests under way finish."""
        server = _Uvicorn(self._config)
        server.when_started = started
        server.farewell = farewell
        try:
            await server.serve(self._sockets)
        finally:
            self.close()
        if tasks := set(server.server_state.tasks):
            await asyncio.wait(tasks, timeout=GRACE)
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        if server.cancelled is not None:
            raise server.cancelled

    def close(self) -> None:
        """Let go of the addresses."""
        for sock in self._sockets:
            sock.close()


async def _bind(addresses: Sequence[ListenAddress]) -> list[socket.socket]:
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
                sock.listen(1024)
    except OSError as error:
        for sock in sockets:
            sock.close()
        remedy = "is the port free, and the address one of this machine?"
        raise NorthboundError(f"cannot listen on {host}:{port}: {error.strerror or error}; {remedy}") from None
    return sockets
