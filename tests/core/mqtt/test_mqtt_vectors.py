"""Bytes written by hand from the specifications, and what each rule refuses."""

import pytest

from northbound import mqtt as m
from northbound.mqtt.properties import Properties

GOOD = [
    # MQTT 3.1 section 3.1: the example CONNECT, "MQIsdp", user name and password set, keep-alive 10 s, will QoS 1
    (
        3,
        "10 23 00 06 4d 51 49 73 64 70 03 ce 00 0a 00 01 63 00 04 77 69 6c 6c00 02 68 69 00 02 6d 65 00 04 68 65 6c 6f",
        m.Connect(
            client_id="c",
            version=3,
            keep_alive=10,
            username="me",
            password=b"helo",
            will=m.Will("will", b"hi", 1, False),
        ),
    ),
    (3, "20 02 00 04", m.Connack(4)),
    (3, "62 02 00 0a", m.Pubrel(10)),
    # MQTT 3.1.1 section 3.1.2: the variable header of figure 3.6 with an empty client id
    (4, "10 0c 00 04 4d 51 54 54 04 02 00 0a 00 00", m.Connect(version=4, keep_alive=10)),
    (4, "20 02 01 00", m.Connack(0, True)),
    # section 3.3.2: topic a/b, packet identifier 10 (figure 3.11)
    (4, "32 07 00 03 61 2f 62 00 0a", m.Publish("a/b", b"", 1, packet_id=10)),
    (4, "3d 09 00 03 61 2f 62 00 0a 68 69", m.Publish("a/b", b"hi", 2, True, True, 10)),
    (4, "40 02 00 0a", m.Puback(10)),
    (4, "50 02 00 0a", m.Pubrec(10)),
    (4, "70 02 00 0a", m.Pubcomp(10)),
    # section 3.8.3.1: a/b at QoS 1, c/d at QoS 2 (figure 3.23)
    (
        4,
        "82 0e 00 0a 00 03 61 2f 62 01 00 03 63 2f 64 02",
        m.Subscribe(10, (m.Subscription("a/b", 1), m.Subscription("c/d", 2))),
    ),
    (4, "90 05 00 0a 00 02 80", m.Suback(10, (0, 2, 128))),
    # section 3.10.3.1
    (4, "a2 0c 00 0a 00 03 61 2f 62 00 03 63 2f 64", m.Unsubscribe(10, ("a/b", "c/d"))),
    (4, "b0 02 00 0a", m.Unsuback(10)),
    (4, "c0 00", m.Pingreq()),
    (4, "d0 00", m.Pingresp()),
    (4, "e0 00", m.Disconnect()),
    # MQTT 5 section 3.1.2.12: figure 3-6, session expiry 10
    (
        5,
        "10 12 00 04 4d 51 54 54 05 02 00 0a 05 11 00 00 00 0a 00 00",
        m.Connect(keep_alive=10, properties=Properties(session_expiry=10)),
    ),
    (5, "20 03 00 86 00", m.Connack(134)),
    (5, "20 06 00 00 03 21 00 14", m.Connack(0, properties=Properties(receive_maximum=20))),
    # section 3.3.2.4: figure 3-9
    (5, "32 08 00 03 61 2f 62 00 0a 00", m.Publish("a/b", b"", 1, packet_id=10)),
    (5, "30 06 00 00 03 23 00 01", m.Publish("", properties=Properties(topic_alias=1))),
    (5, "40 02 00 0a", m.Puback(10)),
    (5, "40 03 00 0a 10", m.Puback(10, 16)),
    (5, "40 08 00 0a 87 04 1f 00 01 6e", m.Puback(10, 135, Properties(reason_string="n"))),
    # section 1.5.4: U+0041 U+2A6D4 (figure 1-2)
    (5, "30 08 00 05 41 f0 aa 9b 94 00", m.Publish("A\U0002a6d4")),
    # section 1.5.4.3: U+FEFF is not stripped
    (5, "30 06 00 03 ef bb bf 00", m.Publish("\ufeff")),
    (5, "82 09 00 0a 00 00 03 61 2f 62 2d", m.Subscribe(10, (m.Subscription("a/b", 1, True, True, 2),))),
    (5, "e0 01 04", m.Disconnect(4)),
    (5, "f0 08 18 06 15 00 03 61 62 63", m.Auth(24, Properties(authentication_method="abc"))),
]


