"""How connector and source come to a broker: several URLs, proxies, WebSockets, pins; what they tell and explain."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import ssl
from contextlib import asynccontextmanager

import jwt
import pytest
import trustme
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support.intake import RecordingIntake, running, until
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.tunnels import HttpProxy, SocksProxy
from tests.support.websocket_front import WebSocketFront

from northbound import NotConnected, Outgoing, Unauthorised
from northbound import mqtt as m
from northbound.mqtt.pins import digests
from northbound_mqtt import ConnectorOptions, MqttConnector, MqttSource, SourceOptions
from northbound_mqtt.causes import likely_cause
from northbound_mqtt.tokens import expiry


def message(number, *, retain=False):
    return Outgoing(f"t/{number}", b"%d" % number, "state", number, retain, f"t/{number}", f"store-{number}")


def connector(url, **options):
    made = MqttConnector(ConnectorOptions(url=url, **options), name="out")
    made.told = []
    made.tell = made.told.append
    return made


@asynccontextmanager
async def opened(url, **options):
    made = connector(url, **options)
    try:
        await made.open()
        yield made
    finally:
        await made.close()


async def fails(made, kind=Exception):
    """Return the error of opening, and its likely cause."""
    with pytest.raises(kind) as caught:
        await made.open()
    await made.close()
    return str(caught.value), made.explain(caught.value)


class Answering:
    """A broker that answers CONNECT as told and reads on; counts what it was sent."""

    def __init__(self, answer=None, *, hang_up=False):
        self.answer = answer or m.Connack()
        self.hang_up = hang_up
        self.connects: list[m.Connect] = []
        self.published = 0
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_exc):
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def _serve(self, reader, writer):
        self._open.add(writer)
        version = 5
        decoder = m.Decoder()
        try:
            while data := await reader.read(65_536):
                for packet in decoder.feed(data):
                    if isinstance(packet, m.Connect):
                        version = packet.version
                        self.connects.append(packet)
                        writer.write(m.encode(self.answer, version))
                        if self.hang_up:
                            return
                    self.published += isinstance(packet, m.Publish)
        except OSError:
            pass
        finally:
            self._open.discard(writer)
            writer.close()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def files(tmp_path, authority):
    """Paths of the CA, the broker's certificate and key, and of a device's."""
    server, device = authority.issue_cert("broker.internal", "127.0.0.1"), authority.issue_cert("device-1")
    blobs = {
        "ca": authority.cert_pem,
        "crt": server.cert_chain_pems[0],
        "key": server.private_key_pem,
        "dcrt": device.cert_chain_pems[0],
        "dkey": device.private_key_pem,
    }
    for name, blob in blobs.items():
        blob.write_to_path(str(tmp_path / name))
    return {name: tmp_path / name for name in blobs}


# -- several URLs ----------------------------------------


async def test_the_first_that_answers_is_used_for_as_long_as_it_does(tmp_path):
    dead = f"mqtt://127.0.0.1:{free_port()}"
    with Mosquitto(tmp_path / "a") as first, Mosquitto(tmp_path / "b") as second:
        urls = [dead, f"mqtt://127.0.0.1:{first.port}", f"mqtt://127.0.0.1:{second.port}"]
        async with opened(urls) as made:
            assert made.destination == f"{urls[1]} (one of 3)"
            await made.send([message(1)])
            await made.close()
            await made.open()  # one that we left ourselves is not passed over
            assert made.destination == f"{urls[1]} (one of 3)"
            first.kill()
            with pytest.raises(NotConnected):
                await made.lost()
            await made.open()
            assert made.destination == f"{urls[2]} (one of 3)"
            await made.send([message(2)])
            assert any(words.startswith(f"{dead}: 127.0.0.1") for words in made.told)


async def test_one_that_hangs_up_at_once_is_passed_over():
    async with Answering(hang_up=True) as standby, Answering() as main:
        made = connector([standby.url, main.url], version="5")
        with pytest.raises(NotConnected):
            await made.open()
            await made.lost()
        await made.open()
        assert made.destination == f"{main.url} (one of 2)"
        await made.close()


async def test_where_none_answers_each_is_named():
    ports = [free_port(), free_port()]
    told, _ = await fails(connector([f"mqtt://u:hunter2@127.0.0.1:{port}" for port in ports]), NotConnected)
    assert told.startswith("none of 2 brokers can be used: ")
    assert all(f"mqtt://127.0.0.1:{port}: " in told for port in ports)
    assert "hunter2" not in told


async def test_refused_credentials_are_not_tried_elsewhere():
    async with Answering(m.Connack(135)) as refusing, Answering() as other:
        await fails(connector([refusing.url, other.url], version="5"), Unauthorised)
        assert not other.connects


# -- transports, from the options ----------------------------------------


async def test_every_transport_from_the_options(tmp_path, files):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files["crt"], files["key"])
    der = ssl.PEM_cert_to_DER_cert(files["crt"].read_text())
    names = {"broker.internal": "127.0.0.1"}
    with Mosquitto(tmp_path) as broker:
        async with (
            WebSocketFront(broker.port) as plain,
            WebSocketFront(broker.port, tls=context, path="/ws") as secure,
            HttpProxy(login=("acme", "p w"), names=names) as http,
            SocksProxy(names=names) as socks,
        ):
            through = f"http://acme:p%20w@127.0.0.1:{http.port}"
            for url, options in [
                (f"ws://127.0.0.1:{plain.port}", {}),
                (f"wss://127.0.0.1:{secure.port}/ws", {"ca": files["ca"]}),
                (f"mqtt://127.0.0.1:{broker.port}", {"proxy": through}),
                (
                    f"wss://broker.internal:{secure.port}/ws",
                    {"ca": files["ca"], "proxy": socks.url, "pin": [f"sha256:{digests(der)[1].hex()}"]},
                ),
            ]:
                async with opened(url, **options) as made:
                    await made.send([message(n) for n in range(100)])
                    assert made.destination.startswith(url)
                    assert "p w" not in repr(made.told)
            assert len(http.asked) == len(socks.asked) == 1
            assert not http.faults + socks.faults


async def test_a_source_reads_through_all_of_them(tmp_path, files):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files["crt"], files["key"])
    with Mosquitto(tmp_path) as broker:
        async with (
            WebSocketFront(broker.port, tls=context) as front,
            HttpProxy(login=("acme", "p w"), names={"broker.internal": "127.0.0.1"}, pieces=True) as proxy,
            opened(f"mqtt://127.0.0.1:{broker.port}") as sender,
        ):
            options = SourceOptions(
                preset="mosquitto",
                url=[f"wss://127.0.0.1:{free_port()}", f"wss://broker.internal:{front.port}"],
                ca=files["ca"],
                proxy=f"http://acme:p%20w@127.0.0.1:{proxy.port}",
                map=[{"topic": "t/{module}", "system": "s"}],
            )
            source = MqttSource(options, name="in")
            intake = RecordingIntake()
            await sender.send([message(n, retain=True) for n in range(10)])
            async with running(source, intake):
                await until(lambda: len(intake.stored) == 10)
            assert source.origin == f"wss://broker.internal:{front.port}/mqtt (one of 2)"


async def test_the_window_of_a_preset_holds_where_the_broker_names_none():
    async with Answering() as broker:
        made = connector(broker.url, preset="hivemq", version="3.1.1", ack_timeout="1s")
        await made.open()
        with pytest.raises(NotConnected, match="acknowledge"):
            await made.send([message(n) for n in range(50)])
        assert broker.published == 10
        await made.close()


async def test_what_the_broker_says_narrows_the_preset():
    said = m.Properties(server_keep_alive=20, retain_available=False, receive_maximum=3, maximum_packet_size=5_000)
    async with Answering(m.Connack(properties=said)) as broker, opened(broker.url, preset="emqx") as made:
        limits = made.limits
        assert (limits.keep_alive, limits.retain, limits.max_in_flight) == ((0, 20), "none", 3)
        assert limits.max_payload_bytes == 5_000 - 16
        assert limits.max_topic_levels == 128


# -- what is told, and the likely cause ----------------------------------------


async def test_it_tells_what_was_tried_and_what_answered(tmp_path):
    with Mosquitto(tmp_path, config_lines=["max_packet_size 4000", "retain_available false"]) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        async with opened(url, client_id="acme-hq", password="hunter2", username="u") as made:
            announced = "packets of 4,000 bytes, nothing retained, keep-alive 60 s"
            assert made.told == [
                f"{url}: connecting as 'acme-hq'",
                f"{url}: accepted, MQTT 5, QoS 2 at most, 20 in flight, {announced}",
            ]


@pytest.mark.parametrize(
    ("code", "preset", "words"),
    [
        (133, None, "client id is not one the broker takes"),
        (134, None, "user name or password are wrong"),
        (135, None, "may not connect: from here, with this client id"),
        (135, "mosquitto", "a wrong password and of an unknown user"),
        (134, "rabbitmq", "'vhost:user'"),
        (135, "nats", "JetStream"),
        (136, None, "not ready"),
        (137, "emqx", "overloaded"),
        (138, None, "locked this client out"),
        (151, None, "a quota of the account is used up"),
        (154, None, "availability_topic"),
        (159, None, "too fast"),
        (128, None, None),
    ],
)
async def test_a_refusal_is_explained(code, preset, words):
    async with Answering(m.Connack(code)) as broker:
        _, cause = await fails(connector(broker.url, preset=preset, version="5"))
        assert (words in cause) if words else cause is None


async def test_the_codes_of_3_1_1_are_explained_too():
    for code, words in [(2, "client id"), (3, "not ready"), (4, "user name or password"), (5, "the login is wrong")]:
        async with Answering(m.Connack(code)) as broker:
            _, cause = await fails(connector(broker.url, version="3.1.1"))
            assert words in cause


async def test_what_is_wrong_with_tls_is_explained(tmp_path, files, authority):
    now = dt.datetime.now(dt.UTC)
    expired = authority.issue_cert("127.0.0.1", not_after=now - dt.timedelta(days=1))
    early = authority.issue_cert("127.0.0.1", not_before=now + dt.timedelta(days=1))
    other = authority.issue_cert("other.example")
    stranger = trustme.CA().issue_cert("device-1")
    for name, cert in {"expired": expired, "early": early, "other": other, "stranger": stranger}.items():
        cert.cert_chain_pems[0].write_to_path(str(tmp_path / f"{name}.crt"))
        cert.private_key_pem.write_to_path(str(tmp_path / f"{name}.key"))

    async def cause(crt, key, *, client=False, secure=True, **options):
        tls = (files["ca"], crt, key)
        with Mosquitto(tmp_path, tls=tls, require_certificate=client) as broker:
            scheme = "mqtts" if secure else "mqtt"
            return (await fails(connector(f"{scheme}://127.0.0.1:{broker.port}", version="5", **options)))[1]

    mine = {"ca": files["ca"]}
    assert "has expired, or the clock" in await cause(tmp_path / "expired.crt", tmp_path / "expired.key", **mine)
    assert "is not valid yet, or the clock" in await cause(tmp_path / "early.crt", tmp_path / "early.key", **mine)
    assert "is for another name" in await cause(tmp_path / "other.crt", tmp_path / "other.key", **mine)
    assert "private CA" in await cause(files["crt"], files["key"])
    assert "may speak TLS" in await cause(files["crt"], files["key"], secure=False)
    assert "in between" in await cause(files["crt"], files["key"], **mine, pin=["sha256:" + "0" * 64])
    assert "client certificate" in await cause(files["crt"], files["key"], client=True, **mine)
    unknown = {"certificate": tmp_path / "stranger.crt", "private_key": tmp_path / "stranger.key"}
    told = await cause(files["crt"], files["key"], client=True, **mine, **unknown)
    assert "does not know the CA" in told or "may not know this certificate" in told


async def test_what_stands_on_the_way_is_explained(tmp_path):
    with Mosquitto(tmp_path) as broker:
        url = f"mqtt://127.0.0.1:{broker.port}"
        async with HttpProxy(login=("acme", "right")) as proxy:
            wrong = f"http://acme:hunter2@127.0.0.1:{proxy.port}"
            told, cause = await fails(connector(url, proxy=wrong), Unauthorised)
            assert "wants a user of its own" in cause
            assert "hunter2" not in told + cause
        async with SocksProxy(refuse=b"\x02") as proxy:
            _, cause = await fails(connector(url, proxy=proxy.url), NotConnected)
            assert "it is the proxy, not the broker" in cause
        async with WebSocketFront(broker.port, path="/other") as front:
            _, cause = await fails(connector(f"ws://127.0.0.1:{front.port}"), NotConnected)
            assert "at another path" in cause


def test_what_nobody_knows_more_about_is_not_explained():
    options = ConnectorOptions(url="mqtt://x")
    assert likely_cause(NotConnected("x"), options) is None
    assert likely_cause(RuntimeError("x"), options) is None


# -- what it signs in with ----------------------------------------


def test_credentials(files):
    made = connector(
        "mqtts://x", ca=files["ca"], certificate=files["dcrt"], private_key=files["dkey"], password="x", username="u"
    )
    certificate, authority = made.credentials()
    assert certificate.files == (files["dcrt"], files["dkey"])
    assert certificate.expires > dt.datetime.now(dt.UTC)
    assert (authority.files, authority.expires) == ((files["ca"],), None)
    assert connector("mqtt://x").credentials() == []
    assert connector("mqtt://u:p.a.ss@x").credentials() == []
    files["dcrt"].write_text("no certificate")
    assert made.credentials()[0].expires is None


def test_a_token_in_place_of_the_password_says_how_long_it_holds():
    end = dt.datetime(2030, 1, 2, tzinfo=dt.UTC)
    token = jwt.encode({"sub": "u", "exp": end}, "x" * 32)
    (credential,) = connector("mqtts://x", username="u", password=token).credentials()
    assert (credential.name, credential.expires, credential.files) == ("token", end, ())
    assert token not in repr(credential)
    assert expiry(jwt.encode({"sub": "u"}, "x" * 32)) is None


@given(st.text() | st.binary().map(lambda data: f"a.{base64.urlsafe_b64encode(data).decode()}.b"))
@example("a.eyJleHAiOjFlOTk5fQ.b")  # an infinite time
@example("a.eyJleHAiOjk5OTk5OTk5OTk5OTk5fQ.b")  # the year 3 million
def test_no_password_is_too_strange(password):
    assert expiry(password) is None
