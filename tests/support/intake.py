"""An intake for the tests of sources: the real engine, and a store that commits when the test says so."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager, contextmanager

from northbound import Event, Message, Source
from northbound.engine import Engine
from northbound.topics import TopicScheme

NOW = 1_700_000_000_000


class RecordedTicket:
    """What ``RecordingIntake.submit`` answers."""

    def __init__(self, refused, future) -> None:
        self.refused: Sequence[tuple[int, str]] = refused
        self.future = future

    async def committed(self) -> None:
        await asyncio.shield(self.future)


class RecordingIntake:
    """Keeps what a source hands in.

    ``automatic=False`` commits nothing until ``commit()``; ``delay`` commits so many seconds later; ``failure`` is
    raised by every ticket; at ``capacity`` uncommitted batches ``submit`` waits. ``messages`` holds everything handed
    in, ``stored`` what was committed, and ``checkpoint`` what was committed with it: a source started over from the
    same intake is one whose process was killed.
    """

    def __init__(
        self,
        *,
        hierarchy: Sequence[str] = ("org", "building", "level", "area"),
        checkpoint: bytes | None = None,
        org: str | None = "org-acme",
        automatic: bool = True,
        delay: float = 0.0,
        failure: Exception | None = None,
        capacity: int = 1_000_000,
    ) -> None:
        self.hierarchy = tuple(hierarchy)
        self.checkpoint = checkpoint
        self.engine = Engine(TopicScheme(hierarchy=self.hierarchy), org=org)
        self.automatic, self.delay, self.failure, self.capacity = automatic, delay, failure, capacity
        self.batches: list[list[Event]] = []
        self.messages: list[Message] = []
        self.stored: list[Message] = []
        self.refusals: list[tuple[str, str]] = []
        self.engine_refused: list[str] = []
        self.most_uncommitted = 0
        self._waiting: deque = deque()
        self._room = asyncio.Condition()
        self._closed = False
        self.mounts: dict = {}

    @property
    def org(self) -> str | None:
        return self.engine.org

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch]

    async def submit(self, events, *, checkpoint=None) -> RecordedTicket:
        assert checkpoint is None or len(checkpoint) <= 4096
        async with self._room:
            await self._room.wait_for(lambda: len(self._waiting) < self.capacity)
        messages, refused, _ = self.engine.process(events, NOW)
        self.batches.append(list(events))
        self.messages += messages
        self.engine_refused += [reason for _, reason in refused]
        future = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda f: f.cancelled() or f.exception())
        self._waiting.append((future, messages, checkpoint))
        self.most_uncommitted = max(self.most_uncommitted, len(self._waiting))
        if self.delay:
            asyncio.get_running_loop().call_later(self.delay, self.commit, 1)
        elif self.automatic:
            self.commit()
        await asyncio.sleep(0)
        return RecordedTicket(refused, future)

    def commit(self, batches: int | None = None) -> None:
        """Commit the oldest ``batches`` (default: all)."""
        while self._waiting and batches != 0:
            future, messages, checkpoint = self._waiting.popleft()
            if self.failure is not None:
                future.set_exception(self.failure)
            else:
                self.stored += messages
                if checkpoint is not None:
                    self.checkpoint = checkpoint
                future.set_result(None)
            batches = None if batches is None else batches - 1
        self._notify = asyncio.ensure_future(self._wake())

    async def _wake(self) -> None:
        async with self._room:
            self._room.notify_all()

    def refuse(self, where: str, reason: str) -> None:
        self.refusals.append((where, reason))

    @contextmanager
    def mounted(self, path, app):
        self.mounts[path] = app
        try:
            yield
        finally:
            del self.mounts[path]

    def killed(self) -> RecordingIntake:
        """Return the intake that the next process sees: what was not committed is gone."""
        successor = RecordingIntake(hierarchy=self.hierarchy, checkpoint=self.checkpoint)
        successor.stored = list(self.stored)
        return successor


@asynccontextmanager
async def running(source: Source, intake: RecordingIntake):
    """Run ``source`` while the block runs, then cancel it; fails where it does not stop soon."""
    task = asyncio.create_task(source.run(intake))
    try:
        yield task
    finally:
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=10)
        assert done, "the source does not stop when cancelled"
        if not task.cancelled() and task.exception() is not None:
            raise task.exception()


async def until(condition: Callable[[], object], within: float = 20.0) -> None:
    """Wait until ``condition()`` holds; fails after ``within`` seconds."""
    deadline = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came to be"
        await asyncio.sleep(0.005)
