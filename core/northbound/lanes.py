"""Several connections as one: each topic stays in order, and the rates of the connections add up.

A destination that allows 100 messages a second and connection takes 1,000 over ten. What must not happen is that two
values of one topic are under way on two connections at once, since nobody knows which arrives first.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final
from zlib import crc32

from northbound.errors import DeliveryError, PartialDelivery
from northbound.message import Outgoing
from northbound.rate import TokenBucket

if TYPE_CHECKING:
    import asyncio

#: Hands messages over to one connection, at once and in order. What it returns is awaited for the acknowledgement of
#: all of them and raises as :meth:`northbound.Connector.send` does.
Submit = Callable[[Sequence[Outgoing]], Awaitable[None]]

_SHARE: Final = 10  # of a second's messages are handed over at once, so that the flow stays even


class _Lane:
    """One connection: its pace, and how much is under way on it."""

    def __init__(self, submit: Submit, rate: float | None, bytes_rate: float | None) -> None:
        import asyncio  # noqa: PLC0415 - a third of the time that "import northbound" takes

        self.submit = submit
        self.busy = 0
        self.turn: asyncio.Lock = asyncio.Lock()
        self._sleep = asyncio.sleep
        self._buckets = [
            (TokenBucket(bound, share), share, size)
            for bound, size in ((rate, _one), (bytes_rate, _size))
            if bound is not None
            for share in (max(1.0, bound / _SHARE),)
        ]

    def length(self, batch: Sequence[Outgoing]) -> int:
        """Return how many of the first may be handed over at once: at least one, at most a share of each bound."""
        most = len(batch)
        for _, share, size in self._buckets:
            total = 0
            for count, message in enumerate(batch[:most]):
                total += size(message)
                if total > share:
                    most = max(1, count)
                    break
        return most

    async def pace(self, batch: Sequence[Outgoing]) -> None:
        """Wait until ``batch`` may be handed over."""
        for bucket, _, size in self._buckets:
            amount = sum(map(size, batch))
            if amount:
                while pause := bucket.wait(time.monotonic()):
                    await self._sleep(pause)
                bucket.take(amount)


def _one(_: Outgoing) -> int:
    return 1


def _size(message: Outgoing) -> int:
    return len(message.topic.encode()) + len(message.payload)


class Lanes:
    """Spreads batches over several connections.

    A topic stays on its lane while anything of it is under way; else it takes the lane that has least to do. With
    ``sticky`` it always takes the lane of its hash, for destinations whose consumers see the connection (the device of
    an IoT hub). ``rate`` and ``bytes_rate`` are messages and bytes a second that one connection takes.
    """

    def __init__(
        self,
        submits: Sequence[Submit],
        *,
        rate: float | None = None,
        bytes_rate: float | None = None,
        sticky: bool = False,
    ) -> None:
        if not submits:
            raise ValueError("there is no lane without a connection")
        self._lanes = [_Lane(submit, rate, bytes_rate) for submit in submits]
        self._sticky = sticky
        self._places: dict[str, tuple[_Lane, int]] = {}  # topic: its lane, and how many of it are under way

    async def send(self, batch: Sequence[Outgoing]) -> None:
        """Deliver ``batch``; raises :class:`PartialDelivery` with what failed.

        Calls may be under way at once: on each lane the messages keep the order of the calls.
        """
        import asyncio  # noqa: PLC0415 - see above

        parts: dict[_Lane, list[int]] = {}
        for index, message in enumerate(batch):
            parts.setdefault(self._take(message.source_topic), []).append(index)
        failures: dict[int, DeliveryError] = {}
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane, indices in parts.items():
                    tasks.create_task(_send_on(lane, batch, indices, failures), name="lane")
        finally:
            for message in batch:
                self._leave(message.source_topic)
        if failures:
            raise PartialDelivery(failures)

    def _take(self, topic: str) -> _Lane:
        place = self._places.get(topic)
        if place is not None:
            lane, count = place
        elif self._sticky:
            lane, count = self._lanes[crc32(topic.encode()) % len(self._lanes)], 0
        else:
            lane, count = min(self._lanes, key=lambda lane: lane.busy), 0
        lane.busy += 1
        self._places[topic] = lane, count + 1
        return lane

    def _leave(self, topic: str) -> None:
        lane, count = self._places.pop(topic)
        lane.busy -= 1
        if count > 1:
            self._places[topic] = lane, count - 1


async def _send_on(
    lane: _Lane, batch: Sequence[Outgoing], indices: Sequence[int], failures: dict[int, DeliveryError]
) -> None:
    """Send some messages of a batch on one lane, and note what fails."""
    under_way: list[tuple[Sequence[int], Awaitable[None]]] = []
    rest = [batch[index] for index in indices]
    try:
        async with lane.turn:  # whoever came first hands over first, however long its pace makes it wait
            while rest:
                length = lane.length(rest)
                part, rest = rest[:length], rest[length:]
                await lane.pace(part)
                try:
                    under_way.append((indices[:length], lane.submit(part)))
                except DeliveryError as error:
                    _note(failures, indices, error)
                    break
                indices = indices[length:]
        while under_way:
            chosen, done = under_way.pop(0)
            try:
                await done
            except DeliveryError as error:
                _note(failures, chosen, error)
    finally:
        for _, done in under_way:  # cancelled: nobody will wait for these
            if inspect.iscoroutine(done):
                done.close()


def _note(failures: dict[int, DeliveryError], indices: Sequence[int], error: DeliveryError) -> None:
    if isinstance(error, PartialDelivery):
        failures.update({indices[place]: one for place, one in error.failures.items()})
    else:
        failures.update(dict.fromkeys(indices, error))
