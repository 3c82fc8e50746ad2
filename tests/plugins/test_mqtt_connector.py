"""The mqtt connector on a real Mosquitto, and on a broker of 3.1.1 only."""

import asyncio
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import mosquitto
from mosquitto import Mosquitto

from northbound import NotConnected, Outgoing, PartialDelivery, Rejected, Unauthorised
from northbound import mqtt as m
from northbound.loading import load_file
from northbound.registry import Registry
from northbound_mqtt import ConnectorOptions, MqttConnector, SourceOptions
from northbound_mqtt.patterns import Map

HERE = Path(__file__).parents[2] / "plugins" / "northbound_mqtt"
pytestmark = pytest.mark.skipif(not mosquitto.available(), reason="no Mosquitto to test against")


def message(number, **changes):
    fields = {"topic": f"placeos/org-acme/state/{number}", "payload": b'{"value":%d}' % number, "kind": "state",
              "time": number, "retain": False, "source_topic": "t", "key": f"store-{number}"}  # fmt: skip
    return Outgoing(**(fields | changes))


@asynccontextmanager
async def opened(broker, **options):
    options = {"url": f"mqtt://127.0.0.1:{broker.port}", **options}
    connector = MqttConnector(ConnectorOptions(**options), name="out")
    try:
        await connector.open()
        yield connector
    finally:
        await connector.close()
        await connector.close()


@asynccontextmanager
async def watching(broker, *filters):
    seen = []
    client = m.Client(m.ClientOptions(host="127.0.0.1", port=broker.port, client_id="watcher"), on_messages=seen.extend)
    await client.connect()
    await client.subscribe(filters or ["#"])
    yield seen
    await client.disconnect()


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - simpler than an event, in a test
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("version", ["auto", "3.1", "3.1.1", "5"])
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_delivers(tmp_path, version, qos):
    with Mosquitto(tmp_path) as broker:
        async with watching(broker) as seen, opened(broker, version=version, qos=qos, content_type=True) as connector:
            await connector.send([message(1, properties={"a": "b"}), message(2)])
            await until(lambda: len(seen) == 2)
            assert [item.payload for item in seen] == [b'{"value":1}', b'{"value":2}']
            if version in {"auto", "5"}:
                assert seen[0].properties.user == (("id", "store-1"), ("a", "b"))
                assert seen[0].properties.content_type == "application/json"
                assert connector.limits.max_in_flight == 20
            else:
                assert seen[0].properties.user == ()


async def test_the_key_can_be_named_or_left_out(tmp_path):
    with Mosquitto(tmp_path) as broker:
        async with watching(broker) as seen:
            async with opened(broker, idempotency_property="") as connector:
                await connector.send([message(1)])
            async with opened(broker, idempotency_property="dedup") as connector:
                await connector.send([message(2)])
            await until(lambda: len(seen) == 2)
            assert [item.properties.user for item in seen] == [(), (("dedup", "store-2"),)]


async def test_availability(tmp_path):
    with Mosquitto(tmp_path) as broker:
        async with watching(broker, "status") as seen:
            async with opened(broker, availability_topic="status"):
                await until(lambda: seen)
            await until(lambda: len(seen) == 2)
            async with opened(broker, availability_topic="status") as connector:
                connector._client._driver._transport.abort()
                await until(lambda: len(seen) == 4)
            assert [item.payload for item in seen] == [b"online", b"offline", b"online", b"offline"]
        async with watching(broker, "status") as seen:
            await until(lambda: seen)
            assert seen[0].retain


async def test_limits_and_refusals(tmp_path):
    lines = ["max_packet_size 400", "retain_available false"]
    with Mosquitto(tmp_path, config_lines=lines, acl=["topic readwrite placeos/#"]) as broker:
        async with opened(broker) as connector:
            assert connector.limits.max_payload_bytes == 384
            assert connector.limits.retain == "none"
            with pytest.raises(PartialDelivery) as caught:
                await connector.send(
                    [message(1), message(2, topic="other"), message(3, payload=bytes(400)), message(4)]
                )
            assert {index: type(error) for index, error in caught.value.failures.items()} == {1: Rejected, 2: Rejected}
            assert MqttConnector.limits.max_payload_bytes is None
        with pytest.raises(NotConnected, match=r"does not take the will .154 retain not supported"):
            async with opened(broker, availability_topic="placeos/status"):
                pass


