"""The sessions: who is let in to which, what is kept of it while its client is away, and when it ends."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator

from northbound.api.counters import Counters
from northbound.api.distribution import Distribution
from northbound.api.feeds import Feed
from northbound.api.identity import Access, Identity
from northbound.api.link import Link
from northbound.api.outbox import Outbox
from northbound.api.session import Granted, Session, SessionKey, key_of
from northbound.mqtt import packets as p
from northbound.mqtt.errors import ProtocolError
from northbound.mqtt.inbound import Inbound
from northbound.mqtt.names import check_filter, too_deep
from northbound.mqtt.properties import Properties
from northbound.mqtt.reasons import (
    CLIENT_ID_NOT_VALID,
    NOT_AUTHORISED,
    QUOTA_EXCEEDED,
    SERVER_BUSY,
    SESSION_TAKEN_OVER,
    TOPIC_FILTER_INVALID,
)
from northbound.mqtt.server import Ended, Event
from northbound.mqtt_options import MqttOptions

_NEVER = 0xFFFFFFFF  # a session expiry that means: do not (section 3.1.2.11.2)


class Sessions:
    """``on_will`` publishes a will: it is given the session and its will."""

    def __init__(
        self,
        access: Access,
        options: MqttOptions,
        counters: Counters,
        distribution: Distribution,
        on_will: Callable[[Session, p.Will], None],
    ) -> None:
        self._access = access
        self._options = options
        self._counters = counters
        self._distribution = distribution
        self._on_will = on_will
        self._sessions: dict[SessionKey, Session] = {}
        self._owned: dict[tuple[object, ...], dict[Session, None]] = {}
        self._longest = options.session_expiry.total_seconds()

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._sessions)

    def __iter__(self) -> Iterator[Session]:
        """Return them."""
        return iter(self._sessions.values())

    @property
    def away_bytes(self) -> int:
        """Bytes of what waits for clients that are away."""
        return sum([session.outbox.away_bytes for session in self])

    # -- coming and going -----------------------------------------------------------------------------------------

    def enter(self, link: Link, who: Identity, now: float) -> list[Event]:
        """Give a client its session, or refuse it; return what it sent behind its CONNECT."""
        connect = link.server.connect
        if connect is None:
            return []
        client_id = connect.client_id
        if not client_id:
            if connect.version == 3 or (connect.version == 4 and not connect.clean_start):  # [MQTT-3.1.3-8]
                link.server.refuse(CLIENT_ID_NOT_VALID, "an empty client id")
                return []
            client_id = f"auto-{secrets.token_hex(8)}"
        key = key_of(who, client_id)
        session = self._resume(key, connect, now)
        present = session is not None
        if session is None:
            if not self._room_for_another(self._owned.get(key[:-1], {}), self._options.sessions_per_user):
                link.server.refuse(QUOTA_EXCEEDED, "you have too many connections")
                return []
            if not self._room_for_another(self._sessions.values(), self._options.sessions):
                link.server.refuse(SERVER_BUSY, "there are too many sessions")
                return []
            session = self._new(key, who, connect.version)
        self._begin(session, connect, who)
        if present:  # what was under way may be forbidden by now
            session.outbox.deliveries.withdraw(lambda topic: self._access.receive(who, topic))
        told = Properties(
            session_expiry=self._told(session, connect),
            assigned_client_id=None if connect.client_id else client_id,
        )
        events = link.server.accept(session.inbound, session.outbox, told, now, session_present=present)
        link.session, session.link = session, link
        session.outbox.attach(link.wake, connect.version)
        return events

    def _resume(self, key: SessionKey, connect: p.Connect, now: float) -> Session | None:
        """Take the client's old session over, or end it (section 3.1.2.4)."""
        session = self._sessions.get(key)
        if session is not None and session.link is not None:
            self._counters.taken_over += 1
            session.link.disconnect(SESSION_TAKEN_OVER, "the client has connected again", now)  # [MQTT-3.1.4-3]
            session = self._sessions.get(key)
        if session is not None and connect.clean_start:
            self.end(session)
            return None
        return session

    def _room_for_another(self, there: Collection[Session], bound: int) -> bool:
        """See to it that a client finds a place although others are kept for clients that are away."""
        if len(there) < bound:
            return True
        away = [session for session in there if session.link is None]
        if not away:
            return False
        self._give_up(min(away, key=_left_at))
        return True

    def _give_up(self, session: Session) -> None:
        self._counters.sessions_expired += 1
        self.end(session)

    def _new(self, key: SessionKey, who: Identity, version: int) -> Session:
        options = self._options
        outbox = Outbox(
            self._counters,
            queue_bytes=options.queue_bytes,
            queue_messages=options.queue_messages,
            conflated=options.conflated,
        )
        inbound = Inbound(version, options.topic_aliases, options.receive_maximum)
        session = self._sessions[key] = Session(key, who, outbox, inbound)
        self._owned.setdefault(key[:-1], {})[session] = None
        return session

    def _begin(self, session: Session, connect: p.Connect, who: Identity) -> None:
        if session.version != connect.version:
            session.version = connect.version
            self._distribution.audiences.changed_for(session.granted)
        session.expires_at = session.will_due = None
        session.will = connect.will
        if connect.will is not None and not self._access.publish(who, connect.will.topic):
            session.will = None  # as a refused message of 3.x: taken and dropped; hanging up would be a reconnect loop
            self._counters.received_refused += 1
        if connect.version == 5:
            asked = connect.properties.session_expiry or 0
            session.expiry = min(float(asked), self._longest)
        else:
            session.expiry = 0.0 if connect.clean_start else self._longest
        if who != session.who:
            session.who = who
            self.judge(session)

    def _told(self, session: Session, connect: p.Connect) -> int | None:
        """Return the session expiry, where it is another than the client asked for [MQTT-3.2.2-...]."""
        asked = connect.properties.session_expiry or 0
        return int(session.expiry) if connect.version == 5 and asked > session.expiry else None

    def judge(self, session: Session) -> None:
        """Ask the rules again, for somebody's rights have changed: what is granted, and what already waits."""
        for text, granted in list(session.granted.items()):
            grant = self._access.subscribe(session.who, _plain(text))
            if grant == "refused":
                self.unsubscribe(session, text)
                continue
            again = Granted(
                granted.qos,
                granted.no_local,
                granted.retain_as_published,
                granted.identifier,
                grant == "narrowed",
            )
            session.granted[text] = again
            self._distribution.audiences.subscribe(session, text, again)
            for feed in session.outbox.feeds:
                if feed.text == text:
                    feed.allowed = self._allowed(session, again)
        session.outbox.keep_only(lambda topic: self._access.receive(session.who, topic))

    def leave(self, session: Session, ended: Ended, now: float) -> None:
        """Keep what must be kept now that the connection is gone."""
        session.link = None
        session.left_at = now
        session.outbox.detach()
        if ended.session_expiry is not None:
            session.expiry = min(float(ended.session_expiry), self._longest)
        will = session.will
        if will is not None and ended.will:
            delay = min(float(will.properties.will_delay or 0), session.expiry)
            if delay:
                session.will_due = now + delay
            else:
                session.will = None
                self._on_will(session, will)
        else:
            session.will = None
        if session.expiry:
            session.expires_at = now + session.expiry
        else:
            self.end(session)

    def drop_wills(self, who: Identity) -> None:
        """Forget the wills that wait of somebody who may no longer be here."""
        for session in self._sessions.values():
            if session.will_due is not None and session.who == who:
                session.will = session.will_due = None

    def end(self, session: Session) -> None:
        """Forget a session; a will that still waits is due now [MQTT-3.1.3-9]."""
        if self._sessions.get(session.key) is session:
            del self._sessions[session.key]
            owned = self._owned[session.key[:-1]]
            del owned[session]
            if not owned:
                del self._owned[session.key[:-1]]
        will, session.will, due = session.will, None, session.will_due
        for text in list(session.granted):
            self.unsubscribe(session, text)
        if will is not None and due is not None:
            self._on_will(session, will)

    def tick(self, now: float) -> None:
        """Publish wills that are due; forget sessions whose client stays away."""
        for session in list(self._sessions.values()):
            if session.link is not None:
                continue
            if session.will_due is not None and now >= session.will_due:
                will, session.will, session.will_due = session.will, None, None
                if will is not None:
                    self._on_will(session, will)
            if session.expires_at is not None and now >= session.expires_at:
                self._give_up(session)
        too_much = self.away_bytes - self._options.away_bytes
        if too_much > 0:
            for session in sorted([session for session in self if session.outbox.away_bytes], key=_left_at):
                too_much -= session.outbox.away_bytes
                self._give_up(session)
                if too_much <= 0:
                    break

    # -- subscriptions --------------------------------------------------------------------------------------------

    def subscribe(self, session: Session, item: p.Subscription, identifier: int) -> int:
        """Grant a filter and queue its present values; return the reason code of SUBACK."""
        if too_deep(item.filter):
            return TOPIC_FILTER_INVALID
        try:
            check_filter(item.filter)
        except ProtocolError:
            return TOPIC_FILTER_INVALID
        text, plain = item.filter, _plain(item.filter)
        grant = self._access.subscribe(session.who, plain)
        if grant == "refused":
            return NOT_AUTHORISED
        if text not in session.granted and len(session.granted) >= self._options.subscriptions:
            return QUOTA_EXCEEDED
        granted = Granted(item.qos, item.no_local, item.retain_as_published, identifier, grant == "narrowed")
        session.granted[text] = granted
        new = self._distribution.audiences.subscribe(session, text, granted)
        shared = text is not plain
        if not shared and (item.retain_handling == 0 or (item.retain_handling == 1 and new)):
            self._feed(session, plain, granted)
        return item.qos

    def _feed(self, session: Session, text: str, granted: Granted) -> None:
        if not ("+" in text or "#" in text or self._distribution.retained.get(text)):
            return
        feed = Feed(
            self._distribution.retained,
            text,
            version=5 if session.version == 5 else 4,
            qos=granted.qos,
            ids=(granted.identifier,) if granted.identifier and session.version == 5 else (),
            allowed=self._allowed(session, granted),
        )
        session.outbox.add_feed(feed)

    def _allowed(self, session: Session, granted: Granted) -> Callable[[str], bool] | None:
        """Return what a feed asks about each topic; nothing where the filter is within the rights."""
        audiences = self._distribution.audiences
        return (lambda topic: audiences.may_receive(session, topic)) if granted.narrowed else None

    def unsubscribe(self, session: Session, text: str) -> bool:
        """End a subscription; return whether there was one."""
        if session.granted.pop(text, None) is None:
            return False
        self._distribution.audiences.unsubscribe(session, text)
        session.outbox.drop_feed(text)
        return True


def _left_at(session: Session) -> float:
    return session.left_at


def _plain(text: str) -> str:
    """Return the filter within a shared subscription."""
    return text.split("/", 2)[2] if text.startswith("$share/") else text
