"""The server's session without I/O: what it answers, byte for byte, and when it ends a connection."""

import pytest

from northbound import mqtt as m
from northbound.mqtt.deliveries import Deliveries
from northbound.mqtt.inbound import Inbound
from northbound.mqtt.properties import NONE, Properties
from northbound.mqtt.publication import Publication, form
from northbound.mqtt.server import ServerOptions, ServerSession

VERSIONS = (3, 4, 5)
LATER = (4, 5)


class Queue:
    """The simplest source: messages in one line."""

    def __init__(self):
        self.deliveries = Deliveries()
        self.waiting = []

    def write(self, out, now, room):
        room = self.deliveries.send_again(out, now, room)
        while self.waiting and room > 0 and (self.waiting[0][1].qos == 0 or self.deliveries.free > 0):
            room -= self.deliveries.send(self.waiting.pop(0), out, now)


class Wire:
    """A session, the client at the other end, and the owner in between, who lets everybody in."""

    def __init__(self, version=5, *, accept=True, options=None, inbound=None, source=None, present=False, **connect):
        self.version = version
        self.now = 50.0
        self.options = options or ServerOptions()
        self.session = ServerSession(self.options, self.now)
        self.decoder = m.Decoder(version)
        self.source = source or Queue()
        self.inbound = inbound or Inbound(version, self.options.topic_alias_maximum, self.options.receive_maximum)
        self.events = []
        told = connect.pop("properties", {})
        properties = Properties(**told) if version == 5 else NONE
        self.connect = m.Connect(client_id="c", version=version, properties=properties, **connect)
        if accept:
            self.give(self.connect)
            self.events += self.session.accept(self.inbound, self.source, NONE, self.now, session_present=present)
            self.connack = self.sent()[0]
            self.events.clear()

    def give(self, *packets):
        self.raw(b"".join(m.encode(packet, self.version) for packet in packets))

    def raw(self, data):
        self.events += self.session.receive(data, self.now)
        self.more()

    def more(self):
        self.events += self.session.more(self.now)

    def sent(self):
        out = []
        while pieces := self.session.output(self.now, 1 << 20):
            out += pieces
        return self.decoder.feed(b"".join(out))

    def queue(self, topic, payload=b"x", qos=1, **fields):
        item = Publication(topic, payload, 2, **fields)
        self.source.waiting.append((item, form(self.version, qos, False)))

    def offends(self, data, code):
        """The bytes end the connection; version 5 hears the code."""
        self.raw(data)
        sent = self.sent()
        assert self.session.ended is not None
        assert self.session.ended.code == code, self.session.ended
        if self.version == 5:
            assert sent[-1].reason == code
            assert type(sent[-1]) is m.Disconnect
        else:
            assert not any(type(packet) is m.Disconnect for packet in sent)


def raw(packet, version=5):
    return m.encode(packet, version)


# -- before CONNECT is accepted


@pytest.mark.parametrize("version", VERSIONS)
def test_a_connect_is_an_event_and_connack_the_first_packet(version):
    wire = Wire(version, accept=False)
    wire.give(wire.connect)
    assert wire.events == [wire.connect]
    assert wire.sent() == []
    wire.session.accept(wire.inbound, wire.source, NONE, wire.now, session_present=False)
    (connack,) = wire.sent()
    assert (connack.reason, connack.session_present) == (0, False)
    assert wire.session.accepted


@pytest.mark.parametrize("version", VERSIONS)
def test_what_comes_behind_connect_waits_for_the_answer(version):
    wire = Wire(version, accept=False)
    wire.give(wire.connect, m.Pingreq(), m.Subscribe(7, (m.Subscription("a"),)))
    assert wire.events == [wire.connect]
    more = wire.session.accept(wire.inbound, wire.source, NONE, wire.now, session_present=False)
    assert [type(packet) for packet in more] == [m.Subscribe]
    assert [type(packet) for packet in wire.sent()] == [m.Connack, m.Pingresp]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_comes_behind_a_refused_connect_is_nobodys(version):
    wire = Wire(version, accept=False)
    wire.give(wire.connect, m.Publish("a", b"x"), m.Pingreq())
    wire.session.refuse(135, "not you")
    assert [type(packet) for packet in wire.sent()] == [m.Connack]
    assert wire.session.receive(raw(m.Pingreq()), wire.now) == []
    assert wire.session.accept(wire.inbound, wire.source, NONE, wire.now, session_present=False) == []
    assert wire.sent() == []


