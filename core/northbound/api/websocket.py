"""uvicorn's WebSocket, which can do what ``mqtt_socket`` asks of a server beyond ASGI: see its ``Transport``."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.protocol import State

from northbound.api.mqtt_socket import EXTENSION

_FRAGMENTS: Final = 1024  # of one message: each costs more than the bytes in it


class WebSocket(WebSocketsSansIOProtocol):
    """uvicorn writes each message by itself; here an application may write many at once, and hang up."""

    #: Seconds that a client has to read what is left once it is closed: uvicorn would wait for ever.
    patience: ClassVar[float] = 10.0

    _end: asyncio.TimerHandle | None = None

    async def run_asgi(self) -> None:
        """Serve the application."""
        self.scope["extensions"][EXTENSION] = {"transport": self}
        await super().run_asgi()
        self._end_soon()

    def keepalive_timeout(self) -> None:
        """Close it, since a ping stayed unanswered."""
        super().keepalive_timeout()
        self._end_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that it is over."""
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)

    def handle_cont(self, event: Frame) -> None:
        """Take a fragment of a message. Empty ones are nothing, and must not pile up."""
        if self.close_sent or not (event.data or event.fin):
            return
        if len(self.frames) >= _FRAGMENTS:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"more than {_FRAGMENTS} fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer, if the client reads: answers must not pile up."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def _end_soon(self) -> None:
        if self._end is None and not self.disconnected:
            self._end = self.loop.call_later(self.patience, self.transport.abort)

    def take(self, largest: int) -> None:
        """Take messages of up to so many bytes from now on."""
        self.conn.max_message_size = largest

    async def write_frames(self, data: bytes) -> None:
        """Send whole frames, once there is room. Raises ``OSError`` when the client is gone."""
        await self.writable.wait()
        if self.disconnected or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        self.transport.write(data)

    def hang_up(self) -> None:
        """End it at once."""
        self.transport.abort()