@pytest.mark.parametrize(("version", "written", "packet"), GOOD, ids=lambda value: str(value)[:30])
def test_vector(version, written, packet):
    raw = bytes.fromhex(written)
    assert m.Decoder(version).feed(raw) == [packet]
    assert m.encode(packet, version) == raw


# read but written differently: shorter forms exist
READ = [
    (5, "40 03 00 0a 00", m.Puback(10)),
    (5, "40 04 00 0a 00 00", m.Puback(10)),
    (5, "e0 02 00 00", m.Disconnect()),
    (5, "f0 00", m.Auth()),
    (5, "20 02 00 01", m.Connack(132)),  # a broker of 3.1.1 refuses version 5
    (3, "20 02 7f 00", m.Connack()),  # 3.1: reserved byte
    (3, "6a 02 00 0a", m.Pubrel(10)),  # 3.1 section 3.6: DUP on PUBREL
    (3, "8a 06 00 0a 00 01 61 01", m.Subscribe(10, (m.Subscription("a", 1),))),
    (4, "20 02 00 07", m.Connack(7)),  # AWS IoT Core
    (5, "40 03 00 0a 95", m.Puback(10, 149)),  # Mosquitto
    (4, "c0 80 00", m.Pingreq()),  # 3.1.1 does not demand the shortest length
]


@pytest.mark.parametrize(("version", "written", "packet"), READ, ids=lambda value: str(value)[:30])
def test_read(version, written, packet):
    assert m.Decoder(version).feed(bytes.fromhex(written)) == [packet]


BAD = [
    # (version, bytes, code, words)
    (4, "00 00", 129, "packet type 0"),
    (4, "f0 00", 129, "packet type 15"),
    (5, "36 00", 129, "QoS 3"),  # 3.3.1-4
    (4, "38 05 00 03 61 2f 62", 129, "DUP at QoS 0"),  # 3.3.1-2
    (5, "30 ff ff ff ff", 129, "more than four bytes"),
    (5, "c0 80 00", 129, "longer than it needs"),  # 1.5.5-1
    (4, "41 02 00 01", 129, "reserved flags"),  # 2.2.2-1
    (4, "60 02 00 01", 129, "reserved flags"),  # 3.6.1-1
    (4, "80 06 00 0a 00 01 61 01", 129, "reserved flags"),  # 3.8.1-1
    (4, "40 02 00 00", 130, "identifier of 0"),  # 2.3.1-1
    (4, "32 07 00 03 61 2f 62 00 00", 130, "identifier of 0"),
    (4, "40 01 00", 129, "shorter"),
    (4, "40 03 00 01 00", 129, "too many"),
    (4, "c0 01 00", 129, "too many"),
    (4, "30 00", 129, "shorter"),
    (4, "30 05 00 09 61 2f 62", 129, "shorter"),
    (4, "30 05 00 03 61 2b 62", 144, "wildcard"),  # 3.3.2-2
    (4, "30 05 00 03 61 2f 23", 144, "wildcard"),
    (4, "30 02 00 00", 144, "without a topic"),  # 4.7.3-1
    (5, "30 03 00 00 00", 148, "without a topic"),
    (4, "30 05 00 03 61 00 62", 129, "U\\+0000"),  # 1.5.3-2
    (4, "30 05 00 03 ed a0 80", 129, "UTF-8"),  # 1.5.3-1: a surrogate
    (4, "30 04 00 02 c0 80", 129, "UTF-8"),  # overlong
    (4, "20 02 02 00", 129, "reserved"),  # 3.2.2-1
    (4, "20 02 01 05", 130, "refuses and yet"),  # 3.2.2-4
    (4, "82 02 00 0a", 130, "without a topic filter"),  # 3.8.3-3
    (4, "82 06 00 0a 00 01 61 03", 129, "options"),  # 3.8.3-4
    (4, "82 06 00 0a 00 01 61 04", 129, "options"),
    (5, "82 07 00 0a 00 00 01 61 40", 129, "options"),  # 3.8.3-5
    (5, "82 07 00 0a 00 00 01 61 30", 129, "options"),
    (4, "82 05 00 0a 00 00 00", 129, "empty"),
    (4, "90 03 00 0a 03", 129, "reserved reason"),  # 3.9.3-2
    (4, "90 02 00 0a", 130, "without a reason"),
    (5, "40 06 00 0a 00 02 02 00", 130, "no place"),  # message expiry in PUBACK
    (5, "40 06 00 0a 00 02 7f 00", 129, "no property 0x7f"),
    (5, "20 09 00 00 06 21 00 01 21 00 01", 130, "twice"),
    (5, "20 06 00 00 03 21 00 00", 130, "cannot be 0"),  # 3.2.2.3.3
    (5, "20 05 00 00 02 24 02", 130, "cannot be 2"),  # 3.2.2.3.4
    (5, "20 06 00 00 05 21 00 01", 129, "longer than their packet"),
    (5, "20 05 00 00 02 21 00", 129, "shorter"),
    (5, "30 0a 00 01 61 06 08 00 03 61 2f 23", 130, "response topic"),
    (5, "f0 02 05 00", 129, "AUTH with the reason"),
    (5, "f0 06 18 04 16 00 01 61", 130, "without a method"),
    (None, "c0 00", 130, "not a CONNECT"),  # 3.1.0-1
    (None, "10 0c 00 04 4d 51 54 55 04 02 00 0a 00 00", 130, "protocol name"),  # 3.1.2-1
    (None, "10 0c 00 04 4d 51 54 54 06 02 00 0a 00 00", 132, "version 6"),  # 3.1.2-2
    (None, "10 0c 00 04 4d 51 54 54 04 03 00 0a 00 00", 129, "reserved flag"),  # 3.1.2-3
    (None, "10 0c 00 04 4d 51 54 54 04 22 00 0a 00 00", 129, "will flags"),
    (None, "10 0c 00 04 4d 51 54 54 04 1e 00 0a 00 00", 129, "will flags"),
    (None, "10 0e 00 04 4d 51 54 54 04 42 00 0a 00 00 00 00", 129, "no user name"),  # 3.1.2-22
    (None, "10 0d 00 04 4d 51 54 54 04 02 00 0a 00 00 00", 129, "too many"),
]


