"""The subscription's connection: servers that are none, that say nothing, and that go silent."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.support.intake import until

from northbound import NorthboundError
from northbound_placeos import live
from northbound_placeos.live import Arrivals, Subscription
from northbound_placeos.options import redis_address

SUBSCRIBED = b"*3\r\n$10\r\npsubscribe\r\n$12\r\nstatus/mod-*\r\n:1\r\n"
CHANGE = b"*4\r\n$8\r\npmessage\r\n$12\r\nstatus/mod-*\r\n$14\r\nstatus/mod-1/a\r\n$1\r\n1\r\n"


@asynccontextmanager
async def server(*answers: bytes):
    """A server that gives each of ``answers`` to what comes, and nothing after that."""
    connections: list[asyncio.StreamWriter] = []
    ended: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        for answer in answers:
            await reader.read(1000)
            writer.write(answer)
        await reader.read()
        writer.close()
        ended.append(writer)

    running = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield redis_address(f"redis://:hush@127.0.0.1:{running.sockets[0].getsockname()[1]}"), connections
    finally:
        running.close()
        for writer in connections:
            writer.transport.abort()
        await until(lambda: len(ended) == len(connections))
        await running.wait_closed()


async def opened(address, arrivals=None) -> Subscription:
    arrivals = Arrivals(coalesce=False) if arrivals is None else arrivals
    return await Subscription.open(address, None, arrivals, lambda: None)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "not its protocol"),
        ((b"-WRONGPASS invalid username-password pair\r\n",), "check the user name and password"),
        ((b"+OK\r\n", b"-NOPERM this user has no permissions\r\n"), "docs/placeos.md"),
    ],
)
async def test_a_server_that_refuses_or_is_none(answers, words):
    async with server(*answers) as (address, _):
        with pytest.raises(NorthboundError, match=words) as told:
            await opened(address)
        assert "hush" not in str(told.value)


async def test_a_server_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(live, "_CONNECT_SECONDS", 0.2)
    async with server() as (address, _):
        with pytest.raises(NorthboundError, match="does not answer"):
            await opened(address)


async def test_nobody_listens():
    with pytest.raises(NorthboundError, match=r"127\.0\.0\.1:1"):
        await opened(redis_address("redis://127.0.0.1:1"))


async def test_a_connection_that_goes_silent_is_given_up(monkeypatch):
    monkeypatch.setattr(live, "SILENCE_SECONDS", 0.3)
    async with server(b"+OK\r\n", SUBSCRIBED) as (address, _):
        subscription = await opened(address)
        with pytest.raises(NorthboundError, match="said nothing"):
            await subscription.watch()
        subscription.close()


async def test_a_pause_for_nothing_is_given_up_and_one_while_something_waits_is_not(monkeypatch):
    monkeypatch.setattr(live, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(live, "_MOST_WAITING", 10)
    async with server(b"+OK\r\n", SUBSCRIBED + CHANGE * 11) as (address, _):
        arrivals = Arrivals(coalesce=False)
        subscription = await opened(address, arrivals)
        await until(lambda: len(arrivals) == 11)
        watching = asyncio.ensure_future(subscription.watch())
        done, _ = await asyncio.wait({watching}, timeout=0.3)
        assert not done
        arrivals.take(pytest.fail)
        with pytest.raises(NorthboundError, match="was not read from"):
            await watching
        subscription.close()


async def test_whoever_waits_for_a_barrier_hears_that_the_connection_is_gone():
    async with server(b"+OK\r\n", SUBSCRIBED) as (address, connections):
        subscription = await opened(address)
        waiting = asyncio.ensure_future(subscription.barrier())
        await asyncio.sleep(0)
        connections[0].transport.abort()
        with pytest.raises(NorthboundError, match="hung up"):
            await waiting
        with pytest.raises(NorthboundError, match="hung up"):
            await subscription.barrier()


async def test_changes_right_behind_the_confirmation_are_not_lost():
    async with server(b"+OK\r\n", SUBSCRIBED + CHANGE * 3) as (address, _):
        arrivals = Arrivals(coalesce=False)
        subscription = await opened(address, arrivals)
        await until(lambda: len(arrivals) == 3)
        subscription.close()


async def test_reading_pauses_while_too_much_waits(monkeypatch):
    monkeypatch.setattr(live, "_MOST_WAITING", 10)
    async with server(b"+OK\r\n", SUBSCRIBED) as (address, connections):
        arrivals = Arrivals(coalesce=False)
        subscription = await opened(address, arrivals)
        connections[0].write(CHANGE * 11)
        await until(lambda: len(arrivals) == 11)
        connections[0].write(CHANGE)
        await asyncio.sleep(0.05)
        assert len(arrivals) == 11  # it stays with Redis
        subscription.resume()
        await asyncio.sleep(0.05)
        assert len(arrivals) == 11
        assert arrivals.take(pytest.fail)[0] == ("mod-1", "a", b"1", pytest.approx(0, abs=1e14))
        subscription.resume()
        await until(lambda: len(arrivals) == 1)
        subscription.close()


@pytest.mark.parametrize("coalesce", [True, False])
async def test_reading_pauses_while_too_many_bytes_wait(monkeypatch, coalesce):
    monkeypatch.setattr(live, "_MOST_BYTES", 1000)
    large = CHANGE.replace(b"$1\r\n1\r\n", b"$900\r\n%s\r\n" % (b"1" * 900))
    async with server(b"+OK\r\n", SUBSCRIBED) as (address, connections):
        arrivals = Arrivals(coalesce=coalesce)
        subscription = await opened(address, arrivals)
        connections[0].write(large * 3)
        await until(lambda: arrivals.received == 3)
        assert (arrivals.bytes, subscription._paused) == ((914, False) if coalesce else (3 * 914, True))
        connections[0].write(large.replace(b"mod-1/a", b"mod-1/b"))
        await until(lambda: subscription._paused)
        arrivals.take(pytest.fail)
        assert arrivals.bytes == 0
        subscription.resume()
        await until(lambda: arrivals.received == 4)
        subscription.close()
