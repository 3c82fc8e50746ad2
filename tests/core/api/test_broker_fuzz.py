"""Damaged packets, at every byte of every packet type of every version: an answer or an end, and nobody else notices.

By default about 20,000 executions; with ``-m slow`` every value of every byte, 300,312 executions
(71,208 of 3.1, 70,692 of 3.1.1 and 158,412 of 5).
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.peers import Peer, Site

from northbound import mqtt as m
from northbound.mqtt.properties import Properties

VERSIONS = (3, 4, 5)
INTERESTING = (0, 1, 2, 3, 4, 0x20, 0x23, 0x2B, 0x2F, 0x7F, 0x80, 0x82, 0xC0, 0xFE, 0xFF)


def samples(version):
    """Return at least one packet of every type, with all that the version can say."""
    told = Properties if version == 5 else (lambda **_: Properties())
    everything = told(
        payload_format=1,
        message_expiry=9,
        content_type="t",
        response_topic="r",
        correlation_data=b"c",
        user=(("k", "v"),),
        topic_alias=1,
    )
    will = m.Will("w/é", b"gone", 2, True, told(will_delay=1, content_type="t", user=(("a", "b"),)))
    connect = m.Connect(
        client_id="fuzz",
        version=version,
        username="ann",
        password=b"open sesame",
        will=will,
        properties=told(session_expiry=1, receive_maximum=9, maximum_packet_size=999, topic_alias_maximum=3),
    )
    reason = 16 if version == 5 else 0
    said = told(reason_string="s", user=(("k", "v"),))
    packets = [
        connect,
        m.Connack(),
        m.Publish("a/é", b"payload", 0, False, False, 0, everything),
        m.Publish("a/b", b"payload", 1, True, True, 7),
        m.Publish("a/b", b"", 2, False, False, 8, everything),
        m.Puback(7, reason, said),
        m.Pubrec(7, reason, said),
        m.Pubrel(8, 0, said),
        m.Pubcomp(7, 0, said),
        m.Subscribe(9, (m.Subscription("a/+", 1), m.Subscription("$share/g/b/#", 2)), told(subscription_ids=(300,))),
        m.Suback(9, (0, 1)),
        m.Unsubscribe(10, ("a/+", "b"), told(user=(("k", "v"),))),
        m.Unsuback(10, (0, 17) if version == 5 else ()),
        m.Pingreq(),
        m.Pingresp(),
        m.Disconnect(4 if version == 5 else 0, told(session_expiry=1, reason_string="x")),
    ]
    if version == 5:
        packets.append(m.Auth(24, Properties(authentication_method="m", authentication_data=b"d")))
    return packets


def damaged(raw, values):
    """Return the packet with each byte replaced, left out, doubled, and cut short behind it."""
    for at in range(len(raw)):
        for value in {*values, *(raw[at] ^ 1 << bit for bit in range(8))}:
            if value != raw[at]:
                yield raw[:at] + bytes((value,)) + raw[at + 1 :]
        yield raw[:at]
        yield raw[:at] + raw[at + 1 :]
        yield raw[:at] + raw[at : at + 1] + raw[at:]


class Range:
    """A site, somebody who listens to it and must never notice, and the executions so far."""

    def __init__(self):
        self.site = Site(connections=3, sessions=500, session_expiry="1m")
        self.witness = self.site.peer("witness", 5, keep_alive=0)
        self.witness.subscribe("witness", qos=1)
        self.executions = 0

    def shoot(self, version, data, *, first):
        """Send ``data`` behind a good CONNECT, or as the ``first`` bytes; take whatever comes."""
        self.executions += 1
        peer = Peer(self.site, "target", version)
        peer.open()
        if not first:
            peer.send(peer.packet)
            peer.link.admit(peer.who, self.site.now)
        peer.raw(data)
        if first and peer.link.stranger is not None:
            peer.link.admit(peer.who, self.site.now)
        out = peer.bytes()
        if not peer.over:
            assert peer.link.server.accepted or first
        if not peer.link.server.ended and peer.link.server.accepted:
            peer.raw(b"")  # still there
        # a CONNECT that could not be read is answered in the version it claims
        decoder = m.Decoder(5 if out[:1] == b"\x20" and out[1] != 2 else peer.link.server.version)
        packets = decoder.feed(out)  # whatever is said is well-formed
        assert decoder.pending == 0
        if packets:
            assert isinstance(packets[0], m.Connack)
        peer.lose()

    def check(self):
        self.site.publish("witness", str(self.executions))
        assert self.witness.heard() == [("witness", str(self.executions).encode())]
        self.site.pass_(61)
        numbers = self.site.broker.numbers()
        assert (numbers.connections, numbers.sessions, numbers.strangers) == (1, 1, 0)


@pytest.mark.parametrize("version", VERSIONS)
def test_executions_of_every_packet_with_every_byte_damaged(version):
    field, interesting = Range(), INTERESTING
    for packet in samples(version):
        raw = m.encode(packet, version)
        first = isinstance(packet, m.Connect)
        for data in damaged(raw, interesting):
            field.shoot(version, data, first=first)
        field.check()
    assert field.executions > 3_500
    print(f"version {version}: {field.executions:,} executions")


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_every_value_of_every_byte(version):
    field = Range()
    for packet in samples(version):
        raw = m.encode(packet, version)
        for data in damaged(raw, range(256)):
            field.shoot(version, data, first=isinstance(packet, m.Connect))
            if not isinstance(packet, m.Connect):
                field.shoot(version, data, first=True)
        field.check()
    print(f"version {version}: {field.executions:,} executions")


@given(st.sampled_from(VERSIONS), st.binary(max_size=200), st.booleans())
@settings(max_examples=examples(400))
def test_random_bytes(version, data, first):
    field = Range()
    field.shoot(version, data, first=first)
    field.check()


@pytest.mark.parametrize("seed", range(3))
def test_random_sequences_of_good_and_damaged_packets(seed):
    chance = random.Random(seed)
    field = Range()
    for _ in range(1000):
        version = chance.choice(VERSIONS)
        raw = b"".join(m.encode(chance.choice(samples(version)[2:]), version) for _ in range(chance.randint(1, 6)))
        data = bytearray(raw)
        for _ in range(chance.randint(0, 3)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        field.shoot(version, bytes(data), first=False)
    field.check()
