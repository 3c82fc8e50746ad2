"""A policy over messages that are already stored: the rules of one connector, before it sees them."""

from __future__ import annotations

import msgspec

from northbound.errors import EventRefused, Rejected
from northbound.message import Message
from northbound.payloads import PayloadFormat
from northbound.privacy.policy import Policy
from northbound.privacy.texts import Dropped
from northbound.topics import MetadataAddress, TopicScheme


class MessagePolicy:
    """Applies ``policy`` to whole messages, as ``scheme`` and ``payloads`` wrote them."""

    def __init__(self, policy: Policy, scheme: TopicScheme, payloads: PayloadFormat) -> None:
        self.policy = policy
        self._scheme = scheme
        self._payloads = payloads
        self._write_state = payloads.state_writer()
        self._write_metadata = payloads.metadata_writer()

    def apply(self, message: Message) -> Message | None:
        """Return ``message`` after the rules, the same where nothing changed, ``None`` where a rule drops it.

        Raises :class:`Rejected` where the rules cannot be evaluated: it must not go out as it is.
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
            value, text = self._payloads.read_state(payload) if state else self._payloads.read_metadata(payload)
            after = self.policy.value(plan, topic, key, value, text)
            if after is not text or time != message.time:
                payload = (self._write_state if state else self._write_metadata)(after, time)
        if topic == message.topic and payload is message.payload and time == message.time:
            return message
        return Message(topic, payload, message.kind, time, message.retain)
