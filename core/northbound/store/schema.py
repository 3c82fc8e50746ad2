"""The SQLite file: its schema, its opening, and why one is refused.

A new store is made whole beside its place and renamed into it, so that an empty or half-made file at that place is
never ours; it is refused, not overwritten.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from northbound.errors import StoreCorrupt, StoreError, StoreForeign, StoreFull, StoreLocked
from northbound.message import Message
from northbound.store.records import KINDS, ROW_OVERHEAD, DeadLetter

T = TypeVar("T")
log = logging.getLogger(__name__)

APPLICATION_ID: Final = 0x6E627464  # "nbtd"
#: At so many pages of 4 KiB the WAL is written into the file.
_WAL_PAGES: Final = 4096
_MAGIC: Final = b"SQLite format 3\0"
#: A file up to this size is checked page by page at every start; a larger one where it is read.
_CHECKED_BYTES: Final = 64 * 1024**2

_VERSION_1: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE log (
  sequence INTEGER PRIMARY KEY, accepted INTEGER NOT NULL, topic TEXT NOT NULL, kind INTEGER NOT NULL,
  time INTEGER NOT NULL, retain INTEGER NOT NULL, payload BLOB NOT NULL);
CREATE TABLE current (
  topic TEXT PRIMARY KEY, sequence INTEGER NOT NULL, kind INTEGER NOT NULL,
  time INTEGER NOT NULL, retain INTEGER NOT NULL, payload BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX current_cleared ON current (sequence) WHERE length(payload) = 0;
CREATE TABLE progress (
  connector TEXT PRIMARY KEY, start INTEGER NOT NULL, cursor INTEGER NOT NULL, snapshot TEXT,
  snapshot_through INTEGER NOT NULL, latest_through INTEGER NOT NULL, counters TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE dead (
  id INTEGER PRIMARY KEY AUTOINCREMENT, connector TEXT NOT NULL, sequence INTEGER NOT NULL, at INTEGER NOT NULL,
  reason TEXT NOT NULL, topic TEXT NOT NULL, kind INTEGER NOT NULL, time INTEGER NOT NULL, retain INTEGER NOT NULL,
  payload BLOB NOT NULL, replay INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0);
CREATE INDEX dead_connector ON dead (connector, id);
CREATE INDEX dead_replay ON dead (connector, id) WHERE replay > 0;
CREATE INDEX dead_sequence ON dead (sequence);
CREATE TABLE checkpoint (source TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
"""

#: One step a version: ``MIGRATIONS[n]`` takes a file from version n to n + 1.
MIGRATIONS: Final[tuple[str, ...]] = (_VERSION_1,)
VERSION: Final = len(MIGRATIONS)

#: Whether a row of the log has a newer value of its topic behind it, as far as the log has been folded.
SUPERSEDED: Final = "EXISTS (SELECT 1 FROM current WHERE current.topic = log.topic AND current.sequence > log.sequence)"


class Lock:
    """Owning a store: an advisory lock on a file beside it, gone with the process however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        self._descriptor: int | None = None

    def take(self) -> None:
        """Own the store; raises :class:`StoreLocked` where another process does."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}: give the service a folder it may write to") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            who = f" (process {holder})" if holder.isdigit() else ""
            raise StoreLocked(
                f"another northbound{who} uses the store beside {self._path}: stop it, or give this one its own path"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go of the store."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Return a connection set up as the store needs it; raises a :class:`StoreError`."""
    try:
        return _connect(path, read_only=read_only)
    except sqlite3.Error as error:
        raise explain(path, error) from None


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    mode = "ro" if read_only else "rw"
    uri = f"file:{str(path).replace('%', '%25').replace('?', '%3f').replace('#', '%23')}?mode={mode}"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=64, timeout=5.0
    )
    try:
        connection.execute("PRAGMA cache_size = -8192")
        connection.execute("PRAGMA temp_store = MEMORY")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def open_checked(path: Path) -> sqlite3.Connection:
    """Open the store at ``path`` for writing, making it where nothing is there, migrating it where it is older."""
    if not path.exists():
        _create(path)
    _check(path)
    connection = connect(path)
    try:
        connection.execute("BEGIN IMMEDIATE")  # SQLite opens a file it may not write all the same
        connection.execute("ROLLBACK")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
        connection.execute("PRAGMA secure_delete = OFF")
        _migrate(connection)
    except sqlite3.Error as error:
        connection.close()
        raise explain(path, error) from None
    except StoreError:
        connection.close()
        raise
    return connection


