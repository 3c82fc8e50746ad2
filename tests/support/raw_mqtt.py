"""An MQTT client that says whatever it is told, also what is forbidden, and tells what it hears."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Self

from northbound.mqtt import Connack, Connect, Decoder, Disconnect, Packet, encode


class Raw:
    """One connection. ``heard`` are the packets so far; ``closed`` says whether the other side has ended it."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None, *, host: str = "localhost") -> None:
        self.port = port
        self.context = context
        self.host = host
        self.version = 5
        self.heard: list[Packet] = []
        self.closed = False

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self.host, self.port, ssl=self.context)
        self._reading = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._reading.cancel()
        self._writer.transport.abort()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._reading
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self) -> None:
        decoder = Decoder(5)
        try:
            while data := await self._reader.read(65_536):
                decoder.version = self.version
                self.heard += decoder.feed(data)
        except OSError:
            pass
        finally:
            self.closed = True

    async def say(self, *packets: Packet) -> None:
        with contextlib.suppress(OSError):  # it may have hung up
            self._writer.write(b"".join(encode(packet, self.version) for packet in packets))
            await self._writer.drain()

    async def sign_in(self, connect: Connect) -> Connack | None:
        """Send CONNECT; returns the answer, ``None`` where the connection was closed instead."""
        self.version = connect.version
        await self.say(connect)
        await self.until(lambda: self.heard or self.closed)
        return self.heard.pop(0) if self.heard else None  # type: ignore[return-value]

    async def until(self, condition: Callable[[], object], *, within: float = 10) -> None:
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.005)

    async def answers(self, count: int) -> list[Packet]:
        """Wait for so many packets, or the end."""
        await self.until(lambda: len(self.heard) >= count or self.closed)
        return self.heard

    async def farewell(self) -> int | None:
        """Wait for the end; returns the reason the other side gave, ``None`` for none."""
        await self.until(lambda: self.closed)
        return next((packet.reason for packet in self.heard if isinstance(packet, Disconnect)), None)
