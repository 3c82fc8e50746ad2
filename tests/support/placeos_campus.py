"""Makes up a large PlaceOS installation, the same one for the same size, and writes it into both databases.

At size 1: 3 organisations, 40 buildings, 400 levels, 5,000 systems, 30,000 modules, 600,000 status values.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import hiredis
from tests.support.postgres_server import PostgresServer

MODULES_EACH, VALUES_EACH = 6, 20
KINDS = (
    ("Display", ("power", "input", "volume", "brightness", "audio_mute", "model", "firmware")),
    ("Lighting", ("scene", "level", "area1", "area2")),
    ("VidConf", ("call", "presenting", "camera", "microphone_mute", "volume")),
    ("Bookings", ("current_booking", "next_booking", "status", "booked")),
    ("Sensor", ("presence", "temperature", "humidity", "co2", "people_count")),
    ("System", ("active", "name", "outputs", "inputs", "tabs")),
)
_EVERYWHERE = ("connected", "proxy_in_use", "last_seen", "zone-1:areas")


class Campus(NamedTuple):
    """Rows by table, each in the order of ``COLUMNS``; statuses are made up as they are needed."""

    zones: list[tuple[Any, ...]]
    systems: list[tuple[Any, ...]]
    drivers: list[tuple[Any, ...]]
    modules: list[tuple[Any, ...]]

    def statuses(self) -> Iterator[tuple[str, str, str]]:
        """Give (module, key, JSON text) of every status."""
        rng = random.Random(3)
        for number, module in enumerate(self.modules):
            for key in keys(number):
                yield module[0], key, value(rng, key)


COLUMNS = {
    "zone": ("id", "name", "tags", "parent_id"),
    "sys": ("id", "name", "zones", "modules", "capacity"),
    "driver": ("id", "name", "module_name"),
    "mod": ("id", "name", "custom_name", "driver_id", "running"),
}


def keys(module: int) -> list[str]:
    """Return the status keys of the module of that number."""
    own = [*KINDS[module % len(KINDS)][1], *_EVERYWHERE]
    return own + [f"status_{n}" for n in range(VALUES_EACH - len(own))]


def value(rng: random.Random, key: str) -> str:
    if key in ("current_booking", "next_booking"):
        return json.dumps(
            {"title": f"Meeting {rng.randrange(999)}", "starts_at": 1_700_000_000 + rng.randrange(99_999)}
        )
    if key in ("power", "connected", "active", "booked", "presence"):
        return rng.choice(("true", "false"))
    if key in ("outputs", "inputs", "tabs"):
        return json.dumps([f"item{n}" for n in range(5)])
    return rng.choice((str(rng.randrange(1000)), f"{rng.random() * 30:.2f}", json.dumps(f"text {rng.randrange(50)}")))


def make(size: float) -> Campus:
    """Return an installation of that size."""
    rng = random.Random(1)
    orgs, buildings = 3, max(3, round(40 * size))
    levels, systems = max(6, round(400 * size)), max(12, round(5_000 * size))
    zones: list[tuple[Any, ...]] = [(f"zone-org{n}", f"Organisation {n}", ["org"], None) for n in range(orgs)]
    zones += [(f"zone-bld{n}", f"Building {n}", ["building"], f"zone-org{n % orgs}") for n in range(buildings)]
    zones += [(f"zone-lvl{n}", f"Level {n}", ["level"], f"zone-bld{n % buildings}") for n in range(levels)]
    drivers = [(f"driver-{n:02}", f"Driver {n}", KINDS[n % len(KINDS)][0]) for n in range(60)]
    made_systems, modules = [], []
    for number in range(systems):
        level = number % levels
        building = level % buildings
        own = [f"mod-{number * MODULES_EACH + n:06}" for n in range(MODULES_EACH)]
        for n, id_ in enumerate(own):
            driver = n + len(KINDS) * rng.randrange(10)
            custom = f"Named {n}" if rng.random() < 0.1 else None
            modules.append((id_, KINDS[n][0], custom, f"driver-{driver:02}", True))
        shared = [f"mod-{rng.randrange(len(modules)):06}"] if rng.random() < 0.1 else []
        listed = [*own, *(id_ for id_ in shared if id_ not in own)]
        where = [f"zone-org{building % orgs}", f"zone-bld{building}", f"zone-lvl{level}"]
        made_systems.append((f"sys-{number:05}", f"Room {number}", where, listed, rng.randrange(4, 40)))
    return Campus(zones, made_systems, drivers, modules)


def write_rows(campus: Campus, postgres: PostgresServer, database: str) -> None:
    """Copy the rows; the change feed says nothing of it."""
    with postgres.connect(database) as connection:
        connection.execute("SET session_replication_role = replica")
        for table, rows in zip(COLUMNS, (campus.zones, campus.systems, campus.drivers, campus.modules), strict=True):
            with connection.cursor().copy(f"COPY {table} ({', '.join(COLUMNS[table])}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        connection.execute("ANALYZE")


class Redis:
    """Commands to Redis by the ten thousand; the replies are only counted."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._reader = hiredis.Reader()

    def send(self, commands: Iterable[tuple[str | bytes, ...]]) -> None:
        """Send commands and wait for all replies."""
        sent = 0
        parts = []
        for command in commands:
            parts.append(hiredis.pack_command(command))
            sent += 1
        self._socket.sendall(b"".join(parts))
        while sent:
            data = self._socket.recv(1 << 20)
            assert data, "Redis hung up"
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                assert not isinstance(reply, Exception), reply
                sent -= 1

    def close(self) -> None:
        self._socket.close()


def write_statuses(campus: Campus, port: int) -> int:
    """Write every status into Redis; returns how many."""
    redis = Redis(port)
    count = 0
    batch: list[tuple[str, ...]] = []
    for module, key, text in campus.statuses():
        batch.append(("HSET", f"status/{module}", key, text))
        count += 1
        if len(batch) == 5_000:
            redis.send(batch)
            batch = []
    redis.send(batch)
    redis.close()
    return count
