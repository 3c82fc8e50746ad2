"""The ``mqtt`` connector and the ``mqtt`` source: any broker of MQTT 3.1, 3.1.1 or 5."""

from __future__ import annotations

from collections.abc import Mapping

import northbound
from northbound_mqtt.connector import MqttConnector
from northbound_mqtt.options import ConnectorOptions, SourceOptions
from northbound_mqtt.source import MqttSource

__all__ = [
    "ConnectorOptions",
    "MqttConnector",
    "MqttSource",
    "SourceOptions",
    "northbound_connectors",
    "northbound_sources",
]


@northbound.hookimpl
def northbound_connectors() -> Mapping[str, type[northbound.Connector]]:
    """Provide the connector type ``mqtt``."""
    return {"mqtt": MqttConnector}


@northbound.hookimpl
def northbound_sources() -> Mapping[str, type[northbound.Source]]:
    """Provide the source type ``mqtt``."""
    return {"mqtt": MqttSource}
