"""What a pattern of the installation's own finds, in RE2's syntax."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Final, Self

import pydantic
import re2
from pydantic import ConfigDict, Field

from northbound import Detector, Found
from northbound_detectors.matching import in_order, is_treated

#: Seconds that all matches of one text together may take: each is linear, but all of them may be quadratic.
LONGEST: Final = 1.0
#: A pattern that matches nothing at all matches it in one of these.
_EMPTY: Final = ("", "a", "0", " ", "-", "a b-0.")
_LONGEST_PATTERN: Final = 10_000


def compiled(pattern: str, *, ignore_case: bool = False) -> Any:
    """Return the pattern compiled; raises ``ValueError`` with RE2's words, or where it matches the empty text."""
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignore_case
    try:
        made = re2.compile(pattern, options)
    except re2.error as error:
        words = error.args[0]
        said = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
        raise ValueError(f"not a pattern of RE2: {said}") from None
    if any(match.start() == match.end() for text in _EMPTY for match in made.finditer(text)):
        raise ValueError("the pattern matches the empty text: write what must be there with + instead of * or ?")
    return made


def number_of(pattern: Any, group: int | str) -> int:
    """Return the number of this group; -1 where the pattern has none of this name."""
    return group if isinstance(group, int) else int(pattern.groupindex.get(group, -1))


def _pattern(pattern: str) -> str:
    compiled(pattern)
    return pattern


Pattern = Annotated[str, Field(min_length=1, max_length=_LONGEST_PATTERN), pydantic.AfterValidator(_pattern)]


class RegexOptions(pydantic.BaseModel):
    """What a pattern finds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: Pattern | None = Field(None, description="What to find, in RE2's syntax.")
    patterns: tuple[Pattern, ...] | None = Field(None, min_length=1, description="Several of them, instead of pattern.")
    ignore_case: bool = Field(False, description="Upper and lower case are the same.")
    group: int | str = Field(0, description="The match is this group of the pattern, by number or name. Default: all.")
    numbers: bool = Field(False, description="Look at JSON numbers too, as the text that JSON writes.")
    literals: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        description="Every match holds one of these, in any case, or stands under a key that does: texts without pass.",
    )

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.pattern is None) == (self.patterns is None):
            raise ValueError("give either pattern or patterns")
        for pattern in self.every:
            made = compiled(pattern, ignore_case=self.ignore_case)
            if not 0 <= number_of(made, self.group) <= made.groups:
                raise ValueError(f"the pattern has no group {self.group!r}")
        return self

    @property
    def every(self) -> tuple[str, ...]:
        """The patterns, however they were given."""
        return self.patterns or (() if self.pattern is None else (self.pattern,))


class Regex(Detector):
    """What a pattern finds."""

    Config: ClassVar[type[pydantic.BaseModel]] = RegexOptions

    def __init__(self, config: RegexOptions, *, name: str) -> None:
        super().__init__(config, name=name)
        self.numbers = config.numbers
        self.literals = config.literals
        made = [compiled(pattern, ignore_case=config.ignore_case) for pattern in config.every]
        self._patterns = [(pattern, number_of(pattern, config.group)) for pattern in made]

    def find(self, text: str, key: str) -> Iterable[Found]:  # noqa: ARG002 - the pattern alone decides
        """Give what the patterns match; raises ``RuntimeError`` where that takes longer than :data:`LONGEST`."""
        found: list[Found] = []
        until = time.perf_counter() + LONGEST
        for pattern, group in self._patterns:
            for match in pattern.finditer(text):
                start, end = match.span(group)
                if start < end and not is_treated(text[start:end]):
                    found.append(Found(start, end))
                if time.perf_counter() > until:
                    raise RuntimeError(f"the matches of {self.name!r} in one text took more than {LONGEST:g} s")
        return in_order(found)
