"""A WebSocket before a broker that speaks TCP: what a load balancer does, with the ``websockets`` package's own server.

It is strict: the path and the subprotocol must be right, a text message ends the connection (MQTT 5.0, section 6), and
no message may be larger than ``largest``. Debian's Mosquitto is built without its own WebSocket listener.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from http import HTTPStatus
from typing import Self

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response


class WebSocketFront:
    """Listens on a free port. ``split`` sends the broker's bytes in messages of that many; ``answer`` is a status."""

    def __init__(
        self,
        upstream: int,
        *,
        path: str = "/mqtt",
        tls: ssl.SSLContext | None = None,
        split: int | None = None,
        status: HTTPStatus | None = None,
        subprotocols: tuple[str, ...] | None = ("mqtt",),
        largest: int = 1 << 20,
    ) -> None:
        self.upstream = upstream
        self.path = path
        self.messages: list[int] = []
        self.paths: list[str] = []
        self.closed: list[int | None] = []
        self.connections: set[ServerConnection] = set()
        self._tls = tls
        self._split = split
        self._status = status
        self._subprotocols = subprotocols
        self._largest = largest

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            0,
            ssl=self._tls,
            subprotocols=self._subprotocols,
            process_request=self._check,
            max_size=self._largest,
            compression=None,
            ping_interval=None,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        if self._status is not None:
            return connection.respond(self._status, "no\n")
        if request.path.partition("?")[0] != self.path:
            return connection.respond(HTTPStatus.NOT_FOUND, "no such place\n")
        return None

    async def _serve(self, connection: ServerConnection) -> None:
        self.connections.add(connection)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        try:
            async with asyncio.TaskGroup() as tasks:
                down = tasks.create_task(self._down(reader, connection))
                with contextlib.suppress(ConnectionClosed, OSError):
                    async for message in connection:
                        if isinstance(message, str):
                            await connection.close(1003, "MQTT is binary")
                            break
                        self.messages.append(len(message))
                        writer.write(message)
                        await writer.drain()
                down.cancel()
        finally:
            self.connections.discard(connection)
            self.closed.append(connection.close_code)
            writer.close()

    async def _down(self, reader: asyncio.StreamReader, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            while data := await reader.read(self._split or 65_536):
                await connection.send(data)
            await connection.close()
