"""Following PlaceOS's tables: all of them once, then what changes, by the change feed or by comparing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any, Final, TypeVar

import psycopg

from northbound.directory import Entity
from northbound_placeos import models
from northbound_placeos.models import Models, Row
from northbound_placeos.options import Options
from northbound_placeos.rows import TABLES, Table, entity

log = logging.getLogger(__name__)

T = TypeVar("T")
Gone = tuple[type[Entity], str]

#: What the feed says in so long a time is read together.
_GATHER_SECONDS: Final = 0.02


class Follower:
    """Hands every change of a row to ``take``, and to ``refuse`` what cannot be read.

    It remembers the hash of each row, over all its connections: after one was lost only what differs is handed on.
    """

    def __init__(
        self,
        options: Options,
        take: Callable[[Sequence[Entity], Sequence[Gone]], None],
        refuse: Callable[[str, str], None],
    ) -> None:
        self._options = options
        self._take = take
        self._refuse = refuse
        self._digests: dict[str, dict[str, int]] = {}
        self._told = False

    async def run(self, on_ready: Callable[[], object]) -> None:
        """Follow until the connection is lost; raises :class:`NorthboundError` then. ``on_ready``: all was read."""
        try:
            async with AsyncExitStack() as stack:
                feed: psycopg.AsyncConnection[Any] | None = None
                if self._options.changes != "poll":  # first, so that nothing changes between reading and listening
                    feed = await self._listen()
                if feed is not None:
                    stack.push_async_callback(feed.close)
                connection = await models.connect(self._options)
                stack.push_async_callback(connection.close)
                tables = Models(connection, self._options.metadata)
                async with tables.reading():
                    await tables.prepare()
                    if self._options.changes == "auto" and feed is not None and not await tables.has_feed():
                        feed = None
                await self._catch_up(tables)
                on_ready()
                if feed is None:
                    await self._poll(tables)
                else:
                    await self._hear(tables, feed)
        except psycopg.Error as error:
            raise models.explain(self._options, error) from None

    async def _listen(self) -> psycopg.AsyncConnection[Any] | None:
        """Return a connection that hears of changes; ``None`` where one may do without and none is to be had."""
        try:
            return await models.listen(self._options)
        except models.MayNotListen as error:
            if self._options.changes == "feed":
                raise
            if not self._told:
                self._told = True
                log.warning("%s: rows are compared every %s", error, self._options.poll_interval)
            return None

    async def _catch_up(self, tables: Models) -> None:
        if self._digests:
            await self._compare(tables)
            return
        async with tables.reading("REPEATABLE READ"):  # all of them as they were at one moment
            everything = [(table, None, await tables.read(table)) for table in TABLES]
        self._digests = {table.name: {} for table in TABLES}
        self._hand_on(everything)

    async def _poll(self, tables: Models) -> None:
        while True:
            await asyncio.sleep(self._options.poll_interval.total_seconds())
            await self._compare(tables)

    async def _hear(self, tables: Models, feed: psycopg.AsyncConnection[Any]) -> None:
        """Read the rows that the feed names, and now and then compare everything."""
        loop = asyncio.get_running_loop()
        heal = self._options.reread.total_seconds()
        compared = loop.time()
        async with aclosing(models.notices(feed)) as notices:
            async for named in notices:
                if named is None or loop.time() - compared > heal:
                    compared = loop.time()
                    await self._compare(tables)
                elif named:
                    await asyncio.sleep(_GATHER_SECONDS)
                    await self._read(tables, named)

    async def _compare(self, tables: Models) -> None:
        """Find by their hashes which rows have changed since they were read, and read those."""
        changed: list[tuple[Table, str]] = []
        async with tables.reading():
            digests = [(table, await tables.digests(table)) for table in TABLES]
        for table, found in digests:
            known = self._digests[table.name]
            changed += [(table, id_) for id_, digest in found.items() if known.get(id_) != digest]
            changed += [(table, id_) for id_ in known if id_ not in found]
        await self._read(tables, changed)

    async def _read(self, tables: Models, named: Iterable[tuple[Table, str]]) -> None:
        by_table: dict[str, dict[str, None]] = {}
        for table, id_ in named:
            by_table.setdefault(table.name, {})[id_] = None
        if not by_table:
            return
        async with tables.reading():
            found = [
                (table, by_table[table.name].keys(), await tables.read(table, list(by_table[table.name])))
                for table in TABLES
                if table.name in by_table
            ]
        self._hand_on(found)

    def _hand_on(self, found: Iterable[tuple[Table, Collection[str] | None, Sequence[Row]]]) -> None:
        """Hand on rows, and which of those asked for are gone. One that cannot be read counts as gone.

        Nothing in here waits: what was read and not handed on, because a connection was lost on the way, is not known.
        """
        entities: list[Entity] = []
        gone: list[Gone] = []
        for table, asked, rows in found:
            digests = self._digests[table.name]
            for row in rows:
                digests[row.id] = row.digest
                try:
                    if isinstance(row.columns, str):
                        raise ValueError(row.columns)  # noqa: TRY301 - told like what entity() raises
                    entities.append(entity(table, row.columns, self._options.metadata))
                except ValueError as error:
                    self._refuse(f"row {row.id!r} of {table.name}", str(error))
                    gone.append((table.kind, row.id))
            for id_ in set(asked or ()) - {row.id for row in rows}:
                digests.pop(id_, None)
                gone.append((table.kind, id_))
        self._take(entities, gone)


async def ask(options: Options, question: Callable[[Models], Awaitable[T]]) -> T:
    """Return the answer to one question, on a connection of its own; raises :class:`northbound.NorthboundError`."""
    connection = await models.connect(options)
    try:
        tables = Models(connection, options.metadata)
        async with tables.reading():
            return await question(tables)
    except psycopg.Error as error:
        raise models.explain(options, error) from None
    finally:
        await connection.close()
