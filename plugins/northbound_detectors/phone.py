"""Telephone numbers, as libphonenumber knows them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, ClassVar, Final

import pydantic
import re2
from pydantic import ConfigDict, Field

from northbound import Detector, Found
from northbound_detectors.keys import words
from northbound_detectors.matching import is_word

_DIGITS: Final = r"(?:(?:[ ().-]{0,3}|/)[0-9])"
_INTERNATIONAL: Final = rf"(?:\+|00)[ (]{{0,2}}[1-9]{_DIGITS}{{6,}}"
_NATIONAL: Final = rf"[(]?[0-9]{_DIGITS}{{5,}}"
_SEPARATORS: Final = " ().-/"
#: Without separators, and behind no trunk prefix, digits are a number only under a key that says so.
_KEYS: Final = frozenset((
    "phone", "phones", "telephone", "tel", "mobile", "cell", "cellphone", "fax", "msisdn", "sms", "whatsapp",
    "phonenumber", "mobilephone", "landline", "caller", "callee", "callerid", "dialled", "dialed",
))  # fmt: skip
#: What each of them holds.
_KEY_PARTS: Final = ("phone", "tel", "mobile", "cell", "fax", "msisdn", "sms", "whatsapp", "landline", "call", "dial")
_FEWEST, _MOST = 7, 15
_SHORTEST: Final = 6
#: At most so many groups of digits are tried, the longest number first.
_MOST_GROUPS: Final = 12
_SHOWN: Final = 3


def _region(value: str) -> str:
    from phonenumbers import SUPPORTED_REGIONS  # noqa: PLC0415 - a heavy import, only where numbers are looked for

    region = value.upper()
    if region not in SUPPORTED_REGIONS:
        raise ValueError("not a region: write two letters such as 'GB' or 'DE' (ISO 3166)")
    return region


class PhoneOptions(pydantic.BaseModel):
    """Telephone numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    region: str | None = Field(
        None, description="Also numbers as one dials them in this country, such as 'GB' (ISO 3166). Default: only +44…"
    )

    @pydantic.field_validator("region")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return None if value is None else _region(value)


class Phone(Detector):
    """Telephone numbers."""

    Config: ClassVar[type[pydantic.BaseModel]] = PhoneOptions
    literals: tuple[str, ...] = ("+", "00", *_KEY_PARTS)
    numbers = True

    def __init__(self, config: PhoneOptions, *, name: str) -> None:
        super().__init__(config, name=name)
        self._region = config.region
        if config.region:
            self.literals = ()
        self._international, self._national = re2.compile(_INTERNATIONAL), re2.compile(_NATIONAL)
        self._valid = _validator(config.region)
        self._trunk = _trunk(config.region)

    def find(self, text: str, key: str) -> Iterable[Found]:
        """Give the numbers that are valid; canonical is E.164."""
        if len(text) < _SHORTEST:
            return ()
        named = not _KEYS.isdisjoint(words(key))
        found: list[Found] = []
        if "+" in text or "00" in text:
            for match in self._international.finditer(text):
                found += self._internationals(text, *match.span())
        if self._region or named:
            taken = [(item.start, item.end) for item in found]
            found += self._nationals(text, taken, named=named)
            found.sort()
        return found

    def mask(self, text: str) -> str:
        """Return the last three digits: ``***123``."""
        digits = "".join(character for character in text if character.isdigit())
        return f"***{digits[-_SHOWN:]}"

    def _internationals(self, text: str, start: int, end: int) -> Iterator[Found]:
        """Give the numbers in a run of digits: of those that begin with 00, one may follow another."""
        while start >= 0:
            first = list(self._first(text, start, end, None))
            yield from first
            start = text.find("00", first[0].end if first else start + 2, end)

    def _nationals(self, text: str, taken: list[tuple[int, int]], *, named: bool) -> Iterator[Found]:
        at = 0
        for match in self._national.finditer(text):
            start, end = match.span()
            while at < len(taken) and taken[at][1] <= start:
                at += 1
            if at < len(taken) and taken[at][0] < end:
                continue
            written = match[0]
            digits = _digits(written)
            formatted = len(digits) < len(written) or (self._trunk and written.startswith(self._trunk))
            if not named and (not formatted or _is_date(written)):
                continue
            while start < end:
                found = list(self._first(text, start, end, self._region)) if self._region else []
                if not found and named:  # 442079460018 under "phone"
                    found = list(self._first(text, start, end, "+"))
                if not found:
                    break
                yield from found
                start = found[0].end
                while start < end and text[start] in _SEPARATORS:
                    start += 1

    def _first(self, text: str, start: int, end: int, how: str | None) -> Iterator[Found]:
        """Give the longest number that the first groups of digits from ``start`` to ``end`` are."""
        before = text[start - 1 : start]
        if is_word(before) or (before in {".", "+"} and how != "+"):
            return
        after = text[end : end + 1]
        if is_word(after) and not text[end : end + 3].lower().startswith(("x", "ext")):
            return
        for last in _ends(text, start, end):
            written = text[start:last]
            digits = _digits(written)
            if how is None:
                digits = f"+{digits[2:]}" if digits.startswith("00") else f"+{digits}"
            elif how == "+":
                digits = f"+{digits}"
            canonical = self._valid(_without_trunk(written, digits))
            if canonical:
                yield Found(start, last, canonical)
                return


