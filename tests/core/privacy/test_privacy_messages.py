"""A connector's rules on messages that are already stored."""

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from privacy_rules import EMAIL, NOW, SCHEME, SECRET, Spans, policy, rule, state
from tests.support.examples import examples

from northbound.engine import Engine
from northbound.errors import Rejected
from northbound.events import Cleared, Metadata
from northbound.message import Message
from northbound.payloads import PayloadFormat
from northbound.privacy.keys import Key
from northbound.privacy.messages import MessagePolicy

BOB = "bob@example.com"
HASHED = Key(SECRET).hash(BOB)
FORMATS = [PayloadFormat(*form) for form in itertools.product(("ms", "s"), ("string", "json"), ("entity", "envelope"))]
EVENTS = [
    state({"who": BOB, "n": 1.5, "t": [True, None]}),
    state(f"to {BOB}", state=BOB),
    state(None),
    state("nothing"),
    state({"a": "ü@", "n": 12345678901234567}),
    Metadata(None, "sys-7", {"name": BOB, "id": 7}, NOW),
    Metadata(None, BOB, {"id": 7}, NOW),
    Metadata(None, BOB, None, NOW),
    Cleared(None, ("b", None, None), "s", "d", "m", 1, BOB, NOW),
]


def stored(payloads, events=EVENTS, rules=None):
    return Engine(SCHEME, payloads, org="org-acme", policy=rules).process(events, NOW).messages


@pytest.mark.parametrize("payloads", FORMATS, ids=str)
def test_stored_messages_become_what_the_rules_would_have_made_of_the_events(payloads):
    messages = stored(payloads)
    applied = MessagePolicy(policy(rule(EMAIL)), SCHEME, payloads)
    assert [applied.apply(message) for message in messages] == stored(payloads, rules=policy(rule(EMAIL)))


@pytest.mark.parametrize("payloads", FORMATS, ids=str)
def test_what_the_rules_leave_alone_is_the_same_message(payloads):
    for message in stored(payloads):
        applied = MessagePolicy(policy(rule(EMAIL)), SCHEME, payloads).apply(message)
        if BOB.encode() not in message.payload and BOB not in message.topic:
            assert applied is message
        else:
            assert BOB not in applied.topic + applied.payload.decode()
    nothing = MessagePolicy(policy(rule(EMAIL, states=("other",), kinds=("state",))), SCHEME, payloads)
    assert all(nothing.apply(message) is message for message in stored(payloads))


@pytest.mark.parametrize("payloads", FORMATS, ids=str)
def test_the_time_of_a_message_becomes_coarser_in_its_payload_too(payloads):
    coarse = rule(action="generalise", topics=("#",), time="hour", message_time=True)
    (state_message, metadata) = stored(payloads, [EVENTS[0], EVENTS[5]])
    applied = MessagePolicy(policy(coarse), SCHEME, payloads)
    for message in (state_message, metadata):
        after = applied.apply(message)
        assert after.time == 1_699_999_200_000
        body = json.loads(after.payload)
        if message.kind == "state" or payloads.metadata == "envelope":
            assert body["time"] == (1_699_999_200 if payloads.time == "s" else 1_699_999_200_000)
    (cleared,) = stored(payloads, [EVENTS[-1]])
    assert applied.apply(cleared).payload == b""


def test_a_connector_s_rules_act_behind_the_site_s():
    payloads = PayloadFormat()
    events = [state({"who": BOB, "room": "x"}, state=BOB)]
    (message,) = stored(payloads, events, policy(rule(EMAIL)))
    behind = MessagePolicy(
        policy(rule(action="redact", paths=("$.room",), secret="b"), rule(EMAIL, name="more", secret="b")),
        SCHEME,
        payloads,
    )
    after = behind.apply(message)
    assert after.topic == message.topic
    assert json.loads(json.loads(after.payload)["value"]) == {"who": HASHED, "room": "[redacted]"}


def test_a_message_that_a_rule_drops_is_none():
    payloads = PayloadFormat()
    dropping = MessagePolicy(policy(rule(EMAIL, action="drop")), SCHEME, payloads)
    assert [dropping.apply(message) is None for message in stored(payloads)] == [
        True,
        True,
        False,
        False,
        False,
        True,
        True,
        True,
        True,
    ]
    assert dropping.policy.counts == {"rule": 6}


def test_a_detector_that_raises_rejects_the_message_without_its_words():
    message = stored(PayloadFormat(), [state(BOB)])[0]
    with pytest.raises(Rejected) as caught:
        MessagePolicy(policy(rule(Spans(None), name="mine")), SCHEME, PayloadFormat()).apply(message)
    assert "'mine'" in caught.value.reason
    assert BOB not in caught.value.reason


