"""What stands in place of what was found. Pure functions of the text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final, Literal

from northbound.privacy.detector import Detector, Found
from northbound.privacy.keys import Keys
from northbound.privacy.options import RuleOptions, TimeStep

MASKED: Final = "***"
#: A unit may stand right behind; what has digits on both sides of a letter is a name.
_NUMBER: Final = re.compile(r"(?<![\w.])-?\d++(?:\.\d++)?(?!\.?\d|_)(?![^\W\d_]++[\d_])")
#: Within what a detector has found, any is one …
_ANY_NUMBER: Final = re.compile(r"(?:(?<![\w.])-)?\d++(?:\.\d++)?")
#: … where it is made of decimal numbers: degrees with minutes, addresses and dates are not the sum of theirs.
_OF_NUMBERS: Final = re.compile(r"(?:[^\W\d_]|[\s°º,;/~!()+-]|\d++\.\d++(?!\.)|(?!0\d)\d++(?![.+-]))*+")
_JSON_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_TIME: Final = re.compile(
    r"(?<!\d)(?P<year>\d{4})-(?P<month>0[1-9]|1[0-2])-(?P<day>[0-3]\d)"
    r"(?:(?P<t>[Tt ])(?P<hour>[0-2]\d):(?P<minute>[0-5]\d)(?::(?P<second>[0-6]\d)(?:[.,]\d+)?)?"
    r"(?P<zone>[ ]?[+-]\d{2}:?\d{2})?)?"
)
_BASIC_TIME: Final = re.compile(
    r"(?<!\d)(?P<year>\d{4})(?P<month>0[1-9]|1[0-2])(?P<day>[0-3]\d)"
    r"(?P<t>[Tt])(?P<hour>[0-2]\d)(?P<minute>[0-5]\d)(?:(?P<second>[0-6]\d)(?:[.,]\d+)?)?(?P<zone>[+-]\d{4})?(?!\d)"
)
#: What of a time in another form can be told: the clock.
_CLOCK: Final = re.compile(
    r"(?:(?<![\w:.+])|(?<=\d[Tt]))(?P<hour>[0-2]?\d):(?P<minute>[0-5]\d)(?::(?P<second>[0-6]\d)(?:[.,]\d+)?)?(?![\d:])"
)
_EPOCH: Final = re.compile(r"(?<![\w.+-])\d{9,14}(?:\.\d++)?(?!\w|\.\d)")
_FORMS: Final = (_TIME, _BASIC_TIME, _CLOCK, _EPOCH)
_TIMES: Final = re.compile("|".join(re.sub(r"\?P<\w+>", "?:", form.pattern) for form in _FORMS))
#: Numbers of seconds since 1970 are below this (the year 5138), numbers of milliseconds above it (1973).
_SECONDS_BELOW: Final = 10**11
_MOST_DIGITS: Final = 30
_STEPS: Final[tuple[TimeStep, ...]] = ("year", "month", "day", "hour", "minute")


#: A value; a level of a topic, which has no hash of the previous key beside the new one, or a topic would change again
#: at the end of the overlap; or that level as it was under the previous key.
Form = Literal["value", "topic", "previous"]


class Action:
    """One rule's action."""

    #: Whether a text it has replaced is replaced by text; ``False`` for those that drop or except.
    replaces = True

    def text(self, found: str, canonical: str | None, detector: Detector | None, *, form: Form = "value") -> str:
        """Return what stands in place of ``found``."""
        raise NotImplementedError

    def leaves(self, text: str, start: int, end: int) -> bool:  # noqa: ARG002 - most leave nothing
        """Whether the slice of ``text`` is what this action has left of something."""
        return False

    def begin(self, now: int) -> bool:  # noqa: ARG002 - most know no time
        """Take in what time it is (ms since 1970); returns whether what it writes has changed by that."""
        return False


