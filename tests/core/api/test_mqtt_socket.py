"""The WebSocket endpoint on the server that serves it in earnest, and the TCP and TLS listener."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest
import trustme
import websockets
from tests.support import broker as broker_server
from tests.support.broker import PASSWORD, People, Rules, identity, served, value
from uvicorn.protocols.utils import ClientDisconnected
from websockets.exceptions import ConnectionClosed, InvalidStatus

from northbound import mqtt as m
from northbound.api import mqtt_socket
from northbound.api.broker import Broker
from northbound.api.conversation import converse
from northbound.api.identity import SignInRefused
from northbound.api.mqtt_socket import EXTENSION, mqtt_endpoint
from northbound.api.websocket import WebSocket
from northbound.mqtt_options import MqttOptions

VERSIONS = (3, 4, 5)


def connect_packet(version=5, **changes):
    return m.Connect(**({"client_id": "c", "version": version, "username": "ann", "password": PASSWORD} | changes))


def dial(site, subprotocols=("mqtt",), **options):
    return websockets.connect(site.url, subprotocols=list(subprotocols), compression=None, **options)


class Web:
    def __init__(self, ws, version):
        self.ws, self.version = ws, version
        self.decoder = m.Decoder(version)
        self.frames = []

    async def send(self, *packets):
        await self.ws.send(b"".join(m.encode(packet, self.version) for packet in packets))

    async def got(self, count):
        """Return the next ``count`` packets."""
        found = []
        while len(found) < count:
            data = await asyncio.wait_for(self.ws.recv(), 10)
            self.frames.append(data)
            found += self.decoder.feed(data)
        return found

    async def closed(self):
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(self.ws.recv(), 10)
        return caught.value.rcvd.code if caught.value.rcvd else None


async def hang_up(writer):
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def signed_in(ws, version=5, **changes):
    web = Web(ws, version)
    await web.send(connect_packet(version, **changes))
    (connack,) = await web.got(1)
    assert connack.reason == 0
    return web


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["mqtt"], "mqtt"), (["mqttv3.1"], "mqttv3.1"), (["x", "mqttv3.1", "mqtt"], "mqtt")]
)
async def test_the_subprotocol_offered_is_echoed(offered, chosen):
    async with served() as site, dial(site, offered) as ws:
        assert ws.subprotocol == chosen
        await signed_in(ws)


async def test_without_a_subprotocol_of_mqtt_it_is_refused():
    async with served() as site:
        for offered in ([], ["chat"]):
            with pytest.raises(InvalidStatus) as caught:
                await dial(site, offered)
            assert caught.value.response.status_code == 400


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ((), None, 101),
        ((), "https://evil.example", 403),
        ((), "same", 101),
        (("https://good.example",), "https://good.example", 101),
        (("https://good.example",), "https://GOOD.example", 101),
        (("https://good.example",), "https://good.example.evil.example", 403),
        (("https://good.example",), "null", 403),
        (("*",), "https://any.example", 101),
    ],
)
async def test_other_origins_than_configured_are_refused(allowed, origin, status):
    async with served(origins=allowed) as site:
        if origin == "same":
            origin = f"http://127.0.0.1:{site.web_port}"
        try:
            async with dial(site, origin=origin) as ws:
                await signed_in(ws)
                found = 101
        except InvalidStatus as error:
            found = error.response.status_code
        assert found == status


async def test_plain_http_is_told_what_this_is():
    async with served() as site:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.web_port)
        writer.write(b"GET /api/mqtt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 426 ")
        await hang_up(writer)


async def test_text_frames_end_it():
    async with served() as site, dial(site) as ws:
        web = await signed_in(ws)
        await ws.send("not bytes")
        assert await web.closed() == 1003
        await site.until(lambda: site.broker.numbers().connections == 0)


@pytest.mark.parametrize("version", VERSIONS)
async def test_packets_span_and_share_messages(version):
    async with served() as site, dial(site) as ws:
        web = Web(ws, version)
        for byte in m.encode(connect_packet(version), version):
            await ws.send(bytes((byte,)))
        await web.got(1)
        packets = [m.Subscribe(1, (m.Subscription("a/#", 1),)), m.Pingreq(), m.Publish("a/b", b"x", 1, packet_id=2)]
        data = b"".join(m.encode(packet, version) for packet in packets)
        await ws.send(data[:7])
        await ws.send([data[7:9], data[9:]])  # one message, in two frames
        got = await web.got(4)
        assert {type(packet) for packet in got} == {m.Suback, m.Pingresp, m.Puback, m.Publish}


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("subprotocol", ["mqtt", "mqttv3.1"])
async def test_each_packet_goes_in_a_message_of_its_own(subprotocol, qos):
    """What comes in one turn of the loop, too: answers, the present, and messages that many receivers share."""
    async with served() as site, dial(site, [subprotocol]) as one, dial(site, [subprotocol]) as other:
        site.broker.load([value(f"a/{number}", b"x" * number) for number in range(100, 130)])
        webs = [await signed_in(ws, 4, client_id=name) for name, ws in (("one", one), ("other", other))]
        for web in webs:
            await web.send(m.Subscribe(1, (m.Subscription("a/#", qos),)), m.Pingreq())
            await web.got(32)
        site.broker.publish([value(f"a/{number}", b"y" * number) for number in range(200)])
        for web in webs:
            await web.got(200)
            assert len(web.frames) == 233
            for frame in web.frames:
                assert len(m.Decoder(4).feed(frame)) == 1


@pytest.mark.parametrize(("version", "code"), [(3, 4), (4, 4), (5, 134)])
async def test_bad_credentials_get_connack_and_then_the_end(version, code):
    async with served() as site:
        async with dial(site) as ws:
            web = Web(ws, version)
            await web.send(connect_packet(version, password=b"guess"))
            (connack,) = await web.got(1)
            assert connack.reason == code
            assert await web.closed() == 1000
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(m.encode(connect_packet(version, password=b"guess"), version))
        (connack,) = m.Decoder(version).feed(await reader.read())
        assert connack.reason == code
        await hang_up(writer)


async def test_a_sign_in_that_fails_or_takes_for_ever_refuses_only_its_client(caplog):
    class Slow(People):
        async def sign_in(self, username, password, *, address):
            match username:
                case "slow":
                    await asyncio.sleep(60)
                case "broken":
                    raise ConnectionError("no answer")
                case "banned":
                    raise SignInRefused("banned", "go away")
            return await super().sign_in(username, password, address=address)

    async with served(people=Slow(), options=MqttOptions(connect_timeout="300ms")) as site:
        for name, code in (("slow", 136), ("broken", 136), ("banned", 138), ("ann", 0)):
            async with dial(site) as ws:
                web = Web(ws, 5)
                await web.send(connect_packet(username=name))
                assert (await web.got(1))[0].reason == code
    assert "signing in failed" in caplog.text


async def test_who_says_nothing_and_who_says_too_much_are_ended():
    options = MqttOptions(connect_timeout="200ms", connect_bytes=2000)
    async with served(options=options) as site:
        async with dial(site) as ws:
            assert await Web(ws, 5).closed() in {1000, 1001}
        async with dial(site) as ws:
            web = Web(ws, 5)
            await ws.send(m.encode(connect_packet(password=bytes(1900), username="x" * 200), 5))
            assert (await web.got(1))[0].reason == 149
            await web.closed()
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        writer.write(b"\x10\xff\xff\xff\x7f" + bytes(100_000))
        await site.until(lambda: site.broker.numbers().connections == 0)
        await hang_up(writer)


async def test_too_many_connections_are_told_to_come_later():
    async with served(options=MqttOptions(connections=1)) as site, dial(site) as first:
        await signed_in(first)
        async with dial(site) as second:
            assert await Web(second, 5).closed() == 1013
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        assert await reader.read() == b""
        await hang_up(writer)


def frame(data, opcode=2, fin=1):
    assert len(data) < 126
    return bytes((fin << 7 | opcode, 0x80 | len(data))) + b"\0\0\0\0" + data


def raw_websocket(port):
    """Return a socket that has said everything a WebSocket subscriber says, and will not read."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.sendall(
        b"GET /api/mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
    assert b"101" in sock.recv(1000)
    data = m.encode(connect_packet(4, client_id="deaf", keep_alive=0), 4)
    data += m.encode(m.Subscribe(1, (m.Subscription("#"),)), 4)
    sock.sendall(frame(data))
    return sock


