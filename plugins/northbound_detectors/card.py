"""Payment card numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import re2

from northbound import Detector, Found
from northbound_detectors.matching import is_word

#: The first digits of the cards of an issuer, as a range, and how many digits they have.
_ISSUERS: Final = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("300", "305", (14, 16, 17, 18, 19)),  # Diners Club
    ("3095", "3095", (14, 16, 17, 18, 19)),
    ("36", "36", (14, 15, 16, 17, 18, 19)),
    ("38", "39", (14, 16, 17, 18, 19)),
    ("3528", "3589", (16, 17, 18, 19)),  # JCB
    ("6011", "6011", (16, 17, 18, 19)),  # Discover
    ("644", "659", (16, 17, 18, 19)),
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("81", "82", (16, 17, 18, 19)),  # RuPay, UnionPay
    ("60", "60", (16,)),  # RuPay
    ("2200", "2204", (16, 17, 18, 19)),  # Mir
    ("50", "50", (13, 14, 15, 16, 17, 18, 19)),  # Maestro and others
    ("56", "58", (13, 14, 15, 16, 17, 18, 19)),
    ("63", "63", (13, 14, 15, 16, 17, 18, 19)),
    ("67", "67", (13, 14, 15, 16, 17, 18, 19)),
    ("9792", "9792", (16,)),  # Troy
)
_SHORTEST, _LONGEST = 13, 19
_SMALLEST_GROUP: Final = 3
_VALUES: Final = bytes(max(0, code - 48) % 10 for code in range(256))
_DOUBLED: Final = bytes(value * 2 - 9 if value > 4 else value * 2 for value in _VALUES)
_RUN: Final = r"[0-9](?:[ -]?[0-9]){12,}"


def _by_prefix() -> dict[str, frozenset[int]]:
    lengths: dict[str, set[int]] = {}
    for first, last, counts in _ISSUERS:
        for prefix in range(int(first), int(last) + 1):
            lengths.setdefault(str(prefix), set()).update(counts)
    return {prefix: frozenset(counts) for prefix, counts in lengths.items()}


class Card(Detector):
    """Payment card numbers."""

    numbers = True

    def __init__(self, config: object, *, name: str) -> None:
        super().__init__(config, name=name)
        self._run = re2.compile(_RUN)
        self._lengths = _by_prefix()

    def find(self, text: str, key: str) -> Iterable[Found]:  # noqa: ARG002 - a number is one under any key
        """Give the numbers with an issuer, a length of that issuer and the right check digit."""
        if len(text) < _SHORTEST:
            return
        for match in self._run.finditer(text):
            start, end = match.span()
            if not _is_part(text, start, end):
                yield from self._cards(text, start, end)

    def mask(self, text: str) -> str:
        """Return ``***1111``."""
        return f"***{text[-4:]}"

    def _cards(self, text: str, start: int, end: int) -> Iterator[Found]:
        """Give the cards in a run of digits: an expiry date may stand behind the number."""
        groups = text[start:end].replace("-", " ").split(" ")
        whole = end - start - len(groups) + 1 <= _LONGEST
        done = start
        for at, group in enumerate(groups):
            # In a long row of digits, single ones are no groups of a card.
            if start >= done and (whole or len(group) >= _SMALLEST_GROUP):
                length, digits = self._card(groups[at : at + _LONGEST])
                if length:
                    done = start + length
                    yield Found(start, done, digits)
            start += len(group) + 1

    def _card(self, groups: list[str]) -> tuple[int, str]:
        """Return the length of the longest card that the first of ``groups`` are, and its digits."""
        counts = self._counts("".join(groups[:4]))
        best = (0, "")
        digits = ""
        if counts:
            for at, group in enumerate(groups):
                digits += group
                if len(digits) > _LONGEST:
                    break
                if len(digits) in counts and _is_valid(digits):
                    best = (len(digits) + at, digits)
        return best

    def _counts(self, digits: str) -> frozenset[int]:
        for length in (1, 2, 3, 4):
            if counts := self._lengths.get(digits[:length]):
                return counts
        return frozenset()


def _is_part(text: str, start: int, end: int) -> bool:
    """Whether the run is a part of a word or of a number with a decimal point."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if before == "B" and after == "^" and not is_word(text[start - 2 : start - 1]):  # track 1 of a magnetic stripe
        return False
    if (is_word(before) and before != "_") or (is_word(after) and after != "_"):
        return True
    return (before == "." and text[start - 2 : start - 1].isdigit()) or (
        after == "." and text[end + 1 : end + 2].isdigit()
    )


def _is_valid(digits: str) -> bool:
    """Whether the last digit is the one that Luhn's sum asks for."""
    reverse = digits[::-1].encode()
    return (sum(reverse[::2].translate(_VALUES)) + sum(reverse[1::2].translate(_DOUBLED))) % 10 == 0