@pytest.mark.parametrize(("version", "code"), [(3, 5), (4, 5), (5, 135)])
def test_a_refusal_says_why_in_the_words_of_the_version(version, code):
    wire = Wire(version, accept=False)
    wire.give(wire.connect)
    wire.session.refuse(135, "not you")
    (connack,) = wire.sent()
    assert (connack.reason, connack.session_present) == (code, False)
    assert connack.properties.reason_string == ("not you" if version == 5 else None)
    assert wire.session.ended is not None
    assert not wire.session.ended.will


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "packet",
    [
        m.Publish("a", b"x"),
        m.Pingreq(),
        m.Subscribe(1, (m.Subscription("a"),)),
        m.Disconnect(),
        m.Puback(1),
        m.Connack(),
    ],
    ids=lambda packet: type(packet).__name__,
)
def test_the_first_packet_must_be_connect(version, packet):
    wire = Wire(version, accept=False)
    wire.raw(raw(packet, version))
    assert wire.session.ended is not None
    assert wire.sent() == []


def test_a_protocol_level_nobody_speaks_is_refused_in_its_own_words():
    higher = ServerSession(ServerOptions(), 0)
    higher.receive(b"\x10\x0d\x00\x04MQTT\x06\x02\x00\x3c\x00\x00\x00", 0)
    assert m.Decoder(5).feed(b"".join(higher.output(0, 1)))[0].reason == 132
    lower = ServerSession(ServerOptions(), 0)
    lower.receive(b"\x10\x0c\x00\x04MQTT\x02\x02\x00\x3c\x00\x00", 0)
    assert b"".join(lower.output(0, 1)) == b"\x20\x02\x00\x01"
    assert higher.ended
    assert lower.ended


def test_another_protocol_name_is_hung_up_on():
    session = ServerSession(ServerOptions(), 0)
    session.receive(b"\x10\x0c\x00\x04HTTP\x04\x02\x00\x3c\x00\x00", 0)
    assert session.ended
    assert session.output(0, 1) == []


@pytest.mark.parametrize(
    "data",
    [
        b"\x10\x0c\x00\x04MQTT\x04\x03\x00\x3c\x00\x00",  # the reserved flag
        b"\x10\x0c\x00\x04MQTT\x04\x1a\x00\x3c\x00\x00",  # will QoS 3
        b"\x10\x0c\x00\x04MQTT\x04\x22\x00\x3c\x00\x00",  # will retain without a will
        b"\x10\x0c\x00\x04MQTT\x04\x06\x00\x3c\x00\x00",  # a will, but no topic
        b"\x10\x0c\x00\x04MQTT\x04\x82\x00\x3c\x00\x00",  # a user name, but none there
        b"\x10\x0e\x00\x04MQTT\x04\x42\x00\x3c\x00\x00\x00\x00",  # a password without a user name
        b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x00\x00\x01",  # a field too many
        b"\x10\x0a\x00\x04MQTT\x04\x02\x00\x3c",  # no client id
        b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02\xed\xa0",  # not UTF-8
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01\x00",  # U+0000
        b"\x11\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00",  # reserved flags of the header
    ],
)
def test_a_malformed_connect_of_3_1_1_gets_no_connack(data):
    session = ServerSession(ServerOptions(), 0)
    assert session.receive(data, 0) == []
    assert session.ended
    assert session.output(0, 1) == []


def test_a_malformed_connect_of_5_hears_why():
    session = ServerSession(ServerOptions(), 0)
    session.receive(b"\x10\x0d\x00\x04MQTT\x05\x03\x00\x3c\x00\x00\x00", 0)
    (connack,) = m.Decoder(5).feed(b"".join(session.output(0, 1)))
    assert connack.reason == 129


def test_enhanced_authentication_is_refused_as_not_supported():
    wire = Wire(5, accept=False, properties={"authentication_method": "SCRAM"})
    wire.give(wire.connect)
    assert wire.events == []
    (connack,) = wire.sent()
    assert connack.reason == 140


def test_before_connect_is_accepted_little_is_taken():
    options = ServerOptions(connect_bytes=200)
    wire = Wire(4, accept=False, options=options)
    wire.raw(b"\x10\xff\x7f")  # announces more than it may
    assert wire.session.ended is not None
    assert wire.session.ended.code == 149
    wire = Wire(4, accept=False, options=options)
    wire.give(wire.connect)
    wire.raw(b"\xc0\x00" * 200)
    assert wire.session.ended is not None
    piecemeal = Wire(4, accept=False, options=options)
    for byte in raw(piecemeal.connect, 4):
        piecemeal.raw(bytes((byte,)))
    assert piecemeal.events == [piecemeal.connect]


