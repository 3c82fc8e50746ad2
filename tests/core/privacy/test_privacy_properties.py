"""What holds for every event: no match is left, twice is as once, and without rules nothing changes."""
# ruff: noqa: E501 - in a table of disguises each is one word

import json
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from privacy_rules import EMAIL, NOW, SCHEME, Pattern, engine, json_of, policy, rule
from tests.support.examples import examples

from northbound.engine import Engine
from northbound.events import Cleared, Metadata, State
from northbound.payloads import PayloadFormat
from northbound.privacy.policy import Policy
from northbound_detectors.ip import Ip, IpOptions

USER = st.text("abcxyz.0-9", min_size=1, max_size=6).map(
    lambda text: f"u{text}u".replace("..", ".x").replace("..", ".")
)
ADDRESS = st.builds(lambda user, host: f"{user}@{host}.example.com", USER, st.sampled_from(["a", "mail", "büro"]))
DISGUISE = st.sampled_from([
    str, str.upper, lambda text: text.replace("@", "%40"), lambda text: quote(text, safe=""), lambda text: text.replace("@", "\uff20"),
    lambda text: text.replace("@", "&#64;"), lambda text: text.replace("@", r"\u0040"), lambda text: text.replace("@", "\u200b@"),
    lambda text: json.dumps({"mail": text}), lambda text: json.dumps([json.dumps({"a": [text]})]), json.dumps,
])  # fmt: skip
FILLER = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="@"), max_size=8)
DISGUISED = st.tuples(DISGUISE, ADDRESS).map(lambda pair: pair[0](pair[1]))
AROUND = st.builds(lambda before, found, after: f"{before} {found} {after}", FILLER, DISGUISED, FILLER)
IPS = st.ip_addresses(v=6).map(str) | st.sampled_from(["2001:db8::1", "fe80::1:2", "x 2001:db8::12 y", "192.0.2.17"])
TEXT = FILLER | DISGUISED | AROUND | IPS
NUMBER = st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9).filter(lambda value: value == 0 or abs(value) > 1e-9)
VALUE = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
LEVEL = TEXT.filter(lambda text: text not in ("", "_"))
ZONES = st.tuples(*[st.none() | LEVEL] * 3)
PLACE = st.tuples(LEVEL, ZONES, LEVEL, LEVEL, LEVEL, st.integers(1, 99), LEVEL)
TIME = st.none() | st.integers(0, 2**41)
EVENT = st.one_of(
    st.builds(lambda place, value, time: State(*place, value, time), PLACE, VALUE, TIME),
    st.builds(lambda place, time: Cleared(*place, time), PLACE, TIME),
    st.builds(Metadata, LEVEL, LEVEL, st.none() | st.dictionaries(TEXT, VALUE, max_size=3), TIME),
)

IP = Ip(IpOptions(), name="ip")
BADGE = Pattern(r"badge-\d+", "badge", literals=("badge",))
POLICIES = {
    "hash": lambda: policy(rule(EMAIL)),
    "hash with a prefix": lambda: policy(rule(EMAIL, length=8, prefix="user:")),
    "hash in an overlap": lambda: policy(rule(EMAIL, previous="old", until=NOW * 2)),
    "mask": lambda: policy(rule(EMAIL, action="mask")),
    "mask keeping": lambda: policy(rule(EMAIL, action="mask", keep_first=2)),
    "mask addresses of hosts": lambda: policy(rule(EMAIL, IP, action="mask", keep_last=4)),
    "mask on both sides": lambda: policy(
        rule(EMAIL, IP, action="mask", keep_first=5, keep_last=4), rule(IP, name="rest")
    ),
    "hash as PlaceOS": lambda: policy(rule(EMAIL, format="placeos")),
    "redact": lambda: policy(rule(EMAIL, action="redact")),
    "redact the value": lambda: policy(rule(EMAIL, action="redact", scope="value")),
    "redact to null": lambda: policy(rule(EMAIL, action="redact", scope="value", null=True)),
    "redact the key": lambda: policy(rule(EMAIL, action="redact", scope="key")),
    "generalise": lambda: policy(rule(EMAIL), rule(action="generalise", name="coarse", paths=("$",), round=10)),
    "several": lambda: policy(
        rule(BADGE, action="allow", name="badges"),
        rule(EMAIL, name="first", paths=("$..mail",)),
        rule(EMAIL, action="mask", name="topics", levels=("state", "id")),
        rule(EMAIL, BADGE, action="redact", name="rest"),
        rule(action="generalise", name="coarse", states=("*",), buckets=(0, 5, 50)),
    ),
}


def parts(message):
    """Return a message's levels and value."""
    value = json.loads(message.payload) if message.payload else None
    if message.kind == "state" and value is not None:
        value = json.loads(value["value"])
    return SCHEME.parse(message.topic), value


def again(message):
    """Return the event that says what ``message`` says."""
    address, value = parts(message)
    if message.kind == "metadata":
        return Metadata(address.org, address.id, value, message.time)
    place = (address.org, address.zones, address.system, address.driver, address.module, address.index, address.state)
    return State(*place, value, message.time) if message.payload else Cleared(*place, message.time)


