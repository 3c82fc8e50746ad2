"""Access: what is granted, narrowed and refused, when subscribing, on each delivery, and when publishing."""

import asyncio

import pytest
from msgspec import structs
from tests.support.broker import Rules, identity
from tests.support.peers import Site, message

from northbound import mqtt as m
from northbound.api.stream import Stream, Streams
from northbound.mqtt.properties import Properties
from northbound.topics import TopicMatcher

VERSIONS = (3, 4, 5)


class Orgs:
    """Everybody sees their own organisation; admins publish there."""

    def __init__(self):
        self.asked = 0
        self.closed = set()

    def subscribe(self, who, filter):  # noqa: A002 - Access's word for it
        if filter.startswith(f"placeos/{who.org}/"):
            return "refused" if who.subject in self.closed else "whole"
        return "narrowed" if filter.startswith(("#", "+", "$SYS", "placeos/+", "placeos/#")) else "refused"

    def receive(self, who, topic):
        self.asked += 1
        return topic.startswith((f"placeos/{who.org}/", "$SYS/")) and who.subject not in self.closed

    def publish(self, who, topic):
        return who.role == "admin" and topic.startswith(f"placeos/{who.org}/")


def reader(org="acme", **more):
    return identity("reader", org, role="user", **more)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_wide_filter_is_granted_and_narrowed_at_delivery(version):
    site = Site(access=Orgs())
    site.publish("placeos/acme/state/1", "kept")
    site.publish("placeos/other/state/1", "secret")
    peer = site.peer("c", version, who=reader())
    assert peer.subscribe("#", "$SYS/#", "placeos/+/state/#", qos=1) == (1, 1, 1)
    assert {p.topic for p in peer.rest if isinstance(p, m.Publish)} == {"placeos/acme/state/1"}
    peer.messages()
    site.publish("placeos/other/state/1", "secret")
    site.publish("placeos/acme/state/1", "mine")
    assert peer.heard() == [("placeos/acme/state/1", b"mine")]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_filter_outside_the_rights_is_refused(version):
    site = Site(access=Orgs())
    site.publish("placeos/other/state/1", "secret")
    peer = site.peer("c", version, who=reader())
    code = 135 if version == 5 else 128
    assert peer.subscribe("placeos/other/#", "placeos/acme/#", "$share/g/placeos/other/#") == (code, 0, code)
    assert not [p for p in peer.rest if isinstance(p, m.Publish)]
    site.publish("placeos/other/state/1", "secret")
    assert peer.heard() == []
    assert not peer.over


def test_each_organisation_hears_its_own_through_the_same_filter():
    access = Orgs()
    site = Site(access=access)
    peers = {org: site.peer("c", who=identity("u", org)) for org in ("one", "two", "three")}
    more = site.peer("d", who=identity("u", "one"))
    for peer in (*peers.values(), more):
        peer.subscribe("#")
    for _ in range(3):
        for org in peers:
            site.publish(f"placeos/{org}/state/1", org)
    for org, peer in peers.items():
        assert peer.heard() == [(f"placeos/{org}/state/1", org.encode())] * 3
    assert more.heard() == [("placeos/one/state/1", b"one")] * 3
    assert access.asked == 9  # once for each topic and rights


def test_shared_subscriptions_go_to_a_member_who_may_hear():
    site = Site(access=Orgs())
    one, two = site.peer("c", 5, who=identity("u", "one")), site.peer("c", 5, who=identity("u", "two"))
    for peer in (one, two):
        peer.subscribe("$share/g/#")
    for _ in range(4):
        site.publish("placeos/one/state/1")
    assert len(one.heard()) == 4
    assert two.heard() == []
    site.publish("placeos/three/state/1")
    assert site.count.dropped_nobody == 1


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_refused_message_is_answered_as_its_version_wants_and_goes_nowhere(version, qos):
    site = Site(access=Orgs())
    watcher = site.peer("w", 5, who=identity("boss", "acme"))
    watcher.subscribe("#")
    peer = site.peer("c", version, who=reader())
    packet_id = peer.publish("placeos/acme/state/1", b"forged", qos, retain=True)
    answers = peer.got()
    assert not peer.over
    expected = {0: [], 1: [(m.Puback, 135)], 2: [(m.Pubrec, 135)]}[qos]
    if version < 5:
        expected = [(kind, 0) for kind, _ in expected]
    assert [(type(packet), packet.reason) for packet in answers] == expected
    if qos == 2 and version < 5:
        peer.send(m.Pubrel(packet_id))
        assert peer.got() == [m.Pubcomp(packet_id)]
    assert watcher.heard() == []
    assert site.values() == {}
    assert site.count.received_refused == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_a_will_passes_the_same_rules(version):
    site = Site(access=Orgs())
    watcher = site.peer("w", 5, who=identity("boss", "acme"))
    watcher.subscribe("#")
    forged = site.peer("c", version, who=reader(), will=m.Will("placeos/acme/state/1", b"forged", 1, True))
    assert forged.connack.reason == 0
    forged.lose()
    assert watcher.heard() == []
    assert site.values() == {}
    allowed = site.peer("d", version, who=identity("a", "acme"), will=m.Will("placeos/acme/x", b"true"))
    allowed.lose()
    assert watcher.heard() == [("placeos/acme/x", b"true")]
    dollar = site.peer("e", version, who=identity("a", "acme"), will=m.Will("$SYS/x", b"forged"))
    dollar.lose()
    assert watcher.heard() == []


