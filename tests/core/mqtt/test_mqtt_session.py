"""The client session without I/O: what it writes, byte for byte, for what it is told."""

import random

import pytest

from northbound import mqtt as m
from northbound.errors import NotConnected, PartialDelivery, Rejected, Unauthorised, Unavailable
from northbound.mqtt.properties import Properties
from northbound.mqtt.reasons import connect_error, publish_error

ROOM = 1 << 20


class Wire:
    """A session and the other end of it."""

    def __init__(self, version=5, connack=None, *, open_=True, **options):
        self.options = m.ClientOptions(host="h", client_id="c", version=version, **options)
        self.session = m.ClientSession(self.options)
        self.version = version
        self.now = 100.0
        if open_:
            self.reconnect(connack or m.Connack())

    def reconnect(self, connack):
        self.decoder = m.Decoder()
        self.session.open(self.now)
        sent = self.sent()
        self.give(connack)
        return sent[0]

    def give(self, *packets):
        self.session.receive(b"".join(m.encode(packet, self.version) for packet in packets), self.now)

    def sent(self, room=ROOM):
        return self.decoder.feed(self.session.output(self.now, room))

    def batch(self, count, qos=1, topic="t", **fields):
        return self.session.publish([m.Publish(topic, b"%d" % index, qos, **fields) for index in range(count)])


def limited(**properties):
    return m.Connack(0, properties=Properties(**properties))


def ids(packets):
    return [packet.packet_id for packet in packets]


def test_connect_says_what_the_options_say():
    wire = Wire(
        open_=False,
        username="u",
        password="p",
        session_expiry=9,
        receive_maximum=7,
        will=m.Will("w", b"x", 1, True),
        keep_alive=30,
        clean_start=False,
    )
    connect = wire.reconnect(m.Connack())
    assert (connect.username, connect.password, connect.keep_alive, connect.clean_start) == ("u", b"p", 30, False)
    assert connect.will == m.Will("w", b"x", 1, True)
    assert connect.properties.session_expiry == 9
    assert connect.properties.receive_maximum == 7


def test_the_window_is_the_smaller_of_both():
    wire = Wire(connack=limited(receive_maximum=3), max_inflight=10)
    batch = wire.batch(5)
    assert ids(wire.sent()) == [1, 2, 3]
    assert wire.sent() == []
    wire.give(m.Puback(2), m.Puback(1))
    assert ids(wire.sent()) == [4, 5]
    wire.give(m.Puback(3), m.Puback(4), m.Puback(5))
    assert batch.left == 0
    assert batch.error is None
    assert len(Wire(max_inflight=4).batch(0).messages) == 0
    wire = Wire(version=4, max_inflight=4)
    wire.batch(9)
    assert len(wire.sent()) == 4


def test_batches_leave_in_the_order_of_the_calls():
    wire = Wire(connack=limited(receive_maximum=2))
    wire.batch(2, topic="a")
    wire.batch(1, qos=0, topic="b")
    wire.batch(1, topic="c")
    assert [packet.topic for packet in wire.sent()] == ["a", "a", "b"]
    wire.give(m.Puback(1))
    assert [packet.topic for packet in wire.sent()] == ["c"]


def test_output_is_bounded():
    wire = Wire()
    batch = wire.session.publish([m.Publish("t", bytes(1000), 0) for _ in range(100)])
    assert len(wire.session.output(wire.now, 10_000)) < 12_000
    assert batch.left == 90


def test_failures_name_their_messages():
    wire = Wire()
    batch = wire.batch(3)
    wire.sent()
    wire.give(m.Puback(1), m.Puback(2, 135, Properties(reason_string="not yours")), m.Puback(3, 16))
    assert isinstance(batch.error, PartialDelivery)
    assert list(batch.error.failures) == [1]
    assert str(batch.error.failures[1]) == (
        "the broker refuses to publish to this topic (135 not authorised: not yours)"
    )
    one = wire.batch(1)
    wire.sent()
    wire.give(m.Puback(4, 151))
    assert isinstance(one.error, Unavailable)


