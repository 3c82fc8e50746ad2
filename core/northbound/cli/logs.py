"""Logging of a service: one line a record on standard error, as text for people or JSON for collectors."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from northbound.cli.words import clean
from northbound.config import ServiceOptions

Scrub = Callable[[str], str]
_WITHHELD: Final = "[withheld]"


def configure(options: ServiceOptions, shareable: Scrub | None = None) -> None:
    """Log as ``options`` say from now on; ``shareable`` takes out of each line what must not be shared."""
    level = logging.getLevelNamesMapping()[options.log_level.upper()]
    handler = logging.StreamHandler(sys.stderr)
    scrub = _scrubber(shareable)
    handler.setFormatter(
        _Json(scrub) if options.log_format == "json" else _Text(scrub, traceback=level <= logging.DEBUG)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(max(level, logging.WARNING))
    logging.raiseExceptions = False  # a log that cannot be written must not become a traceback


def _scrubber(shareable: Scrub | None) -> Scrub:
    """Return ``shareable``, made so that it neither raises nor lets a text pass that it could not look at."""

    def scrub(text: str) -> str:
        if shareable is None:
            return text
        try:
            return shareable(text)
        except Exception:  # noqa: BLE001 - whatever it is, the text must not be written, nor the service disturbed
            return _WITHHELD

    return scrub


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


class _Text(logging.Formatter):
    def __init__(self, scrub: Scrub, *, traceback: bool) -> None:
        super().__init__()
        self._scrub = scrub
        self._traceback = traceback

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            text += f": {type(error).__name__}: {error}"
            if self._traceback:
                text += f" | {self.formatException(record.exc_info)}"
        return f"{_time(record)} {record.levelname:<7} {clean(self._scrub(text))}"


class _Json(logging.Formatter):
    def __init__(self, scrub: Scrub) -> None:
        super().__init__()
        self._scrub = scrub

    def format(self, record: logging.LogRecord) -> str:
        written: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._scrub(record.getMessage()),
        }
        if record.exc_info and record.exc_info[1] is not None:
            written["exception"] = self._scrub(self.formatException(record.exc_info))
        return msgspec.json.encode(written).decode()