def open_existing(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a store that the service made, beside the service or without it; never makes, migrates or repairs one.

    The service itself may call this too, so the file is opened by SQLite alone: POSIX drops all locks of a process on a
    file when the process closes any descriptor of it. Without them another program would take itself for the last one,
    and remove the WAL the service goes on writing to ("How To Corrupt An SQLite Database File", section 2.2).
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise StoreError(f"{path} does not exist: the service makes it when it first runs") from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    if not size:
        raise _empty(path)
    connection: sqlite3.Connection | None = None
    try:
        connection = _connect(path, read_only=read_only)
        _check_version(path, connection)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version < VERSION:
            raise StoreForeign(
                f"{path} was written by an older northbound (schema {version}, this one knows {VERSION}): "
                "start the service once, it brings the store up to date"
            )
    except (sqlite3.Error, StoreError) as error:
        if connection is not None:
            connection.close()
        if isinstance(error, StoreError):
            raise
        if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
            _check_header(path)  # which no service of this process can have open
        raise explain(path, error) from None
    return connection


def _check(path: Path) -> None:
    """Refuse what is not a sound store of ours, through a connection that changes nothing, not even at its end."""
    _check_header(path)
    connection = connect(path, read_only=True)
    try:
        _check_version(path, connection)
        if path.stat().st_size <= _CHECKED_BYTES:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise _corrupt(path, " ".join(found.replace("*", "").split()))
    except sqlite3.Error as error:
        raise explain(path, error) from None
    finally:
        connection.close()


def explain(path: Path, error: sqlite3.Error) -> StoreError:
    """Return what SQLite says as an error of ours, with the remedy."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _corrupt(path, str(error))
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"{path}: the disk takes no more ({error}): free space on it")
    if code == sqlite3.SQLITE_IOERR:
        return StoreFull(f"{path}: the disk does not take what is written ({error}): free space on it, or mend it")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StoreError(f"{path}: {error}: the service needs to read and write this file and its folder")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreLocked(f"{path}: another program holds the file ({error}): close it")
    return StoreError(f"{path}: {error}")


def _corrupt(path: Path, words: str) -> StoreCorrupt:
    return StoreCorrupt(
        f"{path} is damaged ({words}). It was left as it is: move it away to start with an empty store, "
        f"or recover it with: sqlite3 {path} .recover"
    )


def _empty(path: Path) -> StoreCorrupt:
    return StoreCorrupt(
        f"{path} is empty (0 bytes): a store never is, so it was cut off or made by something else. "
        "Restore it, or remove it to start with an empty store"
    )


def _check_header(path: Path) -> None:
    """Look at the file's first bytes. Not once this process has it open: see :func:`open_existing`."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}: the service needs to read and write this file") from None
    if not header:
        raise _empty(path)
    if not header.startswith(_MAGIC):
        raise StoreForeign(f"{path} is not a northbound store: name another path under [store]")
    if len(header) < 100:
        raise _corrupt(path, "it ends within its header")


def _check_version(path: Path, connection: sqlite3.Connection) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        raise StoreForeign(f"{path} is another program's SQLite file: name another path under [store]")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise StoreForeign(
            f"{path} was written by a newer northbound (schema {version}, this one knows {VERSION}): upgrade"
        )


def _migrate(connection: sqlite3.Connection) -> None:
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    for number in range(version, VERSION):
        connection.executescript(f"BEGIN IMMEDIATE;{MIGRATIONS[number]}PRAGMA user_version = {number + 1};COMMIT;")


def _create(path: Path) -> None:
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        _set_aside_leftovers(path)
        descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        os.close(descriptor)
        connection = sqlite3.connect(new, isolation_level=None)
        try:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # so that a full disk can have its room back
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            _migrate(connection)
            connection.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [("id", secrets.token_hex(4)), ("created", int(time.time() * 1000)), ("folded", 0)],
            )
        finally:
            connection.close()
        _sync(new, os.O_RDWR)
        new.rename(path)
        _sync(path.parent, os.O_RDONLY)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}: give the service a folder it may write to") from None
    except sqlite3.Error as error:
        raise explain(path, error) from None


def _set_aside_leftovers(path: Path) -> None:
    """Move away what belonged to a file that is gone: SQLite would write a stale WAL into the new one."""
    for suffix in ("-wal", "-shm", "-journal"):
        leftover = path.with_name(path.name + suffix)
        if leftover.exists():
            aside = path.with_name(f"{path.name}{suffix}.{time.time_ns()}")
            leftover.rename(aside)
            log.warning("%s belonged to a store that is not there any more: it is now %s", leftover, aside.name)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Ballast:
    """Room kept on the disk so that, when it is full, what has been delivered can be noted and deleted.

    It holds what the WAL may hold, or the WAL could not be written into the file, and some more.
    """

    SIZE: Final = _WAL_PAGES * 4096 + 8 * 1024**2

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".reserve")

    def load(self) -> bool:
        """Put the ballast in place; returns whether it is there."""
        try:
            if self._path.exists() and self._path.stat().st_size == self.SIZE:
                return True
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self.SIZE)
            finally:
                os.close(descriptor)
        except OSError:
            self.drop()
            return False
        return True

    def drop(self) -> None:
        """Give the room back."""
        self._path.unlink(missing_ok=True)


def transaction(connection: sqlite3.Connection, work: Callable[[], T]) -> T:
    """Run ``work`` in one transaction and return its result; nothing of it stays where it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = work()
        connection.execute("COMMIT")
    except BaseException:  # raised again: nothing of the transaction stays
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def waiting(connection: sqlite3.Connection, after: int, head: int, latest_through: int) -> tuple[int, int]:
    """Return how many messages, of how many bytes, a connector that stands at ``after`` has still to get."""
    count, size = connection.execute(
        "SELECT count(*), total(length(topic) + length(payload) + :overhead) FROM log"  # noqa: S608
        f" WHERE sequence > :after AND sequence <= :head AND (sequence > :latest OR NOT {SUPERSEDED})",
        {"overhead": ROW_OVERHEAD, "after": after, "head": head, "latest": latest_through},
    ).fetchone()
    return count, int(size)


def dead_letters(
    connection: sqlite3.Connection, where: str, parameters: Sequence[object], limit: int
) -> list[DeadLetter]:
    """Return the dead letters for which the condition ``where`` holds, oldest first."""
    rows = connection.execute(
        "SELECT id, connector, sequence, at, reason, topic, kind, time, retain, payload, replay, tries FROM dead"  # noqa: S608
        f" WHERE {where} ORDER BY id LIMIT ?",
        (*parameters, limit),
    )
    return [
        DeadLetter(
            row[0],
            row[1],
            row[2],
            row[3],
            row[4],
            Message(row[5], row[9], KINDS[row[6]], row[7], bool(row[8])),
            row[10],
            row[11],
        )
        for row in rows
    ]
