"""The live tree and its subscribers: what the engine has committed goes in, every client gets what it asked for.

No sockets here: a transport drives a :class:`~northbound.api.link.Link` and writes what that puts out. Everything is
called from one event loop and returns at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

import northbound
from northbound.api.counters import BrokerStatus, Counters
from northbound.api.distribution import Distribution
from northbound.api.identity import Access, Authenticator, Identity
from northbound.api.link import Link
from northbound.api.retained import Details
from northbound.api.session import Session
from northbound.api.sessions import Sessions
from northbound.api.system import system_values
from northbound.api.throttle import network
from northbound.message import Kind, Message
from northbound.mqtt import packets as p
from northbound.mqtt.inbound import Received
from northbound.mqtt.names import MAX_LEVELS, too_deep
from northbound.mqtt.properties import NONE, Properties
from northbound.mqtt.publication import Publication
from northbound.mqtt.reasons import (
    IMPLEMENTATION_SPECIFIC,
    MAXIMUM_CONNECT_TIME,
    NO_MATCHING_SUBSCRIBERS,
    NOT_AUTHORISED,
    QUOTA_EXCEEDED,
    SERVER_SHUTTING_DOWN,
    TOPIC_NAME_INVALID,
)
from northbound.mqtt.server import Ended, Event, ServerOptions
from northbound.mqtt_options import MqttOptions

_TURN: Final = 0.25  # seconds between two looks at the clock
_GOOD_BYE: Final = 2.0  # seconds that clients have to read that the server goes
_ASKED_AT_ONCE: Final = 16  # sign-ins of which it is asked at a time whether they hold
_ANSWER: Final = 5.0  # seconds that each of these questions may take

#: Called with what a client publishes; None: nothing more is to be done, a future: it was taken, and comes back by
#: ``publish``, and PUBACK waits for the future.
OnPublish = Callable[[Identity, Message], "asyncio.Future[None] | None"]

log = logging.getLogger("northbound.api")


class Broker:
    """``on_publish`` hears what clients publish; ``system`` adds values, by full topic, to those below ``$SYS``.

    ``clock`` is monotonic, ``wall`` seconds since 1970.
    """

    def __init__(
        self,
        *,
        access: Access,
        authenticator: Authenticator | None = None,
        options: MqttOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.options = options or MqttOptions()
        self.counters = Counters()
        self.on_publish: OnPublish | None = None
        self.system: Callable[[], Mapping[str, str]] | None = None
        self._access = access
        self._authenticator = authenticator
        self._clock = clock
        self._wall = wall
        self._server_options = server_options(self.options)
        self._distribution = Distribution(access, self.counters)
        self._sessions = Sessions(access, self.options, self.counters, self._distribution, self._will)
        self._links: set[Link] = set()
        self._strangers = 0
        self._strangers_of: Counter[str] = Counter()  # by address
        # what clients published and comes back by ``publish``: by identity, so only what nothing has changed on the way
        self._underway: dict[int, tuple[Message, Publication]] = {}
        self._started = clock()
        self._system_due = 0.0
        self._told: set[str] = set()  # topics below $SYS
        self._closing = False

    # -- the tree -------------------------------------------------------------------------------------------------

    def publish(self, messages: Sequence[Message]) -> None:
        """Take a batch that is committed. A retained message that is already in its place is passed over."""
        self.counters.published += len(messages)
        if not self._underway:
            self._distribution.batch(messages)
            return
        run: list[Message] = []
        for message in messages:
            known = self._underway.pop(id(message), None)
            if known is None:
                run.append(message)
                continue
            self._distribution.batch(run)
            run = []
            self._one(known[1], message)
        self._distribution.batch(run)

    def load(self, messages: Iterable[Message]) -> None:
        """Take the present values at the start; nobody is told."""
        for message in messages:
            if message.retain:
                self._distribution.retained.keep(message)

    def current(self, filter: str, who: Identity | None) -> Iterator[list[Message]]:  # noqa: A002 - MQTT's word for it
        """Return the values of a filter's topics, those that ``who`` may see; None sees everything.

        They come some at a time, or none, so that between two turns others have theirs.
        """
        for messages in self._distribution.retained.match(filter):
            yield [item for item in messages if who is None or self._access.receive(who, item.topic)]

    def numbers(self) -> BrokerStatus:
        """Return what there is of everything."""
        return BrokerStatus(
            connections=len(self._links),
            strangers=self._strangers,
            sessions=len(self._sessions),
            subscriptions=self._distribution.audiences.subscriptions,
            filters=len(self._distribution.audiences),
            retained=len(self._distribution.retained),
            queued=sum(len(session.outbox) for session in self._sessions),
            away_bytes=self._sessions.away_bytes,
            counters=replace(self.counters),
        )

    def forget_rights(self) -> None:
        """Ask the access rules again about everything: they are others now."""
        self._distribution.audiences.forget_rights()
        for session in self._sessions:
            self._sessions.judge(session)

    # -- connections ----------------------------------------------------------------------------------------------

    def open(self, address: str, wake: Callable[[], None], abort: Callable[[], None]) -> Link | None:
        """Return the link of a new connection, None where there are too many.

        ``wake`` says that there is something to write, ``abort`` ends a transport that takes nothing. Whoever has
        opened it gives it back to :meth:`part`.
        """
        options, where = self.options, network(address)
        full = (
            len(self._links) >= options.connections
            or self._strangers >= options.strangers
            or self._strangers_of[where] >= (options.strangers + 1) // 2  # no address takes the place of all
        )
        if full or self._closing:
            self.counters.refused += 1
            return None
        link = Link(self, self._server_options, address, wake, abort, self._clock())
        self._links.add(link)
        self._strangers += 1
        self._strangers_of[where] += 1
        self.counters.connections_total += 1
        return link

    def part(self, link: Link) -> None:
        """Forget a connection whose transport is gone."""
        if link in self._links:
            link.lose("the connection was lost", self._clock())
            self._links.discard(link)
            if not link.known:
                self._less_strange(link)

    def enter(self, link: Link, who: Identity, now: float) -> list[Event]:
        """Let a client in, or refuse it by what its link then says."""
        events = self._sessions.enter(link, who, now)
        if link.session is not None and not link.known:
            link.known = True
            self._less_strange(link)
        return events

    def _less_strange(self, link: Link) -> None:
        where = network(link.address)
        self._strangers -= 1
        self._strangers_of[where] -= 1
        if not self._strangers_of[where]:
            del self._strangers_of[where]

    def leave(self, link: Link, ended: Ended, now: float) -> None:
        """Take note that a connection is over."""
        session, link.session = link.session, None
        if session is not None and session.link is link:
            self._sessions.leave(session, ended, now)

    def subscribe(self, session: Session, item: p.Subscription, identifier: int) -> int:
        """Grant a filter; return the reason code."""
        return self._sessions.subscribe(session, item, identifier)

    def unsubscribe(self, session: Session, text: str) -> bool:
        """End a subscription; return whether there was one."""
        return self._sessions.unsubscribe(session, text)

    # -- what clients publish -------------------------------------------------------------------------------------

    def receive(
        self, session: Session, message: Received, answer: Callable[[int, str | None], None], now: float
    ) -> None:
        """Take a message of a client and say what became of it, at once or when it is safe."""
        self.counters.received += 1
        topic = message.topic
        if too_deep(topic):
            self.counters.received_refused += 1
            answer(TOPIC_NAME_INVALID, f"the topic has more than {MAX_LEVELS} levels")
            return
        if topic.startswith("$") or not self._access.publish(session.who, topic):
            self.counters.received_refused += 1
            answer(NOT_AUTHORISED, "you may not publish to this topic")
            return
        retained = self._distribution.retained
        if (
            message.retain
            and message.payload
            and len(retained) >= self.options.retained
            and retained.get(topic) is None
        ):
            self.counters.received_refused += 1
            answer(QUOTA_EXCEEDED, "there are too many retained topics")
            return
        expiry = message.properties.message_expiry
        item = Publication(
            topic,
            message.payload,
            message.qos,
            message.retain,
            forwarded(message.properties),
            None if expiry is None else now + expiry,
            session,
            newest_only=message.retain,
        )
        kept = Message(topic, message.payload, kind_of(topic), int(self._wall() * 1000), message.retain)
        taken = self.on_publish(session.who, kept) if self.on_publish is not None else None
        if taken is None:
            answer(0 if self._one(item, kept) else NO_MATCHING_SUBSCRIBERS, None)
            return

        def settle(done: asyncio.Future[None]) -> None:
            if self._underway.get(id(kept), (None,))[0] is kept:
                del self._underway[id(kept)]
            _answer_later(done, answer)

        self._underway[id(kept)] = kept, item
        taken.add_done_callback(settle)

    def _one(self, item: Publication, message: Message) -> bool:
        return self._distribution.one(item, message, Details(item.qos, item.properties, item.expires))

    def _will(self, session: Session, will: p.Will) -> None:
        """Publish a will, if its owner may still publish."""
        if _expired(session.who, self._wall()):
            return
        self.counters.wills += 1
        message = Received(will.topic, will.payload, will.qos, will.retain, False, will.properties, 0)
        self.receive(session, message, lambda _reason, _words: None, self._clock())

    # -- time -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what time asks for, until cancelled: keep-alive, expiry, wills, rights that end, ``$SYS``."""
        async with asyncio.TaskGroup() as group:
            # apart: whoever is asked about a key may take as long as they like, and time does not wait for them
            group.create_task(self._ticking(), name="time")
            group.create_task(self._rechecking(), name="rights that end")

    async def _ticking(self) -> None:
        while True:
            await asyncio.sleep(_TURN)
            self.tick(self._clock())

    async def _rechecking(self) -> None:
        while True:
            await asyncio.sleep(self.options.recheck_interval.total_seconds())
            await self.recheck()

    def tick(self, now: float) -> None:
        """Let time pass."""
        wall, stall = self._wall(), self.options.stall_timeout.total_seconds()
        for link in list(self._links):
            link.tick(now, stall)
            if link.who is not None and not link.over and _expired(link.who, wall):
                self.counters.ended_by_access += 1
                # somebody who may no longer be here has no last word either
                link.disconnect(MAXIMUM_CONNECT_TIME, "the token has expired", now, will=False)
        self._sessions.tick(now)
        self._distribution.retained.expire(now)
        if now >= self._system_due:
            self._system_due = now + self.options.system_interval.total_seconds()
            self._publish_system(now)

    async def recheck(self) -> None:
        """Ask of everybody who is connected, or has left a will, whether they still are who they were."""
        if self._authenticator is None:
            return
        links: dict[Identity, list[Link]] = {}
        for link in self._links:
            if link.who is not None and not link.over:
                links.setdefault(link.who, []).append(link)
        for session in self._sessions:
            if session.will_due is not None:
                links.setdefault(session.who, [])
        questions = iter(links.items())
        async with asyncio.TaskGroup() as group:
            for _ in range(min(_ASKED_AT_ONCE, len(links))):
                group.create_task(self._recheck(self._authenticator, questions), name="rights that end")

    async def _recheck(self, authenticator: Authenticator, questions: Iterator[tuple[Identity, list[Link]]]) -> None:
        for who, same in questions:
            try:
                async with asyncio.timeout(_ANSWER):
                    valid = await authenticator.still_valid(who)
            except Exception:  # whatever a key store can fail with: it ends no connection, and it is tried again
                log.exception("cannot tell whether a sign-in still holds; trying again")
                continue
            if not valid:
                self._sessions.drop_wills(who)
                if _expired(who, self._wall()):
                    continue  # the next tick says so, with the reason that is right
                for link in same:
                    self.counters.ended_by_access += not link.over
                    link.disconnect(NOT_AUTHORISED, "the token or key holds no more", self._clock(), will=False)

    def _publish_system(self, now: float) -> None:
        values = dict(system_values(self.numbers(), now - self._started, northbound.__version__))
        if self.system is not None:
            values.update(self.system())
        payloads = {topic: value.encode() for topic, value in values.items()}
        for gone in self._told - payloads.keys():  # of a connector that a reload has removed
            payloads[gone] = b""
        self._told = set(values)
        wall = int(self._wall() * 1000)
        for topic, payload in payloads.items():
            known = self._distribution.retained.get(topic)
            if known is None or known.payload != payload:
                message = Message(topic, payload, "metadata", wall, True)
                item = Publication(topic, payload, 2, True, newest_only=True)
                self._distribution.one(item, message)

    async def close(self) -> None:
        """Say good-bye to everybody, and wait a moment until they have heard it."""
        self._closing = True
        now = self._clock()
        for link in list(self._links):
            link.disconnect(SERVER_SHUTTING_DOWN, "the server is shutting down", now, will=False)
        deadline = now + _GOOD_BYE
        while self._links and self._clock() < deadline:  # noqa: ASYNC110 - the last of thousands sets no event
            await asyncio.sleep(0.01)


