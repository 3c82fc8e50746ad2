"""What a plugin may provide. Hooks are called once at start and only hand over classes."""

from __future__ import annotations

from collections.abc import Mapping

import pluggy

from northbound.connector import Connector
from northbound.privacy.detector import Detector
from northbound.source import Source

PROJECT = "northbound"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def northbound_connectors() -> Mapping[str, type[Connector]]:  # type: ignore[empty-body]
    """Return the connector classes of this plugin by the ``type`` that names them in a configuration."""


@hookspec
def northbound_sources() -> Mapping[str, type[Source]]:  # type: ignore[empty-body]
    """Return the source classes of this plugin by the ``type`` that names them in a configuration."""


@hookspec
def northbound_detectors() -> Mapping[str, type[Detector]]:  # type: ignore[empty-body]
    """Return the detector classes of this plugin by the ``type`` that names them in a privacy rule."""
