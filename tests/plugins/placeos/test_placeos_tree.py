"""The tree alone: what is read laid under what arrives, new places, and statuses that are gone for a while."""

from __future__ import annotations

import pytest

from northbound import Cleared, State
from northbound.directory import Directory, Driver, Module, System, Zone
from northbound_placeos.tree import Tree

ROWS = [Zone("o", ("org",)), System("s", ("o",), ("m",)), Driver("d"), Module("m", "d", "M")]


@pytest.fixture
def tree():
    return furnished()


def furnished(**options) -> Tree:
    made = Tree(Directory(("org", "building")), lambda *_: None, **options)
    made.rows(ROWS)
    return made


def told(events) -> list[tuple]:
    """Return (system, key, value) of states and (system, key) of what is cleared."""
    return [
        (e.system, e.state, e.value) if isinstance(e, State) else (e.system, e.state)
        for e in events
        if isinstance(e, State | Cleared)
    ]


def read(tree: Tree, **values: str):
    assert tree.begin(10) == ["m"]
    return told(tree.values("m", {key.encode(): text.encode() for key, text in values.items()}, 0))


def test_what_arrives_while_it_is_read_lies_over_it(tree):
    tree.begin(10)
    assert tree.changed("m", "a", b"2", 5) == []
    assert tree.changed("m", "b", b"null", 5) == []
    assert tree.changed("m", "c", b"3", 5) == []
    found = {b"a": b"1", b"b": b"1", b"d": b"4"}
    assert told(tree.values("m", found, 0)) == [("s", "a", 2), ("s", "d", 4), ("s", "c", 3)]
    assert tree.complete


def test_what_is_read_again_is_told_only_where_it_differs(tree):
    read(tree, a="1", b="2")
    tree.want_all()
    assert read(tree, a="1", b="3", c="4") == [("s", "b", 3), ("s", "c", 4)]
    tree.want(["m"])
    assert read(tree, b="3") == [("s", "a"), ("s", "c")]


def test_a_change_of_a_module_that_is_only_asked_for_again_goes_through_at_once(tree):
    read(tree, a="1")
    tree.want(["m"])
    assert told(tree.changed("m", "a", b"2", 1)) == [("s", "a", 2)]
    assert read(tree, a="2") == []


def test_a_new_place_begins_with_the_whole_state_and_the_old_one_is_not_told_again(tree):
    read(tree, a="1", b="2")
    assert told(tree.rows([System("t", ("o",), ("m",))])) == []
    assert tree.changed("m", "b", b"3", 1) == []
    assert sorted(read(tree, a="1", b="2")) == [("s", "b", 3), ("t", "a", 1), ("t", "b", 3)]


def test_a_place_that_goes_before_it_was_told_needs_no_clearing(tree):
    read(tree, a="1")
    tree.rows([System("t", ("o",), ("m",))])
    assert told(tree.rows([System("t", ("o",), ())])) == []
    assert told(tree.rows([System("s", ("o",), ())])) == [("s", "a")]
    assert (tree.complete, tree.values_known) == (True, 0)


def test_a_place_left_and_taken_again_is_told_again(tree):
    read(tree, a="1")
    assert told(tree.rows([System("s", ("o",), ())])) == [("s", "a")]
    tree.rows([System("s", ("o",), ("m",))])
    assert read(tree, a="1") == [("s", "a", 1)]


def test_a_status_that_is_gone_for_a_moment():
    tree = furnished(hold=100)
    read(tree, a="1", b="2")
    assert tree.changed("m", "a", b"null", 1000) == []
    assert tree.changed("m", "b", b"null", 1010) == []
    assert tree.next_due(1000) == 100
    assert tree.changed("m", "a", b"1", 1020) == []
    assert tree.next_due(1020) == 90
    assert told(tree.due(1109)) == []
    assert told(tree.due(1110)) == [("s", "b")]
    assert tree.next_due(0) is None


def test_a_clock_that_is_put_back_holds_nothing_for_longer():
    tree = furnished(hold=100)
    read(tree, a="1")
    tree.changed("m", "a", b"null", 1_000_000)
    assert tree.next_due(500) == 100
    assert told(tree.due(600)) == [("s", "a")]


def test_a_status_held_back_when_a_place_is_new():
    """It counts as gone at once; else its return would look like no change, and the new place never get it."""
    tree = furnished(hold=100)
    read(tree, a="1", b="2")
    tree.changed("m", "a", b"null", 1000)
    tree.rows([System("t", ("o",), ("m",))])
    assert ("s", "a") in read(tree, b="2")
    assert sorted(told(tree.changed("m", "a", b"1", 1050))) == [("s", "a", 1), ("t", "a", 1)]
    assert told(tree.due(9999)) == []


def test_a_status_that_comes_due_while_its_module_is_read():
    tree = furnished(hold=100)
    read(tree, a="1")
    tree.changed("m", "a", b"null", 1000)
    tree.want(["m"])
    tree.begin(10)
    assert told(tree.due(2000)) == []
    assert told(tree.values("m", {}, 2000)) == []
    assert told(tree.due(2100)) == [("s", "a")]


def test_what_is_held_back_of_a_module_is_forgotten_with_it_alone():
    tree = furnished(hold=100)
    tree.rows([Module("n", "d", "N"), System("s", ("o",), ("m", "n"))])
    for module in tree.begin(10):
        tree.values(module, {b"a": b"1", b"b": b"2"}, 0)
        tree.changed(module, "a", b"null", 1000)
    tree.rows([System("s", ("o",), ("n",))])
    assert told(tree.due(2000)) == [("s", "a")]
    assert tree.next_due(0) is None


def test_a_value_that_was_refused_is_forgotten_when_it_is_gone():
    refused = []
    tree = Tree(Directory(("org", "building")), lambda *why: refused.append(why))
    tree.rows(ROWS)
    read(tree, a="no json", b="no json", c="no json")
    tree.changed("m", "a", b"no json", 1)
    assert len(refused) == 3  # each told once
    tree.changed("m", "a", b"null", 2)
    tree.changed("m", "b", b"1", 2)
    tree.want(["m"])
    read(tree, b="1")  # c expired in silence
    assert not tree._refused
    tree.changed("m", "a", b"no json", 3)
    assert len(refused) == 4


def test_connections_that_break_while_reading(tree):
    tree.begin(10)
    tree.changed("m", "a", b"7", 1)  # of before the break: what is read after it is newer
    tree.want_all()
    assert read(tree, a="8") == [("s", "a", 8)]


@pytest.mark.parametrize("stopped", ["disconnected", "clear"])
def test_a_stopped_module(stopped):
    tree = furnished(stopped=stopped)
    read(tree, connected="true", a="1")
    tree.rows([Module("m", "d", "M", running=False)])
    found = read(tree, connected="true", a="1")
    assert found == ([("s", "connected", False)] if stopped == "disconnected" else [("s", "connected"), ("s", "a")])
    assert told(tree.changed("m", "connected", b"true", 1)) == []
    expected = [("s", "a", 2)] if stopped == "disconnected" else []
    assert told(tree.changed("m", "a", b"2", 1)) == expected


def test_a_module_that_never_had_a_place_is_read_for_nothing(tree):
    tree.want(["stranger"])
    assert "stranger" in tree.begin(10)
    assert tree.values("stranger", {b"a": b"1"}, 0) == []
    tree.values("m", {}, 0)
    assert tree.complete
