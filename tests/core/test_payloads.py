"""Payloads byte for byte: both profiles and each option alone, and what is refused."""

import datetime as dt
import decimal
import enum
import json
import uuid
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from northbound.errors import EventRefused
from northbound.events import LATEST_TIME
from northbound.payloads import PayloadFormat, to_json

TIME = 1700000000999
DOCUMENTED = PayloadFormat()
PLACEOS = PayloadFormat("s", "json", "envelope")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.parametrize(
    ("form", "payload"),
    [
        (DOCUMENTED, rb'{"time":1700000000999,"value":"{\"power\":true}"}'),
        (PLACEOS, b'{"time":1700000000,"value":{"power":true}}'),
        (PayloadFormat(time="s"), rb'{"time":1700000000,"value":"{\"power\":true}"}'),
        (PayloadFormat(value="json"), b'{"time":1700000000999,"value":{"power":true}}'),
        (PayloadFormat(metadata="envelope"), rb'{"time":1700000000999,"value":"{\"power\":true}"}'),
    ],
)
def test_state_payloads(form, payload):
    assert form.state_writer()(to_json({"power": True}), TIME) == payload


@pytest.mark.parametrize(
    ("form", "payload"),
    [
        (DOCUMENTED, b'{"name":"Level 24","id":"z"}'),
        (PLACEOS, b'{"time":1700000000,"value":{"id":"z","name":"Level 24"}}'),
        (PayloadFormat(metadata="envelope"), b'{"time":1700000000999,"value":{"id":"z","name":"Level 24"}}'),
        (PayloadFormat(time="s", value="json"), b'{"name":"Level 24","id":"z"}'),
    ],
)
def test_metadata_payloads(form, payload):
    entity = {"id": "z", "name": "Level 24"}
    assert form.metadata_writer()(to_json(form.in_order(entity)), TIME) == payload
    assert list(entity) == ["id", "name"]  # the caller's object is left as it was


@pytest.mark.parametrize(
    ("value", "raw", "string"),
    [
        ("hello", b'"hello"', rb'"\"hello\""'),
        (None, b"null", b'"null"'),
        (True, b"true", b'"true"'),
        ("", b'""', rb'"\"\""'),
        (0, b"0", b'"0"'),
        (-1.5, b"-1.5", b'"-1.5"'),
        (1.0, b"1.0", b'"1.0"'),
        (10**30, b"1" + b"0" * 30, b'"1' + b"0" * 30 + b'"'),
        ([], b"[]", b'"[]"'),
        ({}, b"{}", b'"{}"'),
        ((1, 2), b"[1,2]", b'"[1,2]"'),
        ("é😀", '"é😀"'.encode(), '"\\"é😀\\""'.encode()),
        ('a"b\\c\n\0', rb'"a\"b\\c\n\u0000"', rb'"\"a\\\"b\\\\c\\n\\u0000\""'),
        ({"b": 1, "a": [None, False]}, b'{"b":1,"a":[null,false]}', rb'"{\"b\":1,\"a\":[null,false]}"'),
    ],
)
def test_values_byte_for_byte(value, raw, string):
    assert PLACEOS.state_writer()(to_json(value), TIME) == b'{"time":1700000000,"value":%b}' % raw
    assert DOCUMENTED.state_writer()(to_json(value), TIME) == b'{"time":1700000000999,"value":%b}' % string


def test_placeos_7_1_case_5_payloads():
    write = PLACEOS.state_writer()
    assert json.loads(write(to_json("hello"), TIME))["value"] == "hello"
    assert json.loads(write(to_json(None), TIME))["value"] is None
    assert json.loads(write(to_json(True), TIME))["value"] is True
    assert json.loads(write(to_json("online"), TIME))["value"] == "online"
    assert json.loads(PLACEOS.metadata_writer()(to_json({"name": "thing"}), TIME))["value"]["name"] == "thing"


def test_placeos_7_2_true_received_at_nine_tenths_of_a_second():
    assert PLACEOS.state_writer()(to_json(True), 1700000000900) == b'{"time":1700000000,"value":true}'


def test_placeos_7_2_null_is_a_value_and_no_tombstone():
    assert PLACEOS.state_writer()(to_json(None), TIME) == b'{"time":1700000000,"value":null}'


