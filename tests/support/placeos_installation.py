"""A PlaceOS installation for tests: a database and a Redis, changed as PlaceOS's services change them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row
from tests.support import placeos_tree
from tests.support.postgres_server import PostgresServer
from tests.support.redis_server import RedisServer

SCHEMA = (Path(__file__).parent / "placeos.sql").read_text()
_COLUMNS = {
    "zone": ("tags", "parent_id", "name"),
    "sys": ("zones", "modules", "name"),
    "driver": ("module_name", "name"),
    "mod": ("driver_id", "name", "custom_name", "running"),
}
Tree = dict[str, Any]


class Installation:
    """Writes into both databases; ``tree`` says what must be published."""

    def __init__(self, postgres: PostgresServer, redis: RedisServer) -> None:
        self.postgres = postgres
        self.redis = redis
        self.database = postgres.create(SCHEMA)
        self.db: Any = None
        self.status: Any = None
        self.reconnect()

    def reconnect(self) -> None:
        """Connect again, after a database was restarted."""
        self.close()
        self.db = self.postgres.connect(self.database)
        self.status = self.redis.client()

    def close(self) -> None:
        if self.db is not None:
            self.db.close()
            self.status.close()

    def drop(self) -> None:
        """Close, and leave nothing behind."""
        self.close()
        self.postgres.drop(self.database)

    @property
    def url(self) -> str:
        return self.postgres.url(self.database)

    # rows

    def put(self, table: str, id_: str, **columns: Any) -> None:
        """Insert a row, or change these columns of it."""
        names = [sql.Identifier(name) for name in ("id", *columns)]
        update = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(name) for name in names)
        self.db.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}").format(
                sql.Identifier(table),
                sql.SQL(", ").join(names),
                sql.SQL(", ").join([sql.Placeholder()] * len(names)),
                update,
            ),
            (id_, *columns.values()),
        )

    def delete(self, table: str, id_: str) -> None:
        self.db.execute(sql.SQL("DELETE FROM {} WHERE id = %s").format(sql.Identifier(table)), (id_,))

    def rows(self, table: str) -> dict[str, dict[str, Any]]:
        with self.db.cursor(row_factory=dict_row) as cursor:
            return {row["id"]: row for row in cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table)))}

    # statuses, as PlaceOS's driver library writes them: the hash first, then the message

    def set(self, module: str, key: str, text: str | bytes) -> None:
        """Give a status a value, as JSON text."""
        with self.status.pipeline(transaction=False) as pipeline:
            pipeline.hset(f"status/{module}", key, text)
            pipeline.publish(f"status/{module}/{key}", text)
            pipeline.execute()

    def remove(self, module: str, key: str) -> None:
        if self.status.hdel(f"status/{module}", key):
            self.status.publish(f"status/{module}/{key}", "null")

    def restart_module(self, module: str, then: Mapping[str, str]) -> None:
        """Clear a module's statuses with a null each, and set those it comes back with."""
        with self.status.pipeline(transaction=False) as pipeline:
            for key in self.status.hkeys(f"status/{module}"):
                pipeline.hdel(f"status/{module}", key)
                pipeline.publish(f"status/{module}/{key.decode()}", "null")
            pipeline.execute()
        for key, text in then.items():
            self.set(module, key, text)

    # what must be published

    def tree(
        self,
        *,
        hierarchy: Sequence[str] = placeos_tree.HIERARCHY,
        walk: bool = False,
        stopped: str = "disconnected",
        site_org: str | None = None,
        metadata_org: str | None = None,
    ) -> Tree:
        """Return topic → value, worked out from both databases and nothing else."""
        tables = [self.rows(table) for table in ("zone", "sys", "driver", "mod")]
        tree: Tree = {}
        for module, places in placeos_tree.places(*tables, hierarchy=hierarchy, walk=walk).items():
            values = self._values(module, tables[3][module], stopped)
            for org, zones, system, driver, name, index in places:
                if org is None and site_org is None:
                    continue
                for key, value in values.items():
                    levels = [
                        org or site_org,
                        "state",
                        *(zone or "_" for zone in zones),
                        system,
                        driver,
                        name,
                        str(index),
                        key,
                    ]
                    levels[0] = str(levels[0])
                    tree["/".join(["placeos", *map(_escape, levels)])] = value
        for id_, org in placeos_tree.described(*tables, hierarchy=hierarchy, walk=walk):
            if org is not None or site_org is not None:
                tree[f"placeos/{metadata_org or org or site_org}/metadata/{id_}"] = next(
                    t[id_]["name"] for t in tables if id_ in t
                )
        return tree

    def _values(self, module: str, row: Mapping[str, Any], stopped: str) -> dict[str, Any]:
        values = {}
        found = self.status.hgetall(f"status/{module}")
        for key, text in found.items():
            try:
                value = json.loads(text)
            except ValueError:
                continue
            if value is not None:
                values[key.decode()] = value
        if row["running"] is False and stopped == "clear":
            return {}
        if (
            row["running"] is False
            and stopped == "disconnected"
            and found.get(b"connected", b"null") not in (b"null", b"")
        ):
            values["connected"] = False
        return values


def _escape(level: str) -> str:
    if any(character in level for character in "/+#%"):
        return "".join(f"%{ord(c):02X}" if c in "/+#%" else c for c in level)
    return level
