"""The configuration file's own model; :mod:`northbound.loading` adds what the plugins say of theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from keyword import iskeyword
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import ByteSize, ConfigDict, Field, SecretStr

from northbound.events import DEFAULT_HIERARCHY
from northbound.fields import ConfigPath, Duration, Size, TopicFilter
from northbound.limits import Limits
from northbound.payloads import MetadataForm, PayloadFormat, TimeUnit, ValueForm
from northbound.privacy.options import PrivacyOptions
from northbound.retry import RetryPolicy
from northbound.serving import ApiOptions
from northbound.topics import MISSING, TopicScheme, escape

Profile = Literal["documented", "placeos"]
WhenFull = Literal["latest", "oldest", "block"]
Start = Literal["snapshot", "now", "beginning"]

_STRICT = ConfigDict(extra="forbid", frozen=True)
_WORDS_OF_THE_FORMAT = frozenset(
    ("system", "driver", "module", "index", "state", "value", "time", "id", "metadata", "kind", "root", "topic")
)
_ZONE_LEVEL = re.compile(r"[a-z][a-z0-9_]{0,31}")
_PLACEOS_HIERARCHY = ("org", "region", "building", "level", "area")


class SiteOptions(pydantic.BaseModel):
    """Who we are, and how topics and payloads are written."""

    model_config = _STRICT

    org: str | None = Field(None, min_length=1, description="The organisation where the source names none.")
    root: str = Field("placeos", min_length=1, max_length=128, description="First level of topics.")
    profile: Profile = Field(
        "documented", description="'documented', or 'placeos': what PlaceOS's own service writes. Sets the keys below."
    )
    hierarchy: tuple[str, ...] | None = Field(
        None, min_length=1, description="Zone levels, 'org' first. Default of the profile."
    )
    time: TimeUnit | None = Field(None, description="Unit of 'time' in a payload. Default of the profile.")
    value: ValueForm | None = Field(
        None, description="'string': the value's JSON as a string; 'json': the value itself. Default of the profile."
    )
    metadata: MetadataForm | None = Field(
        None, description="'entity': the entity's object; 'envelope': time and value. Default of the profile."
    )
    metadata_org: str | None = Field(
        None, min_length=1, description="Written in place of the organisation's id in metadata topics."
    )
    retain_state: bool = Field(True, description="Whether brokers keep the last value of a state topic.")

    @pydantic.field_validator("hierarchy")
    @classmethod
    def _hierarchy(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is None:
            return None
        if value[0] != "org" or len(set(value)) != len(value) or _WORDS_OF_THE_FORMAT & set(value):
            raise ValueError("name the zone levels once each, 'org' first, none of them a word the format uses")
        if not all(_ZONE_LEVEL.fullmatch(level) and not iskeyword(level) for level in value):
            raise ValueError("write zone levels as lower-case words: letters a to z, digits and '_', at most 32")
        return value

    @pydantic.field_validator("root")
    @classmethod
    def _root(cls, value: str) -> str:
        if value.startswith("$") or value == MISSING or escape(value) != value:
            raise ValueError("write one topic level: no '/', '+', '#', '%' or control character, and no '$' first")
        return value

    @property
    def scheme(self) -> TopicScheme:
        """How topics are written."""
        placeos = self.profile == "placeos"
        hierarchy = self.hierarchy or (_PLACEOS_HIERARCHY if placeos else DEFAULT_HIERARCHY)
        return TopicScheme(self.root, hierarchy, metadata_org=self.metadata_org or ("org" if placeos else None))

    @property
    def payloads(self) -> PayloadFormat:
        """How payloads are written."""
        base = PayloadFormat("s", "json", "envelope") if self.profile == "placeos" else PayloadFormat()
        return PayloadFormat(self.time or base.time, self.value or base.value, self.metadata or base.metadata)


class StoreOptions(pydantic.BaseModel):
    """Where messages are kept until every destination has them."""

    model_config = _STRICT

    path: ConfigPath = Field(Path("northbound.db"), validate_default=True, description="The SQLite file.")
    max_bytes: Size = Field(
        ByteSize(2 * 1024**3),
        ge=1024**2,
        description="What the backlog of one connector may hold, unless it says less.",
    )
    synchronous: Literal["full", "normal"] = Field(
        "full", description="'full': on disk before accepted. 'normal': a power cut may lose the last moments."
    )
    max_dead_letters: int = Field(
        100_000,
        ge=1,
        le=1_000_000_000,
        description="At so many dead letters of one connector it stops until some are replayed or dropped.",
    )


class BacklogOptions(pydantic.BaseModel):
    """What waits for a connector at most, and what gives way then."""

    model_config = _STRICT

    maximum_bytes: Size | None = Field(None, ge=65_536, description="Default: [store] max_bytes.")
    maximum_age: Duration | None = Field(None, description="Default: no bound.")
    when_full: WhenFull = Field(
        "latest",
        description="'latest': keep the newest value per topic; 'oldest': they go first; 'block': the source waits.",
    )


class RateOptions(pydantic.BaseModel):
    """A rate of our own choice, below what the destination allows."""

    model_config = _STRICT

    messages: float | None = Field(None, gt=0, allow_inf_nan=False, description="Messages a second.")
    bytes: Size | None = Field(None, gt=0, description="Bytes of topic and payload a second.")


class LimitsOptions(pydantic.BaseModel):
    """Bounds narrower than the connector declares: what this very destination is known to refuse."""

    model_config = _STRICT

    max_topic_levels: int | None = Field(None, ge=1, description="Levels a topic may have.")
    max_topic_bytes: int | None = Field(None, ge=1, le=65_535, description="Bytes a topic may have.")
    max_payload_bytes: Size | None = Field(None, ge=1, description="What a message may weigh; more is a dead letter.")
    retain: Literal["none"] | None = Field(None, description="'none': the destination keeps no last value.")
    batch_messages: int | None = Field(None, ge=1, le=100_000, description="Messages handed over at once.")
    batches_in_flight: int | None = Field(
        None, ge=1, le=10_000, description="Batches under way at once; what is under way is repeated after a kill."
    )

    def narrow(self, limits: Limits) -> Limits:
        """Return ``limits`` narrowed by what is set here."""
        return limits.narrowed(**self.model_dump(exclude_none=True))


class _PluginOptions(pydantic.BaseModel):
    """A plugin's table. Its repr names the keys that were set and no value: any of them may be a secret."""

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        return ((name, ...) for name in sorted(self.model_fields_set))


