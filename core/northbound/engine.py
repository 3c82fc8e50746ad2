"""Batch of events in, batch of messages out. Pure: no clock, no disk, no socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from northbound.errors import EventRefused
from northbound.events import LATEST_TIME, Cleared, Event, Metadata, State
from northbound.message import Message
from northbound.payloads import PayloadFormat
from northbound.topics import TopicScheme


class Processed(NamedTuple):
    """What became of a batch: the messages in the events' order, and the refused events as (position, reason)."""

    messages: list[Message]
    refused: list[tuple[int, str]]


class Engine:
    """Gives every event its topic and payload.

    ``org`` is the organisation where an event names none; with neither, the event is refused.
    """

    def __init__(
        self,
        scheme: TopicScheme,
        payloads: PayloadFormat | None = None,
        *,
        org: str | None = None,
        retain_state: bool = True,
    ) -> None:
        self.scheme = scheme
        self.org = org
        self._retain_state = retain_state
        payloads = payloads or PayloadFormat()
        self._state_payload = payloads.state_writer()
        self._metadata_payload = payloads.metadata_writer()

    def process(self, events: Sequence[Event], now: int) -> Processed:
        """Return the messages of ``events``; ``now`` (ms since 1970) is the time of those that have none."""
        messages: list[Message] = []
        refused: list[tuple[int, str]] = []
        for position, event in enumerate(events):
            try:
                messages.append(self._message(event, now))
            except EventRefused as error:
                refused.append((position, str(error)))
            except (AttributeError, TypeError, ValueError) as error:
                # A source's mistake. What it says may hold a value, so only the kind of mistake is told.
                refused.append((position, f"not a well-formed event: {type(event).__name__}, {type(error).__name__}"))
        return Processed(messages, refused)

    def _message(self, event: Event, now: int) -> Message:
        org = event.org or self.org
        if not org:
            raise EventRefused("no org: the event names none and [site] org is not set")
        time = event.time
        if time is None:
            time = now
        elif type(time) is not int or not 0 <= time <= LATEST_TIME:
            raise EventRefused(f"the time is not a whole number of milliseconds since 1970 (0 to {LATEST_TIME})")
        if isinstance(event, State):
            topic = self.scheme.state_topic(
                org, event.zones, event.system, event.driver, event.module, event.index, event.state
            )
            return Message(topic, self._state_payload(event.value, time), "state", time, self._retain_state)
        if isinstance(event, Metadata):
            topic = self.scheme.metadata_topic(org, event.id)
            if event.metadata is None:
                return Message(topic, b"", "metadata", time, True)
            return Message(topic, self._metadata_payload(event.metadata, time), "metadata", time, True)
        if isinstance(event, Cleared):
            topic = self.scheme.state_topic(
                org, event.zones, event.system, event.driver, event.module, event.index, event.state
            )
            return Message(topic, b"", "state", time, True)
        raise EventRefused(f"not an event: {type(event).__name__}")
