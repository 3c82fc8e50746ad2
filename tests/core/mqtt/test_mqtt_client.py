"""The asyncio client against a real Mosquitto, in all three versions."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import mosquitto
import pytest
import trustme
from mosquitto import Mosquitto

from northbound import mqtt as m
from northbound.errors import NotConnected, PartialDelivery, Rejected, Unauthorised

pytestmark = pytest.mark.skipif(not mosquitto.available(), reason="no Mosquitto to test against")
VERSIONS = pytest.mark.parametrize("version", [3, 4, 5])


@pytest.fixture
def broker(tmp_path):
    with Mosquitto(tmp_path, config_lines=["max_queued_messages 0"]) as running:
        yield running


class Inbox(list):
    def __call__(self, messages):
        self.extend(messages)

    async def wait(self, count):
        async with asyncio.timeout(5):
            while len(self) < count:  # noqa: ASYNC110 - simpler than an event, in a test
                await asyncio.sleep(0.005)
        return self


@asynccontextmanager
async def connected(broker, on_messages=None, auto_ack=True, **options):
    options.setdefault("client_id", "test")
    client = m.Client(
        m.ClientOptions(host=broker.host, port=broker.port, connect_timeout=5, **options),
        on_messages=on_messages,
        auto_ack=auto_ack,
    )
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()


@VERSIONS
async def test_publish_and_subscribe(broker, version):
    inbox = Inbox()
    async with connected(broker, inbox, version=version) as client:
        assert await client.subscribe([m.Subscription("a/#", 2), "b"]) == [2, 1]
        await client.publish([m.Publish(f"a/{qos}", b"%d" % qos, qos) for qos in (0, 1, 2)])
        await inbox.wait(3)
        assert {(item.topic, item.payload, item.qos) for item in inbox} == {
            ("a/0", b"0", 0),
            ("a/1", b"1", 1),
            ("a/2", b"2", 2),
        }
        assert len(await client.unsubscribe(["a/#"])) == 1
        await client.publish([m.Publish("a/1", b"", 1), m.Publish("b", b"last", 1)])
        await inbox.wait(4)
        assert inbox[3].payload == b"last"
        assert client.inflight == 0
        with pytest.raises(RuntimeError):
            await client.connect()


@VERSIONS
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_many_in_order(broker, version, qos):
    inbox, count = Inbox(), 3000
    async with connected(broker, inbox, version=version, client_id="reader") as reader:
        await reader.subscribe([m.Subscription("n", qos)])
        async with connected(broker, version=version, client_id="writer") as writer:
            batches = [
                [m.Publish("n", b"%d" % index, qos) for index in range(first, first + 100)]
                for first in range(0, count if qos else 500, 100)
            ]
            await asyncio.gather(*map(writer.publish, batches))
            expected = [b"%d" % index for index in range(count if qos else 500)]
            await inbox.wait(len(expected))
            assert [item.payload for item in inbox] == expected


@pytest.mark.parametrize("version", [4, 5])
async def test_limits(broker, version):
    async with connected(broker, version=version) as client:
        limits = client.limits
        assert limits.version == version
        assert limits.receive_maximum == (20 if version == 5 else 65535)
        assert limits.topic_alias_maximum == (10 if version == 5 else 0)
    assert client.limits is None


async def test_properties_travel(broker):
    inbox = Inbox()
    properties = m.Properties(user=(("id", "x-1"), ("id", "ä")), content_type="application/json")
    async with connected(broker, inbox) as client:
        await client.subscribe(["a"])
        await client.publish([m.Publish("a", b"{}", 1, properties=properties)])
        await inbox.wait(1)
        assert inbox[0].properties.user == properties.user
        assert inbox[0].properties.content_type == "application/json"


@VERSIONS
async def test_wrong_password(tmp_path, version):
    with Mosquitto(tmp_path, users={"u": "right"}) as broker:
        async with connected(broker, version=version, username="u", password="right"):
            pass
        for options in ({"username": "u", "password": "wrong"}, {}):
            with pytest.raises(Unauthorised, match="135 not authorised" if version == 5 else "return code 5") as caught:
                async with connected(broker, version=version, **options):
                    pass
            assert "wrong" not in str(caught.value)


async def test_maximum_packet_size(tmp_path):
    with Mosquitto(tmp_path, config_lines=["max_packet_size 500"]) as broker, pytest.raises(PartialDelivery) as caught:
        async with connected(broker) as client:
            assert client.limits.maximum_packet_size == 500
            await client.publish([m.Publish("a", bytes(400), 1), m.Publish("a", bytes(500), 1)])
    assert list(caught.value.failures) == [1]
    assert "511 bytes as a packet; the broker takes 500 at most" in str(caught.value.failures[1])


async def test_refused_by_puback(tmp_path):
    with Mosquitto(tmp_path, acl=["topic readwrite open/#"]) as broker:
        async with connected(broker) as client:
            with pytest.raises(PartialDelivery) as caught:
                await client.publish([m.Publish("open/a", b"", 1), m.Publish("shut/a", b"", 1), m.Publish("x", b"", 2)])
            assert sorted(caught.value.failures) == [1, 2]
            with pytest.raises(Rejected, match=r"refuses to publish to this topic .135 not authorised"):
                await client.publish([m.Publish("shut/a", b"", 1)])
            assert client.connected


@pytest.fixture
def ca():
    return trustme.CA()


def tls_files(ca, directory, *names):
    certificate = ca.issue_cert(*names)
    paths = directory / "ca.pem", directory / "server.pem", directory / "server.key"
    ca.cert_pem.write_to_path(str(paths[0]))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(paths[1]), append=True)
    certificate.private_key_pem.write_to_path(str(paths[2]))
    return paths


def context_for(ca):
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


@VERSIONS
async def test_tls_with_a_client_certificate(tmp_path, ca, version):
    files = tls_files(ca, tmp_path, "broker.example")
    with Mosquitto(tmp_path, tls=files, require_certificate=True) as broker:
        context = context_for(ca)
        ca.issue_cert("device-1").configure_cert(context)
        tls = {"server_hostname": "broker.example", "version": version}
        async with connected(broker, ssl=context, **tls) as client:
            await client.publish([m.Publish("a", bytes(100_000), 1) for _ in range(30)])
        with pytest.raises(NotConnected, match=r"cannot be trusted for 127\.0\.0\.1.*check the name and the CA"):
            async with connected(broker, ssl=context, version=version):
                pass
        with pytest.raises(NotConnected, match="cannot be trusted"):
            async with connected(broker, ssl=ssl.create_default_context(), **tls):
                pass
        # without a certificate the broker ends the handshake, in TLS 1.3 after the client thinks it done
        with pytest.raises((NotConnected, Unauthorised)):
            async with connected(broker, ssl=context_for(ca), **tls):
                pass
        with pytest.raises(m.ClosedUnanswered, match="may want TLS"):
            async with connected(broker, version=version):
                pass


async def test_tls_to_a_port_without(broker, ca):
    with pytest.raises(NotConnected):
        async with connected(broker, ssl=context_for(ca)):
            pass


@VERSIONS
async def test_will(broker, version):
    inbox = Inbox()
    will = m.Will("status", b"offline", 1, False)
    async with connected(broker, inbox, version=version, client_id="watcher") as watcher:
        await watcher.subscribe(["status"])
        async with connected(broker, version=version, will=will):
            pass
        async with connected(broker, version=version, will=will) as client:
            client._driver._transport.abort()
            with pytest.raises(NotConnected):
                await client.lost()
        assert (await inbox.wait(1))[0].payload == b"offline"
        await asyncio.sleep(0.1)
        assert len(inbox) == 1  # none for the tidy one


@pytest.mark.parametrize("version", [4, 5])
async def test_a_session_survives_the_broker(tmp_path, version):
    broker, inbox = Mosquitto(tmp_path, persistence=True).start(), Inbox()
    options = {"version": version, "clean_start": False, "session_expiry": 3600 if version == 5 else 0}
    try:
        async with connected(broker, inbox, client_id="reader", auto_ack=False, **options) as reader:
            await reader.subscribe(["a"])
            async with connected(broker, client_id="writer", version=version) as writer:
                await writer.publish([m.Publish("a", b"%d" % index, 1) for index in range(5)])
            await inbox.wait(5)
            reader.ack(inbox[0], inbox[1], inbox[4])  # 4 must wait for 2 and 3
            await asyncio.sleep(0.05)
            broker.stop()
            with pytest.raises(NotConnected):
                await reader.lost()
            with pytest.raises(NotConnected, match="refuses the connection; check that the broker runs"):
                await reader.connect()
            broker.start()
            inbox.clear()
            assert (await reader.connect()).session_present
            assert [item.payload for item in await inbox.wait(3)] == [b"2", b"3", b"4"]
            assert all(item.duplicate for item in inbox)
            reader.ack(*inbox)
    finally:
        broker.stop()


async def test_killed_midway(tmp_path):
    broker = Mosquitto(tmp_path).start()
    try:
        async with connected(broker) as client:
            sending = asyncio.gather(
                *(client.publish([m.Publish("a", bytes(1000), 1) for _ in range(2000)]) for _ in range(5)),
                return_exceptions=True,
            )
            await asyncio.sleep(0.02)
            broker.kill()
            results = await asyncio.wait_for(sending, 5)
            for result in results:
                assert result is None or isinstance(result, NotConnected | PartialDelivery)
                if isinstance(result, PartialDelivery):
                    assert {type(error) for error in result.failures.values()} == {NotConnected}
            assert any(results)
            with pytest.raises(NotConnected):
                await client.publish([m.Publish("a", b"", 1)])
            with pytest.raises(NotConnected):
                await client.lost()
    finally:
        broker.stop()


async def test_cancelling_a_publish_leaves_the_rest_alone(broker):
    inbox = Inbox()
    async with connected(broker, inbox) as client:
        await client.subscribe(["n"])
        soon = asyncio.get_running_loop().create_task
        for _ in range(20):
            cancelled = soon(client.publish([m.Publish("n", b"x", 1) for _ in range(500)]))
            after = soon(client.publish([m.Publish("n", b"after", 1) for _ in range(50)]))
            await asyncio.sleep(0.001)
            cancelled.cancel()
            await after
            assert cancelled.cancelled() or cancelled.done()
        assert client.inflight == 0
        assert client._session.outbound.unknown == 0
        await client.publish([m.Publish("n", b"end", 1)])
        async with asyncio.timeout(5):
            while not inbox or inbox[-1].payload != b"end":  # noqa: ASYNC110 - simpler than an event, in a test
                await asyncio.sleep(0.01)
        assert sum(item.payload == b"after" for item in inbox) == 1000


async def test_session_taken_over(broker):
    async with connected(broker, client_id="same") as first, connected(broker, client_id="same"):
        with pytest.raises(NotConnected):  # Mosquitto 2.0.11 does not say why
            await asyncio.wait_for(first.lost(), 5)


async def test_keep_alive_holds_an_idle_connection(broker):
    async with connected(broker, keep_alive=1) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.lost(), 2.5)
        assert client.connected


async def test_a_pause_is_back_pressure_and_no_silence(broker):
    inbox = Inbox()
    async with (
        connected(broker, inbox, keep_alive=1, ack_timeout=0.5) as client,
        connected(broker, client_id="w") as writer,
    ):
        await client.subscribe(["n"])
        client.pause()
        client.pause()
        await writer.publish([m.Publish("n", b"", 1)])
        await asyncio.sleep(2)
        assert inbox == []
        assert client.connected
        client.resume()
        await inbox.wait(1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_on_uvloop(tmp_path, ca):
    uvloop = pytest.importorskip("uvloop")
    files = tls_files(ca, tmp_path, "localhost")

    async def talk():
        inbox = Inbox()
        for broker, options in (plain, {}), (secure, {"ssl": context_for(ca), "server_hostname": "localhost"}):
            inbox.clear()
            async with connected(broker, inbox, **options) as client:
                await client.subscribe(["a"])
                await client.publish([m.Publish("a", bytes(5000), qos) for qos in (0, 1, 2) for _ in range(100)])
                await inbox.wait(300)

    with Mosquitto(tmp_path) as plain, Mosquitto(tmp_path, tls=files) as secure:
        uvloop.run(talk())