def test_who_says_nothing_is_hung_up_on():
    wire = Wire(5, accept=False, options=ServerOptions(connect_timeout=5))
    wire.raw(b"\x10")
    wire.session.tick(54.9)
    assert wire.session.ended is None
    wire.session.tick(55.1)
    assert wire.session.ended is not None
    assert wire.sent() == []


# -- once it is


@pytest.mark.parametrize("version", VERSIONS)
def test_a_second_connect_ends_it(version):
    Wire(version).offends(raw(m.Connect(client_id="c", version=version), version), 130)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "packet",
    [m.Connack(), m.Suback(1, (0,)), m.Unsuback(1, (0,)), m.Pingresp()],
    ids=lambda packet: type(packet).__name__,
)
def test_what_only_a_server_sends_ends_it(version, packet):
    Wire(version).offends(raw(packet, version), 130)


def test_auth_without_a_method_ends_it():
    Wire(5).offends(raw(m.Auth(24, Properties(authentication_method="x"))), 130)
    Wire(4).offends(b"\xf0\x00", 129)


@pytest.mark.parametrize("version", VERSIONS)
def test_pings_are_answered(version):
    wire = Wire(version)
    wire.give(m.Pingreq(), m.Pingreq())
    assert wire.sent() == [m.Pingresp(), m.Pingresp()]


@pytest.mark.parametrize("version", LATER)
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x36\x05\x00\x01a\x00\x01", 129),  # QoS 3
        (b"\x38\x04\x00\x01a\x00", 129),  # DUP at QoS 0
        (b"\x60\x02\x00\x01", 129),  # PUBREL without its flags
        (b"\x80\x06\x00\x01\x00\x01a\x00", 129),  # SUBSCRIBE likewise
        (b"\xa0\x05\x00\x01\x00\x01a", 129),  # UNSUBSCRIBE likewise
        (b"\xc1\x00", 129),
        (b"\xd0\x00", 130),
        (b"\x00\x00", 129),
        (b"\x30\xff\xff\xff\xff\x7f", 129),  # a length of five bytes
    ],
)
def test_reserved_flags_and_packets_end_it(version, data, code):
    Wire(version).offends(data, code)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x30\x05\x00\x02a#\x00", 144),  # a wildcard in a topic name
        (b"\x30\x03\x00\x00\x00", 148),  # no topic and no alias
        (b"\x32\x06\x00\x01a\x00\x00\x00", 130),  # packet identifier 0
        (b"\x82\x07\x00\x00\x00\x00\x01a\x00", 130),  # likewise
        (b"\x82\x03\x00\x01\x00", 130),  # SUBSCRIBE without a filter
        (b"\xa2\x03\x00\x01\x00", 130),  # UNSUBSCRIBE without one
        (b"\x82\x07\x00\x01\x00\x00\x01a\x03", 129),  # QoS 3
        (b"\x82\x07\x00\x01\x00\x00\x01a\x30", 129),  # retain handling 3
        (b"\x82\x07\x00\x01\x00\x00\x01a\xc0", 129),  # reserved bits
        (b"\x82\x0f\x00\x01\x00\x00\x09$share/a/b\x04", 129),  # cut short
        (b"\x30\x07\x00\x01a\x03\x23\x00\x00", 130),  # topic alias 0
        (b"\x30\x07\x00\x01a\x03\x23\x00\x7f", 148),  # topic alias above the maximum
        (b"\x30\x06\x00\x01a\x02\x0b\x01", 130),  # a subscription identifier from a client
        (b"\x30\x09\x00\x01a\x05\x08\x00\x02a#", 130),  # a wildcard in a response topic
        (b"\x30\x08\x00\x01a\x04\x01\x00\x01\x01", 130),  # a property twice
        (b"\x30\x06\x00\x01a\x02\x7e\x01", 129),  # an unknown property
        (b"\x30\x05\x00\x02\xc0\x80\x00", 129),  # ill-formed UTF-8
        (b"\x30\x05\x00\x02a\x00\x00", 129),  # U+0000
        (b"\x30\x84\x00\x00\x01a\x00", 129),  # a length longer than it needs to be
        (b"\xe0\x07\x00\x05\x11\x00\x00\x00\x09", 130),  # a session expiry, where there was none
    ],
)
def test_offences_of_version_5_have_their_codes(data, code):
    Wire(5).offends(data, code)


