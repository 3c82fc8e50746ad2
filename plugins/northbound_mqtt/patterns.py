"""What a topic and its body mean, declared: ``zigbee2mqtt/{module}`` and "each key of the body is a state". Pure.

A level of a pattern is text, ``+``, or a placeholder ``{name}``; the last may be ``#`` or ``{name...}``, which takes
one level and all that follow. The fields of the address are text with placeholders; one that is not given takes the
placeholder of its own name.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import unquote

import msgspec
import pydantic
from pydantic import ConfigDict, Field

from northbound import Cleared, Event, EventRefused, Metadata, State

Body = Literal["object", "value", "placeos", "metadata"]

_LEVEL = re.compile(r"\{([a-z_]+)(\.\.\.)?\}")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_ZONES: Final = ("region", "building", "level", "area")
_SECONDS_BELOW: Final = 100_000_000_000  # as milliseconds that is March 1973
_LONGEST_INDEX: Final = 40
_REMEMBERED: Final = 100_000


class Map(pydantic.BaseModel):
    """One pattern of topics, and what they mean."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    topic: str = Field(min_length=1, description="Pattern of topics, such as 'zigbee2mqtt/{module}'.")
    body: Body = Field(
        "value",
        description="'object': each key is a state. 'value': the whole body is one value. 'placeos': an object of time "
        "and value, as northbound and PlaceOS write it. 'metadata': the body describes the entity {id}.",
    )
    org: str | None = Field(None, description="Organisation. Default: {org} of the pattern, or the site's.")
    region: str | None = Field(None, description="Region, where the hierarchy has one.")
    building: str | None = Field(None, description="Building.")
    level: str | None = Field(None, description="Level.")
    area: str | None = Field(None, description="Area.")
    zones: dict[str, str] = Field(default_factory=dict, description="Zone levels of a hierarchy of one's own.")
    system: str | None = Field(None, description="System.")
    driver: str | None = Field(None, description="Driver. Default: {driver} of the pattern, or 'mqtt'.")
    module: str | None = Field(None, description="Module.")
    index: str = Field("{index}", description="Index of the module. Default: {index} of the pattern, or 1.")
    state: str | None = Field(
        None, description="State. Default: {state} of the pattern, or {key} for 'object', or 'state'."
    )
    id: str | None = Field(None, description="Entity, for 'metadata'. Default: {id} of the pattern.")

    @pydantic.model_validator(mode="after")
    def _whole(self) -> Map:
        Pattern(self)
        return self


