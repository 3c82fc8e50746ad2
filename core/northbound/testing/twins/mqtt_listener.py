"""A port that takes MQTT over TCP, TLS and WebSocket, for twins; owns no task, so that nothing is left running.

A connection is a :class:`Wire`: it knows bytes, TLS and WebSocket frames. What is said over it is the business of its
:class:`~northbound.testing.twins.mqtt_peer.MqttPeer`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, Self, cast
from weakref import WeakKeyDictionary

from cryptography import x509
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

if TYPE_CHECKING:
    from northbound.testing.twins.mqtt_peer import MqttPeer

#: Bytes that may wait to be written to one client; one that does not read is cut off.
MAX_UNREAD: Final = 4 * 1024 * 1024
#: How long a client that was hung up on may take to read the last words: to close with its bytes unread would reset the
#: connection, and it would never see them. TLS cannot be closed by half, so there the wait is short.
LINGER_SECONDS: Final = 1.0
LINGER_TLS_SECONDS: Final = 0.05


class Greeting(NamedTuple):
    """What is known of a connection before its first packet.

    ``certificate`` is the client's, verified; ``server_name`` is its SNI, ``alpn`` what was agreed; ``path`` (with its
    query) is set when it came as a WebSocket.
    """

    remote: str = ""
    tls: bool = False
    certificate: x509.Certificate | None = None
    server_name: str | None = None
    alpn: str | None = None
    path: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


class Wire(asyncio.Protocol):
    """One connection: bytes in, bytes out, WebSocket where the peer says so."""

    def __init__(self, listener: MqttListener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._socket: ServerProtocol | None = None
        self._peer: MqttPeer
        self._closing: asyncio.TimerHandle | None = None
        self._ended = False
        self.greeting = Greeting()

    # -- called by the transport --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who is there, and let the peer decide what is spoken."""
        self._transport = stream = cast("asyncio.Transport", transport)
        self.greeting = _greeting(stream, self._listener.server_names)
        self._listener.wires.add(self)
        self._peer = self._listener.peer(self)
        if self._peer.speaks_websocket():
            self._socket = ServerProtocol(
                subprotocols=[Subprotocol(name) for name in self._listener.subprotocols],
                max_size=self._listener.max_message,
            )
        self._peer.begin()

    def data_received(self, data: bytes) -> None:
        """Hand MQTT's bytes to the peer."""
        if self._ended:
            return
        if self._socket is None:
            self._peer.receive(data)
            return
        self._socket.receive_data(data)
        for event in self._socket.events_received():
            if isinstance(event, Request):
                self._upgrade(self._socket, event)
            elif isinstance(event, Frame):
                self._take_frame(event)
        self._flush()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Tell the peer, once."""
        self._listener.forget(self)
        self._ended = True
        if self._closing is not None:
            self._closing.cancel()
        self._peer.gone()

    def pause_writing(self) -> None:
        """Take nothing more from a client that does not read."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- called by the peer -------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send MQTT's bytes; a client that leaves too much unread is cut off."""
        transport = self._transport
        if transport is None or self._ended or transport.is_closing():
            return
        if self._socket is None:
            transport.write(data)
        else:
            self._socket.send_binary(data)
            self._flush()
        if transport.get_write_buffer_size() > MAX_UNREAD:
            self.cut()

    def close(self) -> None:
        """Close after what was written has gone out and, in a short time, been read."""
        transport = self._transport
        if transport is None or self._ended:
            return
        self._ended = True
        if self._socket is not None and self._socket.handshake_exc is None and self._socket.state.name == "OPEN":
            self._socket.send_close(1000)
            self._flush()
        loop = asyncio.get_running_loop()
        if transport.can_write_eof():
            transport.write_eof()
            self._closing = loop.call_later(LINGER_SECONDS, transport.abort)
        else:
            self._closing = loop.call_later(LINGER_TLS_SECONDS, self._close_tls, transport)

    def _close_tls(self, transport: asyncio.Transport) -> None:
        transport.close()
        self._closing = asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)

    def cut(self) -> None:
        """Reset the connection."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    def listen(self, *, on: bool) -> None:
        """Stop or go on reading, as a stalled network does."""
        if self._transport is None or self._transport.is_closing():
            return
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # -- WebSocket ----------------------------------------------------------------------------------------------

    def _upgrade(self, socket: ServerProtocol, request: Request) -> None:
        self.greeting = self.greeting._replace(path=request.path, headers=tuple(request.headers.raw_items()))
        refusal = self._peer.on_upgrade(self.greeting)
        if refusal is not None:
            status, words = refusal
            socket.send_response(socket.reject(status, f"{words}\n"))
        elif request.path.partition("?")[0] != self._listener.path:
            socket.send_response(socket.reject(HTTPStatus.NOT_FOUND, "there is no WebSocket here\n"))
        else:
            socket.send_response(socket.accept(request))  # refuses a subprotocol that is not ours by itself

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY or frame.opcode is Opcode.CONT:
            if not self._ended:
                self._peer.receive(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:  # [MQTT-6.0.0-1]
            self.close()

    def _flush(self) -> None:
        transport, socket = self._transport, self._socket
        if transport is None or socket is None:
            return
        for data in socket.data_to_send():
            if transport.is_closing():
                return
            if data:
                transport.write(data)
            else:
                transport.close()
                return


class MqttListener:
    """Listens on 127.0.0.1; ``port`` is the port in use. ``peer`` makes the peer of each connection.

    ``server_name_seen`` is told a client's SNI (``None`` without) and may refuse it by returning a TLS alert.
    ``path`` and ``subprotocols`` are for WebSocket.
    """

    def __init__(
        self,
        peer: Callable[[Wire], MqttPeer],
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        context: ssl.SSLContext | None = None,
        server_name_seen: Callable[[str | None], int | None] | None = None,
        path: str = "/mqtt",
        subprotocols: Sequence[str] = ("mqtt",),
        max_message: int = 512 * 1024,
    ) -> None:
        self.peer = peer
        self.host = host
        self.port = port
        self.path = path
        self.subprotocols = subprotocols
        self.max_message = max_message
        self.wires: set[Wire] = set()
        self.server_names: WeakKeyDictionary[ssl.SSLObject, str | None] = WeakKeyDictionary()
        self._context = context
        self._server_name_seen = server_name_seen
        self._server: asyncio.Server | None = None
        self._left = asyncio.Event()

    def forget(self, wire: Wire) -> None:
        """Take note that a connection has ended."""
        self.wires.discard(wire)
        self._left.set()

    async def __aenter__(self) -> Self:
        if self._context is not None:
            self._context.sni_callback = self._on_server_name
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Wire(self),
            self.host,
            self.port,
            ssl=self._context,
            ssl_handshake_timeout=5.0 if self._context else None,
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for wire in [*self.wires]:
            wire.cut()
        while self.wires:
            self._left.clear()
            await self._left.wait()
        await server.wait_closed()

    def _on_server_name(self, tls: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> int | None:
        self.server_names[tls] = name
        return self._server_name_seen(name) if self._server_name_seen is not None else None


def _greeting(transport: asyncio.Transport, names: WeakKeyDictionary[ssl.SSLObject, str | None]) -> Greeting:
    remote = transport.get_extra_info("peername")
    where = f"{remote[0]}:{remote[1]}" if remote else ""
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if tls is None:
        return Greeting(where)
    shown = tls.getpeercert(binary_form=True)
    certificate = x509.load_der_x509_certificate(shown) if shown else None
    return Greeting(where, True, certificate, names.get(tls), tls.selected_alpn_protocol())
