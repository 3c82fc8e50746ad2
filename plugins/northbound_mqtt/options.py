"""What can be set: how to reach a broker, for both directions, and what each direction adds."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

import pydantic
from pydantic import ByteSize, ConfigDict, Field, SecretStr

from northbound import ConfigPath, Duration
from northbound.mqtt import BrokerAddress, ProtocolError, check_name, parse_url
from northbound_mqtt.patterns import Map

Version = Literal["auto", "3.1", "3.1.1", "5"]
_TLS_ONLY = ("ca", "certificate", "private_key", "private_key_password", "server_name")


class BrokerOptions(pydantic.BaseModel):
    """How to reach a broker and sign in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="The broker: mqtt://host[:1883] or, with TLS, mqtts://host[:8883].")
    username: str | None = Field(None, description="User name. Default: the one in the URL.")
    password: SecretStr | None = Field(None, description="Password. Default: the one in the URL.")
    client_id: str | None = Field(
        None,
        min_length=1,
        max_length=65_535,
        description="Client id; of two connections with the same one the broker keeps the newer. "
        "Default: northbound-<name>.",
    )
    version: Version = Field(
        "auto", description="Version of the protocol. 'auto': 5, and 3.1.1 where the broker does not speak it."
    )
    keep_alive: Duration = Field(
        timedelta(seconds=60),
        le=timedelta(seconds=65_535),
        description="After so long without traffic a ping is sent. 0: never.",
    )
    ca: ConfigPath | None = Field(
        None,
        description="File of the CA certificates (PEM) that the broker's is checked against. Default: the system's.",
    )
    certificate: ConfigPath | None = Field(None, description="File of the client certificate and its chain (PEM).")
    private_key: ConfigPath | None = Field(
        None, description="File of the certificate's private key (PEM). Default: it is in the certificate's file."
    )
    private_key_password: SecretStr | None = Field(None, description="Password of the private key.")
    server_name: str | None = Field(
        None, min_length=1, description="Name the broker's certificate must have, and that is asked for (SNI)."
    )
    verify: bool = Field(
        True, description="false: believe any certificate. Whoever is in between can then read and change everything."
    )
    maximum_packet_size: ByteSize = Field(
        ByteSize(16 * 1024**2), ge=1024, le=268_435_460, description="What the broker may send at most in one packet."
    )
    connect_timeout: Duration = Field(
        timedelta(seconds=10),
        ge=timedelta(milliseconds=100),
        le=timedelta(seconds=40),
        description="How long connecting and signing in may take.",
    )
    ack_timeout: Duration = Field(
        timedelta(seconds=30),
        ge=timedelta(milliseconds=100),
        le=timedelta(seconds=100),
        description="How long the broker may take to acknowledge before the connection is given up.",
    )

    @pydantic.field_validator("url")
    @classmethod
    def _url(cls, value: str) -> str:
        parse_url(value)
        return value

    @pydantic.model_validator(mode="after")
    def _tls(self) -> BrokerOptions:
        if not self.address.tls:
            given = [name for name in _TLS_ONLY if getattr(self, name) is not None]
            if given or not self.verify:
                raise ValueError(f"{(given or ['verify'])[0]} is for TLS: write the URL with mqtts://")
        if self.private_key is not None and self.certificate is None:
            raise ValueError("private_key needs the certificate it belongs to")
        if self.private_key_password is not None and self.certificate is None:
            raise ValueError("private_key_password needs a certificate")
        signs_in = self.password is not None or self.address.password is not None
        if signs_in and (self.username or self.address.username) is None and self.version != "5":
            raise ValueError("a password needs a username beside it (only version 5 can do without)")
        return self

    @property
    def address(self) -> BrokerAddress:
        """The URL, taken apart."""
        return parse_url(self.url)


class ConnectorOptions(BrokerOptions):
    """Publishes to any MQTT broker."""

    qos: Literal[0, 1, 2] = Field(1, description="Quality of service. 0: nothing is acknowledged, and may be lost.")
    max_inflight: int = Field(
        1000, ge=1, le=65_000, description="How many messages may be unacknowledged; the broker may say less."
    )
    idempotency_property: str = Field(
        "id",
        max_length=100,
        description="User property (version 5) that carries the idempotency key. Empty: none is sent.",
    )
    content_type: bool = Field(False, description="true: say 'application/json' beside each message (version 5).")
    availability_topic: str | None = Field(
        None, description="Retained 'online' while connected, 'offline' otherwise, by the will where need be."
    )

    @pydantic.field_validator("availability_topic")
    @classmethod
    def _topic(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                check_name(value)
            except ProtocolError as error:
                raise ValueError(str(error)) from None
        return value


class SourceOptions(BrokerOptions):
    """Reads from any MQTT broker, by declared patterns of topics."""

    map: tuple[Map, ...] = Field(min_length=1, description="What topics and bodies mean. The first that fits counts.")
    qos: Literal[0, 1, 2] = Field(1, description="Quality of service of the subscriptions.")
    clean_start: bool = Field(False, description="true: the broker keeps nothing for us while we are away.")
    session_expiry: Duration = Field(
        timedelta(days=1), description="How long the broker keeps messages while we are away (version 5)."
    )
    max_unsettled: int = Field(
        2000, ge=1, le=65_000, description="How many messages are taken in before those in front are on disk."
    )
