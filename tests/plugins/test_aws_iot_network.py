"""The aws-iot connector behind a proxy, with a server that never answers, and with a broker nobody here wrote."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from contextlib import asynccontextmanager

import pytest
from tests.support.mosquitto import Mosquitto

from northbound import NotConnected, Outgoing, PartialDelivery, Rejected
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.aws_iot import AwsIotTwin
from northbound_aws_iot import AwsIotConnector, ConnectorOptions
from northbound_aws_iot import connector as aws_connector
from northbound_aws_iot.link import SdkFailure


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pair(authority):
    return authority.client("acme-hq")


def connector(authority, pair, port, **options) -> AwsIotConnector:
    return AwsIotConnector(
        ConnectorOptions(
            endpoint="localhost", port=port, ca=authority.ca, certificate=pair.certificate,
            private_key=pair.private_key, client_id="acme-hq", **options,
        ),
        name="aws",
    )  # fmt: skip


def out(topic: str, payload: bytes = b"x") -> Outgoing:
    return Outgoing(topic, payload, "state", 1, False, topic, f"store-{topic}")


@asynccontextmanager
async def listening(serve):
    """A server; every connection is ended at the end."""
    tasks = set()

    async def one(reader, writer) -> None:
        tasks.add(asyncio.current_task())
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def pump(reader, writer) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_an_http_proxy(authority, pair):
    asked: list[bytes] = []

    async def serve(reader, writer) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head)
        if b"Proxy-Authorization: Basic " + base64.b64encode(b"user:p@ss") not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            await reader.read()  # the client hangs up: closed at once, the SDK may not have read the answer
            return
        there, back = await asyncio.open_connection("127.0.0.1", int(head.split()[1].rpartition(b":")[2]))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        async with asyncio.TaskGroup() as both:
            both.create_task(pump(reader, back))
            both.create_task(pump(there, writer))

    async with AwsIotTwin(authority) as twin, listening(serve) as port:
        it = connector(authority, pair, twin.port, proxy=f"http://user:p%40ss@127.0.0.1:{port}")
        await it.open()
        await it.send([out("t")])
        await it.close()
        assert len(twin.messages) == 1
        assert asked[0].startswith(b"CONNECT localhost:%d " % twin.port)
        wrong = connector(authority, pair, twin.port, proxy=f"http://user:geheim@127.0.0.1:{port}")
        with pytest.raises(NotConnected) as caught:
            await wrong.open()
        assert "PROXY" in str(caught.value)
        assert "geheim" not in str(caught.value)
        await wrong.close()


@pytest.mark.parametrize("first", [True, False])
async def test_a_server_that_never_answers(authority, pair, capfd, first):
    async def silent(reader, writer) -> None:
        await asyncio.Event().wait()

    async with listening(silent) as port:
        it = connector(authority, pair, port, connect_timeout="1s")
        it._doubtful = first  # whether our own handshake comes first, or the SDK's
        with pytest.raises(NotConnected, match="within 1 s"):
            await it.open()
        async with asyncio.timeout(5):
            await it.close()
    assert capfd.readouterr().err == ""


async def test_a_server_that_does_not_answer_the_question_why_either(authority, pair, monkeypatch):
    monkeypatch.setattr(aws_connector, "_DIAGNOSIS_SECONDS", 0.1)

    async def silent(reader, writer) -> None:
        await asyncio.Event().wait()

    async with listening(silent) as port:
        it = connector(authority, pair, port)
        error = SdkFailure("cannot connect", "AWS_IO_SOCKET_CLOSED")
        async with asyncio.timeout(10):
            assert await it._better(error) is error


async def test_a_server_that_is_no_mqtt(authority, pair):
    async def other(reader, writer) -> None:
        await reader.read(1)
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()
        await reader.read()

    async with listening(other) as port:
        it = connector(authority, pair, port)
        with pytest.raises(NotConnected, match=r"WRONG_VERSION_NUMBER.*check that the port speaks TLS"):
            await it.open()
        await it.close()


async def test_a_broker_nobody_here_wrote(authority, pair, tmp_path):
    server = authority.server()
    tls = (authority.ca, server.certificate, server.private_key)
    lines = ["max_packet_size 20000"]
    with Mosquitto(tmp_path, tls=tls, require_certificate=True, config_lines=lines) as broker:
        it = connector(authority, pair, broker.port)
        await it.open()
        assert it.limits.max_payload_bytes < 20_000
        await it.send([out(f"t/{n}") for n in range(50)])
        with pytest.raises(PartialDelivery) as caught:
            await it.send([out("t", bytes(30_000)), out("u")])
        assert {index: type(error) for index, error in caught.value.failures.items()} == {0: Rejected}
        broker.stop()
        with pytest.raises(NotConnected):
            await it.lost()
        await it.close()
