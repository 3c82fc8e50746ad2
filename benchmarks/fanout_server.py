"""The API's broker in a process of its own, told by lines of JSON what to feed itself; answers each with a line."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import sys
import time
from pathlib import Path

import uvicorn
import uvloop
from tests.support.broker import People, Rules

from benchmarks import fanout_load as load
from northbound.api.broker import Broker
from northbound.api.mqtt_socket import mqtt_endpoint
from northbound.api.websocket import WebSocket
from northbound.message import Message
from northbound.mqtt_options import MqttOptions


def messages(first: int, count: int, topic=load.live_topic) -> list[Message]:
    now = time.time_ns() // 1_000_000
    return [
        Message(topic(number), load.payload(time.monotonic_ns()), "state", now, True)
        for number in range(first, first + count)
    ]


async def feed(broker: Broker, count: int, batch: int) -> None:
    """Publish as the engine does, as fast as the slowest subscriber takes it."""
    sessions = list(broker._sessions)  # noqa: SLF001 - to be paced by the slowest
    for first in range(0, count, batch):
        broker.publish(messages(first, min(batch, count - first)))
        await asyncio.sleep(0)
        while any(len(s.outbox.assured) > 500 or s.outbox.quick_bytes > 200_000 for s in sessions):
            await asyncio.sleep(0.0005)


async def steadily(broker: Broker, rate: int, seconds: float) -> None:
    start, sent = time.monotonic(), 0
    while (now := time.monotonic() - start) < seconds:
        due = int(now * rate)
        if due > sent:
            broker.publish(messages(sent, due - sent))
            sent = due
        await asyncio.sleep(0.002)


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def main() -> None:
    options = MqttOptions(connections=20_000, strangers=20_000, sessions=20_000)
    people, rules = People(), Rules()
    broker = Broker(access=rules, authenticator=people, options=options)
    app = mqtt_endpoint(broker, people, rules, options)
    config = uvicorn.Config(
        app, ws=WebSocket, ws_per_message_deflate=False, ws_max_size=1 << 20, lifespan="off",
        log_level="error", access_log=False, backlog=4096,
    )  # fmt: skip
    server = uvicorn.Server(config)
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets=[sock]))
        running = tasks.create_task(broker.run())
        while not server.started:
            await asyncio.sleep(0.01)
        print(json.dumps({"port": sock.getsockname()[1]}), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            command = json.loads(line)
            before = resource.getrusage(resource.RUSAGE_SELF)
            match command.pop("do"):
                case "feed":
                    await feed(broker, **command)
                case "steadily":
                    await steadily(broker, **command)
                case "load":
                    broker.load(messages(0, command["count"], load.topic))
            after = resource.getrusage(resource.RUSAGE_SELF)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            status = broker.numbers()
            print(json.dumps({"cpu": cpu, "resident": resident(), "conflated": status.counters.conflated}), flush=True)
        running.cancel()
        server.should_exit = True
        await serving


if __name__ == "__main__":
    profile = os.environ.get("FANOUT_PROFILE")
    if profile:
        import cProfile

        watch = cProfile.Profile()
        watch.runcall(uvloop.run, main())
        watch.dump_stats(profile)
    else:
        uvloop.run(main())
