"""A token bucket: so many a second, so many at once. Pure; the clock is the caller's."""

from __future__ import annotations


class Bucket:
    """Grants ``rate`` a second on average and ``burst`` at once.

    A request larger than ``burst`` is granted when the bucket is full, and leaves a debt; else it would never pass.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._at = now

    def take(self, amount: float, now: float) -> float:
        """Take ``amount`` and return 0, or take nothing and return in how many seconds to ask again."""
        missing = self.wait(amount, now)
        if not missing:
            self._level -= amount
        return missing

    def wait(self, amount: float, now: float) -> float:
        """Return in how many seconds ``amount`` would be granted, without taking it."""
        self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
        # A level short by a rounding error would be short for ever.
        return max(0.0, min(amount, self.burst) - self._level - 1e-9) / self.rate
