"""The present: what is kept, what a new subscriber is given of it, what ``$SYS`` says."""

import random
from itertools import islice
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.broker import Rules, identity
from tests.support.examples import examples
from tests.support.peers import Site, message

from northbound import mqtt as m
from northbound.api import retained
from northbound.api.retained import Retained
from northbound.topics import TopicMatcher

VERSIONS = (3, 4, 5)
LEVELS = st.sampled_from(["a", "b", "", "$s", "c"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]),
    st.lists(st.sampled_from(["a", "b", "", "$s", "+"]), min_size=1, max_size=4),
    st.sampled_from([[], ["#"]]),
).filter(bool) | st.just("#")


@given(st.lists(st.tuples(TOPICS, st.sampled_from([b"", b"1", b"2"])), max_size=20), FILTERS)
@settings(max_examples=examples(400))
def test_a_filter_means_what_it_matches(changes, text):
    tree, expected = Retained(), {}
    for topic, payload in changes:
        tree.keep(message(topic, payload))
        if payload:
            expected[topic] = payload
        else:
            expected.pop(topic, None)
    matcher = TopicMatcher([text])
    found = [(item.topic, item.payload) for items in tree.match(text) for item in items]
    assert sorted(found) == sorted((t, p) for t, p in expected.items() if matcher.matches(t))
    for topic in list(expected):
        tree.clear(topic)
    assert len(tree) == 0
    assert not tree._root.children


@given(
    st.sets(TOPICS, max_size=12),
    st.lists(st.tuples(TOPICS, st.sampled_from([b"", b"1"])), max_size=12),
    FILTERS,
    st.integers(1, 3),
)
@settings(max_examples=examples(400))
def test_the_tree_may_change_while_it_is_searched(before, changes, text, step):
    """What is there all the time is found once, and nothing that never was; the rest may be."""
    tree, always, ever = Retained(), set(before), set(before)
    for topic in before:
        tree.keep(message(topic))
    waiting, found = iter(changes), []
    with patch.object(retained, "_STEP", step):
        for topics, _ in tree.topics(text):
            found += topics
            for topic, payload in islice(waiting, 1):
                tree.keep(message(topic, payload))
                ever.add(topic)
                if not payload:
                    always.discard(topic)
    matches = TopicMatcher([text]).matches
    assert len(found) == len(set(found))
    assert {topic for topic in always if matches(topic)} <= set(found) <= {topic for topic in ever if matches(topic)}


def test_one_turn_looks_at_a_bounded_number_of_topics():
    """Somebody may see one of many: nobody else waits until it is found."""
    asked = []

    class Counting(Rules):
        def receive(self, who, topic):
            asked.append(topic)
            return super().receive(who, topic)

    site = Site(access=Counting(read=("t/9999",)))
    site.broker.load([message(f"t/{number}") for number in range(10_000)])
    peer = site.peer(who=identity(role="user"))
    peer.send(m.Subscribe(1, (m.Subscription("#"), m.Subscription("+/+", 1), m.Subscription("+/+/+/#"))))
    assert asked == []  # nothing is looked for before it can be sent
    turns, sent = 0, []
    while (pieces := peer.link.output(site.now, 64 * 1024)) or peer.link.searching:
        sent += pieces
        turns += 1
        assert len(asked) < turns * 2500
    assert turns > 5
    got = peer._decoder.feed(b"".join(sent))
    assert [packet.topic for packet in got if isinstance(packet, m.Publish)] == ["t/9999"] * 2
    asked.clear()
    steps = iter(site.broker.current("#", peer.who))
    assert next(steps) == []
    assert len(asked) < 500


def test_what_a_client_would_not_take_takes_its_room_too():
    site = Site()
    site.broker.load([message(f"t/{number}", bytes(100)) for number in range(10_000)])
    peer = site.peer("c", 5, maximum_packet_size=50)
    for qos in (0, 1):
        peer.send(m.Subscribe(1, (m.Subscription("#", qos),)))
        dropped = site.count.dropped_too_large
        peer.link.output(site.now, 64 * 1024)
        assert 0 < site.count.dropped_too_large - dropped < 2500
        assert peer.messages() == []
        assert site.count.dropped_too_large == dropped + 10_000


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_new_subscriber_gets_the_present(version, qos):
    site = Site()
    site.publish("a/1", "old")
    site.publish("a/1", "new")
    site.publish("a/2", "x")
    site.publish("a/3", "event", retain=False)
    site.publish("b", "y")
    peer = site.peer("c", version)
    peer.subscribe("a/#", qos=qos)
    got = [packet for packet in peer.rest if isinstance(packet, m.Publish)]
    assert [(p.topic, p.payload, p.retain, p.qos) for p in got] == [
        ("a/1", b"new", True, qos),
        ("a/2", b"x", True, qos),
    ]
    site.publish("a/1", "live")
    assert [(p.payload, p.retain) for p in peer.got()] == [(b"live", False)]


