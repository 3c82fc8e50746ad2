"""The present: the newest message of every topic, and which topics a filter means.

Values change all the time and topics hardly ever do, so there are two structures: a flat table of values, which is all
that a new value of a known topic touches, and a tree of the topics, which answers filters, some topics at a time. A
subscriber reads each value when it can be sent: never an old one, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final, TypeAlias

import msgspec

from northbound.message import Message
from northbound.mqtt.properties import NONE, Properties
from northbound.mqtt.publication import Publication

_STEP: Final = 256  # places in the tree that a search looks at before others have their turn


class Details(msgspec.Struct, frozen=True, gc=False):
    """What a client said beside topic and payload. ``expires`` is on the broker's clock."""

    qos: int
    properties: Properties
    expires: float | None


class _Node:
    """What begins alike. A topic that is alone below a place stands there itself: most of the tree is never built."""

    __slots__ = ("children", "topic")

    def __init__(self) -> None:
        self.children: dict[str, _Node | str] = {}
        self.topic: str | None = None  # the one that ends here


_Place: TypeAlias = _Node | str


class Retained:
    """See the module."""

    def __init__(self) -> None:
        self._values: dict[str, Message] = {}
        self._details: dict[str, Details] = {}
        self._root = _Node()

    def __len__(self) -> int:
        """Return the number of topics."""
        return len(self._values)

    def get(self, topic: str) -> Message | None:
        """Return the value at a topic."""
        return self._values.get(topic)

    @property
    def detailed(self) -> Container[str]:
        """The topics of whose value more is known than topic and payload."""
        return self._details

    def keep(self, message: Message, details: Details | None = None) -> None:
        """Put a value in the place of the topic's last one; an empty payload clears it."""
        topic = message.topic
        if not message.payload:
            self.clear(topic)
            return
        if topic not in self._values:
            self._add(topic)
        self._values[topic] = message
        if details is not None:
            self._details[topic] = details
        elif self._details:
            self._details.pop(topic, None)

    def clear(self, topic: str) -> None:
        """Forget a topic."""
        if self._values.pop(topic, None) is not None:
            self._details.pop(topic, None)
            self._remove(topic)

    def expire(self, now: float) -> None:
        """Forget what has expired; only what clients published can."""
        for topic in [topic for topic, item in self._details.items() if item.expires is not None]:
            expires = self._details[topic].expires
            if expires is not None and expires <= now:
                self.clear(topic)

    def publication(self, topic: str) -> Publication | None:
        """Return the value as a message to be sent; None where there is none any more."""
        message = self._values.get(topic)
        if message is None:
            return None
        details = self._details.get(topic) if self._details else None
        if details is None:
            return Publication(topic, message.payload, 2, True, newest_only=True)
        return Publication(
            topic, message.payload, details.qos, True, details.properties or NONE, details.expires, newest_only=True
        )

    def match(self, text: str) -> Iterator[list[Message]]:
        """Return the values of a filter's topics, a step at a time; a step may find none."""
        for topics, _ in self.topics(text):
            yield [message for topic in topics if (message := self._values.get(topic)) is not None]

    # -- which topics a filter means ----------------------------------------------------------------------------

    def topics(self, text: str) -> Iterator[tuple[list[str], int]]:
        """Find the topics that match a filter, a step at a time; each is told with the places it looked at in vain.

        A step takes a fraction of a millisecond whatever it finds. The tree may change between two of them: what is
        there all the time is found, once, and what comes or goes meanwhile may be.
        """
        if "+" not in text and "#" not in text:
            return iter([([text], 0)] if text in self._values else [])
        return self._search(text.split("/"))

    def _search(self, names: list[str]) -> Iterator[tuple[list[str], int]]:
        # what is left to look at: places, the next one last, and which of the names comes below them
        stack: list[tuple[list[_Place], int]] = [(self._at_the_top() if names == ["#"] else [self._root], 0)]
        while stack:
            found: list[str] = []
            left = _STEP
            while stack and left > 0:
                places, depth = stack[-1]
                if not places:
                    stack.pop()
                elif depth < len(names) and names[depth] == "#":
                    left = _gather(places, found, left)
                else:
                    left -= 1
                    place = places.pop()
                    if isinstance(place, str):
                        if _fits(place.split("/"), names, depth):
                            found.append(place)
                    elif depth == len(names):
                        if place.topic is not None:
                            found.append(place.topic)
                    elif below := self._below(place, names[depth], depth):
                        stack.append((below, depth + 1))
            yield found, _STEP - left - len(found)

    def _below(self, node: _Node, name: str, depth: int) -> list[_Place]:
        if name == "+":
            return list(reversed(node.children.values())) if depth else self._at_the_top()
        child = node.children.get(name)
        return [] if child is None else [child]

    def _at_the_top(self) -> list[_Place]:
        """Return what a wildcard matches in the first level (section 4.7.2)."""
        return [place for name, place in reversed(self._root.children.items()) if name[:1] != "$"]

    def _add(self, topic: str) -> None:
        node = self._root
        for depth, name in enumerate(topic.split("/"), 1):
            place = node.children.get(name)
            if place is None:
                node.children[name] = topic
                return
            if isinstance(place, str):  # no longer the only one
                place = node.children[name] = _node_of(place, depth)
            node = place
        node.topic = topic

    def _remove(self, topic: str) -> None:
        names = topic.split("/")
        path = [self._root]
        for name in names:
            place = path[-1].children[name]
            if isinstance(place, str):
                del path[-1].children[name]
                break
            path.append(place)
        else:
            path[-1].topic = None
        for depth in range(len(path) - 1, 0, -1):
            node = path[depth]
            if node.children or node.topic is not None:
                return
            del path[depth - 1].children[names[depth - 1]]


def _node_of(topic: str, depth: int) -> _Node:
    """Return the node at which a topic, alone so far, has passed ``depth`` of its levels."""
    node, levels = _Node(), topic.split("/", depth + 1)
    if len(levels) == depth:
        node.topic = topic
    else:
        node.children[levels[depth]] = topic
    return node


def _fits(levels: list[str], names: list[str], depth: int) -> bool:
    """Say whether a topic matches the names of a filter, given that it matches ``depth`` of them."""
    for position in range(depth, len(names)):
        name = names[position]
        if name == "#":
            return True
        if position == len(levels) or name not in {"+", levels[position]}:
            return False
    return len(levels) == len(names)


def _gather(places: list[_Place], found: list[str], left: int) -> int:
    """Take the topics at places and all below them, looking at ``left`` at most; return how many that leaves."""
    while places and left > 0:
        left -= 1
        place = places.pop()
        if isinstance(place, str):
            found.append(place)
            continue
        if place.topic is not None:
            found.append(place.topic)
        places += reversed(place.children.values())
    return left
