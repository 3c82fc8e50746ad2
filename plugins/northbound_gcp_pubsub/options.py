"""What can be set: the topic, how to sign in, where to connect, and how messages are put into requests."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Final

import pydantic
from pydantic import ByteSize, ConfigDict, Field, SecretStr

from northbound import ConfigPath, Duration

DEFAULT_ENDPOINT: Final = "pubsub.googleapis.com"
#: A publish request has at most so many bytes and messages (cloud.google.com/pubsub/quotas, "Resource limits").
MAX_REQUEST_BYTES: Final = 10_000_000
MAX_REQUEST_MESSAGES: Final = 1000
#: What a request holds beside its messages, at the longest: the name of the topic and the framing.
REQUEST_OVERHEAD: Final = 1000
_FULL = re.compile(r"projects/([^/]+)/topics/([^/]+)")
#: A resource id: the reference of ``Topic.name``.
_ID = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}")
#: A project's id, its number, or the older form with a domain before it.
_PROJECT = re.compile(r"[a-z0-9][a-z0-9.\-]{0,61}(:[a-z0-9\-]{1,30})?")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::([0-9]{1,5}))?")
_ATTRIBUTE = re.compile(r"(?!goog)[A-Za-z_][A-Za-z0-9_\-]{0,99}")
_PROXY = re.compile(rf"http://(?:[^\s/@:]+(?::[^\s/@]*)?@)?{_HOST.pattern}/?")
#: What the attributes of a message are named by the address, and by us.
RESERVED: Final = frozenset(
    ("topic", "kind", "org", "system", "driver", "module", "index", "state", "id", "time", "retain")
)


def _host(value: str) -> str:
    match = _HOST.fullmatch(value)
    if match is None or (match[1] is not None and not 0 < int(match[1]) <= 65_535):
        raise ValueError("write a host, or host:port, without https://")
    return value


class PubSubOptions(pydantic.BaseModel):
    """Publishes to one topic of Google Cloud Pub/Sub."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pubsub_topic: str = Field(
        description="The topic of Pub/Sub: its id, such as 'building', or 'projects/my-project/topics/building'."
    )
    project: str | None = Field(None, description="The project of the topic, where pubsub_topic is an id.")
    credentials_file: ConfigPath | None = Field(
        None,
        description="JSON file of a service account's key, a workload identity (external_account), or another kind "
        "that Google defines. Default: application default credentials.",
    )
    credentials_json: SecretStr | None = Field(None, description="The same as text, from a secret.")
    self_signed: bool = Field(
        True,
        description="With a service account's key: sign tokens here. false: fetch them from the account's token_uri.",
    )
    endpoint: str = Field(
        DEFAULT_ENDPOINT,
        description="Host, with :port unless it is 443. With ordering, name the region's: "
        "'europe-west1-pubsub.googleapis.com'.",
    )
    emulator: str | None = Field(
        None, description="Host and port of the emulator, without TLS and sign-in. PUBSUB_EMULATOR_HOST is not read."
    )
    ca: ConfigPath | None = Field(
        None,
        description="File of the CA certificates (PEM) that the endpoint's is checked against; the token endpoint's "
        "may be from them too. Default: the public ones.",
    )
    proxy: SecretStr | None = Field(
        None,
        description="HTTP proxy for all connections: http://[user:password@]host[:port]. Default: HTTPS_PROXY and "
        "NO_PROXY of the environment.",
    )
    ordering: bool = Field(
        True, description="Publish with ordering keys, so that subscriptions can keep the order of each topic."
    )
    ordering_keys: int = Field(
        16,
        ge=1,
        le=1024,
        description="How many ordering keys the topics are spread over. More: more throughput (1 MB/s each), smaller "
        "requests. Changing it may reorder what is under way at that moment.",
    )
    request_messages: int = Field(
        MAX_REQUEST_MESSAGES, ge=1, le=MAX_REQUEST_MESSAGES, description="Messages in one request at most."
    )
    request_bytes: ByteSize = Field(
        ByteSize(1_000_000),
        ge=1000,
        le=MAX_REQUEST_BYTES - REQUEST_OVERHEAD,
        description="Bytes of one request at most.",
    )
    collect: Duration = Field(
        timedelta(0),
        le=timedelta(seconds=10),
        description="How long a message waits for others to share its request. A request is charged as 1,000 bytes at "
        "the least.",
    )
    attributes: tuple[str, ...] | None = Field(
        None,
        description="Which parts of the address travel as attributes beside 'topic', such as ['kind', 'building']. "
        "Fewer cost less. Default: all.",
    )
    idempotency_attribute: str = Field(
        "key", max_length=100, description="Attribute that carries the idempotency key. Empty: none is sent."
    )
    connect_timeout: Duration = Field(
        timedelta(seconds=15),
        ge=timedelta(milliseconds=100),
        le=timedelta(seconds=40),
        description="How long connecting may take, and each request for a token.",
    )
    ack_timeout: Duration = Field(
        timedelta(seconds=30),
        ge=timedelta(milliseconds=100),
        le=timedelta(seconds=100),
        description="How long the service may take to acknowledge a request before it is sent again.",
    )
    keep_alive: Duration = Field(
        timedelta(seconds=30),
        ge=timedelta(milliseconds=100),
        le=timedelta(hours=1),
        description="After so long without a word from the service, while a request is under way, a ping is sent.",
    )

    @pydantic.field_validator("pubsub_topic")
    @classmethod
    def _topic(cls, value: str) -> str:
        full = _FULL.fullmatch(value)
        if "/" in value and full is None:
            raise ValueError("write the topic's id, or projects/PROJECT/topics/ID")
        if full is not None and not _PROJECT.fullmatch(full[1]):
            raise ValueError(f"{full[1][:80]!r} is no project id")
        if not _ID.fullmatch(full[2] if full else value):
            raise ValueError(
                "a topic's id has 3 to 255 letters, digits and -_.~+%, a letter first, and does not begin with 'goog'"
            )
        return value

    @pydantic.field_validator("project")
    @classmethod
    def _project(cls, value: str | None) -> str | None:
        if value is not None and not _PROJECT.fullmatch(value):
            raise ValueError("write the project's id, such as 'my-project-123', not its display name")
        return value

    @pydantic.field_validator("endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        return _host(value)

    @pydantic.field_validator("emulator")
    @classmethod
    def _emulator(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if value.partition(":")[0].endswith("googleapis.com"):
            raise ValueError("that is the real service, which needs TLS and sign-in: write it as endpoint")
        return _host(value)

    @pydantic.field_validator("proxy")
    @classmethod
    def _proxy(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _PROXY.fullmatch(value.get_secret_value()):
            raise ValueError("write http://host:port, with user:password@ before the host where the proxy wants it")
        return value

    @pydantic.field_validator("idempotency_attribute")
    @classmethod
    def _attribute(cls, value: str) -> str:
        if value in RESERVED:
            raise ValueError(f"the attribute {value!r} is part of the address")
        if value and not _ATTRIBUTE.fullmatch(value):
            raise ValueError("write letters, digits, '_' and '-', not beginning with 'goog'")
        return value

    @pydantic.model_validator(mode="after")
    def _whole(self) -> PubSubOptions:
        full = _FULL.fullmatch(self.pubsub_topic)
        if full is None and self.project is None:
            raise ValueError("name the project, or write pubsub_topic as projects/PROJECT/topics/ID")
        if full is not None and self.project not in (None, full[1]):
            raise ValueError("pubsub_topic names another project than project does")
        if self.credentials_file is not None and self.credentials_json is not None:
            raise ValueError("credentials_file and credentials_json: one of them")
        if self.emulator is not None:
            for name in ("credentials_file", "credentials_json", "ca", "proxy"):
                if getattr(self, name) is not None:
                    raise ValueError(f"the emulator takes no {name}")
            if self.endpoint != DEFAULT_ENDPOINT:
                raise ValueError("endpoint and emulator: one of them")
        return self

    @property
    def topic_name(self) -> str:
        """The full name of the topic."""
        return self.pubsub_topic if "/" in self.pubsub_topic else f"projects/{self.project}/topics/{self.pubsub_topic}"

    @property
    def credentials_path(self) -> Path | None:
        """The file that credentials are read from; ``None`` where they stand elsewhere."""
        if self.emulator is not None or self.credentials_json is not None:
            return None
        named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS")
        return self.credentials_file or (Path(named) if named else None)

    @property
    def target(self) -> str:
        """Host and port to connect to."""
        host = self.emulator or self.endpoint
        match = _HOST.fullmatch(host)
        return host if match is not None and match[1] is not None else f"{host}:443"
