"""Workers and the runtime, with scripted connectors and sources and a real store."""

import asyncio
import itertools
import random
import sqlite3
import time
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from tests.support.fakes import Destination, configuration, connector, event, source
from tests.support.intake import until
from tests.support.oracle import check_file

from northbound import delivery, intake, retry, runtime
from northbound.errors import (
    ConfigurationError,
    NotConnected,
    PartialDelivery,
    Rejected,
    StoreError,
    Unauthorised,
    Unavailable,
)
from northbound.events import Cleared
from northbound.runtime import Runtime
from northbound.window import POISON_HANGUPS


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(delivery, "GUARD_SECONDS", 0.02)
    monkeypatch.setattr(delivery, "LOST_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(intake, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(runtime, "STOP_SECONDS", 1.0)


class Feed:
    """A source that hands in what the test says."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue = asyncio.Queue()
        self.accepted: list = []

    async def run(self, intake) -> None:
        while True:
            events, done = await self.queue.get()
            try:
                ticket = await intake.submit(events)
                await ticket.committed()
            except StoreError as error:
                done.set_exception(error)
            else:
                done.set_result(None)

    async def put(self, *events) -> None:
        done = asyncio.get_running_loop().create_future()
        self.queue.put_nowait((list(events), done))
        await done

    async def numbers(self, count, topics=3, begin=0) -> None:
        await self.put(*(event(n % topics, n) for n in range(begin, begin + count)))


class Service:
    def __init__(self, run: Runtime, feed: Feed, task) -> None:
        self.runtime, self.feed, self.task = run, feed, task

    def status(self, name="out"):
        return next(c for c in self.runtime.status().connectors if c.name == name)

    @property
    def store(self):
        return self.runtime._opened


@asynccontextmanager
async def running(folder, *connectors, feed=None, drain="2s", store=None, stop=True):
    feed = feed or Feed()
    config = configuration(folder, connectors=connectors, sources=[source("in", feed.run, finite=False)],
                           drain=drain, store=store)  # fmt: skip
    service = Runtime(config)
    started = asyncio.Event()
    task = asyncio.create_task(service.run(started=started))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task
    try:
        yield Service(service, feed, task)
    finally:
        service.stop()
        await task


def ledger(folder):
    return check_file(folder / "store.db")


async def test_everything_arrives_in_order(tmp_path):
    out = Destination(batches_in_flight=4, batch_messages=7)
    async with running(tmp_path, connector("out", out)) as service:
        await service.feed.numbers(100)
        await until(lambda: len(out.acknowledged) == 100)
        assert out.sequences == list(range(1, 101))
        await until(lambda: service.status().backlog == 0)
        status = service.status()
        assert (status.state, status.error, status.inflight, status.oldest_age) == ("online", None, 0, None)
        assert status.last_acknowledged_age < 5
        assert status.backlog_bytes == 0
        assert service.runtime.status().healthy
    account = ledger(tmp_path).accounts["out"]
    assert account.counters["acknowledged"] == 100
    assert account.cursor == 100
    assert (out.opened, out.closed) == (1, 1)


async def test_a_restart_goes_on_where_it_stood_and_never_reuses_a_sequence(tmp_path):
    out = Destination()
    for round_ in range(3):
        async with running(tmp_path, connector("out", out)) as service:
            await service.feed.numbers(10)
            await until(lambda so_far=10 * (round_ + 1): len(out.acknowledged) == so_far)
            await asyncio.sleep(0.02)
    assert out.sequences == list(range(1, 31))
    assert ledger(tmp_path).accounts["out"].counters["acknowledged"] == 30


def failing(*errors):
    """Return a script that fails once with each of ``errors``."""
    remaining = list(errors)

    def script(*_batch):
        if remaining:
            raise remaining.pop(0)

    return script


FAILURES = [
    Unavailable("try later"),
    Unavailable("slowly", retry_after=0.03),
    NotConnected("gone"),
    KeyError("a defect"),
    TimeoutError("the connector's own"),
    asyncio.CancelledError(),
    PartialDelivery({0: Unavailable("one of them"), 2: NotConnected("and hung up")}),
    PartialDelivery({99: Rejected("never sent")}),
    PartialDelivery({}),
]


@pytest.mark.parametrize("error", FAILURES, ids=repr)
@pytest.mark.parametrize("at_once", [1, 4])
async def test_a_failed_send_is_sent_again(tmp_path, error, at_once):
    out = Destination(batches_in_flight=at_once, batch_messages=5)
    out.on_send = failing(error)
    async with running(tmp_path, connector("out", out)) as service:
        await service.feed.numbers(30, topics=30)
        await until(lambda: {*out.sequences} == {*range(1, 31)} and service.status().backlog == 0)
        await until(lambda: service.status().state == "online")
        assert service.status().error is None
    counters = ledger(tmp_path).accounts["out"].counters
    assert counters["acknowledged"] == 30
    assert counters["dead"] == 0


@pytest.mark.parametrize("error", [e for e in FAILURES if not isinstance(e, PartialDelivery)], ids=repr)
async def test_a_failed_open_is_tried_again(tmp_path, error):
    out = Destination()
    out.on_open = failing(error, error)
    async with running(tmp_path, connector("out", out)) as service:
        await service.feed.numbers(3)
        await until(lambda: out.sequences == [1, 2, 3])
        assert service.status().error is None
    assert out.opened == 3
    assert out.closed == 3


async def test_what_never_returns_is_disconnected(tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "OPEN_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "SEND_SECONDS", 0.05)
    out = Destination()
    stuck = [1, 1]
    out.on_open = lambda: stuck and stuck.pop() and asyncio.sleep(60)
    never = [1]
    out.on_send = lambda batch: never and never.pop() and asyncio.sleep(60)
    out.on_close = lambda: asyncio.sleep(60)
    async with running(tmp_path, connector("out", out)) as service:
        await service.feed.numbers(3)
        await until(lambda: "to connect" in str(service.status().error))
        await until(lambda: "acknowledgement" in str(service.status().error))
        await until(lambda: out.sequences == [1, 2, 3])
    assert ledger(tmp_path).accounts["out"].counters["acknowledged"] == 3


async def test_a_lost_connection_is_said_and_reopened_though_nothing_is_sent(tmp_path):
    out = Destination()
    async with running(tmp_path, connector("out", out, retry={"initial": "100ms", "jitter": 0})) as service:
        await until(lambda: service.status().state == "online")
        out.lose(NotConnected("the wire was cut"))
        await until(lambda: service.status().state == "retrying")
        assert service.status().error == "the wire was cut"
        assert not service.runtime.status().healthy
        await until(lambda: service.status().state == "online")
        assert service.status().error is None
        assert service.status().reconnects == 1


@pytest.mark.parametrize("error", [None, Unavailable("x"), KeyError("x"), asyncio.CancelledError()], ids=repr)
async def test_a_watch_that_ends_in_any_way_is_a_lost_connection(tmp_path, error):
    out = Destination()
    async with running(tmp_path, connector("out", out)) as service:
        await until(lambda: out.opened == 1 and service.status().state == "online")
        out.lost.set_result(None) if error is None else out.lose(error)
        await until(lambda: out.opened == 2 and service.status().state == "online")


async def test_sends_that_do_not_notice_a_lost_connection_are_not_waited_for(tmp_path):
    out = Destination()
    never = [1]
    out.on_send = lambda batch: never and never.pop() and asyncio.sleep(60)
    async with running(tmp_path, connector("out", out)) as service:
        await service.feed.numbers(3)
        await until(lambda: out.calls)
        out.lose(NotConnected("the wire was cut"))
        for n in range(20):  # commits go on, and must not put it off
            await service.feed.numbers(1, begin=3 + n)
            await asyncio.sleep(0.01)
        await until(lambda: len(out.acknowledged) == 23, within=2)


async def test_a_connection_that_is_lost_at_once_each_time_is_tried_slower(tmp_path):
    out = Destination()
    out.on_open = lambda: asyncio.get_running_loop().call_soon(out.lose, NotConnected("client id taken over")) and None
    async with running(tmp_path, connector("out", out, retry={"initial": "20ms", "maximum": "10s", "jitter": 0})):
        await asyncio.sleep(0.4)
    assert out.opened <= 6


async def test_connections_that_carry_something_and_end_again_and_again_are_made_slower(tmp_path):
    """As with a second client of the same id, which always comes back."""
    out = Destination()

    def take_over(batch):
        asyncio.get_running_loop().call_later(0.01, out.lose, NotConnected("session taken over"))

    out.on_send = take_over
    patient = {"initial": "1ms", "maximum": "60s", "jitter": 0}
    async with running(tmp_path, connector("out", out, retry=patient), drain="0s") as service:
        feeding = asyncio.create_task(_endless(service))
        await until(lambda: "apart" in str(service.status().error))
        assert service.status().error == (
            "session taken over; 6 connections within a minute have ended, so from now on they are 10 s apart"
        )
        assert service.status().state == "retrying"
        assert out.opened == 6
        feeding.cancel()


async def _endless(service):
    for n in itertools.count():
        await service.feed.numbers(1, begin=n)
        await asyncio.sleep(0.005)


async def test_refused_credentials_are_tried_slowly_and_said(tmp_path):
    out, other = Destination(), Destination()

    def refuse():
        raise Unauthorised("bad user name or password")

    out.on_open = refuse
    async with running(tmp_path, connector("out", out), connector("other", other), drain="50ms") as service:
        await service.feed.numbers(20)
        await until(lambda: len(other.acknowledged) == 20)
        status = service.status()
        assert (status.state, status.error) == ("unauthorised", "bad user name or password")
        assert status.backlog == 20
        assert status.oldest_age is not None
        assert service.status("other").state == "online"
        await asyncio.sleep(0.1)
        assert out.opened == 1
    assert service.runtime.undelivered == 20


async def test_a_blocked_destination_delays_no_other(tmp_path):
    out, other = Destination(), Destination()
    out.on_send = lambda batch: asyncio.sleep(60)
    async with running(tmp_path, connector("out", out), connector("other", other), drain="50ms") as service:
        for n in range(5):
            await service.feed.numbers(10, begin=n * 10)
        await until(lambda: len(other.acknowledged) == 50)
        assert service.status("other").backlog == 0
        assert service.status().inflight > 0
    account = ledger(tmp_path)
    assert account.accounts["out"].cursor == 0
    assert account.accounts["other"].cursor == 50


async def test_a_broken_worker_does_not_end_the_service(tmp_path, monkeypatch):
    out, other = Destination(), Destination()
    original = delivery.Worker._fill

    def fill(self, tasks):
        if self.name == "out" and self._sending == 0 and broken:
            broken.pop()
            original(self, tasks)
            raise ZeroDivisionError
        return original(self, tasks)

    broken = [1, 1]
    monkeypatch.setattr(delivery.Worker, "_fill", fill)
    async with running(tmp_path, connector("out", out), connector("other", other)) as service:
        await service.feed.numbers(20)
        await until(lambda: {*out.sequences} == {*range(1, 21)} and len(other.acknowledged) == 20)
    assert ledger(tmp_path).accounts["out"].counters["acknowledged"] == 20


async def test_a_rejected_message_of_a_batch_is_set_aside_and_the_others_arrive(tmp_path):
    out = Destination(batch_messages=10)

    def refuse(batch):
        failures = {i: Rejected("too odd") for i, m in enumerate(batch) if b'"5"' in m.payload or b'"13"' in m.payload}
        if failures:
            raise PartialDelivery(failures)

    out.on_send = refuse
    async with running(tmp_path, connector("out", out)) as service:
        await service.feed.numbers(20)
        await until(lambda: service.status().backlog == 0)
        await until(lambda: service.status().dead_letters == 2)
        assert service.status().state == "online"
    account = ledger(tmp_path).accounts["out"]
    assert account.dead == [6, 14]
    assert account.counters["acknowledged"] == 18


@pytest.mark.parametrize("at_once", [1, 3])
async def test_a_batch_refused_as_a_whole_is_sent_one_by_one(tmp_path, at_once):
    out = Destination(batch_messages=10, batches_in_flight=at_once)

    def refuse(batch):
        if any(b'"5"' in m.payload for m in batch):
            raise Rejected("too odd")

    out.on_send = refuse
    async with running(tmp_path, connector("out", out)) as service:
        await service.feed.numbers(40, topics=40)
        await until(lambda: service.status().backlog == 0)
    account = ledger(tmp_path).accounts["out"]
    assert account.dead == [6]
    assert account.counters["acknowledged"] == 39
    highest = {}
    for sequence, topic, _ in out.rows:
        assert sequence > highest.get(topic, 0)
        highest[topic] = sequence


async def test_attempts_make_a_dead_letter_of_what_keeps_failing_though_others_go_on(tmp_path):
    out = Destination(batch_messages=2, batches_in_flight=3)

    def refuse(batch):
        failures = {i: Unavailable("paused key") for i, m in enumerate(batch) if m.source_topic.endswith("/stuck")}
        if failures:
            raise PartialDelivery(failures)

    out.on_send = refuse
    retry = {"initial": "2ms", "maximum": "2ms", "attempts": 3}
    async with running(tmp_path, connector("out", out, retry=retry)) as service:
        await service.feed.put(event("stuck", 1), *(event(n, n) for n in range(30)))
        await until(lambda: service.status().backlog == 0)
        await until(lambda: service.status().state == "online")
    account = ledger(tmp_path).accounts["out"]
    assert account.dead == [1]
    assert account.counters["acknowledged"] == 30
    with sqlite3.connect(tmp_path / "store.db") as db:
        assert db.execute("SELECT reason FROM dead").fetchone()[0] == "given up after 3 tries: paused key"
    db.close()


async def test_give_up_after_a_time(tmp_path):
    out = Destination()

    def refuse(batch):
        raise Unavailable("busy")

    out.on_send = refuse
    retry = {"initial": "5ms", "maximum": "5ms", "give_up_after": "50ms"}
    async with running(tmp_path, connector("out", out, retry=retry)) as service:
        await service.feed.numbers(3)
        await until(lambda: service.status().dead_letters == 3)
    assert len(out.calls) > 3


async def test_what_is_stuck_does_not_fill_the_memory(tmp_path):
    out = Destination(batch_messages=1, batches_in_flight=1)

    def refuse(batch):
        if batch[0].source_topic.endswith("/stuck"):
            raise Unavailable("paused key")

    out.on_send = refuse
    async with running(tmp_path, connector("out", out), drain="10ms") as service:
        worker = service.runtime._workers["out"][0]
        await service.feed.put(event("stuck", 1), *(event(n, n) for n in range(200)))
        await until(lambda: len(out.calls) > 8)
        assert worker._window.parcels <= 2 + delivery._KEPT


async def test_poison_is_set_aside_after_three_hang_ups_and_the_rest_goes_on(tmp_path):
    out = Destination(batch_messages=10, batches_in_flight=2)

    def hang_up(batch):
        if any(b'"7"' in m.payload for m in batch):
            raise NotConnected("the peer hung up")

    out.on_send = hang_up
    async with running(tmp_path, connector("out", out)) as service:
        await service.feed.numbers(40, topics=40)
        await until(lambda: service.status().backlog == 0)
        await until(lambda: service.status().dead_letters == 1)
    account = ledger(tmp_path).accounts["out"]
    assert account.dead == [8]
    assert account.counters["acknowledged"] == 39


@pytest.mark.parametrize(("start", "expected"), [("snapshot", [4, 5, 6, 7]), ("now", [7]), ("beginning", None)])
async def test_where_a_new_connector_begins(tmp_path, start, expected):
    first, out = Destination(), Destination()
    async with running(tmp_path, connector("first", first)) as service:
        await service.feed.numbers(3)
        await service.feed.put(*(event(n, n) for n in range(3)))
        await until(lambda: len(first.acknowledged) == 6)
    held = Destination()
    held.on_send = lambda batch: asyncio.sleep(60)
    async with running(tmp_path, connector("first", first), connector("out", out, start=start)) as service:
        await service.feed.put(event(0, "new"))
        await until(lambda: service.status().backlog == 0 and 7 in out.sequences)
        status = service.status()
        assert status.counters.total == len(out.acknowledged)
    if expected is not None:
        assert sorted(out.sequences) == expected
    ledger(tmp_path)


async def test_the_first_snapshot_goes_on_after_a_restart_and_leaves_out_what_was_cleared(tmp_path):
    first, out = Destination(), Destination(batch_messages=2)
    async with running(tmp_path, connector("first", first)) as service:
        await service.feed.put(*(event(n, n) for n in range(9)))
        await service.feed.put(Cleared("org", (None,) * 3, "sys", "drv", "Mod", 1, "3"))
        await until(lambda: len(first.acknowledged) == 10)

    def stop_after(batch):
        if len(out.acknowledged) >= 4:
            return asyncio.sleep(60)
        return None

    out.on_send = stop_after
    async with running(tmp_path, connector("first", first), connector("out", out), drain="10ms") as service:
        await until(lambda: len(out.acknowledged) == 4)
        await asyncio.sleep(0.05)
    out.on_send = lambda batch: None
    async with running(tmp_path, connector("first", first), connector("out", out)) as service:
        await until(lambda: len(out.acknowledged) == 8)
        await asyncio.sleep(0.05)
    assert sorted(out.sequences) == [1, 2, 3, 5, 6, 7, 8, 9]
    account = ledger(tmp_path).accounts["out"]
    assert account.counters["from_snapshot"] == account.counters["acknowledged"] == 8


FILLER = "x" * 2000


async def _overflow(service, rounds=60, topics=10):
    for n in range(rounds):
        await service.feed.put(*(event(t, f"{n} {FILLER}") for t in range(topics)))


@pytest.mark.parametrize("hold_other", [False, True])
async def test_when_full_latest_leaves_exactly_the_newest_value_of_each_topic(tmp_path, hold_other):
    out, other = Destination(), Destination()
    gate = asyncio.Event()
    out.on_send = lambda batch: gate.wait()
    if hold_other:  # it needs every row: nothing can be compacted
        other.on_send = lambda batch: gate.wait()
    options = {"backlog": {"maximum_bytes": 300_000, "when_full": "latest"}, "limits": {"batch_messages": 5}}
    roomy = {"backlog": {"maximum_bytes": 10**9, "when_full": "block"}}
    async with running(tmp_path, connector("out", out, **options), connector("other", other, **roomy)) as service:
        await _overflow(service)
        await until(lambda: service.status().backlog_bytes <= 300_000)
        assert service.status().counters.dropped_queue_full == 0
        through = service.store._progress["out"].latest_through
        assert through > 100
        gate.set()
        await until(lambda: service.status().backlog == 0 and len(other.acknowledged) == 600)
    got = [s for s in out.sequences if s > 5]
    assert set(got) >= {*range(591, 601)}
    assert set(got) - {*range(591, 601)} <= {s for s in range(6, 601) if s > through - 10}
    assert [s for s in got if s > through] == list(range(through + 1, 601))
    counters = ledger(tmp_path).accounts["out"].counters
    assert counters["superseded"] == 600 - len(out.acknowledged)
    assert counters["superseded"] > 400


async def test_when_full_latest_with_too_many_topics_drops_the_oldest(tmp_path):
    out = Destination()
    gate = asyncio.Event()
    out.on_send = lambda batch: gate.wait()
    options = {"backlog": {"maximum_bytes": 200_000}, "limits": {"batch_messages": 5}}
    async with running(tmp_path, connector("out", out, **options)) as service:
        await _overflow(service, rounds=2, topics=200)
        await until(lambda: service.status().backlog_bytes > 0)
        await asyncio.sleep(0.2)
        gate.set()
        await until(lambda: service.status().backlog == 0)
    assert out.sequences[-1] == 400
    counters = ledger(tmp_path).accounts["out"].counters
    assert counters["dropped_queue_full"] > 80
    assert counters["superseded"] > 100
    assert len(out.acknowledged) < 120


async def test_when_full_oldest_drops_from_the_front_and_counts(tmp_path):
    out = Destination()
    gate = asyncio.Event()
    out.on_send = lambda batch: gate.wait()
    options = {"backlog": {"maximum_bytes": 300_000, "when_full": "oldest"}, "limits": {"batch_messages": 5}}
    async with running(tmp_path, connector("out", out, **options)) as service:
        await _overflow(service)
        await asyncio.sleep(0.1)
        gate.set()
        await until(lambda: service.status().backlog == 0)
        assert out.sequences[:5] == [1, 2, 3, 4, 5]
        rest = out.sequences[5:]
        assert rest == list(range(rest[0], 601))
        assert len(rest) > 100
    counters = ledger(tmp_path).accounts["out"].counters
    assert counters["dropped_queue_full"] == 600 - 5 - len(rest)


async def test_the_bounds_hold_after_a_defect_of_the_worker(tmp_path, monkeypatch):
    out = Destination()
    gate = asyncio.Event()
    out.on_send = lambda batch: gate.wait()
    original, broken = delivery.Worker._fill, [1]

    def fill(self, tasks):
        if broken:
            broken.pop()
            raise ZeroDivisionError
        return original(self, tasks)

    monkeypatch.setattr(delivery.Worker, "_fill", fill)
    options = {"backlog": {"maximum_bytes": 300_000, "when_full": "oldest"}, "limits": {"batch_messages": 5}}
    async with running(tmp_path, connector("out", out, **options)) as service:
        await until(lambda: not broken and out.opened > 1)
        await _overflow(service)
        await asyncio.sleep(0.1)
        gate.set()
        await until(lambda: service.status().backlog == 0)
    counters = ledger(tmp_path).accounts["out"].counters
    assert counters["dropped_queue_full"] > 0
    assert counters["dropped_queue_full"] == 600 - len({*out.sequences})


async def test_when_full_block_makes_the_source_wait_and_loses_nothing(tmp_path):
    out = Destination()
    gate = asyncio.Event()
    out.on_send = lambda batch: gate.wait()
    options = {"backlog": {"maximum_bytes": 300_000, "when_full": "block"}}
    async with running(tmp_path, connector("out", out, **options)) as service:
        filling = asyncio.create_task(_overflow(service))
        await until(lambda: service.status().backlog_bytes > 300_000)
        await asyncio.sleep(0.1)
        assert not filling.done()
        assert service.status().backlog < 200
        gate.set()
        await filling
        await until(lambda: len(out.acknowledged) == 600)
    assert out.sequences == list(range(1, 601))


async def test_maximum_age_drops_what_is_too_old(tmp_path):
    out = Destination()
    gate = asyncio.Event()
    out.on_send = lambda batch: gate.wait()
    options = {"backlog": {"maximum_age": "100ms", "when_full": "oldest"}, "limits": {"batch_messages": 2}}
    async with running(tmp_path, connector("out", out, **options)) as service:
        await service.feed.numbers(10)
        await asyncio.sleep(0.3)
        await service.feed.numbers(1)
        gate.set()
        await until(lambda: service.status().backlog == 0)
    assert out.sequences == [1, 2, 11]
    assert ledger(tmp_path).accounts["out"].counters["dropped_expired"] == 8


async def test_a_rate_is_kept_over_reconnects_and_several_in_flight(tmp_path):
    out = Destination(batches_in_flight=4, messages_per_second=200.0)
    async with running(tmp_path, connector("out", out)) as service:
        begin = time.monotonic()
        await service.feed.numbers(120, topics=120)
        await until(lambda: len(out.acknowledged) == 120)
        assert time.monotonic() - begin > (120 - 2 * 20) / 200


async def test_the_rate_counts_bytes_not_characters(tmp_path, monkeypatch):
    taken = []
    monkeypatch.setattr(delivery.TokenBucket, "take", lambda bucket, amount: taken.append(amount))
    out = Destination()
    async with running(tmp_path, connector("out", out, rate={"bytes": 10_000})) as service:
        await service.feed.put(event("größe", "x"))
        await until(lambda: out.acknowledged)
    assert taken == [len(m.topic.encode()) + len(m.payload) for m in out.acknowledged]
    assert taken != [len(m.topic) + len(m.payload) for m in out.acknowledged]


async def _set_aside(out, service):
    out.on_send = failing(Rejected("no"))
    await service.feed.put(event("a", 1))
    await until(lambda: service.status().dead_letters == 1)


def _mark(folder, value):
    """Ask for a replay, as the command does: of a letter that is on the disk, soon after it was set aside."""
    db = sqlite3.connect(folder / "store.db")
    deadline = time.monotonic() + 10
    while True:
        with db:
            marked = db.execute("UPDATE dead SET replay = ?", (value,)).rowcount
        if marked:
            break
        assert time.monotonic() < deadline, "there is no dead letter"
        time.sleep(0.005)
    db.close()


async def test_a_dead_letter_is_replayed(tmp_path):
    out = Destination()
    async with running(tmp_path, connector("out", out)) as service:
        await _set_aside(out, service)
        _mark(tmp_path, 1)
        await until(lambda: service.status().dead_letters == 0)
    assert out.sequences == [1]
    check_file(tmp_path / "store.db", letters_kept=False)


async def test_a_letter_behind_what_is_under_way_counts_before_it_is_on_the_disk(tmp_path):
    out, gate = Destination(batches_in_flight=2, batch_messages=1), asyncio.Event()

    async def answer(batch):
        if batch[0].key.endswith("-2"):
            raise Rejected("no")
        await gate.wait()

    out.on_send = answer
    async with running(tmp_path, connector("out", out)) as service:
        await service.feed.numbers(2)
        await until(lambda: service.status().dead_letters == 1)
        for _ in range(10):  # through several looks at the store
            await asyncio.sleep(0.02)
            assert service.status().dead_letters == 1
        gate.set()
        await until(lambda: service.status().backlog == 0)
        assert service.status().dead_letters == 1
    assert len(ledger(tmp_path).accounts["out"].dead) == 1


async def test_an_overtaken_dead_letter_is_replayed_only_by_force(tmp_path):
    out = Destination()
    async with running(tmp_path, connector("out", out)) as service:
        await _set_aside(out, service)
        await service.feed.put(event("a", 2))
        _mark(tmp_path, 1)
        await until(lambda: service.store.replays("out", 9) == [] and len(out.acknowledged) == 1)
        assert out.sequences == [2]
        db = sqlite3.connect(tmp_path / "store.db")
        assert "newer value" in db.execute("SELECT reason FROM dead").fetchone()[0]
        db.close()
        _mark(tmp_path, 2)
        await until(lambda: service.status().dead_letters == 0)
    assert out.sequences == [2, 1]


@pytest.mark.parametrize("error", [Rejected("still no"), NotConnected("hung up"), KeyError("defect")], ids=repr)
async def test_a_replay_that_fails_is_kept_with_its_new_reason_and_disturbs_nothing(tmp_path, error):
    out = Destination()
    async with running(tmp_path, connector("out", out)) as service:
        await _set_aside(out, service)
        out.on_send = failing(error)
        _mark(tmp_path, 1)
        await until(lambda: len(out.calls) == 2 and service.store.replays("out", 9) == [])
        await service.feed.put(event("b", 2))
        await until(lambda: out.sequences == [2])
        await until(lambda: service.status().state == "online")
        assert service.status().dead_letters == 1
        db = sqlite3.connect(tmp_path / "store.db")
        reason, tries = db.execute("SELECT reason, tries FROM dead").fetchone()
        db.close()
        assert str(error).strip("'") in reason
        assert tries == 1


async def test_a_replay_is_never_beside_another_call_where_only_one_may_be_under_way(tmp_path):
    out = Destination(batches_in_flight=1, batch_messages=1)
    async with running(tmp_path, connector("out", out)) as service:
        await _set_aside(out, service)
        out.on_send = lambda batch: asyncio.sleep(0.001)
        _mark(tmp_path, 2)
        for n in range(60):
            await service.feed.put(event(n, n))
        await until(lambda: len(out.acknowledged) == 61)
    assert out.most_at_once == 1


async def test_too_many_dead_letters_stop_only_that_connector_until_some_are_gone(tmp_path):
    out, other = Destination(batch_messages=1), Destination()

    def refuse(batch):
        raise Rejected("no")

    out.on_send = refuse
    store = {"max_dead_letters": 5}
    async with running(
        tmp_path, connector("out", out), connector("other", other), store=store, drain="10ms"
    ) as service:
        await service.feed.numbers(20)
        await until(lambda: len(other.acknowledged) == 20)
        await until(lambda: service.status().state == "retrying")
        assert "5 dead letters wait" in service.status().error
        await asyncio.sleep(0.1)
        assert service.status().state == "retrying"
        assert service.status().dead_letters == 5
        out.on_send = lambda batch: None
        _mark(tmp_path, 2)
        await until(lambda: service.status().backlog == 0 and service.status().dead_letters == 0)
        assert (service.status().state, service.status().error) == ("online", None)
    assert {*out.sequences} == {*range(1, 21)}


async def test_drain_delivers_what_is_there(tmp_path):
    out = Destination(batch_messages=5)
    out.on_send = lambda batch: asyncio.sleep(0.01)
    async with running(tmp_path, connector("out", out)) as service:
        await service.feed.numbers(50)
    assert out.sequences == list(range(1, 51))
    assert service.runtime.undelivered == 0


async def test_a_drain_ends_at_its_deadline_and_at_once_where_nothing_waits(tmp_path):
    out = Destination()
    out.on_send = lambda batch: asyncio.sleep(60)
    idle = Destination()

    def refuse():
        raise Unavailable("down", retry_after=60)

    begin = time.monotonic()
    async with running(tmp_path, connector("out", out), drain="100ms") as service:
        await service.feed.numbers(5)
        await until(lambda: out.calls)
    assert service.runtime.undelivered == 5
    assert time.monotonic() - begin < 1.5
    idle.on_open = refuse
    begin = time.monotonic()
    async with running(tmp_path / "idle", connector("idle", idle), drain="30s") as service:
        await until(lambda: service.status("idle").state == "retrying")
    assert time.monotonic() - begin < 1.5


async def test_the_service_can_be_cancelled_during_a_send(tmp_path):
    out = Destination()
    out.on_send = lambda batch: asyncio.sleep(60)
    feed = Feed()
    service = Runtime(
        configuration(tmp_path, connectors=[connector("out", out)], sources=[source("in", feed.run, finite=False)])
    )
    started = asyncio.Event()
    task = asyncio.create_task(service.run(started=started))
    await started.wait()
    await feed.numbers(3)
    await until(lambda: out.calls)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert out.closed == 1
    assert ledger(tmp_path).accounts["out"].waiting == [1, 2, 3]


async def test_a_reload_touches_only_what_changed(tmp_path):
    kept, changed, gone, new = (Destination() for _ in range(4))
    keeping = connector("kept", kept)
    feed, crashes = Feed(), []
    feeding = source("in", feed.run, finite=False)

    async def other_run(intake):
        crashes.append(1)
        await asyncio.sleep(60)

    first = configuration(
        tmp_path, connectors=[keeping, connector("changed", changed), connector("gone", gone)], sources=[feeding]
    )
    service = Runtime(first)
    started = asyncio.Event()
    task = asyncio.create_task(service.run(started=started))
    await started.wait()
    await feed.numbers(5)
    await until(lambda: len(kept.acknowledged) == len(changed.acknowledged) == len(gone.acknowledged) == 5)
    await service.reload(
        configuration(
            tmp_path,
            connectors=[keeping, connector("changed", changed, retain=False), connector("new", new, start="now")],
            sources=[feeding, source("second", other_run, finite=False)],
        )
    )
    await feed.numbers(5, begin=5)
    await until(lambda: len(kept.acknowledged) == len(changed.acknowledged) == 10 and len(new.acknowledged) == 5)
    assert (kept.opened, changed.opened, gone.opened, gone.closed) == (1, 2, 1, 1)
    assert [c.name for c in service.status().connectors] == ["kept", "changed", "new"]
    assert changed.sequences == list(range(1, 11))
    with pytest.raises(ConfigurationError, match="restart"):
        await service.reload(configuration(tmp_path / "elsewhere"))
    service.stop()
    await task
    assert set(ledger(tmp_path).accounts) == {"kept", "changed", "new"}


async def test_a_source_that_crashes_is_started_again(tmp_path):
    runs = []

    async def crash(intake):
        runs.append(1)
        if len(runs) < 3:
            raise [ValueError("a defect"), asyncio.CancelledError()][len(runs) - 1]
        await (await intake.submit([event("a", 1)])).committed()
        await asyncio.sleep(60)

    out = Destination()
    service = Runtime(
        configuration(tmp_path, connectors=[connector("out", out)], sources=[source("crashing", crash, finite=False)])
    )
    task = asyncio.create_task(service.run())
    await until(lambda: out.sequences == [1])
    assert service.status().sources[0].state == "running"
    service.stop()
    await task
    assert len(runs) == 3


async def test_once_ends_when_all_is_read_and_delivered_and_tells_what_failed(tmp_path):
    async def read(intake):
        for n in range(10):
            await intake.submit([event(n, n)], checkpoint=str(n).encode())

    async def fail(intake):
        raise OSError("no such file")

    out = Destination()
    sources = [source("good", read), source("bad", fail)]
    service = Runtime(configuration(tmp_path, connectors=[connector("out", out)], sources=sources))
    await service.run(once=True)
    assert out.sequences == list(range(1, 11))
    assert service.failed_sources == ["bad: no such file"]
    assert ledger(tmp_path).checkpoints["good"] == b"9"
    endless = configuration(tmp_path, sources=[source("endless", read, finite=False)])
    with pytest.raises(ConfigurationError, match="never ends"):
        await Runtime(endless).run(once=True)


async def test_a_store_that_breaks_ends_the_service_with_its_error(tmp_path):
    out = Destination()
    feed = Feed()
    service = Runtime(
        configuration(tmp_path, connectors=[connector("out", out)], sources=[source("in", feed.run, finite=False)])
    )
    started = asyncio.Event()
    task = asyncio.create_task(service.run(started=started))
    await started.wait()
    db = sqlite3.connect(tmp_path / "store.db")
    with db:
        db.execute("DROP TABLE checkpoint")
        db.execute("DROP TABLE log")
    db.close()
    done = asyncio.get_running_loop().create_future()
    feed.queue.put_nowait(([event(1, 1)], done))
    with pytest.raises(StoreError):
        await task
    with pytest.raises(StoreError):
        await done


async def test_random_trouble_loses_nothing_and_never_goes_back(tmp_path, monkeypatch):
    dice = random.Random(7)
    outs = {f"out{n}": Destination(batches_in_flight=n, batch_messages=11) for n in (1, 3, 5)}

    cuts = dict.fromkeys(outs.values(), 0)

    def trouble_for(out):
        def trouble(batch):
            roll = dice.random()
            if roll < 0.1:
                raise Unavailable("busy")
            if roll < 0.15 and cuts[out] < POISON_HANGUPS - 1:  # a third one in a row would make poison of a message
                cuts[out] += 1
                out.lose(NotConnected("cut"))
                raise NotConnected("cut")
            if roll < 0.2:
                raise Unauthorised("expired token")
            if roll < 0.3:
                failed = {i: Unavailable("one") for i in range(len(batch)) if dice.random() < 0.3}
                raise PartialDelivery(failed)
            cuts[out] = 0
            return asyncio.sleep(0.005) if roll < 0.35 else None

        return trouble

    for out in outs.values():
        out.on_send = trouble_for(out)
    monkeypatch.setattr(retry, "UNAUTHORISED_INITIAL", timedelta(milliseconds=1))
    quick = {"initial": "1ms", "maximum": "2ms"}
    async with running(tmp_path, *(connector(n, o, retry=quick) for n, o in outs.items()), drain="20s") as service:
        for n in range(60):
            await service.feed.numbers(25, topics=7, begin=n * 25)
    file = ledger(tmp_path)
    for name, out in outs.items():
        account = file.accounts[name]
        assert account.waiting == []
        assert account.counters["dead"] == 0, account
        highest = {}
        for sequence, topic, _ in out.rows:
            assert sequence > highest.get(topic, 0), name
            highest[topic] = sequence
        assert account.counters["acknowledged"] == len(out.acknowledged)
        assert account.counters["overtaken"] == 1500 - len(out.acknowledged)
