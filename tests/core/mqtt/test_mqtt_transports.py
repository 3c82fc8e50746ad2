"""The client over WebSockets, proxies and pinned certificates, to a real Mosquitto, alone and all at once."""

import asyncio
import base64
import contextlib
import hashlib
import logging
import ssl
import subprocess
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
import trustme
import uvloop
from tests.support.mosquitto import Mosquitto
from tests.support.tunnels import HttpProxy, SocksProxy
from tests.support.websocket_front import WebSocketFront

from northbound import mqtt as m
from northbound.errors import NotConnected, Unauthorised
from northbound.mqtt.pins import digests


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority):
    return authority.issue_cert("broker.internal", "127.0.0.1")


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    with Mosquitto(tmp_path_factory.mktemp("plain"), config_lines=["max_queued_messages 0"]) as running:
        yield running


@pytest.fixture(scope="module")
def tls_broker(tmp_path_factory, authority, certificate):
    folder = tmp_path_factory.mktemp("tls")
    files = (folder / "ca", folder / "crt", folder / "key")
    authority.cert_pem.write_to_path(str(files[0]))
    certificate.cert_chain_pems[0].write_to_path(str(files[1]))
    certificate.private_key_pem.write_to_path(str(files[2]))
    with Mosquitto(folder, tls=files) as running:
        yield running


@pytest.fixture
def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def serving(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def pin(certificate):
    return digests(ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode()))


class Inbox(list):
    def __call__(self, messages):
        self.extend(messages)

    async def wait(self, count):
        await until(lambda: len(self) >= count)
        return self


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - simpler than an event, in a test
            await asyncio.sleep(0.005)


@asynccontextmanager
async def connected(on_messages=None, **options):
    options = {"host": "127.0.0.1", "connect_timeout": 5, "client_id": "test", **options}
    client = m.Client(m.ClientOptions(**options), on_messages=on_messages)
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()


async def refused(kind, words, **options):
    with pytest.raises(kind, match=words) as caught:
        async with connected(**options):
            pass
    assert type(caught.value) is kind
    return str(caught.value)


async def echo(count=50, size=20, **options):
    inbox = Inbox()
    async with connected(inbox, **options) as client:
        await client.subscribe(["t/#"])
        await client.publish([m.Publish(f"t/{n}", b"%d" % n + bytes(size), 1) for n in range(count)])
        await inbox.wait(count)
    assert [item.payload.rstrip(b"\0") for item in inbox] == [b"%d" % n for n in range(count)]


# -- WebSocket ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("split", [None, 1, 7])
async def test_a_websocket_carries_every_version_however_its_messages_are_cut(broker, version, split):
    async with WebSocketFront(broker.port, split=split) as front:
        await echo(port=front.port, websocket="/mqtt", version=version)
        assert front.paths == ["/mqtt"]
    assert front.closed == [1000]


async def test_a_secure_websocket_with_a_path_and_a_query(broker, trusting, serving):
    async with WebSocketFront(broker.port, path="/a/b", tls=serving) as front:
        await echo(port=front.port, websocket="/a/b?c=d%20e", ssl=trusting)
        await echo(port=front.port, websocket="/a/b", ssl=trusting, server_hostname="broker.internal")
        assert front.paths == ["/a/b?c=d%20e", "/a/b"]
        await refused(
            NotConnected, "cannot be trusted", port=front.port, websocket="/a/b", ssl=ssl.create_default_context()
        )


async def test_a_batch_is_few_messages_and_a_slow_server_holds_the_client_back(broker):
    async with WebSocketFront(broker.port) as front:
        async with connected(port=front.port, websocket="/mqtt", write_high_water=65_536) as client:
            await client.publish([m.Publish("t", b"x" * 64, 0) for _ in range(2_000)])
            await until(lambda: sum(front.messages) > 2_000 * 64)
            assert len(front.messages) < 20
            front.messages.clear()
            await client.publish([m.Publish("t", bytes(100_000), 0) for _ in range(200)])
            assert client._driver._transport.get_write_buffer_size() <= 65_536 + 128 * 1024
        await until(lambda: sum(front.messages) > 200 * 100_000)
        assert max(front.messages) < 300_000


async def test_large_messages_arrive_and_reading_can_pause(broker):
    inbox = Inbox()
    async with WebSocketFront(broker.port) as front, connected(inbox, port=front.port, websocket="/mqtt") as client:
        await client.subscribe([m.Subscription("t", 0)])
        client.pause()
        await client.publish([m.Publish("t", bytes([n]) * 500_000, 0) for n in range(10)])
        await asyncio.sleep(0.1)
        assert not inbox
        client.resume()
        await inbox.wait(10)
        assert [item.payload[:1] for item in inbox] == [bytes([n]) for n in range(10)]


