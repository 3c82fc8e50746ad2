"""What the rules make of one text: a string of a value, an object key, one level of a topic.

Rules act in their order. A piece of text that one has replaced is out of reach of those behind it; of a match that
reaches beyond such a piece, the rest is still acted on. A piece that ``allow`` names is left alone by later rules whose
match lies wholly within it. Matches of one rule that overlap are one. A hash of our own is never looked into.
"""

from __future__ import annotations

import json
import re
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec
import re2

from northbound.errors import EventRefused
from northbound.privacy.actions import Action, Form
from northbound.privacy.detector import Detector
from northbound.privacy.plain import HIDING, Disguised, is_common, plain, rounds
from northbound.privacy.rules import Rule

#: A detector that gives more matches than this and the characters of a text has lost its way.
_MOST_SPANS: Final = 1000
#: Longer numbers Python does not turn into an ``int``.
_MOST_DIGITS: Final = 4000
#: So much of a text shows whether it begins like a document in disguise.
_BEGINNING: Final = 100
_NON_ASCII: Final = rb"[\x80-\xff]"


class Dropped(Exception):
    """The whole event goes. ``acts`` says what the rules had done until then, ``rule`` is the last of them."""

    def __init__(self, rule: Rule, acts: Sequence[tuple[Rule, int]]) -> None:
        self.rule = rule
        self.acts = acts


class Withheld(EventRefused):
    """A rule could not be evaluated, so the event does not go on. The words name the rule and hold no value."""

    def __init__(self, rule: Rule, error: Exception) -> None:
        super().__init__(f"the privacy rule {rule.name!r} could not be evaluated: {type(error).__name__}")


class Match(NamedTuple):
    """What one rule found, as a slice of the original text. ``text`` is its plain form."""

    start: int
    end: int
    text: str
    canonical: str | None
    detector: Detector | None


class Replaced(NamedTuple):
    """A text after the rules. ``acts`` says which rule acted how often, ``whole`` which one took all of it."""

    text: str
    acts: Sequence[tuple[Rule, int]]
    whole: Rule | None = None


class Literals:
    """Tells by one search which detectors may find something in a text."""

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self._masks: list[int] = []
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.case_sensitive = False
        options.log_errors = False
        self._set = re2.Set.SearchSet(options)
        self.always = 0
        for place, detector in enumerate(detectors):
            if not detector.literals:
                self.always |= 1 << place
                continue
            for literal in detector.literals:
                self._add(re2.escape(literal.encode()), 1 << place)
            for pattern in detector.literal_patterns:
                try:
                    self._add(pattern.encode(), 1 << place)
                except re2.error:  # no pattern of RE2: asked about every text
                    self.always |= 1 << place
        self.every = (1 << len(detectors)) - 1
        self._hidden = 1 << len(detectors)
        self._foreign = self._hidden << 1
        for hiding in HIDING:
            self._add(hiding, self._hidden)
        self._add(_NON_ASCII, self._foreign)
        try:
            self._set.Compile()
        except re2.error:  # more literals than the search holds: slower, and as right
            self.always = self.every
            self._masks = [self._foreign]
            self._set = re2.Set.SearchSet(options)
            self._set.Add(_NON_ASCII)
            self._set.Compile()

    def _add(self, pattern: bytes, mask: int) -> None:
        self._set.Add(pattern)
        self._masks.append(mask)

    def of(self, text: bytes) -> int:
        """Return a bit for each detector that may find something in this UTF-8, or in what it hides; 0 for none."""
        hits = self._set.Match(text)
        mask = self.always
        if hits is None or mask == self.every:
            return mask
        for hit in hits:
            mask |= self._masks[hit]
        if mask >= self._hidden:
            if mask & self._hidden or not is_common(text.decode(errors="surrogatepass")):
                return self.every
            mask &= ~self._foreign
        return mask


