"""The ``gcp-pubsub`` connector."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

import pydantic

import northbound
from northbound import Credential, NotConnected, Outgoing, Rejected, Unauthorised
from northbound_gcp_pubsub.attributes import MAX_ATTRIBUTES, MAX_NAME_BYTES, MAX_VALUE_BYTES, Attributes
from northbound_gcp_pubsub.batcher import LANE_BYTES_PER_SECOND, Batcher
from northbound_gcp_pubsub.options import DEFAULT_ENDPOINT, MAX_REQUEST_BYTES, REQUEST_OVERHEAD, PubSubOptions

if TYPE_CHECKING:
    from northbound_gcp_pubsub.session import Session
    from northbound_gcp_pubsub.tokens import Tokens

_EMULATOR: Final = "PUBSUB_EMULATOR_HOST"
#: What the attributes that we add, and the framing of all, may weigh beside payload and properties.
_MESSAGE_OVERHEAD: Final = 1500


class PubSubConnector(northbound.Connector):
    """Publishes to one topic; the acknowledgement is the service's answer to the publish request."""

    Config: ClassVar[type[pydantic.BaseModel]] = PubSubOptions
    config: PubSubOptions
    carries_address: ClassVar[bool] = True
    limits = northbound.Limits(
        max_topic_bytes=MAX_VALUE_BYTES,  # it travels as an attribute
        reserved_prefixes=(),
        max_payload_bytes=MAX_REQUEST_BYTES - REQUEST_OVERHEAD - _MESSAGE_OVERHEAD,
        payload_counts="payload+properties",
        max_properties=MAX_ATTRIBUTES - 2,  # the time and the idempotency key are ours
        max_property_name_bytes=MAX_NAME_BYTES,
        max_property_value_bytes=MAX_VALUE_BYTES,
        retain="property",
        batch_messages=1000,
        batch_bytes=4_000_000,
        batches_in_flight=4,
        metering_bytes=1000,  # of a request, at the least: cloud.google.com/pubsub/pricing
    )

    def __init__(self, config: PubSubOptions, *, name: str) -> None:
        super().__init__(config, name=name)
        self._attributes = Attributes(config.ordering_keys, config.idempotency_attribute, config.attributes)
        self._tokens: Tokens | None = None
        self._session: Session | None = None
        self._batcher = self._new_batcher()
        self._permitted: bool | None = None

    @property
    def destination(self) -> str:
        """The endpoint and the topic."""
        return f"{self.config.emulator or self.config.endpoint}/{self.config.topic_name}"

    async def open(self) -> None:
        """Sign in and connect; the service has answered once when this returns."""
        await self.close()
        # The SDK is imported here, by a thread: it takes half a second.
        session = await asyncio.to_thread(importlib.import_module, "northbound_gcp_pubsub.session")
        config = self.config
        if config.emulator is None:
            await self._sign_in()
            if os.environ.get(_EMULATOR):
                self.tell(f"{_EMULATOR} is set in the environment and not used: write emulator to use it")
        self._session = session.Session(config, self._tokens)
        self.tell(f"connecting to {config.target}" + (", an emulator: no TLS, no sign-in" if config.emulator else ""))
        seconds = config.connect_timeout.total_seconds()
        self._permitted = await self._require().permitted(seconds)
        if config.ordering and config.target.startswith(f"{DEFAULT_ENDPOINT}:"):
            self.tell("the endpoint is global: order holds while one region takes all, so name the region's endpoint")
        self.tell("connected" if config.emulator else "connected, the token is accepted")

    async def _sign_in(self) -> None:
        tokens = importlib.import_module("northbound_gcp_pubsub.tokens")
        self._tokens = found = tokens.Tokens(self.config)
        path = self.config.credentials_path
        source = f" ({path})" if path is not None else ""
        await found.load()
        who = f" as {found.email}" if found.email else ""
        self.tell(f"signing in{who}: {found.kind}{source}")

    async def send(self, batch: Sequence[Outgoing]) -> None:
        """Publish; returns when the service has acknowledged every message."""
        self._require()
        await self._batcher.send([self._item(message) for message in batch])

    def _item(self, message: Outgoing) -> tuple[Outgoing, int, int] | Rejected:
        """Return a message with its lane and size, or why Pub/Sub would refuse it, and all that is in its request."""
        place = self._attributes.place(message)
        if place.problem is not None:
            return Rejected(place.problem)
        size = place.size + len(message.payload)
        if size > MAX_REQUEST_BYTES - REQUEST_OVERHEAD:
            return Rejected(f"about {size:,} bytes: Pub/Sub takes {MAX_REQUEST_BYTES:,} with the request around it")
        return message, place.lane, size

    async def _publish(self, lane: int, messages: Sequence[Outgoing]) -> None:
        place, own = self._attributes.place, self._attributes.own
        key = f"k-{lane}" if self.config.ordering else ""
        await self._require().publish([(place(m), m.payload, own(m)) for m in messages], key)

    async def lost(self) -> None:
        """Wait until the connection is lost."""
        await self._require().lost()

    async def probe(self) -> None:
        """Raise :class:`Unauthorised` where the service says that we may not publish."""
        if self._permitted is None:
            self.tell("whether publishing is allowed, the destination does not say")
        elif self._permitted:
            self.tell(f"publishing to {self.config.topic_name} is allowed")
        else:
            who = "the account that signs in" if self._tokens is None else self._tokens.principal
            raise Unauthorised(
                f"{who} may not publish to {self.config.topic_name}, or there is no such topic "
                "(create it, and grant roles/pubsub.publisher on it)"
            )

    def credentials(self) -> Sequence[Credential]:
        """Return the token, which is renewed by itself, and the file that the credentials stand in."""
        found: list[Credential] = []
        if self._tokens is not None and self._tokens.expires is not None:
            found.append(Credential("access token", self._tokens.expires, renewed=True))
        file = self.config.credentials_path
        if file is not None:
            found.append(Credential("credentials file", files=(file,)))
        if self.config.ca is not None:
            found.append(Credential("CA certificates", files=(self.config.ca,)))
        return found

    def gauges(self) -> Mapping[str, float]:
        """Return requests and messages acknowledged since the start, and requests under way."""
        batcher = self._batcher
        return {
            "requests": batcher.requests,
            "messages_per_request": batcher.messages / batcher.requests if batcher.requests else 0.0,
            "requests_under_way": batcher.under_way,
        }

    def explain(self, error: Exception) -> str | None:
        """Return the likely cause of an error of ``open`` or ``probe``."""
        answers = importlib.import_module("northbound_gcp_pubsub.answers")
        cause: str | None = answers.likely_cause(error)
        return cause

    async def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if self._tokens is not None:
            self._tokens.close()  # what it knows of the last token is kept, to be told
        if session is not None:
            await session.close()

    def _new_batcher(self) -> Batcher:
        config = self.config
        return Batcher(
            self._publish,
            config.ordering_keys,
            request_messages=config.request_messages,
            request_bytes=int(config.request_bytes),
            collect=config.collect.total_seconds(),
            rate=LANE_BYTES_PER_SECOND if config.ordering else None,
        )

    def _require(self) -> Session:
        if self._session is None:
            raise NotConnected("the connection is not open")
        return self._session
