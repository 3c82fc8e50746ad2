"""The directory itself: rows in, changes of places and metadata out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from northbound.directory.records import (
    Described,
    Driver,
    Entity,
    Module,
    Moved,
    Place,
    System,
    Zone,
    resolved_name,
)
from northbound.directory.zones import Location, ZoneTree


class Changes(Struct):
    """What a batch of rows has changed. Every clearing comes before what may take its topic."""

    moved: list[Moved] = field(default_factory=list)
    described: list[Described] = field(default_factory=list)


class _Dirty:
    """What has to be worked out again."""

    def __init__(self) -> None:
        self.located: set[str] = set()  # systems whose zones may have changed
        self.numbered: set[str] = set()  # systems whose names and indices may have changed
        self.modules: set[str] = set()
        self.described: set[str] = set()  # zones, systems, drivers


class Directory:
    """Where every module is. ``hierarchy`` names the zone levels, the organisation's first.

    With ``walk_parents`` a system is also on the levels above the zones that it lists.
    """

    def __init__(self, hierarchy: Sequence[str], *, walk_parents: bool = False) -> None:
        self._walk_parents = walk_parents
        self._zones = ZoneTree(hierarchy, walk_parents=walk_parents)
        self._systems: dict[str, System] = {}
        self._drivers: dict[str, Driver] = {}
        self._modules: dict[str, Module] = {}
        # who names whom, whether or not there is such a row
        self._systems_in: defaultdict[str, set[str]] = defaultdict(set)
        self._systems_with: defaultdict[str, set[str]] = defaultdict(set)
        self._modules_of: defaultdict[str, set[str]] = defaultdict(set)
        # what was worked out
        self._locations: dict[str, Location] = {}
        self._numbers: dict[str, dict[str, tuple[str, int]]] = {}
        self._places: dict[str, tuple[Place, ...]] = {}
        self._orgs_of_driver: defaultdict[str, Counter[str | None]] = defaultdict(Counter)
        self._described: dict[str, tuple[frozenset[str | None], Mapping[str, Any]]] = {}

    # answers

    def places(self, module: str) -> tuple[Place, ...]:
        """Return where a module is."""
        return self._places.get(module, ())

    def module(self, id_: str) -> Module | None:
        """Return a module's row."""
        return self._modules.get(id_)

    def placed(self) -> list[str]:
        """Return the modules that have a place."""
        return list(self._places)

    def ids(self, kind: type[Entity]) -> list[str]:
        """Return the ids of all rows of one kind."""
        if kind is Zone:
            return self._zones.ids()
        return list(self._table(kind))

    # rows

    def apply(self, rows: Iterable[Entity] = (), gone: Iterable[tuple[type[Entity], str]] = ()) -> Changes:
        """Take rows in, new and changed ones alike, and forget those ``gone``; returns what that changes.

        The order within one call does not matter; a row that stays as it was changes nothing.
        """
        dirty = _Dirty()
        for kind, id_ in gone:
            self._change(kind, id_, None, dirty)
        for row in rows:
            self._change(type(row), row.id, row, dirty)
        self._locate(dirty)
        self._number(dirty)
        changes = Changes()
        self._place(dirty, changes)
        self._describe(dirty, changes)
        return changes

    def _table(self, kind: type[Entity]) -> dict[str, Any]:
        return self._systems if kind is System else self._drivers if kind is Driver else self._modules

    def _change(self, kind: type[Entity], id_: str, row: Any, dirty: _Dirty) -> None:
        old: Any = self._zones.get(id_) if kind is Zone else self._table(kind).get(id_)
        if old == row:
            return
        if kind is Zone:
            self._change_zone(id_, old, row, dirty)
            return
        table = self._table(kind)
        if row is None:
            del table[id_]
        else:
            table[id_] = row
        if kind is System:
            self._change_system(id_, old, row, dirty)
        elif kind is Driver:
            self._change_driver(id_, old, row, dirty)
        else:
            self._change_module(id_, old, row, dirty)

    def _change_zone(self, id_: str, old: Zone | None, new: Zone | None, dirty: _Dirty) -> None:
        dirty.described.add(id_)
        if new is None:
            self._zones.remove(id_)
        else:
            self._zones.put(new)
        if old is not None and new is not None and (old.tags, old.parent) == (new.tags, new.parent):
            return
        below = self._zones.below(id_)
        dirty.described |= below
        for zone in below if self._walk_parents else (id_,):
            dirty.located |= self._systems_in.get(zone, set())

    def _change_system(self, id_: str, old: System | None, new: System | None, dirty: _Dirty) -> None:
        dirty.described.add(id_)
        zones = [set(row.zones) if row is not None else set() for row in (old, new)]
        modules = [set(row.modules) if row is not None else set() for row in (old, new)]
        _rename(self._systems_in, id_, *zones)
        _rename(self._systems_with, id_, *modules)
        dirty.described |= zones[0] ^ zones[1]
        if old is None or new is None or old.zones != new.zones:
            dirty.located.add(id_)
        if old is None or new is None or old.modules != new.modules:
            dirty.numbered.add(id_)
            dirty.modules |= modules[0] ^ modules[1]

    def _change_driver(self, id_: str, old: Driver | None, new: Driver | None, dirty: _Dirty) -> None:
        dirty.described.add(id_)
        modules = self._modules_of.get(id_, set())
        if old is None or new is None:
            dirty.modules |= modules
        if old is None or new is None or old.module_name != new.module_name:
            for module in modules:
                dirty.numbered |= self._systems_with.get(module, set())

    def _change_module(self, id_: str, old: Module | None, new: Module | None, dirty: _Dirty) -> None:
        drivers = [{row.driver} if row is not None else set() for row in (old, new)]
        _rename(self._modules_of, id_, *drivers)
        dirty.modules.add(id_)
        dirty.numbered |= self._systems_with.get(id_, set())

    # working out

    def _locate(self, dirty: _Dirty) -> None:
        for id_ in dirty.located:
            old = self._locations.pop(id_, None)
            system = self._systems.get(id_)
            new = None if system is None else self._zones.locate(system.zones)
            if new is not None:
                self._locations[id_] = new
            if new == old:
                continue
            dirty.described.add(id_)
            dirty.modules.update(self._numbers.get(id_, ()))
            if system is not None:
                dirty.modules.update(system.modules)
                dirty.described.update(system.zones)  # a zone without an organisation above takes its systems'

    def _number(self, dirty: _Dirty) -> None:
        for id_ in dirty.numbered:
            old = self._numbers.pop(id_, {})
            system = self._systems.get(id_)
            new = {} if system is None else self._numbered(system)
            if new:
                self._numbers[id_] = new
            dirty.modules.update(module for module in old.keys() | new.keys() if old.get(module) != new.get(module))

    def _numbered(self, system: System) -> dict[str, tuple[str, int]]:
        """Return name and index of a system's modules: counted per name, in the system's own order."""
        counts: Counter[str] = Counter()
        numbers: dict[str, tuple[str, int]] = {}
        for id_ in system.modules:
            module = self._modules.get(id_)
            if module is None or id_ in numbers:
                continue
            name = resolved_name(module, self._drivers.get(module.driver))
            counts[name] += 1
            numbers[id_] = (name, counts[name])
        return numbers

    def _place(self, dirty: _Dirty, changes: Changes) -> None:
        for id_ in sorted(dirty.modules):
            old, new = self._places.pop(id_, ()), self._places_of(id_)
            if new:
                self._places[id_] = new
            if new == old:
                continue
            before, after = frozenset(old), frozenset(new)
            gone = tuple(place for place in old if place not in after)
            fresh = tuple(place for place in new if place not in before)
            changes.moved.append(Moved(id_, gone, fresh))
            for places, step in ((gone, -1), (fresh, 1)):
                for place in places:
                    self._orgs_of_driver[place.driver][place.org] += step
                    dirty.described.add(place.driver)

    def _places_of(self, id_: str) -> tuple[Place, ...]:
        module = self._modules.get(id_)
        if module is None or module.driver not in self._drivers:
            return ()
        places = []
        for system in sorted(self._systems_with.get(id_, ())):
            number = self._numbers.get(system, {}).get(id_)
            location = self._locations.get(system)
            if number is not None and location is not None:
                places.append(Place(location.org, location.zones, system, module.driver, *number))
        return tuple(places)

    def _describe(self, dirty: _Dirty, changes: Changes) -> None:
        told: list[Described] = []
        for id_ in sorted(dirty.described):
            old, before = self._described.pop(id_, (frozenset(), {}))
            new, about = self._description(id_)
            if new:
                self._described[id_] = (new, about)
            gone = old - new
            changes.described += [Described(id_, org, None) for org in sorted(gone, key=str)]
            # Where one topic stands for all organisations, clearing it for one has cleared it for all.
            again = new if gone or about != before else new - old
            told += [Described(id_, org, about) for org in sorted(again, key=str)]
        changes.described += told

    def _description(self, id_: str) -> tuple[frozenset[str | None], Mapping[str, Any]]:
        """Return under which organisations an entity is described, and how."""
        zone = self._zones.get(id_)
        if zone is not None:
            if self._zones.level(id_) is None:
                return frozenset(), {}
            org = self._zones.org(id_)
            if org is not None:
                return frozenset((org,)), zone.about
            around = {self._locations[system].org for system in self._systems_in.get(id_, ())}
            return frozenset(around - {None} or {None}), zone.about
        system = self._systems.get(id_)
        if system is not None:
            return frozenset((self._locations[id_].org,)), system.about
        driver = self._drivers.get(id_)
        counts = self._orgs_of_driver.get(id_)
        if counts is not None:
            for org in [org for org, count in counts.items() if not count]:
                del counts[org]
            if not counts:
                del self._orgs_of_driver[id_]
        if driver is not None and counts:
            return frozenset(counts), driver.about
        return frozenset(), {}


def _rename(index: defaultdict[str, set[str]], id_: str, old: set[str], new: set[str]) -> None:
    """Make the names ``new``, and no longer ``old``, lead to ``id_``."""
    for name in old - new:
        index[name].discard(id_)
        if not index[name]:
            del index[name]
    for name in new - old:
        index[name].add(id_)