class Hash(Action):
    """A keyed hash of the canonical form."""

    def __init__(self, options: RuleOptions, keys: Keys) -> None:
        self.keys = keys
        self._length = options.length
        self._prefix = options.prefix
        self._placeos = options.format == "placeos"
        self._overlap = False

    def text(self, found: str, canonical: str | None, detector: Detector | None, *, form: Form = "value") -> str:  # noqa: ARG002
        """Return prefix, key id and hash, in an overlap with the previous hash behind it."""
        keys = self.keys
        if self._placeos:
            key = keys.previous if form == "previous" and keys.previous else keys.current
            return key.digest(found)
        plain = found if canonical is None else canonical
        if form == "previous" and keys.previous:
            return self._prefix + keys.previous.hash(plain, self._length)
        written = self._prefix + keys.current.hash(plain, self._length)
        if form == "value" and self._overlap and keys.previous:
            written = f"{written}~{keys.previous.hash(plain, self._length)}"
        return written

    def begin(self, now: int) -> bool:
        """Take in whether the previous hash is still written."""
        before, self._overlap = self._overlap, self.keys.overlapping(now) is not None
        return before != self._overlap

    @property
    def overlap(self) -> bool:
        """Whether it is within an overlap."""
        return self._overlap

    @property
    def forms(self) -> list[tuple[str, str, int]]:
        """The (prefix, key id, length) of what it writes; none in PlaceOS's form, which has no mark of its own."""
        return [] if self._placeos else [(self._prefix, key, self._length) for key in self.keys.ids]


class Mask(Action):
    """Only what may be shown."""

    def __init__(self, options: RuleOptions) -> None:
        self._first, self._last = options.keep_first, options.keep_last

    def text(self, found: str, canonical: str | None, detector: Detector | None, *, form: Form = "value") -> str:  # noqa: ARG002
        """Return what the rule keeps, else what the detector shows of such a text, else nothing of it."""
        if self._first is None and self._last is None:
            return detector.mask(found) if detector is not None else MASKED
        first, last = self._first or 0, self._last or 0
        if MASKED in found and len(found) <= first + last + len(MASKED):
            return found  # it is masked already
        if first + last >= len(found):
            first = last = 0
        return f"{found[:first]}{MASKED}{found[len(found) - last :]}"

    def leaves(self, text: str, start: int, end: int) -> bool:
        """Whether the slice lies within what the rule keeps beside a mask, with a mask there and no space between."""
        width = len(MASKED)
        behind = text.find(MASKED, end, start + (self._first or 0) + width)
        before = text.rfind(MASKED, max(0, end - (self._last or 0) - width), start)
        return (behind >= 0 and not text[behind - 1].isspace()) or (before >= 0 and not text[before + width].isspace())


class Redact(Action):
    """A placeholder."""

    def __init__(self, options: RuleOptions) -> None:
        self.placeholder = options.placeholder

    def text(self, found: str, canonical: str | None, detector: Detector | None, *, form: Form = "value") -> str:  # noqa: ARG002
        """Return the placeholder."""
        return self.placeholder


class Keep(Action):
    """Nothing is replaced: the text is excepted, or the whole event is dropped."""

    replaces = False


