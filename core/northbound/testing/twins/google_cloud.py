"""A whole Google Cloud for one bridge: a topic, a service account and its key file, a token endpoint, Pub/Sub.

    async with GoogleCloud(folder, certificate=(private_key, chain), ca=ca_file) as cloud:
        options = cloud.settings()      # what a ``gcp-pubsub`` connector is configured with

Needs ``northbound[gcp]``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, Self

from northbound.testing.twins.google_accounts import GoogleAccounts
from northbound.testing.twins.google_tokens import TokenEndpoint
from northbound.testing.twins.pubsub import PubSubTwin

TOPIC: Final = "projects/acme/topics/building"
EMAIL: Final = "bridge@acme.iam.gserviceaccount.com"


class GoogleCloud:
    """``certificate`` is (private key, chain) of Pub/Sub on 127.0.0.1, both PEM, and ``ca`` the file of its CA.

    ``twin`` is Pub/Sub, ``topic`` its one topic, ``accounts`` who may sign in, ``tokens`` the token endpoint. The key
    of the service account is at ``key_file`` in ``folder``; ``key`` is what it says.
    """

    def __init__(self, folder: Path, *, certificate: tuple[bytes, bytes], ca: Path) -> None:
        self.folder = folder
        self.ca_file = ca
        self.accounts = GoogleAccounts()
        self.tokens = TokenEndpoint(self.accounts)
        self.twin = PubSubTwin(self.accounts, certificate=certificate)
        self.topic = self.twin.create_topic(TOPIC)
        self.twin.grant(self.topic, EMAIL, "roles/pubsub.publisher")
        self.key_file = folder / "key.json"
        self.key = self.write_key()

    def write_key(self) -> dict[str, str]:
        """Replace the key file by one of a new key, as a rotation does; returns the key."""
        self.key = self.accounts.service_account(EMAIL, self.tokens.token_uri)
        fresh = self.key_file.with_suffix(".new")
        fresh.touch(0o600)
        fresh.write_text(json.dumps(self.key))
        fresh.replace(self.key_file)
        return self.key

    def settings(self) -> dict[str, str]:
        """Return the options of a ``gcp-pubsub`` connector that publishes here."""
        return {
            "pubsub_topic": TOPIC,
            "endpoint": self.twin.endpoint,
            "ca": str(self.ca_file),
            "credentials_file": str(self.key_file),
        }

    async def __aenter__(self) -> Self:
        self.tokens.__enter__()
        await self.twin.__aenter__()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        try:
            await self.twin.__aexit__()
        finally:
            self.tokens.__exit__()
