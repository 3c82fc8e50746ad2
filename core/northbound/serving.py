"""What can be set under ``[api]``: where the service listens, and for whom."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic import ByteSize, ConfigDict, Field

from northbound.admission import AccessOptions, AuthOptions
from northbound.fields import ConfigPath, Duration, Size
from northbound.hosting import ListenAddress, ListenAddresses
from northbound.mqtt_options import MqttOptions

#: What somebody publishes joins the live tree; ``"north"``: it is also stored and delivered, like a source's.
Publish = Literal["live", "north"]


def _network(text: str) -> str:
    """Return the network: uvicorn takes none that is written as an address within it (``10.0.0.5/8``)."""
    return str(ipaddress.ip_network(text, strict=False))


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or text != f"{parts.scheme}://{parts.netloc}".lower():
        raise ValueError("write an origin as browsers send it: 'https://apps.example.com', lower case, no path")
    return text


class ApiOptions(pydantic.BaseModel):
    """The live tree for applications: MQTT over WebSocket, HTTP, the dashboard. Without this table there is none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: ListenAddresses = Field(
        ("127.0.0.1:8080",), max_length=16, description="Where to listen: host:port, or several."
    )
    certificate: ConfigPath | None = Field(None, description="PEM file of the certificate and its chain, for TLS.")
    private_key: ConfigPath | None = Field(None, description="PEM file of the certificate's private key.")
    mqtt_listen: ListenAddresses = Field(
        (), max_length=16, description="Where to listen for MQTT without WebSocket; TLS where there is a certificate."
    )
    trusted_proxies: tuple[Annotated[str, pydantic.AfterValidator(_network)], ...] = Field(
        (), max_length=256, description="Proxies (addresses or networks) whose X-Forwarded-For and -Proto are believed."
    )
    origins: tuple[Annotated[str, pydantic.AfterValidator(_origin)], ...] = Field(
        (), max_length=256, description="Other origins whose pages may connect. The dashboard's own always may."
    )
    publish: Publish = Field(
        "live",
        description="What becomes of what an admin publishes. 'live': the live tree; 'north': it is delivered, too.",
    )
    open_metrics: bool = Field(False, description="true: /metrics needs no token.")
    stalled_after: Duration = Field(
        timedelta(minutes=5),
        ge=timedelta(seconds=1),
        description="/healthz says a connector stalls when a message has waited so long and nothing was acknowledged.",
    )
    max_connections: int = Field(
        5000, ge=1, le=1_000_000, description="Open connections, WebSockets included; beyond it the answer is 503."
    )
    max_body: Size = Field(
        ByteSize(1024**2), ge=1024, le=64 * 1024**2, description="A larger request is refused (413)."
    )
    max_streams: int = Field(
        100, ge=1, le=10_000, description="Streams of server-sent events at a time; beyond it the answer is 503."
    )
    requests_per_second: float = Field(
        50, gt=0, allow_inf_nan=False, description="Requests a second of one client; beyond it the answer is 429."
    )
    request_timeout: Duration = Field(
        timedelta(seconds=30),
        ge=timedelta(milliseconds=100),
        le=timedelta(hours=1),
        description="How long a client may take for its headers, and again for its body (408).",
    )

    auth: AuthOptions = Field(default_factory=AuthOptions)
    access: AccessOptions = Field(default_factory=AccessOptions)
    mqtt: MqttOptions = Field(default_factory=MqttOptions)

    @pydantic.field_validator("listen")
    @classmethod
    def _somewhere(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one address, or leave the table [api] out")
        return value

    @pydantic.model_validator(mode="after")
    def _safe(self) -> ApiOptions:
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key go together: set both or neither")
        for rule in self.access.rules:
            if unknown := set(rule.issuers or ()) - set(self.auth.issuers):
                raise ValueError(f"access.rules: there is no [api.auth.issuers.{min(unknown)}]")
        return self

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """Where to listen."""
        return tuple(map(ListenAddress.parse, self.listen))

    @property
    def mqtt_addresses(self) -> tuple[ListenAddress, ...]:
        """Where to listen for MQTT alone."""
        return tuple(map(ListenAddress.parse, self.mqtt_listen))
