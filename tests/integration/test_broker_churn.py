"""Clients that come, go, vanish and read slowly while the building speaks: no topic goes backwards, all end alike."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from tests.support.broker import PASSWORD, served, value

from northbound import mqtt as m
from northbound.errors import DeliveryError
from northbound.mqtt_options import MqttOptions

TOPICS = [f"placeos/o/state/{number}" for number in range(50)]


class Watcher:
    """One client id over many connections."""

    def __init__(self, site, number, chance):
        self.site, self.chance = site, chance
        self.version = chance.choice([3, 4, 5])
        self.qos = chance.choice([0, 1, 2])
        self.name = f"watcher-{number}"
        self.seen: dict[str, int] = {}
        self.client: m.Client | None = None
        self.backwards: list[tuple[str, int, int]] = []

    def take(self, messages):
        for item in messages:
            number = int(item.payload.split()[0])
            before = self.seen.get(item.topic, 0)
            # what is sent again after a reconnect may have been seen already [MQTT-4.4.0-1]
            if number < before and not item.duplicate:
                self.backwards.append((item.topic, before, number))
            self.seen[item.topic] = max(number, before)

    async def connect(self):
        options = m.ClientOptions(
            host="127.0.0.1",
            port=self.site.port,
            client_id=self.name,
            username="ann",
            password=PASSWORD,
            version=self.version,
            clean_start=False,
            session_expiry=100,
            topic_alias_maximum=self.chance.choice([0, 20]),
        )
        self.client = m.Client(options, on_messages=self.take)
        await self.client.connect()
        await self.client.subscribe(["placeos/#"], self.qos)

    async def live(self, until):
        while not until.is_set():
            with contextlib.suppress(DeliveryError):
                await self.connect()
                await self.misbehave(until)
        await self.connect()

    async def misbehave(self, until):
        client = self.client
        assert client is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(until.wait(), self.chance.uniform(0.05, 0.5))
        match self.chance.randrange(3):
            case 0:
                await client.disconnect()
            case 1:
                client.pause()  # reads nothing for a while
                await asyncio.sleep(self.chance.uniform(0.05, 0.3))
                client.resume()
                await client.disconnect()
            case _:
                client._driver._transport.abort()
                with contextlib.suppress(DeliveryError):
                    await client.lost()


async def churn(seconds, seed):
    chance = random.Random(seed)
    options = MqttOptions(queue_bytes=20_000, queue_messages=30, inflight=20)
    until, count = asyncio.Event(), 0
    async with served(options=options) as site:
        watchers = [Watcher(site, number, random.Random(f"{seed}-{number}")) for number in range(8)]
        async with asyncio.TaskGroup() as tasks:
            for watcher in watchers:
                tasks.create_task(watcher.live(until))
            end = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < end:
                batch = []
                for _ in range(chance.randint(1, 100)):
                    count += 1
                    batch.append(value(chance.choice(TOPICS), b"%d " % count + bytes(chance.randint(0, 400))))
                site.broker.publish(batch)
                await asyncio.sleep(chance.choice([0, 0, 0.01, 0.05]))
            until.set()
        values = [item for items in site.broker.current("placeos/#", None) for item in items]
        present = {item.topic: int(item.payload.split()[0]) for item in values}
        for watcher in watchers:
            await site.until(lambda watcher=watcher: watcher.seen == present, 20)
            assert watcher.backwards == [], (watcher.version, watcher.qos)
            await watcher.client.disconnect()
        assert site.broker.counters.taken_over + site.broker.counters.connections_total > len(watchers)
        assert site.broker.numbers().queued == 0


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_clients_do_they_end_up_with_the_present(seed):
    await churn(3, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_clients_do_for_long(seed):
    await churn(90, 100 + seed)
