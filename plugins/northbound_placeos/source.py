"""The source itself: two databases in, one stream of events out.

Redis is subscribed to before anything is read. Everything that becomes an event goes through one :class:`Tree` and one
outbox, in the order of its making; one task empties the outbox into the intake. The first time, that is a
synchronisation: what the store has already is left out, and what it has too much is cleared. After that the tree itself
remembers what was published. Each database may go away and come back for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, ClassVar, Final

import msgspec
import pydantic

import northbound
from northbound import Address, Event, Imported, Intake, MetadataAddress, NorthboundError, Synchronisation
from northbound.directory import Directory, Entity
from northbound_placeos.brokers import imported
from northbound_placeos.follow import Follower, Gone, ask
from northbound_placeos.live import Arrivals, Subscription
from northbound_placeos.models import Models
from northbound_placeos.options import Options
from northbound_placeos.tree import Tree
from northbound_placeos.values import BATCH, Values

log = logging.getLogger(__name__)

#: Events handed in at once, and how many may wait before nothing more is read.
_EVENTS: Final = 2000
_MOST_EVENTS: Final = 20_000
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 10.0
_TICK: Final = 1.0
_CANCEL_SECONDS: Final = 0.5
#: Organisations remembered for the next start; a checkpoint has 4 KiB.
_CHECKPOINT_BYTES: Final = 4000


class PlaceosSource(northbound.Source):
    """Reads a PlaceOS installation: its state tree, live, from Redis and PostgreSQL."""

    Config: ClassVar[type[pydantic.BaseModel]] = Options
    config: Options

    def __init__(self, config: Options, *, name: str) -> None:
        super().__init__(config, name=name)
        self._run: _Run | None = None

    @property
    def origin(self) -> str:
        """Both databases' addresses."""
        return f"Redis at {self.config.redis_address.where}, PostgreSQL at {self.config.postgres_where}"

    @property
    def problem(self) -> str | None:
        """Which database is away."""
        return None if self._run is None else self._run.problem

    @property
    def synchronised(self) -> bool:
        """Whether everything there is has been handed in once, since it runs."""
        return self._run is not None and self._run.synchronised

    async def people(self) -> Sequence[str]:
        """Return the names in the user table."""
        return await ask(self.config, Models.people)

    async def destinations(self) -> Sequence[Imported]:
        """Return the brokers that PlaceOS's own service publishes to."""
        return [imported(row) for row in await ask(self.config, Models.brokers)]

    async def run(self, intake: Intake) -> None:
        """Read until cancelled."""
        self._run = _Run(self.config, intake, self.name)
        try:
            await self._run.run()
        except BaseExceptionGroup as group:  # of the tasks; the first error stands for all
            raise _first(group) from None
        finally:
            self._run = None


