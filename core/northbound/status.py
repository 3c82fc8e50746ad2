"""What the running service says of itself. Every number an operator needs, one snapshot at a time."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from northbound.credentials import Credential

ConnectorState = Literal["connecting", "online", "retrying", "unauthorised", "draining", "stopped"]
SourceState = Literal["running", "waiting", "retrying", "finished", "stopped"]


class Counters(Struct, kw_only=True):
    """What became of the messages of one connector since it was first configured; kept in the store.

    Every message that its cursor has passed is in exactly one of them.
    """

    acknowledged: int = 0
    filtered: int = 0  # outside its topic filters
    overtaken: int = 0  # a newer value of the same topic was acknowledged first
    superseded: int = 0  # backlog full, when_full = "latest"
    dropped_queue_full: int = 0  # backlog full, when_full = "oldest"
    dropped_expired: int = 0  # older than the backlog's maximum age
    withheld: int = 0  # dropped by a privacy rule of this connector
    dead: int = 0  # set aside as a dead letter
    from_snapshot: int = 0  # of all these, how many came from the first snapshot and not from the log

    @property
    def total(self) -> int:
        """All messages the cursor has passed: cursor - start + from_snapshot."""
        return sum(getattr(self, name) for name in self.__struct_fields__ if name != "from_snapshot")

    def add(self, other: Counters) -> None:
        """Add ``other`` to these."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class CredentialStatus(Struct, kw_only=True):
    """What a connector signs in with; ``expires`` in ms since 1970, ``None`` where it does not or nobody can tell."""

    name: str
    expires: int | None = None
    renewed: bool = False  # the connector gets a new one by itself

    @classmethod
    def of(cls, credential: Credential) -> CredentialStatus:
        """Return what there is to tell of a credential."""
        expires = credential.expires
        return cls(
            name=credential.name,
            expires=None if expires is None else int(expires.timestamp() * 1000),
            renewed=credential.renewed,
        )


class ConnectorStatus(Struct, kw_only=True):
    """One connector. Ages in seconds, sizes in bytes, times in ms since 1970."""

    name: str
    type: str
    destination: str
    state: ConnectorState = "connecting"
    since: int = 0
    error: str | None = None
    counters: Counters
    retried: int = 0  # sends that failed and were tried again, since start
    reconnects: int = 0  # since start
    inflight: int = 0
    backlog: int = 0
    backlog_bytes: int = 0
    backlog_maximum_bytes: int = 0
    oldest_age: float | None = None  # of the first message not yet settled
    last_acknowledged_age: float | None = None
    dead_letters: int = 0  # waiting for a person now
    credentials: list[CredentialStatus] = []
    gauges: dict[str, float] = {}  # the connector's own numbers


class SourceStatus(Struct, kw_only=True):
    """One source; counts since start."""

    name: str
    type: str
    origin: str
    state: SourceState = "waiting"
    error: str | None = None
    received: int = 0  # events handed in
    refused: int = 0  # events and input that could not become messages
    last_refusal: str | None = None
    dropped: int = 0  # events that a privacy rule let go no further
    committed: int = 0  # messages on disk


class RuleStatus(Struct, kw_only=True):
    """One privacy rule; ``connector`` where it acts on what one connector gets. The count is since start."""

    name: str
    action: str
    connector: str | None = None
    acted: int = 0  # pieces of text, values or events


class StoreStatus(Struct, kw_only=True):
    """The store."""

    id: str
    path: str
    sequence: int = 0  # of the newest committed message
    log_messages: int = 0
    file_bytes: int = 0
    error: str | None = None


class Status(Struct, kw_only=True):
    """The whole service at one moment."""

    version: str
    uptime: float
    sources: list[SourceStatus]
    connectors: list[ConnectorStatus]
    store: StoreStatus
    rules: list[RuleStatus] = []

    @property
    def healthy(self) -> bool:
        """Whether every connector is online and the store takes messages."""
        return self.store.error is None and all(c.state == "online" for c in self.connectors)
