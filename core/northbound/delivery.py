"""One worker per connector: read, shape, send, settle, back off. The thinking is in :mod:`northbound.window`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from northbound.backlog import Backlog
from northbound.config import StoreOptions
from northbound.connector import Connector
from northbound.errors import (
    DeliveryError,
    NotConnected,
    PartialDelivery,
    Rejected,
    StoreError,
    Unauthorised,
)
from northbound.limits import Limits
from northbound.loading import ConnectorInstance
from northbound.message import Message, Outgoing
from northbound.privacy.messages import MessagePolicy
from northbound.rate import TokenBucket
from northbound.renewal import Renewal
from northbound.replays import Replays
from northbound.retry import CONNECTS_AT_ONCE, Backoff, Connects
from northbound.shaping import Shaper
from northbound.status import ConnectorState, ConnectorStatus, CredentialStatus
from northbound.store.records import DeadLetter, Entries, Position, Progress, Store
from northbound.topics import TopicMatcher, TopicScheme
from northbound.window import Parcel, Unsent, Window

log = logging.getLogger(__name__)

#: A connector that has not answered by then is treated as disconnected, whatever it waits for.
OPEN_SECONDS: Final = 90.0
SEND_SECONDS: Final = 120.0
CLOSE_SECONDS: Final = 10.0
#: How often backlog bounds and waiting replays are looked at.
GUARD_SECONDS: Final = 1.0
#: When the connection is lost, how long sends that are under way may take to notice it.
LOST_SECONDS: Final = 5.0
#: A connection that lasted so long, or carried something, was a good one: the next is tried at once.
STEADY_SECONDS: Final = 30.0
#: Batches kept behind one that is sent again and again, beside those that may be in flight.
_KEPT: Final = 16
#: With a rate, a batch is at most this share of a second's messages, so that the flow stays even.
_RATE_SHARE: Final = 10


class Worker:
    """Delivers the store's messages to one connector until told to stop."""

    def __init__(
        self,
        instance: ConnectorInstance,
        store: Store,
        scheme: TopicScheme,
        store_options: StoreOptions,
        policy: MessagePolicy | None = None,
    ) -> None:
        self.name = instance.name
        self.instance = instance
        self._store = store
        self._scheme = scheme
        self._policy = policy
        self._options = instance.options
        self._max_dead = store_options.max_dead_letters
        self._max_bytes = int(instance.options.backlog.maximum_bytes or store_options.max_bytes)
        self._connector: Connector = instance.create()
        self._matcher = TopicMatcher(instance.options.topics)
        self._wake = asyncio.Event()
        self._draining = False
        self._failure: DeliveryError | None = None
        self._sending = 0
        self._bounds: set[asyncio.Timeout] = set()
        self._send_failed = False
        self._opens = Backoff(instance.options.retry)
        self._sends = Backoff(instance.options.retry)
        self._connects = Connects(instance.options.retry)
        self._state: ConnectorState = "connecting"
        self._since = time.time()
        self._error: str | None = None
        self._acknowledged_at: float | None = None
        self._retried = 0
        self._connections = 0
        self._dead = 0
        self._replays = Replays(instance.name, store)
        self._renewal = Renewal(self._connector)
        self._renewing = False
        self._stuck: int | None = None
        self._halted = False
        self._progress: Progress
        self._window: Window
        self._backlog: Backlog

    # from outside

    async def prepare(self) -> None:
        """Find out where it stands. Call before messages are accepted, so that a new connector misses none."""
        progress = await self._store.register(self.name, self._options.start)
        self._progress = progress
        self._stand_at(progress.cursor if progress.snapshot is None else progress.snapshot)
        self._dead = self._store.dead_count(self.name)
        self._apply(self._connector.limits)

    def _stand_at(self, position: Position) -> None:
        """Begin with nothing read behind ``position``."""
        self._window = Window(self.name, position)
        bounds = self._options.backlog
        self._backlog = Backlog(bounds, self._max_bytes, self._store, self._progress, self._window, self._relieved)

    @property
    def blocks(self) -> bool:
        """Whether the sources must wait for this connector (``when_full = "block"``)."""
        return self._backlog.blocks

    def protect(self, policy: MessagePolicy | None) -> None:
        """Apply these privacy rules from now on, also to what was read and not yet tried."""
        self._policy = policy
        self._window.forget_unsent()
        self._wake.set()

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
            credentials=[CredentialStatus.of(credential) for credential in self._renewal.credentials],
            gauges=self._gauges(),
        )

    def _gauges(self) -> dict[str, float]:
        try:
            return dict(self._connector.gauges())
        except Exception:  # a third party's connector may raise anything
            log.exception("%s: the connector does not tell its numbers", self.name)
            return {}

    async def run(self) -> None:
        """Deliver until drained or cancelled."""
        unsubscribe = self._store.subscribe(self._wake.set)
        try:
            async with asyncio.TaskGroup() as tasks:
                guard = tasks.create_task(self._guard(), name=f"{self.name}: guard")
                while not self._drained():
                    error = await self._contained_session()
                    if error is not None:
                        await self._pause(error)
                guard.cancel()
                await self._replays.record()
        finally:
            unsubscribe()
            self._settle()
            self._become("stopped", self._error)

    async def _contained_session(self) -> DeliveryError | None:
        """Run one connection; a defect, here or in the connector, must not reach the other destinations."""
        try:
            return await self._session()
        except Exception as error:  # noqa: BLE001, RUF100 - whatever it is, it is this connector's alone
            cause = _cause(error)
            if isinstance(cause, StoreError):
                raise cause from None
            log.exception("%s: delivery failed", self.name)
            # What was under way is read again, from what is settled on.
            self._stand_at(self._window.settled)
            self._sending = 0
            self._replays.active = False
            return NotConnected(f"delivery failed: {type(cause).__name__}: {cause}")

    # one connection

    async def _session(self) -> DeliveryError | None:
        """Open, send until the connection is lost or all is drained, close; returns why, ``None`` when drained."""
        self._failure = None
        wanted, self._renewing = self._renewing, False
        self._renewal.note()
        if self._state not in ("retrying", "unauthorised"):
            self._become("connecting")
        try:
            error = await self._guarded(self._connector.open, OPEN_SECONDS, "to connect")
            if error is None:
                self._connections += 1
                if not wanted:
                    self._connects.made(time.monotonic())
                self._renewal.opened()
                self._apply(self._connector.limits)
                if not self._sends.failures:
                    self._recovered()
                opened = time.monotonic()
                error = await self._connected()
                if time.monotonic() - opened >= STEADY_SECONDS or (self._acknowledged_at or 0.0) > opened:
                    self._opens.succeeded()
            return error
        finally:
            await self._close()

    async def _connected(self) -> DeliveryError | None:
        self._send_failed = False
        async with asyncio.TaskGroup() as tasks:
            watcher = tasks.create_task(self._watch(), name=f"{self.name}: connection")
            try:
                while True:
                    error = await self._pump(tasks)
                    if error is None or isinstance(error, NotConnected | Unauthorised):
                        break
                    await self._pause(error)
                    # What has befallen the connection meanwhile is not forgiven.
                    if not isinstance(self._failure, NotConnected | Unauthorised):
                        self._failure = None
            finally:
                watcher.cancel()
        if isinstance(error, NotConnected):
            self._dead += self._window.hung_up(error, sent=self._send_failed)
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
                if isinstance(self._failure, NotConnected | Unauthorised):
                    await self._abandon()
                else:
                    await self._wake.wait()
            elif self._drained():
                return None
            else:
                if self._window.empty and self._state in ("retrying", "unauthorised") and not self._halted:
                    self._recovered()
                pause = self._fill(tasks)
                if not self._wake.is_set() and self._failure is None:
                    await self._sleep(pause)

    async def _abandon(self) -> None:
        """Give sends on a lost connection a moment to notice; then they have failed, whatever they wait for."""
        until = time.monotonic() + LOST_SECONDS
        while self._sending and (left := until - time.monotonic()) > 0:
            self._wake.clear()
            await self._sleep(left)
        for bound in self._bounds:
            if not bound.expired():
                bound.reschedule(asyncio.get_running_loop().time())
        while self._sending:
            self._wake.clear()
            await self._wake.wait()

    def _recovered(self) -> None:
        self._become("draining" if self._draining else "online")
        self._error = None

    async def _sleep(self, pause: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()

    def _fill(self, tasks: asyncio.TaskGroup) -> float | None:
        """Begin as many sends as may be under way; returns how long the rate makes us wait, ``None`` for no time."""
        while not self._replays.active and self._sending < (1 if self._alone else self._limits.batches_in_flight):
            pause = self._rate_pause()
            if pause:
                return pause
            if self._replays and not self._window.isolating:
                tasks.create_task(self._replay(self._replays.begin()), name=f"{self.name}: replay")
            else:
                parcel = self._window.next_unsent() or self._read()
                if parcel is None:
                    break
                batch = self._window.start(parcel)
                self._take_rate(batch)
                tasks.create_task(self._send(parcel, batch), name=f"{self.name}: send")
            self._sending += 1
        return None

    @property
    def _alone(self) -> bool:
        """Whether what is sent next is sent by itself: a suspect of poison, or a dead letter once more."""
        return bool(self._replays) or self._window.isolating

    def _read(self) -> Parcel | None:
        """Read on in the store until there is something to send."""
        for _ in range(50):  # then let others have a turn
            if self._dead >= self._max_dead:
                self._halted = True
                self._become(
                    "retrying",
                    f"{self._dead:,} dead letters wait, the most [store] max_dead_letters allows: "
                    "replay or drop some with 'northbound deadletters'",
                )
                return None
            if self._window.parcels >= 2 * self._limits.batches_in_flight + _KEPT:
                return None  # one of them is tried again and again; what is behind it waits on the disk
            entries: Entries = self._store.read(
                self.name, self._window.position, self._batch_messages, self._limits.batch_bytes
            )
            if entries.through == self._window.position:
                return None
            if self._policy is not None:
                self._policy.policy.begin(time.time_ns() // 1_000_000)
            parcel = self._window.add(entries, self._route)
            self._dead += len(parcel.dead)
            if parcel.pending:
                return parcel
            self._settle()
        self._wake.set()
        return None

    def _route(self, message: Message, sequence: int) -> Outgoing | Unsent:
        if not self._everything and not self._matcher.matches(message.topic):
            return "filtered"
        protected = self._protected(message)
        return "withheld" if protected is None else self._shape(protected, sequence)

    def _protected(self, message: Message) -> Message | None:
        """Return a message after the privacy rules of this connector; ``None`` where one drops it."""
        return message if self._policy is None else self._policy.apply(message)

    async def _send(self, parcel: Parcel, batch: Sequence[Outgoing]) -> None:
        error = await self._guarded(lambda: self._connector.send(batch), SEND_SECONDS, "for an acknowledgement")
        self._sending -= 1
        if error is None:
            self._window.acknowledged(parcel)
            self._went_well()
            self._settle()
        elif isinstance(error, Rejected):
            self._dead += self._window.refused(parcel, error)
        else:
            self._send_failed = True
            self._take_in(parcel, _by_index(error, len(batch)))
        self._wake.set()

    def _take_in(self, parcel: Parcel, failures: Mapping[int, DeliveryError]) -> None:
        if self._window.failed(parcel, failures):
            self._went_well()
        rejected = sum(isinstance(failure, Rejected) for failure in failures.values())
        self._dead += rejected
        self._retried += len(failures) - rejected
        worst = _worst(failures.values())
        if worst is not None:
            self._fail(worst)

    def _went_well(self) -> None:
        self._acknowledged_at = time.monotonic()
        if self._failure is None and not self._halted and self._window.first_failed is None:
            if self._error is not None or self._state == "retrying":
                self._recovered()
            if self._sends.failures:
                self._sends.succeeded()

    def _fail(self, error: DeliveryError) -> None:
        broken = isinstance(error, NotConnected | Unauthorised)
        if self._failure is None or (broken and not isinstance(self._failure, NotConnected | Unauthorised)):
            self._failure = error
        if broken:
            self._become(_state_of(error), str(error))

    async def _watch(self) -> None:
        """Notice that the connection is lost even when nothing is being sent."""
        error = await self._guarded(self._connector.lost, None, "")
        if not isinstance(error, NotConnected | Unauthorised):
            error = NotConnected("the connection was lost" if error is None else str(error))
        self._fail(error)
        self._wake.set()

    # between connections

    async def _pause(self, error: DeliveryError) -> None:
        """Wait as the policy says, and set aside what it says to give up."""
        if self._renewing:
            return
        backoff = self._sends if self._send_failed else self._opens
        self._send_failed = False
        if backoff is self._sends:
            # The first in line is what keeps failing; another one starts to count anew.
            stuck = self._window.first_failed
            if stuck != self._stuck:
                self._sends.succeeded()
            self._stuck = stuck
        delay, words = backoff.failed(error), str(error)
        if isinstance(error, NotConnected | Unauthorised):
            pause = self._connects.wait(time.monotonic())
            if pause > delay:
                delay = pause
                words += (
                    f"; {CONNECTS_AT_ONCE} connections within a minute have ended, "
                    f"so from now on they are {self._connects.spacing:g} s apart"
                )
        self._become(_state_of(error), words)
        if backoff is self._sends and self._sends.exhausted:
            self._dead += self._window.give_up(f"given up after {self._sends.failures} tries: {error}")
            self._settle()
            self._sends.succeeded()
        log.info("%s: %s (%s); next try in %.1f s", self.name, self._state, words, delay)
        until = time.monotonic() + delay
        while (left := until - time.monotonic()) > 0 and not self._drained():
            if isinstance(self._failure, NotConnected | Unauthorised) and self._failure is not error:
                break  # lost while waiting: the wait for a new connection is another one
            if self._renewing:
                break
            self._wake.clear()
            await self._sleep(left)

    def _renew(self) -> None:
        """Connect anew with credentials that were replaced, once what is under way has been acknowledged."""
        log.info("%s: what it signs in with was replaced: connecting anew", self.name)
        self._renewing = True
        self._opens.succeeded()
        if not isinstance(self._failure, NotConnected | Unauthorised):
            self._failure = NotConnected("what it signs in with was replaced")
        self._wake.set()

    def _drained(self) -> bool:
        return self._draining and self._window.empty and self._window.position == self._store.head

    def _settle(self) -> None:
        settlement = self._window.settle()
        if settlement is not None:
            self._store.settle(settlement)

    def _apply(self, limits: Limits) -> None:
        """Take in what the destination accepts, as the connector says and the configuration narrows it."""
        limits = self._options.limits.narrow(limits)
        self._limits = limits
        self._everything = self._matcher.matches_all
        connector = self._connector
        self._shape = Shaper.of(connector, self._options, self._scheme, limits, f"{self._store.id}-").shape
        self._buckets: list[tuple[TokenBucket, bool]] = []
        self._batch_messages = limits.batch_messages
        rate, lanes = self._options.rate, limits.connections
        messages = _least(limits.messages_per_second and limits.messages_per_second * lanes, rate.messages)
        size = _least(limits.bytes_per_second and limits.bytes_per_second * lanes, rate.bytes)
        if messages is not None:
            share = max(1, int(messages / _RATE_SHARE))
            self._batch_messages = min(self._batch_messages, share)
            self._buckets.append((TokenBucket(messages, share), False))
        if size is not None:
            self._buckets.append((TokenBucket(size, size / _RATE_SHARE), True))

    def _rate_pause(self) -> float:
        return max((bucket.wait(time.monotonic()) for bucket, _ in self._buckets), default=0.0)

    def _take_rate(self, batch: Sequence[Outgoing]) -> None:
        for bucket, bytes_count in self._buckets:
            bucket.take(sum(len(m.topic.encode()) + len(m.payload) for m in batch) if bytes_count else len(batch))

    async def _guarded(
        self, call: Callable[[], Awaitable[None]], seconds: float | None, what: str
    ) -> DeliveryError | None:
        """Run a call of the connector within a time; returns its error in our types."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine
        cancelled = task.cancelling()
        try:
            async with asyncio.timeout(seconds) as bound:
                if seconds is not None:
                    self._bounds.add(bound)
                await call()
        except DeliveryError as error:
            return error
        except TimeoutError as error:
            if not bound.expired():
                return self._defect(error)
            return NotConnected(f"waited {seconds:g} s {what}")
        except asyncio.CancelledError:
            if task.cancelling() > cancelled:
                raise
            return NotConnected("the connector failed: it was cancelled from within")
        except Exception as error:  # noqa: BLE001 - a third party's connector may raise anything
            return self._defect(error)
        finally:
            self._bounds.discard(bound)
        return None

    def _defect(self, error: Exception) -> NotConnected:
        log.error("%s: the connector raised what it should not", self.name, exc_info=error)
        return NotConnected(f"the connector failed: {type(error).__name__}: {error}")

    async def _close(self) -> None:
        error = await self._guarded(self._connector.close, CLOSE_SECONDS, "to close")
        if error is not None:
            log.warning("%s: closing: %s", self.name, error)

    def _become(self, state: ConnectorState, error: str | None = None) -> None:
        if error is not None or state == "stopped":
            self._error = error
        if state != self._state:
            if state not in ("retrying", "unauthorised"):  # said with the wait that follows
                log.info("%s: %s%s", self.name, state, f" ({error})" if error else "")
            self._state = state
            self._since = time.time()

    # backlog bounds and replays

    async def _guard(self) -> None:
        while True:
            await asyncio.sleep(GUARD_SECONDS)
            try:
                await self._look_after()
            except StoreError:
                raise
            except Exception:  # noqa: BLE001, RUF100 - the next turn may do better
                log.exception("%s: looking after the backlog failed", self.name)

    def _relieved(self) -> None:
        self._settle()
        self._wake.set()

    async def _look_after(self) -> None:
        await self._replays.record()
        self._dead = self._store.dead_count(self.name) + self._window.dead
        if self._halted and self._dead < self._max_dead:
            self._halted = False
            self._wake.set()
        if not self._renewing and self._renewal.replaced():
            self._renew()
        await self._backlog.relieve()
        if self._replays.look():
            self._wake.set()

    async def _replay(self, letter: DeadLetter) -> None:
        """Send one dead letter again, by itself: whatever is wrong with it must not touch another message."""
        try:
            self._replays.end(letter, await self._sent_again(letter))
        finally:
            self._replays.active = False
            self._sending -= 1
            self._wake.set()

    async def _sent_again(self, letter: DeadLetter) -> str | None:
        """Send a dead letter; returns why it was not taken, ``None`` where it was."""
        try:
            self._replays.check(letter)
            message = self._protected(letter.message)
            if message is None:
                return "a privacy rule of this connector drops it"
            outgoing = self._shape(message, letter.sequence)
        except Rejected as refusal:
            return refusal.reason
        self._take_rate([outgoing])
        error = await self._guarded(lambda: self._connector.send([outgoing]), SEND_SECONDS, "for an acknowledgement")
        failure = None if error is None else _by_index(error, 1).get(0)
        if failure is None:
            self._went_well()
            return None
        if not isinstance(failure, Rejected):
            self._fail(failure)
        if not isinstance(failure, Rejected | NotConnected):
            self._replays.again(letter)
        return str(failure)


def _least(*bounds: float | None) -> float | None:
    return min((bound for bound in bounds if bound is not None), default=None)


def _state_of(error: DeliveryError) -> ConnectorState:
    return "unauthorised" if isinstance(error, Unauthorised) else "retrying"


def _cause(error: BaseException) -> BaseException:
    """Return what stands behind a group of errors: the store's trouble before anything else."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [_cause(inner) for inner in error.exceptions]
    return next((cause for cause in causes if isinstance(cause, StoreError)), causes[0])


def _by_index(error: DeliveryError, count: int) -> Mapping[int, DeliveryError]:
    if isinstance(error, PartialDelivery):
        if all(0 <= index < count for index in error.failures):
            return error.failures
        # It does not know what it sent, so nothing of it counts as acknowledged.
        error = NotConnected("the connector failed: it named messages that were not in the batch")
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
