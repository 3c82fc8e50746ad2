"""Who hears what: filters, QoS, overlapping and shared subscriptions, what travels with a message."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.peers import Site, message

from northbound import mqtt as m
from northbound.api.trie import FilterTrie
from northbound.topics import TopicMatcher

VERSIONS = (3, 4, 5)
LEVELS = st.sampled_from(["a", "b", "", "$s", "c"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, rest: "/".join([*levels, *rest]),
    st.lists(st.sampled_from(["a", "b", "", "$s", "+"]), min_size=1, max_size=4),
    st.sampled_from([[], ["#"]]),
).filter(bool) | st.just("#")


@given(st.lists(FILTERS, max_size=8), st.lists(FILTERS, max_size=4), TOPICS)
@settings(max_examples=examples(400))
def test_the_trie_matches_as_every_filter_alone_does(added, taken, topic):
    trie = FilterTrie()
    for text in added:
        trie.node(text)
    for text in taken:
        trie.discard(text)
    left = set(added) - set(taken)
    assert sorted(node.filter for node in trie.match(topic)) == sorted(
        text for text in left if TopicMatcher([text]).matches(topic)
    )
    assert len(trie) == len(left)
    for text in left:
        trie.discard(text)
    assert not trie._root.children
    assert trie.match(topic) == ()


def test_the_generation_changes_with_the_filters_only():
    trie = FilterTrie()
    trie.node("a/+")
    generation = trie.generation
    trie.node("a/+")
    trie.discard("unknown")
    assert trie.generation == generation
    trie.discard("a/+")
    assert trie.generation == generation + 1


def test_what_is_remembered_of_filters_that_went_is_forgotten():
    """A filter that stays, ``#``, hears every topic with those that come and go."""
    site = Site()
    site.peer("stays").subscribe("#", "a/+")
    peer = site.peer("goes")
    for number in range(20):
        peer.subscribe("a/1", "a/1/#", "#")
        site.publish("a/1", str(number))
        site.publish(f"b/{number}", "1")
        peer.unsubscribe("a/1", "a/1/#", "#")
    audiences = site.broker._distribution.audiences
    assert {nodes for used in audiences._users.values() for nodes in used} == set(audiences._audiences)
    assert len(audiences._audiences) <= 2


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_engine_commits_reaches_who_asked_for_it(version):
    site = Site()
    peer, other = site.peer("c", version), site.peer("d", version)
    assert peer.subscribe("placeos/+/state/#") == (0,)
    other.subscribe("placeos/x/metadata/+")
    site.broker.publish([message("placeos/x/state/1", "a"), message("placeos/x/metadata/m", "b")])
    assert peer.heard() == [("placeos/x/state/1", b"a")]
    assert other.heard() == [("placeos/x/metadata/m", b"b")]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("granted", [0, 1, 2])
@pytest.mark.parametrize("sent", [0, 1, 2])
def test_the_lower_qos_counts(version, granted, sent):
    site = Site()
    peer, author = site.peer("c", version), site.peer("d", version)
    assert peer.subscribe("a", qos=granted) == (granted,)
    author.publish("a", b"x", sent)
    assert [packet.qos for packet in peer.messages()] == [min(granted, sent)]
    site.publish("a")  # what the engine commits has the QoS its receiver wants
    assert [packet.qos for packet in peer.messages()] == [granted]
    assert site.broker.numbers().queued == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_exactly_once_arrives_once(version):
    site = Site()
    peer, author = site.peer("c", version), site.peer("d", version)
    peer.subscribe("a", qos=2)
    packet_id = author.publish("a", b"x", 2)
    author.publish("a", b"x", 2, packet_id=packet_id, duplicate=True)
    assert author.got() == [m.Pubrec(packet_id), m.Pubrec(packet_id)]
    author.send(m.Pubrel(packet_id))
    assert author.got() == [m.Pubcomp(packet_id)]
    assert peer.heard() == [("a", b"x")]
    assert peer.messages() == []
    assert peer.link.session.outbox.deliveries.inflight == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_overlapping_filters_give_one_copy_of_the_highest_qos(version):
    site = Site()
    peer = site.peer("c", version)
    peer.subscribe("a/#", qos=0)
    peer.subscribe("a/+", qos=2)
    peer.subscribe("a/b", qos=1)
    site.publish("a/b")
    assert [packet.qos for packet in peer.messages()] == [2]