def test_no_local_on_a_shared_subscription_ends_it():
    body = b"\x00\x01\x00\x00\x0a$share/a/b\x04"
    Wire(5).offends(b"\x82" + bytes((len(body),)) + body, 130)


def test_a_packet_above_the_maximum_ends_it_as_soon_as_it_is_announced():
    wire = Wire(5, options=ServerOptions(maximum_packet_size=100))
    assert wire.connack.properties.maximum_packet_size == 100
    wire.offends(b"\x30\xc8\x01", 149)


def test_more_unacknowledged_messages_than_announced_end_it():
    wire = Wire(5, options=ServerOptions(receive_maximum=2))
    assert wire.connack.properties.receive_maximum == 2
    wire.give(m.Publish("a", b"", 1, packet_id=1), m.Publish("a", b"", 2, packet_id=2))
    wire.offends(raw(m.Publish("a", b"", 1, packet_id=3)), 147)


def messages(qos, count, begin=1):
    return [m.Publish("a", b"%d" % number, qos, packet_id=number) for number in range(begin, begin + count)]


def test_messages_that_were_answered_do_not_count():
    """Those of one read are answered one behind the other, so a client may send more than the maximum at once."""
    wire = Wire(5, options=ServerOptions(receive_maximum=2))
    data = b"".join(raw(packet) for packet in messages(1, 5))
    wire.events += wire.session.receive(data, wire.now)
    for _ in range(3):
        for event in wire.events:
            wire.session.answer(event, 0)
        wire.events.clear()
        wire.more()
    assert [packet.packet_id for packet in wire.sent()] == [1, 2, 3, 4, 5]
    assert wire.session.ended is None


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("version", [3, 4])
def test_before_version_5_more_than_the_maximum_wait(version, qos):
    """Nobody tells such a client of a maximum: hanging up would make it come back, and send the same again."""
    wire = Wire(version, options=ServerOptions(receive_maximum=2), keep_alive=10)
    wire.give(*messages(qos, 3), m.Pingreq(), *messages(qos, 1, begin=4))
    wire.give(m.Pingreq())  # who reads on all the same loses nothing
    wire.now += 100.0  # it waits for answers: silence is not its own
    wire.session.tick(wire.now)
    taken = []
    while wire.events:
        assert len(wire.events) <= 2
        event = wire.events.pop(0)
        taken.append(event.payload)
        wire.session.answer(event, 0)
        wire.more()
    assert taken == [b"1", b"2", b"3", b"4"]
    answer, ping = m.Puback if qos == 1 else m.Pubrec, m.Pingresp()
    assert wire.sent() == [answer(1), ping, answer(2), ping, answer(3), answer(4)]
    assert not wire.session.holds
    assert wire.session.ended is None
    assert wire.inbound.unacknowledged == 0


def test_a_message_that_is_known_needs_no_room():
    wire = Wire(5, options=ServerOptions(receive_maximum=1))
    wire.give(*messages(2, 1))
    wire.give(m.Publish("a", b"1", 2, duplicate=True, packet_id=1))
    wire.session.answer(wire.events[0], 0)
    wire.give(m.Publish("a", b"1", 2, duplicate=True, packet_id=1))
    assert len(wire.events) == 1
    assert wire.session.ended is None


def test_messages_before_an_offence_are_still_taken():
    wire = Wire(5)
    wire.raw(raw(m.Publish("a", b"good")) + b"\x36\x05\x00\x01a\x00\x01")
    assert [event.payload for event in wire.events] == [b"good"]
    assert wire.session.ended.code == 129


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_are_acknowledged_by_their_qos_and_in_order(version):
    wire = Wire(version)
    wire.give(*[m.Publish("a", b"%d" % qos, qos, packet_id=qos * 10) for qos in (1, 0, 2)])
    first, zero, second = wire.events
    assert wire.sent() == []
    wire.session.answer(second, 0)
    wire.session.answer(zero, 0)
    assert wire.sent() == []  # what came first is acknowledged first [MQTT-4.6.0-2]
    wire.session.answer(first, 0)
    assert wire.sent() == [m.Puback(10), m.Pubrec(20)]
    wire.give(m.Pubrel(20))
    assert wire.sent() == [m.Pubcomp(20)]


@pytest.mark.parametrize("version", VERSIONS)
def test_exactly_once_is_taken_once(version):
    wire = Wire(version)
    wire.give(m.Publish("a", b"x", 2, packet_id=5))
    wire.session.answer(wire.events.pop(), 0)
    wire.give(m.Publish("a", b"x", 2, duplicate=True, packet_id=5))
    assert wire.events == []
    assert wire.sent() == [m.Pubrec(5), m.Pubrec(5)]
    wire.give(m.Pubrel(5), m.Publish("a", b"new", 2, packet_id=5))
    assert [event.payload for event in wire.events] == [b"new"]


