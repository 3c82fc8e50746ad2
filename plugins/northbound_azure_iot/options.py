"""What can be set: who signs in, how the hub is reached, and what goes out."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final, Literal, NamedTuple

import pydantic
from pydantic import ByteSize, ConfigDict, Field, SecretStr

from northbound import ConfigPath, Duration
from northbound.mqtt import ProxyAddress, parse_pin, parse_proxy
from northbound_azure_iot.tokens import check_key, parse_connection_string

Tier = Literal["F1", "B1", "B2", "B3", "S1", "S2", "S3"]


class TierFacts(NamedTuple):
    """Per unit: messages a day; sends a second; and the size in which a message is metered."""

    per_day: int
    per_second: float
    least_per_second: float
    chunk: int


#: azure.microsoft.com/pricing/details/iot-hub (a day, chunk) and iot-hub-devguide-quotas-throttling (a second): "Higher
#: of 100 send operations/sec or 12 send operations/sec/unit" for F1, B1 and S1.
TIERS: Final[dict[Tier, TierFacts]] = {
    "F1": TierFacts(8_000, 12, 100, 512),
    "B1": TierFacts(400_000, 12, 100, 4096),
    "S1": TierFacts(400_000, 12, 100, 4096),
    "B2": TierFacts(6_000_000, 120, 120, 4096),
    "S2": TierFacts(6_000_000, 120, 120, 4096),
    "B3": TierFacts(300_000_000, 6000, 6000, 4096),
    "S3": TierFacts(300_000_000, 6000, 6000, 4096),
}

#: "up to 128 characters long, of ASCII 7-bit alphanumeric characters" and these (iot-hub-devguide-identity-registry);
#: the "+" and "#" that it allows too can be in no MQTT topic.
_DEVICE_ID = r"^[A-Za-z0-9\-.%_*?!(),:=@$']{1,128}$"
#: "alphanumeric, lowercase string and may contain hyphens" (iot-dps concepts-service, with . _ : since 2021).
_REGISTRATION_ID = r"^[a-z0-9]([a-z0-9\-._:]{0,126}[a-z0-9])?$"
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
#: iot-mqtt-connect-to-iot-hub: "The maximum client keep-alive value you can set is 1767 / 1.5 = 1177 seconds".
LONGEST_KEEP_ALIVE: Final = 1177
_KEYS: Final = ("symmetric_key", "shared_access_signature", "certificate")


class IdentityOptions(pydantic.BaseModel):
    """One device or module: a connection string, or a device with a key or certificate, or a DPS registration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection_string: SecretStr | None = Field(
        None, description="What the portal shows for the device: HostName=…;DeviceId=…;SharedAccessKey=…"
    )
    device_id: str | None = Field(None, pattern=_DEVICE_ID, description="The device, where there is no such string.")
    module_id: str | None = Field(None, pattern=_DEVICE_ID, description="A module of that device.")
    symmetric_key: SecretStr | None = Field(None, description="Key of the device, module or enrolment (Base64).")
    shared_access_signature: SecretStr | None = Field(
        None, description="A token that somebody else made. It is not renewed: the connection ends with it."
    )
    certificate: ConfigPath | None = Field(None, description="File of the client certificate and its chain (PEM).")
    private_key: ConfigPath | None = Field(
        None, description="File of its private key (PEM). Default: it is in the certificate's file."
    )
    private_key_password: SecretStr | None = Field(None, description="Password of the private key.")
    registration_id: str | None = Field(
        None,
        pattern=_REGISTRATION_ID,
        description="Be provisioned (DPS) under this id; hub and device come from there.",
    )

    @pydantic.field_validator("connection_string")
    @classmethod
    def _connection_string(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_connection_string(value.get_secret_value())
        return value

    @pydantic.field_validator("symmetric_key")
    @classmethod
    def _symmetric_key(cls, value: SecretStr | None) -> SecretStr | None:
        return _checked_key(value)

    @pydantic.field_validator("shared_access_signature")
    @classmethod
    def _shared_access_signature(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith("SharedAccessSignature sr="):
            raise ValueError("a token begins with 'SharedAccessSignature sr='")
        return value

    @property
    def given(self) -> list[str]:
        """The names of what is set."""
        return [name for name in IdentityOptions.model_fields if getattr(self, name) is not None]


class ConnectorOptions(IdentityOptions):
    """Publishes to an Azure IoT Hub."""

    identities: tuple[IdentityOptions, ...] = Field(
        (),
        max_length=100,
        description="Several devices, each with a connection of its own: topics are spread over them, always the same "
        "topic over the same device. Instead of the keys above.",
    )
    host: str | None = Field(None, description="The hub, such as acme.azure-devices.net, where no string says it.")
    id_scope: str | None = Field(
        None, pattern=r"^[A-Za-z0-9]{1,32}$", description="ID scope of the provisioning service (DPS)."
    )
    group_key: SecretStr | None = Field(
        None, description="Key of an enrolment group (Base64): that of a registration is derived from it."
    )
    provisioning_host: str = Field(
        "global.azure-devices-provisioning.net", description="The provisioning service's endpoint."
    )
    provisioning_port: int | None = Field(None, ge=1, le=65_535, description="Its port. Default: as for the hub.")
    remember: ConfigPath | None = Field(
        None,
        description="File that keeps what provisioning assigned and the day's count over a restart. "
        "Default: neither is kept.",
    )
    transport: Literal["mqtt", "websocket"] = Field("mqtt", description="MQTT, or MQTT over WebSocket.")
    port: int | None = Field(None, ge=1, le=65_535, description="Default: 8883, or 443 for WebSocket.")
    gateway_host: str | None = Field(None, description="Connect to this gateway (IoT Edge) instead of the hub.")
    ca: ConfigPath | None = Field(
        None, description="File of the CA certificates (PEM) the server's is checked against. Default: the system's."
    )
    pins: tuple[str, ...] = Field(
        (), description="'sha256:…' of certificates or public keys, one of which the server must show, besides."
    )
    proxy: SecretStr | None = Field(
        None, description="Proxy to go through: http://[user:password@]host:port or socks5://…"
    )
    tier: Tier = Field("S1", description="Edition of the hub: its rate and the size in which it meters follow from it.")
    units: int = Field(1, ge=1, le=200, description="How many units of that edition the hub has.")
    daily_budget: int | None = Field(
        None, ge=1, description="Send at most so many metered messages a day (UTC); the rest waits for the next day."
    )
    batch: ByteSize | None = Field(
        None,
        ge=512,
        le=256 * 1024,
        description="Send many states as one message of at most this size, such as '4 KiB'. Default: one message each.",
    )
    batch_wait: Duration = Field(
        timedelta(seconds=1), le=timedelta(seconds=60), description="How long states are gathered for a batch."
    )
    metadata: Literal["message", "twin", "both"] = Field(
        "message", description="Where metadata goes: into messages, the device twin's reported properties, or both."
    )
    token_lifetime: Duration = Field(
        timedelta(hours=1),
        ge=timedelta(seconds=5),
        le=timedelta(days=365),
        description="How long a token holds; it is renewed in time.",
    )
    keep_alive: Duration = Field(
        timedelta(seconds=60),
        ge=timedelta(seconds=1),
        le=timedelta(seconds=LONGEST_KEEP_ALIVE),
        description="After so long without traffic a ping is sent.",
    )
    max_inflight: int = Field(100, ge=1, le=1000, description="How many messages of a device may be unacknowledged.")
    connect_timeout: Duration = Field(
        timedelta(seconds=15),
        ge=timedelta(milliseconds=100),
        le=timedelta(seconds=40),
        description="How long connecting and signing in may take.",
    )
    ack_timeout: Duration = Field(
        timedelta(seconds=30),
        ge=timedelta(milliseconds=100),
        le=timedelta(seconds=60),
        description="How long the hub may take to acknowledge before the connection is given up.",
    )

    @pydantic.field_validator("group_key")
    @classmethod
    def _group_key(cls, value: SecretStr | None) -> SecretStr | None:
        return _checked_key(value)

    @pydantic.field_validator("host", "gateway_host", "provisioning_host")
    @classmethod
    def _host(cls, value: str | None) -> str | None:
        if value is not None and not _HOST.fullmatch(value):
            raise ValueError("write a host name alone, without a scheme, port or path")
        return value

    @pydantic.field_validator("pins")
    @classmethod
    def _pins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse_pin(text)
        return value

    @pydantic.field_validator("proxy")
    @classmethod
    def _proxy(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_proxy(value.get_secret_value())
        return value

    @pydantic.model_validator(mode="after")
    def _whole(self) -> ConnectorOptions:
        if self.identities and self.given:
            raise ValueError(f"{self.given[0]} belongs into one of the identities, since there are some")
        for identity in self.all_identities:
            self._check(identity)
        if self.metadata != "message" and self.tier.startswith("B"):
            raise ValueError("the basic tier has no device twins: metadata = 'message'")
        return self

    def _check(self, identity: IdentityOptions) -> None:
        """Say what is missing or too much; ``ValueError`` in words."""
        given = set(identity.given)
        if "private_key" in given and "certificate" not in given:
            raise ValueError("private_key needs the certificate it belongs to")
        if "private_key_password" in given and "certificate" not in given:
            raise ValueError("private_key_password needs a certificate")
        ways = [name for name in _KEYS if name in given]
        if "connection_string" in given:
            self._check_connection_string(identity, given)
        elif "registration_id" in given:
            if not self.id_scope:
                raise ValueError("registration_id needs the id_scope of the provisioning service")
            if extra := given & {"device_id", "module_id", "shared_access_signature"}:
                raise ValueError(f"{min(extra)} is not for a device that is provisioned (registration_id)")
            if not ways and self.group_key is None:
                raise ValueError("a registration needs its symmetric_key, the group_key or a certificate")
        elif not identity.device_id or not self.host:
            raise ValueError("write a connection_string, or host and device_id, or id_scope and registration_id")
        elif not ways:
            raise ValueError("a device needs its symmetric_key, a certificate or a shared_access_signature")
        if len(ways) > 1:
            raise ValueError(f"{ways[0]} and {ways[1]}: a device signs in by one of them")

    def _check_connection_string(self, identity: IdentityOptions, given: set[str]) -> None:
        assert identity.connection_string is not None  # noqa: S101 - the caller looked
        found = parse_connection_string(identity.connection_string.get_secret_value())
        extra = given & {"device_id", "module_id", "symmetric_key", "registration_id"}
        if extra:
            raise ValueError(f"{min(extra)} stands beside the connection_string, which says it all")
        if found.key is not None and given & set(_KEYS):
            raise ValueError("the connection_string has a key: no certificate or token beside it")
        if found.key is None and not given & set(_KEYS):
            raise ValueError("the connection_string says x509: it needs the certificate")
        if self.host is not None and self.host.lower() != found.host.lower():
            raise ValueError("host is another than the connection_string's: leave it out")

    @property
    def all_identities(self) -> tuple[IdentityOptions, ...]:
        """Those of ``identities``, or the one that the options themselves are."""
        return self.identities or (self,)

    @property
    def proxy_address(self) -> ProxyAddress | None:
        """The proxy's URL, taken apart."""
        return None if self.proxy is None else parse_proxy(self.proxy.get_secret_value())

    @property
    def sends_per_second(self) -> float:
        """What the hub takes, from all its devices together."""
        facts = TIERS[self.tier]
        return max(facts.least_per_second, facts.per_second * self.units)


def _checked_key(value: SecretStr | None) -> SecretStr | None:
    if value is not None:
        check_key(value.get_secret_value())
    return value
