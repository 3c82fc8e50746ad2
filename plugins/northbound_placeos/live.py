"""The subscription to Redis: every change of a status, in order, as it arrives.

Why a client of our own for this one connection. redis-py hands over a message in 28 µs of CPU, this in less than one:
at 10,000 changes a second that is a third of a core against a hundredth. The protocol is parsed by hiredis, Redis' own
parser in C, which redis-py uses as well. Hashes are read with redis-py (:mod:`northbound_placeos.values`).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis

from northbound import NorthboundError
from northbound_placeos.options import SILENCE_SECONDS, RedisAddress

#: Every module's id begins with ``mod-`` (reference: ids); a status key may hold anything, slashes too.
PATTERN: Final = b"status/mod-*"
_PREFIX: Final = b"status/"
_CONNECT_SECONDS: Final = 10.0
#: What may wait to be taken, in changes and in bytes, before nothing more is read from Redis, which then keeps it, and
#: at last hangs up.
_MOST_WAITING: Final = 200_000
_MOST_BYTES: Final = 64 * 1024**2

Change = tuple[str, str, bytes, int]
"""Module, key, value as JSON, when it arrived (ms since 1970)."""


class Arrivals:
    """Changes that arrived and were not taken yet. With ``coalesce`` a newer one takes the place of an older."""

    def __init__(self, *, coalesce: bool) -> None:
        self._coalesce = coalesce
        self._latest: dict[bytes, tuple[bytes, int]] = {}
        self._all: list[tuple[bytes, bytes, int]] = []
        self.received = 0
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._latest) + len(self._all)

    def beyond(self, share: float) -> bool:
        """Return whether more waits than this share of what may."""
        return len(self) > _MOST_WAITING * share or self.bytes > _MOST_BYTES * share

    def put(self, channel: bytes, value: bytes, now: int) -> None:
        """Add a change."""
        self.received += 1
        self.bytes += len(channel) + len(value)
        if self._coalesce:
            if channel in self._latest:
                self.bytes -= len(channel) + len(self._latest[channel][0])
            self._latest[channel] = (value, now)
        else:
            self._all.append((channel, value, now))

    def take(self, refuse: Callable[[str, str], None]) -> list[Change]:
        """Return what there is, in order; ``refuse`` is told of channels that name no status."""
        changes: list[Change] = []
        self.bytes = 0
        if self._coalesce:
            waiting = [(channel, *rest) for channel, rest in self._latest.items()]
            self._latest = {}
        else:
            waiting, self._all = self._all, []
        for channel, value, now in waiting:
            # Only the first slash parts: a key may hold some of its own.
            module, slash, key = channel[len(_PREFIX) :].partition(b"/")
            try:
                if not slash or not key:
                    raise ValueError("a change of no status")  # noqa: TRY301 - told like the one below
                changes.append((module.decode(), key.decode(), value, now))
            except UnicodeDecodeError:
                refuse("a change", "its channel is not UTF-8")
            except ValueError as error:
                refuse(channel.decode(errors="replace"), str(error))
        return changes


class Subscription(asyncio.Protocol):
    """One connection that listens. Make it with :meth:`open`."""

    def __init__(self, arrivals: Arrivals, on_arrival: Callable[[], object]) -> None:
        self._arrivals = arrivals
        self._on_arrival = on_arrival
        self._reader = hiredis.Reader(protocolError=NorthboundError, replyError=_refused)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._replies: asyncio.Queue[Any] = asyncio.Queue()
        self._subscribed = False
        self._barriers: dict[bytes, asyncio.Future[None]] = {}
        self._token = 0
        self._paused = False
        self._heard = self._loop.time()
        self.lost: asyncio.Future[str] = self._loop.create_future()
        """Has the reason as its result when the connection is gone."""

    @classmethod
    async def open(
        cls,
        address: RedisAddress,
        tls: ssl.SSLContext | None,
        arrivals: Arrivals,
        on_arrival: Callable[[], object],
    ) -> Subscription:
        """Connect, sign in and subscribe. What is published from now on arrives. Raises :class:`NorthboundError`."""
        loop = asyncio.get_running_loop()
        subscription = cls(arrivals, on_arrival)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                if address.path is not None:
                    await loop.create_unix_connection(lambda: subscription, address.path)
                else:
                    await loop.create_connection(lambda: subscription, address.host, address.port, ssl=tls)
                await subscription._begin(address)
        except BaseException as error:  # raised again, in words where there are some: nothing stays open
            subscription.close()
            if isinstance(error, TimeoutError):
                raise NorthboundError(
                    f"Redis at {address.where} does not answer within {_CONNECT_SECONDS:.0f} s"
                ) from None
            if isinstance(error, OSError):
                raise NorthboundError(f"Redis at {address.where}: {error.strerror or error}") from None
            raise
        return subscription

    async def _begin(self, address: RedisAddress) -> None:
        if address.password is not None:
            who = [address.username.encode()] if address.username else []
            await self._ask(b"AUTH", *who, address.password.encode())
        # Channels are the same in every database, so none is selected.
        await self._ask(b"PSUBSCRIBE", PATTERN)

    async def _ask(self, *words: bytes) -> Any:
        self._send(*words)
        reply = await self._replies.get()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _send(self, *words: bytes) -> None:
        if self._transport is not None:
            self._transport.write(hiredis.pack_command(cast("tuple[Any]", words)))

    async def barrier(self) -> None:
        """Return when everything that Redis published before this call has arrived."""
        if self.lost.done():
            raise NorthboundError(self.lost.result())
        self._token += 1
        token = b"%d" % self._token
        future = self._barriers[token] = self._loop.create_future()
        self._send(b"PING", token)
        await future

    async def watch(self) -> None:
        """Ping when nothing was heard, until the connection is lost; raises :class:`NorthboundError` then."""
        while True:
            done, _ = await asyncio.wait([self.lost], timeout=SILENCE_SECONDS / 3)
            if done:
                raise NorthboundError(self.lost.result())
            silence = self._loop.time() - self._heard
            if silence > SILENCE_SECONDS and not (self._paused and len(self._arrivals)):
                what = "was not read from" if self._paused else "has said nothing"
                raise NorthboundError(f"Redis {what} for {silence:.0f} s")
            self._send(b"PING", b"0")

    def resume(self) -> None:
        """Read on, where reading was paused because too much waited.

        To be called whenever something was taken: the answer to a barrier stands behind what was not read.
        """
        if self._paused and not self._arrivals.beyond(0.5) and self._transport is not None:
            self._paused = False
            self._heard = self._loop.time()
            self._transport.resume_reading()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods only

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        self._heard = self._loop.time()
        now = time.time_ns() // 1_000_000
        reader, put = self._reader, self._arrivals.put
        before = self._arrivals.received
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                if self._subscribed and type(reply) is list and reply[0] == b"pmessage":
                    put(reply[2], reply[3], now)
                else:
                    self._take(reply)
        except NorthboundError as error:
            self._end(f"Redis says what is not its protocol: {error}")
        if self._arrivals.received != before:
            self._on_arrival()
            if self._arrivals.beyond(1) and self._transport is not None:
                self._paused = True
                self._transport.pause_reading()

    def _take(self, reply: Any) -> None:
        if not self._subscribed:
            # Here and not where it is awaited: changes may stand right behind it.
            self._subscribed = type(reply) is list and reply[0] == b"psubscribe"
            self._replies.put_nowait(reply)
        elif type(reply) is list and reply[0] == b"pong":
            future = self._barriers.pop(reply[1], None)
            if future is not None and not future.done():
                future.set_result(None)
        elif isinstance(reply, Exception):
            self._end(str(reply))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._end(f"Redis hung up{f': {exc}' if exc else ''}")

    def _end(self, why: str) -> None:
        self.close()
        if not self.lost.done():
            self.lost.set_result(why)
        error = NorthboundError(why)
        self._replies.put_nowait(error)
        for future in self._barriers.values():
            if not future.done():
                future.set_exception(error)
                future.exception()  # seen: whoever waits gets it all the same
        self._barriers.clear()


def _refused(words: str) -> NorthboundError:
    """Return what Redis refuses as an error of ours, with the remedy where it is one of rights."""
    hint = ""
    if words.startswith(("NOAUTH", "WRONGPASS")):
        hint = ": check the user name and password in the address"
    elif words.startswith("NOPERM"):
        hint = ": docs/placeos.md has the rights it needs"
    return NorthboundError(f"Redis refuses: {words}{hint}")
