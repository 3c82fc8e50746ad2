"""The ``azure-iot`` connector."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import msgspec
import pydantic

import northbound
from northbound import Credential, DeliveryError, Lanes, NotConnected, Outgoing
from northbound_azure_iot import explanations
from northbound_azure_iot.identity import Identity
from northbound_azure_iot.lane import Lane
from northbound_azure_iot.memory import Memory
from northbound_azure_iot.metering import Meter
from northbound_azure_iot.options import LONGEST_KEEP_ALIVE, TIERS, ConnectorOptions
from northbound_azure_iot.pacing import Connects, Pace
from northbound_azure_iot.packing import LARGEST_MESSAGE

#: What is sent beside the properties that shaping knows of: content type and encoding (values), the creation time (name
#: and value). The message id, 28 bytes at most, comes on top and is counted when a message is packed.
_BESIDE: Final = len("application/json") + len("utf-8") + len("iothub-creation-time-utc2000-01-01T00:00:00.000Z")
_BATCHED: Final = 500
#: The day's count is written so often, where there is a file for it.
_NOTE_SECONDS: Final = 30.0


class AzureIotConnector(northbound.Connector):
    """Publishes to an Azure IoT Hub as one device, or several; the acknowledgement is the hub's PUBACK."""

    Config: ClassVar[type[pydantic.BaseModel]] = ConnectorOptions
    config: ConnectorOptions
    carries_address: ClassVar[bool] = True
    limits = northbound.Limits(
        reserved_prefixes=(),  # the topic is a property here
        max_payload_bytes=LARGEST_MESSAGE - _BESIDE,
        payload_counts="payload+properties",
        max_qos=1,
        retain="property",
        messages_per_second=100.0,
        batch_messages=100,
        batches_in_flight=4,
        keep_alive=(1, LONGEST_KEEP_ALIVE),
        metering_bytes=4096,
    )

    def __init__(self, config: ConnectorOptions, *, name: str) -> None:
        super().__init__(config, name=name)
        facts = TIERS[config.tier]
        self._memory = Memory(config.remember)
        self._meter = Meter(facts.chunk, config.daily_budget)
        self._meter.resume(*self._memory.metered)
        self._lanes = [Lane(config, Identity(config, own, self._memory), self._meter) for own in config.all_identities]
        self._spread = Lanes([lane.deliver for lane in self._lanes], sticky=True)
        self._pace = Pace(config.sends_per_second)
        self._connects = Connects()
        self._next_batch = self._noted = 0.0
        count = len(self._lanes)
        self.limits = msgspec.structs.replace(
            type(self).limits,
            connections=count,
            metering_bytes=facts.chunk,
            max_in_flight=config.max_inflight,
            # The rate is the hub's, for all its devices. Of batches it is not states that count: see Pace.
            messages_per_second=None if config.batch else config.sends_per_second / count,
            batch_messages=_BATCHED if config.batch else 100,
            batches_in_flight=1 if config.batch else 4,
        )

    @property
    def destination(self) -> str:
        """Hub and device."""
        first = self._lanes[0].identity
        more = f" and {len(self._lanes) - 1} more" if len(self._lanes) > 1 else ""
        return f"{first.hub or self.config.provisioning_host}/{first.name}{more}"

    async def open(self) -> None:
        """Connect every identity; not too often, where connections end again and again."""
        if pause := self._connects.wait(time.monotonic()):
            self.tell(f"connections have ended again and again: waiting {pause:.0f} s")
            await asyncio.sleep(pause)
        self._connects.made(time.monotonic())
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane in self._lanes:
                    tasks.create_task(self._open(lane), name=f"{self.name}: {lane.identity.name}")
        except* DeliveryError as group:
            failure = _first(group)
        else:
            return
        await self.close()
        raise failure.with_traceback(None)

    async def _open(self, lane: Lane) -> None:
        identity = lane.identity
        if identity.provisioned and not identity.hub:
            self.tell(f"{identity.name}: asking {self.config.provisioning_host} for the hub")
        self.tell(f"{identity.name}: signing in at {identity.server} with {identity.way}")
        await lane.open()
        self.tell(f"{identity.name}: {identity.hub} accepted the connection")

    async def send(self, batch: Sequence[Outgoing]) -> None:
        """Publish; returns when the hub has acknowledged every message."""
        if self.config.batch is None:
            await self._spread.send(batch)
        else:
            await self._send_gathered(batch)
        if time.monotonic() - self._noted >= _NOTE_SECONDS:
            self._note()

    async def _send_gathered(self, batch: Sequence[Outgoing]) -> None:
        """Send many states as few messages; one call at a time (``batches_in_flight`` is 1).

        While it waits for its turn the store gathers what the next one will hold.
        """
        count, before = len(batch), self._meter.messages
        pause = self._next_batch - time.monotonic()
        if pause > 0 and count < self.limits.batch_messages:
            await asyncio.sleep(pause)
        await asyncio.sleep(self._pace.wait(time.monotonic()))
        try:
            await self._spread.send(batch)
        finally:
            self._pace.take(max(0, self._meter.messages - before))  # the hub's rate is about messages, not states
            # where there is a backlog nothing needs to be gathered
            idle = 2 * count < self.limits.batch_messages
            self._next_batch = time.monotonic() + (self.config.batch_wait.total_seconds() if idle else 0.0)

    async def lost(self) -> None:
        """Wait until a connection is lost; tokens are renewed meanwhile."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane in self._lanes:
                    tasks.create_task(lane.lost(), name=f"{self.name}: {lane.identity.name}")
        except* DeliveryError as group:
            failure = _first(group)
        else:
            failure = NotConnected("no connection is open")
        raise failure.with_traceback(None)

    async def close(self) -> None:
        """Disconnect every identity."""
        async with asyncio.TaskGroup() as tasks:
            for lane in self._lanes:
                tasks.create_task(lane.close(), name=f"{self.name}: close")
        self._note()

    def _note(self) -> None:
        self._noted = time.monotonic()
        self._memory.count(self._meter.day, self._meter.count)

    def credentials(self) -> Sequence[Credential]:
        """Return the tokens or certificates, and the file of the CA."""
        found = [credential for lane in self._lanes for credential in lane.identity.credentials()]
        if self.config.ca is not None:
            found.append(Credential("CA certificates", None, (self.config.ca,)))
        return found

    def gauges(self) -> Mapping[str, float]:
        """Return what is metered today, beside the budget, and how the connections are."""
        facts = TIERS[self.config.tier]
        found = {
            "metered_today": float(self._meter.count),
            "messages_today": float(self._meter.messages),
            "daily_quota_of_the_hub": float(facts.per_day * self.config.units),
            "lanes": float(len(self._lanes)),
            "lanes_connected": float(sum(lane.connected for lane in self._lanes)),
            "tokens_renewed": float(sum(lane.renewals for lane in self._lanes)),
        }
        if self.config.daily_budget is not None:
            found["daily_budget"] = float(self.config.daily_budget)
        if self.config.metadata != "message":
            found["twin_skipped"] = float(sum(lane.twin_skipped for lane in self._lanes))
        return found

    def explain(self, error: Exception) -> str | None:
        """Return the likely cause of an error, which the hub itself never tells."""
        return explanations.explain(error, [lane.identity for lane in self._lanes])


def _first(group: BaseExceptionGroup[DeliveryError]) -> DeliveryError:
    found = group.exceptions[0]
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
