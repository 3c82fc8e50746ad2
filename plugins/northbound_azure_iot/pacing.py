"""How fast to send, and how often to connect. Pure: the time is passed in."""

from __future__ import annotations

from collections import deque
from typing import Final

_SHARE: Final = 10  # of a second's messages may go at once
_MINUTE: Final = 60.0
#: So many connections in a minute are made without a wait: enough to find a message that the hub hangs up on.
_AT_ONCE: Final = 6
#: After them, one in so many seconds.
SPACING: Final = 10.0


class Pace:
    """Messages a second, as the hub's edition allows them."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._burst = max(1.0, rate / _SHARE)
        self._tokens = self._burst
        self._at: float | None = None

    def wait(self, now: float) -> float:
        """Return the seconds until something may be sent; 0.0 means now."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        return 0.0 if self._tokens > 0 else -self._tokens / self.rate + 1e-6

    def take(self, count: int) -> None:
        """Send so many. More than there is room for is a debt, which the next ones wait for."""
        self._tokens -= count


class Connects:
    """Keeps connections that end again and again, whatever ends them, from becoming a storm.

    Two services with the same device end each other's connection, and a hub that gets too much ends them all (429002):
    each lives long enough to carry something, so that no failure is ever the second in a row.
    """

    def __init__(self) -> None:
        self._made: deque[float] = deque(maxlen=_AT_ONCE)

    def wait(self, now: float) -> float:
        """Return the seconds until the next connection may be made."""
        if len(self._made) < _AT_ONCE or now - self._made[0] > _MINUTE:
            return 0.0
        return max(0.0, self._made[-1] + SPACING - now)

    def made(self, now: float) -> None:
        """Take note of a connection."""
        self._made.append(now)
