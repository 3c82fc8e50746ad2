"""Simulated time: processes that wake, change points, and sleep again. Pure; the same seed gives the same sequence.

A process is a generator that yields how many simulated seconds it sleeps. Wall time plays no part: whoever takes
events decides how fast the day passes, so that any rate can be asked of a campus of any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heapify, heapreplace
from random import Random
from typing import Any, Final

from northbound import State

Process = Iterator[float]

MINUTE: Final = 60.0
HOUR: Final = 3600.0
DAY: Final = 86_400.0


class Point:
    """One value at one place. ``module`` is shared by the points of a module."""

    __slots__ = ("module", "state", "value")

    def __init__(self, module: Module, state: str, value: Any) -> None:
        self.module = module
        self.state = state
        self.value = value


class Module:
    """One device or service in a system."""

    __slots__ = ("connected", "driver", "index", "name", "org", "points", "system", "zones")

    def __init__(
        self, org: str, zones: tuple[str | None, ...], system: str, driver: str, name: str, index: int, **values: Any
    ) -> None:
        self.org = org
        self.zones = zones
        self.system = system
        self.driver = driver
        self.name = name
        self.index = index
        self.points = {state: Point(self, state, value) for state, value in values.items()}
        self.connected = self.points["connected"] = Point(self, "connected", True)

    def __getitem__(self, state: str) -> Point:
        return self.points[state]

    @property
    def online(self) -> bool:
        """Whether it answers."""
        return bool(self.connected.value)


class World:
    """The clock, the dice and what has changed.

    ``clock`` is in seconds since a Monday's midnight, ``start`` what the first events are stamped with (ms since
    1970). With a ``rate`` the changes are stamped as evenly as they are played; without, with the simulated time.
    """

    def __init__(self, seed: int, clock: float, start: int, rate: float) -> None:
        self.random = Random(seed)  # noqa: S311 - dice, not secrets
        self.clock = clock
        self.start = start
        self._begun = clock
        self._interval = 1000.0 / rate if rate else 0.0
        self._changes = 0
        self._out: list[State] = []
        self._queue: list[tuple[float, int, Process]] = []

    @property
    def hour(self) -> float:
        """Hours since midnight."""
        return self.clock % DAY / HOUR

    @property
    def weekend(self) -> bool:
        """Whether it is Saturday or Sunday."""
        return self.clock % (7 * DAY) >= 5 * DAY

    @property
    def attendance(self) -> float:
        """Which share of the people is in, from 0 to 1: they come in the morning, go for lunch, and go home."""
        hour = self.hour
        if not 6.0 <= hour <= 20.0:
            return 0.0
        coming = 1.0 / (1.0 + math.exp((8.5 - hour) * 2.5))
        going = 1.0 / (1.0 + math.exp((hour - 17.3) * 2.0))
        lunch = 1.0 - 0.45 * math.exp(-(((hour - 12.6) / 0.6) ** 2))
        return coming * going * lunch * (0.04 if self.weekend else 1.0)

    def begin(self, processes: list[Process]) -> None:
        """Start ``processes``."""
        self._queue = [(self.clock + next(process), order, process) for order, process in enumerate(processes)]
        heapify(self._queue)
        self._out.clear()

    def change(self, point: Point, value: Any) -> None:
        """Give ``point`` its value; an event only where it differs."""
        if point.value == value:
            return
        point.value = value
        if self._interval:
            self._changes += 1
            time = int(self.start + self._changes * self._interval)
        else:
            time = int(self.start + (self.clock - self._begun) * 1000.0)
        module = point.module
        self._out.append(
            State(
                module.org,
                module.zones,
                module.system,
                module.driver,
                module.name,
                module.index,
                point.state,
                value,
                time,
            )
        )

    def take(self, count: int, until: float = math.inf) -> list[State]:
        """Let the world go on and return the next ``count`` events; fewer where simulated time reaches ``until``."""
        out, queue = self._out, self._queue
        while len(out) < count:
            due, order, process = queue[0]
            if due >= until:
                break
            self.clock = due
            heapreplace(queue, (due + next(process), order, process))
        taken = out[:count]
        del out[:count]
        return taken
