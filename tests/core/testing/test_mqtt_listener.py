from __future__ import annotations

import asyncio
import contextlib
import ssl
from datetime import timedelta

import pytest
import websockets.asyncio.client
from websockets.exceptions import InvalidStatus

from northbound import NotConnected
from northbound.mqtt import (
    Client,
    ClientOptions,
    Connack,
    Connect,
    Decoder,
    Disconnect,
    Pingreq,
    Properties,
    Puback,
    Publish,
    encode,
)
from northbound.testing.twins import mqtt_peer
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.mqtt_listener import MqttListener
from northbound.testing.twins.mqtt_peer import MqttPeer


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


class Peer(MqttPeer):
    peers: list[Peer]

    def __init__(self, wire) -> None:
        super().__init__(wire)
        self.taken: list[Publish] = []
        self.answer = True

    def on_connect(self, packet):
        return Connack(0, False, Properties(receive_maximum=3, topic_alias_maximum=2))

    def on_publish(self, packet):
        self.taken.append(packet)
        if self.answer:
            self.acknowledge(packet)


class SocketPeer(Peer):
    def speaks_websocket(self):
        return True


def collecting(kind: type[Peer], peers: list):
    def make(wire):
        peers.append(kind(wire))
        return peers[-1]

    return make


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.005)


