"""The plain form of a text that hides something, and the way back to what was written.

Percent-encoding, the escapes of JSON and character references of HTML (nested to any depth), compatibility forms of
Unicode (NFKC), characters without a shape of their own, and the dashes, spaces and digits of other scripts cannot hide
a match: detectors see the plain form. All of it takes time linear in the length of the text.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from typing import Final

from northbound.errors import EventRefused

#: Decodings may hide in each other; who nests them deeper than this means to hide something.
_ROUNDS: Final = 16
_NAMED: Final = {
    "amp": "&", "apos": "'", "colon": ":", "commat": "@", "dash": "-", "equals": "=", "gt": ">", "hyphen": "-",
    "lowbar": "_", "lt": "<", "nbsp": " ", "num": "#", "percnt": "%", "period": ".", "plus": "+", "quot": '"',
    "sol": "/",
}  # fmt: skip
_SHORT: Final = {"b": " ", "f": " ", "n": "\n", "r": "\r", "t": "\t"}
_HEX: Final = "[0-9A-Fa-f]"
# Runs are taken whole and from their beginning, so that no text makes the search go over them again and again.
_ENCODED: Final = re.compile(
    rf"(?P<percent>(?:%(?:25)*+{_HEX}{{2}})++)"
    rf"|%(?:25)*+[uU](?P<script>{_HEX}{{4}})"
    rf"|(?<!\\)\\++(?:u(?P<pair>[dD][89abAB]{_HEX}{{2}}\\++u[dD][c-fC-F]{_HEX}{{2}})"
    rf"|u(?P<four>{_HEX}{{4}})|u\{{(?P<braced>0++{_HEX}{{0,6}}|{_HEX}{{1,6}})\}}|U(?P<long>{_HEX}{{8}})|x(?P<two>{_HEX}{{2}})"
    r"|(?P<short>[\"'/bfnrt]))"
    r"|&(?:(?:amp|AMP|#0*+38|#[xX]0*+26);?)*+"
    rf"(?:#(?P<decimal>0++[0-9]{{0,7}}|[0-9]{{1,7}});?|#[xX](?P<hex>0++{_HEX}{{0,6}}|{_HEX}{{1,6}});?|(?P<named>(?i:{'|'.join(_NAMED)}));)"
)
_TRIPLE: Final = re.compile(rf"%(?:25)*+({_HEX}{{2}})")
#: Control characters but tab and the ends of lines, which are spaces to everybody.
_CONTROL: Final = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f"
_CONTROLS: Final = re.compile(f"[{_CONTROL}]")
_OTHER: Final = re.compile(rf"[{_CONTROL}]+|[\x00-\x7f]?[^\x00-\x7f]+")
_MARKS: Final = range(0x1160, 0x1200)  # jamo that join the one before them
#: What Unicode lets a display leave out, beside the format characters (DerivedCoreProperties, Default_Ignorable).
_IGNORABLE: Final = (
    0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2065, 0x3164, 0xFFA0, *range(0x180B, 0x1810), *range(0xFE00, 0xFE10),
    *range(0xFFF0, 0xFFF9), *range(0xE0000, 0xE1000),
)  # fmt: skip
#: Where such characters are; the planes between hold ideographs.
_CODES: Final = (*range(0x80, 0x20000), *range(0xE0000, 0xE1000))
#: More marks on one character than any script writes; putting them in order takes time with their square.
_MOST_MARKS: Final = 30
_IDEOGRAPHIC_STOP: Final = "\u3002"
#: What may hide something, as patterns over the UTF-8 of a text.
HIDING: Final = (rb"%[0-9A-Fa-f]{2}", rb"%[uU][0-9A-Fa-f]{4}", rb"\\", rb"&[#A-Za-z]")


class Plain:
    """The plain form ``text``, and where its parts were in the original."""

    __slots__ = ("_layers", "text")

    def __init__(self, text: str, layers: list[_Layer]) -> None:
        self.text = text
        self._layers = layers

    def origin(self, start: int, end: int) -> tuple[int, int]:
        """Return the slice of the original that ``start`` to ``end`` of the plain form was made of."""
        for layer in reversed(self._layers):
            start, end = layer.before(start, end)
        return start, end


class _Layer:
    """One round of changes: slices of the text after it, and of the text before it.

    With a ``stride`` every character after was made of so many before, in order; without, the slice is one piece.
    """

    __slots__ = ("_after_end", "_after_start", "_before_end", "_before_start", "_stride")

    def __init__(self) -> None:
        self._after_start = array("q")
        self._after_end = array("q")
        self._before_start = array("q")
        self._before_end = array("q")
        self._stride = array("b")

    def add(self, before: tuple[int, int], after: tuple[int, int], stride: int) -> None:
        self._before_start.append(before[0])
        self._before_end.append(before[1])
        self._after_start.append(after[0])
        self._after_end.append(after[1])
        self._stride.append(stride)

    def before(self, start: int, end: int) -> tuple[int, int]:
        at = bisect_right(self._after_start, start) - 1
        if at >= 0:
            if start >= self._after_end[at]:
                start += self._before_end[at] - self._after_end[at]
            else:
                start = self._before_start[at] + (start - self._after_start[at]) * self._stride[at]
        last = end - 1
        at = bisect_right(self._after_start, last) - 1
        if at >= 0:
            if last >= self._after_end[at]:
                end += self._before_end[at] - self._after_end[at]
            elif self._stride[at]:
                end = self._before_start[at] + (end - self._after_start[at]) * self._stride[at]
            else:
                end = self._before_end[at]
        return start, max(start, end)


class Disguised(EventRefused):
    """A text is nested in encodings deeper than anybody writes, so nobody can say what it holds."""


def plain(text: str) -> Plain | None:
    """Return the plain form of ``text``, ``None`` where that is the text itself; raises :class:`Disguised`."""
    layers: list[_Layer] = []
    after = text
    for after in _rounds(text, layers):  # noqa: B007 - the last one is what it comes to
        pass
    return Plain(after, layers) if layers else None


def rounds(text: str) -> Iterator[str]:
    """Give what ``text`` is after each round of decoding: the escapes within a document belong to the next one."""
    return _rounds(text, [])


def _rounds(text: str, layers: list[_Layer]) -> Iterator[str]:
    before = text
    for _ in range(_ROUNDS):
        changed = False
        if "%" in before or "\\" in before or "&" in before:
            layer, after = _applied(before, _decoded)
            if after != before:
                layers.append(layer)
                before, changed = after, True
        if not (before.isprintable() and before.isascii()) and not is_common(before):
            layer, after = _applied(before, _folded)
            if after != before:
                layers.append(layer)
                before, changed = after, True
        if not changed:
            return
        yield before
    raise Disguised("a text is nested in encodings too deeply for the privacy rules")


def is_common(text: str) -> bool:
    """Whether ``text`` is in its compatibility form and holds nothing without a shape, as nearly every text is."""
    if text.isascii():
        return _CONTROLS.search(text) is None
    return unicodedata.is_normalized("NFKC", text) and _uncommon().search(text) is None


#: A slice of the text before, what takes its place, and how many characters before made each one after (0: no rule).
Change = tuple[int, int, str, int]


def _applied(text: str, changes: Callable[[str], Iterator[Change]]) -> tuple[_Layer, str]:
    layer = _Layer()
    pieces: list[str] = []
    done = length = 0
    for start, end, new, stride in changes(text):
        length += start - done
        layer.add((start, end), (length, length + len(new)), stride)
        pieces += (text[done:start], new)
        length += len(new)
        done = end
    pieces.append(text[done:])
    return layer, "".join(pieces)


def _decoded(text: str) -> Iterator[Change]:
    for match in _ENCODED.finditer(text):
        kind = match.lastgroup
        if kind == "percent":
            yield from _percent(text, match.start(), match.end())
            continue
        assert kind is not None  # noqa: S101 - every alternative has a group
        written = match[kind]
        if kind == "named":
            new = _NAMED[written.lower()]
        elif kind == "short":
            new = _SHORT.get(written, written)
        elif kind == "pair":
            new = chr(0x10000 + ((int(written[:4], 16) & 0x3FF) << 10) + (int(written[-4:], 16) & 0x3FF))
        else:
            new = _character(int(written.lstrip("0") or "0", 10 if kind == "decimal" else 16))
        yield match.start(), match.end(), new, 0


def _character(code: int) -> str:
    return chr(code) if code <= sys.maxunicode and not 0xD800 <= code <= 0xDFFF else "\ufffd"


def _percent(text: str, start: int, end: int) -> Iterator[Change]:
    """Give the characters of a run of percent-encoded bytes with the bytes that made them."""
    run = text[start:end]
    if run.count("%") * 3 == len(run):
        plainly = bytes.fromhex(run.replace("%", ""))
        if plainly.isascii() and b"%" not in plainly:
            yield start, end, plainly.decode(), 3
            return
    triples = [(match.start(), match.end(), int(match[1], 16)) for match in _TRIPLE.finditer(text, start, end)]
    characters = bytes(code for _, _, code in triples).decode(errors="surrogateescape")
    position = 0
    for character in characters:
        invalid = "\udc80" <= character <= "\udcff"  # one byte that is no part of a character
        last = position if invalid else position + len(character.encode()) - 1
        yield triples[position][0], triples[last][1], "\ufffd" if invalid else character, 0
        position = last + 1


def _folded(text: str) -> Iterator[Change]:
    for run in _OTHER.finditer(text):
        if _joining().search(text, run.start(), run.end()) is None:
            yield from _each_folded(run.group(), run.start())
            continue
        start, stop = run.span()
        while start < stop:
            end = start + 1
            while end < stop and end - start <= _MOST_MARKS and _joins(text[end]):
                end += 1
            new = "".join(map(_fold, unicodedata.normalize("NFKC", text[start:end])))
            if new != text[start:end]:
                yield start, end, new, 0
            start = end


def _each_folded(run: str, start: int) -> Iterator[Change]:
    """Give the changes of a run in which every character stands for itself."""
    folded = [_fold(character) for character in run]
    new = "".join(folded)
    if new == run:
        return
    if len(new) == len(run) and "" not in folded:
        yield start, start + len(run), new, 1
        return
    at = 0
    while at < len(run):
        end = at + 1
        if folded[at] == "":
            while end < len(run) and folded[end] == "":
                end += 1
        if folded[at] != run[at]:
            yield start + at, start + end, folded[at], 0
        at = end


def _joins(character: str) -> bool:
    return unicodedata.combining(character) != 0 or ord(character) in _MARKS


@lru_cache(maxsize=65_536)
def _fold(character: str) -> str:
    if character.isascii():
        return "" if _CONTROLS.match(character) else character
    special = _special()
    return "".join(special.get(c, c) for c in unicodedata.normalize("NFKC", character))


@cache
def _joining() -> re.Pattern[str]:
    return re.compile(_class(code for code in _CODES if _joins(chr(code))))


@cache
def _special() -> dict[str, str]:
    """Return the plain form of each character that NFKC leaves and that could hide something."""
    found = {_IDEOGRAPHIC_STOP: "."}
    ignorable = frozenset(_IGNORABLE)
    for code in _CODES:
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Cf", "Cc") or code in ignorable:
            found[character] = ""
        elif category == "Pd" or code == 0x2212:  # a minus sign looks like a dash
            found[character] = "-"
        elif category == "Zs":
            found[character] = " "
        elif category == "Nd":
            found[character] = str(unicodedata.decimal(character))
    return found


@cache
def _uncommon() -> re.Pattern[str]:
    return re.compile(f"{_class(sorted(map(ord, _special())))[:-1]}{_CONTROL}]")


def _class(codes: Iterable[int]) -> str:
    """Return the pattern of one character of ``codes``, which rise."""
    ranges: list[list[int]] = []
    for code in codes:
        if ranges and code == ranges[-1][1] + 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + "]"
