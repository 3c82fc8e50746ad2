"""The ``file`` connector: what would be sent, as JSON Lines in rotated files."""

from __future__ import annotations

from collections.abc import Mapping

import northbound
from northbound_file.connector import FileConnector
from northbound_file.options import Options

__all__ = ["FileConnector", "Options", "northbound_connectors"]


@northbound.hookimpl
def northbound_connectors() -> Mapping[str, type[northbound.Connector]]:
    """Provide the type ``file``."""
    return {"file": FileConnector}
