"""The ``placeos`` source: a PlaceOS installation, read from its Redis and PostgreSQL.

The libraries it needs take longer to import than all of northbound, so they are only looked for here: one that is
missing is a row with an install hint, and one that is there costs nothing before the source is configured.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import northbound
from northbound_placeos.options import Options
from northbound_placeos.source import PlaceosSource

__all__ = ["Options", "PlaceosSource", "northbound_sources"]

for _library in ("hiredis", "psycopg", "redis"):
    if find_spec(_library) is None:
        raise ModuleNotFoundError(f"No module named {_library!r}", name=_library)


@northbound.hookimpl
def northbound_sources() -> Mapping[str, type[northbound.Source]]:
    """Provide the type ``placeos``."""
    return {"placeos": PlaceosSource}
