"""Object keys as people write them, taken apart into words: ``clientSecret``, ``client-secret``, ``CLIENT_SECRET``."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

#: What a key means stands at its end; a longer one is looked at from there.
LONGEST: Final = 256
_UPPER = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def words(key: str) -> tuple[str, ...]:
    """Return the words of ``key`` in lower case (ASCII's; another script's stay as they are)."""
    return _words(key[-LONGEST:]) if key else ()


@lru_cache(maxsize=4096)
def _words(key: str) -> tuple[str, ...]:
    found: list[str] = []
    word = ""
    for at, character in enumerate(key):
        if not character.isalnum():
            found.append(word)
            word = ""
            continue
        if word and _begins(key, at):
            found.append(word)
            word = ""
        word += character.lower() if character in _UPPER else character
    found.append(word)
    return tuple(filter(None, found))


def last_word(key: str, *, beside: frozenset[str] = frozenset()) -> str:
    """Return the last word of ``key`` that is no number and not one of ``beside``; ``""`` where there is none."""
    return next((word for word in reversed(words(key)) if not word.isdigit() and word not in beside), "")


def _begins(key: str, at: int) -> bool:
    """Whether a word begins here: ``clientSecret``, ``APIKey``, ``password1``."""
    character, before = key[at], key[at - 1]
    if character.isdigit() != before.isdigit():
        return True
    if character not in _UPPER:
        return False
    return before not in _UPPER or key[at + 1 : at + 2].islower()
