"""The way in: counted, checkpointed, and bounded."""

import asyncio

import pytest
from tests.support.fakes import event
from tests.support.intake import until

from northbound import Source
from northbound.config import SourceOptions, StoreOptions
from northbound.engine import Engine
from northbound.errors import StoreError
from northbound.intake import SourceIntake, SourceRunner
from northbound.loading import SourceInstance
from northbound.registry import Plugin
from northbound.store import SqliteStore
from northbound.store import sqlite as sqlite_store
from northbound.topics import TopicScheme


async def _unblocked() -> None:
    return None


def intake_of(store, unblocked=_unblocked):
    return SourceIntake("src", Engine(TopicScheme(), org="org"), store, unblocked)


@pytest.fixture
async def store(tmp_path):
    store = SqliteStore(StoreOptions(path=tmp_path / "s.db"))
    yield store
    await store.close()


async def test_events_are_counted_and_the_checkpoint_comes_back(store, tmp_path):
    intake = intake_of(store)
    assert intake.checkpoint is None
    ticket = await intake.submit([event(1, 1), "no event", event(2, 2)], checkpoint=b"3")
    assert [position for position, _ in ticket.refused] == [1]
    await ticket.committed()
    await until(lambda: intake.committed == 2)
    assert (intake.received, intake.refused, intake.checkpoint) == (3, 1, b"3")
    assert intake_of(store).checkpoint == b"3"
    intake.refuse("line 7", "not an event")
    assert (intake.refused, intake.last_refusal) == (2, "line 7: not an event")


async def test_a_batch_of_nothing_still_commits_its_checkpoint(store):
    intake = intake_of(store)
    await (await intake.submit([], checkpoint=b"empty")).committed()
    await (await intake.submit(["refused"], checkpoint=b"refused")).committed()
    assert store.checkpoint("src") == b"refused"
    assert store.head == 0


async def test_a_checkpoint_is_bounded(store):
    with pytest.raises(StoreError, match="4096"):
        await intake_of(store).submit([], checkpoint=b"x" * 4097)


async def test_a_full_queue_makes_the_source_wait(store, monkeypatch):
    monkeypatch.setattr(sqlite_store, "_QUEUED_MESSAGES", 10)
    intake = intake_of(store)
    tickets = []
    for n in range(50):
        tickets.append(await intake.submit([event(n, i) for i in range(5)]))
        assert store._queued <= 14
    await asyncio.gather(*(ticket.committed() for ticket in tickets))
    assert store.head == 250


async def test_a_wait_for_the_commit_can_be_cancelled_and_the_batch_is_stored_all_the_same(store):
    intake = intake_of(store)
    ticket = await intake.submit([event(1, 1)])
    waiting = asyncio.ensure_future(ticket.committed())
    await asyncio.sleep(0)
    waiting.cancel()
    await until(lambda: intake.committed == 1)
    await ticket.committed()


async def test_a_closed_store_takes_nothing(tmp_path):
    store = SqliteStore(StoreOptions(path=tmp_path / "s.db"))
    intake = intake_of(store)
    await store.close()
    ticket = await intake.submit([])
    with pytest.raises(StoreError, match="closed"):
        await ticket.committed()


async def test_a_source_that_runs_with_a_problem_says_so(store):
    class Limping(Source):
        problem = None

        async def run(self, intake) -> None:
            self.problem = "PostgreSQL is away"
            await asyncio.Event().wait()

    plugin = Plugin("source", "limping", package="tests", version="0", implementation=Limping)
    runner = SourceRunner(SourceInstance("src", plugin, SourceOptions()), intake_of(store))
    assert runner.status().error is None
    task = asyncio.create_task(runner.run())
    await until(lambda: runner.status().state == "running" and runner.status().error == "PostgreSQL is away")
    task.cancel()
    await asyncio.wait([task])
    assert runner.status().error is None
