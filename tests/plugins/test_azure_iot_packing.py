"""What is published to an IoT hub, and its inverse: for any address, any payload, alone and in batches."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.core.test_shaping import SCHEME, addresses, plain, topic_of
from tests.support.examples import examples

from northbound import Outgoing, Rejected, Unavailable
from northbound.config import ConnectorOptions as CommonOptions
from northbound.message import Message
from northbound.shaping import Shaper, Template
from northbound.testing.twins import azure_rules
from northbound_azure_iot import AzureIotConnector, ConnectorOptions, read_bag, read_message
from northbound_azure_iot.bag import size_of, write_bag
from northbound_azure_iot.packing import LARGEST_MESSAGE, Packet, TooLarge, pack_each, pack_many

payloads = st.sampled_from([b"", b'{"time":1,"value":"true"}', b"{}", b'"\xc3\xa9"', b"no json", b"\xff\x00", b"null"])
times = st.integers(0, 4_102_444_800_000)


def shaper(**options):
    return Shaper.of(AzureIotConnector, CommonOptions(**options), SCHEME, AzureIotConnector.limits, "a1b2c3d4-")


def shaped(address, payload=b"{}", time=1, sequence=1, *, retain=True, **options):
    return shaper(**options).shape(Message(topic_of(address), payload, "state", time, retain), sequence)


def received(packed):
    """As a consumer gets it from the twin, which checks the bag."""
    found = []
    for packet in packed:
        assert isinstance(packet, Packet)
        properties = azure_rules.decode_bag(packet.bag)
        assert packet.size == azure_rules.message_size(properties, packet.body) <= LARGEST_MESSAGE
        found += read_message(properties, packet.body)
    return found


def told(message):
    return (
        message.topic,
        message.payload,
        message.kind,
        message.time,
        bool(message.properties.get("retain")),
        message.key,
    )


@given(addresses, payloads, times, st.booleans())
def test_a_message_can_be_undone(address, payload, time, retain):
    message = shaped(address, payload, time, retain=retain)
    packed = pack_each([message], [0])
    (back,) = received(packed)
    assert (back.topic, back.payload, back.kind, back.time, back.retain, back.id) == told(message)
    properties = read_bag(packed[0].bag)
    assert {name: properties.get(name) for name in plain(address)} == plain(address)


@settings(max_examples=examples(50))
@given(st.lists(st.tuples(addresses, payloads, times, st.booleans()), min_size=1, max_size=30), st.integers(512, 5000))
def test_a_batch_can_be_undone(rows, most):
    batch = [shaped(a, p, t, n, retain=r) for n, (a, p, t, r) in enumerate(rows)]
    packed = pack_many(batch, range(len(batch)), most)
    back = received(packed)
    assert [(b.topic, b.payload, b.kind, b.time, b.retain, b.id) for b in back] == [told(m) for m in batch]
    assert [index for packet in packed for index in packet.indices] == list(range(len(batch)))
    for packet in packed:
        assert packet.size <= most or len(packet.indices) == 1
        assert json.loads(packet.body)
        properties = read_bag(packet.bag)
        assert properties["batch"] == str(len(packet.indices))
        for name in ("org", "building", "kind"):  # what all of them share can still be routed on
            values = {batch[index].properties.get(name) for index in packet.indices}
            assert properties.get(name) == (values.pop() if len(values) == 1 else None)


@given(addresses)
def test_a_template_is_what_the_topic_property_says(address):
    text = "b/{building}/{org}.{level}.{area}/{system}/{driver}.{module}.{index}.{state}"
    message = shaped(address, topic=text)
    (back,) = received(pack_each([message], [0]))
    names = ("root", "org", "system", "driver", "module", "index", "state", "building", "level", "area")
    assert Template(text, names).inverse(back.topic) == plain(address)


def outgoing(payload=b"{}", **changes):
    fields = {"topic": "t", "payload": payload, "kind": "state", "time": 0, "retain": False, "source_topic": "t",
              "key": "a1b2c3d4-1", "properties": {"topic": "t", "kind": "state"}}  # fmt: skip
    return Outgoing(**(fields | changes))


def test_the_topic_that_is_published():
    (packet,) = pack_each([outgoing(b'{"a":1}', properties={"topic": "a/b", "kind": "state", "s p": "x&y=z+"})], [0])
    assert packet.bag == (
        "$.mid=a1b2c3d4-1&iothub-creation-time-utc=1970-01-01T00%3A00%3A00.000Z&topic=a%2Fb&kind=state"
        "&s%20p=x%26y%3Dz%2B&$.ct=application%2Fjson&$.ce=utf-8"
    )


def test_an_empty_body_is_not_called_json():
    (packet,) = pack_each([outgoing(b"")], [0])
    assert "$.ct" not in read_bag(packet.bag)


def test_values_beyond_ascii_are_marked():
    (packet,) = pack_each([outgoing(properties={"topic": "a/é", "kind": "state", "state": "100%"})], [0])
    properties = azure_rules.decode_bag(packet.bag)
    assert properties["topic"] == "a/%C3%A9"
    assert properties["state"] == "100%25"
    assert properties["encoded"] == "percent"
    (packet,) = pack_each([outgoing(properties={"topic": "a", "kind": "state", "state": "100%"})], [0])
    assert azure_rules.decode_bag(packet.bag)["state"] == "100%"


@pytest.mark.parametrize("pack", [pack_each, lambda batch, indices: pack_many(batch, indices, 4096)])
def test_the_largest_body_that_fits(pack):
    (probe,) = pack([outgoing(b'"' + b"x" * 1000 + b'"')], [0])
    room = LARGEST_MESSAGE - probe.size
    (fits,) = pack([outgoing(b'"' + b"x" * (1000 + room) + b'"')], [0])
    assert fits.size == LARGEST_MESSAGE
    (refused,) = pack([outgoing(b'"' + b"x" * (1001 + room) + b'"')], [0])
    assert isinstance(refused, TooLarge)
    assert "262,145 bytes" in refused.error.reason


def test_properties_that_do_not_fit_into_a_topic():
    (refused,) = pack_each([outgoing(properties={"topic": "/" * 22_000, "kind": "state"})], [0])
    assert isinstance(refused, TooLarge)
    assert "do not fit a topic" in refused.error.reason


def test_what_is_too_large_does_not_take_its_neighbours_with_it():
    batch = [outgoing(b"1"), outgoing(b'"' + b"x" * 300_000 + b'"'), outgoing(b"2")]
    first, second, third = pack_many(batch, range(3), 4096)
    assert (first.indices, second.index, third.indices) == ((0,), 1, (2,))


def test_what_many_share_and_does_not_fit_into_a_topic_is_said_of_each():
    shared = {"topic": "/" * 22_000, "kind": "state"}
    refused = pack_many([outgoing(b"1", properties=shared), outgoing(b"2", properties=shared)], range(2), 200_000)
    assert [one.index for one in refused if isinstance(one, TooLarge)] == [0, 1]


sorts = {
    "small": outgoing(b"1"),
    "metadata": outgoing(b"{}", kind="metadata", properties={"topic": "m", "kind": "metadata"}),
    "two units": outgoing(b'"' + b"x" * 5000 + b'"'),
    "too large": outgoing(b"x" * LARGEST_MESSAGE),
    "too long": outgoing(properties={"topic": "/" * 22_000, "kind": "state"}),
}


@settings(max_examples=examples(60))
@given(
    st.lists(st.sampled_from(sorted(sorts)), max_size=8),
    st.none() | st.integers(1, 8),
    st.sampled_from([None, 512, 4096, LARGEST_MESSAGE]),
)
@example(["small", "small", "too large", "small"], 1, None)
@example(["too long", "too long"], None, LARGEST_MESSAGE)
def test_every_message_is_sent_or_fails_and_never_both(names, budget, most):
    options = ConnectorOptions(
        host="acme.azure-devices.net", device_id="d", symmetric_key="A" * 40, daily_budget=budget, batch=most
    )
    lane = AzureIotConnector(options, name="out")._lanes[0]
    failures = {}
    packets = lane._affordable([sorts[name] for name in names], failures)
    sent = [index for packet in packets for index in packet.indices]
    assert sent == sorted(sent)
    assert sorted([*sent, *failures]) == list(range(len(names)))
    rejected = {names[index] for index, error in failures.items() if isinstance(error, Rejected)}
    assert rejected <= {"too large", "too long"}
    assert "too large" not in names or "too large" in rejected
    postponed = [index for index, error in failures.items() if isinstance(error, Unavailable)]
    assert not postponed or not sent or max(sent) < min(postponed)
    assert budget is None or sum(-(-packet.size // 4096) for packet in packets) <= budget


@given(st.dictionaries(st.text(st.characters(codec="ascii"), min_size=1), st.text(st.characters(codec="ascii"))))
def test_sizes_and_bags_agree_with_the_twin(properties):
    properties = {name: value for name, value in properties.items() if not name.startswith("$.")}
    assert azure_rules.decode_bag(write_bag(properties)) == properties
    assert size_of(properties, b"body") == azure_rules.message_size(properties, b"body")