def watch(monkeypatch):
    """Return the server's WebSockets, as they come."""
    found = []

    class Watched(WebSocket):
        def connection_made(self, transport):
            super().connection_made(transport)
            found.append(self)

    monkeypatch.setattr(broker_server, "WebSocket", Watched)
    return found


async def test_fragments_of_a_message_do_not_pile_up(monkeypatch):
    found = watch(monkeypatch)
    async with served() as site:
        empty = await asyncio.to_thread(raw_websocket, site.web_port)
        await site.until(lambda: site.broker.numbers().subscriptions == 1)
        empty.sendall(frame(b"", fin=0) + frame(b"", 0, 0) * 10_000 + frame(m.encode(m.Disconnect(), 4), 0))
        await site.until(lambda: site.broker.numbers().connections == 0)  # it was read to its end
        empty.close()
        small = await asyncio.to_thread(raw_websocket, site.web_port)
        await site.until(lambda: site.broker.numbers().subscriptions == 1)
        small.sendall(frame(b"\x30", fin=0) + frame(b"x", 0, 0) * 2000)
        await site.until(lambda: site.broker.numbers().connections == 0)
        assert found[-1].conn.close_sent.code == 1009
        small.close()


async def test_a_stranger_may_say_little_in_one_message():
    options = MqttOptions(connect_bytes=1000)
    async with served(options=options) as site:
        async with dial(site) as ws:
            await ws.send(bytes(2001))
            assert await Web(ws, 5).closed() == 1009
        async with dial(site) as ws:
            web = await signed_in(ws)
            await web.send(m.Publish("a", bytes(100_000), 1, packet_id=1))
            assert await web.got(1)


