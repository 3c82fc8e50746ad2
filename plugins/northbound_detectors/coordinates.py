"""Geographical positions: pairs of numbers, degrees and minutes, ISO 6709, map links, and numbers under ``lat``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from string import ascii_letters
from typing import Any, Final

import re2

from northbound import Detector, Found
from northbound_detectors.keys import last_word
from northbound_detectors.matching import caseless, in_order, is_word

_KEYS: Final = frozenset(
    ("lat", "latitude", "lng", "lon", "long", "longitude", "coordinates", "latlng", "latlon", "lonlat")
)
_NAMES: Final = ("lat", "latitude", "lng", "lon", "longitude", "mlat", "mlon")
#: Two decimals behind one of these, or under a key that ends so, are something else.
_OTHER_PAIRS: Final = frozenset((
    "ratio", "ratios", "aspect", "scale", "gain", "factor", "factors", "price", "prices", "rate", "rates", "cost",
    "costs", "range", "weights", "eur", "usd", "gbp", "chf", "aud", "nzd", "cad", "jpy", "cny", "inr", "sgd", "hkd",
    "sek", "nok", "dkk", "pln", "czk", "zar", "aed",
))  # fmt: skip
_CURRENCIES: Final = frozenset("$\xa2\xa3\xa5\u20ac")
_LOOK_BACK: Final = 16
_UNITS: Final = frozenset(("deg", "degrees", "dd", "decimal", "value"))
_NUMBER: Final = r"[+-]?[0-9]{1,3}(?:\.[0-9]+)?"
_DECIMAL: Final = r"[+-]?[0-9]+\.[0-9]+"
#: Rows of decimals are taken whole: more than three are no position.
_ROW: Final = rf"{_DECIMAL}(?:\s*[,;]\s*{_DECIMAL})+"
_WKT: Final = rf"POINT(?: ?Z)? ?\( ?({_DECIMAL} +{_DECIMAL})"
_LINK_MARKS: Final = ("=", "/@", "!3d", "lat", "lon", "lng", "Lat", "Lon", "Lng", "LAT", "LON", "LNG")
_LINK: Final = (
    rf"geo:({_NUMBER},{_NUMBER}(?:,{_NUMBER})?)"
    rf"|/@({_DECIMAL},{_DECIMAL})(?:,[0-9.]+[zam])?"
    rf"|[?&](?:q|ll|sll|query|center|daddr|saddr|origin|destination|cp|loc|at|viewpoint)=(?:loc:)?({_DECIMAL}[,~]{_DECIMAL})"
    rf"|[#&?]map=[0-9.]+/({_DECIMAL}/{_DECIMAL})"
    rf"|\b(?:{caseless(_NAMES)})[\"']?\s?[=:]\s?[\"']?({_DECIMAL})"
    rf"|\b(?:{caseless(_NAMES)})\s({_DECIMAL}[0-9]{{2}})"
    rf"|!3d({_DECIMAL}!4d{_DECIMAL})"
)
#: Primes, quotation marks and what is on a keyboard.
_MINUTE: Final = r"['\x{2032}\x{2019}]"
_SECOND: Final = r"[\"\x{2033}\x{201d}]"
_DEGREES: Final = (
    r"[0-9]{1,3}(?:\.[0-9]+)?\s?(?:°|º|deg)\s?"
    rf"(?:[0-9]{{1,2}}(?:\.[0-9]+)?\s?{_MINUTE}\s?(?:[0-9]{{1,2}}(?:\.[0-9]+)?\s?(?:{_MINUTE}{{2}}|{_SECOND})\s?)?)?"
)
_DMS: Final = rf"(?:{_DEGREES}[NSns][,;/]?\s*{_DEGREES}[EWOewo])|(?:[NSns]\s?{_DEGREES}[,;/]?\s*[EWOewo]\s?{_DEGREES})"
_HEMISPHERES: Final = r"[0-9]{1,2}\.[0-9]{3,}\s?[NS][,;/]?\s*[0-9]{1,3}\.[0-9]{3,}\s?[EWO]"
_HEMISPHERES_FIRST: Final = r"[NS]\s?[0-9]{1,2}\.[0-9]{3,}[,;/]?\s*[EWO]\s?[0-9]{1,3}\.[0-9]{3,}"
_ISO: Final = (
    r"[+-][0-9]{2}(?:[0-9]{2}){0,2}(?:\.[0-9]+)?[+-][0-9]{3}(?:[0-9]{2}){0,2}(?:\.[0-9]+)?"
    r"(?:[+-][0-9]+(?:\.[0-9]+)?)?(?:CRS[0-9A-Z_]+)?/"
)
_ISO_DECIMAL: Final = r"[+-][0-9]{2}\.[0-9]{3,}[+-][0-9]{3}\.[0-9]{3,}"
_WRITTEN: Final = f"{_ISO}|{_ISO_DECIMAL}|{_DMS}|{_HEMISPHERES}|{_HEMISPHERES_FIRST}"
_VALUE: Final = rf"\s*((?:[NSEWO]\s?)?(?:{_DECIMAL}|[+-]?[0-9]{{1,3}})(?:\s?[NSEWO])?)\s*"
_ANGLE: Final = rf"\s*((?:[NSEWOnsewo]\s?)?{_DEGREES}[NSEWOnsewo]?)\s*"
_LONGEST_VALUE: Final = 64
_PLACES: Final = 3
_MOST_IN_A_ROW: Final = 3


class Coordinates(Detector):
    """Geographical positions."""

    literals = (".", "°", "º", "deg", "geo:", "lat", "lon", "lng", "coord", "/", "?", "&", "!3d")
    numbers = True

    def __init__(self, config: object, *, name: str) -> None:
        super().__init__(config, name=name)
        self._row, self._link, self._written, self._wkt = map(re2.compile, (_ROW, _LINK, _WRITTEN, _WKT))
        self._value, self._angle = re2.compile(_VALUE), re2.compile(_ANGLE)

    def find(self, text: str, key: str) -> Iterable[Found]:
        """Give the positions in ``text``: both numbers as one. Under ``lat`` and the like the number alone."""
        if key and len(text) <= _LONGEST_VALUE and last_word(key, beside=_UNITS) in _KEYS:
            found = list(self._alone(text))
            if found:
                return found
        found = []
        points = text.count(".")
        if points > 1 and ("," in text or ";" in text):
            found += self._rows(text, key)
        if "geo:" in text or (points and any(mark in text for mark in _LINK_MARKS)):
            found += (Found(*match.span(match.lastindex)) for match in self._link.finditer(text))
        if "POINT" in text:
            found += (Found(*match.span(1)) for match in self._wkt.finditer(text))
        if points > 1 or "°" in text or "º" in text or "deg" in text or ("/" in text and "+" in text):
            found += _checked(text, self._written.finditer(text))
        return in_order([_named(text, item) for item in found])

    def _alone(self, text: str) -> Iterator[Found]:
        match = self._value.fullmatch(text) or self._angle.fullmatch(text)
        if match:
            start, end = match.span(1)
            digits = text[start:end].strip("NSEWO+- ")
            if not digits.replace(".", "").isdigit() or float(digits) <= 180:
                yield _named(text, Found(start, end))

    def _rows(self, text: str, key: str) -> Iterator[Found]:
        other = last_word(key, beside=_UNITS) in _OTHER_PAIRS
        for match in self._row.finditer(text):
            start, end = match.span()
            if other or _is_part(text, start, end) or _is_other_pair(text, start):
                continue
            for position in _positions(match[0]):
                written = position.replace(";", ",").split(",", 2)
                if _is_position(written[0].strip(), written[1].strip()):
                    first = start + len(position) - len(position.lstrip())
                    yield Found(first, start + len(f"{written[0]},{written[1].rstrip()}"))
                start += len(position) + 1


def _positions(row: str) -> list[str]:
    """Return the parts of a row of numbers that may be positions: itself, or what a separator keeps apart."""
    for between, within in ((";", ","), (",", ";")):
        parts = row.split(between)
        if len(parts) > 1 and all(1 <= part.count(within) < _MOST_IN_A_ROW for part in parts):
            return parts
    return [row] if row.count(",") + row.count(";") < _MOST_IN_A_ROW else []


def _is_other_pair(text: str, start: int) -> bool:
    """Whether the word before says that these are no position, or a sign of money does."""
    before = text[max(0, start - _LOOK_BACK) : start]
    if before[-1:] in _CURRENCIES:
        return True
    before = before.rstrip(" \t:=([")
    word = before[len(before.rstrip(ascii_letters)) :]
    return word.lower() in _OTHER_PAIRS


def _is_part(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 1]
    return is_word(before) or before == "." or is_word(after) or (after == "." and text[end + 1 : end + 2].isdigit())


def _is_position(first: str, second: str) -> bool:
    """Whether these are a latitude and a longitude, in whatever order; two fractions of 1 are something else."""
    if min(len(number.partition(".")[2]) for number in (first, second)) < _PLACES or len(first) + len(second) > 64:
        return False
    one, other = abs(float(first)), abs(float(second))
    return max(one, other) <= 180 and min(one, other) <= 90 and max(one, other) > 1


def _checked(text: str, matches: Iterable[Any]) -> Iterator[Found]:
    for match in matches:
        start, end = match.start(), match.end()
        written = match[0]
        if written[0] == "-" and "+" not in written and "." not in written:
            continue  # -12-345/ is a part of some id
        if not is_word(text[start - 1 : start]) and (written[-1] == "/" or not is_word(text[end : end + 1])):
            yield Found(start, end)


def _named(text: str, found: Found) -> Found:
    """Return ``found`` with its numbers as the canonical form, where it is numbers."""
    written = text[found.start : found.end]
    for separator in (";", "~", "/", "!4d"):
        written = written.replace(separator, ",")
    try:
        return Found(found.start, found.end, ",".join(f"{float(part):.6f}" for part in written.split(",")))
    except ValueError:
        return found
