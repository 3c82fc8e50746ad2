"""The store's one writer: a thread that empties a queue into transactions.

Between them it folds the log into the current values and deletes what every connector has passed. Only the newest
value per topic of a run of the log goes into ``current``, a run at a time (:meth:`Writer._fold`): a value that changes
a hundred times a second is written there once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from northbound.config import Start
from northbound.errors import StoreError, StoreFull, StoreLocked
from northbound.status import Counters
from northbound.store import schema
from northbound.store.bookmarks import Bookmark
from northbound.store.records import KIND_CODES, Append, Progress, Settlement

T = TypeVar("T")
log = logging.getLogger(__name__)

#: Rows of one INSERT, largest first; SQLite binds at most 32,766 values in a statement.
_CHUNKS: Final = (1000, 100, 10, 1)
_ROW: Final = "(?,?,?,?,?,?,?)"
_INSERTS: Final = {
    size: f"INSERT INTO log (sequence, accepted, topic, kind, time, retain, payload) VALUES {','.join([_ROW] * size)}"  # noqa: S608 - only question marks
    for size in _CHUNKS
}
_GROUP_MESSAGES: Final = 20_000
_GROUP_BYTES: Final = 4 * 1024**2
#: Free pages given back to a full disk at a time.
_VACUUM_PAGES: Final = 1000
#: The log is folded at so many new messages, or after so long where there are fewer.
_FOLD_MESSAGES: Final = 30_000
_FOLD_SECONDS: Final = 1.0
#: Settlements are joined for so long, unless there are dead letters among them.
_SETTLE_SECONDS: Final = 0.02
#: Rows deleted or compacted in one transaction, so that none is long.
_DELETE_ROWS: Final = 50_000
_COMPACT_ROWS: Final = 20_000
_FULL_RETRY_SECONDS: Final = 0.5


class Remaining(NamedTuple):
    """What a connector at ``cursor`` has still to get of the log up to ``head``."""

    cursor: int
    head: int
    latest_through: int
    messages: int
    size: int


class _Asked:
    """Work for the writer's thread, and who waits for it: perhaps nobody any more."""

    __slots__ = ("future", "patient", "work")

    def __init__(self, work: Callable[[], Any], future: Future[Any], patient: bool) -> None:  # noqa: FBT001
        self.work = work
        self.future = future
        self.patient = patient

    def begin(self) -> bool:
        """Return whether somebody still waits."""
        return self.future.running() or self.future.set_running_or_notify_cancel()

    def fail(self, error: Exception) -> None:
        if self.begin():
            self.future.set_exception(error)


