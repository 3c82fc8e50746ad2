"""Whether a value is what a person expects, where hashes stand as ``{{hash}}`` or ``{{hash:TEXT}}``. Pure.

``{{hash}}`` is any hash that a rule of the configuration writes, ``{{hash:TEXT}}`` the hash of that text under the
secret of any of them, ``{{null}}`` is JSON's null.
"""

from __future__ import annotations

import re
from typing import Any, Final

from northbound.lookup import hash_of, hash_rules, pattern_of
from northbound.policies import Policies

_PLACEHOLDER: Final = re.compile(r"\{\{hash(?::(.*?))?\}\}", re.DOTALL)
_NULL: Final = "{{null}}"
_NOTHING: Final = "(?!)"


class Expected:
    """Knows the hashes of one configuration."""

    def __init__(self, policies: Policies) -> None:
        self._rules = hash_rules(policies)
        self._any = "|".join(dict.fromkeys(map(pattern_of, self._rules))) or _NOTHING

    def matches(self, expected: Any, got: Any) -> bool:
        """Whether ``got`` is what ``expected`` says."""
        if isinstance(expected, str):
            if expected == _NULL:
                return got is None
            return isinstance(got, str) and self._is(expected, got)
        if isinstance(expected, bool) or isinstance(got, bool):
            return expected is got
        if isinstance(expected, list):
            same = isinstance(got, list) and len(expected) == len(got)
            return same and all(map(self.matches, expected, got))
        if isinstance(expected, dict):
            return isinstance(got, dict) and len(expected) == len(got) and self._members(expected, got)
        return bool(expected == got)

    def _members(self, expected: dict[str, Any], got: dict[str, Any]) -> bool:
        left = dict(got)
        for key, value in expected.items():
            # A key that is written out first: a hash could stand for it as well.
            found = [name for name in ((key,) if key in left else left) if name == key or self._is(key, name)]
            name = next((name for name in found if self.matches(value, left[name])), None)
            if name is None:
                return False
            del left[name]
        return not left

    def _is(self, expected: str, got: str) -> bool:
        if "{{" not in expected:
            return expected == got
        parts = _PLACEHOLDER.split(expected)
        pattern = re.escape(parts[0])
        for text, literal in zip(parts[1::2], parts[2::2], strict=True):
            pattern += f"(?:{self._any if text is None else self._of(text)}){re.escape(literal)}"
        return re.fullmatch(pattern, got, re.DOTALL) is not None

    def _of(self, text: str) -> str:
        written = {
            hash_of(rule, text, detectors, form=form).text
            for rule in self._rules
            for detectors in (rule.rule.detectors, ())
            for form in ("value", "topic", "previous")
        }
        return "|".join(map(re.escape, sorted(written))) or _NOTHING
