"""Secrets: those known by their form, those under a key that names a credential, and ``password=…`` in a text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import re2

from northbound import Detector, Found
from northbound_detectors.formats import LITERALS, finders
from northbound_detectors.matching import in_order
from northbound_detectors.secrets import NAME_IN_TEXT, NAMES, SCHEME, names_credential, secret_in

_BARE = r"""[^\s"'&;,<>\\]+"""
_ASSIGNMENT = (
    rf"""(?:{NAME_IN_TEXT})["'\])]?\s*(?:=>|:=|=|:)\s*"""
    rf"""(?:"((?:[^"\\\n]|\\.)*)"|'((?:[^'\\\n]|\\.)*)'|["']?((?:{SCHEME})?{_BARE}))"""
)
_IN_TEXT = ("pass", "pwd", "secret", "token", "key", "authorization", "credential", "jwt", "kennwort", "pw", "sig")
_UNQUOTED = 3  # the group without quotes
_CLOSING = {"}": "{", ")": "(", "]": "["}


class Token(Detector):
    """Secrets: tokens, keys and passwords."""

    literals = (*LITERALS, *NAMES, *_IN_TEXT)
    #: A code may be a number.
    numbers = True

    def __init__(self, config: object, *, name: str) -> None:
        super().__init__(config, name=name)
        self._finders = finders()
        self._assignment = re2.compile(_ASSIGNMENT)

    def find(self, text: str, key: str) -> Iterable[Found]:
        """Give the secrets in ``text``; under a key that names a credential, all of it but ``Bearer``."""
        if names_credential(key) and (whole := secret_in(text)):
            return (Found(*whole),)
        found = [item for find in self._finders for item in find(text)]
        found += self._assigned(text)
        return in_order(found)

    def _assigned(self, text: str) -> Iterator[Found]:
        if "=" not in text and ":" not in text:
            return
        lower = text.lower()
        if not any(name in lower for name in _IN_TEXT):
            return
        for match in self._assignment.finditer(text):
            group = match.lastindex
            value = match[group]
            if group == _UNQUOTED:
                value = _without_closing(value)
                if value.startswith("//"):  # token://… is a scheme
                    continue
            if secret := secret_in(value):
                start = match.start(group)
                yield Found(start + secret[0], start + secret[1])


def _without_closing(value: str) -> str:
    """Return ``value`` without brackets at its end that close what was opened before it."""
    alone = "".join(closing for closing, opening in _CLOSING.items() if opening not in value)
    return value.rstrip(alone) if alone else value
