"""What failing to sign in costs: each failure of one address waits longer for its answer, and after some it gets none.

Pure but for the clock it is given. Bounded: so many addresses are remembered, those that failed longest ago forgotten
first. An IPv6 network of 64 bits counts as one address, for whoever has one has all of it.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from northbound.admission import ThrottleOptions
from northbound.api.identity import SignInRefused

_MOST_ADDRESSES: Final = 10_000
_LONGEST_DELAY_SECONDS: Final = 2.0
_NETWORK_BITS: Final = 64


class Throttle:
    """Counts the failures of each address within a window of time."""

    def __init__(self, options: ThrottleOptions, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._attempts = options.attempts
        self._window = options.window.total_seconds()
        self._delay = options.delay.total_seconds()
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()  # since when, and how many

    def check(self, address: str) -> None:
        """Raise :class:`SignInRefused` where ``address`` has failed too often of late."""
        since, failures = self._failures.get(network(address), (0.0, 0))
        left = since + self._window - self._clock()
        if failures >= self._attempts and left > 0:
            raise SignInRefused("too_many", "too many failed attempts from this address", retry_after=left)

    def failed(self, address: str) -> float:
        """Count a failure; returns how many seconds its answer should wait."""
        now, key = self._clock(), network(address)
        since, failures = self._failures.pop(key, (now, 0))
        if now - since >= self._window:
            since, failures = now, 0
        self._failures[key] = (since, failures + 1)
        if len(self._failures) > _MOST_ADDRESSES:
            self._failures.popitem(last=False)
        return min(self._delay * 2.0 ** min(failures, 30), _LONGEST_DELAY_SECONDS)

    def __len__(self) -> int:
        return len(self._failures)


def network(address: str) -> str:
    """Return what counts as one address: an IPv4 address, an IPv6 network of 64 bits; of another text itself, cut."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), _NETWORK_BITS), strict=False))
    return str(found)
