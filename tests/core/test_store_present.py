"""The present of a store, read beside it: folded values and the log since, whole while the writer folds in between."""

import asyncio
import random

import pytest
from tests.support.intake import until

from northbound.config import StoreOptions
from northbound.errors import StoreError
from northbound.message import Message
from northbound.store import SqliteStore, present, writer


def message(topic, payload):
    return Message(topic, payload, "state", 1, True)


async def read(path):
    found: dict[str, Message] = {}
    async for messages in present.present(path):
        for one in messages:
            found[one.topic] = one
    return {topic: one.payload for topic, one in found.items() if one.payload}


async def committed(store, messages):
    await asyncio.shield(store.append(messages).committed)


@pytest.mark.parametrize("fold", [0.0, 0.001, 3600.0])
async def test_the_present_is_the_newest_of_each_topic(tmp_path, monkeypatch, fold):
    monkeypatch.setattr(writer, "_FOLD_SECONDS", fold)
    dice = random.Random(7)
    path = tmp_path / "store.db"
    store = SqliteStore(StoreOptions(path=path))
    expected: dict[str, bytes] = {}
    try:
        for turn in range(60):
            batch = [
                message(f"t/{dice.randrange(30)}", dice.choice((b"", b"%d" % turn, b"x")))
                for _ in range(dice.randrange(1, 20))
            ]
            await committed(store, batch)
            expected.update((one.topic, one.payload) for one in batch)
            if turn % 6 == 0:
                assert await read(path) == {topic: payload for topic, payload in expected.items() if payload}
    finally:
        await store.close()
    assert await read(path) == {topic: payload for topic, payload in expected.items() if payload}


async def test_a_fold_in_between_hides_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_FOLD_SECONDS", 3600.0)
    monkeypatch.setattr(present, "_CHUNK", 1)
    path = tmp_path / "store.db"
    store = SqliteStore(StoreOptions(path=path))
    try:
        await committed(store, [message(f"t/{n}", b"1") for n in range(10)])
        reading = present.present(path)
        topics = [(await anext(reading))[0].topic]
        monkeypatch.setattr(writer, "_FOLD_SECONDS", 0.0)
        store._writer._fold_at = 0.0
        await committed(store, [message("t/0", b"2")])
        await until(lambda: store._writer._folded == store.head)
        topics += [one.topic async for messages in reading for one in messages]
        assert sorted(topics) == [f"t/{n}" for n in range(10)]
    finally:
        await store.close()


async def test_listeners_hear_every_batch_once_it_is_on_disk(tmp_path):
    store = SqliteStore(StoreOptions(path=tmp_path / "store.db"))
    heard: list[str] = []
    try:
        stop = store.listen(lambda messages: heard.extend(one.topic for one in messages))
        append = store.append([message("a", b"1"), message("b", b"2")])
        assert heard == []
        await asyncio.shield(append.committed)
        assert heard == ["a", "b"]
        stop()
        await committed(store, [message("c", b"3")])
        assert heard == ["a", "b"]
    finally:
        await store.close()


async def test_where_there_is_no_store_it_says_so(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        await read(tmp_path / "none.db")
