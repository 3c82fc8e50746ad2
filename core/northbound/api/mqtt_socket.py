"""MQTT over WebSocket as an ASGI application, and over plain TCP and TLS.

Over WebSocket (section 6 of the specification) packets and messages need not fall together. From a client they are
split and joined at will: MQTT.js sends one CONNECT as a dozen messages, so bytes are limited, not messages. To a client
each packet goes in a message of its own, and the packets of one turn of the event loop in one write (see ``frames``).
"""

from __future__ import annotations

import asyncio
import socket
import ssl as tls
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from northbound.api.broker import Broker
from northbound.api.conversation import converse
from northbound.api.frames import framed
from northbound.api.identity import Access, Authenticator
from northbound.mqtt_options import MqttOptions

Scope = MutableMapping[str, Any]
AsgiReceive = Callable[[], Awaitable[MutableMapping[str, Any]]]
AsgiSend = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, AsgiReceive, AsgiSend], Awaitable[None]]

#: The ASGI extension by which a scope has a :class:`Transport`: our own, for ASGI has no word for what it does.
EXTENSION: Final = "northbound"

_SUBPROTOCOLS: Final = ("mqtt", "mqttv3.1")  # in the order of our liking
_TEXT_REFUSED: Final = 1003  # RFC 6455, section 7.4.1: a kind of data that is not accepted
_TRY_LATER: Final = 1013  # IANA's registry of close codes
_JOINED: Final = 4  # a WebSocket message may join several packets of MQTT
_READ: Final = 64 * 1024
_GOOD_BYE: Final = 2.0  # seconds that a client has to let a good-bye through


class Transport(Protocol):
    """What a WebSocket of the server can do beyond ASGI."""

    def take(self, largest: int) -> None:
        """Take messages of up to so many bytes from now on."""
        ...

    async def write_frames(self, data: bytes) -> None:
        """Send whole frames, once there is room. Raises ``OSError`` when the client is gone."""
        ...

    def hang_up(self) -> None:
        """End it at once: a close would wait for a client that does not read."""
        ...


def strangers_message(options: MqttOptions) -> int:
    """Return the bytes that a server takes in a message of who is not signed in yet.

    Twice what MQTT takes: who says a little too much hears so in a CONNACK.
    """
    return 2 * options.connect_bytes


def mqtt_endpoint(
    broker: Broker,
    authenticator: Authenticator,
    access: Access,  # noqa: ARG001 - the broker has it; here so that both transports are made alike
    options: MqttOptions,
    *,
    origins: Sequence[str] = (),
) -> AsgiApp:
    """Return the ASGI application, for a server whose scopes have a :class:`Transport`.

    That one begins with messages of :func:`strangers_message` at most.

    ``origins`` are those of web pages that may connect, beside our own; ``*``: all.
    """
    allowed = frozenset(origin.rstrip("/").lower() for origin in origins)

    async def endpoint(scope: Scope, receive: AsgiReceive, send: AsgiSend) -> None:
        if scope["type"] != "websocket":
            await _respond(send, "http", 426, b"this is MQTT over WebSocket\n", [(b"upgrade", b"websocket")])
            return
        await receive()  # websocket.connect
        if not _origin_allowed(scope, allowed):
            await _respond(send, "websocket.http", 403, b"this origin is not allowed\n")
            return
        offered = [name for name in _SUBPROTOCOLS if name in scope["subprotocols"]]
        if not offered:  # [MQTT-6.0.0-3]
            await _respond(send, "websocket.http", 400, b"the subprotocol is mqtt or mqttv3.1\n")
            return
        await send({"type": "websocket.accept", "subprotocol": offered[0]})
        client = scope.get("client")
        wire = _WebSocket(receive, send, scope["extensions"][EXTENSION]["transport"], _JOINED * options.packet_bytes)
        served = await converse(broker, authenticator, client[0] if client else "", wire)
        await wire.close(1000 if served else _TRY_LATER)

    return endpoint


