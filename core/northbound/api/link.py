"""One client's connection: what it asks, and what the broker makes of it. Bytes and the time go in, bytes come out.

A transport calls :meth:`receive` with what arrives, and :meth:`output` when ``wake`` was called or it can write again.
When ``stranger`` holds a CONNECT, it asks who that is and answers with :meth:`admit` or :meth:`turn_away`. When
``over`` is set it writes what is left and closes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from northbound.api.identity import Identity, SignInRefused
from northbound.mqtt import packets as p
from northbound.mqtt.errors import ProtocolError
from northbound.mqtt.inbound import Received
from northbound.mqtt.names import MAX_LEVELS, check_filter
from northbound.mqtt.reasons import (
    BAD_USER_NAME_OR_PASSWORD,
    BANNED,
    CONNECTION_RATE_EXCEEDED,
    FAILURE,
    NO_SUBSCRIPTION_EXISTED,
    NOT_AUTHORISED,
    QUOTA_EXCEEDED,
    SERVER_UNAVAILABLE,
    TOPIC_FILTER_INVALID,
)
from northbound.mqtt.server import ServerOptions, ServerSession

if TYPE_CHECKING:
    from northbound.api.broker import Broker
    from northbound.api.session import Session

_REFUSALS: Final = {
    "bad_credentials": BAD_USER_NAME_OR_PASSWORD,
    "not_authorised": NOT_AUTHORISED,
    "expired": NOT_AUTHORISED,
    "banned": BANNED,
    "too_many": CONNECTION_RATE_EXCEEDED,
}


class Link:
    """``address`` is where it comes from. ``session`` is set while the client is let in."""

    __slots__ = (
        "_abort",
        "_broker",
        "_wake",
        "address",
        "known",
        "over",
        "server",
        "session",
        "stalled_since",
        "who",
        "written",
    )

    def __init__(
        self,
        broker: Broker,
        options: ServerOptions,
        address: str,
        wake: Callable[[], None],
        abort: Callable[[], None],
        now: float,
    ) -> None:
        self._broker = broker
        self._wake = wake
        self._abort = abort
        self.address = address
        self.server = ServerSession(options, now)
        self.session: Session | None = None
        self.who: Identity | None = None
        self.stalled_since: float | None = None  # since when the transport takes nothing
        self.over = False
        self.known = False  # it was let in once
        self.written = 0  # bytes of the last output

    @property
    def stranger(self) -> p.Connect | None:
        """The CONNECT that waits for an answer."""
        server = self.server
        return server.connect if not server.accepted and server.ended is None else None

    @property
    def searching(self) -> bool:
        """Whether the last output ended in a search for present values, which goes on after a turn for the others."""
        return self.session is not None and self.session.outbox.searching

    @property
    def sign_in_timeout(self) -> float:
        """Seconds that signing in may take."""
        return self._broker.options.connect_timeout.total_seconds()

    # -- called by the transport ----------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the client."""
        self._broker.counters.bytes_received += len(data)
        self._handle(self.server.receive(data, now), now)

    def _handle(self, events: list[p.Connect | Received | p.Subscribe | p.Unsubscribe], now: float) -> None:
        while True:
            for event in events:
                match event:
                    case Received():
                        self._publish(event, now)
                    case p.Subscribe():
                        self._subscribe(event)
                    case p.Unsubscribe():
                        self._unsubscribe(event)
                    case _:
                        pass  # a CONNECT is in ``stranger``
            events = self.server.more(now)
            if not events:
                break
        self.settle(now)

    def settle(self, now: float) -> None:
        """See whether the connection has ended, and do what follows from it, once."""
        ended = self.server.ended
        if ended is None or self.over:
            return
        self.over = True
        self._broker.leave(self, ended, now)
        self._wake()

    def output(self, now: float, room: int) -> list[bytes]:
        """Return what to write now, whole packets of about ``room`` bytes.

        It is called again until there is nothing, and the link is not ``searching``.
        """
        if self.server.holds:  # an answer was given since
            self._handle([], now)
        pieces = self.server.output(now, room)
        self.written = sum(map(len, pieces))
        self._broker.counters.bytes_sent += self.written
        return pieces

    def tick(self, now: float, stall_timeout: float) -> None:
        """Let time pass. A transport that takes nothing for ``stall_timeout`` seconds is ended."""
        if self.stalled_since is not None and now - self.stalled_since > stall_timeout:
            self.lose("the client has read nothing for too long", now)
            self._abort()
            return
        self.server.tick(now)
        self.settle(now)

    def lose(self, words: str, now: float) -> None:
        """Take note that the transport is gone."""
        self.server.lose(words)
        self.settle(now)

    def disconnect(self, code: int, words: str, now: float, *, will: bool = True) -> None:
        """End the connection from this side."""
        self.server.disconnect(code, words, will=will)
        self.settle(now)

    def wake(self) -> None:
        """Say that there is something to write."""
        self._wake()

    # -- signing in -----------------------------------------------------------------------------------------------

    def admit(self, who: Identity, now: float) -> None:
        """Let the client in as ``who``."""
        if self.stranger is None:
            return
        self.who = who
        self._handle(self._broker.enter(self, who, now), now)
        self._wake()

    def turn_away(self, refusal: SignInRefused, now: float) -> None:
        """Refuse the client: CONNACK first, and only then the end [MQTT-3.2.2-7]."""
        self._broker.counters.refused += 1
        self.server.refuse(_REFUSALS.get(refusal.reason, NOT_AUTHORISED), refusal.words)
        self.settle(now)

    def fail(self, now: float) -> None:
        """Refuse the client since nobody can tell who it is."""
        self._broker.counters.refused += 1
        self.server.refuse(SERVER_UNAVAILABLE, "signing in is not possible at the moment")
        self.settle(now)

    # -- what the client asks -------------------------------------------------------------------------------------

    def _publish(self, message: Received, now: float) -> None:
        session = self.session
        if session is None:
            return

        def answer(reason: int, words: str | None = None) -> None:
            if self.session is session:
                self.server.answer(message, reason, words)
                self._wake()

        self._broker.receive(session, message, answer, now)

    def _subscribe(self, packet: p.Subscribe) -> None:
        session = self.session
        if session is None:
            return
        identifiers = packet.properties.subscription_ids
        reasons, words = [], None
        most = self._broker.options.subscriptions
        for number, item in enumerate(packet.subscriptions):
            if number < most:
                reason = self._broker.subscribe(session, item, identifiers[0] if identifiers else 0)
            else:  # whether they are new or not
                reason = QUOTA_EXCEEDED
            if reason >= FAILURE and words is None:
                words = _REASONS.get(reason)
            reasons.append(reason)
        self.server.suback(packet, reasons, words)
        self._wake()

    def _unsubscribe(self, packet: p.Unsubscribe) -> None:
        session = self.session
        if session is None:
            return
        reasons = []
        for text in packet.filters:
            try:
                check_filter(text)
            except ProtocolError:
                reasons.append(TOPIC_FILTER_INVALID)
            else:
                reasons.append(0 if self._broker.unsubscribe(session, text) else NO_SUBSCRIPTION_EXISTED)
        self.server.unsuback(packet, reasons)
        self._wake()


_REASONS: Final = {
    NOT_AUTHORISED: "the filter is outside what you may see",
    QUOTA_EXCEEDED: "there are too many subscriptions",
    TOPIC_FILTER_INVALID: f"the topic filter breaks the rules of wildcards, or has more than {MAX_LEVELS} levels",
}