def found_in(message):
    """Give the addresses that the detector finds in a message, itself reading what is written plainly."""
    address, value = parts(message)
    levels = [message.kind == "metadata" and address.id, getattr(address, "state", None), address.org]
    texts = [text for text in levels if text]
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            texts.append(item)
        elif isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            pending += item
    return [text[found.start : found.end] for text in texts for found in EMAIL.find(text, "")]


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=examples(80), suppress_health_check=[HealthCheck.too_slow])
@given(events=st.lists(EVENT, min_size=1, max_size=4))
def test_no_address_is_left_and_twice_is_as_once(name, events):
    chosen = POLICIES[name]()
    once = Engine(SCHEME, org="o", policy=chosen).process(events, NOW)
    for _, reason in once.refused:
        assert "example" not in reason
    for message in once.messages:
        assert SCHEME.parse(message.topic) is not None
        assert found_in(message) == []
        twice = Engine(SCHEME, org="o", policy=POLICIES[name]()).process([again(message)], NOW)
        assert twice.refused == []
        assert (twice.messages[-1].topic, parts(twice.messages[-1])[1]) == (message.topic, parts(message)[1])


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=examples(30))
@given(event=EVENT)
def test_equal_events_give_equal_messages_in_every_service_that_has_the_secret(name, event):
    first = Engine(SCHEME, org="o", policy=POLICIES[name]()).process([event], NOW)
    chosen = POLICIES[name]()
    service = Engine(SCHEME, org="o", policy=chosen)
    service.process([event], NOW)
    second = service.process([event], NOW)
    assert first.messages[-1:] == second.messages[-1:]
    assert first.refused == second.refused


@settings(max_examples=examples(200))
@given(event=EVENT, address=ADDRESS)
def test_what_is_hashed_is_nowhere_in_the_output_and_differs_across_secrets(event, address):
    value = {"a": address, "b": [json.dumps({"c": address})], address: 1}
    one, other = (
        engine(rule(EMAIL, secret=secret)).process([State("o", (None,) * 3, "s", "d", "m", 1, address, value)], NOW)
        for secret in ("one", "other")
    )
    for done in (one, other):
        (message,) = done.messages
        assert address.casefold() not in message.topic.casefold()
        assert address.casefold().encode() not in message.payload.lower()
    assert one.messages[0].topic != other.messages[0].topic
    assert one.messages[0].payload != other.messages[0].payload


FORMATS = st.builds(
    PayloadFormat,
    st.sampled_from(["ms", "s"]),
    st.sampled_from(["string", "json"]),
    st.sampled_from(["entity", "envelope"]),
)


@settings(max_examples=examples(300))
@given(events=st.lists(EVENT, max_size=5), payloads=FORMATS)
def test_without_rules_every_byte_is_as_it_was(events, payloads):
    bare = Engine(SCHEME, payloads, org="o")
    ruled = Engine(SCHEME, payloads, org="o", policy=Policy([], SCHEME))
    assert ruled.process(events, NOW) == bare.process(events, NOW)


@settings(max_examples=examples(200))
@given(events=st.lists(EVENT, max_size=5))
def test_rules_that_find_nothing_change_no_byte(events):
    nothing = policy(
        rule(Pattern("no such text \\d{30}", "nothing")),
        rule(Pattern("nor\\d{30}", "nor", numbers=True), action="drop", name="drop"),
    )
    ruled = Engine(SCHEME, org="o", policy=nothing)
    assert ruled.process(events, NOW) == Engine(SCHEME, org="o").process(events, NOW)
    assert nothing.take_acts() == []


@settings(max_examples=examples(200))
@given(event=EVENT)
def test_acts_and_counts_agree_with_what_happened(event):
    chosen = POLICIES["redact"]()
    done = Engine(SCHEME, org="o", policy=chosen).process([event], NOW)
    acts = chosen.take_acts()
    assert sum(act.count for act in acts) == chosen.counts["rule"]
    bare = Engine(SCHEME, org="o").process([event], NOW)
    assume(not done.refused)
    assert bool(acts) == (done.messages != bare.messages)
    assert all(act.topic == done.messages[0].topic for act in acts)


CANARY = "canary-7f3a@secret.example.com"
BROKEN = st.one_of(
    st.sampled_from([CANARY, CANARY.encode(), b"\xff", [CANARY], {CANARY}, object(), float("nan"), float("inf"), 10**400, -1, 0, True, {CANARY: {1: CANARY}}, {CANARY: b"x"}, f"{CANARY}\ud800", ("x", CANARY), Exception(CANARY), 1.5, "", CANARY * 3000])
)  # fmt: skip


@settings(max_examples=examples(400))
@given(
    st.lists(
        st.one_of(BROKEN, st.just("a"), st.just((CANARY,) * 3), st.just((None, CANARY, None)), st.just(1)),
        min_size=9,
        max_size=9,
    ),
    st.sampled_from(["state", "cleared", "metadata", "other"]),
)
def test_no_reason_of_a_refusal_holds_any_of_the_event(parts, kind):
    event = {
        "state": lambda: State(*parts),
        "cleared": lambda: Cleared(*parts[:7], parts[8]),
        "metadata": lambda: Metadata(*parts[:4]),
        "other": lambda: parts[0],
    }[kind]()
    chosen = policy(rule(EMAIL), rule(Pattern(r"canary-\w+", "canary"), action="redact", name="second"))
    done = Engine(SCHEME, policy=chosen).process([event], NOW)
    assert len(done.messages) + len(done.refused) + done.dropped >= 1
    for _, reason in done.refused:
        assert "canary" not in reason
        assert "secret.example" not in reason
        assert len(reason) < 300
    for message in done.messages:
        assert "canary" not in message.topic
        assert b"canary" not in message.payload
    for act in chosen.take_acts():
        assert "canary" not in json_of({"topic": act.topic, "rule": act.rule})
