"""Topic filters as a trie: which of them match a topic, in time that does not depend on how many there are.

Every distinct filter is one :class:`FilterNode`, which knows who subscribed to it. ``generation`` changes whenever a
filter comes or goes, so that whoever remembers the matches of a topic knows when to ask again.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Member = TypeVar("Member")
Value = TypeVar("Value")


class FilterNode(Generic[Member, Value]):
    """One filter: ``members`` and what each was granted; ``shared`` are its shared subscriptions by name."""

    __slots__ = ("filter", "members", "shared")

    def __init__(self, text: str) -> None:
        self.filter = text
        self.members: dict[Member, Value] = {}
        self.shared: dict[str, dict[Member, Value]] = {}

    @property
    def empty(self) -> bool:
        """Whether nobody is left."""
        return not self.members and not self.shared


class _Level(Generic[Member, Value]):
    __slots__ = ("children", "here", "rest")

    def __init__(self) -> None:
        self.children: dict[str, _Level[Member, Value]] = {}
        self.here: FilterNode[Member, Value] | None = None  # the filter that ends here
        self.rest: FilterNode[Member, Value] | None = None  # the one that goes on with "#"


class FilterTrie(Generic[Member, Value]):
    """Holds filters that are right (see ``northbound.mqtt.check_filter``)."""

    def __init__(self) -> None:
        self._root: _Level[Member, Value] = _Level()
        self._nodes: dict[str, FilterNode[Member, Value]] = {}
        self.generation = 0

    def __len__(self) -> int:
        """Return the number of distinct filters."""
        return len(self._nodes)

    def __iter__(self) -> object:
        """Return the nodes."""
        return iter(self._nodes.values())

    def get(self, text: str) -> FilterNode[Member, Value] | None:
        """Return the node of a filter, if anybody subscribed to it."""
        return self._nodes.get(text)

    def node(self, text: str) -> FilterNode[Member, Value]:
        """Return the node of a filter, made if need be; whoever made it empty again calls :meth:`discard`."""
        found = self._nodes.get(text)
        if found is not None:
            return found
        made: FilterNode[Member, Value] = FilterNode(text)
        self._nodes[text] = made
        self.generation += 1
        level = self._root
        for name in text.split("/"):
            if name == "#":
                level.rest = made
                return made
            level = level.children.setdefault(name, _Level())
        level.here = made
        return made

    def discard(self, text: str) -> None:
        """Take a filter out, and the branch that led only to it."""
        if self._nodes.pop(text, None) is None:
            return
        self.generation += 1
        names = text.split("/")
        path = [self._root]
        for name in names:
            if name == "#":
                break
            path.append(path[-1].children[name])
        if names[-1] == "#":
            path[-1].rest = None
        else:
            path[-1].here = None
        for depth in range(len(path) - 1, 0, -1):
            level = path[depth]
            if level.children or level.here is not None or level.rest is not None:
                return
            del path[depth - 1].children[names[depth - 1]]

    def match(self, topic: str) -> tuple[FilterNode[Member, Value], ...]:
        """Return the filters that match, in no order; wildcards in front do not match ``$`` (section 4.7.2)."""
        found: list[FilterNode[Member, Value]] = []
        levels = [self._root]
        wild = not topic.startswith("$")
        for name in topic.split("/"):
            following: list[_Level[Member, Value]] = []
            for level in levels:
                if wild:
                    if level.rest is not None:
                        found.append(level.rest)
                    if (child := level.children.get("+")) is not None:
                        following.append(child)
                if (child := level.children.get(name)) is not None:
                    following.append(child)
            wild = True
            levels = following
            if not levels:
                return tuple(found)
        for level in levels:
            if level.here is not None:
                found.append(level.here)
            if level.rest is not None:  # "a/#" matches "a"
                found.append(level.rest)
        return tuple(found)
