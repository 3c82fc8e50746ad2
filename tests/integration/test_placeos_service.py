"""A PlaceOS installation through the service to a real broker; and what docs/placeos.md says of rights and moving."""

from __future__ import annotations

import random
import re
import signal
import time
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from tests.plugins.placeos.conftest import difference, furnish
from tests.support import placeos_campus, placeos_history
from tests.support.mosquitto import Mosquitto
from tests.support.placeos_installation import Installation
from tests.support.postgres_server import PostgresServer
from tests.support.redis_server import RedisServer
from tests.support.service import Service, until
from tests.support.subscriber import Subscriber, retained

from northbound.config import SiteOptions

DOCUMENT = Path(__file__).parents[2] / "docs/placeos.md"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("placeos")
    with PostgresServer() as postgres, RedisServer(folder, persistent=True) as redis:
        yield postgres, redis


@pytest.fixture
def broker(tmp_path):
    # Or a late subscriber of more than a thousand topics would not get them all.
    lines = ("max_queued_messages 0", "max_inflight_messages 0")
    with Mosquitto(tmp_path / "broker", config_lines=lines) as made:
        yield made


@pytest.fixture
def installation(world):
    made = Installation(*world)
    furnish(made)
    yield made
    made.status.flushall()
    made.drop()


def documented(kind: str) -> list[str]:
    """Return the commands that the page gives for one of the databases."""
    text = DOCUMENT.read_text()
    blocks = re.findall(rf"<!-- tried: {kind} -->\n```\w*\n(.*?)```", text, re.DOTALL)
    assert blocks
    return blocks


def configuration(installation: Installation, port: int, *, enabled=True, postgres="", redis="") -> str:
    return f"""
[site]
hierarchy = ["org", "building", "level", "area"]
[sources.building]
type = "placeos"
redis = "{redis or installation.redis.url}"
postgres = "{postgres or installation.url}"
[connectors.out]
type = "mqtt"
url = "mqtt://127.0.0.1:{port}"
enabled = {str(enabled).lower()}
[connectors.out.retry]
initial = "50ms"
"""


def on_broker(port: int) -> dict[str, object]:
    payloads = SiteOptions().payloads
    found = retained(port, "placeos/#", quiet=0.2)
    return {
        topic: payloads.read_metadata(body)[0]["name"] if "/metadata/" in topic else payloads.read_state(body)[0]
        for topic, body in found.items()
    }


def settled(installation: Installation, port: int, within: float = 30, **how) -> None:
    last: list[str] = []

    def equal() -> bool:
        wanted, found = installation.tree(**how), on_broker(port)
        last[:] = [difference(found, wanted)]
        return wanted == found

    try:
        until(equal, timeout=within)
    except AssertionError:
        raise AssertionError(last[0]) from None


def test_the_tree_on_the_broker_is_that_of_both_databases_through_restarts_and_a_kill(
    world, installation, broker, tmp_path
):
    postgres, redis = world
    service = Service(tmp_path, configuration(installation, broker.port))
    with service:
        settled(installation, broker.port)
        installation.put("mod", "mod-1", custom_name="Left")
        installation.set("mod-2", "volume", "77")
        settled(installation, broker.port)
        redis.stop()
        redis.start()
        postgres.restart()
        installation.reconnect()
        installation.put("sys", "sys-2", zones=["zone-org", "zone-b1"])
        installation.remove("mod-3", "power")
        settled(installation, broker.port)
        service.kill()
        installation.delete("sys", "sys-1")
        installation.set("mod-3", "volume", "31")
    with service.start():
        settled(installation, broker.port)
    assert "ERROR" not in service.log()


def test_the_documented_rights_are_enough_and_the_way_over_works(installation, broker, tmp_path):
    for block in documented("postgres"):
        installation.db.execute(block.replace("northbound", f"northbound_{installation.database}"))
    for line in documented("redis"):
        installation.status.execute_command(*line.split())
    user = f"northbound_{installation.database}"
    postgres = make_conninfo(installation.url, user=user, password="choose one")
    redis = installation.redis.url.replace("://", "://northbound:choose-one@")
    both = {"postgres": postgres, "redis": redis}

    service = Service(tmp_path, configuration(installation, broker.port, enabled=False, **both))
    with service:
        until(lambda: "synchronised" in service.log())
        url = f"mqtt://127.0.0.1:{broker.port}"
        compared = service.call("compare", url, "northbound.toml", "--duration", "500ms", "--settle", "200ms")
        assert compared.returncode == 1
        assert "extra" in compared.stdout
        assert not on_broker(broker.port)
    (tmp_path / "northbound.toml").write_text(configuration(installation, broker.port, **both))
    with service.start():
        settled(installation, broker.port)
        until(
            lambda: (
                service.call("compare", url, "northbound.toml", "--duration", "500ms", "--settle", "200ms").returncode
                == 0
            )
        )
        assert "away" not in service.log()
    installation.db.execute(f"DROP OWNED BY {user}")