async def test_an_availability_topic_that_is_refused(tmp_path):
    with Mosquitto(tmp_path, acl=["topic readwrite placeos/#"]) as broker:
        connector = MqttConnector(
            ConnectorOptions(url=f"mqtt://127.0.0.1:{broker.port}", availability_topic="x"), name="o"
        )
        with pytest.raises(Unauthorised, match=r"the availability_topic is refused.*135"):
            await connector.open()
        await connector.close()


async def test_wrong_password_and_lost_connection(tmp_path):
    with Mosquitto(tmp_path, users={"u": "p"}) as broker:
        with pytest.raises(Unauthorised):
            async with opened(broker, username="u", password="x"):
                pass
        async with opened(broker, url=f"mqtt://u:p@127.0.0.1:{broker.port}") as connector:
            assert connector.destination == f"mqtt://127.0.0.1:{broker.port}"
            broker.kill()
            with pytest.raises(NotConnected):
                await connector.lost()
            with pytest.raises(NotConnected):
                await connector.send([message(1)])
        with pytest.raises(NotConnected, match="not open"):
            await connector.send([message(1)])


@pytest.mark.parametrize("answer", [b"\x20\x02\x00\x01", b"", b"\x20\x03\x00\x84\x00"])
async def test_auto_falls_back_and_remembers(answer):
    versions = []

    async def serve(reader, writer):
        decoder = m.Decoder()
        try:
            while data := await reader.read(4096):
                for packet in decoder.feed(data):
                    if isinstance(packet, m.Connect):
                        versions.append(packet.version)
                        writer.write(answer if packet.version == 5 else m.encode(m.Connack(), 4))
                        if packet.version == 5:
                            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connector = MqttConnector(ConnectorOptions(url=f"mqtt://127.0.0.1:{port}"), name="x")
    for _ in range(2):
        await connector.open()
        await connector.close()
    assert versions == [5, 4, 4]
    with pytest.raises(NotConnected):
        await MqttConnector(ConnectorOptions(url=f"mqtt://127.0.0.1:{port}", version="5"), name="x").open()
    server.close()


async def test_tls(tmp_path):
    ca = trustme.CA()
    server, device = ca.issue_cert("broker.example"), ca.issue_cert("device-1")
    for name, blob in {
        "ca": ca.cert_pem, "crt": server.cert_chain_pems[0], "key": server.private_key_pem,
        "dcrt": device.cert_chain_pems[0], "dkey": device.private_key_pem,
    }.items():  # fmt: skip
        blob.write_to_path(str(tmp_path / name))
    files = (tmp_path / "ca", tmp_path / "crt", tmp_path / "key")
    with Mosquitto(tmp_path, tls=files, require_certificate=True) as broker:
        url = f"mqtts://127.0.0.1:{broker.port}"
        mine = {"url": url, "certificate": tmp_path / "dcrt", "private_key": tmp_path / "dkey"}
        async with opened(broker, **mine, ca=files[0], server_name="broker.example") as connector:
            await connector.send([message(1)])
        async with opened(broker, **mine, verify=False) as connector:
            await connector.send([message(1)])
        for options, words in [
            ({"ca": files[0]}, "cannot be trusted"),
            ({"server_name": "broker.example"}, "cannot be trusted"),
            ({"ca": tmp_path / "absent"}, "the CA file .*absent cannot be used"),
            ({"ca": files[0], "private_key": files[2]}, "the certificate .* with the key .* cannot be used"),
        ]:
            with pytest.raises(NotConnected, match=words):
                async with opened(broker, **{**mine, **options}):
                    pass


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "url"),
        ({"url": "http://x"}, "begins with mqtt"),
        ({"url": "mqtt://x", "ca": "x"}, "write the URL with mqtts"),
        ({"url": "mqtt://x", "verify": False}, "write the URL with mqtts"),
        ({"url": "mqtts://x", "private_key": "x"}, "needs the certificate"),
        ({"url": "mqtt://x", "password": "x"}, "needs a username"),
        ({"url": "mqtt://x", "qos": 3}, "qos"),
        ({"url": "mqtt://x", "availability_topic": "a/#"}, "wildcard"),
        ({"url": "mqtt://x", "colour": 1}, "colour"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        ConnectorOptions(**options)


def test_documents_tell_the_truth():
    configuration = load_file(HERE / "sample.toml", Registry())
    assert configuration.connectors[0].create().destination == "mqtts://broker.example.com:8883"
    readme = (HERE / "README.md").read_text()
    for model in (ConnectorOptions, SourceOptions, Map):
        for name, field in model.model_fields.items():
            assert field.description in readme
            assert f"| `{name}` |" in readme
    assert "hunter2" not in repr(ConnectorOptions(url="mqtt://x", username="u", password="hunter2"))
