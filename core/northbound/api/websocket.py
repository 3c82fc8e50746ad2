"""uvicorn's WebSocket, which can do what ``mqtt_socket`` asks of a server beyond ASGI: see its ``Transport``."""

from __future__ import annotations

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from northbound.api.mqtt_socket import EXTENSION


class WebSocket(WebSocketsSansIOProtocol):
    """uvicorn writes each message by itself; here an application may write many at once, and hang up."""

    async def run_asgi(self) -> None:
        """Serve the application."""
        self.scope["extensions"][EXTENSION] = {"transport": self}
        await super().run_asgi()

    async def write_frames(self, data: bytes) -> None:
        """Send whole frames, once there is room. Raises ``OSError`` when the client is gone."""
        await self.writable.wait()
        if self.disconnected or self.conn.state is not State.OPEN:
            raise ClientDisconnected
        self.transport.write(data)

    def hang_up(self) -> None:
        """End it at once."""
        self.transport.abort()
