"""What stands in place of what was found. Pure functions of the text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final, Literal

from northbound.privacy.detector import Detector, Found
from northbound.privacy.keys import Keys
from northbound.privacy.options import RuleOptions, TimeStep

MASKED: Final = "***"
_NUMBER: Final = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w]|\.\d)")
_JSON_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_TIME: Final = re.compile(
    r"(?<!\d)(?P<year>\d{4})-(?P<month>0[1-9]|1[0-2])-(?P<day>[0-3]\d)"
    r"(?:(?P<t>[Tt ])(?P<hour>[0-2]\d):(?P<minute>[0-5]\d)(?::(?P<second>[0-6]\d)(?P<fraction>[.,]\d+)?)?)?"
)
_EPOCH: Final = re.compile(r"\d{9,14}(?:\.\d+)?")
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

    def text(self, found: str, canonical: str | None, detector: Detector | None, *, form: Form = "value") -> str:  # noqa: ARG002
        """Return ``found`` with every time and number in it made coarser."""
        pieces: list[str] = []
        done = 0
        for start, end in self.measures(found):
            pieces += (found[done:start], self._coarser(found[start:end]))
            done = end
        return "".join((*pieces, found[done:]))

    def measures(self, text: str) -> Iterator[tuple[int, int]]:
        """Give where in ``text`` the times and numbers are that it makes coarser."""
        if (self._time is not None and _EPOCH.fullmatch(text)) or (self._numbers and _JSON_NUMBER.fullmatch(text)):
            yield 0, len(text)
            return
        times = [match.span() for match in _TIME.finditer(text)] if self._time is not None else []
        if times or not self._numbers:
            yield from times
        else:
            yield from (match.span() for match in _NUMBER.finditer(text))

    def _coarser(self, written: str) -> str:
        if self._time is not None:
            if _EPOCH.fullmatch(written):
                return self._coarse_epoch(written)
            if (time := _TIME.fullmatch(written)) is not None:
                return self._coarse_time(time)
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

    def _coarse_time(self, match: re.Match[str]) -> str:
        """Return a written time at the beginning of its step, in its own form and zone."""
        at = _STEPS.index(self._time or "minute")
        month = match["month"] if at >= _STEPS.index("month") else "01"
        day = match["day"] if at >= _STEPS.index("day") else "01"
        text = f"{match['year']}-{month}-{day}"
        if match["t"] is None:
            return text
        hour = match["hour"] if at >= _STEPS.index("hour") else "00"
        minute = match["minute"] if at >= _STEPS.index("minute") else "00"
        return f"{text}{match['t']}{hour}:{minute}" + ("" if match["second"] is None else ":00")


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
