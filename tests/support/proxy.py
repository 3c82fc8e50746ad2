"""A TCP proxy between two real programs: it cuts, stalls, and counts the PUBLISH packets that go through."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from typing import Self

from northbound.mqtt import Decoder, ProtocolError, Publish


class Proxy:
    """Listens on ``port`` and forwards to ``upstream``; runs in a thread of its own.

    ``published`` counts the PUBLISH packets the client sent, by the user property ``id`` (the idempotency key), unless
    what goes through is not ``mqtt``. ``upstream`` may be changed: nobody listens there, and nobody can be reached.
    """

    def __init__(self, port: int, upstream: int, *, mqtt: bool = True) -> None:
        self.port = port
        self._mqtt = mqtt
        self.upstream = upstream
        self.published: Counter[str] = Counter()
        self.connections = 0
        self._flowing = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_exc: object) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def repeated(self) -> int:
        """How many PUBLISH packets were sent again, by whomever, for whatever reason."""
        return sum(self.published.values()) - len(self.published)

    def cut(self) -> None:
        """Reset every connection."""
        self._loop.call_soon_threadsafe(self._reset)

    def stall(self) -> None:
        """Keep the connections and let nothing through."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def flow(self) -> None:
        """Let everything through again."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def _call(self, work) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._flowing.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _end(self) -> None:
        self._server.close()
        self._reset()
        self._flowing.set()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _reset(self) -> None:
        for writer in [*self._open]:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, up_writer}
        self._open |= pair
        decoder = Decoder(5, 1 << 28)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pipe(reader, up_writer, decoder, pair))
                tasks.create_task(self._pipe(up_reader, writer, None, pair))
        finally:
            self._open -= pair
            for each in pair:
                each.close()

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decoder: Decoder | None, pair: set
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._flowing.wait()
                if decoder is not None and self._mqtt:
                    self._count(decoder, data)
                writer.write(data)
                await writer.drain()
        for each in pair:
            each.transport.abort() if decoder is not None else each.close()

    def _count(self, decoder: Decoder, data: bytes) -> None:
        try:
            packets = decoder.feed(data)
        except ProtocolError as error:
            raise AssertionError(f"northbound sent what is not MQTT: {error}") from error
        for packet in packets:
            if isinstance(packet, Publish):
                self.published[dict(packet.properties.user).get("id", "")] += 1
