"""Reading PlaceOS's tables from PostgreSQL, and hearing of what changes in them. Only ``SELECT`` and ``LISTEN``.

A row travels as JSON, so that no column's type can surprise; beside it comes a hash of that JSON, made by PostgreSQL,
by which a changed row is known again without having been read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, LiteralString, NamedTuple

import msgspec
import psycopg
from msgspec import Struct
from psycopg import sql

from northbound import NorthboundError
from northbound_placeos.options import SILENCE_SECONDS, Options
from northbound_placeos.rows import TABLES, Detail, Table, columns_of

#: PlaceOS's change feed (reference: model discovery): its channel, and what its triggers are called.
CHANNEL: Final = "cdc_events"
TRIGGER: Final = "eventbus"
_TIMEOUT: Final = "SET LOCAL statement_timeout = '60s'"
_IDS_AT_ONCE: Final = 1000


class MayNotListen(NorthboundError):
    """The server is there and takes no ``LISTEN``, as a streaming replica does not."""


class Row(NamedTuple):
    """One row: its id, its hash, and its columns or why they cannot be read."""

    id: str
    digest: int
    columns: dict[str, Any] | str


class Notice(Struct, frozen=True):
    """What the change feed says: which row of which table. Other tables than ours have ids that are numbers."""

    table: str = ""
    id: Any = None


_notice = msgspec.json.Decoder(Notice).decode
_columns = msgspec.json.Decoder(dict[str, Any]).decode
_BY_NAME: Final = {table.name: table for table in TABLES}


async def connect(options: Options) -> psycopg.AsyncConnection[Any]:
    """Return a connection whose transactions can change nothing; raises :class:`NorthboundError`.

    Nothing is set for the session and no statement is prepared: behind a pool, both would meet other people's.
    """
    try:
        connection = await psycopg.AsyncConnection.connect(options.conninfo, autocommit=True, prepare_threshold=None)
    except (psycopg.Error, OSError) as error:
        raise explain(options, error) from None
    try:
        await connection.set_read_only(True)
    except BaseException as error:  # raised again, in words where there are some: nothing stays open
        await connection.close()
        if isinstance(error, psycopg.Error):
            raise explain(options, error) from None
        raise
    return connection


def explain(options: Options, error: Exception) -> NorthboundError:
    """Return what PostgreSQL says as an error of ours."""
    words = " ".join(str(error).split()) or type(error).__name__
    hint = ""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        hint = ": docs/placeos.md has the GRANTs"
    return NorthboundError(f"PostgreSQL at {options.postgres_where}: {words}{hint}")


class Models:
    """The tables, over one connection. Raises ``psycopg.Error`` where that is lost."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], detail: Detail) -> None:
        self._connection = connection
        self._detail: Detail = detail
        self._selects: dict[str, sql.Composed] = {}

    @asynccontextmanager
    async def reading(self, isolation: str = "") -> AsyncGenerator[None, None]:
        """Run what is in the block in one read-only transaction."""
        async with self._connection.transaction():
            if isolation:
                await self._connection.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}".encode())
            await self._connection.execute(_TIMEOUT)
            yield

    async def _fetch(self, query: LiteralString | sql.SQL | sql.Composed, parameters: Sequence[Any] = ()) -> list[Any]:
        cursor = await self._connection.execute(query, parameters)
        return await cursor.fetchall()

    async def prepare(self) -> None:
        """Find out what may be read; raises :class:`NorthboundError` where that is too little."""
        for table in TABLES:
            readable = await self.readable(table.name)
            try:
                columns = columns_of(table, readable, self._detail)
            except ValueError as error:
                raise NorthboundError(
                    f"the table {table.name!r} has, or lets this user read, no {error}: docs/placeos.md has the GRANTs"
                ) from None
            self._selects[table.name] = sql.SQL("SELECT {} FROM {}").format(
                _columns_of(columns), sql.Identifier(table.name)
            )

    async def readable(self, table: str) -> list[str]:
        """Return the columns of a table that this user may read; none where there is no such table."""
        rows = await self._fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(%s)) AND attnum > 0"
            " AND NOT attisdropped AND has_column_privilege(attrelid, attnum, 'SELECT') ORDER BY attnum",
            (table,),
        )
        return [row[0] for row in rows]

    async def read(self, table: Table, ids: Sequence[str] | None = None) -> list[Row]:
        """Return the rows of ``table``, or those of them with these ids."""
        query = sql.SQL("SELECT r.id, hashtextextended(to_jsonb(r)::text, 0), to_jsonb(r)::text FROM ({}) AS r").format(
            self._selects[table.name]
        )
        if ids is None:
            return _rows(await self._fetch(query))
        found: list[Row] = []
        for begin in range(0, len(ids), _IDS_AT_ONCE):
            some = list(ids[begin : begin + _IDS_AT_ONCE])
            found += _rows(await self._fetch(query + sql.SQL(" WHERE r.id = ANY(%s)"), (some,)))
        return found

    async def digests(self, table: Table) -> dict[str, int]:
        """Return the hash of every row of a table."""
        query = sql.SQL("SELECT r.id, hashtextextended(to_jsonb(r)::text, 0) FROM ({}) AS r WHERE r.id IS NOT NULL")
        return dict(await self._fetch(query.format(self._selects[table.name])))

    async def has_feed(self) -> bool:
        """Return whether PlaceOS's triggers are on all the tables."""
        rows = await self._fetch(
            "SELECT count(DISTINCT tgrelid) FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid"
            " WHERE tgrelid = ANY(ARRAY(SELECT to_regclass(quote_ident(name)) FROM unnest(%s::text[]) AS name))"
            " AND NOT tgisinternal AND tgenabled <> 'D' AND (tgname LIKE %s OR proname LIKE %s)",
            ([table.name for table in TABLES], f"{TRIGGER}%", f"{TRIGGER}%"),
        )
        return bool(rows[0][0] == len(TABLES))

    async def brokers(self) -> list[dict[str, Any]]:
        """Return the rows of the broker table; raises :class:`NorthboundError` where it cannot be read."""
        readable = await self.readable("broker")
        if "host" not in readable:
            raise NorthboundError("the table 'broker' is not there or may not be read: docs/placeos.md has the GRANTs")
        rows = await self._fetch(sql.SQL("SELECT {} FROM broker ORDER BY name").format(_columns_of(readable)))
        return [dict(zip(readable, row, strict=True)) for row in rows]

    async def people(self) -> list[str]:
        """Return the names in the user table; raises :class:`NorthboundError` where it cannot be read."""
        readable = await self.readable("user")
        if "name" not in readable:
            raise NorthboundError('the table "user" is not there or may not be read: docs/placeos.md has the GRANTs')
        columns = ["name", *(column for column in ("first_name", "last_name", "nickname") if column in readable)]
        names: set[str] = set()
        for row in await self._fetch(sql.SQL('SELECT {} FROM "user"').format(_columns_of(columns))):
            given = dict(zip(columns, row, strict=True))
            both = f"{given.get('first_name') or ''} {given.get('last_name') or ''}".strip()
            names |= {name for name in (given["name"], both, given.get("nickname")) if name}
        return sorted(names)


