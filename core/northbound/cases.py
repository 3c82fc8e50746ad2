"""Cases for a privacy policy: an event, and what has to become of it. Read from TOML, judged without touching anything.

[[cases]]
name = "organiser is hashed"
event = { state = "bookings", value = { organiser = "bob@example.com" } }
expect = { value = { organiser = "{{hash:bob@example.com}}" }, rules = ["default"] }
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, Final

import msgspec
from msgspec import Struct

from northbound.errors import ConfigurationError, EventRefused, Problem
from northbound.events import Event, EventDecoder
from northbound.expectations import Expected
from northbound.loading import Configuration
from northbound.message import Message, Outgoing
from northbound.preview import Preview, Previewed
from northbound.privacy.plain import plain
from northbound.topics import MetadataAddress, TopicScheme

_CASE_KEYS: Final = ("name", "event", "connector", "expect")
_ADDRESS: Final = ("system", "driver", "module", "index", "state")
_FLAGS: Final = ("dropped", "withheld", "unchanged")
_LISTS: Final = ("rules", "absent")
_OUTCOMES: Final = ("value", "metadata", "topic", "time", *_FLAGS, *_LISTS)
_SAMPLES: Final[Mapping[str, Any]] = {
    "system": "sys-sample",
    "driver": "dep-sample",
    "module": "Sample",
    "index": 1,
    "state": "sample",
}


class Case(Struct, frozen=True):
    """One case. ``expect`` holds what its table says, checked."""

    name: str
    event: Event
    expect: dict[str, Any]
    connector: str | None = None


class Difference(Struct, frozen=True):
    """One expectation that is not met."""

    what: str
    expected: Any
    got: Any


class Verdict(Struct, frozen=True):
    """What one case came to."""

    name: str
    differences: tuple[Difference, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all of it is as expected."""
        return not self.differences


class CaseFile(Struct, frozen=True):
    """What a file of cases says. ``people`` are whom detectors know that otherwise learn from a source."""

    cases: tuple[Case, ...]
    people: tuple[str, ...] = ()


def read_cases(text: str, name: str, configuration: Configuration) -> CaseFile:
    """Return the cases in ``text``; raises :class:`ConfigurationError` with everything that is wrong."""
    try:
        tree = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([Problem(name, "", f"is not TOML: {error}", "mend that line first")]) from None
    except (RecursionError, ValueError):
        raise ConfigurationError([Problem(name, "", "is nested too deeply, or holds an endless number", "")]) from None
    reader = _Reader(name, configuration)
    found = reader.read(tree)
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return found


