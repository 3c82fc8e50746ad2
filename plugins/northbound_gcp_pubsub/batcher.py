"""From batches of the engine to requests: large ones, one under way per lane, and nothing overtakes what failed.

A lane is an ordering key (or, without ordering, just a share of the topics). Messages wait in the queue of their lane,
whichever call of ``send`` brought them; who holds the lane's lock takes as many as fit a request. When a request fails,
what waits behind it fails too and is not sent, and neither is what comes to that lane until every call that was under
way has returned: the engine then sends again, from the first that failed. The SDK pauses an ordering key so, too.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from northbound import DeliveryError, NotConnected, Outgoing, PartialDelivery, Rejected

#: (lane, messages) → the service has acknowledged all of them.
Publish = Callable[[int, Sequence[Outgoing]], Awaitable[None]]
#: "The maximum publisher throughput per ordering key is 1 MBps" (cloud.google.com/pubsub/quotas): a little below it,
#: and what was saved up in half a second at once.
LANE_BYTES_PER_SECOND: Final = 950_000
_SAVED_SECONDS: Final = 0.5


class RequestRefused(Rejected):
    """The service refuses a whole request for what is in it; of several messages it does not say which is at fault."""


class _Entry:
    __slots__ = ("done", "error", "message", "size")

    def __init__(self, message: Outgoing, size: int) -> None:
        self.message = message
        self.size = size
        self.done = False
        self.error: DeliveryError | None = None

    def finish(self, error: DeliveryError | None = None) -> None:
        if not self.done:
            self.done = True
            self.error = error


class _Lane:
    def __init__(self, number: int, rate: float | None) -> None:
        self.number = number
        self.turn = asyncio.Lock()
        self.queue: deque[_Entry] = deque()
        self.error: DeliveryError | None = None
        self._rate = rate
        self._free_at = 0.0

    def take(self, most: int, most_bytes: int) -> list[_Entry]:
        """Return what goes into the next request: at least one where any waits."""
        taken: list[_Entry] = []
        size = 0
        while self.queue and len(taken) < most:
            entry = self.queue[0]
            if entry.done:  # its send was cancelled
                self.queue.popleft()
                continue
            size += entry.size
            if taken and size > most_bytes:
                break
            taken.append(self.queue.popleft())
        return taken

    async def pace(self, size: int) -> None:
        """Wait until so many bytes may be published on this lane."""
        if self._rate is None:
            return
        now = time.monotonic()
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
        self._free_at = max(self._free_at, time.monotonic() - _SAVED_SECONDS) + size / self._rate

    def fail(self, error: DeliveryError, entries: Sequence[_Entry]) -> None:
        """End ``entries`` with ``error``, and hold back everything that waits behind them, and what comes."""
        self.error = error
        for entry in entries:
            entry.finish(error)
        while self.queue:
            self.queue.popleft().finish(error)


class Batcher:
    """Puts messages into requests and hands these to ``publish``.

    A request waits ``collect`` seconds for more to join it; ``rate`` bounds the bytes a second of each lane.
    ``requests`` and ``messages`` count what was acknowledged, ``under_way`` the requests now.
    """

    def __init__(
        self,
        publish: Publish,
        lanes: int,
        *,
        request_messages: int,
        request_bytes: int,
        collect: float = 0.0,
        rate: float | None = None,
    ) -> None:
        self._publish = publish
        self._lanes = [_Lane(number, rate) for number in range(lanes)]
        self._most = request_messages
        self._most_bytes = request_bytes
        self._collect = collect
        self._calls = 0
        self.requests = 0
        self.messages = 0
        self.under_way = 0

    async def send(self, batch: Sequence[tuple[Outgoing, int, int] | Rejected]) -> None:
        """Publish ``batch``, of (message, lane, size) or why one cannot be sent.

        Raises :class:`PartialDelivery`. Calls may be under way at once: a lane keeps their order.
        """
        failures: dict[int, DeliveryError] = {}
        entries: dict[int, _Entry] = {}
        last: dict[_Lane, _Entry] = {}
        for index, item in enumerate(batch):
            if isinstance(item, Rejected):
                failures[index] = item
                continue
            message, number, size = item
            lane, entry = self._lanes[number], _Entry(message, size)
            entries[index] = entry
            if lane.error is not None:
                entry.finish(lane.error)
            else:
                lane.queue.append(entry)
                last[lane] = entry
        self._calls += 1
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane, entry in last.items():
                    tasks.create_task(self._drive(lane, entry), name=f"lane {lane.number}")
        finally:
            self._calls -= 1
            left = [entry for entry in entries.values() if not entry.done]
            if left:
                given_up = NotConnected("the send was given up")
                for entry in left:
                    entry.finish(given_up)
            if not self._calls:
                # Not at once: a call that the engine has begun, and that has not got here yet, is still held back.
                asyncio.get_running_loop().call_soon(self._release)
        failures.update({index: entry.error for index, entry in entries.items() if entry.error is not None})
        if failures:
            raise PartialDelivery(failures)

    def _release(self) -> None:
        if not self._calls:
            for lane in self._lanes:
                lane.error = None

    async def _drive(self, lane: _Lane, last: _Entry) -> None:
        """Send what waits in ``lane`` until ``last`` is done, and so all before it."""
        async with lane.turn:
            if self._collect and not last.done and len(lane.queue) < self._most:
                await asyncio.sleep(self._collect)
            while not last.done and (entries := lane.take(self._most, self._most_bytes)):
                try:
                    await self._deliver(lane, entries)
                except DeliveryError as error:
                    lane.fail(error, entries)
                except BaseException:  # cancelled: what other calls brought is not left behind
                    lane.fail(NotConnected("the send was given up"), entries)
                    raise

    async def _deliver(self, lane: _Lane, entries: Sequence[_Entry]) -> None:
        """Publish as one request; one that is refused, in halves, down to the message at fault."""
        await lane.pace(sum(entry.size for entry in entries))
        self.under_way += 1
        try:
            await self._publish(lane.number, [entry.message for entry in entries])
        except RequestRefused as refusal:
            if len(entries) == 1:
                entries[0].finish(Rejected(refusal.reason))
                return
        else:
            self.requests += 1
            self.messages += len(entries)
            for entry in entries:
                entry.finish()
            return
        finally:
            self.under_way -= 1
        middle = len(entries) // 2
        await self._deliver(lane, entries[:middle])
        await self._deliver(lane, entries[middle:])
