"""API keys, and the words that they share with tokens and with rules of access: roles and scopes.

A key is ``<id>.<secret>``. Of the secret a keyed hash is kept, HMAC-SHA512 with the secret as its key and the id as its
message, as PlaceOS does; it has 256 random bits, so that nobody finds it from the hash.
"""

from __future__ import annotations

import hmac
import re
from typing import Final, Literal

from msgspec import Struct

#: What a rule of access is written for, the least first.
Role = Literal["user", "support", "admin"]
ROLES: Final[tuple[Role, ...]] = ("user", "support", "admin")

#: What a token or a key may be used for: PlaceOS's words (``name[.read|.write]``; without an ending both).
#: ``public`` is everything.
Scope = Literal["mqtt", "mqtt.read", "mqtt.write", "public", "public.read", "public.write"]
SCOPES: Final[tuple[Scope, ...]] = ("mqtt", "mqtt.read", "mqtt.write", "public", "public.read", "public.write")

_ID: Final = "[A-Za-z0-9_-]{8,64}"
_REST: Final = "[A-Za-z0-9_-]{32,256}"
_TOKEN: Final = re.compile(rf"({_ID})\.({_REST})")
_ID_ALONE: Final = re.compile(_ID)
_SECRET_ALONE: Final = re.compile(_REST)


class ApiKey(Struct, frozen=True, kw_only=True):
    """One key, without its secret. Times are ms since 1970.

    ``hash`` is of its secret (:func:`hash_secret`), in lower-case hex. ``user`` is whom it stands for in rules of
    access; ``None``: its name. Without ``org`` it sees nothing that belongs to one, unless ``every_org`` is set.
    """

    id: str
    name: str
    hash: str
    role: Role = "user"
    org: str | None = None
    every_org: bool = False
    scopes: tuple[str, ...] = ("mqtt",)
    created: int = 0
    expires: int | None = None
    revoked: int | None = None
    user: str | None = None

    def is_of(self, secret: str) -> bool:
        """Whether ``secret`` is this key's; takes as long for any."""
        return hmac.compare_digest(hash_secret(self.id, secret).encode(), self.hash.encode())

    def holds(self, now: int) -> bool:
        """Whether it may be used at ``now``: neither expired nor revoked."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def __repr__(self) -> str:
        return f"<ApiKey {self.id} {self.name!r}>"


def hash_secret(id_: str, secret: str) -> str:
    """Return what is kept of ``secret``."""
    return hmac.digest(secret.encode(), id_.encode(), "sha512").hex()


def split(text: str) -> tuple[str, str] | None:
    """Return id and secret where ``text`` has the form of a key."""
    found = _TOKEN.fullmatch(text)
    return None if found is None else (found[1], found[2])


def is_id(text: str) -> bool:
    """Whether ``text`` has the form of a key's id."""
    return _ID_ALONE.fullmatch(text) is not None


def is_secret(text: str) -> bool:
    """Whether ``text`` has the form of a key's secret."""
    return _SECRET_ALONE.fullmatch(text) is not None
