"""Sessions and connections: resuming, taking over, wills, expiry, the end of a token, the bounds of all of it."""

import asyncio
import random

import pytest
from tests.support.broker import People, identity
from tests.support.peers import Peer, Site

from northbound import mqtt as m
from northbound.mqtt.properties import Properties

VERSIONS = (3, 4, 5)


def kept(version, **more):
    """Return what makes a session outlive its connection."""
    return {"clean": False} | ({"session_expiry": 1000} if version == 5 else {}) | more


def payloads(packets):
    return [packet.payload for packet in packets if isinstance(packet, m.Publish)]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_waits_for_its_client_with_what_it_missed(version):
    site = Site()
    peer = site.peer("c", version, **kept(version))
    assert not peer.connack.session_present
    peer.subscribe("a", qos=1)
    peer.subscribe("zero", qos=0)
    peer.lose()
    for number in range(3):
        site.publish("a", str(number))
        site.publish("zero", str(number))
    connack = peer.connect()
    assert connack.session_present is (version > 3)  # 3.1 has no word for it
    assert payloads(peer.rest) == [b"0", b"1", b"2"]
    site.publish("a", "3")
    assert payloads(peer.got()) == [b"3"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_clean_start_is_one(version):
    site = Site()
    peer = site.peer("c", version, **kept(version))
    peer.subscribe("a", qos=1)
    site.publish("a", "unsettled")
    peer.got()
    peer.lose()
    site.publish("a", "missed")
    connack = peer.reconnect(clean_start=True)
    assert not connack.session_present
    assert peer.rest == []
    site.publish("a", "unheard")
    assert peer.got() == []
    assert site.broker.numbers().subscriptions == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_that_is_not_to_be_kept_ends_with_the_connection(version):
    site = Site()
    peer = site.peer("c", version)
    peer.subscribe("a", qos=1)
    peer.lose()
    assert site.broker.numbers().sessions == 0
    assert not peer.reconnect(clean_start=False).session_present
    # of 3.x without clean session it is kept now, of 5 without an expiry it is not
    peer.lose()
    assert site.broker.numbers().sessions == (0 if version == 5 else 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_unsettled_messages_are_sent_again_with_dup_in_order(version):
    site = Site()
    peer = site.peer("c", version, **kept(version))
    peer.subscribe("a", qos=1)
    peer.subscribe("b", qos=2)
    for number in range(3):
        site.publish("a", str(number))
        site.publish("b", str(number))
    sent = peer.got()
    peer.send(m.Puback(sent[0].packet_id), m.Pubrec(sent[1].packet_id))
    peer.got()
    peer.lose()
    site.publish("a", "later")
    peer.connect()
    release, *again, later = peer.rest
    assert release == m.Pubrel(sent[1].packet_id)
    assert [(p.packet_id, p.payload, p.duplicate) for p in again] == [(p.packet_id, p.payload, True) for p in sent[2:]]
    assert (later.payload, later.duplicate) == (b"later", False)


@pytest.mark.parametrize("version", VERSIONS)
def test_exactly_once_from_the_client_survives_a_reconnect(version):
    site = Site()
    peer, other = site.peer("c", version, **kept(version)), site.peer("d", version)
    other.subscribe("a", qos=2)
    peer.publish("a", b"once", 2, packet_id=9)
    peer.got()
    peer.lose()
    peer.connect()
    peer.publish("a", b"once", 2, packet_id=9, duplicate=True)
    assert peer.got() == [m.Pubrec(9)]
    peer.send(m.Pubrel(9))
    assert peer.got() == [m.Pubcomp(9)]
    assert other.heard() == [("a", b"once")]


def test_a_session_comes_back_in_another_version():
    site = Site()
    peer = site.peer("c", 4, clean=False)
    peer.subscribe("a", qos=1)
    peer.lose()
    site.publish("a", "1")
    assert peer.reconnect(version=5, clean_start=False).session_present
    assert payloads(peer.rest) == [b"1"]
    site.publish("a", "2")
    assert payloads(peer.got()) == [b"2"]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_same_client_id_takes_over(version):
    site = Site()
    old = site.peer("c", version, **kept(version))
    old.subscribe("a", qos=1)
    new = Peer(site, "c", version, **kept(version))
    connack = new.connect()
    assert old.over
    last = old.got()
    if version == 5:
        assert [packet.reason for packet in last] == [142]
    else:
        assert last == []
    assert connack.session_present is (version > 3)
    site.publish("a", "x")
    assert payloads(new.got()) == [b"x"]
    old.lose()  # its transport is closed only now
    site.publish("a", "y")
    assert payloads(new.got()) == [b"y"]
    assert site.count.taken_over == 1


def test_the_same_client_id_of_somebody_else_is_another_client():
    site = Site()
    ann = site.peer("c", 5, who=identity("ann"), **kept(5))
    ann.subscribe("a", qos=1)
    bob = site.peer("c", 5, who=identity("bob"), **kept(5))
    assert not bob.connack.session_present
    assert not ann.over
    stranger = site.peer("c", 5, who=identity("ann", "org-other"), **kept(5))
    assert not stranger.connack.session_present
    assert not ann.over


@pytest.mark.parametrize(("version", "clean", "code"), [(3, True, 2), (4, False, 2)])
def test_an_empty_client_id_is_refused_where_it_must_be(version, clean, code):
    site = Site()
    peer = Peer(site, "", version, clean=clean)
    assert peer.connect().reason == code
    assert peer.over


@pytest.mark.parametrize(("version", "clean"), [(4, True), (5, True), (5, False)])
def test_an_empty_client_id_gets_one(version, clean):
    site = Site()
    one, two = site.peer("", version, clean=clean), site.peer("", version, clean=clean)
    assert one.connack.reason == 0
    assert not one.over
    assert site.broker.numbers().sessions == 2
    told = {peer.connack.properties.assigned_client_id for peer in (one, two)}
    assert (None in told) is (version < 5)
    assert len(told) == (2 if version == 5 else 1)


@pytest.mark.parametrize("client_id", ["a", "0123456789abcdefghijklm", "A" * 200, "é/+#"])
@pytest.mark.parametrize("version", VERSIONS)
def test_client_ids_of_all_kinds_are_taken(version, client_id):
    assert Site().peer(client_id, version).connack.reason == 0


# -- expiry


def test_a_session_expires():
    site = Site(session_expiry="1h")
    short = site.peer("c", 5, clean=False, session_expiry=10)
    assert short.connack.properties.session_expiry is None
    short.subscribe("a", qos=1)
    short.lose()
    site.pass_(9)
    assert site.broker.numbers().sessions == 1
    site.pass_(2)
    assert site.broker.numbers().sessions == 0
    assert not short.connect().session_present
    there = site.peer("here", 5, clean=False, session_expiry=10, keep_alive=0)
    site.pass_(50)  # while its connection stands it does not end
    assert there.subscribe("a") == (0,)
    there.leave(session_expiry=0)
    short.lose()
    forever = site.peer("d", 5, clean=False, session_expiry=0xFFFFFFFF)
    assert forever.connack.properties.session_expiry == 3600  # told, since it is not what was asked for
    forever.lose()
    old = site.peer("e", 4, clean=False)
    old.lose()
    site.pass_(3599)
    assert site.broker.numbers().sessions == 2
    site.pass_(2)
    assert site.broker.numbers().sessions == 0
    assert site.count.sessions_expired == 4


def test_a_client_may_change_its_mind_when_it_leaves():
    site = Site()
    peer = site.peer("c", 5, clean=False, session_expiry=1000)
    peer.leave(session_expiry=0)
    assert site.broker.numbers().sessions == 0
    peer = site.peer("c", 5, clean=False, session_expiry=5)
    peer.leave(session_expiry=50)
    site.pass_(40)
    assert site.broker.numbers().sessions == 1


def test_retained_messages_are_no_part_of_a_session():
    site = Site()
    peer = site.peer("c", 4)
    peer.publish("a", b"kept", retain=True)
    peer.leave()
    assert site.values() == {"a": b"kept"}


# -- wills


def will(**fields):
    return m.Will(**({"topic": "wills/c", "payload": b"gone"} | fields))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_a_will_is_published_when_its_client_vanishes(version, qos, retain):
    site = Site()
    watcher = site.peer("w", version)
    watcher.subscribe("wills/+", qos=2)
    peer = site.peer("c", version, will=will(qos=qos, retain=retain))
    assert watcher.got() == []
    peer.lose()
    (packet,) = watcher.messages()
    assert (packet.topic, packet.payload, packet.qos, packet.retain) == ("wills/c", b"gone", qos, False)
    assert ("wills/c" in site.values()) is retain
    peer.reconnect(will=None)
    peer.lose()
    assert watcher.messages() == []


@pytest.mark.parametrize("version", VERSIONS)
def test_a_will_is_not_published_after_a_goodbye(version):
    site = Site()
    watcher = site.peer("w", version)
    watcher.subscribe("#")
    peer = site.peer("c", version, will=will())
    peer.leave()
    assert watcher.messages() == []


@pytest.mark.parametrize(
    "end",
    [
        lambda peer: peer.raw(b"\xff\xff\xff\xff\xff"),
        lambda peer: peer.site.pass_(100),
        lambda peer: Peer(peer.site, "c", peer.version).connect(),
        lambda peer: peer.send(m.Connect(client_id="c", version=peer.version)),
    ],
    ids=["malformed", "keep-alive", "taken over", "second CONNECT"],
)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_will_is_published_whatever_else_ends_the_connection(version, end):
    site = Site()
    watcher = site.peer("w", version, keep_alive=0)
    watcher.subscribe("wills/#")
    peer = site.peer("c", version, will=will())
    end(peer)
    assert payloads(watcher.got()) == [b"gone"]


def test_disconnect_with_will_publishes_it():
    site = Site()
    watcher = site.peer("w", 5)
    watcher.subscribe("wills/#")
    peer = site.peer("c", 5, will=will())
    peer.send(m.Disconnect(4))
    assert payloads(watcher.got()) == [b"gone"]


def test_a_will_may_be_delayed_and_is_dropped_when_its_client_comes_back():
    site = Site()
    watcher = site.peer("w", 5, keep_alive=0)
    watcher.subscribe("wills/#")
    peer = site.peer("c", 5, clean=False, session_expiry=100, will=will(properties=Properties(will_delay=10)))
    peer.lose()
    site.pass_(9)
    assert watcher.got() == []
    peer.connect()
    site.pass_(20)
    assert watcher.got() == []
    peer.lose()
    site.pass_(11)
    assert payloads(watcher.got()) == [b"gone"]


def test_a_delayed_will_comes_at_the_latest_with_the_end_of_the_session():
    site = Site()
    watcher = site.peer("w", 5, keep_alive=0)
    watcher.subscribe("wills/#")
    delayed = will(properties=Properties(will_delay=1000))
    peer = site.peer("c", 5, clean=False, session_expiry=10, will=delayed)
    peer.lose()
    site.pass_(11)
    assert payloads(watcher.got()) == [b"gone"]
    peer = site.peer("c", 5, clean=False, session_expiry=2000, will=delayed)
    peer.lose()
    peer.reconnect(clean_start=True, will=None)
    assert payloads(watcher.got()) == [b"gone"]
    peer = site.peer("d", 5, will=delayed)  # no session to come back to
    peer.lose()
    assert payloads(watcher.got()) == [b"gone"]


def test_what_a_will_says_travels_with_it():
    site = Site()
    watcher = site.peer("w", 5)
    watcher.subscribe("wills/#")
    told = {"payload_format": 1, "content_type": "t", "response_topic": "r", "correlation_data": b"1"}
    properties = Properties(message_expiry=60, user=(("a", "b"), ("a", "a")), **told)
    site.peer("c", 5, will=will(properties=properties)).lose()
    (packet,) = watcher.messages()
    for name, value in told.items():
        assert getattr(packet.properties, name) == value
    assert packet.properties.user == (("a", "b"), ("a", "a"))
    assert packet.properties.message_expiry == 60


# -- the end of a token, and of a key


async def test_a_connection_ends_when_its_token_does():
    site = Site()
    peers = {}
    for version in VERSIONS:
        peers[version] = site.peer(f"c{version}", version, who=identity(expires=site.wall + 100), keep_alive=0)
    endless = site.peer("d", 5, keep_alive=0)
    site.pass_(99)
    assert not any(peer.over for peer in peers.values())
    site.pass_(1)
    assert all(peer.over for peer in peers.values())
    assert [packet.reason for packet in peers[5].got()] == [160]
    assert peers[4].got() == peers[3].got() == []
    assert not endless.over


async def test_a_token_that_has_expired_is_called_so_whoever_notices_first():
    people = People()
    site = Site(authenticator=people)
    ann = site.peer("c", 5, who=identity(expires=site.wall + 100), keep_alive=0)
    people.revoked.add("ann")  # what an authenticator says of one that has expired, too
    site.wall += 100
    await site.broker.recheck()
    site.pass_(1)
    assert [packet.reason for packet in ann.got()] == [160]


async def test_a_connection_ends_when_its_key_is_revoked():
    people = People()
    site = Site(authenticator=people)
    watcher = site.peer("w", 5, who=identity("bob"))
    watcher.subscribe("#")
    ann5, ann4 = (site.peer(f"c{version}", version, will=will(), keep_alive=0) for version in (5, 4))
    await site.broker.recheck()
    assert not ann5.over
    people.revoked.add("ann")
    await site.broker.recheck()
    assert ann5.over
    assert ann4.over
    assert [packet.reason for packet in ann5.got()] == [135]
    assert watcher.got() == []  # and its will is not published
    assert not watcher.over
    assert site.count.ended_by_access == 2


def test_somebody_whose_token_has_expired_has_no_last_word():
    site = Site()
    watcher = site.peer("w", 5, keep_alive=0)
    watcher.subscribe("#")
    ann = identity(expires=site.wall + 100)
    delayed = will(properties=Properties(will_delay=200))
    site.peer("a", 5, who=ann, will=will(), keep_alive=0)
    away = site.peer("b", 5, who=ann, will=delayed, **kept(5))
    away.lose()
    site.wall += 100
    site.peer("c", 5, who=ann, will=will(), keep_alive=0).lose()
    site.pass_(201)
    assert watcher.got() == []
    assert site.count.wills == 0


async def test_somebody_whose_key_is_revoked_leaves_no_will_behind():
    people = People()
    site = Site(authenticator=people)
    watcher = site.peer("w", 5, who=identity("bob"), keep_alive=0)
    watcher.subscribe("wills/#")
    delayed = will(properties=Properties(will_delay=10))
    for name in ("ann", "eve"):
        site.peer(name, 5, who=identity(name), will=delayed, **kept(5)).lose()
    people.revoked.add("eve")
    await site.broker.recheck()
    site.pass_(11)
    assert len(watcher.got()) == 1


async def test_a_check_that_fails_ends_nothing(caplog):
    class Broken(People):
        async def still_valid(self, who):
            raise ConnectionError("no answer")

    site = Site(authenticator=Broken())
    peer = site.peer("c", 5)
    await site.broker.recheck()
    assert not peer.over
    assert "trying again" in caplog.text


async def test_a_check_without_an_answer_holds_up_neither_time_nor_other_checks():
    class Silent(People):
        async def still_valid(self, who):
            if who.subject == "silent":
                await asyncio.Event().wait()
            return await super().still_valid(who)

    people = Silent(revoked={"bob"})
    site = Site(authenticator=people, recheck_interval="1ms")
    silent = site.peer("c", 5, who=identity("silent", expires=site.wall + 100), keep_alive=0)
    bob = site.peer("d", 5, who=identity("bob"), keep_alive=0)
    ended = {peer: asyncio.Event() for peer in (silent, bob)}
    for peer, event in ended.items():
        peer.link._wake = event.set
    running = asyncio.create_task(site.broker.run())
    async with asyncio.timeout(10):
        await ended[bob].wait()
        assert not silent.over
        site.wall += 100
        await ended[silent].wait()
    running.cancel()
    assert [packet.reason for packet in silent.got()] == [160]


# -- bounds


def test_there_is_a_bound_to_connections_strangers_and_sessions():
    site = Site(connections=3, strangers=2, sessions=2)
    strangers = [Peer(site, f"s{number}", address=f"192.0.2.{number}") for number in range(2)]
    for peer in strangers:
        peer.open()
    assert site.broker.open("x", lambda: None, lambda: None) is None
    site.pass_(6)
    assert all(peer.over for peer in strangers)
    for peer in strangers:
        peer.lose()
    two = [site.peer(f"c{number}", 5) for number in range(2)]
    third = Peer(site, "c9", 5)
    assert third.connect().reason == 137
    third.lose()
    assert site.broker.numbers().connections == 2
    two[0].lose()
    assert third.connect().reason == 0
    assert site.broker.numbers().strangers == 0


def test_one_address_does_not_take_the_place_of_all_strangers():
    site = Site(strangers=4)
    there = [Peer(site, address=f"2001:db8::{number}") for number in range(2)]
    for peer in there:
        peer.open()
    assert site.broker.open("2001:db8::3", lambda: None, lambda: None) is None
    Peer(site, address="2001:db8:1::1").open()
    there[0].lose()
    signed_in = site.peer("c", address="2001:db8::3")  # this one is a stranger no more
    Peer(site, address="2001:db8::4").open()
    assert site.broker.open("2001:db8::5", lambda: None, lambda: None) is None
    signed_in.lose()
    assert site.broker.open("2001:db8::5", lambda: None, lambda: None) is None
    assert site.count.refused == 3


def test_one_user_does_not_take_the_place_of_all():
    site = Site(sessions_per_user=2)
    first, second = (site.peer(name, 5, **kept(5)) for name in ("one", "two"))
    third = Peer(site, "three", 5, **kept(5))
    assert third.connect().reason == 151
    third.lose()
    second.lose()
    site.pass_(1)
    first.lose()
    assert third.connect().reason == 0  # the one that is away the longest makes room
    assert site.peer("x", 5, who=identity("bob")).connack.reason == 0
    assert first.connect().session_present
    third.leave(session_expiry=0)
    assert not second.connect().session_present


def test_whose_client_is_away_makes_room_for_who_comes():
    site = Site(sessions=2)
    for name in ("ann", "bob"):
        site.peer("c", 5, who=identity(name), **kept(5)).lose()
        site.pass_(1)
    third = site.peer("c", 5, who=identity("eve"))
    assert third.connack.reason == 0
    assert [session.who.subject for session in site.broker._sessions] == ["bob", "eve"]
    assert site.count.sessions_expired == 1
    assert Peer(site, "d", 5, who=identity("fay")).connect().reason == 0
    assert Peer(site, "e", 5).connect().reason == 137


def test_what_waits_for_all_who_are_away_is_bounded():
    site = Site(away_bytes=6000, queue_messages=2, conflated=3)
    for name in ("c", "d", "e"):
        peer = site.peer(name, 5, **kept(5))
        peer.subscribe("#", qos=1)
        if name == "c":
            site.publish("a", bytes(1000))
            peer.got()  # and is not acknowledged
        peer.lose()
        site.pass_(1)
    waits = site.broker.numbers
    unsettled = waits().away_bytes
    assert unsettled > 1000
    for _ in range(3):  # they take the place of those before them
        for topic in ("a", "b", "c"):
            site.publish(topic, bytes(200))
    one = (waits().away_bytes - unsettled) // 3
    assert 5 * 200 < one < 2500
    for topic in ("d", "e", "f"):  # the last has no place
        site.publish(topic, bytes(2000))
    assert site.count.dropped_queue_full > 0
    before = waits().away_bytes
    assert before > 6000
    site.pass_(1)
    assert [session.client_id for session in site.broker._sessions][-1] == "e"
    assert waits().away_bytes <= 6000
    (last,) = [session for session in site.broker._sessions if session.client_id == "e"]
    box = last.outbox
    waiting = [*box.assured, *box._newest_assured.values(), *box.deliveries.unsettled]
    assert box.away_bytes == sum(item.size + 200 for item, _ in waiting)
    back = site.peer("e", 5, **kept(5))
    assert back.connack.session_present


@pytest.mark.parametrize(
    ("reason", "old", "new"),
    [
        ("bad_credentials", 4, 134),
        ("not_authorised", 5, 135),
        ("expired", 5, 135),
        ("banned", 5, 138),
        ("too_many", 3, 159),
    ],
)
def test_who_is_refused_hears_why(reason, old, new):
    site = Site()
    for version, code in ((3, old), (4, old), (5, new)):
        peer = Peer(site, "c", version)
        assert peer.refuse(reason).reason == code
        assert peer.over
        assert peer.got() == []


async def test_closing_says_goodbye_to_everybody():
    site = Site()
    watcher = site.peer("w", 5)
    watcher.subscribe("#")
    peers = [site.peer(f"c{version}", version, will=will()) for version in VERSIONS]
    for peer in peers:
        peer.link._wake = lambda peer=peer: peer.lose()
    watcher.link._wake = watcher.lose
    await site.broker.close()
    assert [packet.reason for packet in peers[-1].got()] == [139]
    assert [packet.reason for packet in watcher.got()] == [139]
    assert site.broker.open("x", lambda: None, lambda: None) is None


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_left_of_those_who_are_gone(seed):
    chance = random.Random(seed)
    site = Site(session_expiry="1m")
    filters = ["#", "a/+", "a/b", "+/c", "$share/g/a/#", "$share/h/#", "b", "$SYS/#"]
    there = []
    for _ in range(400):
        match chance.randrange(6):
            case 0 | 1:
                version = chance.choice(VERSIONS)
                fields = kept(version) if chance.random() < 0.5 else {}
                there.append(site.peer(f"c{chance.randrange(40)}", version, **fields))
            case 2 if there:
                peer = chance.choice(there)
                if not peer.over:
                    peer.subscribe(*chance.sample(filters, 3), qos=chance.randrange(3))
            case 3 if there:
                peer = chance.choice(there)
                if not peer.over:
                    peer.unsubscribe(*chance.sample(filters, 3))
            case 4 if there:
                there.pop(chance.randrange(len(there))).lose()
            case _:
                site.publish(chance.choice(["a/b", "a/c", "b"]), str(chance.random()))
                for peer in chance.sample(there, len(there) // 2):
                    peer.messages()
    for peer in there:
        peer.lose()
    site.pass_(61)
    numbers = site.broker.numbers()
    assert (numbers.connections, numbers.sessions, numbers.subscriptions, numbers.filters) == (0, 0, 0, 0)
    audiences = site.broker._distribution.audiences
    assert not audiences._trie._root.children
    assert not audiences._audiences
    assert not audiences._users
    assert not audiences._shared
    assert not site.broker._sessions._owned