async def test_an_idle_websocket_is_kept_alive_and_its_end_is_noticed(broker):
    async with (
        WebSocketFront(broker.port) as front,
        connected(port=front.port, websocket="/mqtt", keep_alive=1) as client,
    ):
        await asyncio.sleep(1.8)
        assert client.connected
        (connection,) = front.connections
        await connection.close(1011, "out of order")
        with pytest.raises(NotConnected, match="closed the WebSocket with 1011 out of order"):
            await client.lost()


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"path": "/other"}, NotConnected, r"/mqtt answers with HTTP status 404, not as a WebSocket; check the path"),
        ({"status": HTTPStatus.UNAUTHORIZED}, Unauthorised, "refused with HTTP status 401"),
        ({"status": HTTPStatus.FORBIDDEN}, Unauthorised, "refused with HTTP status 403"),
        ({"status": HTTPStatus.FOUND}, NotConnected, "HTTP status 302"),
        ({"subprotocols": None}, NotConnected, "does not speak MQTT"),
    ],
)
async def test_what_answers_is_no_mqtt_over_websocket(broker, settings, kind, words):
    async with WebSocketFront(broker.port, **settings) as front:
        told = await refused(kind, words, port=front.port, websocket="/mqtt?token=hunter2")
        assert "hunter2" not in told


async def test_what_answers_is_no_websocket(broker, tls_broker):
    await refused(NotConnected, "does not answer as a WebSocket|without answering", port=broker.port, websocket="/mqtt")
    with_tls = {"port": tls_broker.port, "ssl": ssl.create_default_context(), "websocket": "/mqtt"}
    await refused(NotConnected, "cannot be trusted", **with_tls)
    await refused(NotConnected, "without answering", **{**with_tls, "ssl": None})


@asynccontextmanager
async def upgraded(after):
    """A server that agrees to a WebSocket and then sends whatever bytes a test wants."""
    seen, tasks, ends = [], [], asyncio.Event()

    async def serve(reader, writer):
        tasks.append(asyncio.current_task())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(
            line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key")
        )
        accept = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: " + base64.b64encode(accept) + b"\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            await after(reader, writer, seen)
        await ends.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], seen
    finally:
        server.close()
        ends.set()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(
    "frames",
    [
        b"\x81\x02hi",  # text
        b"\x82\x7f" + (1 << 40).to_bytes(8, "big"),  # a terabyte announced
        b"\x83\x00",  # an opcode that does not exist
        b"\x00\x01x",  # a continuation of nothing
        b"\x82\x82\0\0\0\0hi",  # masked by a server
        b"\xc2\x01x",  # compressed, and nobody agreed to that
    ],
)
async def test_a_server_that_breaks_the_websocket_is_left(frames):
    async def after(reader, writer, seen):
        writer.write(frames)
        seen.append(await reader.read())

    async with upgraded(after) as (port, seen):
        await refused(NotConnected, "does not keep to the WebSocket protocol", port=port, websocket="/mqtt")
        await until(lambda: seen)


async def test_pings_are_answered_but_do_not_pile_up():
    """A server that pings and never reads costs no more than the driver's own bound."""
    flood = b"\x89\x7d" + bytes(125)

    async def after(reader, writer, seen):
        writer.write(b"\x82\x05\x20\x03\x00\x00\x00" + b"\x89\x02hi")
        while len(seen) < 1 or b"\x8a\x82" not in b"".join(seen):  # until the pong to the one ping
            seen.append(await reader.read(4096))
        for _ in range(600):
            writer.write(flood * 64)
            await writer.drain()
        seen.append(b"flooded")

    async with (
        upgraded(after) as (port, seen),
        connected(port=port, websocket="/mqtt", write_high_water=65_536, close_timeout=0.1) as client,
    ):
        await until(lambda: seen[-1:] == [b"flooded"])
        # the bound, and the answers to what one read brought: 256 KiB at the most
        assert client._driver._transport.get_write_buffer_size() <= 65_536 + 2 * 262_144


async def test_frames_reach_no_log(broker, caplog):
    caplog.set_level(logging.DEBUG)
    async with WebSocketFront(broker.port) as front:
        logging.getLogger("websockets.server").setLevel(logging.INFO)
        await echo(port=front.port, websocket="/mqtt", username="u", password="hunter2")
    assert "hunter2" not in caplog.text


# -- pinned certificates --------------------------------------------------------------------------------------------