def test_a_pubrel_for_nothing_is_answered_so():
    wire = Wire(5)
    wire.give(m.Pubrel(9))
    assert wire.sent() == [m.Pubcomp(9, 146)]


def test_a_refused_message_says_so_in_version_5_and_counts_as_taken_before():
    wire = Wire(5)
    wire.give(m.Publish("a", b"", 1, packet_id=1), m.Publish("a", b"", 2, packet_id=2))
    for event in wire.events:
        wire.session.answer(event, 135, "not yours")
    puback, pubrec = wire.sent()
    assert (puback.reason, puback.properties.reason_string) == (135, "not yours")
    assert (pubrec.reason, pubrec.properties.reason_string) == (135, "not yours")
    wire.events.clear()
    wire.give(m.Publish("a", b"again", 2, packet_id=2))  # the identifier is free again
    assert len(wire.events) == 1
    wire = Wire(4)
    wire.give(m.Publish("a", b"", 1, packet_id=1), m.Publish("a", b"", 2, packet_id=2))
    for event in wire.events:
        wire.session.answer(event, 135, "not yours")
    wire.give(m.Pubrel(2))
    assert wire.sent() == [m.Puback(1), m.Pubrec(2), m.Pubcomp(2)]


def test_problem_information_is_left_out_where_it_is_not_wanted():
    wire = Wire(5, properties={"request_problem_information": False})
    wire.give(m.Publish("a", b"", 1, packet_id=1), m.Subscribe(2, (m.Subscription("x"),)))
    wire.session.answer(wire.events[0], 135, "not yours")
    wire.session.suback(wire.events[1], [135], "not yours")
    assert wire.sent() == [m.Puback(1, 135), m.Suback(2, (135,))]


def test_topic_aliases_of_the_client_are_kept_for_the_connection():
    wire = Wire(5)
    wire.give(m.Publish("a/b", b"1", properties=Properties(topic_alias=3)))
    wire.raw(b"\x30\x07\x00\x00\x03\x23\x00\x032")
    assert [event.topic for event in wire.events] == ["a/b", "a/b"]
    wire.give(m.Publish("c", b"3", properties=Properties(topic_alias=3)))
    wire.raw(b"\x30\x07\x00\x00\x03\x23\x00\x034")
    assert wire.events[-1].topic == "c"
    again = Wire(5, inbound=wire.inbound, present=True)
    again.offends(b"\x30\x07\x00\x00\x03\x23\x00\x035", 148)


@pytest.mark.parametrize(("version", "code"), [(3, 0), (4, 0), (5, 141)])
def test_keep_alive_is_enforced_at_one_and_a_half(version, code):
    wire = Wire(version, keep_alive=10)
    wire.now = 64.9
    wire.session.tick(wire.now)
    wire.give(m.Pingreq())
    wire.session.tick(79.8)
    assert wire.session.ended is None
    wire.session.tick(80.0)
    assert wire.session.ended is not None
    assert wire.session.ended.will
    last = wire.sent()[-1]
    assert last == m.Pingresp() if version < 5 else last.reason == code


@pytest.mark.parametrize("version", VERSIONS)
def test_a_packet_that_dribbles_in_keeps_nothing_alive(version):
    wire = Wire(version, keep_alive=10)
    data = raw(m.Publish("a", bytes(100)), version)
    for byte in data[:20]:
        wire.raw(bytes((byte,)))
        wire.session.tick(wire.now)
        wire.now += 1.0
    assert wire.session.ended is not None
    wire = Wire(version, keep_alive=10)
    for byte in data:  # in time
        wire.now += 0.1
        wire.raw(bytes((byte,)))
    wire.session.tick(wire.now + 14.9)
    assert wire.session.ended is None


def test_a_large_packet_on_a_slow_line_keeps_its_connection():
    wire = Wire(5, keep_alive=10)
    data = raw(m.Publish("a", bytes(100_000)))
    for begin in range(0, len(data), 1000):
        wire.now += 3.0
        wire.raw(data[begin : begin + 1000])
        wire.session.tick(wire.now)
    assert wire.session.ended is None
    assert [len(event.payload) for event in wire.events] == [100_000]


