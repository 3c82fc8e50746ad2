"""What can be set."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import Final, Literal
from urllib.parse import urlsplit

import pydantic
from pydantic import ConfigDict, Field, SecretStr

from northbound import ConfigPath, Duration

Auth = Literal["x509", "pkcs11", "sigv4", "custom"]

CLIENT_ID_BYTES: Final = 128  # quota "client ID size"
_AWS_HOST: Final = re.compile(r"[^.]+(\.ats)?\.iot\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?")
_RULE: Final = re.compile(r"[A-Za-z0-9_]{1,128}")
_NAME: Final = re.compile(r"[A-Za-z0-9:_-]{1,128}")
_BELONGS: Final[dict[str, Auth]] = {
    "certificate_pem": "x509",
    "private_key": "x509",
    "private_key_pem": "x509",
    "pkcs11_library": "pkcs11",
    "pkcs11_pin": "pkcs11",
    "pkcs11_slot": "pkcs11",
    "pkcs11_token": "pkcs11",
    "pkcs11_key": "pkcs11",
    "region": "sigv4",
    "profile": "sigv4",
    "access_key_id": "sigv4",
    "secret_access_key": "sigv4",
    "session_token": "sigv4",
    "authorizer": "custom",
    "username": "custom",
    "password": "custom",
    "token_key": "custom",
    "token": "custom",
    "token_signature": "custom",
}


class SignInOptions(pydantic.BaseModel):
    """Where to, and how to sign in."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    endpoint: str = Field(
        description="The account's endpoint: 'aws iot describe-endpoint --endpoint-type iot:Data-ATS'."
    )
    auth: Auth = Field(
        "x509",
        description="'x509': a certificate and its key. 'pkcs11': the key is in a hardware module. "
        "'sigv4': AWS credentials, over WebSocket. 'custom': a custom authorizer.",
    )
    certificate: ConfigPath | None = Field(None, description="File of the client certificate (PEM).")
    private_key: ConfigPath | None = Field(None, description="File of the certificate's private key (PEM).")
    certificate_pem: SecretStr | None = Field(None, description="The client certificate itself, for one in a secret.")
    private_key_pem: SecretStr | None = Field(None, description="The private key itself, for one in a secret.")
    pkcs11_library: ConfigPath | None = Field(None, description="With 'pkcs11': the module's library (.so).")
    pkcs11_pin: SecretStr | None = Field(None, description="User PIN of the token.")
    pkcs11_slot: int | None = Field(None, ge=0, description="Slot of the token. Default: found by its label.")
    pkcs11_token: str | None = Field(None, min_length=1, description="Label of the token.")
    pkcs11_key: str | None = Field(None, min_length=1, description="Label of the private key. Default: the only one.")
    region: str | None = Field(
        None, min_length=1, description="With 'sigv4': the AWS region. Default: the one in the endpoint."
    )
    profile: str | None = Field(
        None,
        min_length=1,
        description="With 'sigv4': profile of the AWS files. Default: the chain of the AWS SDK (environment, files, "
        "container, instance).",
    )
    access_key_id: str | None = Field(None, min_length=1, description="With 'sigv4': a fixed access key.")
    secret_access_key: SecretStr | None = Field(None, description="Its secret.")
    session_token: SecretStr | None = Field(None, description="Its session token, if temporary.")
    authorizer: str | None = Field(
        None, min_length=1, description="With 'custom': name of the authorizer. Default: the endpoint's own."
    )
    username: str | None = Field(None, description="With 'custom': user name.")
    password: SecretStr | None = Field(None, description="With 'custom': password.")
    token_key: str | None = Field(None, min_length=1, description="With 'custom': name under which the token is sent.")
    token: SecretStr | None = Field(None, description="With 'custom': the token.")
    token_signature: SecretStr | None = Field(None, description="With 'custom': the token's signature (Base64).")

    @pydantic.field_validator("endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        if "/" in value or ":" in value:
            raise ValueError("the endpoint is a host name alone: no scheme, no port, no path")
        try:
            ipaddress.ip_address(value)
        except ValueError:
            pass
        else:
            raise ValueError("the endpoint is a host name: with an address TLS cannot name the server (SNI)")
        found = _AWS_HOST.fullmatch(value)
        if found is not None and not found[1] and not value.split(".", maxsplit=1)[0].endswith("-ats"):
            raise ValueError(
                "this endpoint is of the old kind, whose certificate nobody trusts any more: take the one of "
                "'aws iot describe-endpoint --endpoint-type iot:Data-ATS'"
            )
        return value

    @pydantic.model_validator(mode="after")
    def _fits(self) -> SignInOptions:
        for name, auth in _BELONGS.items():
            if getattr(self, name) is not None and self.auth != auth:
                raise ValueError(f'{name} is for auth = "{auth}", not for "{self.auth}"')
        if self.certificate is not None and self.auth not in {"x509", "pkcs11"}:
            raise ValueError(f'certificate is for auth = "x509", not for "{self.auth}"')
        check = {"x509": self._x509, "pkcs11": self._pkcs11, "sigv4": self._sigv4, "custom": self._custom}[self.auth]
        check()
        return self

    def _x509(self) -> None:
        by_file = (self.certificate is not None, self.private_key is not None)
        by_text = (self.certificate_pem is not None, self.private_key_pem is not None)
        if by_file != by_text and {by_file, by_text} == {(True, True), (False, False)}:
            return
        raise ValueError(
            "give certificate and private_key, or certificate_pem and private_key_pem: one pair of the two"
        )

    def _pkcs11(self) -> None:
        if self.pkcs11_library is None or self.certificate is None:
            raise ValueError('auth = "pkcs11" needs pkcs11_library and the certificate\'s file')

    def _sigv4(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token belongs to an access_key_id")
        if self.profile is not None and self.access_key_id is not None:
            raise ValueError("give a profile or an access_key_id, not both")

    def _custom(self) -> None:
        if (self.token is None) != (self.token_key is None):
            raise ValueError("token and token_key belong together")
        if self.token_signature is not None and self.token is None:
            raise ValueError("token_signature is the one of a token")


class ConnectorOptions(SignInOptions):
    """Publishes to AWS IoT Core."""

    port: int | None = Field(
        None, ge=1, le=65_535, description="Default: 8883 with a certificate, else 443. 443 works with both."
    )
    websocket: bool = Field(False, description="With 'custom': MQTT over WebSocket. 'sigv4' is always so.")
    alpn: bool | None = Field(
        None, description="Whether TLS says what is spoken, as port 443 needs it. Default: on 443, and with 'custom'."
    )
    ca: ConfigPath | None = Field(
        None, description="File of the CA certificates (PEM) the endpoint's is checked against. Default: the system's."
    )
    proxy: SecretStr | None = Field(None, description="HTTP proxy: http://[user:password@]host:port.")
    client_id: str | None = Field(
        None,
        min_length=1,
        description="Client id; the policy must allow it. With several connections -1, -2… are added. "
        "Default: northbound-<name>.",
    )
    connections: int = Field(
        1, ge=1, le=100, description="How many connections share the work: each takes 100 messages a second."
    )
    rule: str | None = Field(
        None, description="Basic Ingest: what is published goes to this rule alone, and is not charged as a message."
    )
    messages_per_second: float = Field(
        100.0, gt=0, le=100_000, description="What one connection may publish; IoT Core takes 100, not adjustable."
    )
    retained_per_topic: float = Field(
        1.0, ge=0, description="Retained messages a second of one topic (an account's quota). 0: no bound."
    )
    retained_per_second: float = Field(
        500.0, ge=0, description="Retained messages a second altogether (an account's quota). 0: no bound."
    )
    shadow: str | None = Field(
        None,
        description="Metadata becomes reported state instead of a retained message: 'classic', or a shadow's name; "
        "{id} and {org} are filled in.",
    )
    shadow_thing: str | None = Field(
        None, min_length=1, description="Name of the shadow's thing; {id} and {org} are filled in. Default: client_id."
    )
    idempotency_property: str = Field(
        "id", max_length=100, description="User property that carries the idempotency key. Empty: none is sent."
    )
    session_expiry: Duration = Field(
        timedelta(0), le=timedelta(days=7), description="How long IoT Core keeps the session while we are away."
    )
    keep_alive: Duration = Field(
        timedelta(seconds=60),
        ge=timedelta(seconds=30),
        le=timedelta(seconds=1200),
        description="After so long without traffic a ping is sent; IoT Core takes 30 s to 20 min.",
    )
    connect_timeout: Duration = Field(
        timedelta(seconds=30),
        ge=timedelta(seconds=1),
        le=timedelta(seconds=60),
        description="How long connecting and signing in may take.",
    )
    ack_timeout: Duration = Field(
        timedelta(seconds=30),
        ge=timedelta(seconds=1),
        le=timedelta(seconds=100),
        description="How long an acknowledgement may take; then the message is sent again.",
    )
    probe_topic: str | None = Field(
        None,
        min_length=1,
        description="'check --connect' publishes an empty message there, to find out whether the policy allows it.",
    )

    @pydantic.field_validator("rule")
    @classmethod
    def _rule(cls, value: str | None) -> str | None:
        if value is not None and _RULE.fullmatch(value) is None:
            raise ValueError("a rule's name is of letters, digits and '_'")
        return value

    @pydantic.field_validator("client_id")
    @classmethod
    def _client_id(cls, value: str | None) -> str | None:
        if value is not None and (value.startswith("$") or len(value.encode()) > CLIENT_ID_BYTES - len("-100")):
            raise ValueError(f"a client id has at most {CLIENT_ID_BYTES - 4} bytes and does not begin with '$'")
        return value

    @pydantic.field_validator("proxy")
    @classmethod
    def _proxy(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                parts = urlsplit(value.get_secret_value())
                right = parts.scheme == "http" and parts.hostname and parts.port and parts.path in {"", "/"}
            except ValueError:
                right = False
            if not right:
                raise ValueError("a proxy is http://[user:password@]host:port")
        return value

    @pydantic.field_validator("shadow", "shadow_thing")
    @classmethod
    def _shadow(cls, value: str | None) -> str | None:
        if value is not None and _NAME.fullmatch(value.replace("{id}", "x").replace("{org}", "x")) is None:
            raise ValueError("the name is of letters, digits, ':', '_' and '-', with {id} and {org} where wanted")
        return value

    @pydantic.model_validator(mode="after")
    def _way(self) -> ConnectorOptions:
        if self.websocket and self.auth in {"x509", "pkcs11"}:
            raise ValueError('IoT Core takes WebSocket with auth = "sigv4" or "custom" only')
        if self.auth == "sigv4" and self.signing_region is None:
            raise ValueError("region is needed: the endpoint does not tell it")
        if self.shadow_thing is not None and self.shadow is None:
            raise ValueError("shadow_thing is the thing of a shadow: set shadow too")
        if self.messages_per_second > 100 and _AWS_HOST.fullmatch(self.endpoint):
            raise ValueError("IoT Core takes 100 messages a second of one connection: raise connections instead")
        if self.ack_timeout > 5 * self.keep_alive:
            raise ValueError("ack_timeout is longer than a dead connection takes to be noticed")
        return self

    @property
    def over_websocket(self) -> bool:
        """Whether MQTT goes over WebSocket."""
        return self.websocket or self.auth == "sigv4"

    @property
    def port_in_use(self) -> int:
        """The port to connect to: AWS IoT Developer Guide, "Protocols, port mappings, and authentication"."""
        if self.port is not None:
            return self.port
        return 8883 if self.auth in {"x509", "pkcs11"} else 443

    @property
    def alpn_name(self) -> str | None:
        """What TLS says is spoken; same table."""
        if self.auth == "custom" and not self.over_websocket:
            return "mqtt" if self.alpn is not False else None
        wanted = self.port_in_use == 443 if self.alpn is None else self.alpn
        if not wanted:
            return None
        return "http/1.1" if self.over_websocket else "x-amzn-mqtt-ca"

    @property
    def signing_region(self) -> str | None:
        """The region requests are signed for."""
        found = _AWS_HOST.fullmatch(self.endpoint)
        return self.region or (found[2] if found else None)