class Pattern:
    """A :class:`Map`, ready to be used. Raises ``ValueError`` in words for one that cannot be."""

    def __init__(self, spec: Map) -> None:
        self.body = spec.body
        levels = [_level(part) for part in spec.topic.split("/")]
        names = [name for _text, _expression, name in levels if name]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{{{name}}} stands twice in the topic")
        self.filter = "/".join([text for text, _expression, _name in levels])
        if any(text == "#" for text, _expression, _name in levels[:-1]):
            raise ValueError("'#' and {name...} take all that follows, so they stand last")
        self._match = re.compile("/".join([expression for _text, expression, _name in levels]), re.DOTALL).fullmatch
        self._names = frozenset(names)
        self._zones = {name: text for name in _ZONES if (text := getattr(spec, name)) is not None} | dict(spec.zones)
        for name in _ZONES:
            if name in self._names:
                self._zones.setdefault(name, f"{{{name}}}")
        self._fields = self._templates(spec)
        known = self._names | ({"key"} if spec.body == "object" else set())
        for text in (*self._fields.values(), *self._zones.values()):
            for name in _PLACEHOLDER.findall(text):
                if name not in known:
                    raise ValueError(f"{{{name}}} is not in the topic")
        self._keys: dict[str, frozenset[str]] = {}

    def _templates(self, spec: Map) -> dict[str, str]:
        wanted = ("id",) if spec.body == "metadata" else ("system", "driver", "module", "index", "state")
        last = "{key}" if spec.body == "object" else "state"
        defaults = {"driver": "mqtt", "index": "1", "state": last}
        fields = {}
        for name in ("org", *wanted):
            text = getattr(spec, name)
            if text is None or (name == "index" and text == "{index}"):
                text = f"{{{name}}}" if name in self._names else defaults.get(name)
            if text is not None:
                fields[name] = text
            elif name != "org":
                raise ValueError(f'say the {name}: {name} = "...", or {{{name}}} in the topic')
        if spec.body == "object" and "{key}" not in fields["state"]:
            raise ValueError('with body = "object" the state holds {key}')
        return fields

    def check(self, hierarchy: Sequence[str]) -> None:
        """Raise ``ValueError`` for a zone level that the site's hierarchy does not have."""
        for name in self._zones:
            if name not in hierarchy[1:]:
                raise ValueError(f"{name} is no zone level here: the hierarchy is {', '.join(hierarchy)}")

    def events(self, topic: str, payload: bytes, hierarchy: Sequence[str]) -> list[Event] | None:
        """Return what a message means, None if the pattern is not that of its topic. Raises ``EventRefused``."""
        found = self._match(topic)
        if found is None:
            return None
        values = found.groupdict()
        if self.body in {"placeos", "metadata"}:
            values = {name: unquote(value) for name, value in values.items()}
        if self.body == "metadata":
            return [self._metadata(payload, values)]
        if self.body == "object":
            return self._object(topic, payload, values, hierarchy)
        make = self._maker(values, hierarchy)
        state = _fill(self._fields["state"], values)
        if not payload:
            return [make(Cleared, state)]
        if self.body == "placeos":
            value, time = _envelope(payload)
            return [make(State, state, value, time)]
        return [make(State, state, _value(payload), None)]

    def _maker(self, values: Mapping[str, str], hierarchy: Sequence[str]) -> Callable[..., Any]:
        """Return what makes an event at this place, given its kind, state, and value and time where it has them."""
        fields = {name: _fill(text, values) for name, text in self._fields.items() if name != "state"}
        zones = tuple(_zone(_fill(self._zones.get(name, ""), values)) for name in hierarchy[1:])
        try:
            index = int(fields["index"])
        except ValueError:
            # Never a part of it: whoever looks for personal data in a reason must see all of it or nothing.
            text = fields["index"]
            shown = repr(text) if len(text) <= _LONGEST_INDEX else f"of {len(text)} characters"
            raise EventRefused(f"the index {shown} is not a number") from None
        org, system, driver, module = fields.get("org"), fields["system"], fields["driver"], fields["module"]

        def make(kind: type[State | Cleared], state: str, *rest: Any) -> Event:
            return kind(org, zones, system, driver, module, index, state, *rest)

        return make

    def _object(self, topic: str, payload: bytes, values: dict[str, str], hierarchy: Sequence[str]) -> list[Event]:
        make, text = self._maker(values, hierarchy), self._fields["state"]
        if not payload:
            known = self._keys.pop(topic, frozenset())
            return [make(Cleared, _fill(text, {**values, "key": key})) for key in sorted(known)]
        body = _json(payload)
        if not isinstance(body, dict):
            raise EventRefused('the body is not a JSON object, as body = "object" expects')
        if topic in self._keys or len(self._keys) < _REMEMBERED:
            self._keys[topic] = self._keys.get(topic, frozenset()) | body.keys()
        return [make(State, _fill(text, {**values, "key": key}), value, None) for key, value in body.items()]

    def _metadata(self, payload: bytes, values: dict[str, str]) -> Metadata:
        org = _fill(self._fields["org"], values) if "org" in self._fields else None
        name, time = _fill(self._fields["id"], values), None
        if not payload:
            return Metadata(org, name, None)
        body = _json(payload)
        if isinstance(body, dict) and body.keys() == {"time", "value"}:
            body, time = body["value"], _time(body["time"])
        if body is not None and not isinstance(body, dict):
            raise EventRefused("the metadata is not a JSON object")
        return Metadata(org, name, body, time)


def _level(part: str) -> tuple[str, str, str | None]:
    """Return a level as the filter has it, as an expression, and the name of its placeholder."""
    found = _LEVEL.fullmatch(part)
    if found:
        return ("#", f"(?P<{found[1]}>.+)", found[1]) if found[2] else ("+", f"(?P<{found[1]}>[^/]*)", found[1])
    if part in {"+", "#"}:
        return part, "[^/]*" if part == "+" else ".+", None
    if set(part) & set("{}+#\0"):
        raise ValueError(f"a placeholder fills a whole level of the topic; {part!r} does not")
    return part, re.escape(part), None


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text) if "{" in text else text


def _zone(text: str) -> str | None:
    return None if text in {"", "_"} else text


def _json(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EventRefused("the body is not JSON") from None


def _value(payload: bytes) -> Any:
    """Return the JSON value, or the text of what is none."""
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            return payload.decode()
        except UnicodeDecodeError:
            raise EventRefused("the body is neither JSON nor UTF-8 text") from None


def _time(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1 << 53:
        raise EventRefused("the time is not a number of seconds or milliseconds since 1970")
    return int(value * 1000) if value < _SECONDS_BELOW else int(value)


def _envelope(payload: bytes) -> tuple[Any, int | None]:
    """Return value and time of either profile: with seconds comes the value itself, with milliseconds its JSON."""
    body = _json(payload)
    if not isinstance(body, dict) or "value" not in body:
        raise EventRefused("the body is not an object of time and value")
    value, given = body["value"], body.get("time")
    if isinstance(value, str) and not (isinstance(given, int | float) and given < _SECONDS_BELOW):
        with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):  # else it is written as it is
            value = msgspec.json.decode(value)
    return value, _time(given)
