"""One worker per connector: read, shape, send, settle, back off. The thinking is in :mod:`northbound.window`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Final

from northbound.config import StoreOptions
from northbound.connector import Connector
from northbound.errors import (
    DeliveryError,
    NotConnected,
    PartialDelivery,
    Rejected,
    Unauthorised,
    Unavailable,
)
from northbound.limits import Limits
from northbound.loading import ConnectorInstance
from northbound.message import Message, Outgoing
from northbound.rate import TokenBucket
from northbound.retry import Backoff
from northbound.shaping import Shaper
from northbound.status import ConnectorState, ConnectorStatus, Counters
from northbound.store.records import DeadLetter, Entries, Position, Progress, Store
from northbound.topics import TopicMatcher, TopicScheme
from northbound.window import Parcel, Window

log = logging.getLogger(__name__)

#: A connector that has not answered by then is treated as disconnected, whatever it waits for.
OPEN_SECONDS: Final = 90.0
SEND_SECONDS: Final = 120.0
CLOSE_SECONDS: Final = 10.0
#: How often backlog bounds and waiting replays are looked at.
GUARD_SECONDS: Final = 1.0
_REPLAYS: Final = 20
#: With a rate, a batch is at most this share of a second's messages, so that the flow stays even.
_RATE_SHARE: Final = 10


class Worker:
    """Delivers the store's messages to one connector until told to stop."""

    def __init__(
        self, instance: ConnectorInstance, store: Store, scheme: TopicScheme, store_options: StoreOptions
    ) -> None:
        self.name = instance.name
        self.instance = instance
        self._store = store
        self._scheme = scheme
        self._options = instance.options
        self._max_dead = store_options.max_dead_letters
        backlog = instance.options.backlog
        self._max_bytes = int(backlog.maximum_bytes or store_options.max_bytes)
        self._connector: Connector = instance.create()
        self._matcher = TopicMatcher(instance.options.topics)
        self._wake = asyncio.Event()
        self._draining = False
        self._failure: DeliveryError | None = None
        self._sending = 0
        self._send_failed = False
        self._opens = Backoff(instance.options.retry)
        self._sends = Backoff(instance.options.retry)
        self._state: ConnectorState = "connecting"
        self._since = time.time()
        self._error: str | None = None
        self._acknowledged_at: float | None = None
        self._retried = 0
        self._connections = 0
        self._dead = 0
        self._replaying = False
        self._progress: Progress
        self._window: Window

    # from outside

    async def prepare(self) -> None:
        """Find out where it stands. Call before messages are accepted, so that a new connector misses none."""
        progress = await self._store.register(self.name, self._options.start)
        self._progress = progress
        position: Position = progress.cursor if progress.snapshot is None else progress.snapshot
        self._window = Window(self.name, position)
        self._dead = self._store.dead_count(self.name)
        self._apply(self._connector.limits)

    @property
    def blocks(self) -> bool:
        """Whether the sources must wait for this connector (``when_full = "block"``)."""
        backlog = self._options.backlog
        if backlog.when_full != "block":
            return False
        if self._progress.backlog_bytes > self._max_bytes:
            return True
        return self._too_old() is not None

    def drain(self) -> None:
        """Deliver what is in the store, then end."""
        self._draining = True
        if self._state == "online":
            self._become("draining")
        self._wake.set()

    def status(self) -> ConnectorStatus:
        """Return the connector's numbers."""
        progress = self._progress
        position = self._window.settled
        oldest = self._store.oldest(position if isinstance(position, int) else progress.cursor)
        acknowledged = self._acknowledged_at
        return ConnectorStatus(
            name=self.name,
            type=self.instance.plugin.type_name,
            destination=self._connector.destination,
            state=self._state,
            since=int(self._since * 1000),
            error=self._error,
            counters=progress.counters,
            retried=self._retried,
            reconnects=max(0, self._connections - 1),
            inflight=self._window.in_flight,
            backlog=progress.backlog,
            backlog_bytes=progress.backlog_bytes,
            backlog_maximum_bytes=self._max_bytes,
            oldest_age=None if oldest is None else max(0.0, time.time() - oldest / 1000),
            last_acknowledged_age=None if acknowledged is None else time.monotonic() - acknowledged,
            dead_letters=self._dead,
        )

    async def run(self) -> None:
        """Deliver until drained or cancelled."""
        unsubscribe = self._store.subscribe(self._wake.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                guard = tasks.create_task(self._guard(), name=f"{self.name}: guard")
                while not self._drained():
                    error = await self._session()
                    if error is not None:
                        await self._pause(error)
                guard.cancel()
        finally:
            unsubscribe()
            self._settle()
            self._become("stopped", self._error)

    # one connection

    async def _session(self) -> DeliveryError | None:
        """Open, send until the connection is lost or all is drained, close; returns why, ``None`` when drained."""
        if self._state not in ("retrying", "unauthorised"):
            self._become("connecting")
        try:
            error = await self._guarded(self._connector.open(), OPEN_SECONDS, "to connect")
            if error is None:
                self._opens.succeeded()
                self._connections += 1
                self._apply(self._connector.limits)
                self._become("draining" if self._draining else "online")
                error = await self._connected()
            return error
        finally:
            await self._close()

    async def _connected(self) -> DeliveryError | None:
        self._failure = None
        self._send_failed = False
        async with asyncio.TaskGroup() as tasks:
            watcher = tasks.create_task(self._watch(), name=f"{self.name}: connection")
            try:
                while True:
                    error = await self._pump(tasks)
                    if error is None or isinstance(error, NotConnected | Unauthorised):
                        break
                    await self._pause(error)
                    self._failure = None
                    if not self._draining:
                        self._become("online")
            finally:
                watcher.cancel()
        if isinstance(error, NotConnected):
            self._window.hung_up(error, sent=self._send_failed)
            self._settle()
        return error

    async def _pump(self, tasks: asyncio.TaskGroup) -> DeliveryError | None:
        """Send until something fails and nothing is under way any more, or all is drained."""
        while True:
            self._wake.clear()
            self._settle()
            if self._failure is not None:
                if not self._sending:
                    return self._failure
                await self._wake.wait()
            elif self._drained():
                return None
            else:
                pause = self._fill(tasks)
                if not self._wake.is_set():
                    await self._sleep(pause)

    async def _sleep(self, pause: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()

    def _fill(self, tasks: asyncio.TaskGroup) -> float | None:
        """Begin as many sends as may be under way; returns how long the rate makes us wait, ``None`` for no time."""
        while self._sending < (1 if self._window.isolating else self._limits.batches_in_flight):
            pause = self._rate_pause()
            if pause:
                return pause
            parcel = self._window.next_unsent() or self._read()
            if parcel is None:
                break
            batch = self._window.start(parcel)
            self._take_rate(batch)
            self._sending += 1
            tasks.create_task(self._send(parcel, batch), name=f"{self.name}: send")
        return None

    def _read(self) -> Parcel | None:
        """Read on in the store until there is something to send."""
        if self._dead >= self._max_dead:
            self._fail(
                Unavailable(
                    f"{self._dead:,} dead letters wait, the most [store] max_dead_letters allows: "
                    "replay or drop some with 'northbound deadletters'"
                )
            )
            return None
        for _ in range(50):  # then let others have a turn
            entries: Entries = self._store.read(
                self.name, self._window.position, self._batch_messages, self._limits.batch_bytes
            )
            if entries.through == self._window.position:
                return None
            parcel = self._window.add(entries, self._route)
            self._dead += len(parcel.dead)
            if parcel.pending:
                return parcel
            self._settle()
        self._wake.set()
        return None

    def _route(self, message: Message, sequence: int) -> Outgoing | None:
        if not self._everything and not self._matcher.matches(message.topic):
            return None
        return self._shape(message, sequence)

    async def _send(self, parcel: Parcel, batch: Sequence[Outgoing]) -> None:
        error = await self._guarded(self._connector.send(batch), SEND_SECONDS, "for an acknowledgement")
        self._sending -= 1
        if error is None:
            self._window.acknowledged(parcel)
            self._went_well()
        else:
            failures = _by_index(error, len(batch))
            if self._window.failed(parcel, failures):
                self._went_well()
            for failure in failures.values():
                if isinstance(failure, Rejected):
                    self._dead += 1
                else:
                    self._retried += 1
            worst = _worst(failures.values())
            if worst is not None:
                self._send_failed = True
                self._fail(worst)
        self._wake.set()

    def _went_well(self) -> None:
        self._acknowledged_at = time.monotonic()
        if self._sends.failures:
            self._sends.succeeded()
        if self._error is not None and self._state in ("online", "draining"):
            self._error = None

    def _fail(self, error: DeliveryError) -> None:
        if self._failure is None or isinstance(error, NotConnected | Unauthorised):
            self._failure = error

    async def _watch(self) -> None:
        """Notice that the connection is lost even when nothing is being sent."""
        try:
            await self._connector.lost()
        except DeliveryError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - a third party's connector may raise anything
            self._fail(self._defect(error))
        self._wake.set()

    # between connections

    async def _pause(self, error: DeliveryError) -> None:
        """Wait as the policy says, and set aside what it says to give up."""
        backoff = self._sends if self._send_failed else self._opens
        self._send_failed = False
        delay = backoff.failed(error)
        self._become("unauthorised" if isinstance(error, Unauthorised) else "retrying", str(error))
        if backoff is self._sends and self._sends.exhausted:
            count = self._window.give_up(f"given up after {self._sends.failures} tries: {error}")
            self._dead += count
            self._settle()
            self._sends.succeeded()
        log.info("%s: %s; next try in %.1f s", self.name, error, delay)
        await asyncio.sleep(delay)

    def _drained(self) -> bool:
        return self._draining and self._window.empty and self._window.position == self._store.head

    def _settle(self) -> None:
        settlement = self._window.settle()
        if settlement is not None:
            self._store.settle(settlement)

    def _apply(self, limits: Limits) -> None:
        """Take in what the destination accepts, as the connector says and the configuration narrows it."""
        limits = self._options.limits.narrow(limits)
        rate = self._options.rate
        limits = limits.narrowed(messages_per_second=rate.messages, bytes_per_second=rate.bytes)
        self._limits = limits
        self._everything = self._matcher.matches_all
        connector = self._connector
        self._shape = Shaper(
            self._scheme,
            limits,
            topic=self._options.topic or connector.default_topic,
            metadata_topic=self._options.metadata_topic or connector.default_metadata_topic,
            retain=self._options.retain,
            key_prefix=f"{self._store.id}-",
        ).shape
        self._buckets: list[tuple[TokenBucket, bool]] = []
        self._batch_messages = limits.batch_messages
        if limits.messages_per_second is not None:
            share = max(1, int(limits.messages_per_second / _RATE_SHARE))
            self._batch_messages = min(self._batch_messages, share)
            self._buckets.append((TokenBucket(limits.messages_per_second, share), False))
        if limits.bytes_per_second is not None:
            self._buckets.append((TokenBucket(limits.bytes_per_second, limits.bytes_per_second / _RATE_SHARE), True))

    def _rate_pause(self) -> float:
        return max((bucket.wait(time.monotonic()) for bucket, _ in self._buckets), default=0.0)

    def _take_rate(self, batch: Sequence[Outgoing]) -> None:
        for bucket, bytes_count in self._buckets:
            bucket.take(sum(len(m.topic) + len(m.payload) for m in batch) if bytes_count else len(batch))

    async def _guarded(self, call: Awaitable[None], seconds: float, what: str) -> DeliveryError | None:
        """Run a call of the connector within a time; returns its error in our types."""
        try:
            async with asyncio.timeout(seconds):
                await call
        except DeliveryError as error:
            return error
        except TimeoutError:
            return NotConnected(f"waited {seconds:.0f} s {what}")
        except Exception as error:  # noqa: BLE001 - a third party's connector may raise anything
            return self._defect(error)
        return None

    def _defect(self, error: Exception) -> NotConnected:
        log.error("%s: the connector raised what it should not", self.name, exc_info=error)
        return NotConnected(f"the connector failed: {type(error).__name__}: {error}")

    async def _close(self) -> None:
        error = await self._guarded(self._connector.close(), CLOSE_SECONDS, "to close")
        if error is not None:
            log.warning("%s: closing: %s", self.name, error)

    def _become(self, state: ConnectorState, error: str | None = None) -> None:
        if error is not None or state == "stopped":
            self._error = error
        if state != self._state:
            log.info("%s: %s%s", self.name, state, f" ({error})" if error else "")
            self._state = state
            self._since = time.time()

    # backlog bounds and replays

    async def _guard(self) -> None:
        while True:
            await asyncio.sleep(GUARD_SECONDS)
            self._dead = self._store.dead_count(self.name)
            await self._relieve()
            if self._state == "online" and not self._replaying:
                await self._replay(self._store.replays(self.name, _REPLAYS))

    def _too_old(self) -> int | None:
        """Return the time (ms) before which messages are too old, where the oldest one is; else ``None``."""
        maximum = self._options.backlog.maximum_age
        if maximum is None:
            return None
        before = int((time.time() - maximum.total_seconds()) * 1000)
        oldest = self._store.oldest(self._progress.cursor)
        return before if oldest is not None and oldest < before else None

    async def _relieve(self) -> None:
        """Let give way what the configuration says, where the backlog is beyond its bounds."""
        when_full = self._options.backlog.when_full
        before = self._too_old()
        full = self._progress.backlog_bytes > self._max_bytes
        if when_full == "block" or not (full or before is not None):
            return
        if when_full == "latest" or isinstance(self._window.position, str):
            if full or self._progress.latest_through < self._store.head:
                await self._keep_latest(before)
            if self._progress.backlog_bytes <= self._max_bytes * 0.9 or isinstance(self._window.position, str):
                return
            before = None
        self._drop_oldest(before)

    async def _keep_latest(self, before: int | None) -> None:
        through = self._store.head
        if before is not None and self._progress.backlog_bytes <= self._max_bytes:
            through, count, _ = self._store.excess(self.name, self._progress.cursor, 0, before)
            if not count or through <= self._progress.latest_through:
                return
        log.warning("%s: the backlog is full: keeping the newest value of each topic", self.name)
        await self._store.supersede(self.name, through)
        self._window.forget_unsent()
        self._wake.set()

    def _drop_oldest(self, before: int | None) -> None:
        self._window.forget_unsent()
        after = self._window.position
        if isinstance(after, str):
            return
        need = max(0, self._progress.backlog_bytes - int(self._max_bytes * 0.99))
        if self._progress.backlog_bytes <= self._max_bytes and before is not None:
            need = 0
        through, count, size = self._store.excess(self.name, after, need, before)
        if not count:
            return
        counters = Counters(superseded=through - after - count)
        if before is not None:
            counters.dropped_expired = count
        else:
            counters.dropped_queue_full = count
        log.warning("%s: the backlog is beyond its bounds: %d of the oldest messages dropped", self.name, count)
        self._window.pass_over(through, counters, (count, size))
        self._settle()
        self._wake.set()

    async def _replay(self, letters: Sequence[DeadLetter]) -> None:
        """Send dead letters again, one by one: whatever is wrong with one must not touch another."""
        self._replaying = bool(letters)
        try:
            for letter in letters:
                if self._state != "online":
                    break
                await self._replay_one(letter)
        finally:
            self._replaying = False

    async def _replay_one(self, letter: DeadLetter) -> None:
        message = letter.message
        newest = self._store.newest([message.topic]).get(message.topic, 0)
        if letter.replay == 1 and newest > letter.sequence:
            reason = "a newer value of this topic has been sent since; replay with --force to send it all the same"
            await self._store.replayed([], [(letter.id, reason)])
            return
        try:
            outgoing = self._shape(message, letter.sequence)
        except Rejected as refusal:
            await self._store.replayed([], [(letter.id, refusal.reason)])
            return
        error = await self._guarded(self._connector.send([outgoing]), SEND_SECONDS, "for an acknowledgement")
        failure = None if error is None else _by_index(error, 1).get(0)
        if failure is None:
            self._acknowledged_at = time.monotonic()
            await self._store.replayed([letter.id], [])
        elif isinstance(failure, Unavailable) and not isinstance(failure, NotConnected):
            return  # it stays marked and is tried again
        else:
            await self._store.replayed([], [(letter.id, str(failure))])


def _by_index(error: DeliveryError, count: int) -> Mapping[int, DeliveryError]:
    if isinstance(error, PartialDelivery):
        return error.failures
    return dict.fromkeys(range(count), error)


def _worst(errors: Iterable[DeliveryError]) -> DeliveryError | None:
    """Return the error that says most about the connection; ``None`` where only messages were at fault."""
    found: DeliveryError | None = None
    for error in errors:
        if isinstance(error, NotConnected | Unauthorised):
            return error
        if not isinstance(error, Rejected):
            found = error
    return found
