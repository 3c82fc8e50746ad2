"""What can be set for an ``http`` source."""

from __future__ import annotations

from datetime import timedelta

import pydantic
from pydantic import ByteSize, ConfigDict, Field, SecretStr

from northbound import ConfigPath, Duration
from northbound.hosting import ListenAddress, ListenAddresses

_SHORTEST_TOKEN = 16


class Options(pydantic.BaseModel):
    """An HTTP server that takes events as JSON Lines at POST /api/events."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: ListenAddresses = Field(
        ("127.0.0.1:8080",), min_length=1, max_length=16, description="Where to listen: host:port, or several."
    )
    on_api: bool = Field(
        False,
        description="true: served where [api] listens; 'listen' and the keys of TLS do not count.",
    )
    token: SecretStr | None = Field(
        None, description="What clients send as 'Authorization: Bearer'. Required unless only this machine can connect."
    )
    certificate: ConfigPath | None = Field(None, description="PEM file of the certificate and its chain, for TLS.")
    private_key: ConfigPath | None = Field(None, description="PEM file of the certificate's private key.")
    max_body: ByteSize = Field(
        ByteSize(8 * 1024**2), ge=1024, le=256 * 1024**2, description="A larger request is refused (413)."
    )
    max_line: ByteSize = Field(
        ByteSize(1024**2), ge=256, le=256 * 1024**2, description="A longer line is refused, and the rest is taken."
    )
    max_events_per_second: float | None = Field(
        None, gt=0, description="Lines a second over all clients; beyond it the answer is 429. Default: no bound."
    )
    burst: int | None = Field(
        None, ge=1, description="Lines at once before the rate counts. Default: what comes in two seconds."
    )
    max_concurrent: int = Field(16, ge=1, le=1000, description="Requests at a time; beyond it the answer is 503.")
    max_connections: int = Field(256, ge=1, le=10_000, description="Open connections; beyond it the answer is 503.")
    request_timeout: Duration = Field(
        timedelta(seconds=30),
        ge=timedelta(milliseconds=100),
        le=timedelta(hours=1),
        description="How long a client may take for its headers, and again for its body (408).",
    )
    commit_timeout: Duration = Field(
        timedelta(seconds=10),
        ge=timedelta(milliseconds=10),
        le=timedelta(minutes=10),
        description="How long the store may take before the answer is 503.",
    )

    @pydantic.field_validator("token")
    @classmethod
    def _long_enough(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value().strip()) < _SHORTEST_TOKEN:
            raise ValueError(f"a token has at least {_SHORTEST_TOKEN} characters; 'openssl rand -hex 32' makes one")
        return token

    @pydantic.model_validator(mode="after")
    def _safe(self) -> Options:
        if self.on_api and self.token is None:
            raise ValueError("set a token: on_api lets everybody post who reaches the API")
        if self.token is None and not all(address.loopback for address in self.addresses):
            raise ValueError("set a token: others than this machine can connect to where it listens")
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key go together: set both or neither")
        if self.burst is not None and self.max_events_per_second is None:
            raise ValueError("burst goes with max_events_per_second: set it too")
        return self

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """Where to listen."""
        return tuple(map(ListenAddress.parse, self.listen))
