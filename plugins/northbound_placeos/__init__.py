"""The ``placeos`` source: a PlaceOS installation, read from its Redis and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping

import hiredis  # noqa: F401 - here, so that a missing library is a row with an install hint
import psycopg  # noqa: F401 - as above
import redis  # noqa: F401 - as above

import northbound
from northbound_placeos.options import Options
from northbound_placeos.source import PlaceosSource

__all__ = ["Options", "PlaceosSource", "northbound_sources"]


@northbound.hookimpl
def northbound_sources() -> Mapping[str, type[northbound.Source]]:
    """Provide the type ``placeos``."""
    return {"placeos": PlaceosSource}
