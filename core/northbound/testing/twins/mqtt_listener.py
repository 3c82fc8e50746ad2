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
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from northbound.testing.twins.tls import TlsServer

if TYPE_CHECKING:
    from northbound.testing.twins.mqtt_peer import MqttPeer

#: Bytes that may wait to be written to one client; one that does not read is cut off.
MAX_UNREAD: Final = 4 * 1024 * 1024
#: How long a client that was hung up on may take to read the last words: to close with its bytes unread would reset the
#: connection, and it would never see them.
LINGER_SECONDS: Final = 1.0
HANDSHAKE_SECONDS: Final = 5.0


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
    """One connection: bytes in, bytes out, TLS and WebSocket around them where they are wanted."""

    def __init__(self, listener: MqttListener) -> None:
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._tls: TlsServer | None = None
        self._socket: ServerProtocol | None = None
        self._peer: MqttPeer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._fresh = True
        self.greeting = Greeting()

    # -- called by the transport --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shake hands, where there is TLS."""
        self._transport = cast("asyncio.Transport", transport)
        self._listener.wires.add(self)
        remote = transport.get_extra_info("peername")
        self.greeting = Greeting(f"{remote[0]}:{remote[1]}" if remote else "")
        if self._listener.context is None:
            self._begin()
            return
        self._tls = TlsServer(self._listener.context)
        self._timer = asyncio.get_running_loop().call_later(HANDSHAKE_SECONDS, self.cut)

    def _begin(self) -> None:
        """Let the peer decide what is spoken, now that it is known who is there."""
        if self._timer is not None:
            self._timer.cancel()
        if self._tls is not None:
            self.greeting = _greeting(self.greeting, self._tls.object, self._listener.server_names)
        self._peer = self._listener.peer(self)
        if self._peer.speaks_websocket():
            self._socket = ServerProtocol(
                subprotocols=[Subprotocol(name) for name in self._listener.subprotocols],
                max_size=self._listener.max_message,
            )
        self._peer.begin()

    def data_received(self, data: bytes) -> None:
        """Take off TLS and WebSocket."""
        if self._ended:
            return
        if self._tls is not None:
            shaken = self._tls.established
            try:
                data = self._tls.receive(data)
            except ssl.SSLError as error:
                self._listener.refused_tls(error.reason or str(error))
                self._send(self._tls.pending())
                self.close()
                return
            self._send(self._tls.pending())
            if not self._tls.established:
                return
            if not shaken:
                self._begin()
        if data:
            self._take(data)
        if self._tls is not None and self._tls.finished:
            self.close()

    def _take(self, data: bytes) -> None:
        if self._peer is None:
            return
        if self._socket is None:
            self._peer.receive(data)
            return
        if self._fresh and not data.startswith(b"GET "[: len(data)]):  # MQTT where a WebSocket is wanted
            self.close()
            return
        self._fresh = False
        self._socket.receive_data(data)
        for event in self._socket.events_received():
            if isinstance(event, Request):
                self._upgrade(self._peer, self._socket, event)
            elif isinstance(event, Frame):
                self._take_frame(self._peer, event)
        self._flush()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Tell the peer, once."""
        self._listener.forget(self)
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._peer is not None:
            self._peer.gone()

    def pause_writing(self) -> None:
        """Take nothing more from a client that does not read."""
        self.listen(on=False)

    def resume_writing(self) -> None:
        """Go on."""
        self.listen(on=True)

    # -- called by the peer -------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send MQTT's bytes; a client that leaves too much unread is cut off."""
        if self._ended:
            return
        if self._socket is None:
            self._put(data)
        else:
            self._socket.send_binary(data)
            self._flush()

    def close(self) -> None:
        """Close after what was written has gone out and, in a short time, been read."""
        transport = self._transport
        if transport is None or self._ended:
            return
        if self._socket is not None and self._socket.state is State.OPEN:
            self._socket.send_close(CloseCode.NORMAL_CLOSURE)
            self._flush()
        if self._tls is not None:
            self._tls.finish()
            self._send(self._tls.pending())
        self._ended = True
        if transport.is_closing():
            return
        transport.resume_reading()
        try:
            transport.write_eof()
        except OSError:  # the client has reset the connection, and asyncio does not know it yet
            transport.abort()
            return
        self._timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)

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

    # -- bytes out ----------------------------------------------------------------------------------------------

    def _put(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.send(data)
            data = self._tls.pending()
        self._send(data)

    def _send(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or not data:
            return
        transport.write(data)
        if transport.get_write_buffer_size() > MAX_UNREAD:
            self.cut()

    # -- WebSocket ----------------------------------------------------------------------------------------------

    def _upgrade(self, peer: MqttPeer, socket: ServerProtocol, request: Request) -> None:
        self.greeting = self.greeting._replace(path=request.path, headers=tuple(request.headers.raw_items()))
        refusal = peer.on_upgrade(self.greeting)
        if refusal is not None:
            status, words = refusal
            socket.send_response(socket.reject(status, f"{words}\n"))
        elif request.path.partition("?")[0] != self._listener.path:
            socket.send_response(socket.reject(HTTPStatus.NOT_FOUND, "there is no WebSocket here\n"))
        else:
            socket.send_response(socket.accept(request))  # refuses a subprotocol that is not ours by itself

    def _take_frame(self, peer: MqttPeer, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY or frame.opcode is Opcode.CONT:
            if not self._ended:
                peer.receive(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:  # [MQTT-6.0.0-1]
            self.close()

    def _flush(self) -> None:
        if self._socket is None:
            return
        for data in self._socket.data_to_send():
            if data:
                self._put(data)
            else:
                self.close()


class MqttListener:
    """Listens on 127.0.0.1; ``port`` is the port in use. ``peer`` makes the peer of each connection.

    ``server_name_seen`` is told a client's SNI (``None`` without) and may refuse it by returning a TLS alert;
    ``refused_tls`` is told why a handshake failed.
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
        refused_tls: Callable[[str], None] | None = None,
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
        self.context = context
        self.refused_tls = refused_tls or (lambda _why: None)
        self._server_name_seen = server_name_seen
        self._server: asyncio.Server | None = None
        self._left = asyncio.Event()

    def forget(self, wire: Wire) -> None:
        """Take note that a connection has ended."""
        self.wires.discard(wire)
        self._left.set()

    async def __aenter__(self) -> Self:
        if self.context is not None:
            self.context.sni_callback = self._on_server_name
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Wire(self), self.host, self.port)
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


def _greeting(greeting: Greeting, tls: ssl.SSLObject, names: WeakKeyDictionary[ssl.SSLObject, str | None]) -> Greeting:
    shown = tls.getpeercert(binary_form=True)
    return greeting._replace(
        tls=True,
        certificate=x509.load_der_x509_certificate(shown) if shown else None,
        server_name=names.get(tls),
        alpn=tls.selected_alpn_protocol(),
    )