class Raw:
    """A client that says whatever it is told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.decoder = Decoder(5)

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *exc):
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def say(self, *packets, version=5):
        self.writer.write(b"".join(encode(packet, version) for packet in packets))
        await self.writer.drain()

    async def hear(self):
        """Everything until the end of the connection."""
        out = []
        async with asyncio.timeout(10):
            while data := await self.reader.read(65_536):
                out += self.decoder.feed(data)
        return out


@pytest.mark.parametrize("version", [3, 4, 5])
async def test_our_client_over_tcp(version):
    peers: list[Peer] = []
    async with MqttListener(collecting(Peer, peers)) as listener:
        client = Client(ClientOptions(host="127.0.0.1", port=listener.port, client_id="c", version=version))
        await client.connect()
        await client.publish([Publish(f"t/{n % 4}", b"%d" % n, 1) for n in range(50)])
        await client.disconnect()
    assert [(p.topic, p.payload) for p in peers[0].taken] == [(f"t/{n % 4}", b"%d" % n) for n in range(50)]
    assert peers[0].client_id == "c"


async def test_tls_tells_certificate_name_and_protocol(authority):
    peers: list[Peer] = []
    names = []
    context = authority.server_context(authority.server(), clients="required", alpn=["one", "two"])
    async with MqttListener(collecting(Peer, peers), context=context, server_name_seen=names.append) as listener:
        mine = authority.client_context(authority.client("device-1"))
        mine.set_alpn_protocols(["two"])
        client = Client(ClientOptions(host="localhost", port=listener.port, ssl=mine))
        await client.connect()
        greeting = peers[0].wire.greeting
        await client.disconnect()
    assert greeting.certificate.subject.rfc4514_string() == "CN=device-1"
    assert (greeting.server_name, greeting.alpn, names) == ("localhost", "two", ["localhost"])


@pytest.mark.parametrize("case", ["none", "expired", "foreign"])
async def test_a_wrong_client_certificate_is_refused(authority, tmp_path, case):
    peers: list[Peer] = []
    context = authority.server_context(authority.server(), clients="required")
    pair = {
        "none": lambda: None,
        "expired": lambda: authority.client("d", valid=timedelta(seconds=-1)),
        "foreign": lambda: Authority(tmp_path / "other").client("d"),
    }[case]()
    async with MqttListener(collecting(Peer, peers), context=context) as listener:
        client = Client(ClientOptions(host="localhost", port=listener.port, ssl=authority.client_context(pair)))
        with pytest.raises(Exception) as caught:
            await client.connect()
    assert not any(peer.connect for peer in peers), caught.value


async def test_a_server_name_can_be_refused(authority):
    context = authority.server_context(authority.server())
    seen = lambda name: None if name else ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME  # noqa: E731
    async with MqttListener(collecting(Peer, []), context=context, server_name_seen=seen) as listener:
        client = Client(ClientOptions(host="127.0.0.1", port=listener.port, ssl=authority.client_context()))
        with pytest.raises(NotConnected):
            await client.connect()
        good = Client(ClientOptions(host="localhost", port=listener.port, ssl=authority.client_context()))
        await good.connect()
        await good.disconnect()


async def test_the_first_packet_is_connect_and_only_the_first():
    peers: list[Peer] = []
    async with MqttListener(collecting(Peer, peers)) as listener:
        async with Raw(listener.port) as raw:
            await raw.say(Pingreq())
            assert await raw.hear() == []
        async with Raw(listener.port) as raw:
            await raw.say(Connect(client_id="a"), Connect(client_id="a"))
            connack, bye = await raw.hear()
            assert isinstance(connack, Connack)
            assert bye.reason == 130


async def test_silence_ends(monkeypatch):
    monkeypatch.setattr(mqtt_peer, "CONNECT_SECONDS", 0.1)
    async with MqttListener(collecting(Peer, [])) as listener:
        async with Raw(listener.port) as raw:
            assert await raw.hear() == []
        async with Raw(listener.port) as raw:
            await raw.say(Connect(client_id="a", keep_alive=1))
            assert [p.reason for p in await raw.hear()] == [0, 141]


async def test_window_aliases_and_size_are_enforced():
    peers: list[Peer] = []
    async with MqttListener(collecting(Peer, peers)) as listener:

        async def said(*packets):
            async with Raw(listener.port) as raw:
                await raw.say(Connect(client_id="a"))
                await until(lambda: peers and peers[-1].connack)
                peers[-1].answer = False
                await raw.say(*packets)
                return [p.reason for p in await raw.hear() if isinstance(p, Disconnect)]

        three = [Publish("t", b"", 1, packet_id=n) for n in (1, 2, 3)]
        assert await said(*three, Disconnect()) == []
        assert len(peers[-1].taken) == 3
        peers.clear()
        assert await said(*three, Publish("t", b"", 1, packet_id=4)) == [147]
        assert len(peers[-1].taken) == 3
        peers.clear()
        assert await said(Publish("t", b"", properties=Properties(topic_alias=3))) == [148]
        peers.clear()
        assert await said(Publish("", b"", properties=Properties(topic_alias=2))) == [130]
        peers.clear()
        assert await said(Publish("t", bytes(Peer.max_packet))) == [149]


async def test_a_client_that_reads_nothing_is_cut_off(monkeypatch):
    peers: list[Peer] = []
    async with MqttListener(collecting(Peer, peers)) as listener, Raw(listener.port) as raw:
        await raw.say(Connect(client_id="a"))
        await until(lambda: peers and peers[-1].connack)
        for _ in range(400):
            peers[-1].send(Publish("t", bytes(100_000)))
        await until(lambda: not listener.wires)
        assert peers[-1].closed


async def test_websocket_takes_its_path_and_subprotocol_alone():
    peers: list[Peer] = []
    async with MqttListener(collecting(SocketPeer, peers)) as listener:
        url = f"ws://127.0.0.1:{listener.port}"
        for path, protocols, status in (("/other", ["mqtt"], 404), ("/mqtt", ["amqp"], 400), ("/mqtt", None, 400)):
            with pytest.raises(InvalidStatus) as caught:
                await websockets.asyncio.client.connect(url + path, subprotocols=protocols)
            assert caught.value.response.status_code == status
        async with websockets.asyncio.client.connect(f"{url}/mqtt?x=1", subprotocols=["mqtt"]) as socket:
            data = encode(Connect(client_id="w"), 5) + encode(Publish("t", b"x" * 300, 1, packet_id=7), 5)
            for at in range(0, len(data), 11):
                await socket.send(data[at : at + 11])
            decoder = Decoder(5)
            heard = []
            while len(heard) < 2:
                heard += decoder.feed(await socket.recv())
            assert isinstance(heard[0], Connack)
            assert heard[1] == Puback(7)
            assert peers[-1].wire.greeting.path == "/mqtt?x=1"
        await until(lambda: not listener.wires)
        async with websockets.asyncio.client.connect(f"{url}/mqtt", subprotocols=["mqtt"]) as socket:
            await socket.send("text")
            with pytest.raises(websockets.exceptions.ConnectionClosed):
                await socket.recv()
