"""The source itself: reads on a thread of its own, decodes on the loop, hands in a block at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pydantic

import northbound
from northbound import EventRefused, NorthboundError
from northbound_jsonl.checkpoint import Checkpoint
from northbound_jsonl.inputs import Change, RegularFile, Stream, is_regular, open_file
from northbound_jsonl.lines import Block, LineSplitter, Place
from northbound_jsonl.options import STANDARD_INPUT, Options

T = TypeVar("T")

#: Batches handed in and not yet on disk: enough to keep the store busy, few enough to hold in memory.
UNSETTLED = 16
#: A rotated file whose successor is still empty is left after so many looks: its writer may not have moved on.
PATIENCE = 10
#: A stream that is silent for so many seconds has its batches settled, so that a broken store is noticed.
SILENCE = 0.05


class JsonlSource(northbound.Source):
    """Reads events as JSON Lines."""

    Config: ClassVar[type[pydantic.BaseModel]] = Options
    config: Options

    #: The descriptor that ``-`` stands for.
    standard_input = 0

    @property
    def finite(self) -> bool:
        """Whether it ends with its input."""
        return not self.config.follow

    @property
    def origin(self) -> str:
        """The path it reads."""
        return "standard input" if self.config.path == STANDARD_INPUT else str(self.config.path)

    async def run(self, intake: northbound.Intake) -> None:
        """Read to the end, or follow the file until cancelled."""
        feed = _Feed(intake, self.config, self.origin)
        path = self.config.path
        async with _thread(f"jsonl-{self.name}") as thread:
            if isinstance(path, str):
                await self._read_stream(feed, thread, Stream(self.standard_input, owned=False))
            elif await self._found(path, thread):
                await self._read_file(feed, thread, path)
            else:
                await self._read_stream(feed, thread, await thread.call(Stream.open, path, follow=self.config.follow))
        await feed.settle()

    async def _found(self, path: Path, thread: _Thread) -> bool:
        """Wait for a followed path to exist; return whether it is a regular file."""
        while True:
            try:
                return await thread.call(is_regular, path)
            except FileNotFoundError:
                if not self.config.follow:
                    raise NorthboundError(f"{path} does not exist: check the path, or set follow = true") from None
            await asyncio.sleep(self.config.poll_interval.total_seconds())

    async def _read_stream(self, feed: _Feed, thread: _Thread, stream: Stream) -> None:
        reading: asyncio.Future[bytes] | None = None
        try:
            feed.begin(None, Place())
            while True:
                reading = thread.call(stream.read)
                await asyncio.wait({reading}, timeout=SILENCE)
                if not reading.done():
                    await feed.settle()
                try:
                    data = await reading
                except OSError as error:
                    raise NorthboundError(f"{self.origin} cannot be read: {error.strerror}") from None
                if not data:
                    break
                await feed.take(data)
            await feed.finish()
        finally:
            if reading is not None:
                reading.cancel()
            stream.stop()
            thread.last(stream.close)

    async def _read_file(self, feed: _Feed, thread: _Thread, path: Path) -> None:
        checkpoint = Checkpoint.decode(feed.intake.checkpoint) if self.config.resume else None
        while True:
            try:
                file, place = await thread.call(open_file, path, checkpoint, follow=self.config.follow)
            except FileNotFoundError:
                await self._found(path, thread)
                continue
            try:
                feed.begin(file, place)
                await self._to_the_end(feed, thread, file)
                await feed.finish()
            finally:
                thread.last(file.close)
            if not self.config.follow:
                return
            checkpoint = None

    async def _to_the_end(self, feed: _Feed, thread: _Thread, file: RegularFile) -> None:
        """Read all there is; a followed file's end is when another stands at its path."""
        looks = 0
        while True:
            data = await thread.call(file.read, feed.lines.position)
            if data:
                await feed.take(data)
                continue
            if not self.config.follow:
                return
            await feed.settle()
            change = await thread.call(file.look, feed.lines.position, feed.lines.recent)
            while change in (Change.NOTHING, Change.MOVED) and looks < PATIENCE:
                await asyncio.sleep(self.config.poll_interval.total_seconds())
                change = await thread.call(file.look, feed.lines.position, feed.lines.recent)
                looks = looks + 1 if change is Change.MOVED else 0
            if change is Change.REWRITTEN:
                await feed.finish()
                feed.begin(file, Place())
            elif change is not Change.GROWN:
                return


