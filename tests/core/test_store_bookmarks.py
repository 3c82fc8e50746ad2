"""A bookmark is right, or it is not there."""

from __future__ import annotations

import random

import pytest

from northbound.status import Counters
from northbound.store.bookmarks import SLOTS, Bookmarks


def test_a_bookmark_survives_whoever_wrote_it(tmp_path):
    first = Bookmarks(tmp_path / "b", "store-1")
    assert first.take("out") is None
    for cursor in range(1, 50):
        first.write("out", cursor, Counters(acknowledged=cursor))
    again = Bookmarks(tmp_path / "b", "store-1")  # the first was never closed
    found = again.take("out")
    assert found is not None
    assert (found.cursor, found.counters.acknowledged) == (49, 49)


def test_another_stores_bookmarks_are_not_ours(tmp_path):
    first = Bookmarks(tmp_path / "b", "store-1")
    first.take("out")
    first.write("out", 7, Counters())
    assert Bookmarks(tmp_path / "b", "store-2").take("out") is None


def test_a_torn_write_leaves_the_one_before(tmp_path):
    path = tmp_path / "b"
    marks = Bookmarks(path, "s")
    marks.take("out")
    marks.write("out", 1, Counters(acknowledged=1))
    marks.write("out", 2, Counters(acknowledged=2))
    whole = path.read_bytes()
    rng = random.Random(1)
    for _ in range(300):
        torn = bytearray(whole)
        torn[rng.randrange(40)] ^= 1 << rng.randrange(8)  # generation 2 stands in the first half
        path.write_bytes(torn)
        found = Bookmarks(path, "s").take("out")
        assert found is None or found.cursor in (1, 2)
        assert found is not None, "the other half was whole"


@pytest.mark.parametrize("content", [b"", b"\xff" * 100_000, b"\x00" * 10])
def test_whatever_lies_there_is_no_bookmark(tmp_path, content):
    path = tmp_path / "b"
    path.write_bytes(content)
    assert Bookmarks(path, "s").take("out") is None


def test_more_connectors_than_slots_and_a_file_that_cannot_be(tmp_path):
    marks = Bookmarks(tmp_path / "b", "s")
    for number in range(SLOTS + 5):
        marks.take(f"c{number}")
        marks.write(f"c{number}", number + 1, Counters())
    again = Bookmarks(tmp_path / "b", "s")
    found = [again.take(f"c{number}") for number in range(SLOTS + 5)]
    assert [mark.cursor for mark in found if mark] == list(range(1, SLOTS + 1))
    none = Bookmarks(tmp_path / "no" / "folder" / "b", "s")
    assert none.take("out") is None
    none.write("out", 1, Counters())
    none.keep(["out"])


def test_keep_forgets_the_others(tmp_path):
    marks = Bookmarks(tmp_path / "b", "s")
    for name in ("a", "b"):
        marks.take(name)
        marks.write(name, 5, Counters())
    later = Bookmarks(tmp_path / "b", "s")
    later.keep(["b"])
    assert later.take("a") is None
    assert later.take("b") is not None
