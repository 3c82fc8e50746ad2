"""The twin of Google Cloud with a certificate, and connectors that are configured for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trustme

from northbound import Outgoing
from northbound.config import ConnectorOptions
from northbound.loading import ConnectorInstance
from northbound.registry import Plugin
from northbound.testing.twins.google_cloud import EMAIL, TOPIC, GoogleCloud
from northbound_gcp_pubsub import PubSubConnector, PubSubOptions

__all__ = ["EMAIL", "TOPIC", "Cloud", "cloud", "instance", "opened", "outgoing"]


class Cloud(GoogleCloud):
    """Google's part of a test; ``options`` are those of its connectors."""

    def options(self, **changes) -> dict:
        found = self.settings() | {"connect_timeout": "5s"} | changes
        return {name: value for name, value in found.items() if value is not None}

    def connector(self, **changes) -> PubSubConnector:
        return PubSubConnector(PubSubOptions.model_validate(self.options(**changes)), name="gcp")

    @property
    def received(self) -> list[tuple[int, str, bytes]]:
        """What the oracle takes: (sequence, topic, payload), in the order the service took it."""
        return [
            (int(m.attributes["key"].rpartition("-")[2]), m.attributes["topic"], m.data) for m in self.topic.messages
        ]


@asynccontextmanager
async def cloud(folder: Path) -> AsyncIterator[Cloud]:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    issued = ca.issue_cert("127.0.0.1", "localhost")
    chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
    async with Cloud(folder, certificate=(issued.private_key_pem.bytes(), chain), ca=folder / "ca.pem") as made:
        yield made


@asynccontextmanager
async def opened(connector: PubSubConnector) -> AsyncIterator[PubSubConnector]:
    await connector.open()
    try:
        yield connector
    finally:
        await connector.close()


def outgoing(n: int, topic: str = "placeos/o/state/b/_/_/s/d/M/1/x", payload: bytes | None = None, **properties):
    """Message ``n`` as the engine hands it over."""
    beside = {"topic": topic, "kind": "state", "org": "o", "building": "b", **properties}
    return Outgoing(
        topic, b"%d" % n if payload is None else payload, "state", 1_000 + n, False, topic, f"store-{n}", beside
    )


def instance(settings: dict, name: str = "gcp", **common) -> ConnectorInstance:
    """A configured connector for ``tests.support.fakes.configuration``."""
    common.setdefault("retry", {"initial": "20ms", "maximum": "100ms", "jitter": 0})
    plugin = Plugin("connector", "gcp-pubsub", package="northbound", version="0", implementation=PubSubConnector)
    options = plugin.model.model_validate({"type": "gcp-pubsub", **settings, **common})
    assert isinstance(options, ConnectorOptions)
    return ConnectorInstance(name, plugin, options)