def test_what_the_broker_would_refuse_is_not_sent():
    wire = Wire(connack=limited(maximum_packet_size=30, maximum_qos=1, retain_available=False))
    batch = wire.session.publish(
        [
            m.Publish("t", b"fits", 1),
            m.Publish("t", bytes(50), 1),
            m.Publish("t", b"", 2),
            m.Publish("t", b"", 1, True),
            m.Publish("a/#", b"", 1),
            m.Publish("t", b"last", 1),
            m.Publish("t", b"", 1, properties=Properties(topic_alias=1)),
            m.Publish("a\ud800", b"", 1),
        ]
    )
    sent = wire.sent()
    assert [packet.payload for packet in sent] == [b"fits", b"last"]
    wire.give(*[m.Puback(packet.packet_id) for packet in sent])
    assert sorted(batch.error.failures) == [1, 2, 3, 4, 6, 7]
    assert all(isinstance(error, Rejected) for error in batch.error.failures.values())
    assert str(batch.error.failures[1]) == "the message has 58 bytes as a packet; the broker takes 30 at most"


def test_size_is_exact():
    raw = m.encode(m.Publish("t", bytes(50), 1, packet_id=1), 5)
    wire = Wire(connack=limited(maximum_packet_size=len(raw)))
    assert wire.session.publish([m.Publish("t", bytes(50), 1)]).failures == {}
    assert len(wire.sent()) == 1
    batch = wire.session.publish([m.Publish("t", bytes(51), 1)])
    assert wire.sent() == []
    assert isinstance(batch.error, Rejected)


def test_topic_aliases():
    wire = Wire(connack=limited(topic_alias_maximum=2))
    for topic in ("a", "b", "c", "a", "b", "c"):
        wire.session.publish([m.Publish(topic, b"", 1)])
    assert [(packet.topic, packet.properties.topic_alias) for packet in wire.sent()] == [
        ("a", 1),
        ("b", 2),
        ("c", None),
        ("", 1),
        ("", 2),
        ("c", None),
    ]
    wire.session.lose(NotConnected())
    wire.reconnect(limited(topic_alias_maximum=1))
    wire.session.publish([m.Publish("b", b"", 0, properties=Properties(user=(("k", "v" * 200),)))])
    (packet,) = wire.sent()
    assert (packet.topic, packet.properties) == ("b", Properties(user=(("k", "v" * 200),), topic_alias=1))
    assert not any(packet.properties.topic_alias for packet in _aliasless().sent())


def _aliasless():
    wire = Wire(connack=limited(topic_alias_maximum=2), topic_aliases=False)
    wire.batch(3)
    return wire


def test_inbound_aliases():
    wire = Wire(topic_alias_maximum=2)
    wire.give(m.Publish("a", b"1", properties=Properties(topic_alias=2)))
    wire.give(m.Publish("", b"2", properties=Properties(topic_alias=2)))
    assert [(item.topic, item.payload) for item in wire.session.messages()] == [("a", b"1"), ("a", b"2")]
    for bad in (
        m.Publish("", properties=Properties(topic_alias=1)),
        m.Publish("a", properties=Properties(topic_alias=3)),
    ):
        with pytest.raises(NotConnected, match="topic alias"):
            wire.give(bad)
        assert wire.sent() == [m.Disconnect(148)]


def test_exactly_once_out():
    wire = Wire(connack=limited(receive_maximum=1))
    batch = wire.batch(2, qos=2)
    assert ids(wire.sent()) == [1]
    wire.give(m.Pubrec(1))
    assert wire.sent() == [m.Pubrel(1)]  # the window is still full
    wire.give(m.Pubrec(1))
    assert wire.sent() == [m.Pubrel(1)]
    wire.give(m.Pubcomp(1))
    assert ids(wire.sent()) == [2]
    wire.give(m.Pubrec(2, 151))
    assert wire.sent() == []
    assert isinstance(batch.error.failures[1], Unavailable)
    wire.give(m.Pubrec(9))
    assert wire.sent() == [m.Pubrel(9, 146)]


def test_before_version_5_little_is_exactly_once_at_a_time():
    wire = Wire(4)
    wire.batch(30, qos=2)
    assert len(wire.sent()) == 20
    wire.give(m.Pubrec(1))
    assert wire.sent() == [m.Pubrel(1)]
    wire.give(m.Pubcomp(1))
    assert len(wire.sent()) == 1


@pytest.mark.parametrize(("qos", "answer"), [(2, m.Puback(1)), (1, m.Pubrec(1))])
def test_the_wrong_acknowledgement(qos, answer):
    wire = Wire()
    wire.batch(1, qos=qos)
    wire.sent()
    with pytest.raises(NotConnected, match="broke the protocol"):
        wire.give(answer)
    assert wire.sent() == [m.Disconnect(130)]


