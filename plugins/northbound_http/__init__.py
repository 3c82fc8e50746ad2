"""The ``http`` source: events as JSON Lines, posted to a server of its own."""

from __future__ import annotations

from collections.abc import Mapping

import northbound
from northbound_http.options import Options
from northbound_http.source import HttpSource

__all__ = ["HttpSource", "Options", "northbound_sources"]


@northbound.hookimpl
def northbound_sources() -> Mapping[str, type[northbound.Source]]:
    """Provide the type ``http``."""
    return {"http": HttpSource}
