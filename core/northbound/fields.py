"""Field types for configuration models: durations, paths, topic filters, as people write them in a file."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import annotated_types
import pydantic

from northbound.topics import filter_problem


class NoOptions(pydantic.BaseModel):
    """A plugin without options of its own."""


_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|min|s|m|h|d|w)\s*")
_LONGEST = timedelta(days=3650)
_LONGEST_TEXT = 64  # beyond it the search would take time with the square of the length
_HOW = "write a duration such as '500ms', '30s', '1h30m' or '7d'"


def parse_duration(value: Any) -> Any:
    """Return the ``timedelta`` of ``"1h30m"``, ``"500ms"`` or a number of seconds; raises ``ValueError``."""
    if isinstance(value, timedelta):
        seconds: float = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    elif isinstance(value, str) and len(value) <= _LONGEST_TEXT:
        seconds = _seconds(value.strip())
    else:
        raise ValueError(_HOW)
    if not 0 <= seconds <= _LONGEST.total_seconds():
        raise ValueError("a duration is between 0 and ten years")
    return timedelta(seconds=seconds)


def _seconds(text: str) -> float:
    seconds, end = 0.0, 0
    for part in _PART.finditer(text):
        if part.start() != end:
            break
        seconds += float(part[1]) * _UNITS[part[2]]
        end = part.end()
    if end == 0 or end != len(text):
        raise ValueError(_HOW)
    return seconds


def format_duration(value: timedelta) -> str:
    """Return ``value`` in the largest unit that gives a whole number: ``90m``, ``500ms``."""
    milliseconds = round(value.total_seconds() * 1000)
    if not milliseconds:
        return "0s"
    for unit in ("w", "d", "h", "m", "s"):
        size = int(_UNITS[unit] * 1000)
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


_DURATION_SCHEMA = {
    "anyOf": [
        {
            "type": "string",
            "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*(ms|min|s|m|h|d|w)\s*)+$",
            "maxLength": _LONGEST_TEXT,
            "examples": ["500ms", "30s", "72h"],
        },
        {"type": "number", "minimum": 0, "description": "seconds"},
    ]
}

Duration = Annotated[
    timedelta,
    pydantic.BeforeValidator(parse_duration),
    pydantic.PlainSerializer(format_duration, return_type=str),
    pydantic.WithJsonSchema(_DURATION_SCHEMA),
]


def _beside_the_file(path: Path, info: pydantic.ValidationInfo) -> Path:
    base = (info.context or {}).get("base")
    if "\0" in str(path):
        raise ValueError("a path cannot hold NUL")
    try:
        path = path.expanduser()
    except RuntimeError:
        raise ValueError("the home directory that '~' stands for is not known") from None
    return Path(base) / path if base is not None and not path.is_absolute() else path


#: A path; a relative one starts at the folder of the configuration file.
ConfigPath = Annotated[Path, pydantic.AfterValidator(_beside_the_file)]


def _topic_filter(text: str) -> str:
    if problem := filter_problem(text):
        raise ValueError(f"topic filter {problem}")
    return text


TopicFilter = Annotated[str, pydantic.AfterValidator(_topic_filter)]


def _size(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        raise ValueError("write a size such as '512 KiB' or '2 GiB'")
    return value


#: A number of bytes, written ``"2 GiB"``; at most what a signed 64-bit number holds.
Size = Annotated[pydantic.ByteSize, pydantic.BeforeValidator(_size), annotated_types.Le(2**63 - 1)]
