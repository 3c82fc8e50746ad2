"""The detectors that come with northbound: what personal data in building state looks like."""

from __future__ import annotations

from collections.abc import Mapping

import northbound
from northbound_detectors.email import Email

__all__ = ["Email", "northbound_detectors"]


@northbound.hookimpl
def northbound_detectors() -> Mapping[str, type[northbound.Detector]]:
    """Provide every built-in type."""
    return {"email": Email}