def test_a_keep_alive_of_zero_is_off_unless_the_server_wants_one():
    wire = Wire(5, keep_alive=0)
    assert wire.connack.properties.server_keep_alive is None
    wire.session.tick(1e6)
    assert wire.session.ended is None
    imposed = Wire(5, keep_alive=0, options=ServerOptions(maximum_keep_alive=20))
    assert imposed.connack.properties.server_keep_alive == 20
    imposed.session.tick(81)
    assert imposed.session.ended is not None
    shorter = Wire(5, keep_alive=10, options=ServerOptions(maximum_keep_alive=20))
    assert shorter.connack.properties.server_keep_alive is None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_normal_goodbye_discards_the_will(version):
    wire = Wire(version)
    wire.give(m.Disconnect())
    assert wire.session.ended is not None
    assert not wire.session.ended.will
    wire.give(m.Pingreq())
    assert wire.sent() == []


def test_other_goodbyes_do_not():
    wire = Wire(5)
    wire.give(m.Disconnect(4))
    assert wire.session.ended.will
    wire = Wire(5)
    wire.session.lose("gone")
    assert wire.session.ended.will
    wire = Wire(5, properties={"session_expiry": 10})
    wire.give(m.Disconnect(0, Properties(session_expiry=99)))
    assert wire.session.ended.session_expiry == 99


@pytest.mark.parametrize("version", VERSIONS)
def test_the_server_ends_it_with_a_reason_in_version_5_only(version):
    wire = Wire(version)
    wire.session.disconnect(142, "taken over")
    sent = wire.sent()
    if version == 5:
        assert [(packet.reason, packet.properties.reason_string) for packet in sent] == [(142, "taken over")]
    else:
        assert sent == []
    assert wire.session.ended.code == 142


# -- messages to the client


def test_the_window_is_what_the_client_takes():
    wire = Wire(5, properties={"receive_maximum": 2})
    for number in range(5):
        wire.queue("a", b"%d" % number)
    first = wire.sent()
    assert [packet.payload for packet in first] == [b"0", b"1"]
    wire.queue("b", b"zero", 0)
    assert wire.sent() == []  # in this simple queue it stands behind the others
    wire.give(m.Puback(first[0].packet_id))
    assert [packet.payload for packet in wire.sent()] == [b"2"]
    wire.give(m.Puback(first[1].packet_id, 128))  # also a refusal settles
    assert [packet.payload for packet in wire.sent()] == [b"3"]


def test_exactly_once_keeps_its_place_in_the_window_until_pubcomp():
    wire = Wire(5, properties={"receive_maximum": 1})
    wire.queue("a", b"1", 2)
    wire.queue("a", b"2", 2)
    (first,) = wire.sent()
    wire.give(m.Pubrec(first.packet_id))
    assert wire.sent() == [m.Pubrel(first.packet_id)]
    wire.give(m.Pubcomp(first.packet_id))
    (second,) = wire.sent()
    assert second.payload == b"2"
    wire.give(m.Pubrec(second.packet_id, 135))  # refused: no PUBREL, and the place is free
    assert wire.sent() == []
    assert wire.source.deliveries.inflight == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_unsettled_is_sent_again_with_the_same_identifier_and_dup(version):
    wire = Wire(version)
    for qos in (1, 2, 2):
        wire.queue("a", b"%d" % len(wire.source.waiting), qos)
    one, two, three = wire.sent()
    assert not any(packet.duplicate for packet in (one, two, three))
    wire.give(m.Pubrec(three.packet_id))
    assert wire.sent() == [m.Pubrel(three.packet_id)]
    again = Wire(version, inbound=wire.inbound, source=wire.source, present=version > 3, accept=False)
    again.give(again.connect)
    again.session.accept(again.inbound, again.source, NONE, again.now, session_present=True)
    connack, release, *resent = again.sent()
    assert connack.session_present == (version > 3)
    assert release == m.Pubrel(three.packet_id)
    assert [(p.packet_id, p.duplicate, p.payload, p.qos) for p in resent] == [
        (one.packet_id, True, b"0", 1),
        (two.packet_id, True, b"1", 2),
    ]


def test_a_session_may_come_back_in_another_version():
    wire = Wire(4)
    wire.queue("a", b"1")
    wire.sent()
    again = Wire(5, inbound=wire.inbound, source=wire.source, accept=False)
    again.give(again.connect)
    again.session.accept(again.inbound, again.source, NONE, again.now, session_present=True)
    _, resent = again.sent()
    assert (resent.duplicate, resent.payload) == (True, b"1")


