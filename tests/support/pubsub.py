"""A Google Cloud of one topic: accounts, token endpoint and Pub/Sub twin, and connectors that are configured for it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trustme

from northbound import Outgoing
from northbound.config import ConnectorOptions
from northbound.loading import ConnectorInstance
from northbound.registry import Plugin
from northbound.testing.twins.google_accounts import GoogleAccounts
from northbound.testing.twins.google_tokens import TokenEndpoint
from northbound.testing.twins.pubsub import PubSubTwin
from northbound_gcp_pubsub import PubSubConnector, PubSubOptions

TOPIC = "projects/acme/topics/building"
EMAIL = "bridge@acme.iam.gserviceaccount.com"


class Cloud:
    """``twin``, ``accounts``, ``tokens`` (the endpoint), ``topic``, and files under ``folder``."""

    def __init__(self, folder: Path, accounts: GoogleAccounts, tokens: TokenEndpoint, ca: trustme.CA) -> None:
        self.folder, self.accounts, self.tokens = folder, accounts, tokens
        self.ca_file = folder / "ca.pem"
        ca.cert_pem.write_to_path(self.ca_file)
        issued = ca.issue_cert("127.0.0.1", "localhost")
        chain = b"".join(part.bytes() for part in issued.cert_chain_pems)
        self.twin = PubSubTwin(accounts, certificate=(issued.private_key_pem.bytes(), chain))
        self.topic = self.twin.create_topic(TOPIC)
        self.twin.grant(self.topic, EMAIL, "roles/pubsub.publisher")
        self.key_file = folder / "key.json"
        self.key = self.write_key()

    def write_key(self) -> dict:
        """Replace the key file by one of a new key, as a rotation does; returns the key."""
        self.key = self.accounts.service_account(EMAIL, self.tokens.token_uri)
        fresh = self.folder / "key.json.new"
        fresh.write_text(json.dumps(self.key))
        fresh.replace(self.key_file)
        return self.key

    def settings(self, **changes) -> dict:
        base = {"pubsub_topic": TOPIC, "endpoint": self.twin.endpoint, "ca": str(self.ca_file),
                "credentials_file": str(self.key_file), "connect_timeout": "5s"}  # fmt: skip
        return {name: value for name, value in (base | changes).items() if value is not None}

    def connector(self, **changes) -> PubSubConnector:
        return PubSubConnector(PubSubOptions.model_validate(self.settings(**changes)), name="gcp")

    @property
    def received(self) -> list[tuple[int, str, bytes]]:
        """What the oracle takes: (sequence, topic, payload), in the order the service took it."""
        return [
            (int(m.attributes["key"].rpartition("-")[2]), m.attributes["topic"], m.data) for m in self.topic.messages
        ]


@asynccontextmanager
async def cloud(folder: Path) -> AsyncIterator[Cloud]:
    accounts = GoogleAccounts()
    ca = trustme.CA()
    with TokenEndpoint(accounts) as tokens:
        made = Cloud(folder, accounts, tokens, ca)
        async with made.twin:
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
