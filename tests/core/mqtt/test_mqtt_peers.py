"""The asyncio client against peers that do what no broker should."""

import asyncio
from contextlib import asynccontextmanager

import mosquitto
import pytest

from northbound import mqtt as m
from northbound.errors import NotConnected, Unauthorised

CONNACK = m.encode(m.Connack(), 5)


@asynccontextmanager
async def peer(script):
    """Serve one script: ``await script(reader, writer)`` for each connection."""
    tasks = []

    async def serve(reader, writer):
        tasks.append(asyncio.current_task())
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def client_for(port, **options):
    options = {"connect_timeout": 0.3, "ack_timeout": 0.3, "close_timeout": 0.3, **options}
    return m.Client(m.ClientOptions(host="127.0.0.1", port=port, **options))


async def accept(reader, writer, connack=CONNACK):
    await reader.read(4096)
    writer.write(connack)


async def silent(reader, writer):
    await asyncio.sleep(30)


async def test_one_that_never_answers():
    async with peer(silent) as port:
        with pytest.raises(NotConnected, match=r"did not answer within 0\.3 s"):
            await client_for(port).connect()


async def test_one_that_is_not_there():
    with pytest.raises(NotConnected, match="refuses the connection"):
        await client_for(mosquitto.free_port()).connect()
    with pytest.raises(NotConnected, match="cannot be resolved"):
        await m.Client(m.ClientOptions(host="no-such-host.invalid", connect_timeout=5)).connect()


async def test_one_that_hangs_up_at_once():
    async def script(reader, writer):
        await reader.read(4096)

    async with peer(script) as port:
        with pytest.raises(m.ClosedUnanswered):
            await client_for(port).connect()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", NotConnected),
        (b"\x20\x02\0\1", m.VersionRefused),
        (b"\xd0\0", NotConnected),
        (b"\x20\xff\xff\xff\xff", NotConnected),
        (m.encode(m.Connack(134), 5), Unauthorised),
        (m.encode(m.Disconnect(137), 5), NotConnected),
        (CONNACK[:3], m.ClosedUnanswered),
    ],
)
async def test_strange_answers(answer, kind):
    async def script(reader, writer):
        await accept(reader, writer, answer)
        if len(answer) == 3:
            writer.close()
            return
        await asyncio.sleep(10)

    async with peer(script) as port:
        client = client_for(port)
        with pytest.raises(kind):
            await client.connect()
        await client.disconnect()
        assert not client.connected


async def test_malformed_midway():
    async def script(reader, writer):
        await accept(reader, writer)
        await reader.read(4096)
        writer.write(m.encode(m.Puback(1), 5) + b"\x36\0")
        rest.append(await reader.read(4096))

    rest = []
    async with peer(script) as port:
        client = client_for(port)
        await client.connect()
        with pytest.raises(Exception, match="QoS 3") as caught:
            await client.publish([m.Publish("a", b"", 1), m.Publish("a", b"", 1)])
        assert list(caught.value.failures) == [1]
        with pytest.raises(NotConnected, match="broke the protocol"):
            await client.lost()
        await client.disconnect()
        assert m.Decoder(5).feed(rest[0]) == [m.Disconnect(129)]


async def test_one_that_closes_within_a_packet():
    async def script(reader, writer):
        await accept(reader, writer)
        writer.write(m.encode(m.Publish("a", bytes(100)), 5)[:50])
        await writer.drain()
        writer.close()

    async with peer(script) as port:
        client = client_for(port)
        await client.connect()
        with pytest.raises(NotConnected, match="the broker closed the connection"):
            await asyncio.wait_for(client.lost(), 5)


async def test_the_words_of_a_disconnect_reach_every_caller():
    async def script(reader, writer):
        await accept(reader, writer)
        await reader.read(4096)
        writer.write(m.encode(m.Disconnect(149), 5))
        await asyncio.sleep(10)

    async with peer(script) as port:
        client = client_for(port)
        await client.connect()
        results = await asyncio.gather(
            *(client.publish([m.Publish("a", b"", 1)]) for _ in range(3)),
            client.subscribe(["a"]),
            return_exceptions=True,
        )
        assert {str(result) for result in results} == {"the broker closed the connection: 149 packet too large"}
        assert {type(result) for result in results} == {NotConnected}


