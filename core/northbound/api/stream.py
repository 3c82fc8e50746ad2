"""Streams of server-sent events: who listens to what, each with the newest value per topic waiting for it.

Who wants a topic is worked out once, and an event is written once however many streams it goes to.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final

import msgspec

from northbound.api.identity import Access, Identity
from northbound.message import Message
from northbound.topics import TopicMatcher

#: Topics that may wait for one stream. Beyond it the oldest are dropped, and counted: it has stopped reading.
MAX_WAITING: Final = 100_000
_CHUNK: Final = 500
_MOST_REMEMBERED: Final = 200_000

_encode = msgspec.json.Encoder().encode


def told(message: Message) -> dict[str, object]:
    """Return a message for JSON: its payload as JSON where it is, else as text, else as base64."""
    row: dict[str, object] = {"topic": message.topic, "kind": message.kind, "time": message.time}
    payload = message.payload
    if not payload:
        return {**row, "payload": None}
    try:
        msgspec.json.decode(payload)
        if b"\n" in payload or b"\r" in payload:  # which would end the line of an event
            payload = msgspec.json.format(payload, indent=-1)
        row["payload"] = msgspec.Raw(payload)
    except (msgspec.DecodeError, RecursionError):
        try:
            row["payload_text"] = payload.decode()
        except UnicodeDecodeError:
            row["payload_base64"] = b64encode(payload).decode()
    return row


def event_of(message: Message) -> bytes:
    """Return a message as a server-sent event."""
    return b"data: " + _encode(told(message)) + b"\n\n"


class Stream:
    """What waits for one client: at most one message per topic, in the order in which the topics changed first."""

    def __init__(self, matcher: TopicMatcher, who: Identity, access: Access, *, narrowed: bool) -> None:
        self.who = who
        self._matcher = matcher
        self._access = access
        self._narrowed = narrowed
        self._waiting: dict[str, bytes] = {}
        self._changed = asyncio.Event()
        self.closed = False
        self.dropped = 0
        self.conflated = 0

    def wants(self, topic: str) -> bool:
        """Whether it asked for a topic, and may see it."""
        return self._matcher.matches(topic) and (not self._narrowed or self._access.receive(self.who, topic))

    def narrow(self) -> None:
        """Ask about each topic from now on: the rules are others than when it was granted."""
        self._narrowed = True
        self._waiting = {topic: event for topic, event in self._waiting.items() if self.wants(topic)}

    def put(self, topic: str, event: bytes) -> None:
        """Let an event wait; an older one of its topic gives way."""
        waiting = self._waiting
        if waiting.pop(topic, None) is not None:
            self.conflated += 1
        elif len(waiting) >= MAX_WAITING:
            del waiting[next(iter(waiting))]
            self.dropped += 1
        waiting[topic] = event
        self._changed.set()

    async def take(self, timeout: float) -> list[bytes]:  # noqa: ASYNC109 - the pause between two signs of life
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
        self._wanting: dict[str, tuple[Stream, ...]] = {}

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def opened(self, stream: Stream) -> Iterator[None]:
        """Let a stream hear what is published from now on."""
        self._open.append(stream)
        self._wanting.clear()
        if self.closed:
            stream.close()
        try:
            yield
        finally:
            self._open.remove(stream)
            self._wanting.clear()
            self.dropped += stream.dropped
            self.conflated += stream.conflated

    def publish(self, messages: Sequence[Message]) -> None:
        """Hand messages to the streams that want them."""
        if not self._open:
            return
        for message in messages:
            topic = message.topic
            wanting = self._wanting.get(topic)
            if wanting is None:
                wanting = self._ask(topic)
            if wanting:
                event = event_of(message)
                for stream in wanting:
                    stream.put(topic, event)

    def _ask(self, topic: str) -> tuple[Stream, ...]:
        if len(self._wanting) >= _MOST_REMEMBERED:
            self._wanting.clear()
        found = self._wanting[topic] = tuple(stream for stream in self._open if stream.wants(topic))
        return found

    def forget_rights(self) -> None:
        """Ask again who may see what: the rules are others now."""
        self._wanting.clear()
        for stream in self._open:
            stream.narrow()

    def close(self) -> None:
        """End all of them, and every later one at once."""
        self.closed = True
        for stream in self._open:
            stream.close()
