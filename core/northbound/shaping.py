"""Rewriting a message to fit a destination: topic template, retain, size. Pure.

A template is a topic with placeholders. The values are the escaped levels of the normalised topic, so a template
of whole levels is reversible as it stands. Where one level joins several placeholders (``{driver}.{module}``),
the joining characters are percent-encoded within the values, so that :meth:`Template.inverse` still finds them.
They are punctuation, so never part of ``%2E`` and the like, and no value holds a ``%`` that is not an escape. The
``_`` of a missing zone stays as it is: where ``_`` joins, a zone is either that one character or holds none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Final, get_args

from msgspec import Struct

from northbound.errors import Rejected
from northbound.limits import Limits
from northbound.message import NO_PROPERTIES, Kind, Message, Outgoing
from northbound.topics import MISSING, MetadataAddress, TopicScheme, escape, escape_zone, is_safe, unescape

if TYPE_CHECKING:
    from northbound.config import ConnectorOptions
    from northbound.connector import Connector

_PLACEHOLDER = re.compile(r"\{([^{}/]*)\}")
_SEPARATORS: Final = frozenset(".,;:!~|=@&*'() -_")
_CACHED_TOPICS: Final = 20_000
_RETAINED: Final[Mapping[str, str]] = {"retain": "true"}
STATE_NAMES: Final = ("root", "org", "system", "driver", "module", "index", "state")
METADATA_NAMES: Final = ("root", "org", "id")


class Template:
    """A topic with placeholders; raises ``ValueError`` in words where it is no topic or ambiguous.

    One that leaves some of ``names`` out is allowed, but not :attr:`reversible`. All ``names`` that are neither a
    state's nor a metadata's own are zones, which may be missing; the level ``{zones}`` stands for all of them, a level
    each as far as ``most_levels`` goes: then the first ones share one, joined by ``.``. Characters of ``escaped`` are
    percent-encoded within the values; the text must do without.
    """

    def __init__(self, text: str, names: Sequence[str], escaped: str = "", most_levels: int | None = None) -> None:
        if not text:
            raise ValueError("a topic cannot be empty")
        zones = [name for name in names if name not in STATE_NAMES and name not in METADATA_NAMES]
        self.text = text = text if "zones" in names else _with_zones(text, zones, most_levels)
        self._zones = frozenset(zones)
        self._escaped = escaped
        for character in escaped:
            if character in text:
                raise ValueError(f"holds {character!r}, which the destination does not take in a topic")
        levels = [_PLACEHOLDER.split(level) for level in text.split("/")]
        self._separators: dict[str, str] = {}
        for level, parts in zip(text.split("/"), levels, strict=True):
            joins = _joins(level, parts, names)
            for field in parts[1::2]:
                self._separators[field] = "".join(sorted({*self._separators.get(field, ""), *joins, *escaped}))
        self.fields = tuple(self._separators)
        if "topic" in self.fields and text.count("{") > 1:
            raise ValueError("{topic} is the whole topic: no other placeholder beside it")
        self.reversible = "topic" in self.fields or {name for name in names if name != "root"} <= set(self.fields)
        seen: set[str] = set()
        self._pattern = re.compile("/".join(self._expression(parts, seen) for parts in levels), re.DOTALL)

    def _expression(self, parts: Sequence[str], seen: set[str]) -> str:
        expression = re.escape(parts[0])
        for field, literal in zip(parts[1::2], parts[2::2], strict=True):
            if field in seen:
                group = f"(?P={field})"
            elif field == "topic":
                group = f"(?P<topic>{f'[^{re.escape(self._escaped)}]' if self._escaped else '.'}+)"
            else:
                missing = f"{MISSING}|" if field in self._zones else ""
                group = f"(?P<{field}>{missing}[^/{re.escape(self._separators[field])}]+)"
            seen.add(field)
            expression += group + re.escape(literal)
        return expression

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the topic for escaped ``values``."""

        def put(match: re.Match[str]) -> str:
            name = match[1]
            value = values[name]
            if value == MISSING and name in self._zones:
                return value
            for character in self._separators[name]:
                if character in value:
                    value = value.replace(character, f"%{ord(character):02X}")
            return value

        return _PLACEHOLDER.sub(put, self.text)

    def inverse(self, topic: str) -> dict[str, str | None] | None:
        """Return the plain values that ``topic`` was made of (``None`` for a missing zone); ``None`` for another's.

        ``{topic}`` gives the normalised topic as it is.
        """
        match = self._pattern.fullmatch(topic)
        if match is None:
            return None
        values: dict[str, str | None] = {}
        escaped: dict[str, str] = {}
        for name, value in match.groupdict().items():
            zone = name in self._zones
            try:
                plain = value if name == "topic" else None if zone and value == MISSING else unescape(value)
            except ValueError:
                return None
            values[name] = self._unescaped(value) if name == "topic" else plain
            escaped[name] = value if plain is None or name == "topic" else escape_zone(plain) if zone else escape(plain)
        return values if self.fill(escaped) == topic else None

    def _unescaped(self, topic: str) -> str:
        """Return a normalised topic as it was; in one, what is in ``escaped`` stands for itself and nothing else."""
        for character in self._escaped:
            topic = topic.replace(f"%{ord(character):02X}", character)
        return topic


