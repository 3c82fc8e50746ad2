"""How fast to send: as fast as the hub's edition allows, and slower where the hub shows that others use it too.

A hub's rate is for all its devices together, and over MQTT it answers too much with a hang-up (429002). One or two may
be anything; a third within a minute, on connections that took messages before, is taken for that: from then on half as
much is sent, and after each quiet quarter of a minute a little more. Pure: the time is passed in.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_SOON: Final = 60.0  # seconds between hang-ups that belong together
_MANY: Final = 3
_QUIET: Final = 15.0
_SLOWER: Final = 0.5
_FASTER: Final = 1.25
_SLOWEST: Final = 1.0
_SHARE: Final = 10  # of a second's messages may go at once


class Pace:
    """Messages a second; ``fastest`` is what the edition allows."""

    def __init__(self, fastest: float) -> None:
        self._fastest = fastest
        self.rate = fastest
        self._tokens = 0.0
        self._at: float | None = None
        self._counts = False  # whether the end of this connection would say something
        self._hung_up: deque[float] = deque(maxlen=_MANY)
        self._changed = 0.0

    def opened(self) -> None:
        """Take note of a new connection."""
        self._counts = False

    def acknowledged(self, count: int) -> None:
        """Take note of what the hub took."""
        self._counts = self._counts or count > 0

    def hung_up(self, now: float) -> None:
        """Take note that the connection ended with something under way."""
        if not self._counts:
            return
        self._counts = False
        self._changed = now
        self._hung_up.append(now)
        if len(self._hung_up) == _MANY and now - self._hung_up[0] <= _SOON:
            self.rate = max(_SLOWEST, self.rate * _SLOWER)

    def wait(self, now: float) -> float:
        """Return the seconds until something may be sent; 0.0 means now."""
        if self.rate < self._fastest and now - self._changed >= _QUIET:
            self.rate = min(self._fastest, self.rate * _FASTER)
            self._changed = now
        burst = max(1.0, self.rate / _SHARE)
        if self._at is None:
            self._tokens = burst
        else:
            self._tokens = min(burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        return 0.0 if self._tokens > 0 else -self._tokens / self.rate + 1e-6

    def take(self, count: int) -> None:
        """Send so many. More than there is room for is a debt, which the next ones wait for."""
        self._tokens -= count