def test_exactly_once_in():
    wire = Wire()
    message = m.Publish("t", b"x", 2, packet_id=5)
    wire.give(message, message)
    (received,) = wire.session.messages()
    assert wire.sent() == []
    wire.session.acknowledge([received])
    assert wire.sent() == [m.Pubrec(5)]
    wire.give(message)
    assert wire.session.messages() == []
    assert wire.sent() == [m.Pubrec(5)]
    wire.give(m.Pubrel(5), m.Pubrel(5))
    assert wire.sent() == [m.Pubcomp(5), m.Pubcomp(5, 146)]
    wire.give(message)
    assert len(wire.session.messages()) == 1


def test_acknowledgements_go_out_in_the_order_of_arrival():
    wire = Wire()
    wire.give(*[m.Publish("t", b"", 1 + index % 2, packet_id=index + 1) for index in range(6)])
    received = wire.session.messages()
    shuffled = random.Random(3).sample(received, 6)
    answered = []
    for item in shuffled:
        wire.session.acknowledge([item])
        answered += wire.sent()
    assert ids(answered) == [1, 2, 3, 4, 5, 6]
    assert [type(packet) for packet in answered[:2]] == [m.Puback, m.Pubrec]
    wire.session.acknowledge(received)
    assert wire.sent() == []


def test_acknowledging_what_an_earlier_connection_brought_is_nothing():
    wire = Wire(clean_start=False)
    wire.give(m.Publish("t", b"", 1, packet_id=1))
    (old,) = wire.session.messages()
    wire.session.lose(NotConnected())
    wire.session.acknowledge([old])
    wire.reconnect(m.Connack(0, True))
    wire.give(m.Publish("t", b"", 1, duplicate=True, packet_id=1))
    (new,) = wire.session.messages()
    wire.session.acknowledge([old])
    assert wire.sent() == []
    wire.session.acknowledge([new])
    assert wire.sent() == [m.Puback(1)]


def test_a_broker_may_pass_our_receive_maximum_but_not_the_packet_identifiers():
    wire = Wire(receive_maximum=2)
    wire.give(*[m.Publish("t", b"", 1, packet_id=index) for index in range(1, 65536)])
    assert len(wire.session.messages()) == 65535
    with pytest.raises(NotConnected, match="more than 65535 unacknowledged"):
        wire.give(m.Publish("t", b"", 1, packet_id=1))
    assert wire.sent() == [m.Disconnect(147)]


@pytest.mark.parametrize("version", [3, 4, 5])
def test_resumption(version):
    wire = Wire(version, m.Connack(), clean_start=False, session_expiry=100)
    batch = wire.batch(4)
    wire.batch(2, qos=2)
    assert ids(wire.sent()) == [1, 2, 3, 4, 5, 6]
    wire.give(m.Puback(2), m.Pubrec(5))
    assert wire.sent() == [m.Pubrel(5)]
    wire.session.lose(NotConnected("gone"))
    assert sorted(batch.error.failures) == [0, 2, 3]
    wire.reconnect(m.Connack(0, version > 3))
    sent = wire.sent()
    assert sent[0] == m.Pubrel(5)
    assert [(packet.packet_id, packet.duplicate, packet.qos) for packet in sent[1:]] == [
        (1, True, 1),
        (3, True, 1),
        (4, True, 1),
        (6, True, 2),
    ]
    new = wire.batch(1)
    (packet,) = wire.sent()
    assert packet.packet_id == 7  # those of the old are taken
    wire.give(*[m.Puback(each) for each in (1, 3, 4, 7)], m.Pubrec(6), m.Pubcomp(5), m.Pubcomp(6))
    assert new.error is None
    assert new.left == 0
    assert wire.session.outbound.inflight == 0


def test_resumption_within_a_smaller_window():
    wire = Wire(clean_start=False)
    wire.batch(5)
    wire.sent()
    wire.session.lose(NotConnected())
    wire.reconnect(m.Connack(0, True, Properties(receive_maximum=2)))
    wire.batch(1, topic="new")
    assert ids(wire.sent()) == [1, 2]
    wire.give(m.Puback(1), m.Puback(2))
    assert ids(wire.sent()) == [3, 4]
    wire.give(m.Puback(3), m.Puback(4))
    assert [packet.topic for packet in wire.sent()] == ["t", "new"]


