"""The store on SQLite, seen from the event loop.

Why two threads. A statement of SQLite's lets go of the interpreter's lock while it runs and must take it again for each
row it steps over; beside a busy event loop, taking it costs up to a switch interval (5 ms). So the writer, in a thread
of its own, uses statements that do a whole batch in one step, and waits for the disk there; the reader's short queries
run on the loop itself, where nothing competes. One writer, so group commit needs no more than emptying the queue.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from northbound.config import Start, StoreOptions
from northbound.errors import StoreError
from northbound.message import Kind, Message
from northbound.status import StoreStatus
from northbound.store import schema
from northbound.store.bookmarks import Bookmarks
from northbound.store.records import (
    KINDS,
    ROW_OVERHEAD,
    Append,
    DeadLetter,
    Entries,
    Position,
    Progress,
    Settlement,
    stored_size,
)
from northbound.store.tail import Tail
from northbound.store.writer import Writer

T = TypeVar("T")
P = ParamSpec("P")

_COLUMNS = "sequence, topic, kind, time, retain, payload"
_QUEUED_MESSAGES = 20_000
_QUEUED_BYTES = 64 * 1024**2
_TAIL_BYTES = 8 * 1024**2
_SCANNED = 10_000
_FLUSH_POLL_SECONDS = 0.2


def _explained(query: Callable[Concatenate[SqliteStore, P], T]) -> Callable[Concatenate[SqliteStore, P], T]:
    @functools.wraps(query)
    def explaining(store: SqliteStore, /, *arguments: P.args, **keywords: P.kwargs) -> T:
        try:
            return query(store, *arguments, **keywords)
        except sqlite3.Error as error:
            raise store.explain(error) from None

    return explaining


class SqliteStore:
    """See :class:`northbound.store.Store`. Open it on the running event loop."""

    def __init__(self, options: StoreOptions) -> None:
        self.path = Path(options.path)
        self._loop = asyncio.get_running_loop()
        self._lock = schema.Lock(self.path)
        self._lock.take() if self.path.parent.is_dir() else self._make_folder()
        connections: list[sqlite3.Connection] = []
        try:
            connections.append(schema.open_checked(self.path))
            connections.append(schema.connect(self.path, read_only=True))
            self._reader = connections[1]
            self._writer = Writer(self.path, connections[0], full_sync=options.synchronous == "full")
            self.id: str = self._reader.execute("SELECT value FROM meta WHERE key = 'id'").fetchone()[0]
        except BaseException as error:  # raised again: nothing stays open or locked
            for connection in connections:
                connection.close()
            self._lock.release()
            if isinstance(error, sqlite3.Error):
                raise schema.explain(self.path, error) from None
            raise
        self.head = self._writer.head
        self._next = self.head + 1
        self._tail = Tail(_TAIL_BYTES)
        self._progress: dict[str, Progress] = {}
        self._wakers: list[Callable[[], None]] = []
        self._listeners: list[Callable[[Sequence[Message]], None]] = []
        self._queued = 0
        self._queued_bytes = 0
        self._unfinished: dict[int, Append] = {}
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._broken: asyncio.Future[None] = self._loop.create_future()
        self._closed = False
        self._bookmarks = Bookmarks(self.path.with_name(self.path.name + ".bookmarks"), self.id)
        self._aside: Counter[str] = Counter()  # dead letters on their way to the disk, by connector
        self._writer.start(self._loop, self._on_committed, self._on_broken, self._aside.subtract)

    def _make_folder(self) -> None:
        try:
            self.path.parent.mkdir(parents=True)
        except OSError as error:
            raise StoreError(f"{self.path.parent}: {error.strerror}: name a folder the service may write to") from None
        self._lock.take()

    # in

    @property
    def has_room(self) -> bool:
        """Whether not too much is queued."""
        return self._has_room.is_set()

    async def room(self) -> None:
        """Wait while too much is queued."""
        while not self._has_room.is_set():
            await self._has_room.wait()

    def append(self, messages: Sequence[Message], source: str | None = None, checkpoint: bytes | None = None) -> Append:
        """Queue a batch. Await its ``committed`` to know that it is on disk."""
        append = Append(messages, source, checkpoint, self._loop.create_future())
        if self._broken.done() or self._closed:
            append.committed.set_exception(self._broken.exception() or StoreError("the store is closed"))
            append.committed.exception()  # whoever awaits it gets it all the same
            return append
        append.first = self._next
        append.size = stored_size(messages)
        self._next += len(messages)
        self._queued += len(messages)
        self._queued_bytes += append.size
        if self._queued >= _QUEUED_MESSAGES or self._queued_bytes >= _QUEUED_BYTES:
            self._has_room.clear()
        self._unfinished[id(append)] = append
        self._writer.put(append)
        return append

    def _on_committed(self, appends: Sequence[Append]) -> None:
        for append in appends:
            del self._unfinished[id(append)]
            count = len(append.messages)
            self._queued -= count
            self._queued_bytes -= append.size
            if count:
                self._tail.extend(append.first, append.messages, append.size)
                self.head = append.first + count - 1
                for progress in self._progress.values():
                    progress.backlog += count
                    progress.backlog_bytes += append.size
                for listener in self._listeners:
                    listener(append.messages)
            if not append.committed.done():
                append.committed.set_result(append.first + count - 1)
        if self._queued < _QUEUED_MESSAGES // 2 and self._queued_bytes < _QUEUED_BYTES // 2:
            self._has_room.set()
        for wake in self._wakers:
            wake()

    def _on_broken(self, error: StoreError) -> None:
        if not self._broken.done():
            self._broken.set_exception(error)
            self._broken.exception()  # seen: whoever watches gets it again
        for append in self._unfinished.values():
            if not append.committed.done():
                append.committed.set_exception(error)
                append.committed.exception()
        self._unfinished.clear()
        self._has_room.set()

    async def watch(self) -> None:
        """Wait until the store breaks for good and raise why."""
        await asyncio.shield(self._broken)

    # connectors

    async def register(self, connector: str, start: Start) -> Progress:
        """Return where ``connector`` stands; a new one begins as ``start`` says."""
        bookmark = self._bookmarks.take(connector)
        progress = await self._ask(lambda: self._writer.register(connector, start, bookmark))
        # One that was ahead of the log (a power cut, a file from a backup) must not wait there until the log has
        # grown past it: by then the sequences are other messages.
        self._bookmarks.erase(connector)
        # Counted here, on the loop, so that no commit falls between counting and being counted on.
        progress.backlog, progress.backlog_bytes = self._waiting(progress.cursor, self.head, progress.latest_through)
        self._progress[connector] = progress
        return progress

    def unregister(self, connector: str) -> None:
        """Stop counting for a connector that no longer runs; where it stands stays in the store."""
        self._progress.pop(connector, None)

    async def retire(self, keep: Sequence[str]) -> dict[str, int]:
        """Forget every connector not in ``keep``; returns what each had not yet delivered."""
        self._bookmarks.keep(keep)  # first: a bookmark must never outlive its connector's place
        return await self._ask(lambda: self._writer.retire(frozenset(keep)))

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call ``wake`` after every commit of messages; returns how to stop that."""
        self._wakers.append(wake)
        return lambda: self._wakers.remove(wake)

    def listen(self, listener: Callable[[Sequence[Message]], None]) -> Callable[[], None]:
        """Call ``listener`` with every batch when it is on disk; returns how to stop that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def settle(self, settlement: Settlement) -> None:
        """Queue what a connector has come to; later ones for the same connector are joined with it."""
        progress = self._progress.get(settlement.connector)
        if progress is None:  # no longer configured
            return
        progress.counters.add(settlement.counters)
        self._aside[settlement.connector] += len(settlement.dead)
        if isinstance(settlement.position, str):
            progress.snapshot = settlement.position
        elif settlement.position is not None:
            progress.snapshot = None
            progress.cursor = settlement.position
            if not self._aside[settlement.connector]:
                self._bookmarks.write(settlement.connector, settlement.position, progress.counters)
        self._passed(settlement.connector, settlement.passed, settlement.passed_bytes)
        self._writer.settle(settlement)

    def _passed(self, connector: str, count: int, size: int) -> None:
        progress = self._progress.get(connector)
        if progress is None:
            return
        if progress.cursor >= self.head:
            progress.backlog = progress.backlog_bytes = 0
        else:
            progress.backlog = max(0, progress.backlog - count)
            progress.backlog_bytes = max(0, progress.backlog_bytes - size)

    async def supersede(self, connector: str, through: int) -> None:
        """From now on ``connector`` gets, up to ``through``, only the newest value of each topic."""
        remaining = await self._ask(lambda: self._writer.supersede(connector, through), patient=True)
        progress = self._progress.get(connector)
        if progress is None or remaining is None:
            return
        progress.latest_through = through = remaining.latest_through
        # The writer has counted at its moment; here it may be a few commits and settlements later.
        later, later_size = self._waiting(remaining.head, self.head, through)
        passed, passed_size = self._waiting(remaining.cursor, progress.cursor, through)
        progress.backlog = max(0, remaining.messages + later - passed)
        progress.backlog_bytes = max(0, remaining.size + later_size - passed_size)

    # out

    @_explained
    def read(self, connector: str, after: Position, limit: int, limit_bytes: int) -> Entries:
        """Return the next messages behind ``after``, at least one where there is any."""
        progress = self._progress[connector]
        if isinstance(after, str):
            return self._read_snapshot(progress, after, limit, limit_bytes)
        if after >= self.head:
            return Entries((), (), (), after)
        if after < progress.latest_through:
            # So many at once, however few are left of them: this runs on the loop.
            upper = min(self.head, progress.latest_through, after + _SCANNED)
            where = f" AND NOT {schema.SUPERSEDED}"
        else:
            found = self._tail.read(after, limit, limit_bytes)
            if found is not None:
                last = after + len(found)
                return Entries(range(after + 1, last + 1), range(after + 1, last + 1), found, last)
            upper, where = self.head, ""
        rows = self._reader.execute(
            f"SELECT {_COLUMNS} FROM log WHERE sequence > ? AND sequence <= ?{where} ORDER BY sequence LIMIT ?",  # noqa: S608
            (after, upper, limit),
        )
        sequences, messages, whole = _take(rows, limit, limit_bytes)
        return Entries(sequences, sequences, messages, upper if whole else sequences[-1])

    def _read_snapshot(self, progress: Progress, after: str, limit: int, limit_bytes: int) -> Entries:
        rows = self._reader.execute(
            f"SELECT {_COLUMNS} FROM current WHERE topic > ? AND sequence <= ? AND length(payload) > 0"  # noqa: S608
            " ORDER BY topic LIMIT ?",
            (after, progress.snapshot_through, limit),
        )
        sequences, messages, whole = _take(rows, limit, limit_bytes)
        topics = [message.topic for message in messages]
        return Entries(topics, sequences, messages, progress.cursor if whole else topics[-1])

    @_explained
    def excess(self, connector: str, after: int, need: int, before: int | None) -> tuple[int, int, int]:
        """Return (sequence, messages, bytes): how far to go behind ``after`` for the oldest to give way.

        That is until ``need`` bytes are free and all that was accepted before the time ``before`` (ms) is passed.
        """
        count = size = 0
        rows = self._reader.execute(
            f"SELECT sequence, accepted, length(topic) + length(payload) + {ROW_OVERHEAD} FROM log"  # noqa: S608
            f" WHERE sequence > ? AND sequence <= ? AND (sequence > ? OR NOT {schema.SUPERSEDED}) ORDER BY sequence",
            (after, self.head, self._progress[connector].latest_through),
        )
        for sequence, accepted, row_size in rows:
            if size >= need and (before is None or accepted >= before):
                rows.close()
                break
            after = sequence
            count += 1
            size += row_size
        return after, count, size

    @_explained
    def oldest(self, after: int) -> int | None:
        """Return when the first message behind ``after`` was accepted (ms since 1970)."""
        row = self._reader.execute(
            "SELECT accepted FROM log WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT 1",
            (after, self.head),
        ).fetchone()
        return row[0] if row else None

    @_explained
    def newest(self, topics: Sequence[str]) -> dict[str, int]:
        """Return the newest committed sequence of each of ``topics`` that has one."""
        found: dict[str, int] = {}
        for topic in topics:
            row = self._reader.execute(
                "SELECT max(sequence) FROM (SELECT sequence FROM current WHERE topic = :topic UNION ALL"
                " SELECT max(sequence) FROM log WHERE topic = :topic AND sequence >"
                " (SELECT value FROM meta WHERE key = 'folded'))",
                {"topic": topic},
            ).fetchone()
            if row[0] is not None:
                found[topic] = row[0]
        return found

    async def fold(self) -> None:
        """Return when all that was queued so far is on disk and among the current values."""
        await self.flush()
        await self._ask(self._writer.fold, patient=True)

    @_explained
    def current(self, topics: Sequence[str]) -> dict[str, bytes]:
        """Return the payload of each of ``topics`` that has a value, as of the last fold."""
        rows = self._reader.execute(
            "SELECT topic, payload FROM json_each(?) AS wanted CROSS JOIN current ON current.topic = wanted.value"
            " WHERE length(payload) > 0",
            (json.dumps(list(topics)),),
        )
        return dict(rows)

    @_explained
    def current_topics(self, prefix: str, after: str, limit: int) -> list[tuple[str, Kind]]:
        """Return the topics that have a value and begin with ``prefix``, behind ``after``, as of the last fold."""
        rows = self._reader.execute(
            "SELECT topic, kind FROM current WHERE topic > ? AND topic < ? AND length(payload) > 0"
            " ORDER BY topic LIMIT ?",
            (max(after, prefix), f"{prefix}\U0010ffff", limit),
        )
        return [(topic, KINDS[kind]) for topic, kind in rows]

    @_explained
    def checkpoint(self, source: str) -> bytes | None:
        """Return what ``source`` last committed with a batch."""
        row = self._reader.execute("SELECT data FROM checkpoint WHERE source = ?", (source,)).fetchone()
        return row[0] if row else None

    # dead letters

    @_explained
    def replays(self, connector: str, limit: int) -> list[DeadLetter]:
        """Return dead letters that a person wants sent again."""
        return schema.dead_letters(self._reader, "connector = ? AND replay > 0", (connector,), limit)

    async def replayed(self, done: Sequence[int], failed: Sequence[tuple[int, str]]) -> None:
        """Remove the dead letters ``done``, and keep ``failed`` with their new reason."""
        await self._ask(lambda: self._writer.replayed(done, failed), patient=True)

    @_explained
    def dead_count(self, connector: str) -> int:
        """Return how many dead letters wait for a person, those on their way to the disk included."""
        progress = self._progress.get(connector)
        if progress is None:
            return 0
        # In one statement, so that a letter is either on the disk or on its way: who counts both apart counts it twice.
        count, ever = self._reader.execute(
            "SELECT (SELECT count(*) FROM dead WHERE connector = :name), coalesce(json_extract(counters, '$.dead'), 0)"
            " FROM progress WHERE connector = :name",
            {"name": connector},
        ).fetchone()
        return int(count) + progress.counters.dead - int(ever)

    # the store itself

    def status(self) -> StoreStatus:
        """Return the store's own numbers."""
        size = 0
        for suffix in ("", "-wal"):
            try:
                size += self.path.with_name(self.path.name + suffix).stat().st_size
            except OSError:
                continue
        error = self._broken.exception() if self._broken.done() else self._writer.full
        return StoreStatus(
            id=self.id,
            path=str(self.path),
            sequence=self.head,
            log_messages=self._writer.log_messages,
            file_bytes=size,
            error=None if error is None else str(error),
        )

    async def flush(self) -> None:
        """Return when all that was queued so far is on disk, or waits for room on it."""
        waiting = {append.committed for append in self._unfinished.values()}
        while waiting and self._writer.full is None:
            _, waiting = await asyncio.wait(waiting, timeout=_FLUSH_POLL_SECONDS)
        await self._ask(lambda: None)

    async def close(self) -> None:
        """Write what is queued, then let go of the file."""
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._writer.close)
        self._on_broken(StoreError("the store is closed"))
        self._reader.close()
        self._bookmarks.close()
        self._lock.release()

    async def _ask(self, work: Callable[[], T], *, patient: bool = False) -> T:
        if self._broken.done():
            raise self._broken.exception() or StoreError("the store is closed")
        return await asyncio.wrap_future(self._writer.ask(work, patient=patient))

    @_explained
    def _waiting(self, after: int, head: int, latest_through: int) -> tuple[int, int]:
        return schema.waiting(self._reader, after, head, latest_through)

    def explain(self, error: sqlite3.Error) -> StoreError:
        """Return what SQLite says of a query as an error of ours."""
        return StoreError("the store is closed") if self._closed else schema.explain(self.path, error)


def _take(rows: sqlite3.Cursor, limit: int, limit_bytes: int) -> tuple[list[int], list[Message], bool]:
    """Return sequences and messages of ``rows`` within the bounds, and whether those were all the rows there are."""
    sequences: list[int] = []
    messages: list[Message] = []
    size = 0
    row: Any
    for row in rows:
        message = Message(row[1], row[5], KINDS[row[2]], row[3], bool(row[4]))
        size += message.size
        if size > limit_bytes and messages:
            rows.close()
            return sequences, messages, False
        sequences.append(row[0])
        messages.append(message)
    return sequences, messages, len(sequences) < limit