async def test_one_that_never_acknowledges():
    async def script(reader, writer):
        await accept(reader, writer)
        while await reader.read(65536):
            pass

    async with peer(script) as port:
        client = client_for(port)
        await client.connect()
        with pytest.raises(NotConnected, match="has not acknowledged"):
            await asyncio.wait_for(client.publish([m.Publish("a", b"", 1)]), 5)


@pytest.mark.parametrize("qos", [0, 1])
async def test_one_that_never_reads(qos):
    async def script(reader, writer):
        writer.transport.pause_reading()
        writer.write(CONNACK)
        await asyncio.sleep(30)

    async with peer(script) as port:
        client = client_for(port, write_high_water=100_000)
        await client.connect()
        held = 0
        with pytest.raises(NotConnected, match=r"has read nothing|has not acknowledged"):
            async with asyncio.timeout(5):
                while True:
                    await client.publish([m.Publish("a", bytes(50_000), qos) for _ in range(10)])
                    held = max(held, client._driver._transport.get_write_buffer_size())
        assert held < 1_000_000
        await asyncio.wait_for(client.disconnect(), 2)


async def test_leaving_one_that_never_reads_is_bounded():
    async def script(reader, writer):
        writer.transport.pause_reading()
        writer.write(CONNACK)
        await asyncio.sleep(30)

    async with peer(script) as port:
        client = client_for(port, ack_timeout=30)
        await client.connect()
        batch = [m.Publish("a", bytes(1_000_000), 0) for _ in range(20)]
        sending = asyncio.get_running_loop().create_task(client.publish(batch))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(client.disconnect(), 2)
        await client.disconnect()
        with pytest.raises(Exception, match="closed by this side"):
            await sending


async def test_one_that_stops_answering_pings():
    async def script(reader, writer):
        await accept(reader, writer)
        await asyncio.sleep(30)

    async with peer(script) as port:
        client = client_for(port, keep_alive=1)
        await client.connect()
        with pytest.raises(NotConnected, match="silent"):
            await asyncio.wait_for(client.lost(), 5)


async def test_a_receiver_that_fails_acknowledges_nothing():
    async def script(reader, writer):
        await accept(reader, writer)
        await asyncio.sleep(0.05)
        writer.write(m.encode(m.Publish("a", b"", 1, packet_id=1), 5))
        rest.append(await reader.read(4096))

    def receive(_messages):
        raise ValueError("a defect")

    rest, reported = [], []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    async with peer(script) as port:
        client = m.Client(m.ClientOptions(host="127.0.0.1", port=port), on_messages=receive)
        await client.connect()
        with pytest.raises(NotConnected, match="the receiver of the messages failed"):
            await asyncio.wait_for(client.lost(), 5)
        await client.disconnect()
        assert rest == [b""]
    assert isinstance(reported[0]["exception"], ValueError)


async def test_cancelled_while_connecting():
    async with peer(silent) as port:
        client = client_for(port, connect_timeout=30)
        connecting = asyncio.create_task(client.connect())
        await asyncio.sleep(0.05)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await asyncio.wait_for(client.disconnect(), 2)


async def test_without_a_connection():
    client = client_for(1)
    await client.disconnect()
    for call in (client.publish([m.Publish("a")]), client.subscribe(["a"]), client.lost()):
        with pytest.raises(NotConnected, match="no connection"):
            await call
    assert client.limits is None


async def test_another_transport():
    """Whatever connects a protocol to a transport will do."""
    dialled = []
    async with peer(accept) as port:
        options = m.ClientOptions(host="not used")

        async def dial(factory):
            dialled.append(1)
            return await asyncio.get_running_loop().create_connection(factory, "127.0.0.1", port)

        client = m.Client(options, dial=dial)
        assert (await client.connect()).reason == 0
        await client.disconnect()
    assert dialled == [1]
