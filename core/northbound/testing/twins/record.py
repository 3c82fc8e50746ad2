"""What a twin took, what it refused and why, and who connected when: what a test's oracle counts."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import NamedTuple

from northbound.mqtt import Properties

_KEPT = 500_000


class Taken(NamedTuple):
    """A message that was acknowledged; ``time`` is that of ``time.monotonic``."""

    client_id: str
    topic: str
    payload: bytes
    retain: bool
    properties: Properties
    time: float

    @property
    def user(self) -> dict[str, str]:
        """The user properties; of a name that comes twice, the last."""
        return dict(self.properties.user)


class Refusal(NamedTuple):
    """Something that was refused: ``what`` (connect, publish, subscribe, tls, protocol…), and why."""

    client_id: str
    what: str
    why: str
    time: float


class Arrival(NamedTuple):
    """A connection that was accepted."""

    client_id: str
    time: float


class Record:
    """What happened, oldest first; of each list the newest ``keep`` entries."""

    def __init__(self, keep: int = _KEPT) -> None:
        self.messages: deque[Taken] = deque(maxlen=keep)
        self.refused: deque[Refusal] = deque(maxlen=keep)
        self.connects: deque[Arrival] = deque(maxlen=keep)

    def took(self, client_id: str, topic: str, payload: bytes, *, retain: bool, properties: Properties) -> None:
        """Note a message."""
        self.messages.append(Taken(client_id, topic, payload, retain, properties, time.monotonic()))

    def refuse(self, client_id: str, what: str, why: str) -> None:
        """Note a refusal."""
        self.refused.append(Refusal(client_id, what, why, time.monotonic()))

    def connected(self, client_id: str) -> None:
        """Note an accepted connection."""
        self.connects.append(Arrival(client_id, time.monotonic()))

    @property
    def connects_by_client(self) -> Counter[str]:
        """How often each client id was accepted."""
        return Counter(arrival.client_id for arrival in self.connects)

    @property
    def reasons(self) -> list[str]:
        """The reasons of all refusals."""
        return [refusal.why for refusal in self.refused]
