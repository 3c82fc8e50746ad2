"""A whole tree beside what is stored: what differs goes in, what is gone is cleared, the rest is left alone."""

from __future__ import annotations

import pytest

from northbound.config import SiteOptions, StoreOptions
from northbound.engine import Engine
from northbound.events import Cleared, Metadata, State
from northbound.intake import SourceIntake
from northbound.message import Address
from northbound.store import SqliteStore

ZONES = ("bld", None, None)


def state(key, value, time=1, *, system="sys-1", org="org"):
    return State(org, ZONES, system, "driver-1", "Mod", 1, key, value, time)


def cleared(key):
    return Cleared("org", ZONES, "sys-1", "driver-1", "Mod", 1, key)


async def _unblocked() -> None:
    return None


@pytest.fixture(params=["documented", "placeos"])
async def site(request, tmp_path):
    """An intake, its store, and how to see which messages were stored since the last look."""
    options = SiteOptions(profile=request.param, hierarchy=("org", "building", "level", "area"))
    store = SqliteStore(StoreOptions(path=tmp_path / "s.db"))
    intake = SourceIntake("src", Engine(options.scheme, options.payloads), store, _unblocked)
    await store.register("out", "now")
    position = 0

    async def news() -> list[tuple[str, bool]]:
        nonlocal position
        await store.flush()
        entries = store.read("out", position, 10_000, 1 << 30)
        position = entries.through
        return [(message.topic.rpartition("/")[2], bool(message.payload)) for message in entries.messages]

    yield intake, news
    await store.close()


def everything(address) -> bool:
    return True


async def test_into_an_empty_store_goes_everything(site):
    intake, news = site
    sync = await intake.synchronise(everything)
    await sync.submit([state("a", 1), state("b", 2), cleared("c"), Metadata("org", "sys-1", {"name": "S"})])
    await (await sync.finish(checkpoint=b"here")).committed()
    assert await news() == [("a", True), ("b", True), ("sys-1", True)]
    assert intake.checkpoint == b"here"


async def test_what_is_stored_already_is_left_alone_whenever_it_was(site):
    intake, news = site
    await intake.submit([state("a", 1), state("b", 2), state("c", 3), Metadata("org", "sys-1", {"name": "S"})])
    await news()
    sync = await intake.synchronise(everything)
    await sync.submit(
        [state("a", 1, time=9_000), state("b", "2"), state("d", 4), Metadata("org", "sys-1", {"name": "S"})]
    )
    await sync.finish()
    assert await news() == [("b", True), ("d", True), ("c", False)]
    assert (intake.received, intake.refused) == (4 + 2 + 1, 0)


async def test_what_changes_back_while_it_goes_on_is_not_taken_for_unchanged(site):
    intake, news = site
    await intake.submit([state("a", 1)])
    await news()
    sync = await intake.synchronise(everything)
    await sync.submit([state("a", 2)])
    await sync.submit([state("a", 1), cleared("a"), cleared("b")])
    await sync.finish()
    assert await news() == [("a", True), ("a", True), ("a", False)]


async def test_only_what_the_source_owns_is_cleared(site):
    intake, news = site
    await intake.submit([state("a", 1), state("b", 2, system="other"), Metadata("org", "zone-1", {})])
    await news()
    sync = await intake.synchronise(lambda a: a.system == "sys-1" if isinstance(a, Address) else a.id == "zone-1")
    await sync.finish()
    assert sorted(await news()) == [("a", False), ("zone-1", False)]


async def test_a_cleared_topic_is_not_cleared_again(site):
    intake, news = site
    await intake.submit([state("a", 1), cleared("a")])
    await news()
    sync = await intake.synchronise(everything)
    await sync.submit([cleared("a")])
    await sync.finish()
    assert await news() == []


async def test_more_than_a_page_of_what_is_gone(site):
    intake, news = site
    await intake.submit([state(f"k{n:04}", n) for n in range(2_500)])
    await news()
    sync = await intake.synchronise(everything)
    await sync.submit([state(f"k{n:04}", n) for n in range(0, 2_500, 2)])
    await sync.finish()
    assert await news() == [(f"k{n:04}", False) for n in range(1, 2_500, 2)]


async def test_a_refused_event_is_reported_and_its_topic_cleared(site):
    intake, news = site
    await intake.submit([state("a", 1)])
    await news()
    sync = await intake.synchronise(everything)
    ticket = await sync.submit([state("a", float("nan")), state("b", 1)])
    assert [position for position, _ in ticket.refused] == [0]
    await sync.finish()
    assert await news() == [("b", True), ("a", False)]


async def test_what_is_said_twice_is_stored_once(site):
    intake, news = site
    sync = await intake.synchronise(everything)
    await sync.submit([state("a", 1), state("a", 1, time=7)])
    await sync.submit([state("a", 1), state("a", 2), state("a", 1)])
    await sync.finish()
    assert await news() == [("a", True)] * 3
