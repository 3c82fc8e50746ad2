"""Two trees beside each other."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from northbound.comparison import Comparison, Difference, compare

STATE = "placeos/org/state/b/l/_/sys/driver/Mod/1/power"
METADATA = "placeos/org/metadata/sys"


def payload(value, time=1) -> bytes:
    return json.dumps({"time": time, "value": value}).encode()


def kinds(left, right, **how) -> list[str]:
    return [found.kind for found in compare(left, right, **how).differences.values()]


def test_missing_extra_and_differing():
    found = compare(
        {"a": payload(1), "b": payload(1), "c": payload(1)}, {"b": payload(2), "c": payload(1), "d": payload(1)}
    )
    assert found.differences == {
        "a": Difference("missing", "a", payload(1), None),
        "b": Difference("differing", "b", payload(1), payload(2)),
        "d": Difference("extra", "d", None, payload(1)),
    }
    assert found.same == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (payload(True), payload(True, time=9)),
        (payload(True), payload("true")),
        (payload({"a": 1}), payload('{"a": 1}')),
        (payload({"a": 1, "b": 2}), payload({"b": 2, "a": 1})),
        (payload("hdmi"), payload('"hdmi"')),
        (b'{"value":1,"time":2}', b'{"time":1,"value":1}'),
    ],
)
def test_when_and_how_it_is_written_is_no_difference(one, other):
    assert kinds({STATE: one}, {STATE: other}) == []
    assert kinds({STATE: other}, {STATE: one}) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (payload(1), payload(2)),
        (payload("1x"), payload(1)),
        (payload(True), payload(1)),
        (payload({"a": [0]}), payload({"a": [False]})),
        (b"no", b"json"),
        (payload(1), b"\xff"),
    ],
)
def test_another_value_is_a_difference(one, other):
    assert kinds({STATE: one}, {STATE: other}) == ["differing"]
    assert kinds({STATE: one}, {STATE: other}, strict=True) == ["differing"]


def test_a_null_beside_nothing_is_counted_apart():
    found = compare({"a": payload(None)}, {"b": payload(None)})
    assert (found.differences, found.nulls) == ({}, 2)
    assert kinds({"a": payload(None)}, {"b": payload(None)}, strict=True) == ["missing", "extra"]
    assert kinds({"a": payload("null")}, {}) == ["missing"]  # a word is a value
    assert kinds({"a": payload(None)}, {"a": payload(1)}) == ["differing"]


def test_of_metadata_the_name_counts_unless_told_otherwise():
    whole = payload({"name": "Room", "email": "x", "updated_at": 1})
    assert kinds({METADATA: whole}, {METADATA: b'{"name":"Room"}'}) == []
    assert kinds({METADATA: whole}, {METADATA: b'{"name":"Room"}'}, strict=True) == ["differing"]
    assert kinds({METADATA: whole}, {METADATA: b'{"name":"Other"}'}) == ["differing"]


def test_strict_tells_a_string_from_a_value():
    assert kinds({STATE: payload(True)}, {STATE: payload("true")}, strict=True) == ["differing"]
    assert kinds({STATE: payload(True)}, {STATE: payload(True, time=5)}, strict=True) == []


def test_what_changes_in_between_does_not_last():
    before = compare({"a": payload(1), "b": payload(1)}, {"a": payload(2)})
    after = compare({"a": payload(1), "b": payload(1)}, {"a": payload(3)})
    assert [*before.lasting(after).differences] == ["b"]
    assert Comparison({}).lasting(after).differences == {}


@given(
    st.dictionaries(st.sampled_from("abc"), st.binary(max_size=9)),
    st.dictionaries(st.sampled_from("abc"), st.binary(max_size=9)),
)
def test_any_bytes_can_be_compared_either_way(left, right):
    there, back = compare(left, right), compare(right, left)
    assert there.differences.keys() == back.differences.keys()
    assert there.same + there.nulls + len(there.differences) == len(left.keys() | right.keys())
    assert compare(left, left).differences == {}