def _with_zones(text: str, zones: Sequence[str], most_levels: int | None) -> str:
    """Return ``text`` with ``zones`` in place of the level ``{zones}``, folded where they are too many."""
    levels = text.split("/")
    folded = [f"{{{zone}}}" for zone in zones]
    if most_levels is not None:
        room = max(1, most_levels - sum(level != "{zones}" for level in levels))
        together = max(0, len(zones) - room) + 1
        folded = [".".join(folded[:together]), *folded[together:]] if zones else []
    return "/".join(part for level in levels for part in (folded if level == "{zones}" else [level]))


def _joins(level: str, parts: Sequence[str], names: Sequence[str]) -> set[str]:
    """Return the characters that join the placeholders of one level; raises ``ValueError`` where it cannot be used."""
    literals, fields = parts[::2], parts[1::2]
    for field in fields:
        if field not in names and field != "topic":
            raise ValueError(f"{{{field[:40]}}} is not known here: {', '.join(names)}, or topic alone")
    if "topic" in fields and level != "{topic}":
        raise ValueError("{topic} is the whole topic: it stands alone as a level")
    if not all(literals[1:-1]):
        raise ValueError(f"two placeholders touch in {level[:80]!r}: put a separator such as '.' between them")
    if not all(is_safe(literal.replace("%", "")) and not {*"{}"} & {*literal} for literal in literals):
        raise ValueError(f"{level[:80]!r} holds a character that a topic must not have, or an unclosed brace")
    joins = {literal[0] for literal in literals[1:-1]}
    if not joins <= _SEPARATORS:
        wrong = "".join(sorted(joins - _SEPARATORS))
        raise ValueError(f"join placeholders in {level[:80]!r} with punctuation such as '.', not {wrong!r}")
    return joins


class _Shape(Struct, frozen=True, gc=False):
    """What is the same for every message of one topic; sizes as the limits count them, without the payload."""

    topic: str
    properties: Mapping[str, str]
    size: int
    retained: Mapping[str, str]
    retained_size: int