def test_what_the_broker_settles_before_it_was_sent_again_is_not():
    wire = Wire(clean_start=False)
    batch = wire.batch(4)
    wire.sent()
    wire.session.lose(NotConnected())
    wire.reconnect(m.Connack(0, True, Properties(receive_maximum=1)))
    wire.give(m.Puback(4), m.Puback(1))
    assert ids(wire.sent()) == [2]
    wire.give(m.Puback(2))
    assert ids(wire.sent()) == [3]
    wire.give(m.Puback(3))
    assert wire.sent() == []
    assert wire.session.outbound.inflight == batch.left == 0


@pytest.mark.parametrize(("clean", "present"), [(True, False), (False, False)])
def test_no_session_starts_anew(clean, present):
    wire = Wire(clean_start=clean)
    wire.batch(2)
    wire.sent()
    wire.session.lose(NotConnected())
    wire.reconnect(m.Connack(0, present))
    assert wire.sent() == []
    wire.give(m.Puback(1))
    assert wire.session.outbound.unknown == 1


def test_losing_the_connection_fails_what_is_unsettled():
    wire = Wire(connack=limited(receive_maximum=2))
    first, second, third = wire.batch(2), wire.batch(3), wire.batch(1, qos=0)
    wire.sent()
    wire.give(m.Puback(1))
    wire.sent()
    error = NotConnected("because")
    wire.session.lose(error)
    assert first.error.failures == {1: error}
    assert second.error is error
    assert third.error is error
    with pytest.raises(NotConnected):
        wire.batch(1)


def test_an_abandoned_batch_leaves_the_session_whole():
    wire = Wire(connack=limited(receive_maximum=2))
    batch, after = wire.batch(4), wire.batch(1, topic="after")
    assert ids(wire.sent()) == [1, 2]
    wire.session.outbound.abandon(batch)
    assert wire.sent() == []
    wire.give(m.Puback(1))
    (packet,) = wire.sent()
    assert (packet.topic, packet.packet_id) == ("after", 3)
    wire.give(m.Puback(2), m.Puback(3))
    assert after.left == 0
    assert wire.session.outbound.unknown == 0


def test_packet_ids_wrap_and_skip_what_is_in_use():
    wire = Wire(max_inflight=10)
    wire.batch(1)
    (held,) = wire.sent()
    asked = wire.session.subscribe([m.Subscription("a", 1)], wire.now)
    (subscribe,) = wire.sent()
    seen = set()
    for _ in range(7000):
        batch = wire.batch(9)
        packets = wire.sent()
        seen.update(ids(packets))
        wire.give(*[m.Puback(packet.packet_id) for packet in packets])
        assert batch.left == 0
    assert len(wire.batch(9).messages) == 9
    for _ in range(300):
        packets = wire.sent()
        seen.update(ids(packets))
        wire.give(*[m.Puback(packet.packet_id) for packet in packets])
        wire.batch(9)
    assert seen == set(range(1, 65536)) - {held.packet_id, subscribe.packet_id}
    assert asked.reasons is None


def test_keep_alive():
    wire = Wire(keep_alive=60, ack_timeout=30)
    wire.now += 30
    wire.session.tick(wire.now)
    assert wire.sent() == []
    wire.now += 15
    wire.session.tick(wire.now)
    assert wire.sent() == [m.Pingreq()]
    wire.session.tick(wire.now + 29)
    wire.give(m.Pingresp())
    wire.now += 50
    wire.session.tick(wire.now)
    assert wire.sent() == [m.Pingreq()]
    wire.now += 31
    with pytest.raises(NotConnected, match="silent for 31 s"):
        wire.session.tick(wire.now)


def test_server_keep_alive_and_none():
    wire = Wire(connack=limited(server_keep_alive=10), keep_alive=60)
    wire.now += 8
    wire.session.tick(wire.now)
    assert wire.sent() == [m.Pingreq()]
    wire = Wire(keep_alive=0)
    wire.session.tick(wire.now + 1e6)
    assert wire.sent() == []


def test_a_busy_sender_notices_a_broker_that_says_nothing():
    wire = Wire(keep_alive=10)
    for _ in range(9):
        wire.now += 5
        wire.batch(1, qos=0)
        try:
            wire.session.tick(wire.now)
        except NotConnected:
            break
        wire.sent()
    else:
        pytest.fail("it went on for ever")


