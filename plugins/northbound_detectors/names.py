"""Names of people, and where they stand in a text, however it writes them.

Each word of the text is looked up among the first words of the names: the time is linear in the length of the text and
does not depend on how many names there are.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

from northbound import Found

#: Letters that decompose into nothing, and what people write where they cannot type them.
_LETTERS: Final = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "œ": "oe", "þ": "th", "\u0131": "i"}
)
#: What may stand between two words of a name, beside space.
_GAPS: Final = frozenset(("", ".", "_", "-", ",", "'", "\u2019", "+"))
_MOST_WORDS: Final = 8
#: Scripts that put no space between words: a name in them is one word, and stands amid others.
_UNSPACED: Final = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF), (0x20000, 0x3FFFF))
_REMEMBERED: Final = 0xD7B0


class _Words(dict[int, int]):
    """For :meth:`str.translate`: letters stay (ASCII's as small ones), all else is space."""

    def __missing__(self, code: int) -> int:
        character = chr(code)
        known = code if character.isalnum() or unicodedata.category(character)[0] == "M" else 0x20
        if code < _REMEMBERED:
            self[code] = known
        return known


_WORDS: Final = _Words({code: code + 32 for code in range(ord("A"), ord("Z") + 1)})


def fold(word: str) -> str:
    """Return ``word`` without case and accents."""
    if word.isascii():
        return word.lower()
    parts = unicodedata.normalize("NFKD", word.casefold())
    return "".join(part for part in parts if unicodedata.category(part) != "Mn").casefold().translate(_LETTERS)


class Names:
    """A list of names, ready to be found. ``single``: names of one word too."""

    def __init__(self, names: Iterable[str], *, single: bool = False) -> None:
        #: Every way to write a name, words with single spaces, and the name it is.
        self._names: dict[str, str] = {}
        self._counts: dict[str, tuple[int, ...]] = {}
        self._unspaced: dict[str, tuple[int, ...]] = {}
        for name in names:
            self._add(name, single=single)

    def __len__(self) -> int:
        return len(self._names) + sum(map(len, self._unspaced.values()))

    def _add(self, name: str, *, single: bool) -> None:
        last, comma, first = name.partition(",")
        written = (f"{first} {last}" if comma else name).translate(_WORDS).split()
        found = [fold(word) for word in written]
        if not found or len(found) > _MOST_WORDS:
            return
        joined = " ".join(found)
        whole = unicodedata.normalize("NFC", "".join(written))
        if len(found) == 1 and len(whole) > 1 and all(map(_is_unspaced, whole)):
            self._names.setdefault(whole, whole)
            _count(self._unspaced, whole[0], len(whole))
        elif len(found) > 1 or single:
            # Mary O'Hara is O'Hara, Mary: the last name may have any number of words.
            for at in range(len(found)):
                self._names.setdefault(" ".join(found[at:] + found[:at]), joined)
                _count(self._counts, found[at], len(found))

    def find(self, text: str) -> Iterator[Found]:
        """Give the names in ``text``; canonical is the name in small letters without accents."""
        plain = text.translate(_WORDS)
        found = plain.split()
        if not text.isascii():
            if not self._unspaced.keys().isdisjoint(text):
                yield from self._amid(text)
            found = [fold(word) for word in found]
        if self._counts.keys().isdisjoint(found):
            return
        yield from self._apart(text, plain, found)

    def _apart(self, text: str, plain: str, found: list[str]) -> Iterator[Found]:
        """Give the names among the words ``found``, which are those of ``plain``."""
        spans = _spans(plain)
        at = 0
        while at < len(found):
            taken = 0
            for count in self._counts.get(found[at], ()):
                name = self._names.get(" ".join(found[at : at + count]))
                if name is not None and len(found) >= at + count and _is_joined(text, spans, at, count):
                    yield Found(spans[at][0], spans[at + count - 1][1], name)
                    taken = count
                    break
            at += taken or 1

    def _amid(self, text: str) -> Iterator[Found]:
        """Give the names of scripts without spaces."""
        at = 0
        while at < len(text):
            taken = 0
            for count in self._unspaced.get(text[at], ()):
                if text[at : at + count] in self._names:
                    yield Found(at, at + count, text[at : at + count])
                    taken = count
                    break
            at += taken or 1


def _count(counts: dict[str, tuple[int, ...]], word: str, count: int) -> None:
    known = counts.get(word, ())
    if count not in known:
        counts[word] = tuple(sorted((*known, count), reverse=True))


def _is_unspaced(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _UNSPACED)


def _spans(plain: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    end = 0
    for word in plain.split():
        start = plain.index(word, end)
        end = start + len(word)
        spans.append((start, end))
    return spans


def _is_joined(text: str, spans: list[tuple[int, int]], at: int, count: int) -> bool:
    """Whether nothing but space and a mark or so stands between these words."""
    return all(text[spans[here][1] : spans[here + 1][0]].strip() in _GAPS for here in range(at, at + count - 1))
