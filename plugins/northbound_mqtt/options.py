"""What can be set: how to reach a broker, for both directions, and what each direction adds."""

from __future__ import annotations

import ipaddress
import os
import re
from datetime import timedelta
from typing import Annotated, Any, Literal

import pydantic
from pydantic import ByteSize, ConfigDict, Field, SecretStr

from northbound import ConfigPath, Duration
from northbound.mqtt import BrokerAddress, ProtocolError, ProxyAddress, check_name, parse_pin, parse_proxy, parse_url
from northbound_mqtt.patterns import Map
from northbound_mqtt.presets import PRESETS, Name, Preset, Version

_TLS_ONLY = ("ca", "certificate", "private_key", "private_key_password", "server_name", "pin")
_NO_PRESET = Preset(about="any broker")
_STRICT = ConfigDict(extra="forbid", frozen=True)


def _url_is_optional(schema: dict[str, Any]) -> None:
    schema["required"] = [name for name in schema.get("required", ()) if name != "url"]


class BrokerOptions(pydantic.BaseModel):
    """How to reach a broker and sign in."""

    # The schema cannot say that a preset may read the URL from the environment.
    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_url_is_optional)

    preset: Name | None = Field(
        None,
        description="A provider whose ports, limits and demands are known: they become the defaults, and are kept.",
    )
    url: str | Annotated[tuple[str, ...], Field(min_length=1, max_length=16)] = Field(
        description="The broker: mqtt://host[:1883] or, with TLS, mqtts://host[:8883]; ws://host[:80][/mqtt] or "
        "wss://host[:443][/mqtt] over WebSocket; with a preset the host alone. Of several, the first that answers is "
        "used for as long as it does.",
    )
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
        "auto",
        description="Version of the protocol. 'auto': 5, and 3.1.1 where the broker does not speak it. "
        "Default: the preset's.",
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
    pin: Annotated[tuple[str, ...], Field(min_length=1, max_length=16)] | None = Field(
        None,
        description="Digests 'sha256:…' of the broker's certificate or of its public key, in hex or Base64. "
        "One must fit, beside what is verified anyway; nothing is sent before.",
    )
    verify: bool = Field(
        True, description="false: believe any certificate. Whoever is in between can then read and change everything."
    )
    proxy: str | None = Field(
        None,
        description="Proxy: http://[user:password@]host[:3128] (CONNECT) or socks5://[user:password@]host[:1080]. "
        "Default: none; the environment is not asked.",
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

    @pydantic.model_validator(mode="before")
    @classmethod
    def _from_the_environment(cls, values: Any) -> Any:
        """Take the URL from where the preset's provider puts it."""
        preset = PRESETS.get(str(values.get("preset"))) if isinstance(values, dict) else None
        if preset is None or preset.variable is None or "url" in values:
            return values
        found = os.environ.get(preset.variable)
        if not found:
            raise ValueError(f"there is no url, and the environment variable {preset.variable} is not set")
        return {**values, "url": found}

    @pydantic.field_validator("proxy")
    @classmethod
    def _proxy(cls, value: str | None) -> str | None:
        if value is not None:
            parse_proxy(value)
        return value

    @pydantic.field_validator("pin")
    @classmethod
    def _pin(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for text in value or ():
            parse_pin(text)
        return value

    @pydantic.model_validator(mode="after")
    def _reachable(self) -> BrokerOptions:
        addresses = self.addresses
        if len({address.tls for address in addresses}) > 1:
            raise ValueError("url: with TLS, or without: a broker that is down must not take the encryption with it")
        if not self.address.tls:
            given = [name for name in _TLS_ONLY if getattr(self, name) is not None]
            if given or not self.verify:
                raise ValueError(f"{(given or ['verify'])[0]} is for TLS: write the URL with mqtts:// or wss://")
        if self.private_key is not None and self.certificate is None:
            raise ValueError("private_key needs the certificate it belongs to")
        if self.private_key_password is not None and self.certificate is None:
            raise ValueError("private_key_password needs a certificate")
        for address in addresses:
            username, password = self.login(address)
            if password is not None and username is None and self.protocol != "5":
                raise ValueError("a password needs a username beside it (only version 5 can do without)")
        return self

    @pydantic.model_validator(mode="after")
    def _as_the_preset_wants(self) -> BrokerOptions:
        """Refuse what the provider would refuse."""
        known, name = self.known, self.preset or "MQTT"
        for address in self.addresses:
            if address.scheme not in known.schemes:
                raise ValueError(f"{name} takes {' or '.join(f'{scheme}://' for scheme in known.schemes)}")
            if known.sni and self.server_name is None and _is_ip(address.host):
                raise ValueError(
                    f"{name} tells its customers apart by the host's name (SNI): write it, not its address"
                )
            given = dict(zip(("username", "password"), self.login(address), strict=True))
            missing = [need for need in known.needs if given.get(need, getattr(self, need)) is None]
            if missing:
                raise ValueError(f"{name} wants {' and '.join(known.needs)}: {' and '.join(missing)} is missing")
        if self.client_id is not None and len(self.client_id.encode()) > known.client_id_bytes:
            raise ValueError(f"{name} takes client ids of {known.client_id_bytes:,} bytes at most")
        shortest, longest = known.limits.get("keep_alive", (0, 65_535))
        if not shortest <= self.keep_alive.total_seconds() <= longest:
            raise ValueError(f"{name} takes a keep_alive of {shortest} to {longest} seconds")
        return self

    @property
    def known(self) -> Preset:
        """What is known of the provider."""
        return _NO_PRESET if self.preset is None else PRESETS[self.preset]

    @property
    def protocol(self) -> Version:
        """The version in force."""
        return self.version if "version" in self.model_fields_set else self.known.version

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs, the preferred one first."""
        return (self.url,) if isinstance(self.url, str) else self.url

    @property
    def addresses(self) -> tuple[BrokerAddress, ...]:
        """The URLs, taken apart."""
        return tuple(map(self._parsed, self.urls))

    @property
    def address(self) -> BrokerAddress:
        """The first URL, taken apart."""
        return self.addresses[0]

    def _parsed(self, url: str) -> BrokerAddress:
        preset = self.known
        if "://" not in url and self.preset is not None:
            url = f"{preset.schemes[0]}://{url}"
        if preset.variable is not None:  # CloudMQTT's URLs could end with a topic, for its own examples
            url = re.sub(r"^((?:mqtts?|tcp|ssl)://[^/?#]+)/[^?#]*$", r"\1", url)
        return parse_url(url, preset.ports)

    def login(self, address: BrokerAddress) -> tuple[str | None, str | None]:
        """Return user name and password for one of the addresses."""
        password = self.password.get_secret_value() if self.password is not None else address.password
        return (self.username if self.username is not None else address.username), password

    @property
    def through(self) -> ProxyAddress | None:
        """The proxy, taken apart."""
        return None if self.proxy is None else parse_proxy(self.proxy)

    @property
    def pins(self) -> tuple[bytes, ...]:
        """The digests of which one must fit."""
        return tuple(map(parse_pin, self.pin or ()))


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


_Count = Annotated[int, Field(gt=0)]
_TopicBytes = Annotated[int, Field(gt=0, le=65_535)]
_Bytes = Annotated[ByteSize, Field(ge=1024)]
_Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class PresetLimits(pydantic.BaseModel):
    """Limits that replace the preset's, in either direction: where a plan allows more, or a page was wrong."""

    model_config = _STRICT

    max_topic_levels: _Count | Literal["none"] | None = Field(None, description="Levels a topic may have.")
    max_topic_bytes: _TopicBytes | Literal["none"] | None = Field(None, description="Bytes a topic may have.")
    max_payload_bytes: _Bytes | Literal["none"] | None = Field(None, description="What a message may weigh.")
    messages_per_second: _Rate | Literal["none"] | None = Field(None, description="Messages a second.")
    bytes_per_second: _Bytes | Literal["none"] | None = Field(None, description="Bytes of topic and payload a second.")
    max_in_flight: _Count | Literal["none"] | None = Field(None, description="Messages not yet acknowledged.")


class ConnectorOptions(BrokerOptions):
    """Publishes to any MQTT broker."""

    preset_limits: PresetLimits = Field(
        PresetLimits(), description="Limits in place of the preset's; 'none' for no bound."
    )
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

    @pydantic.model_validator(mode="after")
    def _publishable(self) -> ConnectorOptions:
        most = self.known.limits.get("max_qos", 2)
        if self.qos > most:
            raise ValueError(f"{self.preset} takes a qos of {most} at most")
        if self.availability_topic is not None:
            self._check_availability(self.availability_topic)
        return self

    def _check_availability(self, topic: str) -> None:
        limits = self.provider_limits
        levels, size = limits.get("max_topic_levels"), limits.get("max_topic_bytes")
        if levels is not None and topic.count("/") >= levels:
            raise ValueError(f"the availability_topic has more than {levels} levels")
        if size is not None and len(topic.encode()) > size:
            raise ValueError(f"the availability_topic has more than {size} bytes")
        for character in limits.get("escaped", ""):
            if character in topic:
                raise ValueError(f"{self.preset} does not take {character!r} in the availability_topic")

    @property
    def provider_limits(self) -> dict[str, Any]:
        """What is known of the provider's limits, after what was replaced; fields of ``northbound.Limits``."""
        replaced = self.preset_limits.model_dump(exclude_none=True)
        limits = {**self.known.limits, **replaced}
        return {name: value for name, value in limits.items() if value != "none"}


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

    @pydantic.model_validator(mode="after")
    def _subscribable(self) -> SourceOptions:
        topics = {spec.topic for spec in self.map}
        most, levels = self.known.subscriptions, self.known.limits.get("max_topic_levels")
        if most is not None and len(topics) > most:
            raise ValueError(f"{self.preset} takes {most} subscriptions from one client: map has {len(topics)} topics")
        for topic in topics:
            if levels is not None and topic.count("/") >= levels:
                raise ValueError(f"{self.preset} takes subscriptions of {levels} levels: {topic[:200]!r} has more")
        return self