class Texts:
    """Applies rules to single texts. ``own`` is the pattern of the hashes these rules write."""

    def __init__(self, rules: Sequence[Rule], own: re.Pattern[str] | None) -> None:
        self.detectors = tuple(dict.fromkeys(detector for rule in rules for detector in rule.detectors))
        self.literals = Literals(self.detectors)
        self._bits = {detector: 1 << place for place, detector in enumerate(self.detectors)}
        self._own = own
        self.form: Form = "value"  # what is being written

    def bits(self, rules: Sequence[Rule]) -> int:
        """Return a bit for each detector of ``rules``, as :class:`Literals` says them."""
        return sum({self._bits[detector] for rule in rules for detector in rule.detectors})

    def apply(self, text: str, key: str, rules: Sequence[Rule], *, number: bool = False) -> Replaced | None:
        """Return ``text`` after ``rules``, ``None`` where nothing was found. ``number``: it is a JSON number.

        Raises :class:`Dropped` and :class:`Withheld`.
        """
        mask = self.literals.of(text.encode(errors="surrogatepass"))
        if key:
            mask |= self.literals.of(key.encode(errors="surrogatepass"))
        pieces = _Pieces()
        acts: list[tuple[Rule, int]] = []
        for rule in rules:
            try:
                matches = self._of_rule(text, key, rule, mask, number=number)
                if not matches:
                    continue
                if rule.kind == "allow":
                    pieces.allow(matches)
                    continue
                left = pieces.left(matches)
                written = [(m.start, m.end, self._written(rule.action, m, text)) for m in left] if rule.replaces else []
            except Exception as error:  # noqa: BLE001 - a third party's detector may raise anything, and then nothing goes on
                raise Withheld(rule, error) from None
            if not left:
                continue
            if rule.replaces and all(text[start:end] == new for start, end, new in written):
                pieces.replace(written)  # as the rule wants it already: taken, and nothing done
                continue
            acts.append((rule, len(left)))
            if rule.kind == "drop":
                raise Dropped(rule, acts)
            if rule.scope != "text":
                return Replaced(text, acts, rule)
            pieces.replace(written)
        return Replaced(pieces.joined(text), acts) if acts else None

    def _of_rule(self, text: str, key: str, rule: Rule, mask: int, *, number: bool) -> list[Match]:
        if rule.whole:
            return [Match(at, at + len(piece), _shown(piece), None, None) for at, piece in self._foreign(text) if piece]
        detectors = [d for d in rule.detectors if mask & self._bits[d] and (d.numbers or not number)]
        return self._matches(text, key, detectors) if detectors else []

    def _written(self, action: Action, match: Match, text: str) -> str:
        if action.leaves(text, match.start, match.end):
            return text[match.start : match.end]
        return action.text(match.text, match.canonical, match.detector, form=self.form)

    def _matches(self, text: str, key: str, detectors: Sequence[Detector]) -> list[Match]:
        """Return what the detectors of one rule find, in order, overlapping ones as one."""
        found: list[Match] = []
        shown = plain(text)
        if shown is not None:
            for detector in detectors:
                for start, end, canonical in self._found(shown.text, key, detector):
                    found.append(Match(*shown.origin(start, end), shown.text[start:end], canonical, detector))
        for detector in detectors:
            for start, end, canonical in self._found(text, key, detector):
                found.append(Match(start, end, text[start:end], canonical, detector))
        return _merged(text, found)

    def _found(self, text: str, key: str, detector: Detector) -> Iterator[tuple[int, int, str | None]]:
        """Give what a detector finds in the pieces between hashes of our own; raises ``ValueError`` for nonsense."""
        for offset, piece in self._foreign(text):
            if not piece:
                continue
            for count, (start, end, canonical) in enumerate(detector.find(piece, key)):
                if not 0 <= start <= end <= len(piece) or count > _MOST_SPANS + len(piece):
                    raise ValueError("a detector found what cannot be there")
                if start < end:
                    yield offset + start, offset + end, canonical

    def _foreign(self, text: str) -> Iterator[tuple[int, str]]:
        """Give the pieces between hashes of our own."""
        done = 0
        if self._own is not None:
            for own in self._own.finditer(text):
                yield done, text[done : own.start()]
                done = own.end()
        yield done, text[done:]


def _shown(text: str) -> str:
    shown = plain(text)
    return text if shown is None else shown.text


def _merged(text: str, matches: list[Match]) -> list[Match]:
    """Return ``matches`` in order, those that overlap as one: one that covers all of it says what it is."""
    matches.sort(key=lambda match: (match.start, -match.end))
    merged: list[tuple[int, int, Match | None]] = []
    for match in matches:
        if not merged or match.start >= merged[-1][1]:
            merged.append((match.start, match.end, match))
        elif match.end > merged[-1][1]:
            merged[-1] = (merged[-1][0], match.end, None)
    return [Match(start, end, text[start:end], None, None) if one is None else one for start, end, one in merged]