def test_the_tree_is_loaded_at_the_start():
    site = Site()
    site.broker.load([message(f"a/{number}") for number in range(3)] + [message("event", retain=False)])
    assert len(site.values()) == 3
    peer = site.peer()
    peer.subscribe("#")
    assert len([p for p in peer.rest if isinstance(p, m.Publish)]) == 3


def test_retain_handling():
    site = Site()
    site.publish("a", "kept")
    peer = site.peer("c", 5)

    def given_(handling):
        peer.subscribe("a", retain_handling=handling)
        return [p.payload for p in peer.rest if isinstance(p, m.Publish)]

    assert given_(2) == []
    assert given_(1) == []  # it exists already
    assert given_(0) == [b"kept"]
    peer.unsubscribe("a")
    assert given_(1) == [b"kept"]
    assert given_(2) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_an_empty_payload_clears(version):
    site = Site()
    author, watcher = site.peer("c", version), site.peer("d", version)
    watcher.subscribe("#")
    author.publish("a", b"1", retain=True)
    author.publish("a", b"2", retain=False)
    assert site.values() == {"a": b"1"}
    author.publish("a", b"", retain=True)
    assert site.values() == {}
    assert watcher.heard() == [("a", b"1"), ("a", b"2"), ("a", b"")]
    late = site.peer("e", version)
    late.subscribe("#")
    assert late.rest == []
    site.publish("b", "x")
    site.publish("b", "")
    assert site.values() == {}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_retained_message_of_a_client_is_kept_with_its_qos_and_properties(qos):
    site = Site()
    author = site.peer("c", 5)
    author.publish("a", b"1", qos, retain=True, content_type="t", user=(("k", "v"),), message_expiry=100)
    site.pass_(40)
    late = site.peer("d", 5)
    late.subscribe("a", qos=2, identifier=8)
    (packet,) = [p for p in late.rest if isinstance(p, m.Publish)]
    assert (packet.qos, packet.retain, packet.payload) == (qos, True, b"1")
    assert packet.properties.content_type == "t"
    assert packet.properties.user == (("k", "v"),)
    assert packet.properties.message_expiry == 60
    assert packet.properties.subscription_ids == (8,)
    site.pass_(61)
    assert site.values() == {}
    site.publish("a", "by the engine")
    later = site.peer("e", 5)
    later.subscribe("a")
    (packet,) = [p for p in later.rest if isinstance(p, m.Publish)]
    assert packet.properties.content_type is None


def test_values_with_and_without_properties_are_given_in_one_go():
    site = Site()
    author = site.peer("a", 5)
    for number in range(3000):
        if number % 3:
            site.publish(f"v/{number}", str(number))
        else:
            author.publish(f"v/{number}", b"%d" % number, retain=True, content_type="t")
    peer = site.peer("c", 5)
    peer.subscribe("v/#", identifier=4)
    got = {p.topic: p for p in peer.rest if isinstance(p, m.Publish)}
    assert len(got) == 3000
    for number in range(3000):
        packet = got[f"v/{number}"]
        assert packet.payload == b"%d" % number
        assert packet.properties.content_type == (None if number % 3 else "t")
        assert packet.properties.subscription_ids == (4,)


def test_asking_again_and_again_for_the_present_is_asking_once():
    site = Site()
    site.broker.load([message(f"v/{number}", "x" * 100) for number in range(100)])
    peer = site.peer()
    for _ in range(50):
        peer.send(m.Subscribe(1, (m.Subscription("#"), m.Subscription("v/#"))))
    assert len(peer.link.session.outbox.feeds) == 2
    assert len(peer.messages()) == 200
    peer.send(m.Subscribe(1, (m.Subscription("#"),)))
    peer.got(room=500)
    peer.send(m.Unsubscribe(2, ("#",)))
    assert [type(packet) for packet in peer.got()] == [m.Unsuback]


