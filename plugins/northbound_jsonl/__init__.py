"""The ``jsonl`` source: events as JSON Lines, from a file, a growing file, a named pipe or standard input."""

from __future__ import annotations

from collections.abc import Mapping

import northbound
from northbound_jsonl.options import Options
from northbound_jsonl.source import JsonlSource

__all__ = ["JsonlSource", "Options", "northbound_sources"]


@northbound.hookimpl
def northbound_sources() -> Mapping[str, type[northbound.Source]]:
    """Provide the type ``jsonl``."""
    return {"jsonl": JsonlSource}
