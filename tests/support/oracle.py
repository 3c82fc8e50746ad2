"""Conservation: what went in is what came out, what waits and what was set aside, and every number says so.

``check_file`` reads a store's file after the fact, whoever wrote it; ``check_received`` compares what was accepted with
what a destination got. Both take plain data, so that any source and any destination can be checked.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

FATES = (
    "acknowledged",
    "filtered",
    "withheld",
    "overtaken",
    "superseded",
    "dropped_queue_full",
    "dropped_expired",
    "dead",
)


class Account(NamedTuple):
    """One connector as the file tells it. ``waiting`` are the sequences in its backlog, ``dead`` those set aside."""

    connector: str
    start: int
    cursor: int
    snapshot: str | None
    latest_through: int
    counters: dict[str, int]
    waiting: list[int]
    dead: list[int]

    @property
    def total(self) -> int:
        return sum(self.counters[fate] for fate in FATES)


class Ledger(NamedTuple):
    """A whole store at rest: ``log`` by sequence, ``current`` by topic."""

    id: str
    head: int
    log: dict[int, tuple[str, bytes]]
    current: dict[str, tuple[int, bytes]]
    accounts: dict[str, Account]
    checkpoints: dict[str, bytes]


class Received(NamedTuple):
    """What a destination got: distinct messages, and how many came more than once."""

    distinct: int
    duplicates: int


def read_ledger(path: Path) -> Ledger:
    """Return what the file at ``path`` says, committed transactions in its WAL included; it is left as it is."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        meta = dict(db.execute("SELECT key, value FROM meta"))
        log = {row[0]: (row[1], row[2]) for row in db.execute("SELECT sequence, topic, payload FROM log")}
        current = {row[0]: (row[1], row[2]) for row in db.execute("SELECT topic, sequence, payload FROM current")}
        head = max([int(meta["folded"]), *log])
        accounts = {}
        rows = db.execute("SELECT connector, start, cursor, snapshot, latest_through, counters FROM progress")
        for name, start, cursor, snapshot, latest, counters in rows.fetchall():
            dead = [row[0] for row in db.execute("SELECT sequence FROM dead WHERE connector = ? ORDER BY id", (name,))]
            counted = dict.fromkeys((*FATES, "from_snapshot"), 0) | json.loads(counters)
            waiting = [sequence for sequence in sorted(log) if sequence > cursor]
            accounts[name] = Account(name, start, cursor, snapshot, latest, counted, waiting, dead)
        checkpoints = dict(db.execute("SELECT source, data FROM checkpoint"))
        return Ledger(meta["id"], head, log, current, accounts, checkpoints)
    finally:
        db.close()


def check_file(path: Path, *, letters_kept: bool = True, compacted: bool = False) -> Ledger:
    """Fail where a store at rest contradicts itself.

    ``letters_kept``: no dead letter was replayed or dropped. ``compacted``: a connector that began when another one's
    backlog had been reduced to the newest values has never been owed the others.
    """
    ledger = read_ledger(path)
    newest: dict[str, int] = {}
    for sequence, (topic, _) in sorted(ledger.log.items()):
        newest[topic] = sequence
    for account in ledger.accounts.values():
        name, counters = account.connector, account.counters
        assert account.start <= account.cursor <= ledger.head, f"{name}: its cursor is outside of the log"
        assert account.total == account.cursor - account.start + counters["from_snapshot"], (
            f"{name}: it has passed {account.cursor - account.start} messages and {counters['from_snapshot']} of the "
            f"first snapshot, and accounts for {account.total}: {counters}"
        )
        if letters_kept:
            assert len(account.dead) == counters["dead"], f"{name}: {len(account.dead)} dead letters, {counters}"
        for sequence in range(account.cursor + 1, ledger.head + 1):
            if sequence > account.latest_through and not compacted:
                assert sequence in ledger.log, f"{name}: {sequence} is gone, and it stands at {account.cursor}"
        for topic, (sequence, _) in ledger.current.items():
            wanted = account.cursor < sequence <= ledger.head
            assert not wanted or sequence in ledger.log, f"{name}: the newest value of {topic} ({sequence}) is gone"
    for topic, (sequence, _) in ledger.current.items():
        assert newest.get(topic, 0) <= sequence or newest[topic] > _folded(path), f"current is behind for {topic}"
    return ledger


def check_received(
    accepted: Sequence[tuple[str, bytes]],
    received: Iterable[tuple[int, str, bytes]],
    *,
    missing_allowed: int = 0,
    after: int = 0,
) -> Received:
    """Compare what was accepted, as (topic, payload) in order, with what a destination acknowledged, in order.

    ``received`` holds (sequence, topic, payload); the first accepted message has the sequence ``after`` + 1. At the
    destination a topic may repeat values, after a lost acknowledgement, but at the end it holds its newest one, and
    seen by first arrivals it never goes backwards.
    """
    seen: Counter[int] = Counter()
    highest: dict[str, int] = {}
    last: dict[str, int] = {}
    for sequence, topic, payload in received:
        assert accepted[sequence - after - 1] == (topic, payload), f"{sequence} is another message than was accepted"
        if not seen[sequence]:
            assert sequence > highest.get(topic, 0), f"{topic} went back from {highest[topic]} to {sequence}"
            highest[topic] = sequence
        seen[sequence] += 1
        last[topic] = sequence
    for topic, sequence in last.items():
        assert sequence == highest[topic], f"{topic} ended with {sequence}, it has had {highest[topic]}"
    missing = len(accepted) - len(seen)
    assert missing == missing_allowed, f"{missing} of {len(accepted)} accepted messages never arrived"
    return Received(len(seen), sum(seen.values()) - len(seen))


def _folded(path: Path) -> int:
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT value FROM meta WHERE key = 'folded'").fetchone()[0])
    finally:
        db.close()
