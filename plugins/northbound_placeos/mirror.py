"""What runs: two databases in, one stream of events out.

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
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from northbound import Event, Intake, Metadata, NorthboundError, Synchronisation
from northbound.directory import Directory, Entity
from northbound_placeos.follow import Follower, Gone
from northbound_placeos.live import Arrivals, Subscription
from northbound_placeos.options import Options
from northbound_placeos.ours import Ours
from northbound_placeos.tasks import end, until_cut_off
from northbound_placeos.tree import Tree
from northbound_placeos.values import BATCH, Values

log = logging.getLogger(__name__)

#: Events handed in at once, and how many may wait before nothing more is read.
_EVENTS: Final = 2000
_MOST_EVENTS: Final = 20_000
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 10.0
_TICK: Final = 1.0


class Mirror:
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
            hold=round(config.restart_window.total_seconds() * 1000),
            max_value_bytes=int(config.max_value_bytes),
        )
        self._coalesce = config.coalesce.total_seconds()
        self._arrivals = Arrivals(coalesce=self._coalesce > 0)
        self._subscription: Subscription | None = None
        self._outbox: list[Event] = []
        self._news = asyncio.Event()
        self._to_read = asyncio.Event()
        self._room = asyncio.Event()
        self._rows_known = asyncio.Event()
        self._problems: dict[str, str] = {}
        self._ours = Ours(intake)
        self.synchronised = False
        self._swept = time.monotonic()
        self._sweeping: list[str] = []
        self._round = 0

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
            attempt = tasks.create_task(until_cut_off(work), name=f"{self._name}: {what}")
            try:
                await asyncio.wait({attempt})
            except asyncio.CancelledError:
                await end([attempt])
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
        events = self._tree.rows(rows, gone)
        self._put(events)
        self._ours.learn(
            {e.org for e in events if isinstance(e, Metadata) and e.metadata is not None and e.org is not None}
        )
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
        self._subscription = subscription
        try:
            async with asyncio.TaskGroup() as tasks:
                both = {
                    tasks.create_task(subscription.watch(), name=f"{self._name}: subscription"),
                    tasks.create_task(self._read_values(subscription, values), name=f"{self._name}: values"),
                }
                try:
                    await asyncio.wait(both)
                finally:
                    await end(both)
        finally:
            self._subscription = None
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
        if not self._sweeping:
            self._sweeping = self._tree.directory.placed()
            self._round = len(self._sweeping)
        count = math.ceil(self._round * (now - self._swept) / self._config.reread.total_seconds())
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
        self._read_on()

    def _read_on(self) -> None:
        """Let the subscription read what it left with Redis, unless too much waits here."""
        if self._subscription is not None and len(self._outbox) <= _MOST_EVENTS:
            self._subscription.resume()

    async def _has_room(self) -> None:
        while len(self._outbox) > _MOST_EVENTS:
            self._room.clear()
            await self._room.wait()

    async def _submit(self) -> None:
        """Empty the outbox, for ever: beside the store until everything was read once, then as it comes."""
        sync: Synchronisation | None = await self._intake.synchronise(self._ours.owns)
        while True:
            await self._wait_for_news()
            self._drain()
            self._outbox += self._tree.due(_now())
            while self._outbox:
                if self._ours.changed:  # first: what is stored must be known as ours when it is gone at the next start
                    await self._intake.submit((), checkpoint=self._ours.checkpoint())
                events, self._outbox = self._outbox[:_EVENTS], self._outbox[_EVENTS:]
                await (sync or self._intake).submit(events)
                self._room.set()
                self._read_on()
            if sync is not None and self._complete:
                await sync.finish()
                sync, self.synchronised = None, True
                log.info("%s: synchronised: %d values", self._name, self._tree.values_known)

    @property
    def _complete(self) -> bool:
        return self._rows_known.is_set() and self._tree.complete and not self._outbox and "Redis" not in self._problems

    async def _wait_for_news(self) -> None:
        due = self._tree.next_due(_now())
        try:
            async with asyncio.timeout(None if due is None else due / 1000):
                await self._news.wait()
        except TimeoutError:
            return
        if self._coalesce and not self._outbox:
            await asyncio.sleep(self._coalesce)
        self._news.clear()


def _now() -> int:
    return time.time_ns() // 1_000_000