def test_overlapping_filters_name_all_their_identifiers():
    site = Site()
    peer = site.peer("c", 5)
    peer.subscribe("a/#", qos=0, identifier=7)
    peer.subscribe("a/b", qos=1, identifier=9)
    peer.subscribe("a/+")
    site.publish("a/b")
    (packet,) = peer.messages()
    assert sorted(packet.properties.subscription_ids) == [7, 9]
    peer.subscribe("a/b", qos=1)  # replaced, and without an identifier now
    site.publish("a/b")
    assert [packet.properties.subscription_ids for packet in peer.messages()][-1] == (7,)
    old = site.peer("d", 4)
    old.subscribe("a/b")
    site.publish("a/b")
    assert old.messages()[0].properties.subscription_ids == ()


def test_an_identifier_given_twice_is_told_twice():
    site = Site()
    peer = site.peer("c", 5)
    peer.subscribe("a/#", "a/b", identifier=7)
    site.publish("a/b")
    (packet,) = peer.messages()
    assert packet.properties.subscription_ids == (7, 7)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_subscription_is_replaced_not_doubled(version):
    site = Site()
    peer = site.peer("c", version)
    site.publish("a", "kept")
    assert peer.subscribe("a", qos=2) == (2,)
    assert peer.subscribe("a", qos=0) == (0,)
    assert [(p.retain, p.payload) for p in peer.rest if isinstance(p, m.Publish)] == [(True, b"kept")]
    site.publish("a", "new")
    assert [(packet.qos, packet.payload) for packet in peer.messages()][-1] == (0, b"new")
    assert site.broker.numbers().subscriptions == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_several_filters_in_one_packet_are_answered_one_by_one_and_in_order(version):
    site = Site(subscriptions=3)
    peer = site.peer("c", version)
    refused = (143, 151) if version == 5 else (128, 128)
    assert peer.subscribe("a", "b/#", "c/#/d", qos=1) == (1, 1, refused[0])
    assert peer.subscribe("d", "e", qos=1) == (1, refused[1])
    assert peer.unsubscribe("a", "nothing") == ((0, 17) if version == 5 else ())
    assert peer.subscribe("e", qos=2) == (2,)
    assert peer.subscribe("e", "e", "e", "e", "e") == (0, 0, 0, refused[1], refused[1])  # known ones count as others do


@pytest.mark.parametrize("version", VERSIONS)
def test_after_unsubscribing_nothing_new_comes_and_what_was_begun_is_finished(version):
    site = Site()
    peer = site.peer("c", version)
    peer.subscribe("a", qos=2)
    site.publish("a", "1")
    (packet,) = peer.got()
    peer.unsubscribe("a")
    site.publish("a", "2")
    peer.send(m.Pubrec(packet.packet_id))
    assert peer.got() == [m.Pubrel(packet.packet_id)]
    peer.send(m.Pubcomp(packet.packet_id))
    assert peer.got() == []
    assert site.broker.numbers().filters == 0


