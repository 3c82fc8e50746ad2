"""Mosquitto's own bridge carrying the same messages: fed by a client fast enough not to be what is measured."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.support.mosquitto import Mosquitto

from northbound.message import Message
from northbound.mqtt import Client, ClientOptions, Publish, Received

SENTINEL = "bench/sentinel"


async def carry(directory: Path, batch: list[Message]) -> dict[str, float]:
    """Return the seconds from the first publish to the bridge until the last message is at the far broker."""
    unbounded = ("max_queued_messages 0", "max_inflight_messages 100", "max_queued_bytes 0")
    with Mosquitto(directory / "far", config_lines=unbounded) as far:
        lines = (
            *unbounded, "connection north", f"address 127.0.0.1:{far.port}", "topic # out 1",
            "cleansession true", "restart_timeout 1", "bridge_protocol_version mqttv50",
        )  # fmt: skip
        with Mosquitto(directory / "near", config_lines=lines) as near:
            arrived = asyncio.Event()
            waiting = Client(
                ClientOptions(host="127.0.0.1", port=far.port, client_id="far"),
                on_messages=lambda received: arrived.set() if _is_sentinel(received) else None,
            )
            await waiting.connect()
            await waiting.subscribe([SENTINEL])
            feeder = Client(ClientOptions(host="127.0.0.1", port=near.port, client_id="feeder"))
            await feeder.connect()
            while not arrived.is_set():  # until the bridge stands
                await feeder.publish([Publish(SENTINEL, b"", qos=1)])
                await asyncio.sleep(0.1)
            arrived.clear()
            await asyncio.sleep(1)
            arrived.clear()
            started = time.perf_counter()
            for begin in range(0, len(batch), 1000):
                await feeder.publish(
                    [Publish(m.topic, m.payload, qos=1, retain=True) for m in batch[begin : begin + 1000]]
                )
            fed = time.perf_counter() - started
            await feeder.publish([Publish(SENTINEL, b"", qos=1)])
            async with asyncio.timeout(300):
                await arrived.wait()
            seconds = time.perf_counter() - started
            await feeder.disconnect()
            await waiting.disconnect()
            return {"seconds": seconds, "fed_seconds": fed}


def _is_sentinel(received: list[Received]) -> bool:
    return any(message.topic == SENTINEL for message in received)