async def test_answers_to_pings_do_not_pile_up(monkeypatch):
    found = watch(monkeypatch)
    async with served() as site:
        deaf = await asyncio.to_thread(raw_websocket, site.web_port)
        await site.until(lambda: site.broker.numbers().subscriptions == 1)
        deaf.setblocking(False)
        pings, loop = frame(bytes(125), 9) * 1000, asyncio.get_running_loop()
        while found[-1].writable.is_set():
            await loop.sock_sendall(deaf, pings)
            await asyncio.sleep(0)
        for _ in range(20):
            await loop.sock_sendall(deaf, pings)
        assert found[-1].transport.get_write_buffer_size() < 1_000_000
        deaf.close()


@pytest.mark.parametrize("transport", ["websocket", "tcp"])
async def test_a_client_that_never_reads_costs_little_and_harms_nobody(transport):
    options = MqttOptions(queue_bytes=50_000, stall_timeout="1s")
    async with served(options=options) as site, dial(site) as ws:
        web = await signed_in(ws, 4, client_id="quick")
        await web.send(m.Subscribe(1, (m.Subscription("#"),)))
        await web.got(1)
        if transport == "websocket":
            deaf = await asyncio.to_thread(raw_websocket, site.web_port)
        else:
            deaf = socket.create_connection(("127.0.0.1", site.port))
            deaf.sendall(m.encode(connect_packet(4, client_id="deaf", keep_alive=0), 4))
            deaf.sendall(m.encode(m.Subscribe(1, (m.Subscription("#"),)), 4))
        await site.until(lambda: site.broker.numbers().subscriptions == 2)
        while not site.broker.counters.conflated:  # until its buffers are full
            site.broker.publish([value(f"a/{number}", bytes(8000)) for number in range(5)])
            await web.got(5)
        assert site.broker.numbers().queued < 100
        await site.until(lambda: site.broker.numbers().connections == 1)  # it is given up
        site.broker.publish([value("a/1", b"still here")])
        assert (await web.got(1))[0].payload == b"still here"
        deaf.close()


@pytest.mark.parametrize("left", ["more than there is room for", "a little"])
async def test_a_websocket_that_is_left_unread_ends_all_the_same(left, monkeypatch):
    monkeypatch.setattr(mqtt_socket, "_GOOD_BYE", 0.01)
    monkeypatch.setattr(WebSocket, "patience", 0.01)
    lost = asyncio.Event()

    class Watched(WebSocket):
        def connection_made(self, transport):
            super().connection_made(transport)
            if left == "a little":  # it never writes, so it never has
                transport.set_write_buffer_limits(high=100_000_000)

        def connection_lost(self, exc):
            super().connection_lost(exc)
            lost.set()

    monkeypatch.setattr(broker_server, "WebSocket", Watched)
    async with served() as site:
        site.broker.load([value("big", bytes(20_000_000))])
        deaf = await asyncio.to_thread(raw_websocket, site.web_port)
        await site.until(lambda: site.broker.counters.delivered)
        deaf.sendall(b"\x82\x82\0\0\0\0" + m.encode(m.Disconnect(), 4))
        await asyncio.wait_for(lost.wait(), 10)
        deaf.close()


