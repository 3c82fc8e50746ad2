"""What goes into and comes out of a store, whatever keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct, field

from northbound.config import Start
from northbound.message import Kind, Message
from northbound.status import Counters, StoreStatus

#: What one message costs beside its topic and payload, in bytes, as backlogs count it.
ROW_OVERHEAD = 64

#: Where a connector stands: a sequence in the log, or a topic while it is still sending the first snapshot.
Position = int | str


def stored_size(messages: Sequence[Message]) -> int:
    """Return what ``messages`` cost in the store, in bytes."""
    return sum([len(m.topic) + len(m.payload) for m in messages]) + ROW_OVERHEAD * len(messages)


class Entries(Struct, gc=False):
    """Consecutive messages for one connector.

    ``positions`` (what to settle) and ``sequences`` (which message) run beside ``messages``. ``through`` is the last
    position that was looked at: between the positions, and after them up to ``through``, stand messages that a newer
    value has superseded.
    """

    positions: Sequence[Position]
    sequences: Sequence[int]
    messages: Sequence[Message]
    through: Position


class Progress(Struct):
    """Where one connector stands, as the store knows it.

    ``snapshot`` is the last topic sent of the first snapshot, ``None`` when that is done; ``start`` is the sequence
    it began behind.
    """

    connector: str
    start: int
    cursor: int
    snapshot: str | None
    snapshot_through: int
    latest_through: int
    counters: Counters
    backlog: int
    backlog_bytes: int


class DeadLetter(Struct):
    """A message set aside. ``at`` in ms since 1970; ``tries`` counts the replays that failed."""

    id: int
    connector: str
    sequence: int
    at: int
    reason: str
    message: Message
    replay: int = 0
    tries: int = 0


class Settlement(Struct):
    """What a connector has come to, committed together: nothing is passed that is not acknowledged or set aside."""

    connector: str
    position: Position | None = None
    counters: Counters = field(default_factory=Counters)
    dead: list[tuple[int, Message, str]] = field(default_factory=list)
    passed: int = 0
    passed_bytes: int = 0

    def absorb(self, later: Settlement) -> None:
        """Make this one stand for both."""
        if later.position is not None:
            self.position = later.position
        self.counters.add(later.counters)
        self.dead.extend(later.dead)
        self.passed += later.passed
        self.passed_bytes += later.passed_bytes


class Append(Struct):
    """A batch on its way to the disk. ``committed`` has the sequence of its last message as result."""

    messages: Sequence[Message]
    source: str | None
    checkpoint: bytes | None
    committed: asyncio.Future[int]
    first: int = 0
    size: int = 0


class Store(Protocol):
    """The contract. All of it is called on the event loop; what waits for the disk is a coroutine or a future."""

    @property
    def id(self) -> str:
        """The store's own id: the first part of every idempotency key."""

    @property
    def head(self) -> int:
        """The sequence of the newest committed message."""

    async def register(self, connector: str, start: Start) -> Progress:
        """Return where ``connector`` stands; a new one begins as ``start`` says."""

    async def retire(self, keep: Sequence[str]) -> dict[str, int]:
        """Forget every connector not in ``keep``; returns what each had not yet delivered."""

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` after every commit of messages; returns how to stop that."""

    def listen(self, listener: Callable[[Sequence[Message]], None]) -> Callable[[], None]:
        """Call ``listener`` with every batch when it is on disk; returns how to stop that."""

    def append(self, messages: Sequence[Message], source: str | None, checkpoint: bytes | None) -> Append:
        """Queue a batch. Await its ``committed`` to know that it is on disk."""

    async def room(self) -> None:
        """Wait while too much is queued."""

    def read(self, connector: str, after: Position, limit: int, limit_bytes: int) -> Entries:
        """Return the next messages behind ``after``, at least one where there is any."""

    def settle(self, settlement: Settlement) -> None:
        """Queue what a connector has come to; later ones for the same connector are joined with it."""

    def excess(self, connector: str, after: int, need: int, before: int | None) -> tuple[int, int, int]:
        """Return (sequence, messages, bytes): how far to go behind ``after`` for the oldest to give way.

        That is until ``need`` bytes are free and all that was accepted before the time ``before`` (ms) is passed.
        """

    async def supersede(self, connector: str, through: int) -> None:
        """From now on ``connector`` gets, up to ``through``, only the newest value of each topic."""

    def oldest(self, after: int) -> int | None:
        """Return when the first message behind ``after`` was accepted (ms since 1970)."""

    def newest(self, topics: Sequence[str]) -> dict[str, int]:
        """Return the newest committed sequence of each of ``topics`` that has one."""

    async def fold(self) -> None:
        """Return when all that was queued so far is on disk and among the current values."""

    def current(self, topics: Sequence[str]) -> dict[str, bytes]:
        """Return the payload of each of ``topics`` that has a value, as of the last fold."""

    def current_topics(self, prefix: str, after: str, limit: int) -> list[tuple[str, Kind]]:
        """Return the topics that have a value and begin with ``prefix``, behind ``after``, as of the last fold."""

    def checkpoint(self, source: str) -> bytes | None:
        """Return what ``source`` last committed with a batch."""

    def replays(self, connector: str, limit: int) -> list[DeadLetter]:
        """Return dead letters that a person wants sent again."""

    async def replayed(self, done: Sequence[int], failed: Sequence[tuple[int, str]]) -> None:
        """Remove the dead letters ``done``, and keep ``failed`` with their new reason."""

    def dead_count(self, connector: str) -> int:
        """Return how many dead letters wait for a person."""

    async def watch(self) -> None:
        """Wait until the store breaks for good and raise why."""

    async def flush(self) -> None:
        """Return when all that was queued so far is on disk."""

    def status(self) -> StoreStatus:
        """Return the store's own numbers."""

    async def close(self) -> None:
        """Write what is queued, then let go of the file."""


KINDS: tuple[Kind, ...] = ("state", "metadata")
KIND_CODES = {kind: code for code, kind in enumerate(KINDS)}