class Generalise(Action):
    """A coarser number or time."""

    def __init__(self, options: RuleOptions) -> None:
        self._round = None if options.round is None else Decimal(str(options.round))
        self._buckets = None if options.buckets is None else [Decimal(str(edge)) for edge in options.buckets]
        self._decimals = options.decimals
        self._time = options.time
        self._numbers = self._round is not None or self._buckets is not None or self._decimals is not None
        self._detects = bool(options.detect)

    def text(self, found: str, canonical: str | None, detector: Detector | None, *, form: Form = "value") -> str:  # noqa: ARG002
        """Return ``found`` with every time and number in it made coarser; a mask where something else was detected."""
        measures = list(self.measures(found))
        if self._detects and not self._are_all(found, measures):
            return MASKED
        pieces: list[str] = []
        done = 0
        for start, end in measures:
            pieces += (found[done:start], self._coarser(found[start:end]))
            done = end
        return "".join((*pieces, found[done:]))

    def _are_all(self, found: str, measures: Sequence[tuple[int, int]]) -> bool:
        """Whether ``measures`` are what ``found`` says."""
        if not measures or measures == [(0, len(found))]:
            return bool(measures)
        if self._time is not None:
            times = [found[start:end] for start, end in measures if _TIMES.fullmatch(found, start, end)]
            if times:
                return self._time in ("minute", "hour", "day") or not any(map(_CLOCK.fullmatch, times))
        return _OF_NUMBERS.fullmatch(found) is not None

    def measures(self, text: str) -> Iterator[tuple[int, int]]:
        """Give where in ``text`` the times and numbers are that it makes coarser."""
        if (self._time is not None and _EPOCH.fullmatch(text)) or (self._numbers and _JSON_NUMBER.fullmatch(text)):
            yield 0, len(text)
            return
        times = [match.span() for match in _TIMES.finditer(text)] if self._time is not None else []
        if times or not self._numbers:
            yield from times
        else:
            pattern = _ANY_NUMBER if self._detects else _NUMBER
            yield from (match.span() for match in pattern.finditer(text))

    def _coarser(self, written: str) -> str:
        if self._time is not None:
            if _EPOCH.fullmatch(written):
                return self._coarse_epoch(written)
            if time := _TIME.fullmatch(written):
                return self._coarse_time(time, "-", ":")
            if time := _BASIC_TIME.fullmatch(written):
                return self._coarse_time(time, "", "")
            if time := _CLOCK.fullmatch(written):
                return self._coarse_clock(time, ":")
        return self._coarse(written)

    def _coarse(self, written: str) -> str:
        value = Decimal(written)
        if len(written) > _MOST_DIGITS or not -_MOST_DIGITS <= value.adjusted() <= _MOST_DIGITS:
            raise ValueError("a number of so many digits cannot be made coarser")
        if self._round is not None:
            value = (value / self._round).to_integral_value(ROUND_HALF_EVEN) * self._round
        if self._buckets is not None:
            value = max((edge for edge in self._buckets if edge <= value), default=self._buckets[0])
        if self._decimals is not None:
            value = round(value, self._decimals)
        text = format(value, "f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text in ("-0", "") else text

    def _coarse_epoch(self, written: str) -> str:
        number = int(written.partition(".")[0])
        unit = 1 if number < _SECONDS_BELOW else 1000
        moment = datetime.fromtimestamp(number / unit, UTC)
        return str(int(self._floor(moment).timestamp()) * unit)

    def coarse_ms(self, time: int) -> int:
        """Return a time (ms since 1970) at the beginning of its step."""
        return int(self._floor(datetime.fromtimestamp(time / 1000, UTC)).timestamp() * 1000)

    def _floor(self, moment: datetime) -> datetime:
        zero: dict[str, Any] = {"minute": 0, "second": 0, "microsecond": 0}
        at = _STEPS.index(self._time or "minute")
        if at < _STEPS.index("hour"):
            zero["hour"] = 0
        if at < _STEPS.index("day"):
            zero["day"] = 1
        if at < _STEPS.index("month"):
            zero["month"] = 1
        if at == _STEPS.index("minute"):
            del zero["minute"]
        return moment.replace(**zero)

    def _coarse_time(self, match: re.Match[str], dash: str, colon: str) -> str:
        """Return a written time at the beginning of its step, in its own form and zone."""
        at = _STEPS.index(self._time or "minute")
        month = match["month"] if at >= _STEPS.index("month") else "01"
        day = match["day"] if at >= _STEPS.index("day") else "01"
        text = f"{match['year']}{dash}{month}{dash}{day}"
        if match["t"] is None:
            return text
        return f"{text}{match['t']}{self._coarse_clock(match, colon)}{match['zone'] or ''}"

    def _coarse_clock(self, match: re.Match[str], colon: str) -> str:
        at = _STEPS.index(self._time or "minute")
        hour = match["hour"] if at >= _STEPS.index("hour") else "00"
        minute = match["minute"] if at >= _STEPS.index("minute") else "00"
        return f"{hour}{colon}{minute}" + ("" if match["second"] is None else f"{colon}00")


class Measures(Detector):
    """Finds what a rule makes coarser where it names nothing to detect."""

    numbers = True

    def __init__(self, action: Generalise) -> None:
        super().__init__(None, name="measures")
        self._action = action

    def find(self, text: str, key: str) -> Iterator[Found]:  # noqa: ARG002 - the contract's signature
        """Give the times and numbers in ``text``."""
        return (Found(start, end) for start, end in self._action.measures(text))


def action_of(options: RuleOptions, keys: Keys | None) -> Action:
    """Return the action of a rule; ``keys`` are those of its hashes."""
    if options.action == "hash":
        assert keys is not None  # noqa: S101 - whoever compiles the rules has seen to it
        return Hash(options, keys)
    if options.action == "mask":
        return Mask(options)
    if options.action == "redact":
        return Redact(options)
    if options.action == "generalise":
        return Generalise(options)
    return Keep()
