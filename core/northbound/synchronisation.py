"""A source's whole tree beside what the store has of it: what differs is stored, what is gone is cleared.

Why here and not in the source. What is stored went through the topics, the payloads and the privacy rules of this
site, so only behind the engine can two values be compared; and what has vanished while the service was down, nobody
knows but the store. The store is asked a batch of topics at a time, so that a tree costs no memory
but two hashes a topic, until it is finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from northbound.engine import Engine, Processed
from northbound.events import Event
from northbound.message import Address, Kind, Message
from northbound.source import Ticket
from northbound.topics import MetadataAddress

Owns = Callable[[Address | MetadataAddress], bool]

#: Topics asked about, or cleared, at once.
_PAGE: Final = 1000


class Current(Protocol):
    """What is asked of the store; see :class:`northbound.store.Store`."""

    def current(self, topics: Sequence[str]) -> dict[str, bytes]:
        """Return the payload of each of ``topics`` that has a value."""

    def current_topics(self, prefix: str, after: str, limit: int) -> list[tuple[str, Kind]]:
        """Return the topics that have a value and begin with ``prefix``, behind ``after``."""


class Taking(Protocol):
    """What is asked of the intake."""

    async def room(self) -> None:
        """Wait while too much is queued."""

    def accept(self, processed: Processed, received: int, checkpoint: bytes | None = None) -> Ticket:
        """Store messages, and count."""


class StoreSynchronisation:
    """See :class:`northbound.Synchronisation`. The store must just have been folded."""

    def __init__(self, intake: Taking, engine: Engine, store: Current, owns: Owns) -> None:
        self._intake = intake
        self._engine = engine
        self._store = store
        self._owns = owns
        self._prefix = f"{engine.scheme.root}/"
        self._seen: dict[int, int] = {}  # hash of a topic → hash of what it was last said to hold
        self._empty = not store.current_topics(self._prefix, "", 1)

    async def submit(self, events: Sequence[Event]) -> Ticket:
        """Hand in a batch. What the store holds already is left out."""
        await self._intake.room()
        processed = self._engine.process(events, _now())
        messages = self._differing(processed.messages)
        unchanged = len(processed.messages) - len(messages)
        return self._intake.accept(processed._replace(messages=messages), len(events) - unchanged)

    async def finish(self, *, checkpoint: bytes | None = None) -> Ticket:
        """Clear what the store holds of this source and no event of this synchronisation has named."""
        after = ""
        while not self._empty:
            page = self._store.current_topics(self._prefix, after, _PAGE)
            if not page:
                break
            after = page[-1][0]
            gone = [Message(topic, b"", kind, _now(), True) for topic, kind in page if self._is_gone(topic)]
            if gone:
                await self._intake.room()
                self._intake.accept(Processed(gone, []), len(gone))
        await self._intake.room()
        return self._intake.accept(Processed([], []), 0, checkpoint)

    def _is_gone(self, topic: str) -> bool:
        if hash(topic) in self._seen:
            return False
        address = self._engine.scheme.parse(topic)
        return address is not None and self._owns(address)

    def _differing(self, messages: Sequence[Message]) -> list[Message]:
        seen, timeless = self._seen, self._engine.payloads.timeless
        # With nothing stored there is nothing to compare; a topic that was named before is compared with that.
        stored = {} if self._empty else self._store.current([m.topic for m in messages if hash(m.topic) not in seen])
        differing: list[Message] = []
        for message in messages:
            topic = message.topic
            key = hash(topic)
            before = seen.get(key)
            if before is None:
                before = hash(timeless(message.kind, stored.get(topic, b"")))
            seen[key] = said = hash(timeless(message.kind, message.payload))
            if said != before:
                differing.append(message)
        return differing


def _now() -> int:
    return time.time_ns() // 1_000_000
