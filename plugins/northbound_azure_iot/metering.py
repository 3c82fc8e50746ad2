"""How many messages a day the hub meters, and the budget. Pure but for the clock, which is passed in."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from northbound import Unavailable

_DAY: Final = 86_400


class Meter:
    """Counts metered messages of the day (UTC), of all identities of a connector.

    What other devices send to the same hub is not known here. What was sent and never acknowledged counts: the hub
    may have taken it. Reading and updating a device twin are metered as messages are ("Twin reads from the device or
    module ... are charged as messages in 4-KB chunks", "a 12-KB update to a twin is charged as 3 messages":
    iot-hub-devguide-pricing); ``messages`` leaves them out.
    """

    def __init__(self, chunk: int, budget: int | None, clock: Callable[[], float] = time.time) -> None:
        self._chunk = chunk
        self._budget = budget
        self._clock = clock
        self._day = self._today()
        self._count = 0
        self.messages = 0

    def _today(self) -> int:
        return int(self._clock() // _DAY)

    @property
    def day(self) -> int:
        """Days since 1970."""
        return self._turned()[0]

    @property
    def count(self) -> int:
        """Metered messages of today."""
        return self._turned()[1]

    def _turned(self) -> tuple[int, int]:
        today = self._today()
        if today != self._day:
            self._day, self._count, self.messages = today, 0, 0
        return self._day, self._count

    def resume(self, day: int, count: int) -> None:
        """Go on counting where an earlier process stopped."""
        if day == self.day and count > self._count:
            self._count = count

    def take(self, size: int, *, message: bool = True) -> bool:
        """Count a message, or what is done to the twin, of ``size`` bytes; ``False`` where the budget has no room."""
        if self._budget is not None and self.count + self._units(size) > self._budget:
            return False
        self.add(size, message=message)
        return True

    def add(self, size: int, *, message: bool = True) -> None:
        """Count what goes out whatever the budget says."""
        self._count = self.count + self._units(size)
        self.messages += message

    def _units(self, size: int) -> int:
        return max(1, -(-size // self._chunk))

    def used_up(self) -> Unavailable:
        """Return what to say when :meth:`take` said no."""
        left = (self.day + 1) * _DAY - self._clock()
        return Unavailable(
            f"the daily budget of {self._budget:,} messages is used up; it goes on at midnight (UTC)",
            retry_after=max(1.0, left),
        )