async def test_a_pinned_certificate_or_key(tls_broker, trusting, pin):
    for pins in [pin[:1], pin[1:], (bytes(32), pin[1])]:
        await echo(port=tls_broker.port, ssl=trusting, pins=pins)
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    await echo(port=tls_broker.port, ssl=unverified, pins=pin[1:])


async def test_openssl_agrees_on_what_is_pinned(certificate, pin, tmp_path):
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "crt"))

    def run(command, data=None):
        return subprocess.run(command.split(), input=data, capture_output=True, check=True, cwd=tmp_path).stdout

    printed = run("openssl x509 -in crt -noout -fingerprint -sha256").decode().partition("=")[2]
    key = run("openssl pkey -pubin -outform der", run("openssl x509 -in crt -noout -pubkey"))
    assert m.parse_pin(f"sha256:{printed}") == pin[0]
    assert m.parse_pin(f"sha256:{hashlib.sha256(key).hexdigest()}") == pin[1]


async def test_another_certificate_hears_not_one_word(trusting, serving, pin):
    heard = []

    async def serve(reader, writer):
        heard.append(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]
    told = await refused(NotConnected, "is not a pinned one", port=port, ssl=trusting, pins=(bytes(32),))
    assert pin[0].hex() in told
    assert pin[1].hex() in told
    await refused(NotConnected, "is not a pinned one", port=port, ssl=trusting, pins=(bytes(32),), websocket="/mqtt")
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
    writer.write(b"one that is not refused")
    await until(lambda: b"one that is not refused" in heard)
    writer.close()
    assert set(heard) <= {b"", b"one that is not refused"}
    server.close()


async def test_a_pin_without_tls_lets_nothing_through(broker):
    await refused(NotConnected, "shows no certificate", port=broker.port, pins=(bytes(32),))


# -- proxies --------------------------------------------------------------------------------------------------------

LOGIN = ("acme", "p@ss:w/rd")


@pytest.mark.parametrize("login", [None, LOGIN])
@pytest.mark.parametrize(("kind", "settings"), [(HttpProxy, {}), (HttpProxy, {"pieces": True}), (SocksProxy, {})])
async def test_through_a_proxy_which_resolves_the_name(tls_broker, trusting, kind, settings, login):
    async with kind(login=login, names={"broker.internal": "127.0.0.1"}, **settings) as proxy:
        address = m.ProxyAddress(proxy.scheme, "127.0.0.1", proxy.port, *(login or (None, None)))
        await echo(host="broker.internal", port=tls_broker.port, ssl=trusting, proxy=address)
        assert proxy.asked == [("broker.internal", tls_broker.port)]
        assert not proxy.faults


@pytest.mark.parametrize("kind", [HttpProxy, SocksProxy])
async def test_a_proxy_that_refuses(broker, kind):
    async with kind(login=LOGIN) as proxy:
        plain = m.ProxyAddress(proxy.scheme, "127.0.0.1", proxy.port)
        wrong = m.ProxyAddress(proxy.scheme, "127.0.0.1", proxy.port, "acme", "hunter2")
        told = await refused(Unauthorised, "refuses the credentials", port=broker.port, proxy=wrong)
        assert "hunter2" not in told
        await refused(Unauthorised, "refuses the credentials", port=broker.port, proxy=plain)
        assert len(proxy.faults) == 2
        assert not proxy.asked
        right = m.ProxyAddress(proxy.scheme, "127.0.0.1", proxy.port, *LOGIN)
        await refused(NotConnected, "did not connect to nowhere:1", host="nowhere", port=1, proxy=right)


@pytest.mark.parametrize(("kind", "refuse"), [(HttpProxy, b"403 No\tchance\x1b[31m"), (SocksProxy, b"\x02")])
async def test_a_proxy_that_forbids_the_target(broker, kind, refuse):
    async with kind(refuse=refuse) as proxy:
        address = m.ProxyAddress(proxy.scheme, "127.0.0.1", proxy.port)
        told = await refused(
            NotConnected, f"did not connect to 127.0.0.1:{broker.port}", port=broker.port, proxy=address
        )
        assert told.isprintable()


@pytest.mark.parametrize("kind", [HttpProxy, SocksProxy])
async def test_a_proxy_that_does_not_answer(broker, kind):
    async with kind(silent=True) as proxy:
        address = m.ProxyAddress(proxy.scheme, "127.0.0.1", proxy.port)
        await refused(
            NotConnected,
            rf"did not answer through the proxy {proxy.scheme}://127.0.0.1:{proxy.port} within 0.3 s",
            port=broker.port,
            proxy=address,
            connect_timeout=0.3,
        )
    await refused(NotConnected, "the proxy .* refuses the connection", port=broker.port, proxy=address)
    nowhere = m.ProxyAddress(kind.scheme, "nowhere.invalid", 1)
    await refused(NotConnected, "the proxy.*nowhere.invalid.* cannot be re", port=broker.port, proxy=nowhere)


