"""Messages a second and CPU of the client beside a Mosquitto of its own.

    python -m benchmarks.mqtt_client [uvloop] [count]

Four calls of ``publish`` under way, 500 messages each, 64-byte payloads, 94-byte topics. CPU is this process's alone.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.support.mosquitto import Mosquitto

from northbound import mqtt as m

TOPICS = [
    f"placeos/org-acme/state/building-1/level-02/area-7/system-12345/driver-1/Display/1/power{index:05}"
    for index in range(1000)
]


async def measure(port, version, qos, count, properties):
    client = m.Client(m.ClientOptions(host="127.0.0.1", port=port, version=version, client_id="bench"))
    await client.connect()
    window = client.limits.receive_maximum if version == 5 else 1000

    def message(index):
        beside = {"properties": m.Properties(user=(("id", f"0f9c-{index}"),))} if properties else {}
        return m.Publish(TOPICS[index % 1000], b"x" * 64, qos, **beside)

    batches = [[message(index) for index in range(first, first + 500)] for first in range(0, count, 500)]
    began, cpu = time.perf_counter(), time.process_time()
    turn = iter(batches)

    async def send():
        for batch in turn:
            await client.publish(batch)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(send())
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    await client.disconnect()
    beside = "with id" if properties else "no properties"
    what = f"v{version} qos {qos} window {window:>4} {beside:<13}"
    print(f"{what}: {count / took:>9,.0f} msg/s {cpu / count * 1e6:6.2f} us CPU")


def main():
    count = next((int(word) for word in sys.argv[1:] if word.isdigit()), 100_000)
    run = asyncio.run
    if "uvloop" in sys.argv:
        import uvloop  # noqa: PLC0415 - only where asked for

        run = uvloop.run
    with tempfile.TemporaryDirectory() as directory, Mosquitto(Path(directory)) as broker:
        for version, qos, properties in [(5, 1, False), (5, 1, True), (5, 0, False), (5, 2, False), (4, 1, False)]:
            run(measure(broker.port, version, qos, count, properties))


if __name__ == "__main__":
    main()