async def test_a_client_that_asks_and_does_not_listen_is_read_no_further():
    async with served() as site:
        sock = socket.create_connection(("127.0.0.1", site.port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, m.encode(connect_packet(4, keep_alive=0), 4))
        assert await loop.sock_recv(sock, 4) == b"\x20\2\0\0"
        pings = b"\xc0\x00" * 32_768
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                while True:
                    await loop.sock_sendall(sock, pings)
        (link,) = site.broker._links
        assert link.server.pending < 300_000
        sock.close()
        await site.until(lambda: site.broker.numbers().connections == 0)


async def test_a_websocket_that_breaks_its_own_protocol_is_no_failure_of_ours(caplog):
    async with served() as site:
        for bad in (b"\x82\x01x", b"\xff\xff\xff\xff", b"\x83\x80\0\0\0\0", b"\x82\xff" + b"\xff" * 12):
            sock = await asyncio.to_thread(raw_websocket, site.web_port)
            await site.until(lambda: site.broker.numbers().subscriptions == 1)
            sock.sendall(bad)
            while site.broker.numbers().connections:  # values go out while it is closed
                site.broker.publish([value("a", "x")])
                await asyncio.sleep(0)
            sock.close()
    assert "Exception in ASGI application" not in caplog.text


async def test_a_websocket_that_its_server_has_closed_already_is_lost():
    """Where a ping stays unanswered, uvicorn closes, and raises ``RuntimeError`` for what is still sent."""
    broker, people = Broker(access=Rules()), People()
    said = asyncio.Queue()
    for event in ({"type": "websocket.connect"}, {"type": "websocket.receive", "bytes": m.encode(connect_packet(), 5)}):
        said.put_nowait(event)

    async def send(event):
        if event["type"] != "websocket.accept":
            raise RuntimeError("Unexpected ASGI message 'websocket.close', after sending 'websocket.close'.")

    class Closed:
        def take(self, largest):
            pass

        async def write_frames(self, data):
            raise ClientDisconnected

    app = mqtt_endpoint(broker, people, Rules(), MqttOptions())
    scope = {"type": "websocket", "headers": [], "subprotocols": ["mqtt"], "client": ("192.0.2.1", 1)}
    await asyncio.wait_for(app(scope | {"extensions": {EXTENSION: {"transport": Closed()}}}, said.get, send), 10)
    assert broker.numbers().connections == 0


async def test_mqtt_over_tls():
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with served(ssl=server) as site:
        client = m.Client(
            m.ClientOptions(
                host="127.0.0.1", port=site.port, ssl=trust, client_id="c", username="ann", password=PASSWORD
            )
        )
        await client.connect()
        assert await client.subscribe(["#"]) == [1]
        await client.disconnect()
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)  # no TLS
        writer.write(m.encode(connect_packet(), 5))
        await hang_up(writer)


async def test_a_fault_of_ours_ends_only_the_connection_it_came_up_in(caplog):
    class Faulty(Rules):
        def publish(self, who, topic):
            raise RuntimeError("a bug")

    async with served(access=Faulty()) as site, dial(site) as one, dial(site) as two:
        first, second = await signed_in(one, client_id="one"), await signed_in(two, client_id="two")
        await first.send(m.Publish("a", b"x", 1, packet_id=1))
        assert (await first.got(1))[0].reason == 131
        await first.closed()
        await second.send(m.Pingreq())
        assert await second.got(1) == [m.Pingresp()]
    assert "a packet could not be processed" in caplog.text


class Tcp:
    """As :class:`Web`, without a WebSocket."""

    def __init__(self, reader, writer, version):
        self.reader, self.writer = reader, writer
        self.version, self.decoder = version, m.Decoder(version)

    async def send(self, *packets):
        self.writer.write(b"".join(m.encode(packet, self.version) for packet in packets))

    async def got(self, count):
        found = []
        while len(found) < count:
            data = await asyncio.wait_for(self.reader.read(65_536), 10)
            assert data, f"the end after {found}"
            found += self.decoder.feed(data)
        return found


@contextlib.asynccontextmanager
async def client_of(site, transport, version):
    """A client that is let in, by either transport."""
    if transport == "tcp":
        reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
        client = Tcp(reader, writer, version)
        try:
            await client.send(connect_packet(version))
            assert [packet.reason for packet in await client.got(1)] == [0]
            yield client
        finally:
            await hang_up(writer)
    else:
        async with dial(site) as ws:
            yield await signed_in(ws, version)


