"""One connection: an asyncio protocol that moves bytes between a transport and a session.

It owns no task. Writes of one turn of the event loop are joined, a chunk is bounded, and nothing is encoded while the
transport's buffer is above its high-water mark, so that a broker that does not read costs a bounded amount of memory.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

from northbound.errors import DeliveryError, NotConnected
from northbound.mqtt.errors import ClosedUnanswered
from northbound.mqtt.inbound import Received
from northbound.mqtt.network import network_error
from northbound.mqtt.options import ClientOptions
from northbound.mqtt.session import ClientSession

_CHUNK: Final = 128 * 1024


class Driver(asyncio.Protocol):
    """Drives ``session`` over one transport. ``opened`` is set by CONNACK, ``lost`` by the end, with its reason."""

    def __init__(
        self,
        session: ClientSession,
        options: ClientOptions,
        loop: asyncio.AbstractEventLoop,
        on_messages: Callable[[list[Received]], None] | None,
        *,
        auto_ack: bool,
    ) -> None:
        self._session = session
        self._options = options
        self._loop = loop
        self._on_messages = on_messages
        self._auto_ack = auto_ack
        self._transport: asyncio.Transport | None = None
        self._paused_at: float | None = None
        self._pump_due = False
        self._listening = True
        self._timer: asyncio.TimerHandle | None = None
        self.opened: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[DeliveryError] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()  # the transport is closed

    # -- called by the transport --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send CONNECT."""
        self._transport = stream = cast("asyncio.Transport", transport)  # uvloop's is of another class
        if self.lost.done():
            stream.abort()
            return
        stream.set_write_buffer_limits(self._options.write_high_water)
        self.pump()
        self._schedule_tick()

    def data_received(self, data: bytes) -> None:
        """Hand bytes to the session, messages to the user, and refill the window in one write."""
        if self.lost.done():
            return
        session = self._session
        try:
            session.receive(data, self._loop.time())
        except DeliveryError as error:
            self._hand_over()
            self.lose(error)
            return
        if not self.opened.done() and session.connected:
            self.opened.set_result(None)
        self._hand_over()
        self.pump()

    def _hand_over(self) -> None:
        messages = self._session.messages()
        if not messages:
            return
        try:
            if self._on_messages is not None:
                self._on_messages(messages)
        except BaseException:  # raised again: nothing is acknowledged that was not received
            self.lose(NotConnected("the receiver of the messages failed; they are not acknowledged"))
            raise
        if self._auto_ack:
            self._session.acknowledge(messages)

    def pause_writing(self) -> None:
        """Stop encoding until the broker has read."""
        self._paused_at = self._loop.time()

    def resume_writing(self) -> None:
        """Go on."""
        self._paused_at = None
        self.pump()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say why, unless it is known already."""
        error: DeliveryError
        if isinstance(exc, DeliveryError):  # a layer below knows better
            error = exc
        elif self.opened.done():
            words = "the broker closed the connection" if exc is None else f"the connection to the broker broke: {exc}"
            error = NotConnected(words)
        elif isinstance(exc, ssl.SSLError):
            error = network_error(exc, self._options)
        else:
            error = ClosedUnanswered(
                "the broker closed the connection without answering; it may want TLS or another protocol version"
            )
        self.lose(error)
        self._set_gone()

    def _set_gone(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.gone.done():
            self.gone.set_result(None)

    # -- called by the client -----------------------------------------------------------------------------------

    def pump_soon(self) -> None:
        """Write at the end of this turn of the loop, together with what others still add in it."""
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self.pump)

    def pump(self) -> None:
        """Write what the window and the transport have room for."""
        self._pump_due = False
        transport = self._transport
        if transport is None or self.lost.done():
            return
        now = self._loop.time()
        while self._paused_at is None:
            data = self._session.output(now, _CHUNK)
            if data:
                transport.write(data)
            if len(data) < _CHUNK:  # the window or the queue is at its end
                return

    def listen(self, *, on: bool) -> None:
        """Stop or go on reading from the transport."""
        if self._transport is None or self.lost.done() or on == self._listening:
            return
        self._listening = on
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def lose(self, error: DeliveryError, *, abort: bool = False) -> None:
        """End the connection; the first reason given is the one everyone hears."""
        if self.lost.done():
            return
        self.lost.set_result(error)
        if self._timer is not None:
            self._timer.cancel()
        transport = self._transport
        if transport is not None and not transport.is_closing():
            last_words = self._session.output(self._loop.time(), 0)
            if abort or self._paused_at is not None:
                transport.abort()
            else:
                if last_words:
                    transport.write(last_words)
                transport.close()
                # a peer that does not read would hold the transport open for ever
                self._timer = self._loop.call_later(self._options.close_timeout, transport.abort)
        elif transport is None:
            self._set_gone()
        self._session.lose(error)
        if not self.opened.done():
            self.opened.set_result(None)

    # -- time ---------------------------------------------------------------------------------------------------

    def _schedule_tick(self) -> None:
        limits = self._session.limits
        keep_alive = (limits.keep_alive if limits else self._options.keep_alive) or 60
        self._timer = self._loop.call_later(min(1.0, keep_alive / 8, self._options.ack_timeout / 4), self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        try:
            if self._paused_at is not None and now - self._paused_at > self._options.ack_timeout:
                raise NotConnected(f"the broker has read nothing for {self._options.ack_timeout:g} s")
            if not self._listening:
                self._session.unheard(now)
            self._session.tick(now)
        except DeliveryError as error:
            self.lose(error, abort=True)
            return
        self.pump()
        self._schedule_tick()