def test_acknowledgements_have_a_timeout():
    wire = Wire(ack_timeout=5, keep_alive=0)
    wire.batch(2)
    wire.sent()
    wire.now += 4
    wire.give(m.Puback(1))
    wire.session.tick(wire.now)
    wire.now += 2
    with pytest.raises(NotConnected, match="has not acknowledged a packet for 5 s"):
        wire.session.tick(wire.now)
    wire = Wire(ack_timeout=5, keep_alive=0)
    wire.session.subscribe([m.Subscription("a")], wire.now)
    with pytest.raises(NotConnected):
        wire.session.tick(wire.now + 6)


def test_subscriptions():
    wire = Wire()
    done = []
    request = wire.session.subscribe(
        [m.Subscription("a/#", 1), m.Subscription("b", 2)], wire.now, lambda: done.append(1)
    )
    (packet,) = wire.sent()
    assert packet == m.Subscribe(1, (m.Subscription("a/#", 1), m.Subscription("b", 2)))
    wire.give(m.Suback(1, (1, 135)))
    assert request.reasons == (1, 135)
    assert done == [1]
    request = wire.session.unsubscribe(["b"], wire.now)
    assert wire.sent() == [m.Unsubscribe(2, ("b",))]
    wire.give(m.Unsuback(2, (17,)))
    assert request.reasons == (17,)
    request = wire.session.subscribe([m.Subscription("a"), m.Subscription("b")], wire.now)
    wire.give(m.Suback(3, (1,)))
    assert isinstance(request.error, Unavailable)
    with pytest.raises(Rejected):
        wire.session.subscribe([m.Subscription("a/#/b")], wire.now)
    lost = wire.session.subscribe([m.Subscription("a")], wire.now)
    wire.session.lose(NotConnected("x"))
    assert str(lost.error) == "x"


CONNECT_ERRORS = [
    (4, 1, 132, m.VersionRefused, "protocol version"),
    (4, 2, 133, m.CredentialsRefused, "client id"),
    (4, 3, 136, m.ConnectRefused, "server unavailable"),
    (4, 4, 134, m.CredentialsRefused, "user name"),
    (4, 5, 135, m.CredentialsRefused, "credentials"),
    (4, 7, 135, m.CredentialsRefused, "credentials"),
    (5, 132, 132, m.VersionRefused, "try another version"),
    (5, 134, 134, m.CredentialsRefused, "134 bad user name or password: why"),
    (5, 135, 135, m.CredentialsRefused, "135"),
    (5, 136, 136, m.ConnectRefused, "136 server unavailable"),
    (5, 137, 137, m.ConnectRefused, "137 server busy"),
    (5, 138, 138, m.CredentialsRefused, "138 banned"),
    (5, 200, 200, m.ConnectRefused, "200 unknown reason"),
]


@pytest.mark.parametrize(("version", "code", "meant", "kind", "words"), CONNECT_ERRORS)
def test_refused_connections(version, code, meant, kind, words):
    wire = Wire(version, open_=False)
    with pytest.raises(kind, match=words) as caught:
        wire.reconnect(m.Connack(code, properties=Properties(reason_string="why")))
    assert type(caught.value) is kind
    assert getattr(caught.value, "code", 132) == meant
    assert isinstance(caught.value, Unauthorised) == (meant in {133, 134, 135, 138})
    assert not wire.session.connected
    assert "x.example" in str(connect_error(157, 5, server="x.example"))


@pytest.mark.parametrize("code", [135, 144, 149, 153, 154, 155])
def test_refused_for_ever(code):
    assert isinstance(publish_error(code), Rejected)


@pytest.mark.parametrize("code", [128, 131, 145, 147, 151, 200])
def test_refused_for_now(code):
    assert type(publish_error(code)) is Unavailable


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (m.Disconnect(149, Properties(reason_string="big")), "149 packet too large: big"),
        (m.Disconnect(142), "another client uses the same client id"),
        (m.Disconnect(139), "139 server shutting down"),
        (m.Disconnect(157, Properties(server_reference="b.example")), "b.example"),
        (m.Auth(24, Properties(authentication_method="x")), "not supported"),
        (m.Pingreq(), "does not send PINGREQ"),
        (m.Connack(), "second CONNACK"),
        (m.Connect(), "does not send CONNECT"),
    ],
)
def test_what_ends_a_connection(packet, words):
    with pytest.raises(NotConnected, match=words):
        Wire().give(packet)