def test_a_smaller_window_holds_for_what_is_sent_again_too():
    wire = Wire(5)
    for number in range(3):
        wire.queue("a", b"%d" % number)
    sent = wire.sent()
    again = Wire(5, inbound=wire.inbound, source=wire.source, accept=False, properties={"receive_maximum": 1})
    again.give(again.connect)
    again.session.accept(again.inbound, again.source, NONE, again.now, session_present=True)
    assert [packet.payload for packet in again.sent()[1:]] == [b"0"]
    again.give(m.Puback(sent[0].packet_id))
    assert [packet.payload for packet in again.sent()] == [b"1"]


@pytest.mark.parametrize("version", LATER)
def test_what_is_settled_before_it_was_sent_again_is_not(version):
    """Answers may come with CONNECT: to what the client had heard on the connection before."""
    wire = Wire(version)
    for qos in (1, 2, 1, 1):
        wire.queue("a", b"%d" % len(wire.source.waiting), qos)
    one, two, three, four = wire.sent()
    again = Wire(version, inbound=wire.inbound, source=wire.source, accept=False, properties={"receive_maximum": 2})
    again.give(again.connect, m.Puback(one.packet_id), m.Pubrec(two.packet_id), m.Puback(four.packet_id))
    again.session.accept(again.inbound, again.source, NONE, again.now, session_present=True)
    assert again.sent()[1:] == [
        m.Pubrel(two.packet_id),
        m.Publish("a", b"2", 1, duplicate=True, packet_id=three.packet_id),
    ]
    again.queue("a", b"new", 1)
    assert [packet.payload for packet in again.sent()] == ([b"new"] if version < 5 else [])  # the window is full
    again.give(m.Puback(three.packet_id), m.Pubcomp(two.packet_id))
    assert [packet.payload for packet in again.sent()] == ([b"new"] if version == 5 else [])


def test_a_window_holds_while_what_was_to_be_sent_again_is_settled():
    wire = Wire(5)
    for number in range(3):
        wire.queue("a", b"%d" % number)
    *_, last = wire.sent()
    again = Wire(5, inbound=wire.inbound, source=wire.source, accept=False, properties={"receive_maximum": 1})
    again.give(again.connect, m.Puback(last.packet_id))
    again.session.accept(again.inbound, again.source, NONE, again.now, session_present=True)
    assert [packet.payload for packet in again.sent()[1:]] == [b"0"]


def test_a_new_session_has_nothing_of_the_old():
    wire = Wire(5)
    wire.queue("a", b"1")
    wire.sent()
    again = Wire(5, inbound=wire.inbound, source=wire.source, present=False)
    assert again.sent() == []
    assert again.source.deliveries.inflight == 0


def test_what_the_client_would_not_take_is_not_sent():
    wire = Wire(5, properties={"maximum_packet_size": 40})
    wire.queue("a", bytes(30), 0)
    wire.queue("a", bytes(50), 0)
    wire.queue("a", bytes(31), 1)
    wire.queue("a", bytes(50), 1)
    assert [len(packet.payload) for packet in wire.sent()] == [30, 31]
    assert wire.source.deliveries.too_large == 2


def test_answers_leave_their_words_out_for_a_client_that_takes_little():
    wire = Wire(5, properties={"maximum_packet_size": 24})
    wire.session.disconnect(142, "a long story " * 9)
    assert wire.sent() == [m.Disconnect(142)]
    wire = Wire(5, accept=False, properties={"maximum_packet_size": 24})
    wire.give(wire.connect)
    wire.session.refuse(135, "a long story " * 9)
    assert wire.sent() == [m.Connack(135)]


@pytest.mark.parametrize(("largest", "told"), [(20, None), (21, "a tall story")])
def test_acknowledgements_leave_their_words_out_for_a_client_that_takes_little(largest, told):
    wire = Wire(5, properties={"maximum_packet_size": largest})
    wire.give(m.Publish("a", b"", 1, packet_id=1), m.Publish("a", b"", 2, packet_id=2))
    for event in wire.events:
        wire.session.answer(event, 135, "a tall story")
    pieces = wire.session.output(wire.now, 1 << 20)
    assert max(map(len, pieces)) <= largest
    puback, pubrec = wire.decoder.feed(b"".join(pieces))
    assert (type(puback), puback.reason, puback.properties.reason_string) == (m.Puback, 135, told)
    assert (type(pubrec), pubrec.reason, pubrec.properties.reason_string) == (m.Pubrec, 135, told)


