"""Addresses to topics and back, escaping, and wildcard matching. Pure.

    {root}/{org}/state/{building}/{level}/{area}/{system}/{driver}/{module}/{index}/{state}
    {root}/{org}/metadata/{id}

A missing zone is ``_``. What would break a topic is percent-encoded (UTF-8 bytes, upper-case hex): ``/``, ``+``,
``#``, ``%``, NUL, control characters and Unicode non-characters (MQTT 5.0, 1.5.4: a broker may refuse them),
and a zone whose id is itself ``_``. An empty zone id is a missing one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from northbound.errors import EventRefused
from northbound.events import DEFAULT_HIERARCHY
from northbound.message import Address

MAX_TOPIC_BYTES: Final = 65_535  # MQTT 5.0, 4.7.3
MAX_INDEX: Final = 1_000_000
MISSING: Final = "_"

_NEVER = "+#%\x00-\x1f\x7f"
# U+FDD0 to U+FDEF and the last two of each plane. Ranges beyond the first plane make the search five times slower.
_NON_CHARACTERS = "\ufdd0-\ufdef" + "".join(
    f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17)
)
_UNSAFE_ASCII = re.compile(f"[{_NEVER}]")
_UNSAFE = re.compile(f"[{_NEVER}\x80-\x9f{_NON_CHARACTERS}]")
_UNSAFE_IN_LEVEL = re.compile(f"[/{_NEVER}\x80-\x9f{_NON_CHARACTERS}]")


class MetadataAddress(Struct, frozen=True, gc=False):
    """The place of one entity's metadata. ``org`` is what stands in the topic."""

    org: str
    id: str


def is_safe(text: str) -> bool:
    """Return whether ``text`` holds nothing that :func:`escape` would change, slashes aside."""
    return (_UNSAFE_ASCII if text.isascii() else _UNSAFE).search(text) is None


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match.group().encode())


def escape(text: str) -> str:
    """Return ``text`` as one topic level. :func:`unescape` gives it back exactly."""
    return _UNSAFE_IN_LEVEL.sub(_percent, text)


def escape_zone(text: str) -> str:
    """Return the id of a zone as one topic level: never the one that stands for a missing zone."""
    return "%5F" if text == MISSING else escape(text)


def unescape(level: str) -> str:
    """Return what was escaped to ``level``; raises ``ValueError`` where the bytes are not UTF-8."""
    return unquote_to_bytes(level).decode() if "%" in level else level


class TopicScheme:
    """How one installation writes its topics.

    ``hierarchy`` names the zone levels, the organisation first. ``metadata_org`` replaces the organisation's id in
    metadata topics where PlaceOS's ``source`` is imitated (it writes the literal ``org``).
    """

    def __init__(
        self,
        root: str = "placeos",
        hierarchy: Sequence[str] = DEFAULT_HIERARCHY,
        *,
        metadata_org: str | None = None,
    ) -> None:
        self.root = root
        self.hierarchy = tuple(hierarchy)
        self.metadata_org = metadata_org
        self._zones = len(self.hierarchy) - 1
        self._slashes = self._zones + 7  # root, org, "state", the zones, system, driver, module, index, state

    def state_topic(
        self, org: str, zones: tuple[str | None, ...], system: str, driver: str, module: str, index: int, state: str
    ) -> str:
        """Return the topic of a value; raises :class:`EventRefused` where there cannot be one."""
        if len(zones) != self._zones:
            raise EventRefused(f"{len(zones)} zone levels where the hierarchy has {self._zones}")
        if type(index) is not int or index < 1 or index > MAX_INDEX:
            raise EventRefused(f"the index is not a whole number from 1 to {MAX_INDEX}")
        where = "/".join([zone or MISSING for zone in zones]) if self._zones else ""
        topic = "/".join((self.root, org, "state", where, system, driver, module, str(index), state))
        if topic.count("/") != self._slashes or MISSING in zones or not self._zones or not is_safe(topic):
            levels = [
                self.root,
                escape(org),
                "state",
                *(escape_zone(zone) if zone else MISSING for zone in zones),
                *map(escape, (system, driver, module, str(index), state)),
            ]
            topic = "/".join(levels)
        if not (org and system and driver and module and state):
            raise EventRefused("an empty org, system, driver, module or state has no topic")
        _check_length(topic)
        return topic

    def metadata_topic(self, org: str, id_: str) -> str:
        """Return the topic of an entity's metadata."""
        if not org or not id_:
            raise EventRefused("an empty org or id has no topic")
        topic = f"{self.root}/{escape(self.metadata_org or org)}/metadata/{escape(id_)}"
        _check_length(topic)
        return topic

    def parse(self, topic: str) -> Address | MetadataAddress | None:
        """Return what ``topic`` is the topic of; ``None`` where this scheme would not have written it."""
        levels = topic.split("/")
        if len(levels) < 4 or levels[0] != self.root:
            return None
        try:
            if levels[2] == "metadata" and len(levels) == 4:
                org, id_ = unescape(levels[1]), unescape(levels[3])
                return MetadataAddress(org, id_) if self.metadata_topic(org, id_) == topic else None
            if levels[2] != "state" or len(levels) != self._slashes + 1:
                return None
            zones = tuple([None if level == MISSING else unescape(level) for level in levels[3 : 3 + self._zones]])
            org, (system, driver, module, number, state) = unescape(levels[1]), map(unescape, levels[3 + self._zones :])
            index = int(number)
            written = self.state_topic(org, zones, system, driver, module, index, state)
        except (ValueError, EventRefused):
            return None
        return Address(org, zones, system, driver, module, index, state) if written == topic else None


