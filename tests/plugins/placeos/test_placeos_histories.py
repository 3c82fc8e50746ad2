"""Random histories with everything broken in the middle: at rest, what is retained is what both databases say."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.plugins.placeos.conftest import Service
from tests.support.examples import examples
from tests.support.placeos_history import Pools, furnish, step, take, told
from tests.support.placeos_installation import Installation
from tests.support.redis_server import RedisServer

BREAKS = ("settle", "settle", "source", "redis", "postgres", "pubsub", "nothing")
SITES = (
    {"hierarchy": ("org", "building", "level", "area")},
    {"profile": "placeos", "hierarchy": ("org", "building", "level", "area")},
    {"org": "fallback", "hierarchy": ("org", "building")},
)


@pytest.fixture(scope="module")
def world(postgres, tmp_path_factory):
    with RedisServer(tmp_path_factory.mktemp("redis"), persistent=True) as redis:
        made = Installation(postgres, redis)
        yield made
        made.drop()


def emptied(world: Installation) -> None:
    world.db.execute("TRUNCATE zone, sys, driver, mod, eventbus_cdc_events")
    world.status.flushall()


async def break_something(what: str, world: Installation) -> None:
    if what == "redis":
        world.redis.stop()
        world.redis.start()
        world.reconnect()
    elif what == "postgres":
        world.postgres.restart()
        world.reconnect()
    elif what == "pubsub":
        world.status.execute_command("CLIENT", "KILL", "TYPE", "pubsub")


async def live_through(world: Installation, path, rng: random.Random, rounds, site, **options) -> None:
    """Let ``rounds`` of (number of steps, what is broken after them) happen; at every rest compare."""
    pools = Pools()
    emptied(world)
    furnish(world, pools, rng)
    walk = options.get("walk_parents", False)
    done: list = []
    async with Service(world, path, **site) as service:
        context = None
        try:
            context = service.running(reread="1s", **options)
            await context.__aenter__()
            for count, breaking in rounds:
                for _ in range(count):
                    done.append(step(rng, pools))
                    await asyncio.to_thread(take, world, done[-1])
                if breaking == "source":
                    await context.__aexit__(None, None, None)
                    context = None
                    for _ in range(count // 2):  # while nobody looks
                        done.append(step(rng, pools))
                        take(world, done[-1])
                    context = service.running(reread="1s", **options)
                    await context.__aenter__()
                elif breaking == "settle":
                    await service.settled(walk=walk, within=30)
                else:
                    await break_something(breaking, world)
            await service.settled(walk=walk, within=30)
        except AssertionError as error:
            raise AssertionError(f"{error}\nafter\n{told(done)}") from None
        finally:
            if context is not None:
                await context.__aexit__(None, None, None)


@given(
    seed=st.integers(0, 2**32),
    rounds=st.lists(st.tuples(st.integers(1, 12), st.sampled_from(BREAKS)), min_size=1, max_size=4),
    site=st.sampled_from(SITES),
    walk=st.booleans(),
)
@settings(max_examples=examples(6), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_a_short_history_ends_right(world, tmp_path_factory, seed, rounds, site, walk):
    path = tmp_path_factory.mktemp("store") / "store.db"
    asyncio.run(live_through(world, path, random.Random(seed), rounds, site, walk_parents=walk))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_long_history_ends_right(world, tmp_path, seed):
    rng = random.Random(seed)
    rounds = [(rng.randint(20, 120), rng.choice(BREAKS)) for _ in range(40)]
    options = {
        "walk_parents": seed % 2 == 1,
        "coalesce": rng.choice(["0s", "5ms"]),
        "restart_window": rng.choice(["0s", "200ms"]),
    }
    asyncio.run(live_through(world, tmp_path / "store.db", rng, rounds, SITES[seed % 3], **options))
