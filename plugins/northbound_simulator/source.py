"""The source itself: plays a campus at the rate asked for."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import ClassVar

import pydantic

import northbound
from northbound_simulator.campus import Campus, milliseconds
from northbound_simulator.options import Options
from northbound_simulator.systems import PEOPLE

#: Events in a batch at most.
BATCH = 1000
#: Batches handed in and not yet on disk.
UNSETTLED = 16
#: Seconds between batches: short enough to look alive, long enough for batches worth their commit.
TICK = 0.025
#: After being held up, so many seconds are made up for; the rest is left out.
CATCH_UP = 1.0


class SimulatorSource(northbound.Source):
    """Makes up the events of a campus."""

    Config: ClassVar[type[pydantic.BaseModel]] = Options
    config: Options

    @property
    def finite(self) -> bool:
        """Whether it ends by itself."""
        return self.config.count is not None or self.config.duration is not None

    @property
    def origin(self) -> str:
        """How large the campus is."""
        return f"a simulated campus of {self.config.total_systems} systems"

    async def people(self) -> Sequence[str]:
        """Return everybody who may host a meeting."""
        return [*PEOPLE]

    async def run(self, intake: northbound.Intake) -> None:
        """Tell of everything there is, then of what changes."""
        options = self.config
        start = milliseconds(options.start_time) if options.start_time else time.time_ns() // 1_000_000
        campus = Campus(options, intake.hierarchy, start)
        out = _Out(intake, math.inf if options.count is None else options.count)
        everything = campus.initial()
        while not out.full and (batch := list(islice(everything, BATCH))):
            await out.send(batch)
        if options.rate:
            await self._paced(campus, out)
        else:
            await self._unpaced(campus, out)
        await out.settle()

    async def _unpaced(self, campus: Campus, out: _Out) -> None:
        world, duration = campus.world, self.config.duration
        until = world.clock + duration.total_seconds() if duration else math.inf
        while not out.full and (batch := world.take(BATCH, until)):
            await out.send(batch)

    async def _paced(self, campus: Campus, out: _Out) -> None:
        rate, duration = self.config.rate, self.config.duration
        remaining = math.inf if duration is None else max(1, round(duration.total_seconds() * rate))
        clock = asyncio.get_running_loop().time
        begun, sent = clock(), 0
        while not out.full and remaining > 0:
            missed = (clock() - begun) - sent / rate - CATCH_UP - 1.0 / rate
            if missed > 0.0:
                begun += missed
                if self.config.start_time is None:  # the stamps are to stay with the present
                    campus.world.start += int(missed * 1000.0)
            due = int(min((clock() - begun) * rate - sent, remaining))
            if due < 1:
                await asyncio.sleep(max(TICK, begun + (sent + 1) / rate - clock()))
                continue
            batch = campus.world.take(min(due, BATCH))
            sent += len(batch)
            remaining -= len(batch)
            await out.send(batch)
            if due <= BATCH:
                await asyncio.sleep(TICK)


class _Out:
    """The way to the intake: at most ``count`` events, a bounded number of batches under way."""

    def __init__(self, intake: northbound.Intake, count: float) -> None:
        self._intake = intake
        self._left = count
        self._unsettled: deque[northbound.Ticket] = deque()

    @property
    def full(self) -> bool:
        """Whether all that was asked for has been sent."""
        return self._left <= 0

    async def send(self, batch: Sequence[northbound.Event]) -> None:
        """Hand in ``batch``."""
        if len(batch) > self._left:
            batch = batch[: int(self._left)]
        self._left -= len(batch)
        self._unsettled.append(await self._intake.submit(batch))
        await self.settle(UNSETTLED)
        await asyncio.sleep(0)  # nothing above need have waited, and others are to have their turn

    async def settle(self, remaining: int = 0) -> None:
        """Wait until all but the last ``remaining`` batches are on disk."""
        while len(self._unsettled) > remaining:
            await self._unsettled[0].committed()
            self._unsettled.popleft()
