"""The way in: events of a source through the engine into the store."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from northbound.engine import Engine
from northbound.errors import NorthboundError, StoreError
from northbound.events import Event
from northbound.loading import SourceInstance
from northbound.source import Source
from northbound.status import SourceState, SourceStatus
from northbound.store.records import Append, Store

log = logging.getLogger(__name__)

_LARGEST_CHECKPOINT: Final = 4096
#: How long a source that failed waits before it runs again: at first, at most, and how long a run makes that forgotten.
FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
STEADY_SECONDS: Final = 60.0
#: Refusals are all counted, and at most one in so many seconds and source is logged.
_LOG_SECONDS: Final = 1.0


class CommitTicket:
    """See :class:`northbound.Ticket`."""

    __slots__ = ("_append", "refused")

    def __init__(self, append: Append, refused: Sequence[tuple[int, str]]) -> None:
        self._append = append
        self.refused = refused

    async def committed(self) -> None:
        """Return when the batch is on disk."""
        await asyncio.shield(self._append.committed)


class SourceIntake:
    """See :class:`northbound.Intake`; also keeps the source's numbers."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        store: Store,
        unblocked: Callable[[], Awaitable[None]],
        mount: Callable[[str, Any], AbstractContextManager[None]] | None = None,
    ) -> None:
        self._name = name
        self._mount = mount
        self._engine = engine
        self._store = store
        self._unblocked = unblocked
        self.received = 0
        self.refused = 0
        self.dropped = 0
        self.committed = 0
        self.last_refusal: str | None = None
        self._logged_at = 0.0
        self._checkpoint = store.checkpoint(name)

    @property
    def hierarchy(self) -> tuple[str, ...]:
        """The zone levels of this site, the organisation first."""
        return self._engine.scheme.hierarchy

    @property
    def checkpoint(self) -> bytes | None:
        """What this source last stored with a committed batch."""
        return self._checkpoint

    async def submit(self, events: Sequence[Event], *, checkpoint: bytes | None = None) -> CommitTicket:
        """Hand in a batch; waits while the store's queue or a blocking connector's backlog is full."""
        if checkpoint is not None and len(checkpoint) > _LARGEST_CHECKPOINT:
            raise StoreError(f"a checkpoint of {len(checkpoint)} bytes: the most is {_LARGEST_CHECKPOINT}")
        await self._store.room()
        await self._unblocked()
        messages, refused, dropped = self._engine.process(events, time.time_ns() // 1_000_000)
        self.received += len(events)
        self.dropped += dropped
        if refused:
            self._count_refused(f"event {refused[0][0] + 1} of a batch", refused[0][1], len(refused))
        append = self._store.append(messages, self._name, checkpoint)
        append.committed.add_done_callback(lambda future: self._on_committed(future, len(messages), checkpoint))
        return CommitTicket(append, refused)

    def refuse(self, where: str, reason: str) -> None:
        """Count and report input that never became an event; both texts may hold some of it, so rules apply."""
        self._count_refused(self.shareable(where), self.shareable(reason), 1)

    def mounted(self, path: str, app: Any) -> AbstractContextManager[None]:
        """Serve an ASGI application at ``path`` of the service's own HTTP server; see :class:`northbound.Intake`."""
        if self._mount is None:
            raise NorthboundError(f"{path} cannot be served: there is no HTTP server here")
        return self._mount(path, app)

    def shareable(self, words: str) -> str:
        """Return words about an event after the privacy rules."""
        return self._engine.shareable(words)

    def _count_refused(self, where: str, reason: str, count: int) -> None:
        self.refused += count
        self.last_refusal = f"{where}: {reason}"
        now = time.monotonic()
        if now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            log.warning("%s: refused %s (%d refused so far)", self._name, self.last_refusal, self.refused)

    def _on_committed(self, future: asyncio.Future[int], count: int, checkpoint: bytes | None) -> None:
        if future.cancelled() or future.exception() is not None:
            return
        self.committed += count
        if checkpoint is not None:
            self._checkpoint = checkpoint


class SourceRunner:
    """Runs one source, and starts it again where it fails."""

    def __init__(self, instance: SourceInstance, intake: SourceIntake) -> None:
        self.instance = instance
        self.intake = intake
        self._source: Source = instance.create()
        self._state: SourceState = "waiting"
        self._error: str | None = None

    @property
    def finite(self) -> bool:
        """Whether the source ends by itself."""
        return self._source.finite

    @property
    def failed(self) -> bool:
        """Whether the source has ended with an error."""
        return self._state == "finished" and self._error is not None

    def status(self) -> SourceStatus:
        """Return the source's numbers."""
        intake = self.intake
        return SourceStatus(
            name=self.instance.name,
            type=self.instance.plugin.type_name,
            origin=self._source.origin,
            state=self._state,
            error=self._error,
            received=intake.received,
            refused=intake.refused,
            last_refusal=intake.last_refusal,
            dropped=intake.dropped,
            committed=intake.committed,
        )

    async def run(self) -> None:
        """Run the source until it ends, or until cancelled. A finite one that fails has ended."""
        pause = FIRST_PAUSE_SECONDS
        try:
            while True:
                self._state = "running"
                started = time.monotonic()
                try:
                    await self._run()
                except (NorthboundError, OSError) as error:
                    self._error = self.intake.shareable(str(error))
                    log.error("%s: %s", self.instance.name, self._error)  # noqa: TRY400 - said in words
                except Exception as error:  # noqa: BLE001, RUF100 - a third party's source may raise anything
                    self._error = self.intake.shareable(f"{type(error).__name__}: {error}")
                    log.exception("%s: the source failed", self.instance.name)
                else:
                    self._error = None
                if self.finite or self._error is None:
                    self._state = "finished"
                    return
                self._state = "retrying"
                if time.monotonic() - started > STEADY_SECONDS:
                    pause = FIRST_PAUSE_SECONDS
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        except asyncio.CancelledError:
            self._state = "stopped"
            raise

    async def _run(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine
        try:
            await self._source.run(self.intake)
        except asyncio.CancelledError:
            if task.cancelling():
                raise
            raise NorthboundError("it was cancelled from within") from None
