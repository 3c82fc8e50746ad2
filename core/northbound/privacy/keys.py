"""Keyed hashes: what stands in place of a text so that equal texts stay equal and nobody can tell which.

A hash is written ``<key id>-<hex>``. The key id, four hex digits made from the secret, says which secret was used.
While a previous secret is still known (the overlap of a rotation), the hash under it follows after ``~``, so that who
has stored old ones can find their new ones; afterwards it is gone.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import Final

#: Hex digits of a hash: 128 bits. The most is the whole digest.
DEFAULT_LENGTH: Final = 32
LONGEST: Final = 64
_ID_DIGITS: Final = 4
_ID_TEXT: Final = b"northbound privacy key id"


class Key:
    """One secret. ``id`` says which without saying what."""

    __slots__ = ("_secret", "id")

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self.id = hmac.digest(self._secret, _ID_TEXT, "sha256").hex()[:_ID_DIGITS]

    def digest(self, text: str) -> str:
        """Return the HMAC-SHA256 of ``text`` in lower-case hex."""
        return hmac.digest(self._secret, text.encode(), "sha256").hex()

    def hash(self, text: str, length: int = DEFAULT_LENGTH) -> str:
        """Return ``<key id>-<hex>`` for ``text``, the hex cut to ``length`` digits."""
        return f"{self.id}-{self.digest(text)[:length]}"

    def __repr__(self) -> str:
        return f"<Key {self.id}>"


class Keys:
    """The secret in use, and during an overlap the previous one; ``until`` is its end (ms since 1970)."""

    __slots__ = ("current", "previous", "until")

    def __init__(self, secret: str, previous: str | None = None, until: int = 0) -> None:
        self.current = Key(secret)
        self.previous = Key(previous) if previous else None
        self.until = until

    def overlapping(self, now: int) -> Key | None:
        """Return the previous key where ``now`` (ms since 1970) is within the overlap."""
        return self.previous if now < self.until else None

    @property
    def ids(self) -> list[str]:
        """The ids of the keys there are."""
        return [key.id for key in (self.current, self.previous) if key is not None]


def own_hashes(forms: Iterable[tuple[str, str, int]]) -> re.Pattern[str] | None:
    """Return the pattern of hashes of these (prefix, key id, length); ``None`` for none."""
    prefixes: dict[str, set[str]] = {}
    for prefix, key, length in forms:
        prefixes.setdefault(prefix, set()).add(rf"{key}-[0-9a-f]{{{length}}}(?![0-9a-f])")
    written = []
    for prefix in sorted(prefixes, key=len, reverse=True):
        one = f"(?:{'|'.join(sorted(prefixes[prefix]))})"
        written.append(f"{re.escape(prefix)}{one}(?:~{one})?")
    return re.compile("|".join(written)) if written else None