TOPIC = "placeos/org-acme/state/b/_/_/s/d/m/1/power"


@pytest.mark.parametrize(
    ("topic", "kind", "payload"),
    [
        (TOPIC, "state", b"bob@example.com"),
        (TOPIC, "state", b"\xff\xfe"),
        (TOPIC, "state", b"[]"),
        (TOPIC, "state", b"5"),
        (TOPIC, "state", b"{}"),
        (TOPIC, "state", b'{"time":5}'),
        (TOPIC, "state", b'{"time":5,"value":{"who":"bob@example.com"}}'),
        (TOPIC, "state", b'{"time":5,"value":"bob@example.com"}'),
        (TOPIC, "state", b'{"time":5,"value":5}'),
        (TOPIC, "state", b'{"time":5,"value":null}'),
        (TOPIC, "state", b'{"value":"1"}'),
        (TOPIC, "state", b'{"time":"bob@example.com","value":"1"}'),
        (TOPIC, "state", b'{"time":1e99,"value":"1"}'),
        (TOPIC, "state", b'{"time":1,"value":"1","note":"bob@example.com"}'),
        (TOPIC, "state", b'{"time":1,"bob@example.com":2,"value":"1"}'),
        (TOPIC, "state", b'{"time":5,"value":"[[[' + b"[" * 100_000 + b'"}'),
        ("placeos/org-acme/metadata/x", "metadata", b"bob@example.com"),
        ("placeos/org-acme/metadata/x", "state", b'{"time":5,"value":"1"}'),
        (TOPIC, "metadata", b"{}"),
        ("other/org-acme/metadata/x", "metadata", b"{}"),
        ("bob@example.com", "state", b'{"time":5,"value":"1"}'),
        ("placeos/org-acme/state/b/_/_/s/d/m/01/power", "state", b'{"time":5,"value":"1"}'),
        ("", "state", b""),
        ("placeos/bob%zz@example.com/metadata/x", "metadata", b""),
    ],
)
def test_what_cannot_be_read_is_rejected_without_any_of_it(topic, kind, payload):
    with pytest.raises(Rejected) as caught:
        MessagePolicy(policy(rule(EMAIL)), SCHEME, PayloadFormat()).apply(Message(topic, payload, kind, 5, True))
    assert "bob" not in caught.value.reason
    assert "cannot read" in caught.value.reason


@pytest.mark.parametrize(
    ("kind", "payload", "expected"),
    [
        ("state", rb'{"time":1,"value":"\"bob@example.com\"","value":"1"}', b'{"time":1,"value":"1"}'),
        ("state", rb'{"time":1,"value":"{\"a\":\"bob@example.com\",\"a\":1}"}', rb'{"time":1,"value":"{\"a\":1}"}'),
        ("state", b' {"value": " true ", "time": 1}\n', b'{"time":1,"value":"true"}'),
        ("state", rb'{"time":1,"value":"\"bob@example.com\""}', b'{"time":1,"value":"\\"%b\\""}' % HASHED.encode()),
        ("metadata", b'{"name":"bob@example.com","name":"x"}', b'{"name":"x"}'),
        ("metadata", b'{"b": {"bob@example.com": 1}, "b": 2, "name": "x"}', b'{"b":2,"name":"x"}'),
    ],
)
def test_of_what_a_client_published_nothing_goes_on_that_the_rules_have_not_seen(kind, payload, expected):
    topic = TOPIC if kind == "state" else "placeos/org-acme/metadata/x"
    applied = MessagePolicy(policy(rule(EMAIL)), SCHEME, PayloadFormat())
    assert applied.apply(Message(topic, payload, kind, NOW, True)).payload == expected


def test_the_time_that_a_client_published_becomes_coarser():
    coarse = rule(action="generalise", topics=("#",), time="hour", message_time=True)
    applied = MessagePolicy(policy(coarse), SCHEME, PayloadFormat())
    on_the_hour = Message(TOPIC, b'{"time":1700000000123,"value":"1"}', "state", 1_699_999_200_000, True)
    assert json.loads(applied.apply(on_the_hour).payload)["time"] == 1_699_999_200_000


@settings(max_examples=examples(300))
@given(
    st.binary(max_size=60) | st.text(max_size=40).map(lambda text: json.dumps({"time": 5, "value": text}).encode()),
    st.sampled_from(FORMATS),
    st.sampled_from(["state", "metadata"]),
)
def test_any_bytes_are_read_or_rejected(payload, payloads, kind):
    topic = TOPIC if kind == "state" else "placeos/org-acme/metadata/x"
    applied = MessagePolicy(policy(rule(EMAIL)), SCHEME, payloads)
    try:
        after = applied.apply(Message(topic, payload, kind, 5, True))
    except Rejected:
        return
    assert after is not None
