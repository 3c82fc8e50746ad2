"""What the detectors share: patterns without surprises, spans in order, and texts that a rule has treated already.

All patterns applied to values are RE2's: linear in the length of the text. Four traps are left, and kept in mind in
every pattern here. ``(?i)`` folds beyond ASCII (the Kelvin sign is a k), where :attr:`northbound.Detector.literals` do
not. Searching on from a position in a ``str`` costs its whole length, so there is one ``finditer`` a text. A match
whose end is known only far behind it, many times over, is quadratic: what a pattern reads ahead must hold no other
match. And a large counted repetition that may begin anywhere is an automaton of many states.
"""

from __future__ import annotations

from collections.abc import Iterable

import re2

from northbound import Found

#: A hash as a rule writes it, in an overlap of two keys both.
_HASHES = r"[0-9a-f]{4}-[0-9a-f]{8,64}"
_TREATED = re2.compile(rf"{_HASHES}(?:~{_HASHES})?")
_LONGEST_HASH = 140


def caseless(words: Iterable[str]) -> str:
    """Return the pattern of one of ``words`` in any case of ASCII."""
    return "|".join("".join(map(_both, word)) for word in words)


def _both(character: str) -> str:
    if character.isascii() and character.isalpha():
        return f"[{character.lower()}{character.upper()}]"
    return str(re2.escape(character))


def is_treated(text: str) -> bool:
    """Whether ``text`` is nothing but a mask or a hash that a rule has written."""
    if not text.strip(" \t\r\n*"):
        return True
    return text[4:5] == "-" and len(text) <= _LONGEST_HASH and _TREATED.fullmatch(text) is not None


def in_order(found: list[Found]) -> list[Found]:
    """Return ``found`` in order, those that overlap as one."""
    if len(found) < 2:
        return found
    found.sort(key=lambda item: (item.start, -item.end))
    apart: list[Found] = []
    for item in found:
        last = apart[-1] if apart else None
        if last is None or item.start >= last.end:
            apart.append(item)
        elif item.end > last.end:
            apart[-1] = Found(last.start, item.end)
    return apart


def is_word(character: str) -> bool:
    """Whether this is a letter or digit of ASCII, or an underscore; not for ``""``."""
    return character == "_" or (character.isascii() and character.isalnum())
