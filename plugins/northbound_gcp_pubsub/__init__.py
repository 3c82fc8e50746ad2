"""The ``gcp-pubsub`` connector: Google Cloud Pub/Sub. Needs ``northbound[gcp]``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import northbound
from northbound_gcp_pubsub.connector import PubSubConnector
from northbound_gcp_pubsub.options import PubSubOptions

if any(find_spec(name) is None for name in ("google", "google.pubsub_v1")):
    # Looked for and not imported: the SDK takes half a second and 60 MB, and most services have no Pub/Sub configured.
    raise ModuleNotFoundError("google-cloud-pubsub is not installed", name="google.pubsub_v1")

__all__ = ["PubSubConnector", "PubSubOptions", "northbound_connectors"]


@northbound.hookimpl
def northbound_connectors() -> Mapping[str, type[northbound.Connector]]:
    """Provide the connector type ``gcp-pubsub``."""
    return {"gcp-pubsub": PubSubConnector}