def test_before_connack_nothing_else():
    wire = Wire(open_=False)
    wire.session.open(0)
    with pytest.raises(NotConnected, match="did not begin with CONNACK"):
        wire.give(m.Pingresp())
    wire = Wire(open_=False)
    wire.session.open(0)
    with pytest.raises(NotConnected, match="AUTH"):
        wire.give(m.Auth())


def test_what_came_before_the_malformed_packet_counts():
    wire = Wire()
    batch = wire.batch(1)
    wire.sent()
    raw = m.encode(m.Publish("t", b"x"), 5) + m.encode(m.Puback(1), 5) + b"\0\0"
    with pytest.raises(NotConnected, match="broke the protocol"):
        wire.session.receive(raw, wire.now)
    assert batch.left == 0
    assert len(wire.session.messages()) == 1


def test_too_large_for_us():
    wire = Wire(maximum_packet_size=100)
    with pytest.raises(NotConnected, match="at most 100 are accepted"):
        wire.give(m.Publish("t", bytes(100)))
    assert wire.sent() == [m.Disconnect(149)]


def test_the_server_names_the_client():
    wire = Wire(open_=False, clean_start=False)
    wire.session.client_id = ""
    wire.reconnect(limited(assigned_client_id="auto-1"))
    assert wire.session.limits.client_id == "auto-1"
    wire.session.lose(NotConnected())
    assert wire.reconnect(m.Connack()).client_id == "auto-1"


def test_settings_that_cannot_be_sent():
    for options in ({"username": "a\0"}, {"password": "\ud800", "username": "a"}, {"keep_alive": 1 << 17}):
        with pytest.raises(Rejected, match="settings cannot be sent"):
            m.ClientSession(m.ClientOptions(host="h", **options)).open(0)


def test_random_conversations_settle_every_message_once():
    """A model: whatever the order of answers, refusals and losses, each message is settled exactly once."""
    for seed in range(60):
        rng = random.Random(seed)
        wire = Wire(connack=limited(receive_maximum=rng.randint(1, 8), topic_alias_maximum=2))
        batches, pending, released = [], [], []
        for _ in range(120):
            match rng.randrange(6):
                case 0:
                    batches.append(wire.batch(rng.randint(1, 6), qos=rng.randint(0, 2)))
                case 1 if pending:
                    packet = pending.pop(rng.randrange(len(pending)))
                    code = rng.choice([0, 0, 16, 151])
                    wire.give((m.Puback if packet.qos == 1 else m.Pubrec)(packet.packet_id, code))
                case 2 if released:
                    wire.give(m.Pubcomp(released.pop(rng.randrange(len(released)))))
                case 3 if rng.random() < 0.1:
                    wire.session.lose(NotConnected())
                    wire.reconnect(limited(receive_maximum=3))
                    pending, released = [], []
            for packet in wire.sent(rng.choice([1, 50, ROOM])):
                if isinstance(packet, m.Pubrel):
                    released.append(packet.packet_id)
                elif packet.qos:
                    pending.append(packet)
            assert len(pending) + len(released) <= wire.session.outbound.window
        wire.session.lose(NotConnected())
        for batch in batches:
            acknowledged = len(batch.messages) - len(batch.failures)
            assert 0 <= acknowledged <= len(batch.messages)
            assert batch.left == 0 or batch.closed


def test_urls():
    assert m.parse_url("mqtt://h") == m.BrokerAddress("h", 1883, False)
    assert m.parse_url("mqtts://a%40b:p%2Fw@h.example:1234/") == m.BrokerAddress("h.example", 1234, True, "a@b", "p/w")
    assert m.parse_url("ssl://[::1]") == m.BrokerAddress("::1", 8883, True)
    assert m.parse_url("tcp://u@h:1").username == "u"
    assert "secret" not in repr(m.parse_url("mqtt://u:secret@h"))
    for bad in (
        "http://h",
        "mqtt://",
        "h:1883",
        "mqtt://h:x",
        "mqtt://h/topic",
        "mqtt://u:secret@h:99999",
        "mqtt://[::1",
    ):
        with pytest.raises(ValueError) as caught:
            m.parse_url(bad)
        assert "secret" not in str(caught.value)