def _expired(who: Identity, wall: float) -> bool:
    return who.expires is not None and wall >= who.expires


def _answer_later(done: asyncio.Future[None], answer: Callable[[int, str | None], None]) -> None:
    if done.cancelled() or done.exception() is not None:
        answer(IMPLEMENTATION_SPECIFIC, "the message could not be stored")
    else:
        answer(0, None)


def kind_of(topic: str) -> Kind:
    """Return what a topic is of, by its third level."""
    levels = topic.split("/", 3)
    return "metadata" if len(levels) > 3 and levels[2] == "metadata" else "state"


def forwarded(properties: Properties) -> Properties:
    """Return the properties that receivers get as they are (sections 3.3.2.3.2 to 3.3.2.3.7)."""
    if properties is NONE or properties == NONE:
        return NONE
    return replace(properties, topic_alias=None, message_expiry=None, will_delay=None, subscription_ids=())


def server_options(options: MqttOptions) -> ServerOptions:
    """Return the part of the options that one connection needs."""
    keep_alive = options.maximum_keep_alive
    return ServerOptions(
        connect_timeout=options.connect_timeout.total_seconds(),
        connect_bytes=options.connect_bytes,
        maximum_packet_size=options.packet_bytes,
        receive_maximum=options.receive_maximum,
        topic_alias_maximum=options.topic_aliases,
        max_inflight=options.inflight,
        maximum_keep_alive=None if keep_alive is None else max(1, int(keep_alive.total_seconds())),
    )
