"""One device's connection: signing in, delivering in order, renewing the token, telling poison from a closed hub.

A token cannot be renewed on a connection, and a device has one connection only. So when a token nears its end, what is
under way is waited for and the connection made anew; what comes meanwhile waits its turn. Nothing fails.

Over MQTT the hub gives no reasons: a message it dislikes, a used-up quota and too many messages all are a hang-up.
After one that took messages with it and acknowledged none, the next connection first sends a message of its own. Where
that is not taken either, no message is at fault: opening fails, and nothing of the backlog is tried, let alone set
aside.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NoReturn

from northbound import DeliveryError, NotConnected, Outgoing, PartialDelivery, Rejected, Unauthorised
from northbound.mqtt import Client, Publish
from northbound_azure_iot.bag import CONTENT_ENCODING, CONTENT_TYPE, size_of, write_bag
from northbound_azure_iot.device_twin import ReportedProperties
from northbound_azure_iot.identity import Identity
from northbound_azure_iot.metering import Meter
from northbound_azure_iot.options import ConnectorOptions
from northbound_azure_iot.packing import Packet, TooLarge, pack_each, pack_many

log = logging.getLogger(__name__)
_TRIAL: Final = {CONTENT_TYPE: "application/json", CONTENT_ENCODING: "utf-8", "kind": "trial"}
_TRIAL_BODY: Final = b"{}"
#: Where the hub takes no message at all: how long to wait after the second and the fifth time in a row, at least.
_CLOSED_HUB_SECONDS: Final = ((5, 60.0), (2, 20.0))
#: A hub that was not reached so many times in a row may be gone for good, and the device at another one: then the
#: provisioning service is asked, at most so often.
_GONE_AFTER: Final = 3
_ASK_ANEW_SECONDS: Final = 300.0


class Lane:
    """See the module. One connection at a time; :meth:`open` after a loss makes the next."""

    def __init__(self, options: ConnectorOptions, identity: Identity, meter: Meter) -> None:
        self.identity = identity
        self.renewals = 0
        self.twin_skipped = 0
        self._options = options
        self._meter = meter
        self._client: Client | None = None
        self._twin: ReportedProperties | None = None
        self._turn = asyncio.Lock()  # fair: who comes first goes first; held while the connection is made anew
        self._line: deque[asyncio.Event] = deque()  # of the calls under way, in their order; the first one's is set
        self._under_way = 0
        self._idle = asyncio.Event()
        self._acknowledged = False  # something, on the latest connection
        self._failed = False  # something was under way when it ended
        self._refusals = 0  # of our own message, in a row
        self._unreached = 0  # connections that the hub did not accept, in a row
        self._asked_anew_at = -math.inf

    @property
    def connected(self) -> bool:
        """Whether the hub has accepted the connection and it has not ended."""
        return self._client is not None and self._client.connected

    # -- the connection -----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Sign in, by way of the provisioning service where need be. Raises the errors of a connector's ``open``."""
        await self.close()
        identity = self.identity
        asked = await identity.resolve()
        try:
            await self._connect()
        except Unauthorised:
            if asked or not identity.provisioned:
                raise
            # the device may have been moved to another hub
            await identity.resolve(anew=True)
            await self._connect()
        except NotConnected as error:
            if asked or not identity.provisioned or not self._may_be_gone(error):
                raise
            await self._ask_anew(error)
            await self._connect()

    def _may_be_gone(self, error: NotConnected) -> bool:
        """Whether the hub may be gone, and the provisioning service was not asked for another one lately."""
        unknown = isinstance(error.__cause__, socket.gaierror)
        lately = time.monotonic() - self._asked_anew_at < _ASK_ANEW_SECONDS
        return (unknown or self._unreached >= _GONE_AFTER) and not lately

    async def _ask_anew(self, error: NotConnected) -> None:
        """Ask the provisioning service once more; raises ``NotConnected`` where it names no hub, and keeps the old."""
        self._asked_anew_at = time.monotonic()
        try:
            await self.identity.resolve(anew=True)
        except DeliveryError as refusal:
            raise NotConnected(f"{error}; asked for another hub: {refusal}") from None

    async def _connect(self) -> None:
        twin = None
        if self._options.metadata != "message":
            # Where it is a message too, that has gone out already: to refuse the rest of it would send both once more.
            bounded = self._options.metadata == "twin"
            twin = ReportedProperties(self._options.ack_timeout.total_seconds(), self._meter, bounded=bounded)
        client = Client(self.identity.client_options(), on_messages=None if twin is None else twin.take)
        try:
            self._unreached += 1
            await client.connect()
            self._unreached = 0
            if self._failed and not self._acknowledged:
                await self._try(client)
            self._acknowledged = self._failed = False
            if twin is not None:
                await twin.begin(client)
        except BaseException:  # raised again: the connection does not stay open
            await client.disconnect()
            raise
        self._client, self._twin = client, twin

    async def _try(self, client: Client) -> None:
        """Send a message of our own, to which the hub cannot object."""
        self._meter.add(size_of(_TRIAL, _TRIAL_BODY))
        try:
            await client.publish([Publish(self.identity.events_topic + write_bag(_TRIAL), _TRIAL_BODY, 1)])
        except NotConnected as error:
            self._refusals += 1
            wait = next((seconds for times, seconds in _CLOSED_HUB_SECONDS if self._refusals >= times), None)
            raise NotConnected(
                f"the hub accepts the connection of {self.identity.name} and then takes no message at all, as it does "
                f"when its daily quota is used up (403002) or it is sent too much (429): {error}",
                retry_after=wait,
            ) from None
        self._refusals = 0

    async def lost(self) -> NoReturn:
        """Wait until the connection is lost and raise why; meanwhile, renew the token in time."""
        while True:
            client = self._require()
            try:
                async with asyncio.timeout(self.identity.renewal_in()):
                    await client.lost()
            except TimeoutError:
                await self._renew()

    async def _renew(self) -> None:
        async with self._turn:
            while self._under_way:
                self._idle.clear()
                await self._idle.wait()
            client, self._client = self._require(), None
            await client.disconnect()
            await self._connect()
        self.renewals += 1
        log.debug("%s: connected with a new token", self.identity.name)

    async def close(self) -> None:
        """Say good-bye. May be called when not open, and twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.disconnect()

    def _require(self) -> Client:
        if self._client is None:
            raise NotConnected(f"{self.identity.name} is not connected")
        return self._client

    # -- delivery -----------------------------------------------------------------------------------------------

    async def deliver(self, batch: Sequence[Outgoing]) -> None:
        """Send messages in order; returns when all are acknowledged. Calls may overlap.

        Everything up to the first wait is done at once, but for a connection that is being renewed.
        """
        async with self._turn:
            client, twin = self._require(), self._twin
        self._under_way += 1
        failures: dict[int, DeliveryError] = {}
        try:
            with self._in_line() as first:
                await self._publish(client, batch, failures)
                if twin is not None:
                    await self._report(client, twin, batch, failures, first)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
        if failures:
            raise PartialDelivery(failures)

    @contextmanager
    def _in_line(self) -> Iterator[asyncio.Event]:
        """Stand in line; the event is set when everyone who came before has left."""
        mine = asyncio.Event()
        self._line.append(mine)
        self._line[0].set()
        try:
            yield mine
        finally:
            self._line.remove(mine)
            if self._line:
                self._line[0].set()

    async def _publish(self, client: Client, batch: Sequence[Outgoing], failures: dict[int, DeliveryError]) -> None:
        packets = self._affordable(batch, failures)
        if not packets:
            return
        events = self.identity.events_topic
        try:
            await client.publish([Publish(events + packet.bag, packet.body, 1) for packet in packets])
        except PartialDelivery as error:
            failed = error.failures
        except DeliveryError as error:
            failed = dict.fromkeys(range(len(packets)), error)
        else:
            failed = {}
        self._acknowledged |= len(failed) < len(packets)
        self._failed |= any(isinstance(error, NotConnected) for error in failed.values())
        failures.update({index: error for place, error in failed.items() for index in packets[place].indices})

    def _affordable(self, batch: Sequence[Outgoing], failures: dict[int, DeliveryError]) -> list[Packet]:
        """Return what can be sent today, in order; the rest fails until tomorrow, what is too large for good."""
        only_twin = self._options.metadata == "twin"
        indices = [index for index, message in enumerate(batch) if not (only_twin and message.kind == "metadata")]
        most = self._options.batch
        packed = pack_each(batch, indices) if most is None else pack_many(batch, indices, most)
        packets: list[Packet] = []
        used_up = False  # what is smaller does not go before what has no room
        for packet in packed:
            if isinstance(packet, TooLarge):
                failures[packet.index] = packet.error
                continue
            used_up = used_up or not self._meter.take(packet.size)
            if used_up:
                failures.update(dict.fromkeys(packet.indices, self._meter.used_up()))
            else:
                packets.append(packet)
        return packets

    async def _report(
        self,
        client: Client,
        twin: ReportedProperties,
        batch: Sequence[Outgoing],
        failures: dict[int, DeliveryError],
        first: asyncio.Event,
    ) -> None:
        """Put metadata into the twin. Where it went out as a message too, what the twin cannot take is no loss."""
        for index, message in enumerate(batch):
            if message.kind != "metadata" or index in failures:
                continue
            await first.wait()  # a twin keeps what was reported last, and earlier calls may report the same entity
            try:
                await twin.report(client, message.properties.get("id", message.topic), message.payload)
            except Rejected as error:
                if self._options.metadata == "twin":
                    failures[index] = error
                else:
                    self.twin_skipped += 1
                    log.warning("%s: not in the twin: %s", self.identity.name, error)
            except DeliveryError as error:
                failures[index] = error
