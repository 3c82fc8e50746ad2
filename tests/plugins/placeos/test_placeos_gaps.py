"""No gaps: changes while it reads, connections that break, databases that are away, and no change feed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import defaultdict
from contextlib import asynccontextmanager

import pytest
from tests.plugins.placeos.conftest import Service, furnish, placeos_hierarchy
from tests.support.intake import until
from tests.support.mosquitto import free_port
from tests.support.placeos_installation import Installation
from tests.support.postgres_server import PostgresServer
from tests.support.proxy import Proxy

from northbound import NorthboundError
from northbound_placeos import live
from northbound_placeos.follow import Follower, ask
from northbound_placeos.models import Models
from northbound_placeos.values import Values

ROOM = "placeos/zone-org/state/zone-b1/zone-l1/_/sys-1/driver-d"


class Counting(threading.Thread):
    """Counts up statuses as fast as it can, as a driver writes them; ``stop`` ends it."""

    def __init__(self, installation, keys=40) -> None:
        super().__init__(daemon=True)
        self._client = installation.redis.client()
        self._keys = keys
        self._end = threading.Event()
        self.rounds = 0

    def run(self) -> None:
        while not self._end.is_set():
            self.rounds += 1
            with self._client.pipeline(transaction=False) as pipeline:
                for key in range(self._keys):
                    for module in (1, 2, 3):
                        pipeline.hset(f"status/mod-{module}", f"count{key}", self.rounds)
                        pipeline.publish(f"status/mod-{module}/count{key}", self.rounds)
                pipeline.execute()

    def stop(self) -> None:
        self._end.set()
        self.join(10)
        self._client.close()


def backwards(news) -> list[tuple[str, object, object]]:
    """Return where a counter went back."""
    last: dict[str, int] = defaultdict(int)
    found = []
    for topic, value in news:
        if "/count" in topic:
            if value is None or value < last[topic]:
                found.append((topic, last[topic], value))
            else:
                last[topic] = value
    return found


@pytest.mark.parametrize("coalesce", ["0s", "2ms"])
async def test_changes_while_it_reads_are_neither_lost_nor_overtaken(service, coalesce):
    counting = Counting(service.installation)
    counting.start()
    news = []
    try:
        await until(lambda: counting.rounds > 3)
        async with service.running(coalesce=coalesce) as source:
            await until(lambda: source.synchronised, within=30)
            for _ in range(6):
                begun = counting.rounds
                await asyncio.to_thread(service.installation.status.execute_command, "CLIENT", "KILL", "TYPE", "pubsub")
                custom = f"Name {begun}"  # a module that moves must be read while it counts
                await asyncio.to_thread(service.installation.put, "mod", "mod-2", custom_name=custom)
                await until(lambda begun=begun: counting.rounds > begun + 5, within=30)
                await asyncio.sleep(0.3)
                news += service.news()
            await asyncio.to_thread(counting.stop)
            await service.settled()
            news += service.news()
    finally:
        counting.stop()
    assert len(news) > 500
    # A renamed module is cleared at its old name: that is no step back.
    assert not [step for step in backwards(news) if step[2] is not None], backwards(news)[:5]


@asynccontextmanager
async def late_subscription(upstream: int, seconds: float):
    """A proxy before Redis that holds back what a subscription hears; everything else goes through at once."""

    async def pipe(reader, writer, late) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if b"PSUBSCRIBE" in data:
                    late.append(True)
                elif late and writer in answers:
                    await asyncio.sleep(seconds)
                writer.write(data)
        writer.close()

    async def serve(reader, writer) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream)
        answers.add(writer)
        under_way.append(writer)
        late: list[bool] = []
        await asyncio.gather(pipe(reader, up_writer, late), pipe(up_reader, writer, late))
        for each in (writer, up_writer):
            with contextlib.suppress(OSError):
                await each.wait_closed()
        under_way.remove(writer)

    answers: set = set()
    under_way: list = []
    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with running:
        yield running.sockets[0].getsockname()[1]
        await until(lambda: not under_way)


async def test_what_is_read_waits_for_what_was_published_before_it(service):
    """The subscription is slow: the hash says 2 before the change to 1 has arrived."""
    async with (
        late_subscription(service.installation.redis.port, 0.4) as port,
        service.running(redis=f"redis://127.0.0.1:{port}", coalesce="0s"),
    ):
        await service.settled()
        service.news()
        service.installation.set("mod-1", "volume", "1")
        service.installation.set("mod-1", "volume", "2")
        service.installation.put("mod", "mod-1", custom_name="Left")  # so that it is read at once
        await service.settled()
        await asyncio.sleep(1)  # whatever is still held back
        assert [value for topic, value in service.news() if topic.endswith("Left/1/volume")] == [2]


async def test_redis_gone_during_changes_and_back(service, caplog):
    async with service.running() as source:
        await service.settled()
        service.news()
        redis = service.installation.redis
        redis.stop()
        await until(lambda: source.problem is not None, within=10)
        assert str(redis.port) in source.problem or "hung up" in source.problem
        redis.start()
        service.installation.reconnect()
        service.installation.set("mod-1", "volume", "11")
        service.installation.remove("mod-3", "power")
        await service.settled()
        assert sorted(topic for topic, _ in service.news()) == [
            f"{ROOM}/Display/1/volume", "placeos/zone-org/state/zone-b2/_/_/sys-2/driver-d/Display/1/power",
        ]  # fmt: skip
        await until(lambda: source.problem is None)
    assert [r for r in caplog.records if r.name.startswith("northbound_placeos") and r.levelno >= logging.WARNING]


async def test_thousands_of_changes_while_redis_cannot_be_reached(service):
    """It runs on, and takes changes that the source never hears of."""
    installation = service.installation
    with Proxy(free_port(), installation.redis.port, mqtt=False) as proxy:
        async with service.running(redis=f"redis://127.0.0.1:{proxy.port}") as source:
            await service.settled()
            proxy.upstream = free_port()
            proxy.cut()
            await until(lambda: source.problem is not None)
            with installation.status.pipeline(transaction=False) as pipeline:
                for number in range(6000):
                    module, key = f"mod-{number % 3 + 1}", f"k{number % 500}"
                    pipeline.hset(f"status/{module}", key, number)
                    pipeline.publish(f"status/{module}/{key}", number)
                pipeline.execute()
            installation.remove("mod-1", "power")
            installation.remove("mod-2", "k1")
            installation.put("mod", "mod-3", custom_name="Meanwhile")
            assert source.problem is not None
            proxy.upstream = installation.redis.port
            await service.settled()
            installation.set("mod-1", "volume", "99")
            await service.settled()
            await until(lambda: source.problem is None)


async def test_postgresql_gone_during_changes_and_live_values_go_on(service, postgres):
    async with service.running() as source:
        await service.settled()
        postgres.stop()
        try:
            await until(lambda: source.problem is not None, within=10)
            service.news()
            service.installation.set("mod-1", "volume", "12")
            heard: list = []
            await until(lambda: heard.extend(service.news()) or heard)
            assert heard == [(f"{ROOM}/Display/1/volume", 12)]
        finally:
            postgres.start()
        service.installation.reconnect()
        service.installation.put("mod", "mod-1", custom_name="Later")
        service.installation.delete("sys", "sys-2")
        await service.settled()
        await until(lambda: source.problem is None)


async def test_changes_of_rows_while_postgresql_was_away_are_found(service, postgres):
    """What nobody announced: the triggers were off when the rows changed."""
    async with service.running() as source:
        await service.settled()
        postgres.restart()
        service.installation.reconnect()
        service.installation.db.execute("SET session_replication_role = replica")  # no triggers
        service.installation.put("mod", "mod-1", custom_name="Unheard")
        service.installation.delete("sys", "sys-2")
        await until(lambda: source.problem is None, within=15)
        await service.settled(within=20)


async def test_a_source_that_starts_before_its_databases_waits_for_them(service, postgres):
    service.installation.redis.stop()
    postgres.stop()
    async with service.running() as source:
        await until(lambda: source.problem is not None and "PostgreSQL" in source.problem and "Redis" in source.problem)
        assert "; " in source.problem
        postgres.start()
        service.installation.redis.start()
        service.installation.reconnect()
        await service.settled()


@pytest.mark.parametrize("why", ["told to", "no triggers"])
async def test_without_the_change_feed_rows_are_compared(service, why):
    if why == "no triggers":
        for table in ("zone", "sys", "driver", "mod"):
            service.installation.db.execute(f"DROP TRIGGER eventbus_notify_change_event ON {table}")
    changes = "poll" if why == "told to" else "auto"
    async with service.running(changes=changes, poll_interval="100ms"):
        await service.settled()
        service.installation.put("mod", "mod-1", custom_name="Polled")
        await service.settled()
        service.installation.delete("sys", "sys-2")
        service.installation.put("zone", "zone-b1", name="Compared")
        await service.settled()


async def test_on_a_replica_rows_are_compared(redis, tmp_path, caplog):
    with PostgresServer() as server:
        installation = Installation(server, redis)
        furnish(installation)
        server.stand_by()
        installation.reconnect()
        async with Service(installation, tmp_path / "store.db", hierarchy=placeos_hierarchy()) as service:
            async with service.running() as source:
                await service.settled()
                await until(lambda: source.synchronised)
                assert source.problem is None
            assert len([r for r in caplog.records if "LISTEN" in r.getMessage()]) == 1
            async with service.running(changes="feed") as source:
                await until(lambda: source.problem is not None and "LISTEN" in source.problem)
        installation.close()


async def test_a_notice_that_says_nothing_is_answered_by_comparing(service):
    async with service.running():
        await service.settled()
        service.installation.db.execute("SET session_replication_role = replica")
        service.installation.put("mod", "mod-1", custom_name="Quiet")
        for words in (
            "no json",
            "[]",
            '{"table":"mod"}',
            '{"table":7,"id":"x"}',
            '{"table":"mod","id":7}',
            '{"table":"users","id":"x"}',
        ):
            service.installation.db.execute("SELECT pg_notify('cdc_events', %s)", (words,))
        await service.settled()


async def test_changes_of_other_tables_compare_nothing(service, monkeypatch):
    compared = []
    monkeypatch.setattr(Follower, "_compare", lambda *_: compared.append(True))
    async with service.running():
        await service.settled()
        for id_ in ("7", '"asset-7"', "null", "[]"):
            service.installation.db.execute(
                "SELECT pg_notify('cdc_events', %s)", (f'{{"table":"bookings","id":{id_}}}',)
            )
        service.installation.put("mod", "mod-1", custom_name="Heard")
        await service.settled()
    assert not compared


async def test_a_flood_is_taken_in_bounds_and_ends_right(service):
    """More changes at once than may wait: reading pauses, nothing is lost."""
    async with service.running():
        await service.settled()
        client = service.installation.status
        for begin in range(0, 60_000, 6_000):
            with client.pipeline(transaction=False) as pipeline:
                for number in range(begin, begin + 6_000):
                    module, key = number % 3 + 1, f"k{number % 500}"
                    pipeline.hset(f"status/mod-{module}", key, number)
                    pipeline.publish(f"status/mod-{module}/{key}", number)
                await asyncio.to_thread(pipeline.execute)
        await service.settled(within=60)


async def test_a_module_that_is_read_while_more_arrives_than_may_wait(service, monkeypatch):
    """The answer that its reading waits for stands behind changes that were left with Redis."""
    monkeypatch.setattr(live, "_MOST_WAITING", 50)
    reading, read_on, blocked, admitted = (asyncio.Event() for _ in range(4))
    read = Values.read

    async def unblocked() -> None:  # a connector that blocks, its backlog full
        blocked.set()
        await admitted.wait()

    async def slow_read(values, modules):
        reading.set()
        await read_on.wait()
        return await read(values, modules)

    async with service.running() as source:
        await until(lambda: source.synchronised)
        monkeypatch.setattr(Values, "read", slow_read)
        service.intake._unblocked = unblocked
        service.installation.put("mod", "mod-2", custom_name="Moved")
        await reading.wait()
        await blocked.wait()
        with service.installation.status.pipeline(transaction=False) as pipeline:
            for number in range(200):
                pipeline.hset("status/mod-1", f"k{number}", number)
                pipeline.publish(f"status/mod-1/k{number}", number)
            pipeline.execute()
        await until(lambda: source._mirror._subscription._paused)
        read_on.set()
        await until(lambda: source._mirror._subscription._barriers)
        admitted.set()
        await service.settled()
        service.installation.set("mod-3", "volume", "33")
        await service.settled()


async def test_reads_only_and_says_what_is_missing(service, postgres):
    user = f"reader_{service.installation.database}"
    db = service.installation.db
    db.execute(f"CREATE USER {user}")
    url = postgres.url(service.installation.database, user)
    async with service.running(postgres=url) as source:
        await until(lambda: source.problem is not None)
        assert "'zone'" in source.problem
        assert "GRANTs" in source.problem
        for table in ("zone", "driver", "sys"):
            db.execute(f"GRANT SELECT ON {table} TO {user}")
        db.execute(f"GRANT SELECT (id, name, custom_name, driver_id, running) ON mod TO {user}")
        await service.settled(within=20)
        await until(lambda: source.problem is None)
        service.installation.put("mod", "mod-1", custom_name="Granted")
        await service.settled()
    assert db.execute("SELECT count(*) FROM eventbus_cdc_events WHERE event_table = 'mod'").fetchone()[0] > 0


async def test_nothing_could_be_written_even_with_the_right_to(service):
    async def write(tables: Models) -> None:
        await tables._fetch("INSERT INTO zone (id) VALUES ('zone-mine') RETURNING id")

    with pytest.raises(NorthboundError, match="read-only transaction"):
        await ask(service.source().config, write)


async def test_people_are_those_of_the_user_table(service):
    db = service.installation.db
    db.execute("""INSERT INTO "user" (id, name, first_name, last_name) VALUES ('u1', 'Jane Doe', 'Jane', 'Doe')""")
    db.execute("""INSERT INTO "user" (id, name, nickname) VALUES ('u2', 'Bob Ray', 'Bobby')""")
    assert await service.source().people() == ["Bob Ray", "Bobby", "Jane Doe"]
    db.execute('DROP TABLE "user"')
    with pytest.raises(NorthboundError, match="user"):
        await service.source().people()


@pytest.mark.parametrize(("database", "more"), [(0, ""), (1, "+select")])
async def test_a_redis_with_a_user_of_few_rights_is_enough(service, database, more):
    rights = f"on >s3cret ~status/* &status/mod-* +psubscribe +ping +hgetall {more}"
    service.installation.status.execute_command("ACL", "SETUSER", "northbound", *rights.split())
    if database:
        service.installation.status.execute_command("SWAPDB", 0, database)
        service.installation.status = service.installation.redis.client(db=database)
    url = f"redis://northbound:s3cret@127.0.0.1:{service.installation.redis.port}/{database}"
    async with service.running(redis=url):
        await service.settled()
        service.installation.set("mod-1", "volume", "77")
        await service.settled()


@pytest.mark.parametrize(
    ("rights", "words"),
    [
        ("on >other ~* &* +@all", "WRONGPASS"),
        ("on >s3cret ~* &* +ping +hgetall", "psubscribe"),
        ("on >s3cret &* +psubscribe +ping ~x +hgetall", "NOPERM|permissions"),
    ],
)
async def test_a_redis_that_refuses_says_why_and_never_the_password(service, rights, words, caplog):
    service.installation.status.execute_command("ACL", "SETUSER", "northbound", *rights.split())
    url = f"redis://northbound:s3cret@127.0.0.1:{service.installation.redis.port}"
    async with service.running(redis=url) as source:
        await until(lambda: source.problem is not None)
        assert any(word in source.problem for word in words.split("|")), source.problem
        assert "s3cret" not in source.problem + caplog.text + repr(source.config) + source.origin


async def test_a_read_that_fails_halfway_is_done_again(service):
    """Redis is killed while a thousand modules are read."""
    for number in range(4, 1000):
        service.installation.set(f"mod-{number}", "power", "true")
    rows = [f"mod-{number}" for number in range(1, 1000)]
    service.installation.db.execute(
        "INSERT INTO mod (id, name, driver_id, running) SELECT 'mod-' || n, 'Display', 'driver-d', true"
        " FROM generate_series(4, 999) AS n"
    )
    service.installation.put("sys", "sys-1", modules=rows)
    async with service.running() as source:
        await until(lambda: service.intake.received > 300)
        service.installation.redis.stop(kill=False)
        await until(lambda: source.problem is not None, within=10)
        service.installation.redis.start()
        service.installation.reconnect()
        await service.settled(within=30)
        await until(lambda: source.synchronised, within=15)