@pytest.mark.parametrize(("version", "written", "code", "words"), BAD, ids=lambda value: str(value)[:40])
def test_refused(version, written, code, words):
    with pytest.raises(m.ProtocolError, match=words) as caught:
        m.Decoder(version).feed(bytes.fromhex(written))
    assert caught.value.code == code


UNWRITABLE = [
    m.Publish("a/+"),
    m.Publish(""),
    m.Publish("a\0b"),
    m.Publish("a\ud800"),
    m.Publish("a" * 65_536),
    m.Publish("a", qos=3, packet_id=1),
    m.Publish("a", qos=1),
    m.Publish("a", packet_id=1),
    m.Publish("a", properties=Properties(user=(("a", "\0"),))),
    m.Publish("a", properties=Properties(message_expiry=-1)),
    m.Puback(0),
    m.Puback(1, 1, Properties(session_expiry=1)),
    m.Subscribe(1, ()),
    m.Subscribe(1, (m.Subscription("", 0),)),
    m.Unsubscribe(1, ()),
    m.Connect(keep_alive=70_000),
    m.Connect(version=6),
    m.Connect(will=m.Will("a/#")),
    m.Connect(password=bytes(65_536)),
    m.Connack(5, True),
]


@pytest.mark.parametrize("packet", UNWRITABLE, ids=lambda value: str(value)[:40])
def test_unwritable(packet):
    with pytest.raises(m.ProtocolError):
        m.encode(packet, 5)


def test_what_a_version_cannot_say_is_left_out():
    assert m.encode(m.Puback(1, 135, Properties(reason_string="no")), 4) == b"\x40\x02\0\1"
    assert m.encode(m.Publish("a", properties=Properties(user=(("a", "b"),))), 4) == b"\x30\x03\0\1a"
    assert m.encode(m.Connack(135), 4) == b"\x20\x02\0\5"
    assert m.encode(m.Suback(1, (1, 135)), 4) == b"\x90\x04\0\1\1\x80"


@pytest.mark.parametrize("good", ["a", "a/b", "#", "+", "a/#", "+/+/#", "/", "$share/g/a/+", "a//b", "$SYS/#"])
def test_filter(good):
    m.check_filter(good)


@pytest.mark.parametrize("bad", ["", "a#", "#/a", "a+", "a/+b", "$share/g", "$share//a", "$share/+/a", "$share/g/"])
def test_not_a_filter(bad):
    with pytest.raises(m.ProtocolError):
        m.check_filter(bad)


def test_a_password_is_not_shown():
    assert "secret" not in repr(m.Connect(client_id="a", username="u", password=b"secret"))
