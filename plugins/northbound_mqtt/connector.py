"""The ``mqtt`` connector."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

import pydantic

import northbound
from northbound import Credential, DeliveryError, NotConnected, Outgoing, Rejected, Unauthorised
from northbound.mqtt import Client, Properties, Publish, Will
from northbound_mqtt.advice import warnings
from northbound_mqtt.causes import likely_cause
from northbound_mqtt.connection import Connecting
from northbound_mqtt.options import ConnectorOptions
from northbound_mqtt.presets import PRESETS, summary
from northbound_mqtt.tokens import expiry

_NO_PROPERTIES: Final = Publish("t").properties
_OVERHEAD: Final = 16  # of a PUBLISH beside topic, payload and properties: sections 2.1 and 3.3, at the longest
_BESIDE: Final = 256  # room for that, the idempotency key and the content type where a provider counts all of it
_FAREWELL: Final = 2.0  # seconds for the last word


class MqttConnector(northbound.Connector):
    """Publishes to one MQTT broker; the acknowledgement is the broker's PUBACK or PUBCOMP."""

    Config: ClassVar[type[pydantic.BaseModel]] = ConnectorOptions
    config: ConnectorOptions
    limits = northbound.Limits(max_qos=2, batch_messages=200, batches_in_flight=4)
    presets: ClassVar[Mapping[str, str]] = {name: summary(preset) for name, preset in PRESETS.items()}

    def __init__(self, config: ConnectorOptions, *, name: str) -> None:
        super().__init__(config, name=name)
        known = config.provider_limits
        self._declared = type(self).limits.narrowed(**known)
        if self._declared.max_payload_bytes is not None and self._declared.payload_counts != "payload":
            self._declared = self._declared.narrowed(max_payload_bytes=self._declared.max_payload_bytes - _BESIDE)
        self.limits = self._declared
        self.default_topic = config.known.topic
        self.retained_kinds = config.known.retained
        self._connecting = Connecting(config, name, max_in_flight=known.get("max_in_flight"))
        self._client: Client | None = None
        self._qos: int = config.qos
        self._version = 5

    @property
    def destination(self) -> str:
        """The broker's address."""
        return self._connecting.where

    async def open(self) -> None:
        """Connect, take in the broker's limits, and say that we are there."""
        await self.close()
        config, will = self.config, None
        if config.availability_topic is not None:
            will = Will(config.availability_topic, b"offline", min(config.qos, 1), True)
        client = await self._connecting.connect(tell=self.tell, will=will, max_inflight=config.max_inflight)
        self._client = client
        limits = client.limits
        if limits is None:
            raise NotConnected("the broker accepted the connection and closed it at once")
        self._version = limits.version
        self._qos = min(config.qos, limits.maximum_qos)
        largest = limits.maximum_packet_size
        window = min(config.max_inflight, limits.receive_maximum, self._declared.max_in_flight or config.max_inflight)
        self.limits = self._declared.narrowed(
            max_payload_bytes=None if largest is None else max(1, largest - _OVERHEAD),
            payload_counts="payload" if largest is None else "payload+topic",
            max_qos=self._qos,
            retain="native" if limits.retain_available else "none",
            max_in_flight=window,
            keep_alive=(0, limits.keep_alive) if limits.keep_alive else None,
            # What is under way when the process dies is sent again: no more than keeps the broker's window filled.
            batch_messages=max(20, 2 * window),
        )
        await self._announce(client, b"online")

    async def send(self, batch: Sequence[Outgoing]) -> None:
        """Publish; returns when the broker has acknowledged every message."""
        client, qos = self._require(), self._qos
        if self._version == 5:
            beside = self._beside
            publishes = [Publish(m.topic, m.payload, qos, m.retain, False, 0, beside(m)) for m in batch]
        else:
            publishes = [Publish(m.topic, m.payload, qos, m.retain) for m in batch]
        await client.publish(publishes)

    def _beside(self, message: Outgoing) -> Properties:
        """Return what travels beside the payload."""
        user = tuple(message.properties.items()) if message.properties else ()
        name = self.config.idempotency_property
        if name:
            user = ((name, message.key), *user)
        if self.config.content_type and message.payload:
            return Properties(user=user, content_type="application/json")
        return Properties(user=user) if user else _NO_PROPERTIES

    def warnings(self) -> Sequence[tuple[str, str, str]]:
        """Return what a preset's provider makes of the options."""
        return warnings(self.config)

    def credentials(self) -> Sequence[Credential]:
        """Return the client certificate, a password that is a token, and the files the connection is made of."""
        config, found = self.config, []
        if config.certificate is not None:
            files = () if config.private_key is None else (config.private_key,)
            found.append(Credential.of_certificate("certificate", config.certificate, *files))
        if config.ca is not None:  # of a bundle the one that expires first may be of no interest
            found.append(Credential("CA certificates", files=(config.ca,)))
        password = config.login(config.address)[1]
        if password is not None and (expires := expiry(password)) is not None:
            found.append(Credential("token", expires))
        return found

    def explain(self, error: Exception) -> str | None:
        """Return the likely cause, for the provider of the preset where there is one."""
        return likely_cause(error, self.config)

    async def lost(self) -> None:
        """Wait until the broker or the network ends the connection."""
        await self._require().lost()

    async def close(self) -> None:
        """Say that we are gone, and leave so that no will is needed."""
        client, self._client = self._client, None
        if client is None:
            return
        if client.connected:
            self._connecting.left()
        try:
            with contextlib.suppress(DeliveryError, TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self._announce(client, b"offline")
        finally:
            await client.disconnect()

    async def _announce(self, client: Client, word: bytes) -> None:
        topic, limits = self.config.availability_topic, client.limits
        if topic is None or limits is None:
            return
        try:
            await client.publish([Publish(topic, word, min(self._qos, 1), limits.retain_available)])
        except Rejected as error:
            raise Unauthorised(f"the availability_topic is refused: {error}") from None

    def _require(self) -> Client:
        if self._client is None:
            raise NotConnected("the connection is not open")
        return self._client
