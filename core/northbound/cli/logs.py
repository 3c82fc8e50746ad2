"""Logging of a service: one line a record on standard error, as text for people or JSON for collectors."""

from __future__ import annotations

import logging
import sys
from datetime import datetime
from typing import Any

import msgspec

from northbound.cli.words import clean
from northbound.config import ServiceOptions


def configure(options: ServiceOptions) -> None:
    """Log as ``options`` say from now on."""
    level = logging.getLevelNamesMapping()[options.log_level.upper()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if options.log_format == "json" else _Text(traceback=level <= logging.DEBUG))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("asyncio").setLevel(max(level, logging.WARNING))
    logging.raiseExceptions = False  # a log that cannot be written must not become a traceback


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")


class _Text(logging.Formatter):
    def __init__(self, *, traceback: bool) -> None:
        super().__init__()
        self._traceback = traceback

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            text += f": {type(error).__name__}: {error}"
            if self._traceback:
                text += f" | {self.formatException(record.exc_info)}"
        return f"{_time(record)} {record.levelname:<7} {clean(text)}"


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        written: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            written["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(written).decode()