def _columns_of(names: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


def _rows(found: Iterable[tuple[str | None, int, str]]) -> list[Row]:
    rows: list[Row] = []
    for id_, digest, text in found:
        try:
            rows.append(Row(id_ or "", digest, _columns(text)))
        except (msgspec.DecodeError, RecursionError) as error:
            rows.append(Row(id_ or "", digest, f"not JSON that can be read: {type(error).__name__}"))
    return rows


async def notices(connection: psycopg.AsyncConnection[Any]) -> AsyncGenerator[list[tuple[Table, str]] | None, None]:
    """Give the rows that the change feed names, as they come, and ``None`` for one it does not name.

    An empty list is given when nothing came for a while, after the connection has been tried.
    """
    while True:
        found: list[tuple[Table, str]] = []
        heard = unknown = False
        async for notify in connection.notifies(timeout=SILENCE_SECONDS / 3, stop_after=1):
            heard = True
            try:
                notice = _notice(notify.payload)
            except (msgspec.DecodeError, msgspec.ValidationError):
                unknown = True
                continue
            table = _BY_NAME.get(notice.table)
            if table is None:
                continue
            if isinstance(notice.id, str) and notice.id:
                found.append((table, notice.id))
            else:
                unknown = True
        if not heard:
            await connection.execute("SELECT 1")
        yield None if unknown else found


async def listen(options: Options) -> psycopg.AsyncConnection[Any]:
    """Return a connection that hears of changes; raises :class:`NorthboundError`, of it :class:`MayNotListen`."""
    connection = await connect(options)
    try:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(CHANNEL)))
    except BaseException as error:  # raised again, in words where there are some: nothing stays open
        refused = not connection.closed
        await connection.close()  # it waits for nothing, so nobody can cancel it
        if isinstance(error, psycopg.Error):
            told = explain(options, error)
            raise (MayNotListen(str(told)) if refused else told) from None
        raise
    return connection
