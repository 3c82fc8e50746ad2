"""A running service with the azure-iot connector and a twin, and the oracle over both."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from tests.support.fakes import Destination, configuration, connector, event, source
from tests.support.intake import until
from tests.support.oracle import Received, check_file, check_received

from northbound.errors import StoreError
from northbound.events import Metadata
from northbound.loading import ConnectorInstance
from northbound.registry import Plugin
from northbound.runtime import Runtime
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.azure_iot import AzureHubTwin
from northbound_azure_iot import AzureIotConnector, read_message

PLUGIN = Plugin("connector", "azure-iot", package="northbound", version="0", implementation=AzureIotConnector)
RETRY = {"initial": "50ms", "maximum": "400ms", "jitter": 0}
_addresses = itertools.count(1)


def own_address() -> str:
    """A loopback address for a twin whose port an SDK forces: no other test, in no other process, has it."""
    pid = os.getpid()
    return f"127.{64 + (pid >> 8) % 128}.{pid % 256}.{next(_addresses) % 250 + 1}"


def reached(hub: AzureHubTwin, authority: Authority) -> dict[str, object]:
    """The options that lead to a twin: it is reached as a gateway is."""
    return {"gateway_host": hub.host, "port": hub.port, "ca": str(authority.ca)}


class Service:
    """``destination`` has got every accepted message, as the yardstick."""

    def __init__(self, folder: Path, hub: AzureHubTwin, options: dict[str, object]) -> None:
        self.folder = folder
        self.hub = hub
        self.options = options
        self.yardstick = Destination()
        self.runtime: Runtime
        self._queue: asyncio.Queue = asyncio.Queue()
        self.made = 0

    async def feed(self, intake) -> None:
        while True:
            events, done = await self._queue.get()
            try:
                ticket = await intake.submit(events)
                await ticket.committed()
            except StoreError as error:
                done.set_exception(error)
            else:
                done.set_result(None)

    async def put(self, *events) -> None:
        """Hand events in; returns when they are on the disk."""
        done = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((list(events), done))
        await done

    async def numbers(self, count: int, topics: int = 5) -> None:
        """Hand in ``count`` states more, over some topics in turn."""
        first, self.made = self.made, self.made + count
        await self.put(*(event(n % topics, n) for n in range(first, self.made)))

    async def flow(self, seconds: float, rate: int = 200) -> None:
        """Hand in states for so long, evenly."""
        for _ in range(int(seconds * 20)):
            await self.numbers(rate // 20)
            await asyncio.sleep(0.05)

    @property
    def worker(self):
        return self.runtime._workers["out"][0]

    @property
    def azure(self) -> AzureIotConnector:
        return self.worker._connector

    @property
    def status(self):
        return next(found for found in self.runtime.status().connectors if found.name == "out")

    async def delivered(self, count: int | None = None, seconds: float = 20) -> None:
        """Wait until so many states (all of them) are acknowledged or set aside."""
        wanted = self.made if count is None else count

        def settled() -> bool:
            counters = self.status.counters
            return counters.acknowledged + counters.dead + counters.overtaken >= wanted

        await until(settled, seconds)

    def arrived(self) -> list[tuple[int, str, bytes]]:
        """What the hub took, as (sequence, topic, payload) in the order of its arrival; trial messages left out."""
        found = [
            message
            for taken in self.hub.record.messages
            if taken.user.get("kind") != "trial"
            for message in read_message(taken.user, taken.payload)
        ]
        return [(int(m.id.rpartition("-")[2]), m.topic, m.payload) for m in found]

    def conserved(self, *, set_aside: int = 0) -> Received:
        """Nothing lost, nothing invented, no topic goes back; call it when the service has stopped."""
        accepted = [(topic, payload) for _, topic, payload in self.yardstick.rows]
        check_file(self.folder / "store.db")
        return check_received(accepted, self.arrived(), missing_allowed=set_aside)


@asynccontextmanager
async def running(
    folder: Path,
    hub: AzureHubTwin,
    authority: Authority,
    *,
    prepare: Callable[[Service], object] = lambda service: None,
    **options: object,
) -> AsyncIterator[Service]:
    """Run a service that delivers to ``hub``, as the device ``dev1`` where ``options`` name no other."""
    merged: dict[str, object] = {**reached(hub, authority), "retry": RETRY, **options}
    if not {"connection_string", "identities", "device_id", "registration_id"} & merged.keys():
        merged["connection_string"] = hub.connection_string("dev1")
    lifetime = merged.pop("token_seconds", None)
    service = Service(folder, hub, merged)
    model = PLUGIN.model(type="azure-iot", **merged)
    if lifetime is not None:  # shorter than the least that is allowed, which a test has no time for
        model = model.model_copy(update={"token_lifetime": timedelta(seconds=float(lifetime))})
    instance = ConnectorInstance("out", PLUGIN, model)
    prepare(service)
    config = configuration(
        folder,
        connectors=[instance, connector("yardstick", service.yardstick)],
        sources=[source("in", service.feed, finite=False)],
        drain="5s",
    )
    service.runtime = Runtime(config)
    started = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(service.runtime.run(started=started))
        await started.wait()
        try:
            yield service
            await until(lambda: len(service.yardstick.rows) >= service.made, 10)
        finally:
            service.runtime.stop()
            await asyncio.wait([run])


def metadata(entity: str, **facts: object) -> Metadata:
    return Metadata("org", entity, facts)