def _origin_allowed(scope: Scope, allowed: frozenset[str]) -> bool:
    """Say whether a web page may connect; what is no browser names no origin."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    origin = headers.get(b"origin")
    if origin is None or "*" in allowed:
        return True
    text = origin.decode("latin-1").lower()
    return text in allowed or urlsplit(text).netloc == headers.get(b"host", b"").decode("latin-1").lower()


async def _respond(
    send: AsgiSend, kind: str, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    plain = [(b"content-type", b"text/plain; charset=utf-8"), *headers]
    await send({"type": f"{kind}.response.start", "status": status, "headers": plain})
    await send({"type": f"{kind}.response.body", "body": body})


class _WebSocket:
    def __init__(self, receive: AsgiReceive, send: AsgiSend, transport: Transport, largest: int) -> None:
        self._receive = receive
        self._send = send
        self._transport = transport
        self._largest = largest
        self._close_code = 0
        self._gone = False

    async def read(self) -> bytes | None:
        event = await self._receive()
        if event["type"] != "websocket.receive":
            self._gone = True
            return None
        data = event.get("bytes")
        if data is None:  # [MQTT-6.0.0-1]
            self._close_code = _TEXT_REFUSED
            return None
        return bytes(data)

    def welcome(self) -> None:
        self._transport.take(self._largest)

    async def write(self, pieces: Sequence[bytes]) -> None:
        await self._transport.write_frames(framed(pieces))

    async def close(self, code: int) -> None:
        if not self._gone:
            try:
                async with asyncio.timeout(_GOOD_BYE):
                    await self._send({"type": "websocket.close", "code": self._close_code or code})
            except TimeoutError:  # there is no room for it: the client reads nothing
                self.abort()
            except (OSError, RuntimeError):  # uvicorn's words for it, where it has closed the WebSocket itself
                self._gone = True

    def abort(self) -> None:
        self._gone = True
        self._transport.hang_up()


class MqttListener:
    """MQTT over TCP, or TLS with ``ssl``; ``addresses`` are those it listens at once it is started."""

    def __init__(
        self,
        broker: Broker,
        authenticator: Authenticator,
        access: Access,  # noqa: ARG002 - as for the endpoint
        options: MqttOptions,
        *,
        address: tuple[str, int],
        ssl: tls.SSLContext | None = None,
    ) -> None:
        self._broker = broker
        self._authenticator = authenticator
        self._options = options
        self._address = address
        self._ssl = ssl
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.addresses: list[tuple[str, int]] = []

    async def start(self) -> None:
        """Listen. Raises ``OSError``."""
        host, port = self._address
        seconds = self._options.connect_timeout.total_seconds()
        timeouts = {} if self._ssl is None else {"ssl_handshake_timeout": seconds, "ssl_shutdown_timeout": 2.0}
        self._server = await asyncio.start_server(
            self._serve, host, port, ssl=self._ssl, limit=_READ, backlog=1024, **timeouts
        )
        self.addresses = [item.getsockname()[:2] for item in self._server.sockets]

    async def stop(self) -> None:
        """Listen no more, and end the connections that are left."""
        if self._server is None:
            return
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        raw = writer.get_extra_info("socket")
        if raw is not None:  # a client without keep-alive that vanishes would be there for ever
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer = writer.get_extra_info("peername")
        wire = _Stream(reader, writer)
        try:
            await converse(self._broker, self._authenticator, str(peer[0]) if peer else "", wire)
        except asyncio.CancelledError:  # by ``stop``, which wants it over
            wire.abort()
            raise
        finally:
            await wire.close()


class _Stream:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes | None:
        try:
            return await self._reader.read(_READ) or None
        except OSError:
            return None

    def welcome(self) -> None:
        pass  # it reads pieces, and the decoder bounds packets

    async def write(self, pieces: Sequence[bytes]) -> None:
        self._writer.write(b"".join(pieces))
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        try:
            async with asyncio.timeout(_GOOD_BYE):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()

    def abort(self) -> None:
        self._writer.transport.abort()