def _digits(written: str) -> str:
    return "".join(character for character in written if character.isdigit())


def _without_trunk(written: str, digits: str) -> str:
    """Return ``digits`` without the zero of ``+44 (0)20``, which is dialled only within the country."""
    at = written.find("(0)")
    if at > 0 and digits.startswith("+"):
        behind = len(_digits(written[at:]))
        return digits[: len(digits) - behind] + digits[len(digits) - behind + 1 :]
    return digits


def _is_date(written: str) -> bool:
    groups = [part for part in written.replace("/", "-").replace(".", "-").replace(" ", "-").split("-") if part]
    lengths = tuple(map(len, groups[:3]))
    return lengths in {(4, 2, 2), (2, 2, 4)}


def _ends(text: str, start: int, end: int) -> list[int]:
    """Return where a number from ``start`` may end, the farthest first: behind a group of digits, 7 to 15 of them."""
    ends: list[int] = []
    count = 0
    for at in range(start, end):
        if not text[at].isdigit():
            continue
        count += 1
        if count > _MOST + 2:  # 00 and what is behind it
            return ends[-_MOST_GROUPS:][::-1]
        if count >= _FEWEST and (at + 1 == end or text[at + 1] in _SEPARATORS):
            ends.append(at + 1)
    return ends[-_MOST_GROUPS:][::-1]


def _trunk(region: str | None) -> str:
    """Return what one dials before an area code within ``region``."""
    if region is None:
        return ""
    from phonenumbers import PhoneMetadata  # noqa: PLC0415

    metadata = PhoneMetadata.metadata_for_region(region)
    prefix = metadata.national_prefix if metadata else None
    return prefix if prefix == "0" else ""


def _validator(region: str | None) -> Any:
    """Return what says the E.164 form of digits, ``""`` where they are no valid number."""
    import phonenumbers  # noqa: PLC0415

    codes = phonenumbers.COUNTRY_CODE_TO_REGION_CODE

    @lru_cache(maxsize=1024)
    def valid(digits: str) -> str:
        if digits.startswith("+"):
            if len(digits) > _MOST + 1 or not any(int(digits[1:end] or 0) in codes for end in (2, 3, 4)):
                return ""
        elif len(digits) > _MOST:
            return ""
        try:
            number = phonenumbers.parse(digits, None if digits.startswith("+") else region)
        except phonenumbers.NumberParseException:
            return ""
        if not phonenumbers.is_valid_number(number):
            return ""
        return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))

    return valid