class _Feed:
    """Lines to events to the intake, with the checkpoints that say how far it is."""

    def __init__(self, intake: northbound.Intake, options: Options, origin: str) -> None:
        self.intake = intake
        self.options = options
        self.origin = origin
        self.lines = LineSplitter(options.max_line)
        self._decode = northbound.EventDecoder(intake.hierarchy).decode_all
        self._file: RegularFile | None = None
        self._unsettled: deque[northbound.Ticket] = deque()

    def begin(self, file: RegularFile | None, place: Place) -> None:
        """Start with ``file`` at ``place``; ``None`` where there is nothing to come back to."""
        self._file = file
        self.lines = LineSplitter(self.options.max_line, place)

    async def take(self, data: bytes) -> None:
        """Hand in what ``data`` completes."""
        await self._hand_in(self.lines.feed(data))

    async def finish(self) -> None:
        """Hand in a last line without newline."""
        await self._hand_in(self.lines.finish())

    async def settle(self, remaining: int = 0) -> None:
        """Wait until all but the last ``remaining`` batches are on disk."""
        while len(self._unsettled) > remaining:
            await self._unsettled[0].committed()
            self._unsettled.popleft()

    async def _hand_in(self, block: Block) -> None:
        events, malformed = self._decode(block.lines)
        refused = [(block.first + position, reason) for position, reason in malformed]
        if block.refused:
            refused = sorted([*refused, *block.refused])
        if refused and self.options.strict:
            await self._stop_at(block, *refused[0])
        for line, reason in refused:
            self.intake.refuse(f"line {line}", reason)
        if events:
            ticket = await self._submit(events, block.end)
            if ticket.refused and self.options.strict:
                await self.settle()
                position, reason = ticket.refused[0]
                raise self._malformed(_lines_of_events(block, refused)[position], reason)

    async def _stop_at(self, block: Block, line: int, reason: str) -> None:
        events, _ = self._decode(block.lines[: line - block.first])
        if events:
            await self._submit(events, block.place_before(line))
        await self.settle()
        self.intake.refuse(f"line {line}", reason)
        raise self._malformed(line, reason)

    def _malformed(self, line: int, reason: str) -> EventRefused:
        return EventRefused(f"{self.origin}, line {line}: {reason} (strict is set: mend the line or unset it)")

    async def _submit(self, events: list[northbound.Event], end: Place) -> northbound.Ticket:
        file = self._file
        checkpoint = Checkpoint.of(end, file.device, file.inode).encode() if file else None
        ticket = await self.intake.submit(events, checkpoint=checkpoint)
        self._unsettled.append(ticket)
        await self.settle(UNSETTLED)
        return ticket


def _lines_of_events(block: Block, refused: list[tuple[int, str]]) -> list[int]:
    passed_over = {line for line, _ in refused}
    numbered = enumerate(block.lines, block.first)
    return [number for number, line in numbered if number not in passed_over and line.strip()]


class _Thread:
    """One thread for what blocks, so that a silent pipe holds none of those that others share."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor

    def call(self, function: Callable[..., T], *arguments: Any, **options: Any) -> asyncio.Future[T]:
        """Return the future of what ``function`` returns there."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._executor, partial(function, *arguments, **options))

    def last(self, function: Callable[[], None]) -> None:
        """Call ``function`` behind whatever is still under way there; waits for nothing."""
        self._executor.submit(function)


@asynccontextmanager
async def _thread(name: str) -> AsyncIterator[_Thread]:
    executor = ThreadPoolExecutor(1, thread_name_prefix=name)
    try:
        yield _Thread(executor)
    finally:
        executor.shutdown(wait=False)
