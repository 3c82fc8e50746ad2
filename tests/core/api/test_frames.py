"""Packets as WebSocket messages: each in one of its own, however they come in pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

from northbound import mqtt as m
from northbound.api.frames import framed


def messages(data):
    """Return what a client reads, by the ``websockets`` package."""
    protocol = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    protocol.receive_data(data)
    assert protocol.parser_exc is None
    frames = protocol.events_received()
    assert all(frame.fin and frame.opcode == 2 for frame in frames)
    return [bytes(frame.data) for frame in frames]


def packet(size, version=4):
    return m.encode(m.Publish("a", bytes(size)), version)


#: Sizes of payloads about which the length in the packet, or in the frame, takes another form.
EDGES = [0, 100, *range(115, 130), 16_370, 16_383, 20_000, 65_520, 65_540, 300_000, 2_097_160]


@pytest.mark.parametrize("size", EDGES)
def test_a_packet_is_a_message(size):
    assert messages(framed([packet(size)])) == [packet(size)]


def test_many_packets_in_one_piece_are_as_many_messages():
    packets = [packet(size) for size in EDGES]
    assert messages(framed([b"".join(packets)])) == packets
    assert messages(framed([b"".join(packets[:5]), *packets[5:9], b"".join(packets[9:])])) == packets


def test_nothing_is_nothing():
    assert framed([]) == framed([b""]) == b""


@st.composite
def pieces(draw):
    """Packets, and the same in pieces as a session writes them: whole, in two or three, or several in one."""
    packets, cut = [], []
    for _ in range(draw(st.integers(0, 12))):
        sizes = st.one_of(st.integers(0, 300), st.sampled_from(EDGES[:-2]))
        some = [packet(draw(sizes)) for _ in range(draw(st.integers(1, 4)))]
        packets += some
        if len(some) > 1:
            cut.append(b"".join(some))
            continue
        (whole,) = some
        first = draw(st.integers(min(5, len(whole)), len(whole)))
        second = draw(st.integers(first, len(whole)))
        cut += [whole[:first], whole[first:second], whole[second:]]
    return packets, cut


@given(pieces())
def test_pieces_come_together(made):
    packets, cut = made
    assert messages(framed(cut)) == packets
