"""Subscribers that do not keep up: bounded, conflated, counted, and no harm to anybody else."""

import pytest
from tests.support.peers import Site, message

from northbound import mqtt as m


def flood(site, count, topics=10, *, size=100, retain=True):
    for number in range(count):
        site.broker.publish([message(f"a/{number % topics}", b"%06d" % number + bytes(size), retain=retain)])


@pytest.mark.parametrize("version", [4, 5])
def test_a_subscriber_that_does_not_read_gets_the_newest_of_each_topic(version):
    site = Site(queue_bytes=10_000)
    slow, quick = site.peer("slow", version), site.peer("quick", version)
    for peer in (slow, quick):
        peer.subscribe("#")
    heard = []
    for number in range(2000):
        site.publish(f"a/{number % 10}", b"%06d" % number + bytes(100))
        if number % 20 == 0:
            heard += quick.heard()
    heard += quick.heard()
    assert len(heard) == 2000
    assert len(slow.link.session.outbox) < 110
    late = slow.heard()
    assert len(late) < 110
    newest = dict(late)
    assert newest == site.values()
    assert site.count.conflated == 2000 - len(late)
    assert site.count.dropped_queue_full == 0
    site.publish("a/1", "again quick")
    assert slow.heard() == [("a/1", b"again quick")]


def test_values_keep_their_place_in_line():
    site = Site(queue_bytes=500)
    slow = site.peer()
    slow.subscribe("#")
    flood(site, 5, topics=1)
    for number in range(3):
        for topic in ("x", "y", "z"):
            site.publish(topic, f"{topic}{number}")
    assert slow.heard()[-3:] == [("x", b"x2"), ("y", b"y2"), ("z", b"z2")]


@pytest.mark.parametrize("qos", [1, 2])
def test_the_same_with_acknowledgements(qos):
    site = Site(queue_messages=20, inflight=10)
    slow = site.peer("c", 5)
    slow.subscribe("#", qos=qos)
    flood(site, 500)
    begun = slow.got()
    assert len(begun) == 10  # the window
    assert len(slow.link.session.outbox) <= 20 + 10
    for packet in begun:
        slow.send(m.Puback(packet.packet_id) if qos == 1 else m.Pubrec(packet.packet_id))
    rest = slow.messages()
    assert {packet.topic: packet.payload for packet in rest} == site.values()
    assert site.count.conflated == 500 - len(begun) - len(rest)


def test_the_queue_of_a_client_that_is_away_is_bounded_and_conflated():
    site = Site(queue_messages=20)
    peer = site.peer("c", 4, clean=False)
    peer.subscribe("#", qos=1)
    peer.lose()
    flood(site, 5000)
    assert site.broker.numbers().queued <= 30
    peer.connect()
    got = [packet for packet in peer.rest if isinstance(packet, m.Publish)]
    got += peer.messages()
    assert {packet.topic: packet.payload for packet in got} == site.values()


def test_messages_that_are_no_values_are_not_conflated_but_dropped_beyond_a_bound():
    site = Site(queue_messages=10, queue_bytes=1000, conflated=15, inflight=5)
    quick, assured = site.peer("q"), site.peer("a")
    author = site.peer("author")
    quick.subscribe("e")
    assured.subscribe("e", qos=1)
    for number in range(100):
        author.publish("e", b"%03d" % number + bytes(100), 1)
    author.got()
    first = quick.heard()
    assert [payload[:3] for _, payload in first] == [b"%03d" % number for number in range(len(first))]
    assert 15 < len(first) < 30
    others = assured.heard()
    assert len(others) == 10 + 15
    assert site.count.dropped_queue_full == 200 - len(first) - len(others)


def test_a_client_that_takes_nothing_is_ended():
    site = Site(stall_timeout="60s")
    slow, quick = site.peer("slow", keep_alive=0), site.peer("quick", keep_alive=0)
    slow.link.stalled_since = site.now
    site.pass_(59)
    assert not slow.aborted
    site.pass_(2)
    assert slow.aborted
    assert slow.over
    assert not quick.over


def test_a_wake_up_is_one_a_turn():
    site = Site()
    peer = site.peer()
    peer.subscribe("#")
    peer.got()
    before = peer.wakes
    flood(site, 50)
    assert peer.wakes == before + 1
    assert len(peer.heard()) == 50


def test_output_is_bounded_whatever_waits():
    site = Site()
    peer = site.peer()
    peer.subscribe("#")
    flood(site, 3000)
    while data := peer.bytes(room=10_000):
        assert len(data) < 10_000 + 128 * 130


def test_expiring_messages_of_qos_0_are_written_for_each_receiver():
    site = Site()
    peer, old, author = site.peer("c", 5), site.peer("d", 4), site.peer("e", 5)
    for receiver in (peer, old):
        receiver.subscribe("#")
    author.publish("a", b"1", message_expiry=10)
    author.publish("a", b"2", message_expiry=100)
    site.pass_(20)
    assert [(p.payload, p.properties.message_expiry) for p in peer.messages()] == [(b"2", 80)]
    assert old.heard() == [("a", b"2")]


def test_a_packet_too_large_for_one_receiver_reaches_the_others():
    site = Site()
    small, large = site.peer("s", 5, maximum_packet_size=100), site.peer("l", 5)
    for receiver in (small, large):
        receiver.subscribe("#", qos=0)
    site.broker.publish([message("a", bytes(200)), message("b", "fits")])
    assert small.heard() == [("b", b"fits")]
    assert len(large.heard()) == 2
    assert site.count.dropped_too_large == 1
