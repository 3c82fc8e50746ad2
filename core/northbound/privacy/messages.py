"""A policy over messages that are already stored: the rules of one connector, before it sees them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from northbound.errors import EventRefused, Rejected
from northbound.message import Kind, Message
from northbound.payloads import PayloadFormat
from northbound.privacy.policy import Policy
from northbound.privacy.texts import Dropped
from northbound.topics import MetadataAddress, TopicScheme


class MessagePolicy:
    """Applies ``policy`` to whole messages, as ``scheme`` and ``payloads`` wrote them."""

    def __init__(self, policy: Policy, scheme: TopicScheme, payloads: PayloadFormat) -> None:
        self.policy = policy
        self._scheme = scheme
        self._forms: dict[Kind, tuple[Callable[[bytes], tuple[Any, bytes, int]], Callable[[bytes, int], bytes]]] = {
            "state": (payloads.read_state, payloads.state_writer()),
            "metadata": (payloads.read_metadata, payloads.metadata_writer()),
        }

    def apply(self, message: Message) -> Message | None:
        """Return ``message`` after the rules, the same where nothing changed, ``None`` where a rule drops it.

        What a client has published is written anew, of what the rules have seen. Raises :class:`Rejected` where they
        cannot be evaluated: it must not go out as it is.
        """
        try:
            return self._apply(message)
        except Dropped:
            return None
        except EventRefused as error:
            raise Rejected(str(error)) from None
        except (msgspec.DecodeError, ValueError, TypeError, LookupError, RecursionError):
            raise Rejected("the privacy rules cannot read the payload: it is not one of this site's format") from None

    def _apply(self, message: Message) -> Message | None:
        state = message.kind == "state"
        place = self._scheme.parse(message.topic)
        if place is None or isinstance(place, MetadataAddress) == state:
            raise Rejected("the privacy rules cannot read the topic: it is not one of this site's scheme")
        plan = self.policy.plan(message.kind, message.topic, place.org, place)
        topic = plan.topic or message.topic
        key = "" if isinstance(place, MetadataAddress) else place.state
        time = message.time if plan.time is None else plan.time.coarse_ms(message.time)
        payload = message.payload
        if not payload:
            self.policy.cleared(plan, topic)
        else:
            read, write = self._forms[message.kind]
            value, text, written = read(payload)
            text = self.policy.value(plan, topic, key, value, text)
            # A client's payload may hold what the rules have not seen (a member twice), so nothing of it goes on; of
            # one that the engine wrote the same bytes come out.
            payload = write(text, written if plan.time is None else plan.time.coarse_ms(written))
        if topic == message.topic and payload == message.payload and time == message.time:
            return message
        return Message(topic, payload, message.kind, time, message.retain)
