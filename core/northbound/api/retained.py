"""The present: the newest message of every topic, and which topics a filter means.

Values change all the time and topics hardly ever do, so there are two structures: a flat table of values, which is all
that a new value of a known topic touches, and a tree of the topics, which answers filters. A subscriber is given the
topics of its filter and reads each value when it can be sent: never an old one, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from northbound.message import Message
from northbound.mqtt.properties import NONE, Properties
from northbound.mqtt.publication import Publication

_KEPT_ANSWERS = 64


class Details(msgspec.Struct, frozen=True, gc=False):
    """What a client said beside topic and payload. ``expires`` is on the broker's clock."""

    qos: int
    properties: Properties
    expires: float | None


class _Node:
    __slots__ = ("children", "topic")

    def __init__(self) -> None:
        self.children: dict[str, _Node] | None = None
        self.topic: str | None = None


class Retained:
    """``generation`` changes whenever a topic comes or goes."""

    def __init__(self) -> None:
        self._values: dict[str, Message] = {}
        self._details: dict[str, Details] = {}
        self._root = _Node()
        self._answers: dict[str, tuple[int, tuple[str, ...]]] = {}
        self.generation = 0

    def __len__(self) -> int:
        """Return the number of topics."""
        return len(self._values)

    def get(self, topic: str) -> Message | None:
        """Return the value at a topic."""
        return self._values.get(topic)

    def plain(self, topic: str) -> bool:
        """Say whether nothing but topic and payload is known of a value."""
        return not self._details or topic not in self._details

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

    def match(self, text: str) -> Iterator[Message]:
        """Return the values of a filter's topics."""
        for topic in self.topics(text):
            message = self._values.get(topic)
            if message is not None:
                yield message

    # -- which topics a filter means ----------------------------------------------------------------------------

    def topics(self, text: str) -> tuple[str, ...]:
        """Return the topics that match a filter. Many clients ask the same at once, so the last answers are kept."""
        kept = self._answers.get(text)
        if kept is not None and kept[0] == self.generation:
            return kept[1]
        if "+" not in text and "#" not in text:
            return (text,) if text in self._values else ()
        found = tuple(topic for topic in self._values if topic[:1] != "$") if text == "#" else self._search(text)
        if len(self._answers) >= _KEPT_ANSWERS:
            self._answers.clear()
        self._answers[text] = (self.generation, found)
        return found

    def _search(self, text: str) -> tuple[str, ...]:
        names = text.split("/")
        nodes = [self._root]
        for depth, name in enumerate(names):
            wild = name in {"+", "#"}
            if name == "#":
                return tuple(topic for node in nodes for topic in _below(node, dollar=depth > 0))
            following: list[_Node] = []
            for node in nodes:
                children = node.children
                if children is None:
                    continue
                if wild:
                    following += [child for key, child in children.items() if depth or key[:1] != "$"]
                elif (child := children.get(name)) is not None:
                    following.append(child)
            nodes = following
        return tuple(node.topic for node in nodes if node.topic is not None)

    def _add(self, topic: str) -> None:
        self.generation += 1
        node = self._root
        for name in topic.split("/"):
            if node.children is None:
                node.children = {}
            child = node.children.get(name)
            if child is None:
                child = node.children[name] = _Node()
            node = child
        node.topic = topic

    def _remove(self, topic: str) -> None:
        self.generation += 1
        names = topic.split("/")
        path = [self._root]
        for name in names:
            children = path[-1].children
            if children is None:
                return
            path.append(children[name])
        path[-1].topic = None
        for depth in range(len(names), 0, -1):
            node, above = path[depth], path[depth - 1].children
            if node.children or node.topic is not None or above is None:
                return
            del above[names[depth - 1]]


def _below(node: _Node, *, dollar: bool) -> Iterator[str]:
    """Return a node's topic and all below it; those that begin with ``$`` only where the filter names them."""
    stack = [node]
    if not dollar:
        stack = [child for key, child in reversed((node.children or {}).items()) if key[:1] != "$"]
    while stack:
        item = stack.pop()
        if item.topic is not None:
            yield item.topic
        if item.children:
            stack += reversed(item.children.values())