def test_a_session_is_judged_anew_when_its_client_comes_back_with_other_rights():
    site = Site(access=Rules(read=("a/#",)))
    peer = site.peer("c", 5, clean=False, session_expiry=100)
    peer.subscribe("a/#", "b/#", "c", qos=1)
    peer.lose()
    site.publish("a/1", "for a reader")
    site.publish("b/1", "for an admin")
    peer.who = identity(role="user")
    assert peer.connect().session_present
    assert [p.topic for p in peer.rest if isinstance(p, m.Publish)] == ["a/1"]
    site.publish("b/1", "for an admin")
    site.publish("c", "for an admin")
    site.publish("a/1", "for a reader")
    assert peer.heard() == [("a/1", b"for a reader")]
    assert peer.unsubscribe("c", "b/#") == (17, 0)  # refused, narrowed


def test_rights_that_change_are_asked_for_again():
    access = Orgs()
    site = Site(access=access)
    whole, wide = site.peer("c", who=reader()), site.peer("d", who=reader())
    whole.subscribe("placeos/acme/#")
    wide.subscribe("#")
    site.publish("placeos/acme/1")
    assert whole.heard() == wide.heard() == [("placeos/acme/1", b"1")]
    access.closed.add("reader")
    site.broker.forget_rights()
    site.publish("placeos/acme/1")
    assert whole.heard() == wide.heard() == []


@pytest.mark.parametrize("qos", [0, 1])
def test_present_values_under_way_are_judged_when_rights_shrink(qos):
    access = Rules(read=("a/#",))
    site = Site(access=access)
    for number in range(100):
        site.publish(f"a/{'open' if number % 2 else 'shut'}/{number}", bytes(100))
    peer = site.peer("c", 5, who=identity(role="user"), room=1000)
    peer.send(m.Subscribe(1, (m.Subscription("a/#", qos),)))
    begun = peer.got(1000)
    assert any(isinstance(packet, m.Publish) and "shut" in packet.topic for packet in begun)
    access.read, access.whole = TopicMatcher(["a/open/#"]), frozenset()
    site.broker.forget_rights()
    heard = [topic for topic, _ in peer.heard()]
    assert len(heard) > 40
    assert not [topic for topic in heard if "shut" in topic]


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_waits_is_dropped_when_it_may_no_longer_be_seen(qos):
    access = Rules(read=("a/#",))
    site = Site(access=access)
    peer = site.peer("c", 5, who=identity(role="user"))
    peer.subscribe("a/#", qos=qos)
    site.broker.publish([message("a/shut", "1"), message("a/open", "1"), message("a/shut/2", "1")])
    access.read, access.whole = TopicMatcher(["a/open/#"]), frozenset()
    site.broker.forget_rights()
    assert peer.heard() == [("a/open", b"1")]


@pytest.mark.parametrize("how", ["another identity", "other rules"])
def test_what_was_sent_and_is_forbidden_now_is_not_sent_again(how):
    access = Rules(read=("a",))
    site = Site(access=access)
    peer = site.peer("c", 5, clean=False, session_expiry=100)
    peer.subscribe("a", "b", qos=1)
    peer.subscribe("c", qos=2)
    for topic in "abc":
        site.publish(topic)
    sent = {packet.topic: packet.packet_id for packet in peer.got()}
    if how == "other rules":
        access.receive = lambda _, topic: topic == "a"
        access.subscribe = lambda *_: "narrowed"
        site.broker.forget_rights()
    else:
        peer.who = identity(role="user")
    peer.lose()
    assert peer.connect().session_present
    released, again = peer.rest
    assert (again.topic, again.packet_id) == ("a", sent["a"])
    assert released == m.Pubrel(sent["c"])
    peer.send(m.Pubcomp(sent["c"]), m.Puback(sent["a"]))
    (session,) = site.broker._sessions
    assert session.outbox.deliveries.inflight == 0


