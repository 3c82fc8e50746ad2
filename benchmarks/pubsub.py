"""``python -m benchmarks.pubsub``: what the gcp-pubsub connector takes, against the twin in a process of its own.

With ``--emulator HOST:PORT`` also against Google's emulator, where one is installed and running.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
from google.api_core.exceptions import AlreadyExists
from google.pubsub_v1.services.publisher import PublisherAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from tests.support.pubsub import TOPIC, cloud

from northbound import Outgoing
from northbound_gcp_pubsub import PubSubConnector, PubSubOptions

PAYLOAD = b'{"time":1700000000123,"value":"{\\"power\\":true,\\"temperature\\":21.5}"}'
CONFIGURATION = """
[site]
org = "org"
[sources.in]
type = "jsonl"
path = "events.jsonl"
[connectors.gcp]
type = "gcp-pubsub"
"""


async def twin(folder: Path) -> None:
    """Serve until standard input ends, then say what came."""
    async with cloud(folder) as made:
        print(json.dumps({"endpoint": made.twin.endpoint}), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        topic = made.topic
        newest: dict[str, int] = {}
        backwards = 0
        for _, name, data in made.received:
            value = json.loads(data)["value"]
            number = int(value) if isinstance(value, str) and value.isdigit() else 0
            backwards += number < newest.get(name, 0)
            newest[name] = number
        print(json.dumps({"messages": len(topic.messages), "requests": len(topic.requests), "backwards": backwards}))


class Twin:
    """The twin in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "benchmarks.pubsub", "--twin", str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.settings = {
            "pubsub_topic": TOPIC,
            "endpoint": json.loads(self.process.stdout.readline())["endpoint"],
            "credentials_file": str(folder / "key.json"),
            "ca": str(folder / "ca.pem"),
        }

    def finish(self) -> dict[str, int]:
        """End it and return what came."""
        return dict(json.loads(self.process.communicate(timeout=60)[0]))


def outgoing(n: int, topics: int) -> Outgoing:
    topic = f"placeos/org-acme/state/bld-1/lvl-2/_/sys-{n % topics}/dep-1/Display/1/power"
    return Outgoing(
        topic, PAYLOAD, "state", 1_700_000_000_000 + n, False, topic, f"0123456789abcdef-{n}", BESIDE[topic]
    )


BESIDE: dict[str, dict[str, str]] = {}


def prepare(topics: int) -> None:
    for n in range(topics):
        topic = f"placeos/org-acme/state/bld-1/lvl-2/_/sys-{n}/dep-1/Display/1/power"
        BESIDE[topic] = {
            "topic": topic, "kind": "state", "org": "org-acme", "building": "bld-1", "level": "lvl-2",
            "system": f"sys-{n}", "driver": "dep-1", "module": "Display", "index": "1", "state": "power",
            "retain": "true",
        }  # fmt: skip


async def alone(settings: dict[str, object], count: int, *, topics: int = 500, in_flight: int = 4) -> dict[str, float]:
    """Send ``count`` messages with the connector by itself."""
    prepare(topics)
    connector = PubSubConnector(PubSubOptions.model_validate(settings), name="bench")
    await connector.open()
    batches = iter([[outgoing(n, topics) for n in range(at, at + 1000)] for at in range(0, count, 1000)])
    began, cpu = time.perf_counter(), time.process_time()

    async def sender() -> None:
        for batch in batches:
            await connector.send(batch)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(in_flight):
            tasks.create_task(sender())
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    gauges = connector.gauges()
    await connector.close()
    return {
        "msg/s": count / seconds,
        "µs of CPU each": used / count * 1e6,
        "messages a request": gauges["messages_per_request"],
    }


def whole(made: Twin, count: int, topics: int = 500) -> dict[str, float]:
    """Run the service on a file of ``count`` events."""
    one = {"kind": "state", "building": "bld-1", "level": "lvl-2", "driver": "dep-1", "module": "Display", "index": 1}
    with (made.folder / "events.jsonl").open("w") as file:
        for n in range(count):
            file.write(json.dumps({**one, "system": f"sys-{n % topics}", "state": "power", "value": n}) + "\n")
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in made.settings.items())
    (made.folder / "northbound.toml").write_text(CONFIGURATION + lines)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "northbound", "run", "--once", "northbound.toml"],
        cwd=made.folder,
        check=True,
        capture_output=True,
    )
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"msg/s, start included": count / seconds, "µs of CPU each": used / count * 1e6}


async def emulated(host: str, count: int) -> dict[str, float]:
    """Send to Google's emulator."""
    async with grpc.aio.insecure_channel(host) as channel:
        client = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))
        with contextlib.suppress(AlreadyExists):
            await client.create_topic(name=TOPIC)
    return await alone({"pubsub_topic": TOPIC, "emulator": host}, count)


def show(what: str, measured: dict[str, float]) -> None:
    print(f"{what:44}" + "  ".join(f"{name} {value:,.1f}" for name, value in measured.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--twin", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--emulator")
    arguments = parser.parse_args()
    if arguments.twin:
        asyncio.run(twin(arguments.twin))
        return
    count = arguments.count
    for keys in (1, 16, 64):
        with tempfile.TemporaryDirectory() as folder:
            made = Twin(Path(folder))
            measured = asyncio.run(alone({**made.settings, "ordering_keys": keys}, min(count, 10_000 * keys)))
            show(f"connector alone, TLS, {keys} ordering keys", {**measured, **made.finish()})
    with tempfile.TemporaryDirectory() as folder:
        made = Twin(Path(folder))
        show("connector alone, TLS, no ordering", {
            **asyncio.run(alone({**made.settings, "ordering": False}, count)), **made.finish(),
        })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        made = Twin(Path(folder))
        show("file to store to Pub/Sub, one process", {**whole(made, count), **made.finish()})
    if arguments.emulator:
        show("connector alone, Google's emulator", asyncio.run(emulated(arguments.emulator, count)))


if __name__ == "__main__":
    main()
