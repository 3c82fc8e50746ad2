"""The ``aws-iot`` connector: AWS IoT Core over MQTT 5, by the AWS SDK."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import northbound
from northbound_aws_iot.connector import AwsIotConnector
from northbound_aws_iot.options import ConnectorOptions

if find_spec("awscrt") is None:
    # Found here, so that a missing SDK is a row with a hint; imported when it is used, since that takes 100 ms.
    raise ModuleNotFoundError("the AWS SDK (awsiotsdk) is not installed", name="awscrt")

__all__ = ["AwsIotConnector", "ConnectorOptions", "northbound_connectors"]


@northbound.hookimpl
def northbound_connectors() -> Mapping[str, type[northbound.Connector]]:
    """Provide the connector type ``aws-iot``."""
    return {"aws-iot": AwsIotConnector}