class ConnectorOptions(_PluginOptions):
    """What every connector takes, whatever its type."""

    model_config = _STRICT

    enabled: bool = Field(True, description="false: keep the settings, do not run.")
    topics: tuple[TopicFilter, ...] = Field(("#",), min_length=1, description="Which topics it receives.")
    topic: str | None = Field(None, min_length=1, description="Template of state topics. Default: as they are.")
    metadata_topic: str | None = Field(None, min_length=1, description="Template of metadata topics.")
    retain: bool | None = Field(None, description="false: send nothing as retained.")
    start: Start = Field(
        "snapshot",
        description="What a new connector gets first: the current values, only what comes, or all that is stored.",
    )
    privacy_secret: SecretStr | None = Field(
        None,
        min_length=1,
        description="Key of the hashes that only this connector gets. Default: the one of [privacy].",
    )
    retry: RetryPolicy = RetryPolicy()
    backlog: BacklogOptions = BacklogOptions()
    rate: RateOptions = RateOptions()
    limits: LimitsOptions = LimitsOptions()


class SourceOptions(_PluginOptions):
    """What every source takes, whatever its type."""

    model_config = _STRICT

    enabled: bool = Field(True, description="false: keep the settings, do not run.")


class DetectorOptions(_PluginOptions):
    """What every detector takes, whatever its type."""

    model_config = _STRICT


class ServiceOptions(pydantic.BaseModel):
    """How the service as a whole behaves."""

    model_config = _STRICT

    drain: Duration = Field(
        timedelta(seconds=10), description="On shutdown, how long to go on delivering. The rest stays in the store."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"


class FileModel(pydantic.BaseModel):
    """The tables of the file; plugins' tables are checked against the plugins' own models."""

    model_config = _STRICT

    site: SiteOptions = SiteOptions()
    store: StoreOptions = Field(default_factory=StoreOptions)
    privacy: PrivacyOptions = Field(default_factory=PrivacyOptions)
    service: ServiceOptions = ServiceOptions()
    api: ApiOptions | None = None
    sources: dict[str, dict[str, Any]] = Field(default_factory=dict)
    connectors: dict[str, dict[str, Any]] = Field(default_factory=dict)
