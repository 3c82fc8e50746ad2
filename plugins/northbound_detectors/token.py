"""Secrets: those known by their form, those under a key that names a credential, and ``password=…`` in a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import re2

from northbound import Detector, Found
from northbound_detectors.formats import LITERALS, PATTERNS, finders
from northbound_detectors.matching import in_order
from northbound_detectors.secrets import NAME_IN_TEXT, NAMES, SCHEME, names_credential, secret_in

_BARE_REST = r"""[^\s"'&;,<>\\]*"""
_BARE = r"""[^\s"'&;,<>\\]+"""
_ASSIGNMENT = (
    rf"""(?:{NAME_IN_TEXT})["'\])]?\s*(?:=>|:=|=|:)\s*"""
    rf"""(?:"((?:[^"\\\n]|\\.)*)"|'((?:[^'\\\n]|\\.)*)'|["']?((?:{SCHEME})?{_BARE}))"""
)
#: --password hunter2: what follows is no other option.
_OPTION = (
    rf"""--(?:[0-9A-Za-z]+[_-])*(?:{NAME_IN_TEXT})[ \t]+"""
    rf"""(?:"((?:[^"\\\n]|\\.)*)"|'((?:[^'\\\n]|\\.)*)'|((?:{SCHEME})?[^\s"'&;,<>\\-]{_BARE_REST}))"""
)
#: What follows the name of an option in a sentence about it.
_PROSE = frozenset((
    "a", "an", "and", "are", "argument", "as", "at", "by", "can", "cannot", "does", "flag", "for", "from", "has", "if",
    "in", "instead", "is", "it", "may", "must", "needs", "not", "of", "or", "option", "options", "parameter",
    "requires", "should", "switch", "the", "to", "value", "was", "when", "which", "will", "with", "without", "works",
))  # fmt: skip
_NO_VALUE = ("--no-", "--without-", "--ask-", "--prompt-")
_IN_TEXT = ("pass", "pwd", "secret", "token", "key", "authorization", "credential", "jwt", "kennwort", "pw", "sig")
_UNQUOTED = 3  # the group without quotes
_CLOSING = {"}": "{", ")": "(", "]": "["}


class Token(Detector):
    """Secrets: tokens, keys and passwords."""

    literals = (*LITERALS, *NAMES, *_IN_TEXT)
    literal_patterns = PATTERNS
    #: A code may be a number.
    numbers = True

    def __init__(self, config: object, *, name: str) -> None:
        super().__init__(config, name=name)
        self._finders = finders()
        self._assignment, self._option = re2.compile(_ASSIGNMENT), re2.compile(_OPTION)

    def find(self, text: str, key: str) -> Iterable[Found]:
        """Give the secrets in ``text``; under a key that names a credential, all of it but ``Bearer``."""
        if names_credential(key) and (whole := secret_in(text)):
            return (Found(*whole),)
        found = [item for find in self._finders for item in find(text)]
        found += self._assigned(text)
        return in_order(found)

    def _assigned(self, text: str) -> Iterator[Found]:
        has_options = "--" in text
        if "=" not in text and ":" not in text and not has_options:
            return
        lower = text.lower()
        if not any(name in lower for name in _IN_TEXT):
            return
        for match in self._assignment.finditer(text):
            if not match[_UNQUOTED] or not match[_UNQUOTED].startswith("//"):  # token://… is a scheme
                yield from _secret(match)
        if has_options:
            for match in self._option.finditer(text):
                if not match[0].startswith(_NO_VALUE) and not _is_prose(match[_UNQUOTED] or ""):
                    yield from _secret(match)


def _secret(match: Any) -> Iterator[Found]:
    """Give the secret in the last group of ``match``, which stands in the place of one."""
    group = match.lastindex
    value = _without_closing(match[group]) if group == _UNQUOTED else match[group]
    if secret := secret_in(value):
        start = match.start(group)
        yield Found(start + secret[0], start + secret[1])


def _is_prose(value: str) -> bool:
    """Whether ``value``, behind the name of an option, is a word about it, or a name for what stands there."""
    word = value.strip(".:!?()[]")
    return word.lower() in _PROSE or (word.isupper() and names_credential(word))


def _without_closing(value: str) -> str:
    """Return ``value`` without brackets at its end that close what was opened before it."""
    alone = "".join(closing for closing, opening in _CLOSING.items() if opening not in value)
    return value.rstrip(alone) if alone else value