def _check_length(topic: str) -> None:
    if len(topic) * 4 > MAX_TOPIC_BYTES:
        try:
            length = len(topic.encode())
        except UnicodeEncodeError:
            raise EventRefused("the address holds a lone surrogate, which is not Unicode text") from None
        if length > MAX_TOPIC_BYTES:
            raise EventRefused(f"the topic would have {length} bytes; MQTT allows {MAX_TOPIC_BYTES}")
    elif not topic.isascii():
        try:
            topic.encode()
        except UnicodeEncodeError:
            raise EventRefused("the address holds a lone surrogate, which is not Unicode text") from None


def _text_problem(text: str) -> str | None:
    if not text:
        return "is empty"
    if "\0" in text:
        return "holds NUL"
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        return "holds a lone surrogate, which is not Unicode text"
    return f"has more than {MAX_TOPIC_BYTES} bytes" if length > MAX_TOPIC_BYTES else None


def filter_problem(topic_filter: str) -> str | None:
    """Return what is wrong with a topic filter in words, ``None`` where it is right (MQTT 5.0, 4.7.1)."""
    if problem := _text_problem(topic_filter):
        return problem
    levels = topic_filter.split("/")
    for position, level in enumerate(levels):
        if "#" in level and (level != "#" or position != len(levels) - 1):
            return "'#' must be a whole level, and the last one"
        if "+" in level and level != "+":
            return "'+' must be a whole level"
    return None


class _Node:
    __slots__ = ("children", "ends", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.ends = False
        self.rest = False


class TopicMatcher:
    """Answers whether a topic matches any of some filters, by a trie (MQTT 5.0, 4.7)."""

    def __init__(self, filters: Iterable[str]) -> None:
        self.filters = tuple(filters)
        self._root = _Node()
        for topic_filter in self.filters:
            if problem := filter_problem(topic_filter):
                raise ValueError(f"topic filter {topic_filter[:80]!r} {problem}")
            node = self._root
            for level in topic_filter.split("/"):
                if level == "#":
                    node.rest = True
                    break
                node = node.children.setdefault(level, _Node())
            else:
                node.ends = True
        self.matches_all = self._root.rest

    def matches(self, topic: str) -> bool:
        """Return whether ``topic`` matches; a leading wildcard does not match a topic that begins with ``$``."""
        nodes = [self._root]
        levels = topic.split("/")
        dollar = topic.startswith("$")
        for position, level in enumerate(levels):
            following: list[_Node] = []
            wildcards = not (dollar and position == 0)
            for node in nodes:
                if node.rest and wildcards:
                    return True
                if (child := node.children.get(level)) is not None:
                    following.append(child)
                if wildcards and (child := node.children.get("+")) is not None:
                    following.append(child)
            if not following:
                return False
            nodes = following
        return any(node.ends or node.rest for node in nodes)