class _Reader:
    def __init__(self, name: str, configuration: Configuration) -> None:
        self._name = name
        self._site = configuration.site
        self._scheme: TopicScheme = configuration.site.scheme
        self._connectors = [connector.name for connector in configuration.connectors]
        self._rules = [rule.name for rule in configuration.privacy.all_rules]
        self._decode = EventDecoder(self._scheme.hierarchy).decode
        self._levels = (*self._scheme.hierarchy, *_ADDRESS, "id")
        self.problems: list[Problem] = []

    def read(self, tree: dict[str, Any]) -> CaseFile:
        self._known("", tree, ("cases", "people"))
        people = tree.get("people", [])
        if not _are_texts(people):
            self._problem("people", "is not a list of names", 'write people = ["Ann Example"]')
            people = []
        tables = tree.get("cases", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._problem("cases", "is not a list of tables", "write [[cases]]")
            tables = []
        cases = tuple(case for at, table in enumerate(tables) if (case := self._case(f"cases.{at}", table)) is not None)
        names = [case.name for case in cases]
        for twice in sorted({name for name in names if names.count(name) > 1}):
            self._problem("cases", f"two are named {twice!r}", "give each a name of its own")
        return CaseFile(cases, tuple(people))

    def _problem(self, key: str, message: str, remedy: str) -> None:
        self.problems.append(Problem(self._name, key, message, remedy))

    def _known(self, where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                remedy = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
                self._problem(f"{where}.{key}".removeprefix("."), "is not a known key", remedy)

    def _case(self, where: str, table: dict[str, Any]) -> Case | None:
        before = len(self.problems)
        self._known(where, table, _CASE_KEYS)
        name, connector = table.get("name"), table.get("connector")
        if not (isinstance(name, str) and name):
            self._problem(f"{where}.name", "is missing or empty", "say what the case shows")
        if connector is not None and connector not in self._connectors:
            self._problem(f"{where}.connector", "is no enabled connector", f"one of {', '.join(self._connectors)}")
        event = self._event(f"{where}.event", table.get("event"))
        self._expect(f"{where}.expect", table.get("expect"))
        if event is None or len(self.problems) > before:
            return None
        return Case(str(name), event, table["expect"], connector)

    def _event(self, where: str, table: Any) -> Event | None:
        if not isinstance(table, dict):
            self._problem(where, "is missing or not a table", 'write event = { state = "power", value = true }')
            return None
        kind = table.get("kind", "metadata" if "metadata" in table or "id" in table else "state")
        filled: dict[str, Any] = {"kind": kind, "org": self._site.org or "org-sample"}
        if kind == "metadata":
            filled |= {"id": "sys-sample", "metadata": {}}
        else:
            filled |= {zone: f"{zone}-sample" for zone in self._scheme.hierarchy[1:]} | dict(_SAMPLES)
            filled |= {"value": True} if kind == "state" else {}
        try:
            written = msgspec.json.encode(_with_nulls({**filled, **table}), enc_hook=_no_json)
            return self._decode(written)
        except EventRefused as error:
            self._problem(where, str(error), "write it as the JSON Lines format does; what is missing is filled in")
        except (TypeError, OverflowError):
            self._problem(where, "holds what is no JSON value", "write dates and times as text")
        return None

    def _expect(self, where: str, table: Any) -> None:
        if not isinstance(table, dict) or not table:
            self._problem(where, "is missing or empty", f"expect some of {', '.join(_OUTCOMES)}, or a level")
            return
        self._known(where, table, (*_OUTCOMES, *self._levels))
        for key, value in table.items():
            if key in _FLAGS and not isinstance(value, bool):
                self._problem(f"{where}.{key}", "is not true or false", "")
            elif key in _LISTS and not _are_texts(value):
                self._problem(f"{where}.{key}", "is not a list of texts", f'write {key} = ["…"]')
        for rule in table["rules"] if _are_texts(table.get("rules")) else ():
            if rule not in self._rules:
                near = difflib.get_close_matches(rule, self._rules, n=1)
                remedy = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(self._rules) or 'none'}"
                self._problem(f"{where}.rules", f"there is no rule {rule!r}", remedy)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


def _no_json(value: Any) -> Any:
    raise TypeError(type(value).__name__)


def _with_nulls(value: Any) -> Any:
    """Return ``value`` with null, which TOML has not, where ``{{null}}`` stands; refuses what msgspec would convert."""
    if isinstance(value, dict):
        return {key: _with_nulls(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nulls(item) for item in value]
    if isinstance(value, str | int) or (isinstance(value, float) and isfinite(value)):
        return None if value == "{{null}}" else value
    raise TypeError(type(value).__name__)


class Judge:
    """Tries cases on one configuration."""

    def __init__(self, configuration: Configuration, people: Sequence[str] = ()) -> None:
        self.preview = Preview(configuration)
        self.preview.teach(people)
        self._scheme: TopicScheme = configuration.site.scheme
        self._payloads = configuration.site.payloads
        self._expected = Expected(self.preview.policies)

    def judge(self, case: Case, now: int) -> Verdict:
        """Return what ``case`` comes to; ``now`` in ms since 1970."""
        got = self._outcome(self.preview.event(case.event, now), case.connector)
        differences: list[Difference] = []
        if got.reason and not (case.expect.get("dropped") or case.expect.get("withheld")):
            return Verdict(case.name, (Difference("outcome", "a message", got.reason),))
        for what, expected in case.expect.items():
            if (difference := self._difference(what, expected, got)) is not None:
                differences.append(difference)
        return Verdict(case.name, tuple(differences))

    def _outcome(self, seen: Previewed, connector: str | None) -> _Outcome:
        if seen.message is None:
            why = "dropped" if seen.dropped else f"withheld: {seen.refused}" if seen.withheld else seen.refused
            return _Outcome(rules=seen.rules, dropped=seen.dropped, withheld=seen.withheld, reason=why)
        if connector is None:
            return self._read(seen.message, seen.message.topic, seen.original, seen.rules)
        passage = next(passage for passage in seen.passages if passage.connector == connector)
        rules = (*seen.rules, *passage.rules)
        if passage.outgoing is None:
            dropped = passage.outcome == "withheld"
            why = "dropped" if dropped else f"{passage.outcome}: {passage.reason}"
            return _Outcome(rules=rules, dropped=dropped, withheld=passage.unevaluated, reason=why)
        return self._read(passage.outgoing, passage.outgoing.source_topic, passage.original, rules)

    def _read(
        self, message: Message | Outgoing, topic: str, original: Message | Outgoing | None, rules: tuple[str, ...]
    ) -> _Outcome:
        got = _Outcome(rules=rules, topic=message.topic, payload=message.payload, time=message.time)
        got.unchanged = original is not None and (original.topic, original.payload) == (message.topic, message.payload)
        if message.payload:
            read = self._payloads.read_state if message.kind == "state" else self._payloads.read_metadata
            got.value = read(message.payload)[0]
        place = self._scheme.parse(topic)
        if isinstance(place, MetadataAddress):
            got.levels = {"org": place.org, "id": place.id}
        elif place is not None:
            got.levels = dict(zip(self._scheme.hierarchy, (place.org, *place.zones), strict=True))
            got.levels |= {name: getattr(place, name) for name in _ADDRESS}
        return got

    def _difference(self, what: str, expected: Any, got: _Outcome) -> Difference | None:
        if what == "absent":
            texts = [text.casefold() for text in got.texts()]
            there = [part for part in expected if any(part.casefold() in text for text in texts)]
            return Difference(what, expected, f"there: {', '.join(there)}") if there else None
        if what == "rules":
            met = set(expected) == set(got.rules)
            return None if met else Difference(what, expected, list(got.rules))
        if what in _FLAGS:
            found: Any = getattr(got, what)
            return None if found is expected else Difference(what, expected, found if not got.reason else got.reason)
        found = got.value if what in ("value", "metadata") else got.levels.get(what)
        if what in ("topic", "time"):
            found = getattr(got, what)
        return None if self._expected.matches(expected, found) else Difference(what, expected, found)


class _Outcome(Struct):
    """What has become of an event."""

    rules: tuple[str, ...] = ()
    dropped: bool = False
    withheld: bool = False
    unchanged: bool = False
    reason: str = ""
    topic: str = ""
    payload: bytes = b""
    time: int = 0
    value: Any = None
    levels: dict[str, Any] = {}

    def texts(self) -> Iterator[str]:
        """Give every text there is in it, as it stands and as it reads."""
        for text in (self.reason, self.topic, self.payload.decode(errors="replace"), *_texts(self.value)):
            yield text
            shown = plain(text)
            if shown is not None:
                yield shown.text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif value is not None:
        yield str(value)
