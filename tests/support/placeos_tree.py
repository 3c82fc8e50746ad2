"""The tree of a PlaceOS installation, worked out from scratch in the plainest way: what the source must come to.

Rows are dictionaries as the tables have them; nothing of the directory is used. A place is (org, zones, system,
driver, name, index).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]
HIERARCHY = ("org", "building", "level", "area")


def chain(zones: Rows, id_: str) -> list[str]:
    """Return the zone and what is above it; stops at a missing one and in a circle."""
    found: list[str] = []
    here: str | None = id_
    while here in zones and here not in found:
        found.append(here)
        here = zones[here].get("parent_id")
    return found


def level(zones: Rows, id_: str, hierarchy: Sequence[str]) -> str | None:
    tags = zones[id_]["tags"] if id_ in zones else []
    return ([tag for tag in tags if tag in hierarchy] or [None])[0]


def location(zones: Rows, listed: Sequence[str], hierarchy: Sequence[str], walk: bool) -> dict[str, str]:
    on: dict[str, str] = {}
    for id_ in listed:
        if level(zones, id_, hierarchy):
            on[level(zones, id_, hierarchy)] = id_
    if walk:
        for id_ in listed:
            for above in chain(zones, id_):
                if level(zones, above, hierarchy):
                    on.setdefault(level(zones, above, hierarchy), above)
    return on


def places(
    zones: Rows,
    systems: Rows,
    drivers: Rows,
    modules: Rows,
    *,
    hierarchy: Sequence[str] = HIERARCHY,
    walk: bool = False,
) -> dict[str, set[tuple]]:
    """Return module → its places."""
    found: dict[str, set[tuple]] = {}
    for id_, system in systems.items():
        on = location(zones, system["zones"], hierarchy, walk)
        where = (on.get(hierarchy[0]), tuple(on.get(tag) for tag in hierarchy[1:]), id_)
        seen: list[str] = []
        names: list[str] = []
        for module_id in system["modules"]:
            if module_id not in modules or module_id in seen:
                continue
            seen.append(module_id)
            module = modules[module_id]
            driver = module["driver_id"]
            custom = module.get("custom_name") or ""
            name = custom if custom.strip() else module.get("name") or drivers.get(driver, {}).get("module_name", "")
            names.append(name)
            if driver in drivers:
                found.setdefault(module_id, set()).add((*where, driver, name, names.count(name)))
    return found


def described(
    zones: Rows,
    systems: Rows,
    drivers: Rows,
    modules: Rows,
    *,
    hierarchy: Sequence[str] = HIERARCHY,
    walk: bool = False,
) -> set[tuple[str, str | None]]:
    """Return (id, organisation) of everything that has metadata."""
    found: set[tuple[str, str | None]] = set()
    orgs = {id_: location(zones, row["zones"], hierarchy, walk).get(hierarchy[0]) for id_, row in systems.items()}
    found |= set(orgs.items())
    for id_ in zones:
        if level(zones, id_, hierarchy) is None:
            continue
        above = [zone for zone in chain(zones, id_) if level(zones, zone, hierarchy) == hierarchy[0]]
        if above:
            found.add((id_, above[0]))
            continue
        around = {orgs[system] for system, row in systems.items() if id_ in row["zones"]}
        found |= {(id_, org) for org in (around - {None} or {None})}
    for each in places(zones, systems, drivers, modules, hierarchy=hierarchy, walk=walk).values():
        found |= {(place[3], place[0]) for place in each}
    return found
