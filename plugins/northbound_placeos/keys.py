"""PlaceOS's API keys: one looked up by its id, as PlaceOS's own API would take it, and a little stricter.

Unlike PlaceOS's MQTT endpoint it heeds ``expires_at``, and a key whose user is gone is none. A key's permissions are
its own and never its user's; where it has none it is an ordinary user's.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import psycopg
from psycopg import sql

from northbound import ApiKey, NorthboundError
from northbound_placeos.models import connect, explain
from northbound_placeos.options import Options

_COLUMNS: Final = ("id", "secret", "scopes", "name", "permissions", "user_id", "authority_id", "expires_at")
_NEEDED: Final = frozenset(_COLUMNS[:3])
_ROLES: Final[Mapping[int | None, Literal["user", "support", "admin"]]] = {
    None: "user", 0: "user", 1: "support", 2: "admin", 3: "admin",
}  # fmt: skip


async def find(options: Options, id_: str) -> ApiKey | None:
    """Return a key by its id, on a connection of its own; raises :class:`northbound.NorthboundError`."""
    connection = await connect(options)
    try:
        return await Keys(connection).find(id_)
    except psycopg.Error as error:
        raise explain(options, error) from None
    finally:
        await connection.close()


class Keys:
    """The tables that say who may use a key, over one connection. Raises ``psycopg.Error`` where that is lost."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def find(self, id_: str) -> ApiKey | None:
        """Return the key, or ``None``; raises :class:`northbound.NorthboundError` where it may not be read."""
        readable = await self._readable("api_key")
        if not _NEEDED.issubset(readable):
            raise NorthboundError(
                "the table 'api_key' is not there or may not be read: docs/api-sign-in.md has the GRANTs"
            )
        row = await self._row("api_key", [name for name in _COLUMNS if name in readable], id_)
        if row is None or not await self._has_user(row.get("user_id")):
            return None
        return key_of(row, await self._org(row.get("authority_id")))

    async def _has_user(self, id_: str | None) -> bool:
        """Return whether the user of a key is there, where that may be known."""
        readable = await self._readable("user")
        if id_ is None or "id" not in readable:
            return True
        row = await self._row("user", [name for name in ("id", "deleted") if name in readable], id_)
        return row is not None and not row.get("deleted")

    async def _org(self, authority: str | None) -> str | None:
        """Return the zone that a domain names as its organisation (``org_zone`` in its configuration)."""
        if authority is None or not {"id", "config"}.issubset(await self._readable("authority")):
            return None
        row = await self._row("authority", ["config"], authority)
        config = None if row is None else row["config"]
        zone = config.get("org_zone") if isinstance(config, Mapping) else None
        return zone if isinstance(zone, str) and zone else None

    async def _readable(self, table: str) -> frozenset[str]:
        cursor = await self._connection.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(%s)) AND attnum > 0"
            " AND NOT attisdropped AND has_column_privilege(attrelid, attnum, 'SELECT')",
            (table,),
        )
        return frozenset(row[0] for row in await cursor.fetchall())

    async def _row(self, table: str, columns: list[str], id_: str) -> dict[str, Any] | None:
        query = sql.SQL("SELECT {} FROM {} WHERE id = %s").format(
            sql.SQL(", ").join(map(sql.Identifier, columns)), sql.Identifier(table)
        )
        row = await (await self._connection.execute(query, (id_,))).fetchone()
        return None if row is None else dict(zip(columns, row, strict=True))


def key_of(row: Mapping[str, Any], org: str | None) -> ApiKey | None:
    """Return the key in a row; ``None`` where the row says what nobody understands, so that nobody is let in by it."""
    scopes, permissions, secret = row["scopes"], row.get("permissions"), row["secret"]
    end = _end(row.get("expires_at"))
    if not isinstance(scopes, list) or permissions not in _ROLES or not isinstance(secret, str) or end == _UNKNOWN:
        return None
    return ApiKey(
        id=row["id"],
        name=row.get("name") or row["id"],
        hash=secret.lower(),
        role=_ROLES[permissions],
        org=org,
        scopes=tuple(scope.lower() for scope in scopes if isinstance(scope, str)),
        expires=end,
        user=row.get("user_id"),
    )


_UNKNOWN: Final = -1


def _end(value: Any) -> int | None:
    """Return the end in ms since 1970: PlaceOS keeps a time, or seconds since 1970."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return int(value.timestamp() * 1000)
    return (
        int(value * 1000) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else _UNKNOWN
    )
