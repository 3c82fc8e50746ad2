"""A PostgreSQL for the session, a Redis and a database for each test, and a source that runs into a real store."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest
from tests.support.placeos_installation import Installation
from tests.support.postgres_server import PostgresServer
from tests.support.redis_server import RedisServer

from northbound.config import SiteOptions, StoreOptions
from northbound.engine import Engine
from northbound.intake import SourceIntake
from northbound.store import SqliteStore
from northbound_placeos import Options, PlaceosSource


@pytest.fixture(scope="session")
def postgres():
    with PostgresServer() as server:
        yield server


@pytest.fixture
def redis(tmp_path):
    with RedisServer(tmp_path, persistent=True) as server:
        yield server


@pytest.fixture
def installation(postgres, redis):
    made = Installation(postgres, redis)
    yield made
    made.drop()


def furnish(installation: Installation) -> None:
    """Put a small campus there: two buildings, two systems, three modules of one driver."""
    put = installation.put
    put("zone", "zone-org", name="Acme", tags=["org"])
    put("zone", "zone-b1", name="Building 1", tags=["building"], parent_id="zone-org")
    put("zone", "zone-b2", name="Building 2", tags=["building"], parent_id="zone-org")
    put("zone", "zone-l1", name="Level 1", tags=["level"], parent_id="zone-b1")
    put("driver", "driver-d", name="Acme display", module_name="Display")
    for number in (1, 2, 3):
        put("mod", f"mod-{number}", name="Display", driver_id="driver-d", running=True)
        installation.set(f"mod-{number}", "power", "true")
        installation.set(f"mod-{number}", "volume", str(number * 10))
    put("sys", "sys-1", name="Boardroom", zones=["zone-org", "zone-b1", "zone-l1"], modules=["mod-1", "mod-2"])
    put("sys", "sys-2", name="Lobby", zones=["zone-org", "zone-b2"], modules=["mod-3", "mod-2"])


async def _unblocked() -> None:
    return None


class Service:
    """A store and an intake, and how to see what is in the store; ``run`` runs a source into it."""

    def __init__(self, installation: Installation, path, **site) -> None:
        self.installation = installation
        self.options = SiteOptions(**site)
        self._path = path
        self.seen: list[tuple[str, bytes]] = []
        self._position = 0

    async def __aenter__(self):
        self.store = SqliteStore(StoreOptions(path=self._path, synchronous="normal"))
        engine = Engine(self.options.scheme, self.options.payloads, org=self.options.org)
        self.intake = SourceIntake("placeos", engine, self.store, _unblocked)
        self._position = (await self.store.register("out", "now")).cursor
        return self

    async def __aexit__(self, *_exc) -> None:
        await self.store.close()

    def source(self, **options) -> PlaceosSource:
        settings = {
            "redis": self.installation.redis.url,
            "postgres": self.installation.url,
            "restart_window": "0s",
            "coalesce": "2ms",
            **options,
        }
        return PlaceosSource(Options(**settings), name="placeos")

    @asynccontextmanager
    async def running(self, **options):
        source = self.source(**options)
        task = asyncio.create_task(source.run(self.intake))
        try:
            yield source
        finally:
            task.cancel()
            done, _ = await asyncio.wait({task}, timeout=15)
            assert done, "the source does not stop when cancelled"
            if not task.cancelled() and task.exception() is not None:
                raise task.exception()

    def news(self) -> list[tuple[str, object]]:
        """Return what was committed since the last call, as (topic, value); a cleared topic has ``None``."""
        found: list[tuple[str, object]] = []
        while True:
            entries = self.store.read("out", self._position, 10_000, 1 << 30)
            if not entries.messages:
                self._position = entries.through
                break
            self._position = entries.through
            found += [(m.topic, self._value(m.kind, m.payload)) for m in entries.messages]
        return found

    def _value(self, kind: str, payload: bytes) -> object:
        if not payload:
            return None
        formats = self.options.payloads
        value = formats.read_state(payload)[0] if kind == "state" else formats.read_metadata(payload)[0]
        return value.get("name") if kind == "metadata" else value

    async def tree(self) -> dict[str, object]:
        """Return what is retained."""
        await self.store.fold()
        topics = [topic for topic, _ in self.store.current_topics("", "", 1_000_000)]
        return {
            topic: self._value("metadata" if "/metadata/" in topic else "state", payload)
            for topic, payload in self.store.current(topics).items()
        }

    async def settled(self, within: float = 15.0, **how) -> dict[str, object]:
        """Wait until what is retained is what must be, and stays it; fails with the difference."""
        deadline = time.monotonic() + within
        while True:
            scheme = self.options.scheme
            wanted, found = (
                self.installation.tree(
                    hierarchy=scheme.hierarchy, site_org=self.options.org, metadata_org=scheme.metadata_org, **how
                ),
                await self.tree(),
            )
            if found == wanted:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(difference(found, wanted))
            await asyncio.sleep(0.02)


def difference(found: dict, wanted: dict) -> str:
    missing = {topic: wanted[topic] for topic in wanted.keys() - found.keys()}
    extra = {topic: found[topic] for topic in found.keys() - wanted.keys()}
    other = {t: (found[t], wanted[t]) for t in found.keys() & wanted.keys() if found[t] != wanted[t]}
    return json.dumps({"missing": missing, "extra": extra, "other (found, wanted)": other}, indent=1, default=str)[
        :4000
    ]


@pytest.fixture
async def service(installation, tmp_path):
    furnish(installation)
    async with Service(installation, tmp_path / "store.db", hierarchy=placeos_hierarchy()) as made:
        yield made


def placeos_hierarchy() -> tuple[str, ...]:
    return ("org", "building", "level", "area")
