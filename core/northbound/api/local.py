"""How this machine's own commands sign in: a token in a file beside the store, made anew at each start.

Whoever may read the file runs as the service does, and could as well read the store itself. The file says where the
service listens, too, so that ``northbound status`` needs no configuration but the store's path.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Hashable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from northbound.api.identity import Access, Authenticator, Grant, Identity
from northbound.errors import NorthboundError

_PREFIX: Final = "local_"
_LARGEST: Final = 65_536

#: Who this machine's commands are: they see all, and may do all.
LOCAL: Final = Identity(
    subject="local", name="this machine", org=None, role="admin", scopes=frozenset({"public"}), expires=None,
    every_org=True,
)  # fmt: skip

_ALL: Final = object()


class Entrance(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says: where to connect, with what, and which certificate to expect there."""

    url: str
    token: str
    pid: int
    certificate: str | None = None

    def __repr__(self) -> str:
        return f"Entrance(url={self.url!r}, pid={self.pid})"


def entrance_path(store: Path) -> Path:
    """Return where the file stands."""
    return store.with_name(store.name + ".api.json")


def new_token() -> str:
    """Return a token nobody can guess: 256 bits."""
    return _PREFIX + secrets.token_hex(32)


def write(store: Path, entrance: Entrance) -> None:
    """Write the file whole, for the owner alone; raises :class:`NorthboundError`."""
    path = entrance_path(store)
    new = path.with_name(path.name + ".new")
    try:
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.encode(entrance))
        new.replace(path)
    except OSError as error:
        raise NorthboundError(f"{path}: {error.strerror}: the service may write beside its store") from None


def read(store: Path) -> Entrance:
    """Return what the file says; raises :class:`NorthboundError` where there is none."""
    path = entrance_path(store)
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_LARGEST), type=Entrance)
    except FileNotFoundError:
        remedy = "start it with an [api] table in its configuration"
        raise NorthboundError(f"no service with an API runs on {store}: {remedy}") from None
    except OSError as error:
        raise NorthboundError(f"{path}: {error.strerror}: run this as the user whom the service runs as") from None
    except msgspec.DecodeError:
        raise NorthboundError(f"{path} is damaged: restart the service") from None


def remove(store: Path) -> None:
    """Remove the file: what it opens is closed."""
    with suppress(OSError):
        entrance_path(store).unlink()


class Door:
    """Signs in this machine's commands by the token, and everybody else as ``inner`` says, which a reload replaces."""

    def __init__(self, inner: Authenticator, token: str) -> None:
        self.inner = inner
        self._token = token.encode()

    async def sign_in(self, username: str | None, password: bytes | None, *, address: str) -> Identity:
        """See :class:`Authenticator`."""
        shown = (username or "").encode("utf-8", "surrogatepass")
        if self._is_token(shown) and password in (None, b"", shown):
            return LOCAL
        return await self.inner.sign_in(username, password, address=address)

    async def bearer(self, headers: Mapping[str, str], *, address: str) -> Identity:
        """See :class:`Authenticator`."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # As bytes: text outside ASCII cannot be compared in constant time.
        if scheme.lower() == "bearer" and self._is_token(given.strip().encode("utf-8", "surrogatepass")):
            return LOCAL
        return await self.inner.bearer(headers, address=address)

    async def still_valid(self, identity: Identity) -> bool:
        """See :class:`Authenticator`."""
        return identity is LOCAL or await self.inner.still_valid(identity)

    def _is_token(self, shown: bytes) -> bool:
        return hmac.compare_digest(shown, self._token)


class Bounds:
    """Lets this machine's commands see and do everything, and everybody else what ``inner`` says."""

    def __init__(self, inner: Access) -> None:
        self.inner = inner

    def subscribe(self, who: Identity, filter: str) -> Grant:  # noqa: A002 - MQTT's word for it
        """See :class:`Access`."""
        return "whole" if who is LOCAL else self.inner.subscribe(who, filter)

    def receive(self, who: Identity, topic: str) -> bool:
        """See :class:`Access`."""
        return who is LOCAL or self.inner.receive(who, topic)

    def publish(self, who: Identity, topic: str) -> bool:
        """See :class:`Access`."""
        return who is LOCAL or self.inner.publish(who, topic)

    def rights(self, who: Identity) -> Hashable:
        """Return what is the same for everybody of the same rights; nobody else's is equal to this machine's."""
        if who is LOCAL:
            return _ALL
        same = getattr(self.inner, "rights", None)
        if same is None:
            return (who.subject, who.org, who.role, who.scopes, who.every_org)
        found: Hashable = same(who)
        return found