def test_import_with_the_documented_rights(installation, tmp_path):
    for block in documented("postgres"):
        installation.db.execute(block.replace("northbound", f"northbound_{installation.database}"))
    user = f"northbound_{installation.database}"
    installation.put("broker", "broker-1", name="Cloud", host="127.0.0.1", port=1883, secret="s")
    service = Service(tmp_path, "")
    (tmp_path / "northbound.toml").unlink()
    done = service.call("import", "placeos", "--postgres", make_conninfo(installation.url, user=user))
    assert done.returncode == 0, done.stderr
    assert service.call("check", "northbound.toml").returncode == 0
    installation.db.execute(f"DROP OWNED BY {user}")


def test_case_12_a_broker_added_later_receives_the_current_state_and_the_others_nothing(installation, broker, tmp_path):
    """PlaceOS's case 12: its own service does that for states only; here metadata come as well."""
    service = Service(tmp_path, configuration(installation, broker.port))
    with service, Mosquitto(tmp_path / "later") as later:
        settled(installation, broker.port)
        with Subscriber(broker.port, client_id="watcher") as watcher:
            until(lambda: len(watcher.arrived) >= len(installation.tree()))
            count = len(watcher.arrived)
            added = f'[connectors.later]\ntype = "mqtt"\nurl = "mqtt://127.0.0.1:{later.port}"\n'
            service.config.write_text(configuration(installation, broker.port) + added)
            assert service.process is not None
            service.process.send_signal(signal.SIGHUP)
            settled(installation, later.port)
            assert len(watcher.arrived) == count


def test_people_of_the_user_table_do_not_leave(installation, broker, tmp_path):
    installation.db.execute("""INSERT INTO "user" (id, name) VALUES ('user-1', 'Jane Quimby')""")
    installation.set("mod-1", "host", '"booked by Jane Quimby until ten"')
    rule = """
[[privacy.rules]]
name = "people"
detect = ["staff"]
action = "redact"
placeholder = "[somebody]"
[privacy.detectors.staff]
type = "person"
source = "building"
"""
    with Service(tmp_path, configuration(installation, broker.port) + rule) as service:
        topic = "placeos/zone-org/state/zone-b1/zone-l1/_/sys-1/driver-d/Display/1/host"
        until(lambda: on_broker(broker.port).get(topic) == "booked by [somebody] until ten")
        assert "Quimby" not in service.log()


@pytest.mark.slow
def test_a_large_installation_lives_through_a_random_day(world, broker, tmp_path):
    """Thousands of changes of rows and statuses; both databases restarted, connections cut, the service killed."""
    postgres, redis = world
    installation = Installation(postgres, redis)
    campus = placeos_campus.make(0.05)
    placeos_campus.write_rows(campus, postgres, installation.database)
    placeos_campus.write_statuses(campus, redis.port)
    rng = random.Random(5)
    pools = placeos_history.Pools(0, 0, 0, 0)
    pools.zones, pools.systems, pools.drivers, pools.modules = (
        [row[0] for row in rows] for rows in (campus.zones, campus.systems, campus.drivers, campus.modules)
    )
    text = configuration(installation, broker.port).replace('type = "placeos"', 'type = "placeos"\nreread = "5s"')
    text = text.replace("[site]", '[site]\norg = "fallback"')
    service = Service(tmp_path, text)
    breaks = ["redis", "postgres", "pubsub", "kill", "stop", "nothing"] * 3
    rng.shuffle(breaks)
    service.start()
    for breaking in breaks:
        for _ in range(250):
            placeos_history.take(installation, placeos_history.step(rng, pools))
        if breaking in ("kill", "stop"):
            service.kill() if breaking == "kill" else service.stop()
            for _ in range(50):
                placeos_history.take(installation, placeos_history.step(rng, pools))
            service.start()
        elif breaking == "redis":
            redis.stop()
            redis.start()
            installation.reconnect()
        elif breaking == "postgres":
            postgres.restart()
            installation.reconnect()
        elif breaking == "pubsub":
            installation.status.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    with service:
        settled(installation, broker.port, within=120, site_org="fallback")
        assert len(on_broker(broker.port)) > 5_000
    assert "Traceback" not in service.log()
    installation.status.flushall()
    installation.drop()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_redis_gone_for_ten_minutes_during_changes(installation, broker, tmp_path):
    """It comes back from its file with other values; only those that differ are published."""
    with Service(tmp_path, configuration(installation, broker.port)) as service:
        settled(installation, broker.port)
        with Subscriber(broker.port, client_id="watcher") as watcher:
            until(lambda: len(watcher.arrived) >= len(installation.tree()))
            installation.redis.stop()
            until(lambda: "hung up" in service.log(), timeout=10)
            time.sleep(600)
            installation.redis.start()
            installation.reconnect()
            before = len(watcher.arrived)
            installation.status.hset("status/mod-1", "volume", "55")
            settled(installation, broker.port)
            assert [message.topic.rpartition("/")[2] for message in watcher.arrived[before:]] == ["volume"]
