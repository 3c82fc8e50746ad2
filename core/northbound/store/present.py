"""The present: the newest value of every topic, read from the file beside the service's own connections.

It stands in two places: the values that were folded, and the log since. Both are read in one transaction, so that a
fold in between moves nothing from one to the other unseen; and in a thread, since there may be a million topics.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from northbound.message import Message
from northbound.store import schema
from northbound.store.records import KINDS

_CHUNK: Final = 5000


async def present(path: Path) -> AsyncIterator[list[Message]]:
    """Give the messages that make up the present of the store at ``path``, some thousand at a time.

    The later of two of one topic counts, and an empty one clears it. Raises :class:`northbound.StoreError`.
    """
    connection = await asyncio.to_thread(schema.open_existing, path, read_only=True)
    try:
        rows = await asyncio.to_thread(_begin, connection)
        while chunk := await asyncio.to_thread(_next, rows):
            yield chunk
    except sqlite3.Error as error:
        raise schema.explain(path, error) from None
    finally:
        connection.close()


def _begin(connection: sqlite3.Connection) -> sqlite3.Cursor:
    connection.execute("BEGIN")
    return connection.execute(
        "SELECT topic, payload, kind, time, retain FROM current WHERE length(payload) > 0 UNION ALL"
        " SELECT * FROM (SELECT topic, payload, kind, time, retain FROM log"
        " WHERE sequence > (SELECT value FROM meta WHERE key = 'folded') ORDER BY sequence)"
    )


def _next(rows: sqlite3.Cursor) -> list[Message]:
    found: list[Any] = rows.fetchmany(_CHUNK)
    return [Message(row[0], row[1], KINDS[row[2]], row[3], bool(row[4])) for row in found]