class Writer:
    """All writing.

    Methods without a leading underscore are called from the event loop, except those given to :meth:`ask`, which run
    in the writer's thread.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, *, full_sync: bool) -> None:
        self._path = path
        self._db = connection
        self._full_sync = full_sync
        self._synchronous = ""
        self._ballast = schema.Ballast(path)
        self._wake = threading.Condition()
        self._appends: deque[Append] = deque()
        self._settlements: dict[str, Settlement] = {}
        self._settle_at = 0.0
        self._asked: deque[_Asked] = deque()
        self._closing = False
        self._thread: threading.Thread | None = None
        self.full: StoreFull | StoreLocked | None = None

        self._fold_at = time.monotonic() + _FOLD_SECONDS
        self._compacting: tuple[int, int] | None = None
        self._load_state()

    def _load_state(self) -> None:
        """Take what is known of the file from the file: at the start, and after a transaction that failed."""
        self._folded = int(self._db.execute("SELECT value FROM meta WHERE key = 'folded'").fetchone()[0])
        first, last = self._db.execute("SELECT min(sequence), max(sequence) FROM log").fetchone()
        self.head = max(self._folded, last or 0)
        self._first = first or self.head + 1
        self._cursors: dict[str, tuple[int, int]] = {
            name: (cursor, latest)
            for name, cursor, latest in self._db.execute("SELECT connector, cursor, latest_through FROM progress")
        }
        self._unfolded: dict[str, int] = dict(
            self._db.execute("SELECT topic, max(sequence) FROM log WHERE sequence > ? GROUP BY topic", (self._folded,))
        )

    @property
    def log_messages(self) -> int:
        """Messages in the log, at most (superseded ones that are deleted leave gaps)."""
        return self.head - self._first + 1

    def start(
        self,
        loop: asyncio.AbstractEventLoop,
        on_committed: Callable[[Sequence[Append]], None],
        on_broken: Callable[[StoreError], None],
        on_set_aside: Callable[[Sequence[str]], None],
    ) -> None:
        """Begin; the callbacks are called on ``loop``.

        ``on_set_aside`` gets the connectors of the dead letters that are now on disk, each once a letter.
        """
        self._loop = loop
        self._on_set_aside = on_set_aside
        self._on_committed = on_committed
        self._on_broken = on_broken
        self._ballast.load()
        self._thread = threading.Thread(target=self._run, name="northbound-store", daemon=True)
        self._thread.start()

    def put(self, append: Append) -> None:
        """Queue a batch."""
        with self._wake:
            self._appends.append(append)
            self._wake.notify()

    def settle(self, settlement: Settlement) -> None:
        """Queue a settlement."""
        with self._wake:
            begins = not self._settlements or bool(settlement.dead)
            self._merge(settlement)
            if begins:
                self._wake.notify()

    def ask(self, work: Callable[[], T], *, patient: bool = False) -> Future[T]:
        """Run ``work`` in the writer's thread in a transaction of its own.

        Where the disk is full it fails, or with ``patient`` waits for room.
        """
        future: Future[T] = Future()
        with self._wake:
            if self._closing:
                future.set_exception(StoreError("the store is closed"))
                return future
            self._asked.append(_Asked(work, future, patient))
            self._wake.notify()
        return future

    def close(self) -> None:
        """Write what is queued and end the thread; blocks."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    # work given to ask()

    def register(self, connector: str, start: Start, bookmark: Bookmark | None = None) -> Progress:
        """Return where ``connector`` stands; a new one begins as ``start`` says, a known one at its newer bookmark."""
        row = self._db.execute(
            "SELECT start, cursor, snapshot, snapshot_through, latest_through, counters FROM progress"
            " WHERE connector = ?",
            (connector,),
        ).fetchone()
        if row is None:
            self._fold()
            cursor = self._first - 1 if start == "beginning" else self.head
            snapshot = "" if start == "snapshot" and self.head else None
            row = (cursor, cursor, snapshot, cursor, 0, "{}")
            self._db.execute("INSERT INTO progress VALUES (?,?,?,?,?,?,?)", (connector, *row))
            self._cursors[connector] = (cursor, 0)
        elif bookmark is not None and row[1] < bookmark.cursor <= self.head:
            counters = msgspec.json.encode(bookmark.counters).decode()
            row = (row[0], bookmark.cursor, None, row[3], row[4], counters)
            self._db.execute(
                "UPDATE progress SET cursor = ?, snapshot = NULL, counters = ? WHERE connector = ?",
                (bookmark.cursor, counters, connector),
            )
            self._cursors[connector] = (bookmark.cursor, row[4])
        begun, cursor, snapshot, snapshot_through, latest, counters = row
        return Progress(
            connector,
            begun,
            cursor,
            snapshot,
            snapshot_through,
            latest,
            msgspec.json.decode(counters, type=Counters),
            0,
            0,
        )

    def retire(self, keep: frozenset[str]) -> dict[str, int]:
        """Forget every connector not in ``keep``; returns what each had not yet delivered."""
        gone: dict[str, int] = {}
        for connector in [name for name in self._cursors if name not in keep]:
            cursor, _ = self._cursors.pop(connector)
            gone[connector] = self.head - cursor
            self._db.execute("DELETE FROM progress WHERE connector = ?", (connector,))
        return gone

    def supersede(self, connector: str, through: int) -> Remaining | None:
        """Note that ``connector`` wants only the newest value per topic up to ``through``, and begin to compact.

        Returns what it has still to get; ``None`` where it was retired meanwhile.
        """
        if connector not in self._cursors:
            return None
        self._fold()
        cursor, before = self._cursors[connector]
        through = max(through, before)
        self._cursors[connector] = (cursor, through)
        self._db.execute("UPDATE progress SET latest_through = ? WHERE connector = ?", (through, connector))
        limit = min(max(passed) for passed in self._cursors.values())
        start = min(passed[0] for passed in self._cursors.values())
        self._compacting = (max(start, self._first - 1), limit)
        # Counted here: others may need the rows, so that counting what is deleted would say nothing.
        count, size = schema.waiting(self._db, cursor, self.head, through)
        return Remaining(cursor, self.head, through, count, size)

    def fold(self) -> None:
        """Bring the current values up to the head of the log."""
        self._fold()

    def replayed(self, done: Sequence[int], failed: Sequence[tuple[int, str]]) -> None:
        """Remove the dead letters ``done``; keep ``failed`` with their new reason."""
        self._db.execute("DELETE FROM dead WHERE id IN (SELECT value FROM json_each(?))", (json.dumps(list(done)),))
        for number, reason in failed:
            self._db.execute("UPDATE dead SET replay = 0, tries = tries + 1, reason = ? WHERE id = ?", (reason, number))

    # the thread

    def _run(self) -> None:
        try:
            while self._step():
                pass
            # So that the one file is all of it, for whoever copies it while the service is stopped.
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except Exception as error:  # noqa: BLE001, RUF100 - whatever ends the only writer is told, in words
            if isinstance(error, sqlite3.Error):
                error = schema.explain(self._path, error)
            elif not isinstance(error, StoreError):
                log.exception("the store's writer failed")
                error = StoreError(f"{self._path}: the writer failed: {type(error).__name__}: {error}")
            with self._wake:
                self._closing = True
                for asked in self._asked:
                    asked.fail(error)
                self._asked.clear()
            self._call(self._on_broken, error)
        finally:
            self._db.close()

    def _step(self) -> bool:
        with self._wake:
            while not self._has_work() and self._wake.wait(self._patience()):
                pass
            full = self.full is not None
            appends = [] if full else self._next_group(_GROUP_MESSAGES)
            settlements: dict[str, Settlement] = {}
            if self._settling():
                settlements, self._settlements = self._settlements, {}
                self._settle_at = time.monotonic() + _SETTLE_SECONDS
            questions = len(self._asked)  # one that comes from now on has settlements before it that are not taken yet
            closing = self._closing
        try:
            # Apart from the appends, which a full disk may refuse.
            if settlements:
                self._write([], settlements)
                settlements = {}
            if appends:
                self._write(appends, {})
            self._answer(questions)
            self._maintain()
            if full:
                self._try_again()
        except sqlite3.Error as error:
            explained = schema.explain(self._path, error)
            if not isinstance(explained, StoreFull | StoreLocked):
                raise
            self._put_off(explained, settlements)
            return not closing
        return not closing or bool((self._appends and self.full is None) or self._settlements or self._asked)

    def _has_work(self) -> bool:
        waiting = self.full is not None
        return self._settling() or self._closing or bool(not waiting and (self._appends or self._asked))

    def _settling(self) -> bool:
        """Whether it is time to write settlements: the bookmarks have them already, so not for each one."""
        if not self._settlements:
            return False
        urgent = self._closing or self._asked or any(waiting.dead for waiting in self._settlements.values())
        return bool(urgent) or time.monotonic() >= self._settle_at

    def _patience(self) -> float | None:
        if self.full is not None:
            return _FULL_RETRY_SECONDS
        if self._compacting is not None:
            return 0.0
        moments = [self._settle_at] if self._settlements else []
        if self._unfolded or self._deletable() >= self._first:
            moments.append(self._fold_at)
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _next_group(self, largest: int) -> list[Append]:
        group: list[Append] = []
        count = size = 0
        for append in self._appends:
            count += len(append.messages)
            size += append.size
            if group and (count > largest or size > _GROUP_BYTES):
                break
            group.append(append)
        return group

    def _write(self, appends: list[Append], settlements: dict[str, Settlement]) -> None:
        # A settlement alone may be lost with the power: it only repeats what was acknowledged.
        self._set_synchronous("FULL" if appends and self._full_sync else "NORMAL")
        schema.transaction(self._db, lambda: self._statements(appends, settlements))
        with self._wake:
            for _ in appends:
                self._appends.popleft()
        for append in appends:
            unfolded, sequence = self._unfolded, append.first
            for message in append.messages:
                unfolded[message.topic] = sequence
                sequence += 1
            self.head = sequence - 1
        for connector, settlement in settlements.items():
            if isinstance(settlement.position, int) and connector in self._cursors:
                self._cursors[connector] = (settlement.position, self._cursors[connector][1])
        if appends:
            self._call(self._on_committed, appends)
        aside = [connector for connector, settlement in settlements.items() for _ in settlement.dead]
        if aside:
            self._call(self._on_set_aside, aside)

    def _statements(self, appends: list[Append], settlements: dict[str, Settlement]) -> None:
        accepted = time.time_ns() // 1_000_000
        parameters: list[Any] = []
        for append in appends:
            sequence = append.first
            for m in append.messages:
                parameters += (sequence, accepted, m.topic, KIND_CODES[m.kind], m.time, m.retain, m.payload)
                sequence += 1
            if append.checkpoint is not None:
                self._db.execute(
                    "INSERT INTO checkpoint VALUES (?, ?) ON CONFLICT (source) DO UPDATE SET data = excluded.data",
                    (append.source, append.checkpoint),
                )
        begin, total = 0, len(parameters)
        for size in _CHUNKS:
            width = size * 7
            while total - begin >= width:
                self._db.execute(_INSERTS[size], parameters[begin : begin + width])
                begin += width
        for settlement in settlements.values():
            self._settle(settlement, accepted)

    def _settle(self, settlement: Settlement, at: int) -> None:
        if settlement.connector not in self._cursors:
            return
        row = self._db.execute("SELECT counters FROM progress WHERE connector = ?", (settlement.connector,)).fetchone()
        counters = msgspec.json.decode(row[0], type=Counters)
        counters.add(settlement.counters)
        change = "counters = ?"
        values: list[Any] = [msgspec.json.encode(counters).decode()]
        if isinstance(settlement.position, str):
            change += ", snapshot = ?"
            values.append(settlement.position)
        elif settlement.position is not None:
            change += ", snapshot = NULL, cursor = ?"
            values.append(settlement.position)
        self._db.execute(f"UPDATE progress SET {change} WHERE connector = ?", (*values, settlement.connector))  # noqa: S608
        for sequence, m, reason in settlement.dead:
            self._db.execute(
                "INSERT INTO dead (connector, sequence, at, reason, topic, kind, time, retain, payload)"
                " VALUES (?,?,?,?,?,?,?,?,?)",
                (
                    settlement.connector, sequence, at, reason,
                    m.topic, KIND_CODES[m.kind], m.time, m.retain, m.payload,
                ),
            )  # fmt: skip

    def _answer(self, questions: int) -> None:
        for _ in range(questions):
            asked = self._asked[0]
            if asked.begin():
                try:
                    result = schema.transaction(self._db, asked.work)
                except sqlite3.Error as error:
                    # What the work has noted in memory is not in the file.
                    self._load_state()
                    explained = schema.explain(self._path, error)
                    if isinstance(explained, StoreFull | StoreLocked):
                        raise
                    asked.fail(explained)
                except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                    self._load_state()
                    asked.fail(error)
                else:
                    asked.future.set_result(result)
            self._asked.popleft()

    def _refuse_asked(self, error: StoreError) -> None:
        """Answer those who would not wait for room, and at the end the others too."""
        for asked in [asked for asked in self._asked if self._closing or not asked.patient]:
            self._asked.remove(asked)
            asked.fail(error)

    # folding, deleting, compacting

    def _maintain(self) -> None:
        due = time.monotonic() >= self._fold_at
        if len(self._unfolded) and (due or self.head - self._folded >= _FOLD_MESSAGES):
            self._set_synchronous("NORMAL")
            schema.transaction(self._db, self._fold)
            self._fold_at = time.monotonic() + _FOLD_SECONDS
            due = True
        if due and self._deletable() >= self._first:
            self._set_synchronous("NORMAL")
            schema.transaction(self._db, self._delete)
            more = self._deletable() >= self._first
            self._fold_at = time.monotonic() + (0 if more else _FOLD_SECONDS)
        if self._compacting is not None:
            self._set_synchronous("NORMAL")
            schema.transaction(self._db, self._compact)

    def _fold(self) -> None:
        if self._unfolded:
            # Sorted by topic, so that neighbours in the tree of ``current`` are written together.
            sequences = [self._unfolded[topic] for topic in sorted(self._unfolded)]
            self._db.execute(
                "INSERT INTO current (topic, sequence, kind, time, retain, payload)"
                " SELECT topic, sequence, log.kind, time, retain, payload"
                " FROM json_each(?) AS new CROSS JOIN log ON log.sequence = new.value WHERE true"
                " ON CONFLICT (topic) DO UPDATE SET sequence = excluded.sequence, kind = excluded.kind,"
                " time = excluded.time, retain = excluded.retain, payload = excluded.payload",
                (json.dumps(sequences),),
            )
            self._unfolded = {}
        self._folded = self.head
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'folded'", (self._folded,))

    def _deletable(self) -> int:
        passed = min((cursor for cursor, _ in self._cursors.values()), default=self.head)
        return min(passed, self._folded)

    def _delete(self) -> None:
        upper = min(self._deletable(), self._first + _DELETE_ROWS - 1)
        self._db.execute("DELETE FROM log WHERE sequence <= ?", (upper,))
        row = self._db.execute("SELECT min(sequence) FROM log").fetchone()
        self._first = row[0] if row[0] is not None else self.head + 1
        # That a topic was cleared is remembered only while something older of it could still be sent.
        oldest = self._db.execute("SELECT min(sequence) FROM dead").fetchone()[0]
        self._db.execute(
            "DELETE FROM current WHERE length(payload) = 0 AND sequence < ?", (min(self._first, oldest or self._first),)
        )

    def _compact(self) -> None:
        assert self._compacting is not None  # noqa: S101 - asked by the only caller
        low, limit = self._compacting
        high = min(limit, low + _COMPACT_ROWS)
        self._db.execute(
            f"DELETE FROM log WHERE sequence > ? AND sequence <= ? AND {schema.SUPERSEDED}",  # noqa: S608
            (low, high),
        )
        self._compacting = (high, limit) if high < limit else None

    # a full disk

    def _try_again(self) -> None:
        """See whether there is room: with as little as there is, and apart from settlements, which must not suffer."""
        if isinstance(self.full, StoreFull):
            self._give_back()
            if not self._ballast.load():
                return
        with self._wake:
            appends = self._next_group(0)
        if appends:
            self._write(appends, {})
        log.warning("%s: messages are accepted again", self._path)
        self.full = None

    def _give_back(self) -> None:
        """Give the disk what has been deleted, and what is in the WAL, through which settlements must go."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})").fetchall()
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _put_off(self, error: StoreFull | StoreLocked, settlements: dict[str, Settlement]) -> None:
        if self.full is None:
            log.error("%s; nothing more is accepted until then", error)
        self.full = error
        if isinstance(error, StoreFull):
            self._ballast.drop()
            self._give_back()
        self._load_state()
        with self._wake:
            later, self._settlements = self._settlements, settlements
            for settlement in later.values():
                self._merge(settlement)
            self._refuse_asked(error)
            self._wake.wait_for(lambda: self._closing, timeout=_FULL_RETRY_SECONDS)

    def _merge(self, settlement: Settlement) -> None:
        waiting = self._settlements.get(settlement.connector)
        if waiting is None:
            self._settlements[settlement.connector] = settlement
        else:
            waiting.absorb(settlement)

    def _set_synchronous(self, mode: str) -> None:
        if mode != self._synchronous:
            self._db.execute(f"PRAGMA synchronous = {mode}")
            self._synchronous = mode

    def _call(self, function: Callable[..., None], argument: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(function, argument)
        except RuntimeError:  # the loop is closed: nobody waits any more
            log.debug("the event loop ended before the store")
