"""A token bucket. Pure: the time is passed in."""

from __future__ import annotations


class TokenBucket:
    """Lets ``rate`` units a second through, and at once no more than ``burst`` after a pause.

    Something may be taken when a whole unit is there. It may exceed what is there; the next one then waits for the debt
    to be paid.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self._burst = burst
        self._least = min(1.0, burst) - 1e-9  # sums of fractions come out a little short of one
        self._tokens = burst
        self._at: float | None = None

    def wait(self, now: float) -> float:
        """Return the seconds until something may be taken; 0.0 means now."""
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        return 0.0 if self._tokens >= self._least else (self._least - self._tokens) / self.rate + 1e-6

    def take(self, amount: float) -> None:
        """Take ``amount``."""
        self._tokens -= amount
