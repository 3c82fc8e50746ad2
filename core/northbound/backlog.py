"""The bounds of one connector's backlog, and what gives way when it is beyond them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from northbound.config import BacklogOptions
from northbound.status import Counters
from northbound.store.records import Progress, Store
from northbound.window import Window

log = logging.getLogger(__name__)

#: Dropping goes a little below the bound, so that it is not done for every message.
_OLDEST_SHARE: Final = 0.99
#: With so many topics that their newest values alone fill it, counting them anew each time would cost more.
_LATEST_SHARE: Final = 0.9


class Backlog:
    """What waits for one connector; ``relieved`` is called after something gave way."""

    def __init__(
        self,
        options: BacklogOptions,
        maximum_bytes: int,
        store: Store,
        progress: Progress,
        window: Window,
        relieved: Callable[[], None],
    ) -> None:
        self._options = options
        self._maximum_bytes = maximum_bytes
        self._store = store
        self._progress = progress
        self._window = window
        self._relieved = relieved

    @property
    def blocks(self) -> bool:
        """Whether the sources must wait for this connector (``when_full = "block"``)."""
        return self._options.when_full == "block" and (self._full or self._too_old() is not None)

    async def relieve(self) -> None:
        """Let give way what the configuration says, where the backlog is beyond its bounds."""
        before = self._too_old()
        if self._options.when_full == "block" or not (self._full or before is not None):
            return
        # A first snapshot is not in the log: there is nothing older to drop before it.
        snapshot = isinstance(self._window.position, str)
        if self._options.when_full == "oldest" and not snapshot:
            self._drop_oldest(before, _OLDEST_SHARE)
            return
        if self._full or self._progress.latest_through < self._store.head:
            await self._keep_latest(before)
        if self._progress.backlog_bytes > self._maximum_bytes * _LATEST_SHARE and not snapshot:
            self._drop_oldest(None, _LATEST_SHARE)

    @property
    def _full(self) -> bool:
        return self._progress.backlog_bytes > self._maximum_bytes

    def _too_old(self) -> int | None:
        """Return the time (ms) before which messages are too old, where the oldest one is; else ``None``."""
        maximum = self._options.maximum_age
        if maximum is None:
            return None
        before = int((time.time() - maximum.total_seconds()) * 1000)
        oldest = self._store.oldest(self._progress.cursor)
        return before if oldest is not None and oldest < before else None

    async def _keep_latest(self, before: int | None) -> None:
        name = self._progress.connector
        through = self._store.head
        if before is not None and not self._full:
            through, count, _ = self._store.excess(name, self._progress.cursor, 0, before)
            if not count or through <= self._progress.latest_through:
                return
        log.warning("%s: the backlog is full: keeping the newest value of each topic", name)
        await self._store.supersede(name, through)
        self._window.forget_unsent()
        self._relieved()

    def _drop_oldest(self, before: int | None, share: float) -> None:
        name = self._progress.connector
        self._window.forget_unsent()
        after = self._window.position
        if isinstance(after, str):
            return
        need = 0
        if self._full or before is None:
            need = self._progress.backlog_bytes - int(self._maximum_bytes * share)
        through, count, size = self._store.excess(name, after, need, before)
        if not count:
            return
        counters = Counters(superseded=through - after - count)
        if before is not None:
            counters.dropped_expired = count
        else:
            counters.dropped_queue_full = count
        log.warning("%s: the backlog is beyond its bounds: %d of the oldest messages dropped", name, count)
        self._window.pass_over(through, counters, (count, size))
        self._relieved()