@pytest.mark.parametrize("answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"", b"x" * 40_000,
                                    b"HTTP/1.1 200 OK\r\n\r\n and more"])  # fmt: skip
async def test_what_answers_is_no_proxy(answer):
    async def serve(reader, writer):
        await reader.read(1024)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = m.ProxyAddress("http", "127.0.0.1", server.sockets[0].getsockname()[1])
    await refused(NotConnected, "does not answer as an HTTP proxy|sent more than its answer", port=1, proxy=address)
    server.close()


# -- all at once ----------------------------------------------------------------------------------------------------


async def everything(broker, trusting, serving, pin):
    async with (
        WebSocketFront(broker.port, tls=serving) as front,
        HttpProxy(login=LOGIN, names={"broker.internal": "127.0.0.1"}) as proxy,
    ):
        address = m.ProxyAddress("http", "127.0.0.1", proxy.port, *LOGIN)
        options = {"host": "broker.internal", "port": front.port, "websocket": "/mqtt", "ssl": trusting}
        await echo(**options, proxy=address, pins=pin[1:], count=500)
        await refused(NotConnected, "not a pinned one", **options, proxy=address, pins=(bytes(32),))
        async with SocksProxy(login=LOGIN, names={"broker.internal": "127.0.0.1"}) as socks:
            await echo(**options, proxy=m.ProxyAddress("socks5", "127.0.0.1", socks.port, *LOGIN), pins=pin[:1])
        assert front.paths == ["/mqtt"] * 2


async def test_all_at_once(broker, trusting, serving, pin):
    await everything(broker, trusting, serving, pin)


def test_all_at_once_on_uvloop(broker, trusting, serving, pin):
    uvloop.run(everything(broker, trusting, serving, pin))


# -- as people write them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "where", "path"),
    [
        ("mqtt://h", "mqtt://h:1883", None),
        ("mqtts://u:p@h", "mqtts://h:8883", None),
        ("tls://h:1", "mqtts://h:1", None),
        ("ws://h", "ws://h:80/mqtt", "/mqtt"),
        ("wss://h/", "wss://h:443/", "/"),
        ("wss://[::1]:8084/a/b?token=secret", "wss://[::1]:8084/a/b", "/a/b?token=secret"),
    ],
)
def test_urls(url, where, path):
    address = m.parse_url(url)
    assert (address.where, address.path) == (where, path)
    assert "secret" not in repr(address)


@pytest.mark.parametrize(
    "url", ["http://h", "mqtt://a..b", "ws://" + "a" * 64, "h:1883", "mqtt://h/t", "wss://h/a b",
            "wss://h/a#b", "ws://h/é", "ws://", "mqtt://h:x", "mqtt://" + "h" * 9000]
)  # fmt: skip
def test_urls_that_are_none(url):
    with pytest.raises(ValueError, match=r"broker's URL|the path of a WebSocket"):
        m.parse_url(url)


@pytest.mark.parametrize(
    ("url", "where"),
    [("http://h", "http://h:3128"), ("socks5h://u:p%40@h:9", "socks5://h:9"), ("http://u:p@h:8080/", "http://h:8080")],
)
def test_proxy_urls(url, where):
    proxy = m.parse_proxy(url)
    assert proxy.where == where
    assert "p@" not in repr(proxy)


@pytest.mark.parametrize(
    "url", ["https://h", "socks4://h", "http://u@h", "http://:p@h", "http://h/x", "http://a%3Ab:c@h",
            "http://a..b", "h:1", "http://", "socks5://u:" + "p" * 256 + "@h"]
)  # fmt: skip
def test_proxy_urls_that_are_none(url):
    with pytest.raises(ValueError, match="prox"):
        m.parse_proxy(url)


def test_pins_in_every_form():
    digest = bytes(range(32))
    for text in [
        f"sha256:{digest.hex()}",
        f"SHA256:{digest.hex(':').upper()}",
        "sha256:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "sha256//AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    ]:
        assert m.parse_pin(text) == digest
    for text in ["", "sha256:", "sha1:" + "0" * 40, "sha256:" + "0" * 63, "sha256:" + "g" * 64, "sha256:AAEC"]:
        with pytest.raises(ValueError, match="a pin is"):
            m.parse_pin(text)
