"""The tables ``[privacy]`` and ``[[privacy.rules]]`` of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Final, Literal, Self

import pydantic
from pydantic import ByteSize, Field, SecretStr

from northbound.fields import ConfigPath, Size, TopicFilter
from northbound.message import Kind
from northbound.privacy.keys import DEFAULT_LENGTH, LONGEST
from northbound.privacy.paths import parse_path

ActionName = Literal["hash", "mask", "redact", "drop", "generalise", "allow"]
TimeStep = Literal["minute", "hour", "day", "month", "year"]

_STRICT = pydantic.ConfigDict(extra="forbid", frozen=True)
_SHORTEST_HASH: Final = 8
_NOT_PREVIOUS: Final = "previous_secret is the secret itself: name the one before it"
_OWN: Final[Mapping[str, frozenset[str]]] = {
    "hash": frozenset(("length", "prefix", "format", "secret", "previous_secret")),
    "mask": frozenset(("keep_first", "keep_last")),
    "redact": frozenset(("scope", "placeholder", "null")),
    "drop": frozenset(),
    "generalise": frozenset(("round", "buckets", "decimals", "time", "message_time")),
    "allow": frozenset(),
}
#: The rule that stands behind all others, unless ``default = false``.
DEFAULT_NAME: Final = "default"
_DEFAULT_DETECTS: Final = ("url_credentials", "token", "email")


def _path(text: str) -> str:
    parse_path(text)
    return text


Path = Annotated[str, pydantic.AfterValidator(_path)]


class RuleOptions(pydantic.BaseModel):
    """One rule: where it looks, what it detects there, and what it does.

    Without ``levels`` and ``paths`` it looks everywhere: topic levels, object keys, and every string of a value. With
    ``levels`` it looks at these levels of the topic, with ``paths`` at these places of the value, with both at both.
    """

    model_config = _STRICT

    name: str = Field(min_length=1, max_length=80, description="Stands in the audit log and in reasons.")
    detect: tuple[str, ...] = Field(
        (), description="What it looks for: detectors, or names of [privacy.detectors.NAME]. Default: the whole value."
    )
    action: ActionName = Field(
        description="What happens to it; of several rules, the first that matches a piece of text acts on it."
    )
    topics: tuple[TopicFilter, ...] | None = Field(None, min_length=1, description="Only topics that match one.")
    states: tuple[str, ...] | None = Field(
        None, min_length=1, description="Only these state keys; '*' and '?' work, case does not matter."
    )
    kinds: tuple[Kind, ...] | None = Field(None, min_length=1, description="Only state, or only metadata.")
    paths: tuple[Path, ...] | None = Field(
        None, min_length=1, description="Only these places of a value, as JSONPath, and what is below them."
    )
    levels: tuple[str, ...] | None = Field(
        None, min_length=1, description="Only these levels of the topic: org, building, …, system, module, state, id."
    )
    connectors: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Only what these connectors get, of what is stored. Default: before it is stored, so for all.",
    )

    length: int = Field(DEFAULT_LENGTH, ge=_SHORTEST_HASH, le=LONGEST, description="hash: hex digits of it.")
    prefix: str = Field("", max_length=32, pattern=r"^[A-Za-z0-9_.:-]*$", description="hash: written before it.")
    format: Literal["northbound", "placeos"] = Field(
        "northbound", description="hash: 'placeos' is the plain hex HMAC-SHA256 of the match, as PlaceOS writes it."
    )
    secret: SecretStr | None = Field(
        None,
        min_length=1,
        description="hash: a secret of its own. Default: the connector's, else the one of [privacy].",
    )
    previous_secret: SecretStr | None = Field(
        None, min_length=1, description="hash: the one before that, in an overlap."
    )
    keep_first: int | None = Field(None, ge=0, le=64, description="mask: so many characters stay at the beginning.")
    keep_last: int | None = Field(None, ge=0, le=64, description="mask: so many stay at the end.")
    scope: Literal["text", "value", "key"] = Field(
        "text", description="redact: the text found, the whole value it is in, or that value with its key."
    )
    placeholder: str = Field("[redacted]", max_length=80, description="redact: what stands there instead.")
    null: bool = Field(False, description="redact: null in place of a value, not a placeholder. Needs scope = 'value'.")
    round: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="generalise: numbers to a multiple of this."
    )
    buckets: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None = Field(
        None, min_length=1, description="generalise: numbers to the largest of these that is not above them."
    )
    decimals: int | None = Field(None, ge=0, le=12, description="generalise: numbers to so many decimals.")
    time: TimeStep | None = Field(None, description="generalise: times to the beginning of their minute, hour, …")
    message_time: bool = Field(False, description="generalise: the time of the message too, as 'time' says.")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        own = _OWN[self.action]
        for action, names in _OWN.items():
            for name in sorted((names & self.model_fields_set) - own):
                if self.action != action:
                    raise ValueError(f"'{name}' belongs to the action {action!r}, and this is {self.action!r}")
        steps = sum(option is not None for option in (self.round, self.buckets, self.decimals))
        if self.action == "generalise" and steps == 0 and self.time is None:
            raise ValueError("generalise needs one of round, buckets, decimals or time")
        if steps > 1:
            raise ValueError("of round, buckets and decimals give one")
        if self.format == "placeos" and {"length", "prefix"} & self.model_fields_set:
            raise ValueError("PlaceOS's form is the whole hash and nothing else: leave out length and prefix")
        if self.buckets is not None and list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError("write the buckets in rising order, each once")
        if self.message_time and self.time is None:
            raise ValueError("message_time needs time, which says to what")
        if self.null and self.scope != "value":
            raise ValueError("null takes the place of a whole value: set scope = 'value'")
        narrowed = self.topics or self.states or self.paths or self.levels
        if not self.detect and not narrowed:
            raise ValueError(
                "it would act on every value there is: say what to detect, or where (topics, states, paths)"
            )
        return self

    @pydantic.model_validator(mode="after")
    def _rotates(self) -> Self:
        if self.previous_secret is not None and self.secret is None:
            raise ValueError("previous_secret belongs to a secret of the rule's own")
        if self.previous_secret is not None and self.previous_secret == self.secret:
            raise ValueError(_NOT_PREVIOUS)
        return self


def _moment(value: Any) -> Any:
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time.min)
    if isinstance(value, datetime) and value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return value


class PrivacyOptions(pydantic.BaseModel):
    """What leaves as it is, hashed, masked, or not at all."""

    model_config = _STRICT

    default: bool = Field(
        True,
        description="The default policy, behind the rules below: e-mail addresses and credentials are hashed. "
        "false: only the rules below.",
    )
    secret: SecretStr | None = Field(
        None, min_length=1, description="Key of the hashes. Default: one made beside the store at the first start."
    )
    previous_secret: SecretStr | None = Field(
        None, min_length=1, description="The one before it: until overlap_until its hashes are written beside the new."
    )
    overlap_until: Annotated[datetime, pydantic.BeforeValidator(_moment)] | None = Field(
        None, description="End of the overlap, a date or a time (UTC where no zone is given)."
    )
    audit: bool = Field(True, description="Write which rule did what to which topic, and how often; never the text.")
    audit_path: ConfigPath | None = Field(None, description="Default: beside the store, <store>.audit.jsonl.")
    audit_max_bytes: Size = Field(ByteSize(64 * 1024**2), ge=65_536, description="At this size a new file is begun.")
    audit_files: int = Field(5, ge=1, le=1000, description="How many full ones are kept.")
    rules: tuple[RuleOptions, ...] = Field((), description="In their order, each a [[privacy.rules]].")
    detectors: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Detectors with options, or under another name; each with its type."
    )

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rules are named {twice[0]!r}")
        if self.default and DEFAULT_NAME in names:
            raise ValueError(f"{DEFAULT_NAME!r} is the name of the rule that is always there")
        if self.previous_secret is not None and self.previous_secret == self.secret:
            raise ValueError(_NOT_PREVIOUS)
        previous = self.previous_secret or any(rule.previous_secret for rule in self.rules)
        if previous and self.overlap_until is None:
            raise ValueError("previous_secret needs overlap_until, the end of the overlap")
        if self.overlap_until is not None and not previous:
            raise ValueError("overlap_until needs previous_secret")
        return self

    @property
    def overlap_ms(self) -> int:
        """The end of the overlap in ms since 1970; 0 for none."""
        return int(self.overlap_until.timestamp() * 1000) if self.overlap_until else 0

    @property
    def all_rules(self) -> tuple[RuleOptions, ...]:
        """The rules in force, in their order."""
        if not self.default:
            return self.rules
        return (*self.rules, RuleOptions(name=DEFAULT_NAME, detect=_DEFAULT_DETECTS, action="hash"))
