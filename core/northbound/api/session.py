"""What outlives a client's connection: its subscriptions, what is unsettled, its will."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from northbound.api.identity import Identity
from northbound.api.outbox import Outbox
from northbound.mqtt.inbound import Inbound
from northbound.mqtt.packets import Will

if TYPE_CHECKING:
    from northbound.api.link import Link

#: A session belongs to who signed in, so that nobody comes by another's by its client id.
SessionKey = tuple[str | None, str, str | None, str]


def key_of(who: Identity, client_id: str) -> SessionKey:
    """Return the key of a client's session."""
    return who.issuer, who.subject, who.org, client_id


class Granted(msgspec.Struct, frozen=True, gc=False):
    """One subscription as it was granted; ``identifier`` is 0 where the client gave none.

    ``narrowed`` says that the filter is wider than the rights, so that each delivery is checked.
    """

    qos: int
    no_local: bool
    retain_as_published: bool
    identifier: int
    narrowed: bool


class Session:
    """Compared by identity. ``link`` is the connection, None while the client is away."""

    __slots__ = (
        "client_id",
        "expires_at",
        "expiry",
        "granted",
        "inbound",
        "key",
        "left_at",
        "link",
        "outbox",
        "version",
        "who",
        "will",
        "will_due",
    )

    def __init__(self, key: SessionKey, who: Identity, outbox: Outbox, inbound: Inbound) -> None:
        self.key = key
        self.client_id = key[-1]
        self.who = who
        self.outbox = outbox
        self.inbound = inbound
        self.granted: dict[str, Granted] = {}  # by filter, "$share/…" included
        self.link: Link | None = None
        self.version = 4
        self.expiry = 0.0  # seconds it is kept after the connection
        self.expires_at: float | None = None
        self.left_at = 0.0
        self.will: Will | None = None
        self.will_due: float | None = None
