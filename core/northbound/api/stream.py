"""Streams of server-sent events: who listens to what, each with the newest value per topic waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final

from northbound.api.identity import Access, Identity
from northbound.message import Message
from northbound.topics import TopicMatcher

#: Topics that may wait for one stream. Beyond it the oldest are dropped, and counted: it has stopped reading.
MAX_WAITING: Final = 100_000
_CHUNK: Final = 1000


class Stream:
    """What waits for one client: at most one message per topic, in the order in which the topics changed first."""

    def __init__(self, matcher: TopicMatcher, who: Identity, access: Access, *, narrowed: bool) -> None:
        self.who = who
        self._matcher = matcher
        self._access = access
        self._narrowed = narrowed
        self._waiting: dict[str, Message] = {}
        self._changed = asyncio.Event()
        self.closed = False
        self.dropped = 0
        self.conflated = 0

    def wants(self, message: Message) -> bool:
        """Whether it asked for the message, and may see it."""
        topic = message.topic
        return self._matcher.matches(topic) and (not self._narrowed or self._access.receive(self.who, topic))

    def put(self, message: Message) -> None:
        """Let a message wait; an older one of its topic gives way."""
        waiting = self._waiting
        if waiting.pop(message.topic, None) is not None:
            self.conflated += 1
        elif len(waiting) >= MAX_WAITING:
            del waiting[next(iter(waiting))]
            self.dropped += 1
        waiting[message.topic] = message
        self._changed.set()

    async def take(self, timeout: float) -> list[Message]:  # noqa: ASYNC109 - the pause between two signs of life
        """Return what waits, some at a time; nothing where nothing came for ``timeout`` seconds."""
        if not self._waiting:
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                return []
        taken = [self._waiting.pop(topic) for topic in list(islice(self._waiting, _CHUNK))]
        if not self._waiting and not self.closed:
            self._changed.clear()
        return taken

    def close(self) -> None:
        """End it; what waits is still taken."""
        self.closed = True
        self._changed.set()


class Streams:
    """Those that are open; :meth:`publish` costs nothing while there is none."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.closed = False
        self.dropped = 0
        self.conflated = 0
        self._open: list[Stream] = []

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def opened(self, stream: Stream) -> Iterator[None]:
        """Let a stream hear what is published from now on."""
        self._open.append(stream)
        if self.closed:
            stream.close()
        try:
            yield
        finally:
            self._open.remove(stream)
            self.dropped += stream.dropped
            self.conflated += stream.conflated

    def publish(self, messages: Sequence[Message]) -> None:
        """Hand messages to the streams that want them."""
        for stream in self._open:
            for message in messages:
                if stream.wants(message):
                    stream.put(message)

    def close(self) -> None:
        """End all of them, and every later one at once."""
        self.closed = True
        for stream in self._open:
            stream.close()