class _Pieces:
    """What has become of the pieces of one text so far."""

    def __init__(self) -> None:
        self._replaced: list[tuple[int, int, str]] = []
        self._allowed: list[tuple[int, int]] = []

    def allow(self, matches: list[Match]) -> None:
        joined: list[tuple[int, int]] = []
        for start, end in sorted([*self._allowed, *((match.start, match.end) for match in matches)]):
            if joined and start < joined[-1][1]:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        self._allowed = joined

    def left(self, matches: list[Match]) -> list[Match]:
        """Return what of ``matches`` is neither excepted nor replaced already."""
        if self._allowed:
            matches = [match for match in matches if not self._is_allowed(match)]
        if not self._replaced:
            return matches
        left: list[Match] = []
        at = 0
        for match in matches:
            start = match.start
            while at < len(self._replaced) and self._replaced[at][1] <= start:
                at += 1
            here = at
            while here < len(self._replaced) and self._replaced[here][0] < match.end:
                if self._replaced[here][0] > start:
                    left.append(_rest(match, start, self._replaced[here][0]))
                start = max(start, self._replaced[here][1])
                here += 1
            if start < match.end:
                left.append(match if start == match.start else _rest(match, start, match.end))
        return left

    def _is_allowed(self, match: Match) -> bool:
        at = bisect_right(self._allowed, (match.start, sys.maxsize)) - 1
        return at >= 0 and match.end <= self._allowed[at][1]

    def replace(self, pieces: list[tuple[int, int, str]]) -> None:
        self._replaced = sorted([*self._replaced, *pieces]) if self._replaced else pieces

    def joined(self, text: str) -> str:
        parts: list[str] = []
        done = 0
        for start, end, written in self._replaced:
            parts += (text[done:start], written)
            done = end
        parts.append(text[done:])
        return "".join(parts)


def _rest(match: Match, start: int, end: int) -> Match:
    if (start, end) == (match.start, match.end):
        return match
    # Where the match was hidden, the plain form cannot be cut at the same places: all of it says what the rest is.
    whole = match.end - match.start == len(match.text)
    text = match.text[start - match.start : end - match.start] if whole else match.text
    return Match(start, end, text, None, None)


class Repeated(dict[str, Any]):
    """An object that had a member twice; all are kept, so that none can hide behind another.

    ``names`` has what a member was called before it was told apart.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[str, str] = {}


def nested_json(text: str) -> Any:
    """Return the document that ``text`` is, numbers as they were written; raises ``ValueError`` where it is none."""
    try:
        msgspec.json.decode(text)  # strict, where the reader below is not
        return json.loads(text, parse_float=Decimal, parse_int=_whole, object_pairs_hook=_members)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise ValueError("not JSON") from error


def hidden_json(text: str) -> Any:
    """Return the object or array that ``text`` is when it is decoded; raises ``ValueError`` where it is none."""
    if not _may_open(text):
        raise ValueError("not JSON")
    for form in rounds(text):
        if form.lstrip()[:1] in ("{", "["):
            try:
                return nested_json(form)
            except ValueError:
                continue
    raise ValueError("not JSON")


def _may_open(text: str) -> bool:
    """Whether ``text`` may begin with a brace or bracket that is encoded, or with what nobody sees before one."""
    first = text.lstrip()[:1]
    if first.isalnum() or (first.isascii() and first.isprintable() and first not in "{[%&\\"):
        return False  # as nearly every text is
    beginning = text[:_BEGINNING]
    try:
        shown = plain(beginning)
    except Disguised:
        return True
    # The last escape may have been cut.
    return (beginning if shown is None else shown.text).lstrip()[:1] in ("", "{", "[", "%", "&", "\\")


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) < _MOST_DIGITS else Decimal(digits)


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    found = Repeated()
    alike: dict[str, int] = {}
    for key, value in pairs:
        name = apart(key, found, alike)
        found[name] = value
        found.names[name] = key
    return found


def apart(key: str, taken: Mapping[str, Any], alike: dict[str, int]) -> str:
    """Return ``key`` or, where that is taken because two were made alike, one with a number: no member is lost."""
    if key not in taken:
        return key
    number = alike.get(key, 2)
    while f"{key}~{number}" in taken:
        number += 1
    alike[key] = number + 1
    return f"{key}~{number}"