@pytest.mark.parametrize(
    ("text", "topic", "hears"),
    [
        ("#", "a", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("a/#", "a", True),
        ("a/+", "a", False),
        ("+", "/a", False),
        ("/+", "/a", True),
        ("+/+", "/a", True),
        ("a/+/c", "a//c", True),
        ("A", "a", False),
        ("a b/c", "a b/c", True),
        ("a/", "a", False),
        ("\ufeffa", "a", False),
        ("\ufeffa", "\ufeffa", True),
    ],
)
def test_filters_match_as_the_specification_says(text, topic, hears):
    site = Site(system_interval="1h")
    peer = site.peer()
    peer.subscribe(text)
    peer.messages()
    site.publish(topic)
    assert bool(peer.heard()) is hears


def test_no_local_spares_who_published_and_nobody_else():
    site = Site()
    author, other = site.peer("c", 5), site.peer("d", 5)
    author.subscribe("a", no_local=True)
    other.subscribe("a", no_local=True)
    author.publish("a", b"mine")
    assert author.heard() == []
    assert other.heard() == [("a", b"mine")]
    author.subscribe("#", qos=1)  # overlaps, and does not mind
    author.publish("a", b"mine", 1)
    assert [packet.qos for packet in author.messages()] == [1]
    site.publish("a", "engine")
    assert ("a", b"engine") in author.heard()


def test_retain_as_published_keeps_the_flag():
    site = Site()
    keeps, drops, old = site.peer("c", 5), site.peer("d", 5), site.peer("e", 4)
    keeps.subscribe("a", retain_as_published=True)
    drops.subscribe("a")
    old.subscribe("a")
    author = site.peer("f", 5)
    author.publish("a", b"1", retain=True)
    author.publish("a", b"2", retain=False)
    assert [packet.retain for packet in keeps.messages()] == [True, False]
    assert [packet.retain for packet in drops.messages()] == [False, False]
    assert [packet.retain for packet in old.messages()] == [False, False]


def test_what_travels_with_a_message_arrives_unchanged():
    site = Site()
    peer, old, author = site.peer("c", 5), site.peer("d", 4), site.peer("e", 5)
    peer.subscribe("a", qos=2, identifier=3)
    old.subscribe("a", qos=2)
    user = (("k", "1"), ("k", "2"), ("", "é"))
    told = {
        "payload_format": 1,
        "content_type": "text/plain",
        "response_topic": "answers/here",
        "correlation_data": b"\0\xff",
        "user": user,
    }
    author.publish("a", "é".encode(), 1, topic_alias=4, **told)
    (packet,) = peer.messages()
    for name, expected in told.items():
        assert getattr(packet.properties, name) == expected
    assert packet.properties.topic_alias is None
    assert packet.properties.subscription_ids == (3,)
    assert [(p.topic, p.payload) for p in old.messages()] == [("a", "é".encode())]


def test_a_request_is_answered():
    site = Site()
    asker, replier = site.peer("asker", 5), site.peer("replier", 5)
    asker.subscribe("answers/asker", qos=1)
    replier.subscribe("do/#", qos=1)
    asker.publish("do/it", b"please", 1, response_topic="answers/asker", correlation_data=b"42")
    (request,) = replier.messages()
    replier.publish(request.properties.response_topic, b"done", 1, correlation_data=request.properties.correlation_data)
    (answer,) = asker.messages()
    assert (answer.payload, answer.properties.correlation_data) == (b"done", b"42")


def test_the_publisher_hears_that_nobody_listens():
    site = Site()
    author = site.peer("c", 5)
    author.publish("a", b"x", 1)
    author.publish("a", b"x", 2)
    puback, pubrec = author.got()
    assert (puback.reason, pubrec.reason) == (16, 16)
    site.peer("d", 5).subscribe("a")
    author.send(m.Pubrel(pubrec.packet_id))
    author.publish("a", b"x", 1)
    assert [packet.reason for packet in author.got()] == [0, 0]


def test_messages_expire():
    site = Site()
    peer = site.peer("c", 5, clean=False, session_expiry=1000)
    peer.subscribe("a", qos=1)
    peer.lose()
    author = site.peer("d", 5)
    author.publish("a", b"soon", 1, message_expiry=10)
    author.publish("a", b"late", 1, message_expiry=100)
    author.publish("a", b"never", 1)
    site.pass_(30)
    peer.connect()
    assert [(p.payload, p.properties.message_expiry) for p in peer.rest if isinstance(p, m.Publish)] == [
        (b"late", 70),
        (b"never", None),
    ]
    assert site.count.dropped_expired == 1


# -- shared subscriptions


@pytest.mark.parametrize("version", [4, 5])
def test_a_shared_subscription_gives_each_message_to_one_member(version):
    site = Site()
    members = [site.peer(f"m{number}", version) for number in range(3)]
    outsider = site.peer("o", version)
    for peer in members:
        assert peer.subscribe("$share/g/a/#", qos=1) == (1,)
    outsider.subscribe("a/#")
    other_group = site.peer("p", version)
    other_group.subscribe("$share/h/a/#")
    for number in range(9):
        site.publish(f"a/{number}")
    heard = [peer.heard() for peer in members]
    assert [len(item) for item in heard] == [3, 3, 3]
    assert len({topic for item in heard for topic, _ in item}) == 9
    assert len(outsider.heard()) == 9
    assert len(other_group.heard()) == 9


def test_a_member_that_leaves_gets_nothing_more_and_the_others_all():
    site = Site()
    one, two = site.peer("one", 5, clean=False, session_expiry=100), site.peer("two", 5)
    for peer in (one, two):
        peer.subscribe("$share/g/a", qos=1)
    one.lose()
    for _ in range(4):
        site.publish("a")
    assert len(two.heard()) == 4
    assert one.site.broker.numbers().queued == 0
    two.unsubscribe("$share/g/a")
    site.publish("a", "waits for one")
    one.connect()
    assert [p.payload for p in one.rest if isinstance(p, m.Publish)] == [b"waits for one"]


def test_members_have_a_qos_of_their_own_and_no_retained_values():
    site = Site()
    site.publish("a", "kept")
    one, two = site.peer("one", 5), site.peer("two", 5)
    one.subscribe("$share/g/a", qos=0, identifier=5)
    two.subscribe("$share/g/a", qos=2)
    assert one.rest == two.rest == []
    for _ in range(2):
        site.publish("a")
    assert [(p.qos, p.properties.subscription_ids) for p in one.messages()] == [(0, (5,))]
    assert [p.qos for p in two.messages()] == [2]


def test_an_exchange_with_a_member_ends_with_that_member():
    site = Site()
    one = site.peer("one", 5, clean=False, session_expiry=100)
    two = site.peer("two", 5, keep_alive=0)
    one.subscribe("$share/g/a", qos=2)
    site.publish("a", "begun")
    (begun,) = one.got()
    two.subscribe("$share/g/a", qos=2)
    one.lose()
    assert two.got() == []
    one.connect()
    assert [(p.packet_id, p.duplicate) for p in one.rest] == [(begun.packet_id, True)]
    one.lose()
    site.pass_(101)  # the session is gone, and its message with it
    assert site.broker.numbers().sessions == 1
    assert two.got() == []


def test_topics_of_every_length_are_taken():
    site = Site()
    peer, author = site.peer("c", 5), site.peer("d", 4)
    longest = "a/" + "é" * 32_766 + "b"
    assert len(longest.encode()) == 65_535
    peer.subscribe("+", longest)
    author.publish("x", b"1")
    author.publish(longest, b"2")
    assert peer.heard() == [("x", b"1"), (longest, b"2")]


def test_a_refusal_of_a_shared_message_is_the_end_of_it():
    site = Site()
    one, two = site.peer("one", 5), site.peer("two", 5)
    for peer in (one, two):
        peer.subscribe("$share/g/a", qos=1)
    site.publish("a", "1")
    ((taker, packet),) = [(peer, packet) for peer in (one, two) for packet in peer.got()]
    taker.send(m.Puback(packet.packet_id, 131))
    assert one.got() == two.got() == []


@pytest.mark.parametrize(
    "text", ["$share/g", "$share//a", "$share/+/a", "$share/g/", "$share/g/a#", "a#", "a+/b", "#/a"]
)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_filter_that_is_none_is_refused(version, text):
    site = Site()
    peer = site.peer("c", version)
    assert peer.subscribe(text) == (143 if version == 5 else 128,)


@pytest.mark.parametrize("version", VERSIONS)
def test_topics_and_filters_have_a_bounded_number_of_levels(version):
    """Each level of a filter is an object: one of 65,535 bytes would cost megabytes."""
    site = Site()
    peer, author = site.peer("c", version), site.peer("d", version)
    deepest, deeper = "/".join("a" * 128), "/".join("a" * 129)
    refused = 143 if version == 5 else 128
    wide = "a" + "/+" * 127, "a/#", "$share/g/" + deepest
    assert peer.subscribe(deepest, *wide) == (0, 0, 0, 0)
    assert peer.subscribe(deeper, deeper[:-1] + "#", "$share/g/" + deeper) == (refused,) * 3
    assert peer.unsubscribe(deeper) in {(17,), ()}
    for topic in (deepest, deeper):
        author.publish(topic, b"x", 1, retain=True)
    first, second = author.got()
    assert (first.reason, second.reason) == ((0, 144) if version == 5 else (0, 0))
    assert site.values() == {deepest: b"x"}
    assert {topic for topic, _ in peer.heard()} == {deepest}
    assert site.count.received_refused == 1
    author = site.peer("e", version, will=m.Will(deeper, b"gone"))
    author.lose()
    assert site.count.received_refused == 2
    assert not peer.over


def test_bytes_are_shared_among_receivers():
    site = Site()
    peers = [site.peer(f"c{number}", 4) for number in range(3)]
    for peer in peers:
        peer.subscribe("#")
    site.broker.publish([message(f"a/{number}") for number in range(5)])
    pieces = [peer.link.output(site.now, 1 << 20) for peer in peers]
    assert pieces[0][0] is pieces[1][0] is pieces[2][0]


@pytest.mark.parametrize("seed", range(5))
def test_every_receiver_hears_a_topic_in_order(seed):
    chance = random.Random(seed)
    site = Site()
    peers = [site.peer(f"c{number}", chance.choice(VERSIONS)) for number in range(6)]
    for peer in peers:
        peer.subscribe(chance.choice(["#", "a/+", "+/b"]), qos=chance.choice([0, 1, 2]))
    heard = [[] for _ in peers]
    for number in range(300):
        site.publish(chance.choice(["a/b", "a/c", "c/b"]), str(number))
        for peer, seen in zip(peers, heard, strict=True):
            if chance.random() < 0.2:
                seen.extend(peer.heard())
    for peer, seen in zip(peers, heard, strict=True):
        seen.extend(peer.heard())
        for topic in {topic for topic, _ in seen}:
            numbers = [int(payload) for where, payload in seen if where == topic]
            assert numbers == sorted(set(numbers))
