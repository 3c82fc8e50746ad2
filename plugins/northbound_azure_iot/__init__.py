"""The ``azure-iot`` connector: Azure IoT Hub, over MQTT 3.1.1 or MQTT over WebSocket.

Messages, twins and provisioning go through our own MQTT client; connection strings and tokens are the SDK's business
(docs/adr, "Azure's messages by our own client"). The SDK takes a quarter of a second to import, so that it is only
looked for here: without it this package does not load, and the registry shows how to install it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import northbound

if importlib.util.find_spec("azure.iot.device") is None:
    raise ModuleNotFoundError("No module named 'azure.iot.device'", name="azure.iot.device")

from northbound_azure_iot.bag import read_bag
from northbound_azure_iot.connector import AzureIotConnector
from northbound_azure_iot.options import ConnectorOptions, IdentityOptions
from northbound_azure_iot.packing import read_message

__all__ = [
    "AzureIotConnector",
    "ConnectorOptions",
    "IdentityOptions",
    "northbound_connectors",
    "read_bag",
    "read_message",
]


@northbound.hookimpl
def northbound_connectors() -> Mapping[str, type[northbound.Connector]]:
    """Provide the connector type ``azure-iot``."""
    return {"azure-iot": AzureIotConnector}
