"""Batch of events in, batch of messages out. Pure: no clock, no disk, no socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from northbound.errors import EventRefused
from northbound.events import LATEST_TIME, Cleared, Event, Metadata, State
from northbound.message import Message
from northbound.payloads import PayloadFormat, to_json
from northbound.privacy.policy import Plan, Policy
from northbound.privacy.texts import Dropped, Withheld
from northbound.topics import TopicScheme


class Processed(NamedTuple):
    """What became of a batch: the messages in the events' order, and the refused events as (position, reason).

    ``dropped`` counts the events that a privacy rule let go no further.
    """

    messages: list[Message]
    refused: list[tuple[int, str]]
    dropped: int = 0


class Engine:
    """Gives every event its topic and payload, after what the privacy policy makes of both.

    ``org`` is the organisation where an event names none; with neither, the event is refused. ``policy`` may be
    replaced between batches.
    """

    def __init__(
        self,
        scheme: TopicScheme,
        payloads: PayloadFormat | None = None,
        *,
        org: str | None = None,
        retain_state: bool = True,
        policy: Policy | None = None,
    ) -> None:
        self.scheme = scheme
        self.org = org
        self.policy = policy
        self._retain_state = retain_state
        self.payloads = payloads = payloads or PayloadFormat()
        self._state_payload = payloads.state_writer()
        self._metadata_payload = payloads.metadata_writer()
        self._in_order = payloads.in_order

    def process(self, events: Sequence[Event], now: int) -> Processed:
        """Return the messages of ``events``; ``now`` (ms since 1970) is the time of those that have none."""
        messages: list[Message] = []
        refused: list[tuple[int, str]] = []
        dropped = 0
        policy = self.policy
        texts: list[bytes] = []
        clean: list[bool] = []
        if policy is not None:
            policy.begin(now)
            texts = [_json_of(event) for event in events]
            clean = policy.clean(texts)
        for position, event in enumerate(events):
            try:
                if texts:
                    self._take(event, now, messages, texts[position], clean=clean[position])
                else:
                    self._take(event, now, messages)
            except Dropped:
                dropped += 1
            except Withheld as error:
                refused.append((position, str(error)))  # it names the rule and nothing else
            except EventRefused as error:
                refused.append((position, self.shareable(str(error))))
            except (AttributeError, TypeError, ValueError) as error:
                # A source's mistake. What it says may hold a value, so only the kind of mistake is told.
                refused.append((position, f"not a well-formed event: {type(event).__name__}, {type(error).__name__}"))
        return Processed(messages, refused, dropped)

    def shareable(self, words: str) -> str:
        """Return words about an event (a reason, where it stood) after the privacy rules."""
        return words if self.policy is None else self.policy.scrub(words)

    def _take(self, event: Event, now: int, messages: list[Message], text: bytes = b"", *, clean: bool = False) -> None:
        """Append the message of ``event``; ``text`` is the JSON of its value where that is known, and ``clean``."""
        org = event.org or self.org
        if not org:
            raise EventRefused("no org: the event names none and [site] org is not set")
        time = event.time
        if time is None:
            time = now
        elif type(time) is not int or not 0 <= time <= LATEST_TIME:
            raise EventRefused(f"the time is not a whole number of milliseconds since 1970 (0 to {LATEST_TIME})")
        policy = self.policy
        if isinstance(event, State):
            topic = self.scheme.state_topic(
                org, event.zones, event.system, event.driver, event.module, event.index, event.state
            )
            text = text or to_json(event.value)
            if policy is not None:
                plan = policy.plan("state", topic, org, event)
                topic = plan.topic or topic
                text = policy.value(plan, topic, event.state, event.value, text, clean=clean)
                time = self._planned(plan, time, messages)
            messages.append(Message(topic, self._state_payload(text, time), "state", time, self._retain_state))
        elif isinstance(event, Metadata):
            topic = self.scheme.metadata_topic(org, event.id)
            entity = None if event.metadata is None else self._in_order(event.metadata)
            payload = b"" if entity is None else to_json(entity)
            if policy is not None:
                plan = policy.plan("metadata", topic, org, event)
                topic = plan.topic or topic
                gone = entity is None
                payload = policy.cleared(plan, topic) if gone else policy.value(plan, topic, "", entity, payload)
                time = self._planned(plan, time, messages, again=gone)
            if payload:
                payload = self._metadata_payload(payload, time)
            messages.append(Message(topic, payload, "metadata", time, True))
        elif isinstance(event, Cleared):
            topic = self.scheme.state_topic(
                org, event.zones, event.system, event.driver, event.module, event.index, event.state
            )
            if policy is not None:
                plan = policy.plan("state", topic, org, event)
                topic = plan.topic or topic
                policy.cleared(plan, topic)
                time = self._planned(plan, time, messages, again=True)
            messages.append(Message(topic, b"", "state", time, True))
        else:
            raise EventRefused(f"not an event: {type(event).__name__}")

    @staticmethod
    def _planned(plan: Plan, time: int, messages: list[Message], *, again: bool = False) -> int:
        """Return the time as the policy wants it; in an overlap of keys, clear what the previous one made."""
        if plan.time is not None:
            time = plan.time.coarse_ms(time)
        if plan.previous is not None and (again or not plan.superseded):
            plan.superseded = True
            messages.append(Message(plan.previous, b"", plan.kind, time, True))
        return time


def _json_of(event: Event) -> bytes:
    """Return the JSON of a state's value; nothing where there is none or it cannot be, which is said later."""
    if isinstance(event, State):
        try:
            return to_json(event.value)
        except (EventRefused, AttributeError, TypeError, ValueError):
            return b""
    return b""
