"""One client's connection over whatever carries bytes: read, sign in, write, in two tasks that end together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from northbound.api.broker import Broker
from northbound.api.identity import Authenticator, SignInRefused
from northbound.api.link import Link
from northbound.mqtt.reasons import IMPLEMENTATION_SPECIFIC

_CHUNK: Final = 64 * 1024  # bytes of messages written at once
_SLICE: Final = 16 * 1024  # bytes dealt with before others have their turn: they may be thousands of packets
_ANSWERS: Final = 64 * 1024  # bytes of answers a client may leave unread before it is read no further

log = logging.getLogger("northbound.api")


class Wire(Protocol):
    """What carries the bytes."""

    async def read(self) -> bytes | None:
        """Return what came, None at the end."""
        ...

    def welcome(self) -> None:
        """Take note that the client was let in, and may say more at once."""
        ...

    async def write(self, pieces: Sequence[bytes]) -> None:
        """Send whole packets; return when there is room for more. Raises ``OSError`` when the client is gone."""
        ...

    def abort(self) -> None:
        """End it at once, whatever is still to be written."""
        ...


async def converse(broker: Broker, authenticator: Authenticator, address: str, wire: Wire) -> bool:
    """Serve one client until either side ends it; return False where there are too many already."""
    loop = asyncio.get_running_loop()
    ready, written = asyncio.Event(), asyncio.Event()
    link = broker.open(address, ready.set, wire.abort)
    if link is None:
        return False
    try:
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_read(link, wire, authenticator, ready, written), name="mqtt reader")
            try:
                await _write(link, wire, ready, written)
            except OSError:
                link.lose("the connection was lost", loop.time())
            reading.cancel()
    finally:
        broker.part(link)
    return True


async def _read(
    link: Link, wire: Wire, authenticator: Authenticator, ready: asyncio.Event, written: asyncio.Event
) -> None:
    loop = asyncio.get_running_loop()
    while not link.over:
        data = await wire.read()
        if data is None:
            link.lose("the connection was lost", loop.time())
            return
        for begin in range(0, len(data), _SLICE):
            if begin:
                await asyncio.sleep(0)
            _receive(link, data[begin : begin + _SLICE], loop.time())
            if link.stranger is not None:
                await _sign_in(link, authenticator)
                if link.known:
                    wire.welcome()
            ready.set()
            while link.server.holds:  # it has more under way than may be: what it sent goes on with the answers
                written.clear()
                await written.wait()
            while link.server.pending > _ANSWERS and not link.over:  # it asks and does not listen
                link.server.unheard(loop.time())
                await asyncio.sleep(0.05)


def _receive(link: Link, data: bytes, now: float) -> None:
    try:
        link.receive(data, now)
    except Exception:  # a fault of ours ends the connection it came up in, and no other [MQTT-4.8.0-2] of 3.1.1
        log.exception("a packet could not be processed; its connection is ended")
        link.disconnect(IMPLEMENTATION_SPECIFIC, "the server has failed", now)


async def _sign_in(link: Link, authenticator: Authenticator) -> None:
    connect, loop = link.stranger, asyncio.get_running_loop()
    if connect is None:
        return
    try:
        async with asyncio.timeout(link.sign_in_timeout):
            who = await authenticator.sign_in(connect.username, connect.password, address=link.address)
    except SignInRefused as refusal:
        link.turn_away(refusal, loop.time())
    except TimeoutError:
        link.fail(loop.time())
    except Exception:  # whatever a key store or an issuer can fail with: it is this client that is refused
        log.exception("signing in failed")
        link.fail(loop.time())
    else:
        link.admit(who, loop.time())


def _output(link: Link, now: float) -> list[bytes]:
    try:
        return link.output(now, _CHUNK)
    except Exception:  # as above
        log.exception("what waits for a client could not be written; its connection is ended")
        link.disconnect(IMPLEMENTATION_SPECIFIC, "the server has failed", now)
        return link.output(now, _CHUNK)  # why it ends


async def _write(link: Link, wire: Wire, ready: asyncio.Event, written: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await ready.wait()
        ready.clear()
        while (pieces := _output(link, loop.time())) or link.searching:
            if pieces:
                link.stalled_since = loop.time()
                await wire.write(pieces)
                link.stalled_since = None
            if link.written < _CHUNK and not link.over and not link.searching:
                break  # there was no more; whoever adds some calls again
            await asyncio.sleep(0)  # others have their turn
        written.set()
        if link.over:
            return
