"""Pub/Sub and the token endpoint through an HTTP proxy that wants a password."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from contextlib import asynccontextmanager

import pytest
import trustme
from tests.support.pubsub import EMAIL, TOPIC, cloud, opened, outgoing

from northbound import NotConnected
from northbound.testing.twins.google_tokens import TokenEndpoint
from northbound_gcp_pubsub import PubSubOptions

LOGIN = base64.b64encode(b"us@er:p:w").decode()


class Proxy:
    """CONNECT and nothing else, for whoever signs in."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.tasks: set[asyncio.Task] = set()
        self.port = 0

    def url(self, login: str = "us%40er:p%3Aw") -> str:
        return f"http://{login}@127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.add(asyncio.current_task())
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, _ = head.splitlines()[0].split()
            if method != "CONNECT" or f"proxy-authorization: basic {LOGIN}".lower() not in head.lower():
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
                return
            self.asked.append(target)
            host, _, port = target.rpartition(":")
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.pipe(reader, up_writer))
                tasks.create_task(self.pipe(up_reader, writer))
        finally:
            writer.close()

    async def pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def a_proxy():
    proxy = Proxy()
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        for task in proxy.tasks:
            task.cancel()
        await asyncio.gather(*proxy.tasks, return_exceptions=True)


async def test_everything_goes_through_the_proxy(tmp_path):
    context, ca = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trustme.CA()
    ca.issue_cert("127.0.0.1").configure_cert(context)
    async with a_proxy() as proxy, cloud(tmp_path) as gcp:
        with TokenEndpoint(gcp.accounts, tls=context) as endpoint:
            gcp.ca_file.write_bytes(gcp.ca_file.read_bytes() + ca.cert_pem.bytes())
            key = gcp.accounts.service_account(EMAIL, endpoint.token_uri)
            changes = {"credentials_file": None, "credentials_json": json.dumps(key), "self_signed": False}
            connector = gcp.connector(proxy=proxy.url(), **changes)
            async with opened(connector):
                await connector.send([outgoing(1)])
            assert {int(target.rpartition(":")[2]) for target in proxy.asked} == {
                gcp.twin.port,
                int(endpoint.base.rpartition(":")[2]),
            }
        assert "p%3Aw" not in repr(connector.config)
        assert [m.data for m in gcp.topic.messages] == [b"1"]


async def test_a_proxy_that_refuses_is_named(tmp_path):
    async with a_proxy() as proxy, cloud(tmp_path) as gcp:
        connector = gcp.connector(proxy=proxy.url("us%40er:wrong-7341"))
        with pytest.raises(NotConnected) as caught:
            await connector.open()
        await connector.close()
        assert "the proxy refuses" in str(connector.explain(caught.value))
        assert "7341" not in str(caught.value)
        gcp.key["token_uri"] = "https://127.0.0.1:1/token"
        changes = {"credentials_file": None, "credentials_json": json.dumps(gcp.key), "self_signed": False}
        connector = gcp.connector(proxy=proxy.url("us%40er:wrong-7341"), **changes)
        with pytest.raises(NotConnected) as caught:
            await connector.open()
        await connector.close()
        assert "the proxy refuses" in str(connector.explain(caught.value))
        assert "7341" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["proxy:3128", "https://proxy", "socks5://proxy", "http://", "http://a b/", "http://u:p@"]
)
def test_what_is_no_proxy(text):
    with pytest.raises(ValueError, match="write http://host:port") as caught:
        PubSubOptions(pubsub_topic=TOPIC, proxy=text)
    assert "u:p" not in str(caught.value).split("input_value")[0]
