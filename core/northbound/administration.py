"""The store's file from outside, beside the running service or without it: its dead letters.

SQLite lets another process read while the service writes, and write in short transactions between the service's own.
Nothing here makes a store, migrates one, or takes the lock that owning it means.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from northbound.errors import StoreError
from northbound.store import schema
from northbound.store.records import DeadLetter
from northbound.topics import TopicMatcher

#: Rows for each transaction and each read, so that the service never waits long and memory stays bounded.
_CHUNK: Final = 200


def is_running(path: Path) -> bool:
    """Whether a service owns the store at ``path`` at this moment."""
    lock = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class DeadLetters:
    """The dead letters in a store; use it as a context manager. Raises :class:`StoreError` where the file is none."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._db = schema.open_existing(path, read_only=read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def count(self, connector: str | None = None) -> int:
        """Return how many wait, for one connector or for all."""
        where, parameters = _of(connector)
        with self._explained():
            return int(self._db.execute(f"SELECT count(*) FROM dead WHERE {where}", parameters).fetchone()[0])  # noqa: S608

    def each(self, *, connector: str | None = None, topics: Sequence[str] = (), after: int = 0) -> Iterator[DeadLetter]:
        """Give the dead letters, oldest first, of one connector and of topics that match any of some filters.

        ``after``: only those behind that id.
        """
        matcher = TopicMatcher(topics) if topics else None
        where, parameters = _of(connector)
        last = after
        while True:
            with self._explained():
                found = schema.dead_letters(self._db, f"id > ? AND {where}", (last, *parameters), _CHUNK)
            for letter in found:
                if matcher is None or matcher.matches(letter.message.topic):
                    yield letter
            if len(found) < _CHUNK:
                return
            last = found[-1].id

    def get(self, number: int) -> DeadLetter:
        """Return the one with that id."""
        with self._explained():
            found = schema.dead_letters(self._db, "id = ?", (number,), 1)
        if not found:
            raise StoreError(
                f"no dead letter {number} in {self.path}: 'northbound deadletters list' shows which there are"
            )
        return found[0]

    def ids(self, connector: str | None = None) -> list[int]:
        """Return the ids of all, or of one connector's."""
        where, parameters = _of(connector)
        with self._explained():
            return [row[0] for row in self._db.execute(f"SELECT id FROM dead WHERE {where} ORDER BY id", parameters)]  # noqa: S608

    def replay(self, numbers: Sequence[int], *, force: bool = False) -> list[int]:
        """Ask the service to send these again; with ``force`` those that a newer value has overtaken, too.

        Returns the ids that there were.
        """
        return self._change(f"UPDATE dead SET replay = {2 if force else 1}", numbers)  # noqa: S608 - two constants

    def drop(self, numbers: Sequence[int]) -> list[int]:
        """Delete these for good; returns the ids that there were."""
        return self._change("DELETE FROM dead", numbers)

    def _change(self, statement: str, numbers: Sequence[int]) -> list[int]:
        changed: list[int] = []
        for start in range(0, len(numbers), _CHUNK):
            chunk = json.dumps(numbers[start : start + _CHUNK])
            where = "WHERE id IN (SELECT value FROM json_each(?)) RETURNING id"
            with self._explained():
                schema.transaction(
                    self._db,
                    lambda chunk=chunk, where=where: changed.extend(  # type: ignore[misc]
                        row[0] for row in self._db.execute(f"{statement} {where}", (chunk,))
                    ),
                )
        return sorted(changed)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise schema.explain(self.path, error) from None


def _of(connector: str | None) -> tuple[str, tuple[Any, ...]]:
    return ("true", ()) if connector is None else ("connector = ?", (connector,))
