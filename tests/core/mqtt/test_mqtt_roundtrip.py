"""What is written is read back, however the bytes are cut; what is damaged is refused in words."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mqtt_strategies import connects, packets
from tests.support.examples import examples

from northbound import mqtt as m
from northbound.mqtt.encoder import value_head
from northbound.mqtt.properties import NONE, PUBLISH, Properties, encode_properties

VERSIONS = st.sampled_from([3, 4, 5])


def feed_all(data, version, cuts=(), **limits):
    """Return the packets and the code of the error, the bytes cut at ``cuts``."""
    decoder, out, last = m.Decoder(version, **limits), [], 0
    try:
        for cut in [*sorted(cuts), len(data)]:
            out += decoder.feed(data[last:cut])
            last = cut
    except m.ProtocolError as error:
        return out + error.packets, error.code if str(error) else 0
    return out, decoder.pending


@given(st.data(), VERSIONS)
@settings(max_examples=examples(400))
def test_round_trip(data, version):
    packet = data.draw(packets(version))
    raw = m.encode(packet, version)
    assert m.Decoder(version).feed(raw) == [packet]


@given(st.sampled_from([3, 4, 5]).flatmap(connects))
def test_a_server_learns_the_version_from_connect(packet):
    decoder = m.Decoder()
    assert decoder.feed(m.encode(packet, 5) + b"\xc0\0") == [packet, m.Pingreq()]
    assert decoder.version == packet.version


@given(st.data(), VERSIONS)
@settings(max_examples=examples(200))
def test_any_split_reads_the_same(data, version):
    sent = data.draw(st.lists(packets(version), min_size=1, max_size=6))
    raw = b"".join(m.encode(packet, version) for packet in sent)
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=8))
    assert feed_all(raw, version, cuts) == (sent, 0)
    assert feed_all(raw, version, range(1, len(raw))) == (sent, 0)


@given(st.binary(max_size=80), st.sampled_from([None, 3, 4, 5]), st.data())
@settings(max_examples=examples(600))
def test_random_bytes(raw, version, data):
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=6))
    assert feed_all(raw, version, cuts, max_packet_size=1000) == feed_all(raw, version, max_packet_size=1000)


@given(st.data(), VERSIONS)
@settings(max_examples=examples(150))
def test_truncated_and_mutated_packets(data, version):
    raw = m.encode(data.draw(packets(version)), version)
    for end in range(len(raw)):
        assert feed_all(raw[:end], version) == ([], end)  # waits for the rest, complains of nothing
    for place in range(min(len(raw), 60)):
        for value in {0, 1, 0x7F, 0x80, 0xFF, raw[place] ^ 1, raw[place] ^ 8, raw[place] ^ 0x80}:
            changed = raw[:place] + bytes((value,)) + raw[place + 1 :]
            whole = feed_all(changed, version)
            assert whole == feed_all(changed, version, range(1, len(changed)))
    # cut short with an honest length: fields are missing
    if 3 <= len(raw) < 120:
        for end in range(2, len(raw)):
            feed_all(raw[:1] + bytes((end - 2,)) + raw[2:end], version)
    # and with bytes too many
    if raw[1] < 127 and raw[0] >> 4 != 3:
        with_more = raw[:1] + bytes((raw[1] + 1,)) + raw[2:] + b"\1"
        got, code = feed_all(with_more, version)
        assert code >= 128 or got != m.Decoder(version).feed(raw)


def test_too_large_is_refused_at_the_header():
    decoder = m.Decoder(5, max_packet_size=1000)
    with pytest.raises(m.ProtocolError, match="a PUBLISH of 1001 bytes; at most 1000 are accepted") as caught:
        decoder.feed(b"\x30\xe6\x07")
    assert caught.value.code == 149
    assert m.Decoder(5, max_packet_size=1000).feed(b"\x30\xe5\x07") == []


def test_packets_before_the_offence_are_kept():
    with pytest.raises(m.ProtocolError) as caught:
        m.Decoder(4).feed(b"\x40\x02\0\1\x40\x02\0\2\0\0")
    assert caught.value.packets == [m.Puback(1), m.Puback(2)]


def test_byte_by_byte_is_linear():
    """Four times the bytes take about four times the time; a quadratic decoder takes sixteen."""

    def seconds(size):
        raw = m.encode(m.Publish("t", bytes(size)), 5)
        pieces = [raw[at : at + 1] for at in range(len(raw))]
        decoder, best = m.Decoder(5), 9.0
        for _ in range(3):
            began = time.process_time()
            got = [packet for piece in pieces for packet in decoder.feed(piece)]
            best = min(best, time.process_time() - began)
            assert len(got[0].payload) == size
        return best

    assert seconds(400_000) < 10 * seconds(100_000)


@pytest.mark.parametrize("size", [0, 100, 118, 119, 120, 121, 128, 16_370, 16_375, 16_376, 16_384, 70_000])
@pytest.mark.parametrize(("version", "ids"), [(3, ()), (4, ()), (5, ()), (5, (7,)), (5, (1, 268_435_455))])
def test_the_short_way_to_write_a_value_writes_the_same(size, version, ids):
    properties = Properties(subscription_ids=ids) if ids else NONE
    packet = m.Publish("a/é", bytes(size), 0, True, properties=properties)
    raw = encode_properties(properties, PUBLISH) if version == 5 else b""
    assert value_head("a/é", size, raw) + bytes(size) == m.encode(packet, version)
