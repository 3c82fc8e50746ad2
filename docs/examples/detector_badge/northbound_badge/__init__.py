"""A detector for northbound: numbers of badges, such as ``B-0012345-6``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pydantic
import re2

import northbound


class Options(pydantic.BaseModel):
    """What ``[privacy.detectors.NAME]`` may say."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    letters: str = pydantic.Field("BV", pattern="^[A-Z]+$", description="The first letters of badges: B for staff.")


class Badge(northbound.Detector):
    """Numbers of badges: a letter, seven digits, a check digit."""

    Config = Options
    literals = ("-",)  # every match holds it, so that a text without one costs nothing

    def __init__(self, config: Options, *, name: str) -> None:
        super().__init__(config, name=name)
        # RE2 takes linear time on any text; Python's own engine does not.
        self._pattern = re2.compile(rf"(?i)\b([{config.letters}])-([0-9]{{7}})-?([0-9])\b")

    def find(self, text: str, key: str) -> Iterator[northbound.Found]:  # noqa: ARG002 - the form alone decides
        """Give the numbers whose check digit is right; canonical is the form with capitals and dashes."""
        for match in self._pattern.finditer(text):
            letter, digits, check = match.groups()
            if sum(map(int, digits)) % 10 == int(check):
                yield northbound.Found(match.start(), match.end(), f"{letter.upper()}-{digits}-{check}")

    def mask(self, text: str) -> str:
        """Return ``B-***``, which is no number of a badge."""
        return f"{text[:2]}***"


@northbound.hookimpl
def northbound_detectors() -> Mapping[str, type[northbound.Detector]]:
    """Provide the type ``badge``."""
    return {"badge": Badge}
