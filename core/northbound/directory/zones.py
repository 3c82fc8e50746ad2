"""Zones: their tree, which levels of the hierarchy a system is on, and to which organisation a zone belongs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from msgspec import Struct

from northbound.directory.records import Zone


class Location(Struct, frozen=True):
    """Where a system is: its organisation, and the zone of each level below it."""

    org: str | None
    zones: tuple[str | None, ...]


class ZoneTree:
    """The zones of an installation. ``hierarchy`` names the tags that are levels, the organisation's first.

    Parents may be missing, and even go round in a circle: rows are written by people.
    """

    def __init__(self, hierarchy: Sequence[str], *, walk_parents: bool) -> None:
        self._levels = tuple(hierarchy)
        self._walk_parents = walk_parents
        self._zones: dict[str, Zone] = {}
        self._children: defaultdict[str, set[str]] = defaultdict(set)

    def get(self, id_: str) -> Zone | None:
        """Return a zone."""
        return self._zones.get(id_)

    def ids(self) -> list[str]:
        """Return the ids of all zones."""
        return list(self._zones)

    def put(self, zone: Zone) -> None:
        """Take a row in."""
        self.remove(zone.id)
        self._zones[zone.id] = zone
        if zone.parent is not None:
            self._children[zone.parent].add(zone.id)

    def remove(self, id_: str) -> None:
        """Forget a row."""
        zone = self._zones.pop(id_, None)
        if zone is not None and zone.parent is not None:
            children = self._children[zone.parent]
            children.discard(id_)
            if not children:
                del self._children[zone.parent]

    def below(self, id_: str) -> set[str]:
        """Return the zone and all below it, those of a missing zone too."""
        found = {id_}
        pending = [id_]
        while pending:
            for child in self._children.get(pending.pop(), ()):
                if child not in found:
                    found.add(child)
                    pending.append(child)
        return found

    def level(self, id_: str) -> str | None:
        """Return the level a zone is on: its first tag that is one; ``None`` where none is, or there is no zone."""
        zone = self._zones.get(id_)
        return None if zone is None else next((tag for tag in zone.tags if tag in self._levels), None)

    def org(self, id_: str) -> str | None:
        """Return the organisation that is the zone or the nearest above it."""
        return next((zone for zone in self._upwards(id_) if self.level(zone) == self._levels[0]), None)

    def locate(self, listed: Sequence[str]) -> Location:
        """Return where a system is that lists these zones. Of two on one level the later counts, as in PlaceOS."""
        on: dict[str, str] = {}
        for id_ in listed:
            level = self.level(id_)
            if level is not None:
                on[level] = id_
        if self._walk_parents:
            for id_ in listed:
                for above in self._upwards(id_):
                    level = self.level(above)
                    if level is not None:
                        on.setdefault(level, above)
        org, *zones = (on.get(level) for level in self._levels)
        return Location(org, tuple(zones))

    def _upwards(self, id_: str) -> Iterator[str]:
        """Give the zone and those above it, each once."""
        seen: set[str] = set()
        here: str | None = id_
        while here is not None and here not in seen:
            seen.add(here)
            yield here
            zone = self._zones.get(here)
            here = None if zone is None else zone.parent