def test_topic_aliases_to_the_client_are_given_and_used():
    wire = Wire(5, properties={"topic_alias_maximum": 1})
    for topic in ("a/long/topic", "b", "a/long/topic"):
        wire.queue(topic, b"x", 0)
    first, second, third = wire.sent()
    assert (first.topic, first.properties.topic_alias) == ("a/long/topic", 1)
    assert (second.topic, second.properties.topic_alias) == ("b", None)
    assert (third.topic, third.properties.topic_alias) == ("", 1)
    without = Wire(5)
    without.queue("a", b"x", 0)
    assert without.sent()[0].properties.topic_alias is None


def test_the_time_left_is_told_and_what_has_expired_is_not_sent():
    wire = Wire(5)
    wire.queue("a", b"soon", 1, expires=60.5)
    wire.queue("b", b"late", 1, expires=49.0)
    wire.queue("c", b"also in 0", 0, expires=51.0)
    first, second = wire.sent()
    assert (first.payload, first.properties.message_expiry) == (b"soon", 11)
    assert second.properties.message_expiry == 1
    assert wire.source.deliveries.expired == 1


@pytest.mark.parametrize("size", [0, 100, 127, 128, 129, 16_370, 16_384, 70_000])
@pytest.mark.parametrize("version", LATER)
def test_a_packet_identifier_is_put_in_at_its_place(version, size):
    wire = Wire(version)
    wire.queue("a/b", bytes(size), 2)
    wire.queue("a/b", bytes(size), 1, expires=100.0)
    wire.queue("a/b", bytes(size), 0)
    sent = wire.sent()
    assert [(p.topic, len(p.payload), p.qos) for p in sent] == [("a/b", size, qos) for qos in (2, 1, 0)]
    assert sent[0].packet_id
    assert sent[0].packet_id != sent[1].packet_id


def test_identifiers_in_use_are_passed_over():
    wire = Wire(5, options=ServerOptions(max_inflight=65_535))
    deliveries = wire.source.deliveries
    deliveries._last_id = 65_534
    wire.queue("a", b"1")
    wire.queue("a", b"2")
    assert [packet.packet_id for packet in wire.sent()] == [65_535, 1]
    deliveries._last_id = 65_534
    wire.queue("a", b"3")
    assert [packet.packet_id for packet in wire.sent()] == [2]


def test_a_puback_for_nothing_is_passed_over_and_one_for_qos_2_ends_it():
    wire = Wire(5)
    wire.give(m.Puback(77), m.Pubcomp(78))
    assert wire.session.ended is None
    wire.give(m.Pubrec(79))
    assert wire.sent() == [m.Pubrel(79, 146)]
    wire.queue("a", b"1", 2)
    (sent,) = wire.sent()
    wire.offends(raw(m.Puback(sent.packet_id)), 130)


def test_a_full_window_delays_nothing_but_messages():
    wire = Wire(5, properties={"receive_maximum": 1})
    for number in range(3):
        wire.queue("a", b"%d" % number)
    assert len(wire.sent()) == 1
    wire.give(m.Pingreq(), m.Publish("b", b"", 1, packet_id=1), m.Subscribe(2, (m.Subscription("x"),)))
    wire.session.answer(wire.events[0], 0)
    wire.session.suback(wire.events[1], [0])
    assert [type(packet) for packet in wire.sent()] == [m.Pingresp, m.Puback, m.Suback]


def test_what_was_refused_is_not_sent_again():
    wire = Wire(5)
    wire.queue("a", b"1", 1)
    wire.queue("a", b"2", 2)
    one, two = wire.sent()
    wire.give(m.Puback(one.packet_id, 135), m.Pubrec(two.packet_id, 135))
    again = Wire(5, inbound=wire.inbound, source=wire.source, accept=False)
    again.give(again.connect)
    again.session.accept(again.inbound, again.source, NONE, again.now, session_present=True)
    assert [type(packet) for packet in again.sent()] == [m.Connack]


def test_what_was_begun_is_finished_although_it_expires():
    wire = Wire(5)
    wire.queue("a", b"x", 2, expires=60.0)
    (sent,) = wire.sent()
    again = Wire(5, inbound=wire.inbound, source=wire.source, accept=False)
    again.now = 100.0
    again.give(again.connect)
    again.session.accept(again.inbound, again.source, NONE, again.now, session_present=True)
    assert [(p.packet_id, p.payload) for p in again.sent()[1:]] == [(sent.packet_id, b"x")]
    again.give(m.Pubrec(sent.packet_id), m.Pubcomp(sent.packet_id))
    assert again.sent() == [m.Pubrel(sent.packet_id)]
