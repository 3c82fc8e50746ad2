"""The ``simulator`` source: a believable campus, the same one for the same seed."""

from __future__ import annotations

from collections.abc import Mapping

import northbound
from northbound_simulator.options import Options
from northbound_simulator.source import SimulatorSource

__all__ = ["Options", "SimulatorSource", "northbound_sources"]


@northbound.hookimpl
def northbound_sources() -> Mapping[str, type[northbound.Source]]:
    """Provide the type ``simulator``."""
    return {"simulator": SimulatorSource}