def burst(qos, count):
    return [m.Publish("a", b"%d" % number, qos, packet_id=number) for number in range(1, count + 1)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("transport", ["tcp", "websocket"])
async def test_a_burst_of_more_messages_than_may_be_under_way_is_answered(transport, version):
    options = MqttOptions(receive_maximum=10)
    async with served(options=options) as site, client_of(site, transport, version) as client:
        await client.send(*burst(1, 150))
        assert [packet.packet_id for packet in await client.got(150)] == list(range(1, 151))
        await client.send(m.Pingreq())
        assert await client.got(1) == [m.Pingresp()]
        if version < 5:
            await client.send(*burst(2, 150))
            assert [packet.packet_id for packet in await client.got(150)] == list(range(1, 151))
            await client.send(*[m.Pubrel(number) for number in range(1, 151)])
            assert await client.got(150) == [m.Pubcomp(number) for number in range(1, 151)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("transport", ["tcp", "websocket"])
async def test_a_burst_waits_where_each_answer_waits_for_the_store(transport, version):
    under_way = []
    options = MqttOptions(receive_maximum=10)
    async with served(options=options) as site, client_of(site, transport, version) as client:

        def accept(_, message):
            under_way.append(message.payload)
            assert len(under_way) <= 10
            stored = site.loop.create_future()

            def store():
                under_way.remove(message.payload)
                stored.set_result(None)

            site.loop.call_later(0.001, store)
            return stored

        site.broker.on_publish = accept
        await client.send(*burst(1, 150), m.Pingreq())
        if version < 5:
            got = await client.got(151)
            assert [packet.packet_id for packet in got if isinstance(packet, m.Puback)] == list(range(1, 151))
            await client.send(m.Pingreq())
            assert await client.got(1) == [m.Pingresp()]
        else:  # it was told
            *_, last = await client.got(1)
            while not isinstance(last, m.Disconnect):
                *_, last = await client.got(1)
            assert last.reason == 147


async def test_a_fault_of_ours_while_writing_ends_only_its_connection(caplog):
    class Faulty(Rules):
        def receive(self, who, topic):
            raise RuntimeError("a bug")

    people = People({"bob": identity("bob", role="user")})
    async with served(access=Faulty(read=("a",)), people=people) as site, dial(site) as one, dial(site) as two:
        site.broker.load([value("a")])
        first = await signed_in(one, client_id="one", username="bob")
        second = await signed_in(two, client_id="two")
        await first.send(m.Subscribe(1, (m.Subscription("#"),)))
        assert (await first.got(1))[-1].reason == 131
        await first.closed()
        await second.send(m.Pingreq())
        assert await second.got(1) == [m.Pingresp()]
    assert "could not be written" in caplog.text


async def test_a_long_search_comes_to_its_end_and_lets_others_have_their_turn():
    people = People({"bob": identity("bob", role="user")})
    asked_in, turn = [], 0

    class Noting(Rules):
        def receive(self, who, topic):
            asked_in.append(turn)
            return super().receive(who, topic)

    def count():
        nonlocal turn
        turn += 1
        if len(asked_in) < 20_000:
            asyncio.get_running_loop().call_soon(count)

    async with served(access=Noting(read=("a/1",)), people=people) as site, dial(site) as ws:
        site.broker.load([value(f"a/{number}") for number in range(20_000)])
        web = await signed_in(ws, username="bob")
        count()
        await web.send(m.Subscribe(1, (m.Subscription("#", 1),)))
        found = [packet.topic for packet in await web.got(2) if isinstance(packet, m.Publish)]
        assert found == ["a/1"]
        await site.until(lambda: len(asked_in) == 20_000)
        assert len(set(asked_in)) >= 5


async def test_one_message_of_many_packets_is_dealt_with_in_turns():
    pings = 50_000
    said = [m.encode(m.Pingreq(), 5) * pings, m.encode(connect_packet(), 5)]
    sizes, answered = [], asyncio.Event()

    class Wire:
        async def read(self):
            return said.pop() if said else await answered.wait() and None

        async def write(self, pieces):
            sizes.append(sum(map(len, pieces)))
            if sum(sizes) > 2 * pings:
                answered.set()

        def welcome(self):
            pass

        def abort(self):
            pass

    await asyncio.wait_for(converse(Broker(access=Rules()), People(), "192.0.2.1", Wire()), 10)
    assert 2 * pings < sum(sizes) < 2 * pings + 100  # and CONNACK
    assert max(sizes) <= 32 * 1024


async def test_the_end_says_goodbye():
    async with served() as site:
        ws = await dial(site)
        web = await signed_in(ws)
        closing = asyncio.ensure_future(site.broker.close())
        (goodbye,) = await web.got(1)
        assert goodbye.reason == 139
        await web.closed()
        await closing
