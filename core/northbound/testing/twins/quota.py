"""A quota as a provider keeps it: so many a second, and after a pause no more than a second's worth at once."""

from __future__ import annotations

import time


class Quota:
    """A token bucket that forgives nothing: what does not fit whole is refused."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = max(1.0, rate)
        self._at = time.monotonic()

    def take(self) -> bool:
        """Take one, if there is one."""
        now = time.monotonic()
        self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