def test_current_values_are_those_one_may_see():
    site = Site(access=Orgs())
    for org in ("acme", "other"):
        site.publish(f"placeos/{org}/state/1")

    def current(text, who):
        return [item.topic for items in site.broker.current(text, who) for item in items]

    assert current("#", reader()) == ["placeos/acme/state/1"]
    assert len(current("placeos/+/state/+", None)) == 2
    assert current("placeos/acme/state/1", reader()) == ["placeos/acme/state/1"]
    assert current("nothing", None) == []


# -- what the runtime makes of what clients publish


def test_what_a_client_publishes_is_shown_to_the_runtime():
    site = Site()
    shown = []
    site.broker.on_publish = lambda who, item: shown.append((who.subject, item.topic, item.kind, item.retain))
    peer = site.peer("c", 5, who=identity("ann"))
    watcher = site.peer("w")
    watcher.subscribe("#")
    peer.publish("placeos/o/metadata/m", b"1", retain=True)
    peer.publish("placeos/o/state/m", b"2")
    assert shown == [("ann", "placeos/o/metadata/m", "metadata", True), ("ann", "placeos/o/state/m", "state", False)]
    assert len(watcher.heard()) == 2


async def test_what_comes_back_from_the_runtime_is_as_it_was_published():
    site = Site()
    taken = []

    def take(who, item):
        taken.append((item, asyncio.get_running_loop().create_future()))
        return taken[-1][1]

    site.broker.on_publish = take
    peer, watcher = site.peer("c", 5), site.peer("w", 5)
    peer.subscribe("#", qos=1, no_local=True)
    watcher.subscribe("#", qos=2)
    said = {"response_topic": "r", "correlation_data": b"7", "user": (("a", "b"),), "message_expiry": 5}
    peer.publish("a", b"1", 1, retain=True, **said)
    peer.publish("b", b"2", 1, **said)
    changed = structs.replace(taken[1][0], payload=b"***")
    site.broker.publish([message("c"), taken[0][0], changed, message("d")])
    for _, future in taken:
        future.set_result(None)
    await asyncio.sleep(0)
    heard = watcher.messages()
    assert [(item.topic, item.payload, item.qos) for item in heard] == [
        ("c", b"1", 2), ("a", b"1", 1), ("b", b"***", 2), ("d", b"1", 2)
    ]  # fmt: skip
    told = heard[1].properties
    assert {name: getattr(told, name) for name in said} == said
    assert heard[2].properties == Properties()
    assert [topic for topic, _ in peer.heard()] == ["c", "b", "d"]
    assert not site.broker._underway
    late = site.peer("l", 5)
    late.subscribe("a")
    assert late.rest[0].properties.correlation_data == b"7"


async def test_what_the_runtime_takes_is_acknowledged_when_it_is_safe():
    site = Site()
    futures = []

    def take(who, item):
        futures.append(asyncio.get_running_loop().create_future())
        return futures[-1]

    site.broker.on_publish = take
    peer, watcher = site.peer("c", 5), site.peer("w")
    watcher.subscribe("#")
    for number in range(3):
        peer.publish("a", b"%d" % number, 1)
    assert watcher.heard() == []
    futures[1].set_result(None)
    await asyncio.sleep(0)
    assert peer.got() == []
    futures[0].set_result(None)
    futures[2].set_exception(OSError("disk full"))
    await asyncio.sleep(0)
    assert [packet.reason for packet in peer.got()] == [0, 0, 131]
    peer.publish("a", b"4", 1)
    peer.lose()
    futures[3].set_result(None)  # nobody is there to hear it
    await asyncio.sleep(0)


async def test_events_that_wait_are_judged_when_rights_shrink():
    access = Rules(read=("a/#",))
    streams = Streams(1)
    stream = Stream(TopicMatcher(["#"]), identity(role="user"), access, narrowed=False)
    with streams.opened(stream):
        streams.publish([message("a/open"), message("a/shut")])
        access.read = TopicMatcher(["a/open"])
        streams.forget_rights()
        (event,) = await stream.take(10)
    assert b"a/open" in event
