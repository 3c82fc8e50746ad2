"""The quotas of retained messages, kept on our side: so many a second of one topic, and altogether."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from northbound import DeliveryError, Outgoing, PartialDelivery, Unavailable

#: No send waits longer than this for a quota: the engine gives one that lasts up as a connection that hangs.
_LONGEST: Final = 60.0
_FORGET_AT: Final = 10_000  # topics whose time has passed are forgotten when so many are known


class _Turn:
    """One topic: whose turn it is, and when the next may come."""

    __slots__ = ("free_at", "lock", "waiting")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0
        self.free_at = 0.0


class Turns:
    """Delivers one message of a topic at a time, and holds it back until its topic and all together may have one more.

    The next of a topic waits from the acknowledgement of the one before: so it cannot arrive too early. A rate of 0
    is no bound.
    """

    def __init__(self, per_topic: float, per_second: float) -> None:
        self._pause = 1 / per_topic if per_topic else 0.0
        self._share = 1 / per_second if per_second else 0.0
        self._next = 0.0
        self._turns: dict[str, _Turn] = {}

    @property
    def bounded(self) -> bool:
        """Whether there is a quota at all."""
        return bool(self._pause or self._share)

    @property
    def held_back(self) -> int:
        """How many wait now, beyond the one of their topic that is under way."""
        return sum(max(0, turn.waiting - 1) for turn in self._turns.values())

    async def send(self, batch: Sequence[Outgoing], deliver: Callable[[Sequence[Outgoing]], Awaitable[None]]) -> None:
        """Deliver ``batch``; each topic keeps its order. Raises ``PartialDelivery``."""
        failures: dict[int, DeliveryError] = {}
        self._forget()
        async with asyncio.TaskGroup() as tasks:
            for index, message in enumerate(batch):
                turn = self._turns.setdefault(message.topic, _Turn())
                turn.waiting += 1
                tasks.create_task(self._one(turn, index, message, deliver, failures), name="turn")
        if failures:
            raise PartialDelivery(failures)

    async def _one(
        self,
        turn: _Turn,
        index: int,
        message: Outgoing,
        deliver: Callable[[Sequence[Outgoing]], Awaitable[None]],
        failures: dict[int, DeliveryError],
    ) -> None:
        try:
            if turn.waiting * self._pause > _LONGEST:  # the newest will do: what it overtakes is not sent any more
                raise Unavailable("more values of one retained topic wait than its quota lets through")
            async with turn.lock:
                await self.pace(turn.free_at)
                try:
                    await deliver([message])
                finally:
                    turn.free_at = time.monotonic() + self._pause
        except PartialDelivery as error:
            failures[index] = error.failures[0]
        except DeliveryError as error:
            failures[index] = error
        finally:
            turn.waiting -= 1

    async def pace(self, earliest: float = 0.0) -> None:
        """Wait for one more of all together, and for ``earliest``."""
        now = time.monotonic()
        mine = max(self._next, now)
        until = max(earliest, mine)
        if until - now > _LONGEST:
            raise Unavailable("more retained messages wait than their quota lets through", retry_after=1.0)
        self._next = mine + self._share
        if until > now:
            await asyncio.sleep(until - now)

    def _forget(self) -> None:
        if len(self._turns) < _FORGET_AT:
            return
        now = time.monotonic()
        self._turns = {topic: turn for topic, turn in self._turns.items() if turn.waiting or turn.free_at > now}
