"""From a message to the outboxes of those who hear it.

Messages of a batch that the same receivers hear, one behind the other, travel as one chunk: encoded once for each form,
joined once, and one entry in each receiver's queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from northbound.api.audience import Audience, Audiences, Group
from northbound.api.counters import Counters
from northbound.api.identity import Access
from northbound.api.outbox import Chunk
from northbound.api.retained import Details, Retained
from northbound.api.session import Granted, Session
from northbound.message import Message
from northbound.mqtt.publication import Publication, form

_RUN: Final = 128  # messages in one chunk


class Distribution:
    """The present (``retained``) and who hears what (``audiences``)."""

    def __init__(self, access: Access, counters: Counters) -> None:
        self.retained = Retained()
        self.audiences = Audiences(access)
        self._counters = counters

    def batch(self, messages: Sequence[Message]) -> None:
        """Take what the engine has committed. A message that is in its place already is not delivered again."""
        retained, audiences = self.retained, self.audiences
        listening = len(audiences) > 0
        run: list[Publication] = []
        run_groups: list[Group] | None = None
        run_retain = False
        for message in messages:
            if message.retain:
                if message.payload and retained.get(message.topic) is message:
                    continue
                retained.keep(message)
            if not listening:
                continue
            audience = audiences.of(message.topic)
            if audience is None:
                continue
            groups = audiences.groups(audience, message.topic) if audience.narrowed else audience.groups
            if groups is not run_groups or message.retain is not run_retain or len(run) >= _RUN or audience.shared:
                if run and run_groups:
                    self._give(run, run_groups)
                run, run_groups, run_retain = [], groups, message.retain
            item = Publication(message.topic, message.payload, 2, message.retain, newest_only=True)
            run.append(item)
            if audience.shared:
                self._share(item, audience)
        if run and run_groups:
            self._give(run, run_groups)

    def one(self, item: Publication, message: Message, details: Details | None = None) -> bool:
        """Take a message of a client, or of the broker itself; return whether anybody hears it.

        ``message`` is the same, as it is kept where it is retained.
        """
        if item.retain:
            self.retained.keep(message, details)
        audience = self.audiences.of(item.topic)
        if audience is None:
            return False
        groups = self.audiences.groups(audience, item.topic)
        if audience.no_local and item.origin in audience.no_local:
            self._give_others([item], groups, audience)
        else:
            self._give([item], groups)
        if audience.shared:
            self._share(item, audience)
        return bool(groups or audience.shared)

    @staticmethod
    def _give(run: Sequence[Publication], groups: Sequence[Group]) -> None:
        first = run[0]
        for group in groups:
            qos = min(group.qos, first.qos)
            how = form(group.version, qos, first.retain and group.retain_as_published, group.ids)
            if qos:
                for session in group.sessions:
                    session.outbox.add(run, how)
            else:
                chunk = Chunk(run, how)
                for session in group.sessions:
                    session.outbox.add_quick(chunk)

    def _give_others(self, run: Sequence[Publication], groups: Sequence[Group], audience: Audience) -> None:
        """Leave its publisher out of whatever it asked not to hear of its own [MQTT-3.8.3-3]."""
        publisher = run[0].origin
        for group in groups:
            others = Group(group.version, group.qos, group.ids, retain_as_published=group.retain_as_published)
            others.sessions = [session for session in group.sessions if session is not publisher]
            self._give(run, [others])
        for session, own in audience.no_local.items():
            if session is publisher:
                self._give(run, own)

    def _share(self, item: Publication, audience: Audience) -> None:
        for shared in audience.shared:
            found = self.audiences.next_member(shared, item.topic)
            if found is None:
                self._counters.dropped_nobody += 1
            else:
                self._to_one(item, *found)

    @staticmethod
    def _to_one(item: Publication, session: Session, granted: Granted) -> None:
        version = 5 if session.version == 5 else 4
        ids = (granted.identifier,) if granted.identifier and version == 5 else ()
        qos = min(granted.qos, item.qos)
        how = form(version, qos, item.retain and granted.retain_as_published, ids)
        if qos:
            session.outbox.add([item], how)
        else:
            session.outbox.add_quick(Chunk([item], how))
