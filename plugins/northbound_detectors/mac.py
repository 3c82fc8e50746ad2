"""MAC addresses (EUI-48) and EUI-64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

import pydantic
import re2
from pydantic import ConfigDict, Field

from northbound import Detector, Found
from northbound_detectors.keys import words
from northbound_detectors.matching import caseless, is_word

_HEX: Final = "[0-9A-Fa-f]"
#: Runs are taken whole, so that a part of something longer is seen to be one.
_SEPARATED: Final = (
    rf"{_HEX}{{2}}(?::{_HEX}{{2}}){{5,}}|{_HEX}{{2}}(?:-{_HEX}{{2}}){{5,}}"
    rf"|{_HEX}{{4}}(?:\.{_HEX}{{4}}){{2,}}|{_HEX}{{4}}(?:-{_HEX}{{4}}){{2,}}"
)
_NAMES: Final = ("mac", "bssid")
_BARE: Final = rf"{_HEX}{{12,}}"
_NAMED: Final = (
    rf"(?:{caseless(_NAMES)})(?:[ _-]?{caseless(['addr'])}(?:{caseless(['ess'])})?)?"
    rf"[\"']?\s?[ =:_-]?\s?[\"']?({_BARE})"
)
_EUI48, _EUI64 = 12, 16
_SHORTEST, _LONGEST = 12, 23
_NOBODY: Final = frozenset(("000000000000", "ffffffffffff"))
_KEYS: Final = frozenset(
    ("mac", "macs", "bssid", "bssids", "macaddress", "macaddresses", "macaddr", "hwaddr", "clientid")
)
_KEY_PAIRS: Final = frozenset((("client", "id"), ("hw", "addr"), ("hardware", "address"), ("ethernet", "address")))
_EUI_KEYS: Final = frozenset(("eui", "deveui", "joineui", "appeui"))


class MacOptions(pydantic.BaseModel):
    """MAC addresses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bare: bool = Field(False, description="Also twelve hex digits without separators, under whatever key.")


class Mac(Detector):
    """MAC addresses."""

    Config: ClassVar[type[pydantic.BaseModel]] = MacOptions

    def __init__(self, config: MacOptions, *, name: str) -> None:
        super().__init__(config, name=name)
        self._any_bare = config.bare
        self._separated, self._bare, self._named = map(re2.compile, (_SEPARATED, _BARE, _NAMED))

    def find(self, text: str, key: str) -> Iterable[Found]:
        """Give the addresses in ``text``; canonical are hex digits with colons."""
        if len(text) < _SHORTEST:
            return ()
        found: list[Found] = []
        if text.count(":") > 4 or text.count("-") > 1 or text.count(".") > 1:
            found += self._with_separators(text)
        lengths = {_EUI48} if self._any_bare else _lengths(key)
        if lengths:
            found += _bare(text, ((m.start(), m.end()) for m in self._bare.finditer(text)), lengths)
        elif any(name in text.lower() for name in _NAMES):
            found += _bare(text, (m.span(1) for m in self._named.finditer(text)), {_EUI48}, named=True)
        found.sort()
        return found

    def mask(self, text: str) -> str:
        """Return the vendor's three octets: ``aa:bb:cc:***``."""
        digits = _digits(text)
        return f"{digits[:2]}:{digits[2:4]}:{digits[4:6]}:***"

    def _with_separators(self, text: str) -> Iterator[Found]:
        for match in self._separated.finditer(text):
            start, end = match.span()
            size = 2 if text[start + 2] in ":-" else 4
            # mac:aa:bb:…, where the "ac" is of the word
            start += (size + 1) * _is_wordy(text[start - 1 : start])
            end -= (size + 1) * _is_wordy(text[end : end + 1])
            if not _SHORTEST < end - start <= _LONGEST:
                continue
            digits = _digits(text[start:end])
            if _is_address(text[start:end], digits, size) and _is_alone(text, start, end, size):
                yield Found(start, end, _canonical(digits))


def _is_address(written: str, digits: str, size: int) -> bool:
    if digits in _NOBODY or len(digits) not in {_EUI48, _EUI64}:
        return False
    # aabb-ccdd-eeff may be any number with dashes, unless there are letters.
    return size == 2 or written[size] == "." or (len(digits) == _EUI48 and not digits.isdigit())


def _is_wordy(character: str) -> bool:
    return character != "_" and is_word(character)


def _is_alone(text: str, start: int, end: int, size: int) -> bool:
    """Whether what stands around is no part of it: not of an IPv6 address, a fingerprint or a UUID."""
    separator = text[start + size]
    before, after = text[start - 1 : start], text[end : end + 1]
    if separator == "-" and size == 2:  # a-b-c may be any words with dashes
        return True
    if after == separator:
        word = _word_after(text, end + 1)
        if (not word and text[end + 1 : end + 2] == separator) or _is_hex(word):
            return False
    if before == separator:
        word = _word_before(text, start - 1)
        return bool(word or text[start - 2 : start - 1] != separator) and not _is_hex(word)
    return True


def _word_before(text: str, end: int) -> str:
    word = text[max(0, end - 9) : end]
    at = len(word)
    while at and is_word(word[at - 1]):
        at -= 1
    return word[at:]


def _word_after(text: str, start: int) -> str:
    word = text[start : start + 9]
    at = 0
    while at < len(word) and is_word(word[at]):
        at += 1
    return word[:at]


def _is_hex(word: str) -> bool:
    return bool(word) and not word.strip("0123456789abcdefABCDEF")


def _bare(text: str, spans: Iterable[tuple[int, int]], lengths: set[int], *, named: bool = False) -> Iterator[Found]:
    for start, end in spans:
        before, after = text[start - 1 : start], text[end : end + 1]
        if end - start not in lengths or _is_wordy(after) or after == "-":
            continue
        if not named and (_is_wordy(before) or before == "-"):
            continue
        digits = text[start:end].lower()
        if digits not in _NOBODY:
            yield Found(start, end, _canonical(digits))


def _lengths(key: str) -> set[int]:
    """Return how many hex digits without separators are an address under ``key``."""
    found = words(key)
    if not found:
        return set()
    if any(word in _EUI_KEYS for word in found[-2:]):
        return {_EUI48, _EUI64}
    if any(word in _KEYS for word in found) or found[-2:] in _KEY_PAIRS:
        return {_EUI48}
    return set()


def _digits(text: str) -> str:
    return text.replace(":", "").replace("-", "").replace(".", "").lower()


def _canonical(digits: str) -> str:
    return ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