class _Run:
    """One run of the source, from nothing known to cancelled."""

    def __init__(self, config: Options, intake: Intake, name: str) -> None:
        self._config = config
        self._intake = intake
        self._name = name
        directory = Directory(intake.hierarchy, walk_parents=config.walk_parents)
        self._tree = Tree(
            directory,
            intake.refuse,
            stopped=config.stopped,
            removed=config.removed,
            hold=_milliseconds(config.restart_window.total_seconds()),
            max_value_bytes=int(config.max_value_bytes),
        )
        self._coalesce = config.coalesce.total_seconds()
        self._arrivals = Arrivals(coalesce=self._coalesce > 0)
        self._outbox: list[Event] = []
        self._news = asyncio.Event()
        self._to_read = asyncio.Event()
        self._room = asyncio.Event()
        self._rows_known = asyncio.Event()
        self._problems: dict[str, str] = {}
        self._orgs = _remembered(intake.checkpoint)
        self._orgs_changed = False
        self.synchronised = False
        self._swept = time.monotonic()
        self._sweeping: list[str] = []

    @property
    def problem(self) -> str | None:
        """What is wrong now."""
        return "; ".join(self._problems.values()) or None

    async def run(self) -> None:
        """Run until cancelled."""
        follower = Follower(self._config, self._take_rows, self._intake.refuse)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._submit(), name=f"{self._name}: intake")
            for what, work in (
                ("Redis", self._read_redis),
                ("PostgreSQL", lambda: follower.run(self._rows_read)),
            ):
                tasks.create_task(self._again(tasks, what, work), name=f"{self._name}: {what}, again and again")

    async def _again(self, tasks: asyncio.TaskGroup, what: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work`` again and again, whenever it is cut off."""
        pause = _FIRST_PAUSE
        while True:
            started = time.monotonic()
            # In a task of its own, for a connection that breaks at the moment of cancelling tells of the break and
            # forgets the cancelling: psycopg does, and so does a task group before Python 3.13.
            attempt = tasks.create_task(_until_cut_off(work), name=f"{self._name}: {what}")
            try:
                await asyncio.wait({attempt})
            except asyncio.CancelledError:
                await _end([attempt])
                raise
            words = attempt.result()
            if self._problems.get(what) != words:
                log.warning("%s: %s", self._name, words)
            self._problems[what] = words
            if time.monotonic() - started > _LONGEST_PAUSE:
                pause = _FIRST_PAUSE
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - only so that not all come at once
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _well(self, what: str) -> None:
        if self._problems.pop(what, None) is not None:
            log.info("%s: %s is back", self._name, what)

    # PostgreSQL

    def _take_rows(self, rows: Sequence[Entity], gone: Sequence[Gone]) -> None:
        self._drain()
        self._put(self._tree.rows(rows, gone))
        if not self._orgs >= (orgs := self._tree.directory.orgs()):
            self._orgs |= orgs
            self._orgs_changed = True
            self._news.set()
        self._to_read.set()

    def _rows_read(self) -> None:
        self._rows_known.set()
        self._to_read.set()
        self._well("PostgreSQL")

    # Redis

    async def _read_redis(self) -> None:
        config = self._config
        try:
            tls = config.redis_tls
        except OSError as error:
            raise NorthboundError(f"redis_ca: {error.strerror or error}") from None
        values = Values(config)
        subscription = await Subscription.open(config.redis_address, tls, self._arrivals, self._news.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                both = {
                    tasks.create_task(subscription.watch(), name=f"{self._name}: subscription"),
                    tasks.create_task(self._read_values(subscription, values), name=f"{self._name}: values"),
                }
                try:
                    await asyncio.wait(both)
                finally:
                    await _end(both)
        finally:
            subscription.close()
            await values.close()

    async def _read_values(self, subscription: Subscription, values: Values) -> None:
        """Read what is wanted, everything at first, then what moves, and all of it again bit by bit."""
        tree = self._tree
        self._drain()  # what arrived over the connection before is older than what is read now
        tree.want_all()
        while True:
            self._to_read.clear()
            while tree.wanted:
                await self._has_room()
                self._drain()
                modules = tree.begin(BATCH)
                found = await values.read(modules)
                await subscription.barrier()
                self._take_values(modules, found)
            if self._rows_known.is_set():
                self._well("Redis")
            self._news.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK):
                    await self._to_read.wait()
            self._sweep()
            subscription.resume()

    def _take_values(self, modules: Sequence[str], found: Sequence[object]) -> None:
        self._drain()  # what arrived before the barrier belongs into the windows
        now = _now()
        for module, hash_ in zip(modules, found, strict=True):
            if isinstance(hash_, dict):
                self._put(self._tree.values(module, hash_, now))
            else:
                self._intake.refuse(f"status/{module}", str(hash_))
                self._put(self._tree.values(module, {}, now))

    def _sweep(self) -> None:
        """Ask for as many modules again as are due, so that everything is read once in the time configured."""
        now = time.monotonic()
        if now - self._swept < _TICK:
            return
        placed = self._tree.directory.placed()
        self._sweeping = self._sweeping or placed
        count = math.ceil(len(placed) * (now - self._swept) / self._config.reread.total_seconds())
        self._swept = now
        self._tree.want(self._sweeping[-count:])
        del self._sweeping[-count:]

    # out

    def _put(self, events: list[Event]) -> None:
        if events:
            self._outbox += events
            self._news.set()

    def _drain(self) -> None:
        """Let what arrived go through the tree."""
        changed = self._tree.changed
        outbox = self._outbox
        for module, key, value, at in self._arrivals.take(self._intake.refuse):
            outbox += changed(module, key, value, at)

    async def _has_room(self) -> None:
        while len(self._outbox) > _MOST_EVENTS:
            self._room.clear()
            await self._room.wait()

    async def _submit(self) -> None:
        """Empty the outbox, for ever: beside the store until everything was read once, then as it comes."""
        sync: Synchronisation | None = await self._intake.synchronise(self._owns)
        while True:
            await self._wait_for_news()
            self._drain()
            self._outbox += self._tree.due(_now())
            while self._outbox:
                if self._orgs_changed:  # first: what is stored must be known as ours when it is gone at the next start
                    self._orgs_changed = False
                    await self._intake.submit((), checkpoint=_remember(self._orgs))
                events, self._outbox = self._outbox[:_EVENTS], self._outbox[_EVENTS:]
                await (sync or self._intake).submit(events)
                self._room.set()
            if sync is not None and self._complete:
                await sync.finish()
                sync, self.synchronised = None, True
                log.info("%s: synchronised: %d values", self._name, self._tree.values_known)

    @property
    def _complete(self) -> bool:
        return self._rows_known.is_set() and self._tree.complete and not self._outbox and "Redis" not in self._problems

    async def _wait_for_news(self) -> None:
        due = self._tree.next_due
        try:
            async with asyncio.timeout(None if due is None else max(0.0, (due - _now()) / 1000)):
                await self._news.wait()
        except TimeoutError:
            return
        if self._coalesce and not self._outbox:
            await asyncio.sleep(self._coalesce)
        self._news.clear()

    def _owns(self, address: Address | MetadataAddress) -> bool:
        """Whether a topic is of this installation: by its ids, and an organisation that is or was here."""
        ours = address.org in self._orgs or address.org == self._intake.org
        if isinstance(address, Address):
            return ours and address.system.startswith("sys-") and address.driver.startswith("driver-")
        # PlaceOS's own service writes the name of the first level in place of the organisation.
        ours = ours or address.org == self._intake.hierarchy[0]
        return ours and address.id.startswith(("zone-", "sys-", "driver-"))


async def _until_cut_off(work: Callable[[], Awaitable[None]]) -> str:
    """Return why ``work``, which has no end of its own, could not go on."""
    try:
        await work()
    except NorthboundError as error:
        return str(error)
    except BaseExceptionGroup as group:
        first = _first(group)
        if not isinstance(first, NorthboundError):
            raise
        return str(first)
    return "it ended by itself"


async def _end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel until it has an effect: the databases' libraries may lose a cancelling that meets an answer."""
    cancelled: asyncio.CancelledError | None = None
    while waiting := [task for task in tasks if not task.done()]:
        for task in waiting:
            task.cancel()
        try:
            await asyncio.wait(waiting, timeout=_CANCEL_SECONDS)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _now() -> int:
    return time.time_ns() // 1_000_000


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _remembered(checkpoint: bytes | None) -> set[str]:
    if checkpoint is None:
        return set()
    try:
        return set(msgspec.json.decode(checkpoint, type=list[str]))
    except (msgspec.DecodeError, msgspec.ValidationError):
        return set()


def _remember(orgs: set[str]) -> bytes:
    """Return a checkpoint of the organisations, as many as fit."""
    names = sorted(orgs)
    while len(text := msgspec.json.encode(names)) > _CHECKPOINT_BYTES:
        names.pop()
    return text


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that says most: one of ours before a defect's."""
    errors: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            errors.append(error)
    return next((error for error in errors if not isinstance(error, NorthboundError)), errors[0])
