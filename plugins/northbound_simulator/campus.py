"""A whole campus: its zones, its systems, and the events that tell of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import cycle
from typing import Any, Final

from northbound import Event, Metadata, State
from northbound_simulator.options import Options
from northbound_simulator.systems import DRIVERS, DeskArea, Lobby, Room, System, faults
from northbound_simulator.world import DAY, HOUR, World

#: Of so many systems in an area, one is a desk area.
_ONE_IN: Final = 4
_SIDES: Final = ("North", "East", "South", "West", "Atrium", "Terrace")
_TOWNS: Final = (
    ("Lisbon", 38.72, -9.14),
    ("Sydney", -33.87, 151.21),
    ("Oslo", 59.91, 10.75),
    ("Austin", 30.27, -97.74),
)


class Campus:
    """What ``options`` describe, for one hierarchy; the first events are stamped with ``start`` (ms since 1970)."""

    def __init__(self, options: Options, hierarchy: Sequence[str], start: int) -> None:
        self.org = options.org
        self.hierarchy = tuple(hierarchy)
        self.start = start
        self.world = World(options.seed, _clock(options.start_time), start, options.rate)
        self._metadata: dict[str, dict[str, Any]] = {self.org: {"name": "The Campus", "tags": ["org"]}}
        self.systems = list(self._build(options))
        processes = [process for system in self.systems for process in system.processes()]
        self.world.begin([*processes, faults(self.world, self.systems)])

    def initial(self) -> Iterator[Event]:
        """Return what there is: every entity, then every value as it stands."""
        for id_, metadata in self._metadata.items():
            yield Metadata(self.org, id_, metadata, self.start)
        for system in self.systems:
            for module in system.modules:
                for point in module.points.values():
                    yield State(
                        module.org,
                        module.zones,
                        module.system,
                        module.driver,
                        module.name,
                        module.index,
                        point.state,
                        point.value,
                        self.start,
                    )

    def _build(self, options: Options) -> Iterator[System]:
        areas = list(self._areas(options))
        shares = dict.fromkeys(range(len(areas)), 0)
        for number, _ in zip(cycle(shares), range(options.total_systems), strict=False):
            shares[number] += 1
        for number, (ids, label) in enumerate(areas):
            for position in range(shares[number]):
                yield self._system(ids, label, position)
        self._metadata |= DRIVERS

    def _areas(self, options: Options) -> Iterator[tuple[dict[str, str], str]]:
        """Describe the zones; return each area's zone ids by level name, and the prefix of its room numbers."""
        if "region" in self.hierarchy:
            self._metadata["region-1"] = {"name": "Region 1", "tags": ["region"], "parent": self.org}
        for building in range(1, options.buildings + 1):
            town, latitude, longitude = _TOWNS[(building - 1) % len(_TOWNS)]
            ids = {"region": "region-1", "building": f"bld-{building}"}
            location = {"lat": latitude, "lon": longitude}
            self._describe("building", ids, name=f"{town} {building}", location=location, tags=["building"])
            for level in range(1, options.levels + 1):
                ids = ids | {"level": f"lvl-{building}-{level}"}
                self._describe("level", ids, name=f"Level {level}", parent=ids["building"], tags=["level"])
                for area in range(1, options.areas + 1):
                    here = ids | {"area": f"area-{building}-{level}-{area}"}
                    name = _SIDES[(area - 1) % len(_SIDES)] + (f" {area}" if area > len(_SIDES) else "")
                    self._describe("area", here, name=name, parent=ids["level"], tags=["area"])
                    yield here, f"{building}.{level}.{area}"

    def _describe(self, level: str, ids: dict[str, str], **metadata: Any) -> None:
        if level in self.hierarchy:
            self._metadata[ids[level]] = metadata

    def _system(self, ids: dict[str, str], label: str, position: int) -> System:
        id_ = f"sys-{label.replace('.', '-')}-{position + 1}"
        random = self.world.random
        zones = [ids.get(level) for level in self.hierarchy[1:]]
        metadata: dict[str, Any]
        kind: type[System]
        if position == 0 and label.endswith(".1.1"):
            kind = Lobby
            if "area" in self.hierarchy:
                zones[self.hierarchy.index("area") - 1] = None
            metadata = {"name": f"Lobby {label.partition('.')[0]}", "capacity": 40, "bookable": False}
        elif position % _ONE_IN == _ONE_IN - 1:
            kind = DeskArea
            metadata = {"name": f"Desks {label}", "capacity": random.randint(8, 32), "bookable": True}
        else:
            kind = Room
            seats = random.choice((4, 6, 6, 8, 10, 14, 20))
            metadata = {
                "name": f"Room {label}.{position + 1:02}",
                "capacity": seats,
                "bookable": True,
                "email": f"room-{label.replace('.', '-')}-{position + 1}@example.com",
            }
        metadata["zones"] = [zone for zone in zones if zone]
        metadata["features"] = [kind.kind]
        self._metadata[id_] = metadata
        return kind(self.world, self.org, tuple(zones), id_, metadata)


def _clock(start: datetime | None) -> float:
    """Return the seconds since Monday's midnight at which the simulated week begins."""
    if start is None:
        return 8.0 * HOUR
    return start.weekday() * DAY + start.hour * HOUR + start.minute * 60.0 + start.second


def milliseconds(moment: datetime) -> int:
    """Return ``moment`` in ms since 1970; UTC where it names no zone."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
