"""Batch of events in, batch of messages out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from northbound.engine import Engine
from northbound.events import LATEST_TIME, Cleared, Metadata, State, event_at
from northbound.message import Address, Message
from northbound.payloads import PayloadFormat
from northbound.topics import TopicScheme

NOW = 1700000000123
SCHEME = TopicScheme()
ENGINE = Engine(SCHEME, org="org-acme")
TOPIC = "placeos/org-acme/state/bld-1/lvl-2/_/sys-7/dep-123/Display/1/power"


def state(value=True, *, org=None, time=None, system="sys-7", zones=("bld-1", "lvl-2", None), index=1):
    return State(org, zones, system, "dep-123", "Display", index, "power", value, time)


def refusal(event, engine=ENGINE):
    messages, refused, _ = engine.process([event], NOW)
    assert messages == []
    ((position, reason),) = refused
    assert position == 0
    assert len(reason) < 250
    return reason


def test_a_state_becomes_a_message():
    messages, refused, _ = ENGINE.process([state({"power": True}, time=5)], NOW)
    assert messages == [Message(TOPIC, rb'{"time":5,"value":"{\"power\":true}"}', "state", 5, True)]
    assert refused == []


def test_a_state_without_a_time_has_the_time_of_its_arrival():
    (message,) = ENGINE.process([state()], NOW).messages
    assert message.time == NOW
    assert message.payload == b'{"time":1700000000123,"value":"true"}'


def test_metadata_becomes_a_retained_message():
    (message,) = ENGINE.process([Metadata(None, "sys-7", {"id": 1, "name": "Boardroom 7"}, 5)], NOW).messages
    assert message == Message("placeos/org-acme/metadata/sys-7", b'{"name":"Boardroom 7","id":1}', "metadata", 5, True)


def test_what_is_gone_is_cleared_by_an_empty_retained_message():
    events = [
        Cleared(None, ("bld-1", "lvl-2", None), "sys-7", "dep-123", "Display", 1, "power"),
        Metadata(None, "x", None),
    ]
    for engine in (ENGINE, Engine(SCHEME, org="org-acme", retain_state=False)):
        assert engine.process(events, NOW).messages == [
            Message(TOPIC, b"", "state", NOW, True),
            Message("placeos/org-acme/metadata/x", b"", "metadata", NOW, True),
        ]


def test_state_is_not_retained_where_that_is_configured():
    engine = Engine(SCHEME, org="org-acme", retain_state=False)
    messages = engine.process([state(), Metadata(None, "x", {})], NOW).messages
    assert [message.retain for message in messages] == [False, True]


def test_an_event_s_own_org_goes_before_the_site_s():
    assert ENGINE.process([state(org="other")], NOW).messages[0].topic.startswith("placeos/other/state/")


@pytest.mark.parametrize("org", [None, ""])
@pytest.mark.parametrize("event", [state(), Metadata(None, "x", {}), Cleared(None, (None,) * 3, "s", "d", "m", 1, "k")])
def test_placeos_7_1_case_3_without_org_nothing_is_published(org, event):
    assert "no org" in refusal(event, Engine(SCHEME, org=org))


def test_placeos_7_1_cases_1_and_5_through_the_whole_engine():
    engine = Engine(
        TopicScheme(hierarchy=("org", "region", "building", "level", "area"), metadata_org="org"),
        PayloadFormat("s", "json", "envelope"),
    )
    zones = (None, "cards", "nek", "2042")
    messages, refused, _ = engine.process(
        [
            State("org-donor", zones, "cs-9445", "12345", "M'Odule", 1, "power", "hello"),
            State("org-donor", zones, "cs-9445", "12345", "M'Odule", 1, "power", None),
            Metadata("org-donor", "zone-1", {"name": "thing"}),
        ],
        1700000000900,
    )
    assert refused == []
    assert [(m.topic, m.payload) for m in messages] == [
        (
            "placeos/org-donor/state/_/cards/nek/2042/cs-9445/12345/M'Odule/1/power",
            b'{"time":1700000000,"value":"hello"}',
        ),
        ("placeos/org-donor/state/_/cards/nek/2042/cs-9445/12345/M'Odule/1/power", b'{"time":1700000000,"value":null}'),
        ("placeos/org/metadata/zone-1", b'{"time":1700000000,"value":{"name":"thing"}}'),
    ]
    assert all(message.retain for message in messages)


def test_placeos_7_1_case_9_indexes_of_resolved_names_are_topics_of_their_own():
    names = [("custom", 1), ("mock", 1), ("custom", 2), ("extra_custom", 1), ("mock", 2)]
    events = [State(None, ("b", "l", "a"), "s", "d", name, index, "k", index) for name, index in names]
    assert [m.topic.split("/", 8)[8] for m in ENGINE.process(events, NOW).messages] == [
        "custom/1/k", "mock/1/k", "custom/2/k", "extra_custom/1/k", "mock/2/k",
    ]  # fmt: skip


def test_placeos_7_2_a_module_in_two_systems_gives_two_topics():
    one, other = ENGINE.process([state(), state(system="sys-8", zones=("bld-2", None, None), index=2)], NOW).messages
    assert one.topic == TOPIC
    assert other.topic == "placeos/org-acme/state/bld-2/_/_/sys-8/dep-123/Display/2/power"


@pytest.mark.parametrize("time", [0, 1, 7258118400000, LATEST_TIME])  # 1970, 2200, the last moment of 9999
def test_times_from_1970_to_9999_are_taken(time):
    assert ENGINE.process([state(time=time)], NOW).messages[0].time == time


@pytest.mark.parametrize(
    "time", [-1, LATEST_TIME + 1, 10**30, pytest.param(10**5000, id="huge"), float("nan"), 1.5, 1e300, True, "now"]
)
@pytest.mark.parametrize("make", [lambda time: state(time=time), lambda time: Metadata(None, "x", {}, time)])
def test_any_other_time_is_refused(time, make):
    assert "time" in refusal(make(time))


@pytest.mark.parametrize(
    "value", [{1, 2}, b"x", object(), float("nan"), {"a": float("-inf")}, {1: 2}, "\ud800", {"a": ["\udfff"]}]
)
def test_values_that_are_not_json_are_refused(value):
    refusal(state(value))
    refusal(Metadata(None, "x", {"a": value}))


@pytest.mark.parametrize(
    "event",
    [
        None,
        5,
        {"kind": "state"},
        Address("o", (None,) * 3, "s", "d", "m", 1, "k"),
        state(org=5),
        state(zones=None),
        state(zones=(1, 2, 3)),
        state(system=5),
        state(system=b"CANARY"),
        state(system=None),
        state(index="CANARY"),
        state(system="\ud800"),
        Metadata(None, 5, {}),
        Metadata(None, "x", ["CANARY"]),
    ],
    ids=repr,
)
def test_a_source_s_mistake_is_a_refusal_and_not_a_crash(event):
    assert "CANARY" not in refusal(event)


def test_a_refused_event_leaves_the_others_in_order_with_their_positions():
    events = [state(0), state(time=-1), state(1), None, state(2), state({1}), state(3)]
    messages, refused, _ = ENGINE.process(events, NOW)
    assert [m.payload[-3:-2] for m in messages] == [b"0", b"1", b"2", b"3"]
    assert [position for position, _ in refused] == [1, 3, 5]
    assert ENGINE.process([], NOW) == ([], [], 0)


@settings(max_examples=examples(100))
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=30))
def test_every_event_is_either_a_message_or_a_refusal(plan):
    events = [state(number, index=1 if good else 0) for good, number in plan]
    messages, refused, _ = ENGINE.process(events, NOW)
    assert [m.payload for m in messages] == [
        b'{"time":1700000000123,"value":"%d"}' % number for good, number in plan if good
    ]
    assert [position for position, _ in refused] == [at for at, (good, _) in enumerate(plan) if not good]


def test_event_at_is_the_inverse_of_parse():
    address = SCHEME.parse(TOPIC)
    assert ENGINE.process([event_at(address, True, 5)], NOW).messages[0].topic == TOPIC