@settings(max_examples=examples(100))
@given(json_values, st.integers(0, LATEST_TIME), st.sampled_from([DOCUMENTED, PLACEOS, PayloadFormat(value="json")]))
def test_what_was_written_is_read(value, time, form):
    text = to_json(value)
    read = form.read_state(form.state_writer()(text, time))
    assert read == (value, text, time // 1000 * 1000 if form.time == "s" else time)


@settings(max_examples=examples(100))
@given(st.dictionaries(st.sampled_from(["name", "id", "zones"]), json_values), st.sampled_from([DOCUMENTED, PLACEOS]))
def test_an_entity_that_was_written_is_read(entity, form):
    text = to_json(form.in_order(entity))
    time = 0 if form.metadata == "entity" else TIME // 1000 * 1000
    assert form.read_metadata(form.metadata_writer()(text, TIME)) == (entity, text, time)


@settings(max_examples=examples(150))
@given(json_values, st.integers(0, 2**48))
def test_a_consumer_reads_back_what_went_in(value, time):
    documented = json.loads(DOCUMENTED.state_writer()(to_json(value), time))
    assert list(documented) == ["time", "value"]
    assert documented["time"] == time
    assert json.loads(documented["value"]) == value
    placeos = PLACEOS.state_writer()(to_json(value), time)
    assert json.loads(placeos) == {"time": time // 1000, "value": value}


@settings(max_examples=examples(100))
@given(st.dictionaries(st.sampled_from(["name", "id", "zones", "email"]), json_values))
def test_an_entity_keeps_everything_with_its_name_first(entity):
    written = json.loads(DOCUMENTED.metadata_writer()(to_json(DOCUMENTED.in_order(entity)), TIME))
    assert written == entity
    assert list(written) == [*(["name"] if "name" in entity else []), *(key for key in entity if key != "name")]


class Colour(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    YES = "yes"


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        frozenset(),
        b"bytes",
        bytearray(b"bytes"),
        memoryview(b"bytes"),
        object(),
        int,
        float("nan"),
        float("inf"),
        -float("inf"),
        1j,
        decimal.Decimal("1.5"),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        uuid.UUID(int=1),
        Colour.RED,
        {1: "int key"},
        {None: "none key"},
        {1.5: "float key"},
        {b"x": "bytes key"},
        {("a",): "tuple key"},
        range(3),
        iter([]),
        "\ud800",
        {"\udfff": 1},
    ],
    ids=lambda value: type(value).__name__,  # an address would differ from process to process
)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [1, v], lambda v: {"a": ({"b": v}, None)}])
def test_what_is_not_json_is_refused_with_a_reason(value, wrap):
    with pytest.raises(EventRefused) as caught:
        to_json(wrap(value))
    assert 10 < len(str(caught.value)) < 200


def test_a_reason_does_not_tell_the_value():
    class Secretive:
        def __repr__(self):
            return "CANARY"

    for value in (Secretive(), {Secretive()}, b"CANARY", {b"CANARY": 1}, "CANARY\ud800"):
        with pytest.raises(EventRefused) as caught:
            to_json(value)
        assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Number.ONE, b"1"),
        (Word.YES, b'"yes"'),
        (OrderedDict(b=1, a=2), b'{"b":1,"a":2}'),
        ([None, 1.5], b"[null,1.5]"),
        ({"a": None}, b'{"a":null}'),
        (1e308, b"1e308"),
        (-0.0, b"-0.0"),
    ],
)
def test_what_only_looks_strange_is_taken(value, text):
    assert to_json(value) == text


@pytest.mark.parametrize("depth", [2000, 200_000])
def test_nesting_without_end_is_refused(depth):
    value = []
    for _ in range(depth):
        value = [value]
    with pytest.raises(EventRefused, match="nested too deeply"):
        to_json(value)
    while value:  # let go level by level: the collector would do it too, but later
        value = value.pop()


def test_a_value_that_holds_itself_is_refused():
    cycle: list = [1]
    cycle.append({"again": cycle})
    with pytest.raises(EventRefused, match="nested too deeply"):
        to_json(cycle)
    cycle.insert(0, object())
    with pytest.raises(EventRefused):
        to_json(cycle)


def test_what_is_deep_but_bearable_is_taken():
    value: list = []
    for _ in range(200):
        value = [value]
    assert DOCUMENTED.state_writer()(to_json(value), 0) == b'{"time":0,"value":"%b"}' % (b"[" * 201 + b"]" * 201)


@pytest.mark.parametrize("form", [DOCUMENTED, PLACEOS])
@pytest.mark.parametrize("entity", [["name"], "name", 5, b"name"])
def test_metadata_that_is_no_object_is_refused(form, entity):
    with pytest.raises(EventRefused, match="not an object"):
        form.in_order(entity)


def test_an_empty_entity_is_an_empty_object():
    assert DOCUMENTED.metadata_writer()(to_json(DOCUMENTED.in_order({})), TIME) == b"{}"
    assert PLACEOS.metadata_writer()(to_json(PLACEOS.in_order({})), TIME) == b'{"time":1700000000,"value":{}}'
