"""Topics, subscriptions and who may use them: what the Pub/Sub twin holds, without a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from northbound.testing.twins.pubsub_filters import Predicate, parse_filter
from northbound.testing.twins.pubsub_limits import ORDERING_KEY_BYTES_PER_SECOND

PUBLISH: Final = "pubsub.topics.publish"
#: What a role allows: cloud.google.com/pubsub/docs/access-control ("Roles"). The publisher may not even get its topic.
ROLES: Final[Mapping[str, frozenset[str]]] = {
    "roles/pubsub.publisher": frozenset((PUBLISH,)),
    "roles/pubsub.subscriber": frozenset(("pubsub.subscriptions.consume", "pubsub.topics.attachSubscription")),
    "roles/pubsub.viewer": frozenset(("pubsub.topics.get", "pubsub.topics.list", "pubsub.subscriptions.get")),
    "roles/pubsub.editor": frozenset(
        (
            PUBLISH,
            "pubsub.topics.get",
            "pubsub.topics.create",
            "pubsub.topics.attachSubscription",
            "pubsub.subscriptions.create",
            "pubsub.subscriptions.consume",
        )
    ),
}


class Published(NamedTuple):
    """One message as the service keeps it."""

    message_id: str
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str
    published: float
    principal: str


class Subscription:
    """Messages of one topic that wait for a subscriber, in the order they were published."""

    def __init__(self, topic: str, filter_text: str, *, ordered: bool, ack_seconds: float) -> None:
        self.topic = topic
        self.filter_text = filter_text
        self.ordered = ordered
        self.ack_seconds = ack_seconds
        self._passes: Predicate = parse_filter(filter_text)
        self._waiting: dict[str, Published] = {}
        self._leased: dict[str, float] = {}

    def put(self, message: Published) -> None:
        """Keep ``message`` where it passes the filter."""
        if self._passes(message.attributes):
            self._waiting[message.message_id] = message

    def pull(self, most: int, now: float) -> list[Published]:
        """Lease up to ``most`` messages. With ordering, what follows a leased message of its key waits."""
        self._leased = {name: until for name, until in self._leased.items() if until > now}
        held = {self._waiting[name].ordering_key for name in self._leased} if self.ordered else set()
        found = []
        for name, message in self._waiting.items():
            if name in self._leased or (message.ordering_key and message.ordering_key in held):
                continue
            found.append(message)
            if len(found) == most:
                break
        for message in found:
            self._leased[message.message_id] = now + self.ack_seconds
        return found

    def acknowledge(self, ids: Iterable[str]) -> None:
        """Forget what a subscriber has dealt with; unknown ids are ignored, as the reference of Acknowledge says."""
        for name in ids:
            self._waiting.pop(name, None)
            self._leased.pop(name, None)

    def lease(self, ids: Iterable[str], seconds: float, now: float) -> None:
        """Change how long messages are leased; 0 seconds gives them back at once."""
        for name in ids:
            if name in self._waiting:
                self._leased[name] = now + seconds


class Bucket:
    """So many units a second. It lets through while it is not in debt, so one large request is not refused for ever."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second = per_second
        self._clock = clock
        self._level = per_second
        self._then = clock()

    def take(self, units: float) -> float:
        """Take ``units``; returns 0, or the seconds until there is something again and nothing was taken."""
        now = self._clock()
        self._level = min(self.per_second, self._level + (now - self._then) * self.per_second)
        self._then = now
        if self._level <= 0:
            return max(0.001, -self._level / self.per_second)
        self._level -= units
        return 0.0


class Topic:
    """What was published to one topic, and to whom it goes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.messages: list[Published] = []
        self.requests: list[int] = []
        """How many messages each publish request brought."""
        self.members: dict[str, set[str]] = {}
        self.schema: Callable[[bytes], bool] | None = None
        """Whether data is as the topic's schema wants it (cloud.google.com/pubsub/docs/schemas); ``None``: any is."""
        self._keys: dict[str, Bucket] = {}

    def permissions(self, principal: str) -> frozenset[str]:
        """Return what ``principal`` may do here."""
        return frozenset().union(*(ROLES[role] for role in self.members.get(principal, ())))

    def schema_problem(self, messages: Iterable[Any]) -> str | None:
        """Return why messages are refused by the schema of the topic."""
        if self.schema is not None and not all(self.schema(message.data) for message in messages):
            return "Invalid data in message: Message failed schema validation."
        return None

    def key_pause(self, ordering_key: str, size: int) -> float:
        """Count ``size`` bytes of one ordering key; returns the seconds to wait where that is over its rate."""
        if not ordering_key:
            return 0.0
        bucket = self._keys.setdefault(ordering_key, Bucket(ORDERING_KEY_BYTES_PER_SECOND))
        return bucket.take(size)