class Shaper:
    """Rewrites messages for one connector; knows its templates and limits and nothing else.

    ``retained`` names the kinds that are sent as retained; with ``address`` the address goes into the properties.
    """

    def __init__(
        self,
        scheme: TopicScheme,
        limits: Limits,
        *,
        topic: str | None = None,
        metadata_topic: str | None = None,
        retained: Container[Kind] = ("state", "metadata"),
        address: bool = False,
        key_prefix: str = "",
    ) -> None:
        self._scheme = scheme
        self._limits = limits
        self._retained = retained
        self._address = address
        self._key_prefix = key_prefix
        # what must be escaped in a topic as it is goes the way of a template
        whole = "{topic}" if limits.escaped else None
        topic, metadata_topic = topic or whole, metadata_topic or whole
        state_names = (*STATE_NAMES, *scheme.hierarchy[1:])
        fitting = (limits.escaped, limits.max_topic_levels)
        self._state = Template(topic, state_names, *fitting) if topic else None
        self._metadata = Template(metadata_topic, METADATA_NAMES, *fitting) if metadata_topic else None
        self._shapes: dict[tuple[str, str], _Shape | Rejected] = {}
        self._max_payload = limits.max_payload_bytes
        self._native = limits.retain == "native"
        self._rewrite: Callable[[Message], _Shape] = self._shape_of

    @classmethod
    def of(
        cls, connector: Connector, options: ConnectorOptions, scheme: TopicScheme, limits: Limits, key_prefix: str = ""
    ) -> Shaper:
        """Return that of one connector as it is configured; ``limits`` are those in force."""
        retained = connector.retained_kinds
        if options.retain is not None:
            retained = frozenset(get_args(Kind)) if options.retain else frozenset()
        return cls(
            scheme,
            limits,
            topic=options.topic or connector.default_topic,
            metadata_topic=options.metadata_topic or connector.default_metadata_topic,
            retained=retained,
            address=connector.carries_address,
            key_prefix=key_prefix,
        )

    def shape(self, message: Message, sequence: int) -> Outgoing:
        """Return ``message`` as the destination gets it; raises :class:`Rejected` where it would be refused."""
        shape = self._rewrite(message)
        retain = message.retain and message.kind in self._retained
        properties, size = shape.properties, shape.size
        if retain and not self._native:
            retain = False
            properties, size = shape.retained, shape.retained_size
        if self._max_payload is not None:
            size += len(message.payload)
            if size > self._max_payload:
                raise Rejected(
                    f"{self._limits.payload_counts} of {size:,} bytes: the destination takes {self._max_payload:,}"
                )
        return Outgoing(
            shape.topic,
            message.payload,
            message.kind,
            message.time,
            retain,
            message.topic,
            f"{self._key_prefix}{sequence}",
            properties,
        )

    def _shape_of(self, message: Message) -> _Shape:
        cached = self._shapes.get((message.topic, message.kind))
        if cached is None:
            try:
                cached = self._new_shape(message)
            except Rejected as error:
                cached = Rejected(error.reason)  # a new one: that which was raised holds the message by its traceback
            if len(self._shapes) >= _CACHED_TOPICS:
                self._shapes.clear()
            self._shapes[message.topic, message.kind] = cached
        if isinstance(cached, Rejected):
            raise Rejected(cached.reason)
        return cached

    def _new_shape(self, message: Message) -> _Shape:
        topic = self._new_topic(message)
        properties = self._beside(message) if self._address else NO_PROPERTIES
        retained = properties
        if self._limits.retain == "property":
            retained = {**properties, **_RETAINED}
            if message.kind in self._retained:
                self._check_properties(retained)
        self._check_properties(properties)
        return _Shape(topic, properties, self._size(topic, properties), retained, self._size(topic, retained))

    def _size(self, topic: str, properties: Mapping[str, str]) -> int:
        counts = self._limits.payload_counts
        size = len(topic.encode()) if "topic" in counts else 0
        if "properties" in counts:
            size += sum(len(name.encode()) + len(text.encode()) for name, text in properties.items())
        return size

    def _beside(self, message: Message) -> Mapping[str, str]:
        """Return the address, for people and rules that look at properties rather than topics."""
        properties = {"topic": message.topic, "kind": message.kind}
        address = self._scheme.parse(message.topic)
        if isinstance(address, MetadataAddress):
            properties |= {"org": address.org, "id": address.id}
        elif address is not None:
            zones = zip(self._scheme.hierarchy[1:], address.zones, strict=True)
            properties["org"] = address.org
            properties |= {level: zone for level, zone in zones if zone is not None}
            properties |= {name: str(getattr(address, name)) for name in STATE_NAMES[2:]}
        return properties

    def _new_topic(self, message: Message) -> str:
        template = self._state if message.kind == "state" else self._metadata
        topic = message.topic
        if template is not None:
            address = self._scheme.parse(topic)
            if address is None or isinstance(address, MetadataAddress) != (message.kind == "metadata"):
                raise Rejected("the topic is not one of this site's scheme, so no template applies")
            values = {"root": self._scheme.root, "topic": topic, "org": escape(address.org)}
            if isinstance(address, MetadataAddress):
                values["id"] = escape(address.id)
            else:
                levels = topic.split("/")
                zones = self._scheme.hierarchy[1:]
                names = ("root", "org", "", *zones, "system", "driver", "module", "index", "state")
                values.update(zip(names, levels, strict=True))
            topic = template.fill(values)
        self._check(topic)
        return topic

    def _check(self, topic: str) -> None:
        limits = self._limits
        levels = topic.count("/") + 1
        if limits.max_topic_levels is not None and levels > limits.max_topic_levels:
            raise Rejected(f"the topic has {levels} levels: the destination takes {limits.max_topic_levels}")
        size = len(topic.encode())
        if size > limits.max_topic_bytes:
            raise Rejected(f"the topic has {size} bytes: the destination takes {limits.max_topic_bytes}")
        for prefix in limits.reserved_prefixes:
            if topic.startswith(prefix):
                raise Rejected(f"the topic begins with {prefix!r}, which the destination keeps for itself")

    def _check_properties(self, properties: Mapping[str, str]) -> None:
        limits = self._limits
        if limits.max_properties is not None and len(properties) > limits.max_properties:
            raise Rejected(f"{len(properties)} properties: the destination takes {limits.max_properties}")
        for name, value in properties.items():
            for what, text, most in (
                ("name", name, limits.max_property_name_bytes),
                ("value", value, limits.max_property_value_bytes),
            ):
                if most is not None and (size := len(text.encode())) > most:
                    raise Rejected(
                        f"the {what} of the property {name[:80]!r} has {size} bytes: the destination takes {most}"
                    )
