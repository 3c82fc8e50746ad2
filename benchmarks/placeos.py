"""A large PlaceOS installation through the source, the store and a connector to a Mosquitto, all real, on this machine.

    python -m benchmarks.placeos [--size 0.1] [--rate 10000] [--seconds 60]

Prints the time and memory of the first synchronisation and of a start when everything is known already, and of changes
through Redis at a steady rate: what was lost, how long each took from its writing to its arrival at a subscriber, the
CPU of northbound for each, and its memory before and after. Redis, PostgreSQL, Mosquitto, the feeder and the subscriber
run beside it on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import re
import statistics
import tempfile
import time
from pathlib import Path

from tests.support import placeos_campus
from tests.support.mosquitto import Mosquitto
from tests.support.placeos_installation import SCHEMA
from tests.support.postgres_server import PostgresServer
from tests.support.redis_server import RedisServer
from tests.support.service import Service

from northbound.mqtt import Client, ClientOptions, Received

UNBOUNDED = ("max_queued_messages 0", "max_queued_bytes 0", "max_inflight_messages 0")
_STAMP = re.compile(rb'"n":(\d+),"at":(\d+)')


def processor_seconds(pid: int) -> float:
    """Return what a process has used of the processor, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


class Subscriber:
    """Counts what arrives, and of stamped values how long they took and which they were."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self.arrived: set[int] = set()
        self.lags: list[float] = []
        self._client = Client(ClientOptions(host="127.0.0.1", port=port, client_id="bench"), on_messages=self._take)

    async def start(self) -> None:
        await self._client.connect()
        await self._client.subscribe(["#"], qos=0)

    async def stop(self) -> None:
        await self._client.disconnect()

    def _take(self, messages: list[Received]) -> None:
        now = time.time_ns()
        self.count += len(messages)
        for message in messages:
            if (stamp := _STAMP.search(message.payload)) is not None:
                self.arrived.add(int(stamp[1]))
                self.lags.append((now - int(stamp[2])) / 1e6)


def feed(port: int, modules: int, rate: int, seconds: float, pipe) -> None:
    """Change random statuses at ``rate``; sends back which change was the last of each."""
    redis = placeos_campus.Redis(port)
    rng = random.Random(7)
    last: dict[tuple[int, str], int] = {}
    number = 0
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        due = int(elapsed * rate) - number
        commands = []
        for _ in range(due):
            module = rng.randrange(modules)
            key = rng.choice(placeos_campus.keys(module))
            text = b'{"n":%d,"at":%d}' % (number, time.time_ns())
            commands += [
                ("HSET", f"status/mod-{module:06}", key, text),
                ("PUBLISH", f"status/mod-{module:06}/{key}", text),
            ]
            last[module, key] = number
            number += 1
        redis.send(commands)
        time.sleep(0.005)
    took = time.perf_counter() - began
    pipe.send((number, took, sorted(last.values())))
    redis.close()


async def until(condition, within: float, what: str) -> float:
    began = time.perf_counter()
    while not condition():
        if time.perf_counter() - began > within:
            raise SystemExit(f"waited {within} s in vain: {what}")
        await asyncio.sleep(0.05)
    return time.perf_counter() - began


async def synchronised(service: Service, which: int) -> float:
    return await until(lambda: service.log().count("synchronised") >= which or not service.running, 900, "synchronised")


async def measure(arguments: argparse.Namespace, folder: Path, postgres: PostgresServer, redis: RedisServer) -> None:
    campus = placeos_campus.make(arguments.size)
    database = postgres.create(SCHEMA)
    placeos_campus.write_rows(campus, postgres, database)
    values = placeos_campus.write_statuses(campus, redis.port)
    print(f"{len(campus.zones)} zones, {len(campus.systems)} systems, {len(campus.modules)} modules, {values} values")
    with Mosquitto(folder, config_lines=UNBOUNDED) as broker:
        subscriber = Subscriber(broker.port)
        await subscriber.start()
        service = Service(
            folder,
            f'[site]\nprofile = "placeos"\nhierarchy = ["org", "building", "level", "area"]\n'
            f'[sources.building]\ntype = "placeos"\nredis = "{redis.url}"\npostgres = "{postgres.url(database)}"\n'
            f'[connectors.out]\ntype = "mqtt"\nurl = "mqtt://127.0.0.1:{broker.port}"\n'
            f"[privacy]\ndefault = {'true' if arguments.privacy else 'false'}\n",
        )
        with service.start():
            await first_start(service, subscriber)
            await steady(arguments, service, subscriber, redis, len(campus.modules))
        before = subscriber.count
        cpu = time.perf_counter()
        with service.start():
            await synchronised(service, 2)
            took = time.perf_counter() - cpu
            assert service.process is not None
            used, memory = processor_seconds(service.process.pid), resident_mb(service.process.pid)
        await asyncio.sleep(1)
        print(f"start when all is known: {took:.1f} s, {used:.1f} s of CPU, {memory:.0f} MB;"
              f" {subscriber.count - before} messages sent")  # fmt: skip
        await subscriber.stop()
        print(service.log()[-1500:] if "WARNING" in service.log() else "no warnings")


async def first_start(service: Service, subscriber: Subscriber) -> None:
    began = time.perf_counter()
    await synchronised(service, 1)
    took = time.perf_counter() - began
    assert service.process is not None
    pid = service.process.pid
    used, memory = processor_seconds(pid), resident_mb(pid)
    count = -1
    while count != subscriber.count:
        count = subscriber.count
        await asyncio.sleep(1)
    print(f"first synchronisation: {took:.1f} s, {used:.1f} s of CPU, {memory:.0f} MB")
    print(f"  {count} messages at the subscriber {time.perf_counter() - began - 1:.1f} s after the start,"
          f" {resident_mb(pid):.0f} MB")  # fmt: skip


async def steady(
    arguments: argparse.Namespace, service: Service, subscriber: Subscriber, redis: RedisServer, modules: int
) -> None:
    assert service.process is not None
    pid = service.process.pid
    cpu, memory = processor_seconds(pid), resident_mb(pid)
    ours, theirs = multiprocessing.Pipe()
    feeder = multiprocessing.get_context("spawn").Process(
        target=feed, args=(redis.port, modules, arguments.rate, arguments.seconds, theirs)
    )
    feeder.start()
    while not ours.poll():
        await asyncio.sleep(0.05)
    number, took, last = ours.recv()
    feeder.join()
    waited = await until(lambda: subscriber.arrived.issuperset(last), 120, "the last of each status")
    used = processor_seconds(pid) - cpu
    lags = sorted(subscriber.lags)
    late = statistics.quantiles(lags, n=100)
    print(f"{number} changes in {took:.1f} s ({number / took:,.0f}/s)")
    joined = number - len(subscriber.arrived)
    print(f"  lost 0 of {len(last)} statuses; {joined} intermediate values joined with later ones;"
          f" all there {waited:.2f} s after the last")  # fmt: skip
    print(f"  lag p50 {late[49]:.0f} ms, p99 {late[98]:.0f} ms, most {lags[-1]:.0f} ms")
    print(f"  CPU {used / number * 1e6:.0f} µs a change, {used / took * 100:.0f} % of a core;"
          f" memory {memory:.0f} → {resident_mb(pid):.0f} MB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placeos", description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=float, default=1.0)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--privacy", action="store_true", help="with the default privacy rule")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, PostgresServer() as postgres, RedisServer(Path(folder)) as redis:
        asyncio.run(measure(arguments, Path(folder), postgres, redis))


if __name__ == "__main__":
    main()
