"""Who is at the other end, and what they may do: the words between signing in, access, the broker and HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Protocol

import msgspec

from northbound.apikeys import Role

#: Why signing in was refused. An MQTT server answers with a reason code, HTTP with a status: see ``SignInRefused``.
Refusal = Literal["bad_credentials", "not_authorised", "expired", "banned", "too_many"]

#: How a filter was granted: as it is, with deliveries checked one by one, or not at all.
Grant = Literal["whole", "narrowed", "refused"]

_READING: Final = frozenset({"public", "public.read", "mqtt", "mqtt.read"})
_WRITING: Final = frozenset({"public", "public.write", "mqtt", "mqtt.write"})


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody signed in. Holds nothing secret, and may be logged.

    ``subject`` is what the issuer calls them and names them in rules as ``{user}``; ``org`` bounds what they see.
    Without ``org`` a rule with ``{org}`` gives nothing, unless ``every_org`` says that they are bound to none.
    """

    subject: str
    name: str
    org: str | None
    role: Role
    scopes: frozenset[str]
    #: When this ends (seconds since 1970), or ``None`` for an API key without an end. The connection ends then too.
    expires: float | None
    #: Of the API key that was shown; ``None``: it was a token.
    key_id: str | None = None
    #: Whose token it was: the name of ``[api.auth.issuers.NAME]``. Two issuers may call two people alike.
    issuer: str | None = None
    #: Which configuration of that issuer the token was read by: it holds no longer than that.
    terms: int = 0
    #: Not bound to one organisation: said only by the configuration or whoever made the key, never by a token's claim.
    every_org: bool = False

    @property
    def reads(self) -> bool:
        """Whether the scope allows reading. Without it nobody is signed in."""
        return not _READING.isdisjoint(self.scopes)

    @property
    def writes(self) -> bool:
        """Whether the scope allows writing. The role must allow it too: see ``Access.publish``."""
        return not _WRITING.isdisjoint(self.scopes)


class SignInRefused(Exception):
    """Nobody was signed in. ``words`` say why, for the service's log and for the client; nothing of a token is in them.

    ``reason`` is ``bad_credentials`` (MQTT 3: 4 or 5, MQTT 5: 134; HTTP: 401), ``expired`` (135; 401),
    ``not_authorised`` (signed in, and may not come here: 135; 403), ``banned`` (138; 403) or ``too_many`` (151 or 159;
    429). ``retry_after`` is in seconds.
    """

    def __init__(self, reason: Refusal, words: str, *, retry_after: float | None = None) -> None:
        super().__init__(words)
        self.reason: Refusal = reason
        self.words = words
        self.retry_after = retry_after


class Authenticator(Protocol):
    """Tells who somebody is from what they show."""

    async def sign_in(self, username: str | None, password: bytes | None, *, address: str) -> Identity:
        """Say who connects by MQTT; ``address`` is where they connect from. Raises ``SignInRefused``."""
        ...

    async def bearer(self, headers: Mapping[str, str], *, address: str) -> Identity:
        """Say who asks by HTTP: ``Authorization: Bearer …`` or ``X-API-Key``. Raises ``SignInRefused``.

        ``headers`` are looked up by lower-case name.
        """
        ...

    async def still_valid(self, identity: Identity) -> bool:
        """Say whether ``identity`` still holds: not expired, its key not revoked. Ask every few seconds."""
        ...


class Access(Protocol):
    """What somebody may do. Pure and quick: it is asked for each delivery."""

    def subscribe(self, who: Identity, filter: str) -> Grant:  # noqa: A002 - MQTT's word for it
        """Say how ``who`` is granted ``filter`` (of a shared subscription: the filter within)."""
        ...

    def receive(self, who: Identity, topic: str) -> bool:
        """Say whether a message at ``topic`` may go to ``who``; to be asked where the grant was ``narrowed``."""
        ...

    def publish(self, who: Identity, topic: str) -> bool:
        """Say whether ``who`` may publish at ``topic``; a will is asked about when it is announced."""
        ...