def test_there_is_a_bound_to_what_clients_retain():
    site = Site(retained=2)
    site.publish("a")
    author = site.peer("c", 5)
    author.publish("b", b"1", 1, retain=True)
    author.publish("c", b"1", 1, retain=True)
    author.publish("b", b"2", 1, retain=True)
    assert [packet.reason for packet in author.got()] == [16, 151, 16]
    for number in range(5):
        site.publish(f"building/{number}")  # what the building says is never refused
    assert len(site.values()) == 7


def test_a_feed_reads_each_value_when_it_is_sent_and_never_an_old_one():
    site = Site()
    for number in range(50):
        site.publish(f"a/{number:02d}", "old" * 50)
    peer = site.peer()
    peer.send(m.Subscribe(1, (m.Subscription("#"),)))
    first = peer.got(room=1000)
    assert 1 < len(first) < 20
    for number in range(50):
        site.publish(f"a/{number:02d}", "new")
    site.publish("a/10", "")
    newest = {}
    for packet in [*first[1:], *peer.messages()]:
        assert not (newest.get(packet.topic) == b"new" and packet.payload.startswith(b"old"))
        newest[packet.topic] = packet.payload
    assert newest.pop("a/10") == b""
    assert set(newest.values()) == {b"new"}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("qos", [0, 1])
def test_a_topic_never_goes_backwards_while_the_present_is_sent(seed, qos):
    chance = random.Random(seed)
    site = Site(queue_bytes=2000, queue_messages=10, inflight=5)
    topics = [f"a/{number}" for number in range(40)]
    count = 0
    for topic in topics:
        site.publish(topic, f"{(count := count + 1):06d}")
    peer = site.peer("c", 5)
    peer.send(m.Subscribe(1, (m.Subscription("#", qos),)))
    seen = {}

    def take(packets):
        for packet in packets:
            if isinstance(packet, m.Publish):
                if packet.qos:
                    peer.send(m.Puback(packet.packet_id))
                assert packet.payload >= seen.get(packet.topic, b""), "backwards"
                seen[packet.topic] = packet.payload

    for _ in range(400):
        site.publish(chance.choice(topics), f"{(count := count + 1):06d}")
        if chance.random() < 0.15:
            take(peer.got(room=chance.choice([60, 500])))
    while packets := peer.got():
        take(packets)
    assert seen == site.values()


def test_sys_topics_tell_of_the_broker():
    site = Site(system_interval="10s")
    peer = site.peer()
    peer.subscribe("$SYS/#")
    site.publish("a")
    site.pass_(10)
    values = {topic: payload.decode() for topic, payload in peer.heard()}
    assert values["$SYS/broker/clients/connected"] == "1"
    assert values["$SYS/broker/retained messages/count"] == "1"
    assert values["$SYS/broker/version"].startswith("northbound ")
    site.broker.system = lambda: {"$SYS/northbound/connectors/aws/state": "connected"}
    site.pass_(10)
    assert ("$SYS/northbound/connectors/aws/state", b"connected") in peer.heard()
    late = site.peer("d")
    late.subscribe("$SYS/broker/uptime", "#", "+/broker/uptime")
    assert [p.topic for p in late.rest if isinstance(p, m.Publish)] == ["$SYS/broker/uptime", "a"]


def test_what_the_service_says_no_more_of_itself_is_cleared():
    site = Site(system_interval="10s")
    topic = "$SYS/bridge/connectors/{}/state"
    values = {topic.format("aws"): "online", topic.format("old"): "online"}
    site.broker.system = lambda: values
    site.pass_(10)
    peer = site.peer("c", keep_alive=0)
    peer.subscribe("$SYS/bridge/#")
    assert len(peer.rest) == 2
    del values[topic.format("old")]
    site.pass_(10)
    assert peer.heard() == [(topic.format("old"), b"")]
    assert list(site.values("$SYS/bridge/#")) == [topic.format("aws")]
    site.pass_(10)
    assert peer.heard() == []


def test_nobody_but_the_broker_writes_dollar_topics():
    site = Site()
    peer = site.peer("c", 5)
    peer.publish("$SYS/broker/version", b"mine", 1)
    assert [packet.reason for packet in peer.got()] == [135]


def test_a_message_in_its_place_is_not_delivered_again():
    """What a client published may come back from the store."""
    site = Site()
    peer = site.peer()
    peer.subscribe("#")
    item = message("a")
    site.broker.publish([item])
    site.broker.publish([item])
    assert peer.heard() == [("a", b"1")]
