"""A cleared topic leaves no trace in the store, as soon as none is needed."""

from __future__ import annotations

import asyncio
import sqlite3

from northbound.config import StoreOptions
from northbound.message import Message
from northbound.status import Counters
from northbound.store import Settlement, SqliteStore
from northbound.store import writer as writer_module


def message(topic: str, payload: bytes) -> Message:
    return Message(topic, payload, "state", 1, True)


def current(path) -> set[str]:
    with sqlite3.connect(path) as db:
        topics = {row[0] for row in db.execute("SELECT topic FROM current")}
    db.close()
    return topics


async def settled(path, *, dead: bool) -> set[str]:
    store = SqliteStore(StoreOptions(path=path))
    try:
        await store.register("out", "now")
        old = message("t/gone", b"1")
        await store.append([old, message("t/stays", b"1"), message("t/gone", b"")]).committed
        letters = [(1, old, "why")] if dead else []
        store.settle(Settlement("out", 3, Counters(acknowledged=3 - len(letters), dead=len(letters)), letters, 3, 0))
        await store.flush()
        await asyncio.sleep(0.3)
        await store.append([message("t/other", b"1")]).committed
        await asyncio.sleep(0.3)
    finally:
        await store.close()
    return current(path)


async def test_a_cleared_topic_is_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "_FOLD_SECONDS", 0.05)
    assert await settled(tmp_path / "s.db", dead=False) == {"t/stays", "t/other"}


async def test_but_not_while_an_older_value_could_be_replayed(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "_FOLD_SECONDS", 0.05)
    assert await settled(tmp_path / "s.db", dead=True) == {"t/gone", "t/stays", "t/other"}
