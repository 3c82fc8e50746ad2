"""Takes some rules through a value: every string at any depth, object keys, strings that hold JSON again, numbers."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec

from northbound.errors import EventRefused
from northbound.privacy.paths import Cursor
from northbound.privacy.plain import plain
from northbound.privacy.rules import Rule
from northbound.privacy.texts import Dropped, Repeated, Texts, apart, hidden_json, nested_json

#: JSON in a string in JSON in a string …: deeper than this it is looked at as text.
_DEEPEST_NESTED: Final = 12
_TELL_NOTHING: Final = frozenset(
    ("content", "current", "data", "default", "id", "new", "old", "previous", "raw", "text", "val", "value")
)
#: An object may have an id beside its name: that is no value of the name.
_VALUE_KEYS: Final = _TELL_NOTHING - {"id"}
_NAME_KEYS: Final = ("name", "key", "field", "label", "property")
_LONGEST_NAME: Final = 100
_NUMBERS: Final = (int, float, Decimal)
#: A position has two or three numbers.
_ROW: Final = (2, 3)
_ROW_KINDS: Final = frozenset((float, Decimal, int))
_SCALARS: Final = frozenset({type(None), bool, int, float})
_encode = msgspec.json.Encoder(decimal_format="number").encode

Cursors = tuple[Cursor | None, ...]
Acts = list[tuple[Rule, int]]


class _Gone:
    """Stands for a member that is left out, key and all."""


_GONE: Final = _Gone()


class Walker:
    """The rules that look at the values of some topics."""

    def __init__(self, rules: Sequence[Rule], texts: Texts) -> None:
        self._rules = tuple(rules)
        self._texts = texts
        self._bits = texts.bits(self._rules)
        self._literals_of = texts.literals.of
        self._numbers = any(detector.numbers for rule in rules for detector in rule.detectors)
        self._start: Cursors = tuple(rule.cursor() for rule in rules)
        self._placed = any(cursor is not None for cursor in self._start)
        #: Whether every value has to be walked, for a rule acts on it without detecting anything.
        self.always = any(rule.whole for rule in rules)

    def suspects(self, value: Any, text: bytes) -> bool:
        """Return whether something may be found in ``value``, of which ``text`` is the JSON."""
        if type(value) in _SCALARS and not self._numbers:
            return False
        return self._literals_of(text) & self._bits != 0

    def suspects_under(self, key: str) -> bool:
        """Return whether something may be found in any string because it stands under ``key``."""
        literals = self._texts.literals
        return (literals.of(key.encode()) & ~literals.always) & self._bits != 0

    def walk(self, value: Any, key: str, acts: Acts) -> Any:
        """Return ``value`` after the rules, the same object where nothing has changed; adds to ``acts`` what they did.

        ``key`` is the status key. Raises :class:`Dropped` and :class:`Withheld`.
        """
        try:
            changed = _Walk(self._texts, self._rules, acts).value(value, key, self._start)
        except RecursionError:
            raise EventRefused("the value is nested too deeply for the privacy rules") from None
        return None if changed is _GONE else changed


class _Walk:
    """One walk through one value."""

    def __init__(self, texts: Texts, rules: Sequence[Rule], acts: Acts) -> None:
        self._texts = texts
        self._rules = rules
        self._acts = acts
        self._nested = 0

    def value(self, value: Any, key: str, cursors: Cursors) -> Any:
        if isinstance(value, str):
            return self._string(value, key, cursors)
        if value is None:
            return None
        if isinstance(value, dict | list | tuple):
            taker = self._taker(cursors)
            if taker is not None:
                return self._taken(taker)
            return self._object(value, key, cursors) if isinstance(value, dict) else self._array(value, key, cursors)
        if isinstance(value, _NUMBERS):
            return self._scalar(value, key, cursors)
        return value

    def _here(self, cursors: Cursors) -> list[Rule]:
        """Return the rules that look at this place, up to one that excepts all of it."""
        here: list[Rule] = []
        for rule, cursor in zip(self._rules, cursors, strict=True):
            if cursor is None or cursor.selected:
                if rule.whole and rule.kind == "allow":
                    break
                here.append(rule)
        return here

    def _taker(self, cursors: Cursors) -> Rule | None:
        """Return the rule that takes an object or array as a whole; the others act on what is in it."""
        for rule in self._here(cursors):
            if rule.whole and rule.kind in ("redact", "drop"):
                return rule
        return None

    def _taken(self, rule: Rule) -> Any:
        if rule.kind == "drop":
            raise Dropped(rule, [(rule, 1)])
        self._acts.append((rule, 1))
        return self._in_place(rule)

    @staticmethod
    def _in_place(rule: Rule) -> Any:
        """Return what stands in place of a whole value."""
        if rule.scope == "key":
            return _GONE
        return None if rule.null else rule.placeholder

    def _object(self, value: dict[str, Any], under: str, cursors: Cursors) -> Any:
        changed: dict[str, Any] = {}
        alike: dict[str, int] = {}
        same = not isinstance(value, Repeated)
        detecting = [rule for rule in self._here(cursors) if rule.detects]
        under = _named(value) or under
        for key, item in value.items():
            new_key = self._key(key, detecting) if detecting else key
            name = value.names[key] if isinstance(value, Repeated) else key
            below = cursors if self._all_here(cursors) else tuple(c and c.into(name) for c in cursors)
            new_item = self.value(item, _telling(name, under), below)
            if new_key is None or new_item is _GONE:
                same = False
                continue
            same = same and new_key == key and new_item is item
            changed[apart(new_key, changed, alike)] = new_item
        return value if same else changed

    @staticmethod
    def _all_here(cursors: Cursors) -> bool:
        return all(cursor is None or cursor.selected for cursor in cursors)

    def _key(self, key: str, rules: Sequence[Rule]) -> str | None:
        replaced = self._texts.apply(key, "", rules)
        if replaced is None:
            return key
        self._acts += replaced.acts
        if replaced.whole is not None:
            return None if replaced.whole.scope == "key" else replaced.whole.placeholder
        return replaced.text

    def _array(self, value: Sequence[Any], key: str, cursors: Cursors) -> Any:
        if self._all_here(cursors):
            changed = [self.value(item, key, cursors) for item in value]
        else:
            changed = [self.value(item, key, tuple(c and c.into(i) for c in cursors)) for i, item in enumerate(value)]
        if all(map(operator.is_, changed, value)):
            return self._row(value, key, cursors) if len(value) in _ROW else value
        return [item for item in changed if item is not _GONE]

    def _row(self, value: Sequence[Any], key: str, cursors: Cursors) -> Any:
        """Return an array of a few decimal numbers after the rules: together they may be what none of them is."""
        rules = [rule for rule in self._here(cursors) if rule.detects]
        kinds = [type(item) for item in value]
        if not rules or not _ROW_KINDS.issuperset(kinds) or kinds.count(int) > len(kinds) - 2:
            return value
        replaced = self._texts.apply(_encode(value).decode()[1:-1], key, rules, number=True)
        if replaced is None:
            return value
        self._acts += replaced.acts
        if replaced.whole is not None:
            return self._in_place(replaced.whole)
        try:
            coarse = nested_json(f"[{replaced.text}]")  # numbers stay some
        except ValueError:
            return replaced.text
        return [float(item) if isinstance(item, Decimal) and float in kinds else item for item in coarse]

    def _string(self, text: str, key: str, cursors: Cursors) -> Any:
        if not text[:1].isalnum() and self._nested < _DEEPEST_NESTED:
            here = self._here(cursors)
            if not any(rule.whole for rule in here) and (here or not self._all_here(cursors)):
                inner, plainly = _document(text)
                if inner is not None:
                    changed = self._inside(inner, key, cursors)
                    if changed is not inner:
                        return changed
                    if plainly:
                        return text
        return self._scalar(text, key, cursors)

    def _inside(self, inner: Any, key: str, cursors: Cursors) -> Any:
        """Return the text of a document after the rules; the document itself where nothing has changed."""
        self._nested += 1
        try:
            changed = self.value(inner, key, cursors)
        finally:
            self._nested -= 1
        return changed if changed is inner or changed is _GONE else _encode(changed).decode()

    def _scalar(self, value: Any, key: str, cursors: Cursors) -> Any:
        """Return a string, a number or a truth value after the rules."""
        rules = self._here(cursors)
        number = not isinstance(value, str)
        if isinstance(value, bool):
            rules = [rule for rule in rules if rule.whole]
        written = _encode(value).decode() if number else value
        replaced = self._texts.apply(written, key, rules, number=number) if rules else None
        if replaced is None:
            return value
        self._acts += replaced.acts
        if replaced.whole is not None:
            return self._in_place(replaced.whole)
        if not number or any(rule.kind != "generalise" for rule, _ in replaced.acts):
            return replaced.text
        try:
            coarse = nested_json(replaced.text)  # a number stays one
        except ValueError:  # a mask
            return replaced.text
        return float(coarse) if isinstance(coarse, Decimal) and isinstance(value, float) else coarse


def _document(text: str) -> tuple[Any, bool]:
    """Return the document that ``text`` holds, and whether as it stands; ``None`` where it holds none."""
    if text.lstrip()[:1] in ("{", "[", '"'):
        try:
            return nested_json(text), True
        except ValueError:
            pass
    try:
        return hidden_json(text), False
    except ValueError:
        return None, False


def plain_key(key: str) -> str:
    """Return a key as detectors see it."""
    shown = plain(key)
    return key if shown is None else shown.text


def _named(value: dict[str, Any]) -> str:
    """Return what an object says its value is (``{"name": "password", "value": …}``); nothing where it is no pair."""
    keys = {key.casefold(): key for key in value}
    if not _VALUE_KEYS.isdisjoint(keys):
        for key in _NAME_KEYS:
            name = value.get(keys.get(key, ""))
            if isinstance(name, str) and len(name) <= _LONGEST_NAME:
                return plain_key(name)
    return ""


def _telling(key: str, under: str) -> str:
    """Return the key that tells what a value is: one that tells nothing inherits what stands above it."""
    text = plain_key(key)
    return under if under and text.casefold() in _TELL_NOTHING else text
