"""API keys that a source knows (PlaceOS's table ``api_key``): asked for one by one, and remembered for a moment."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from northbound.apikeys import ApiKey

log = logging.getLogger(__name__)

#: Asks a source for the key with this id: ``Source.api_key``.
Lookup = Callable[[str], Awaitable[ApiKey | None]]

#: For so long an answer counts; a revoked key ends within this time.
_FRESH_SECONDS: Final = 5.0
#: So long it may take; the CONNECT that waits for it gives up a little later.
_ANSWER_SECONDS: Final = 3.0
#: One that has failed is left alone for so long, whatever key it is about.
_FAILED_SECONDS: Final = 5.0
#: While the source does not answer, what it last said of a key counts for so long.
_STALE_SECONDS: Final = 300.0
_MOST_REMEMBERED: Final = 2_000


class SourceKeys:
    """Asks the source, not more often than every few seconds for one id."""

    def __init__(self, lookup: Lookup, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, ApiKey | None]] = OrderedDict()
        self._failed: float | None = None  # when; None: it answers

    async def find(self, id_: str) -> ApiKey | None:
        """Return the key with this id; ``None`` where there is none, or nobody can say."""
        now = self._clock()
        asked, known = self._known.get(id_, (-_STALE_SECONDS, None))
        if now - asked < _FRESH_SECONDS:
            return known
        known = known if now - asked < _STALE_SECONDS else None
        if self._failed is not None and now - self._failed < _FAILED_SECONDS:
            return known
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                found = await self._lookup(id_)
        except Exception as error:  # noqa: BLE001 - a third party's source may raise anything; its words may be private
            if self._failed is None:
                log.warning("the source does not say which API keys there are (%s)", type(error).__name__)
            self._failed = self._clock()
            return known
        self._failed = None
        self._known[id_] = (now, found)
        self._known.move_to_end(id_)
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        return found
