"""The WebSocket layer by itself, in memory, against the server side of the ``websockets`` package."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from northbound.errors import NotConnected
from northbound.mqtt import ClientOptions
from northbound.mqtt.websocket import WebSocket


class Below(asyncio.Transport):
    """The transport below: what is written is kept."""

    def __init__(self):
        super().__init__()
        self.written = bytearray()
        self.closing = self.aborted = self.reading_paused = False

    def write(self, data):
        assert not self.closing
        self.written += data

    def take(self):
        data, self.written = bytes(self.written), bytearray()
        return data

    def is_closing(self):
        return self.closing

    def close(self):
        self.closing = True

    def abort(self):
        self.closing = self.aborted = True

    def pause_reading(self):
        self.reading_paused = True

    def resume_reading(self):
        self.reading_paused = False


class Above(asyncio.Protocol):
    """The driver's place: what arrives is kept."""

    def __init__(self):
        self.received = bytearray()
        self.transport = None
        self.paused = False
        self.lost = []

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        assert type(data) is bytes
        self.received += data

    def pause_writing(self):
        self.paused = True

    def resume_writing(self):
        self.paused = False

    def connection_lost(self, exc):
        self.lost.append(exc)


class Pair:
    """A client and a server that have agreed."""

    def __init__(self, **options):
        self.loop = asyncio.new_event_loop()
        self.above, self.below = Above(), Below()
        self.client = WebSocket(ClientOptions(host="h", websocket="/mqtt", **options), self.above, self.loop)
        self.server = ServerProtocol(subprotocols=["mqtt"])
        self.client.connection_made(self.below)
        self.server.receive_data(self.below.take())
        (request,) = self.server.events_received()
        assert isinstance(request, Request)
        self.server.send_response(self.server.accept(request))

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.loop.close()

    def to_client(self, cuts=()):
        data = b"".join(self.server.data_to_send())
        edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        for start, end in itertools.pairwise(edges):
            if start < end:
                self.client.data_received(data[start:end])

    def to_server(self):
        self.server.receive_data(self.below.take())
        return self.server.events_received()


pieces = st.lists(st.binary(max_size=300), max_size=8)
cuts = st.lists(st.integers(0, 5000), max_size=12)


@given(pieces=pieces, cuts=cuts, control=st.booleans(), whole=st.booleans())
@settings(max_examples=examples(150))
def test_bytes_arrive_whatever_their_frames(pieces, cuts, control, whole):
    with Pair() as pair:
        pair.to_client(cuts[:3])
        for number, piece in enumerate(pieces):
            if control:
                pair.server.send_ping(b"%d" % number)
            if whole:
                pair.server.send_binary(piece)
            else:  # one message, a frame each
                last = number == len(pieces) - 1
                pair.server.send_frame(Frame(Opcode.BINARY if number == 0 else Opcode.CONT, piece, fin=last))
        pair.to_client(cuts)
        assert bytes(pair.above.received) == b"".join(pieces)
        pongs = [frame.data for frame in pair.to_server() if frame.opcode is Opcode.PONG]
        assert pongs == ([b"%d" % number for number in range(len(pieces))] if control else [])


@given(pieces=pieces)
@settings(max_examples=examples(80))
def test_what_is_written_at_once_is_one_message(pieces):
    with Pair() as pair:
        pair.to_client()
        for piece in pieces:
            pair.above.transport.write(piece)
        assert [frame.data for frame in pair.to_server()] == pieces
        pair.above.transport.writelines(pieces)
        assert [frame.data for frame in pair.to_server()] == [b"".join(pieces)]


@given(noise=st.binary(max_size=400), cuts=cuts)
@settings(max_examples=examples(150))
def test_noise_ends_the_connection_or_is_waited_for_and_never_raises(noise, cuts):
    with Pair(maximum_packet_size=1024) as pair:
        pair.to_client()
        pair.server.writes.append(noise)
        pair.to_client(cuts)
        pair.client.connection_lost(None)
        assert len(pair.above.received) <= len(noise)
        assert len(pair.above.lost) == 1


@pytest.mark.parametrize("upgraded", [True, False])
def test_back_pressure_goes_both_ways(upgraded):
    with Pair() as pair:
        if upgraded:
            pair.to_client()
        pair.client.pause_writing()
        assert pair.above.paused == upgraded
        pair.client.resume_writing()
        assert not pair.above.paused
        pair.client.pause_reading()
        assert pair.below.reading_paused
        pair.client.resume_reading()
        assert not pair.below.reading_paused


def test_pongs_are_dropped_while_the_server_does_not_read():
    with Pair() as pair:
        pair.to_client()
        pair.client.pause_writing()
        pair.server.send_ping(b"x" * 100)
        pair.to_client()
        assert not pair.below.written
        pair.client.resume_writing()
        pair.server.send_ping(b"y")
        pair.to_client()
        assert [frame.data for frame in pair.to_server()] == [b"y"]


def test_closing_in_good_order_from_either_side():
    with Pair() as pair:
        pair.to_client()
        pair.above.transport.close()
        assert pair.above.transport.is_closing()
        pair.above.transport.write(b"too late")
        assert [frame.opcode for frame in pair.to_server()] == [Opcode.CLOSE]
        assert not pair.below.closing
        pair.to_client()
        assert pair.below.closing
        assert not pair.below.aborted
        pair.client.connection_lost(None)
        assert pair.above.lost == [None]
    with Pair() as pair:
        pair.to_client()
        pair.server.send_binary(b"last")
        pair.server.send_close(1008, "not you")
        pair.to_client()
        assert bytes(pair.above.received) == b"last"
        assert pair.below.closing
        pair.client.connection_lost(None)
        (error,) = pair.above.lost
        assert isinstance(error, NotConnected)
        assert str(error) == "the broker closed the WebSocket with 1008 not you"


def test_one_that_was_given_up_hears_nothing_more():
    with Pair() as pair:
        pair.client.opened.cancel()  # the dialler was cancelled
        pair.to_client()
        assert pair.above.transport is None
        pair.client.connection_lost(None)
        assert pair.above.lost == []
    with Pair() as pair:
        pair.to_client()
        pair.above.transport.abort()
        pair.server.send_binary(b"x")
        pair.client.data_received(b"".join(pair.server.data_to_send()))
        assert not pair.above.received
