"""The filters of subscriptions: ``attributes.building = "bld-1" AND NOT hasPrefix(attributes.topic, "a/")``.

The grammar is that of cloud.google.com/pubsub/docs/subscription-message-filter ("Filtering syntax"): AND and OR are
upper case and do not mix without parentheses, NOT or ``-`` goes before one term, and a filter has at most 256 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

Attributes = Mapping[str, str]
Predicate = Callable[[Attributes], bool]

#: "The maximum length of a filter is 256 bytes" (the page)
MAX_FILTER_BYTES: Final = 256
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<word>[A-Za-z_][A-Za-z0-9_\-]*)|(?P<sign>!=|[=:.,()\-]))"""
)


def parse_filter(text: str) -> Predicate:
    """Return whether a message's attributes pass ``text``; raises ``ValueError`` in words where it is no filter."""
    if not text:
        return lambda _attributes: True
    if len(text.encode()) > MAX_FILTER_BYTES:
        raise ValueError(f"the filter has {len(text.encode())} bytes: at most {MAX_FILTER_BYTES}")
    parser = _Parser(_tokens(text))
    predicate = parser.expression()
    parser.expect("")
    return predicate


def _tokens(text: str) -> list[str]:
    found, place = [], 0
    text = text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise ValueError(f"the filter cannot be read at {text[place : place + 20]!r}")
        found.append(match[0].strip())
        place = match.end()
    return [*found, ""]


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._place = 0

    def expect(self, *wanted: str) -> str:
        token = self._tokens[self._place]
        if token not in wanted:
            raise ValueError(f"the filter has {token or 'its end'!r} where {' or '.join(wanted) or 'its end'} is due")
        self._place += bool(token)
        return token

    def _take(self, *wanted: str) -> str:
        token = self._tokens[self._place]
        if token in wanted:
            self._place += 1
            return token
        return ""

    def expression(self) -> Predicate:
        terms = [self._term()]
        joint = self._take("AND", "OR")
        while joint:
            terms.append(self._term())
            if self._tokens[self._place] in ("AND", "OR"):
                self.expect(joint)  # "use parentheses to combine AND and OR" (the page)
                continue
            break
        if joint == "OR":
            return lambda attributes: any(term(attributes) for term in terms)
        return lambda attributes: all(term(attributes) for term in terms)

    def _term(self) -> Predicate:
        if self._take("NOT", "-"):
            inner = self._term()
            return lambda attributes: not inner(attributes)
        if self._take("("):
            inner = self.expression()
            self.expect(")")
            return inner
        if self._take("hasPrefix"):
            self.expect("(")
            key = self._attribute()
            self.expect(",")
            prefix = self._string()
            self.expect(")")
            return lambda attributes: attributes.get(key, "").startswith(prefix) and key in attributes
        self.expect("attributes")
        if self._take(":"):
            key = self._name()
            return lambda attributes: key in attributes
        self._place -= 1
        key = self._attribute()
        sign = self.expect("=", "!=")
        value = self._string()
        if sign == "=":
            return lambda attributes: attributes.get(key) == value
        # "attributes.key != value" also passes messages without the key (the page)
        return lambda attributes: attributes.get(key) != value

    def _attribute(self) -> str:
        self.expect("attributes")
        self.expect(".")
        return self._name()

    def _name(self) -> str:
        token = self._tokens[self._place]
        if token.startswith('"'):
            return self._string()
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_\-]*", token):
            raise ValueError(f"the filter has {token or 'its end'!r} where the name of an attribute is due")
        self._place += 1
        return token

    def _string(self) -> str:
        token = self._tokens[self._place]
        if not token.startswith('"'):
            raise ValueError(f"the filter has {token or 'its end'!r} where a string in double quotes is due")
        self._place += 1
        return re.sub(r"\\(.)", r"\1", token[1:-1])
