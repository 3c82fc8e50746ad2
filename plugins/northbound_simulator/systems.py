"""What stands in a campus and how it behaves: meeting rooms, desk areas, lobbies."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from northbound_simulator.world import DAY, HOUR, MINUTE, Module, Process, World

#: Driver id → what its metadata says.
DRIVERS: Final[dict[str, dict[str, Any]]] = {
    "driver-bookings": {"name": "Room Bookings", "role": "logic", "version": "3.2.0"},
    "driver-camera": {"name": "PTZ Camera", "role": "device", "version": "2.1.4"},
    "driver-desks": {"name": "Desk Occupancy", "role": "service", "version": "1.8.1"},
    "driver-display": {"name": "LCD Display", "role": "device", "version": "4.0.2"},
    "driver-lighting": {"name": "Lighting Zone", "role": "device", "version": "2.0.0"},
    "driver-lock": {"name": "Door Lock", "role": "device", "version": "1.3.0"},
    "driver-sensor": {"name": "Room Sensor", "role": "device", "version": "2.7.3"},
    "driver-video": {"name": "Video Conference Unit", "role": "device", "version": "5.1.0"},
}

# Nobody's names, and addresses in a domain that is nobody's (RFC 2606).
_FIRST = ("Ada", "Bo", "Cleo", "Dara", "Emi", "Finn", "Gia", "Hugo", "Ines", "Jun", "Kaya", "Leo", "Mira", "Noor")
_LAST = ("Amber", "Birch", "Cedar", "Dune", "Elm", "Fjord", "Grove", "Heath", "Isle", "Juniper", "Lark", "Moss")
PEOPLE: Final = tuple(f"{first} {last}" for first in _FIRST for last in _LAST)
_TITLES = ("Stand-up", "Design review", "Budget", "Interview", "Planning", "Retrospective", "Client call", "1:1")
_INPUTS = ("HDMI1", "HDMI2", "USB-C", "Wireless")


class System:
    """One room or area, its modules, and the processes that bring it to life."""

    kind = "system"

    def __init__(
        self, world: World, org: str, zones: tuple[str | None, ...], id_: str, metadata: dict[str, Any]
    ) -> None:
        self.world = world
        self.org = org
        self.zones = zones
        self.id = id_
        self.metadata = metadata
        self.modules: list[Module] = []
        self.people = 0
        self._comfort = world.random.uniform(20.5, 22.5)
        self.sensor = self.module(
            "Sensor",
            "driver-sensor",
            temperature=round(self._comfort - 1.0, 1),
            humidity=round(world.random.uniform(38.0, 50.0), 1),
            co2=420 + int(world.random.random() * 20),
            people_count=0,
            presence=False,
        )

    def module(self, name: str, driver: str, **values: Any) -> Module:
        """Add a module."""
        index = 1 + sum(module.name == name for module in self.modules)
        module = Module(self.org, self.zones, self.id, driver, name, index, **values)
        self.modules.append(module)
        return module

    def processes(self) -> list[Process]:
        """Return what goes on here."""
        return [self._sense()]

    def _count(self, people: int) -> None:
        self.people = people
        if self.sensor.online:
            self.world.change(self.sensor["people_count"], people)
            self.world.change(self.sensor["presence"], people > 0)

    def _sense(self) -> Process:
        """Temperature with the time of day, humidity and carbon dioxide with the people; slowly, as air does."""
        world, sensor, comfort = self.world, self.sensor, self._comfort
        random, change = world.random.random, world.change
        temperature, humidity, co2 = sensor["temperature"], sensor["humidity"], sensor["co2"]
        warmth, water, carbon = float(temperature.value), float(humidity.value), float(co2.value)
        damp = water
        delay = random() * 60.0
        while True:
            yield delay
            swing = math.sin((world.clock % DAY - 9.0 * HOUR) * (2.0 * math.pi / DAY))
            people = self.people
            warmth += (comfort + 1.5 * swing + 0.1 * people - warmth) * delay / 2400.0 + (random() - 0.5) * 0.08
            water += (damp - 3.0 * swing + 0.5 * people - water) * delay / 2400.0 + (random() - 0.5) * 0.2
            carbon += (425.0 + 50.0 * people - carbon) * delay / 1200.0 + (random() - 0.5) * 6.0
            if sensor.connected.value:
                change(temperature, round(warmth, 1))
                change(humidity, round(water, 1))
                change(co2, int(carbon))
                if people != sensor["people_count"].value:
                    self._count(people)
            delay = 20.0 + random() * 40.0


class Room(System):
    """A meeting room: bookings, people, what they switch on, and what they leave on."""

    kind = "room"

    def __init__(
        self, world: World, org: str, zones: tuple[str | None, ...], id_: str, metadata: dict[str, Any]
    ) -> None:
        super().__init__(world, org, zones, id_, metadata)
        self.capacity = int(metadata["capacity"])
        self.displays = [self._display() for _ in range(2 if self.capacity >= 12 else 1)]
        self.video = self.module(
            "VideoUnit", "driver-video", call_status={"state": "idle", "participants": 0}, microphone_mute=False
        )
        self.camera = self.module(
            "Camera", "driver-camera", power=False, preset=None, presets=["Home", "Table", "Board"], position=[0.0, 0.0]
        )
        self.lighting = self.module("Lighting", "driver-lighting", scene="Off", level=0)
        self.lock = self.module("Lock", "driver-lock", locked=True, battery=round(world.random.uniform(60.0, 100.0), 1))
        self.bookings = self.module(
            "Bookings", "driver-bookings", status="free", current_booking=None, host=None, bookings_today=0
        )

    def processes(self) -> list[Process]:
        """Return what goes on here."""
        return [*super().processes(), self._meetings(), self._lock()]

    def _display(self) -> Module:
        return self.module(
            "Display",
            "driver-display",
            power=False,
            input=None,
            volume=25,
            mute=False,
            device_info={"model": "LX-55", "firmware": "7.4.1", "hours": int(self.world.random.random() * 9000)},
        )

    def _meetings(self) -> Process:
        world = self.world
        yield world.random.expovariate(1.0 / (20.0 * MINUTE))
        day = -1.0
        while True:
            if not 7.5 <= world.hour <= 18.0 or world.random.random() > world.attendance + 0.05:
                yield 10.0 * MINUTE + world.random.random() * 20.0 * MINUTE
                continue
            if world.clock // DAY != day:
                day = world.clock // DAY
                world.change(self.bookings["bookings_today"], 0)
            yield from self._meeting()
            yield world.random.expovariate(1.0 / (25.0 * MINUTE))

    def _meeting(self) -> Process:
        world, random = self.world, self.world.random
        minutes = random.choice((15, 30, 30, 45, 60, 60, 90))
        booking = self._booking(minutes)
        world.change(self.bookings["status"], "pending")
        world.change(self.bookings["current_booking"], booking)
        world.change(self.bookings["host"], booking["host"]["email"])
        world.change(self.bookings["bookings_today"], self.bookings["bookings_today"].value + 1)
        yield random.uniform(0.0, 5.0 * MINUTE)
        if random.random() < 0.12:  # nobody comes
            yield 10.0 * MINUTE
        else:
            yield from self._gather(len(booking["attendees"]) + 1)
            yield from self._talk(minutes * MINUTE)
            yield from self._leave()
        world.change(self.bookings["status"], "free")
        world.change(self.bookings["current_booking"], None)
        world.change(self.bookings["host"], None)

    def _booking(self, minutes: int) -> dict[str, Any]:
        random = self.world.random
        begin = int(self.world.clock % DAY // MINUTE)
        return {
            "id": f"booking-{random.getrandbits(32):08x}",
            "title": random.choice(_TITLES),
            "host": self._person(),
            "attendees": [self._person()["email"] for _ in range(random.randint(1, max(1, self.capacity - 1)))],
            "starts": f"{begin // 60:02}:{begin % 60:02}",
            "minutes": minutes,
            "private": random.random() < 0.1,
        }

    def _person(self) -> dict[str, str]:
        first, last = self.world.random.choice(_FIRST), self.world.random.choice(_LAST)
        return {"name": f"{first} {last}", "email": f"{first}.{last}@example.com".lower()}

    def _gather(self, people: int) -> Process:
        world, random = self.world, self.world.random
        world.change(self.bookings["status"], "busy")
        world.change(self.lighting["scene"], "Welcome")
        world.change(self.lighting["level"], 80)
        for present in range(1, people + 1):
            self._count(present)
            yield random.uniform(3.0, 60.0)

    def _talk(self, seconds: float) -> Process:
        world, random = self.world, self.world.random
        for display in self.displays:
            world.change(display["power"], True)
        yield 4.0
        world.change(self.displays[0]["input"], random.choice(_INPUTS))
        world.change(self.lighting["scene"], "Presentation")
        world.change(self.lighting["level"], 35)
        calling = random.random() < 0.5
        if calling:
            yield from self._call()
        end = world.clock + seconds
        while world.clock < end:
            yield random.uniform(1.0, 12.0) * MINUTE
            self._fiddle(calling=calling)
        if calling:
            world.change(self.video["call_status"], {"state": "idle", "participants": 0})
            world.change(self.video["microphone_mute"], False)
            world.change(self.camera["power"], False)

    def _call(self) -> Process:
        world, random = self.world, self.world.random
        world.change(self.camera["power"], True)
        world.change(self.video["call_status"], {"state": "dialling", "participants": 0})
        yield random.uniform(3.0, 15.0)
        world.change(self.video["call_status"], {"state": "connected", "participants": random.randint(1, 9)})
        world.change(self.camera["preset"], random.choice(("Home", "Table")))

    def _fiddle(self, *, calling: bool) -> None:
        """Do one of the small things people do during a meeting."""
        world, random = self.world, self.world.random
        display, dice = self.displays[0], random.random()
        if dice < 0.3:
            volume = display["volume"].value + random.choice((-5, -2, 2, 5))
            world.change(display["volume"], min(60, max(5, volume)))
        elif dice < 0.45:
            world.change(display["input"], random.choice(_INPUTS))
        elif dice < 0.6:
            world.change(display["mute"], not display["mute"].value)
        elif dice < 0.8:
            self._count(max(1, min(self.capacity, self.people + random.choice((-1, 1)))))
        elif calling and dice < 0.9:
            world.change(self.video["microphone_mute"], not self.video["microphone_mute"].value)
        elif calling:
            world.change(self.camera["preset"], random.choice(("Home", "Table", "Board")))
            position = [round(random.uniform(-90.0, 90.0), 1), round(random.uniform(-20.0, 20.0), 1)]
            world.change(self.camera["position"], position)

    def _leave(self) -> Process:
        world, random = self.world, self.world.random
        while self.people:
            self._count(max(0, self.people - random.randint(1, 4)))
            yield random.uniform(2.0, 20.0)
        yield random.uniform(1.0, 5.0) * MINUTE  # the room notices that it is empty
        for display in self.displays:
            world.change(display["power"], False)
            world.change(display["input"], None)
            world.change(display["mute"], False)
        world.change(self.lighting["scene"], "Off")
        world.change(self.lighting["level"], 0)

    def _lock(self) -> Process:
        world, random = self.world, self.world.random
        battery = float(self.lock["battery"].value)
        while True:
            yield random.uniform(10.0, 30.0) * MINUTE
            if self.lock.online:
                battery = battery - random.random() * 0.02 if battery > 5.0 else 100.0
                world.change(self.lock["battery"], round(battery, 1))
                world.change(self.lock["locked"], not (6.5 <= world.hour <= 19.5 and not world.weekend))


class DeskArea(System):
    """Desks with a sensor each, and the list of those that are taken."""

    kind = "desks"

    def __init__(
        self, world: World, org: str, zones: tuple[str | None, ...], id_: str, metadata: dict[str, Any]
    ) -> None:
        super().__init__(world, org, zones, id_, metadata)
        area = next((zone for zone in reversed(zones) if zone), id_)
        self.names = [f"desk-{number:02}" for number in range(1, int(metadata["capacity"]) + 1)]
        # A key that holds what a topic level must not, as they are met in the wild.
        self.summary = f"{area}:desks/taken"
        values: dict[str, Any] = dict.fromkeys(self.names, False)
        self.desks = self.module("Desks", "driver-desks", occupied=0, **values, **{self.summary: []})
        self.lighting = self.module("Lighting", "driver-lighting", scene="Off", level=0)

    def processes(self) -> list[Process]:
        """Return what goes on here."""
        return [*super().processes(), self._people(), self._summarise()]

    def _people(self) -> Process:
        world, random, desks = self.world, self.world.random, self.desks
        pace = 12.0 * MINUTE / len(self.names)
        taken = 0
        while True:
            yield random.expovariate(1.0 / pace)
            desk = desks[random.choice(self.names)]
            wanted = random.random() < world.attendance * 0.85
            if wanted == desk.value:
                continue
            taken += 1 if wanted else -1
            world.change(desk, wanted)
            world.change(desks["occupied"], taken)
            self._count(taken)
            world.change(self.lighting["scene"], "Work" if taken else "Off")
            world.change(self.lighting["level"], 70 if taken else 0)

    def _summarise(self) -> Process:
        while True:
            yield 5.0 * MINUTE
            self.world.change(self.desks[self.summary], [name for name in self.names if self.desks[name].value])


class Lobby(System):
    """The way in: a door, a sign, and the people passing through. It belongs to a level and to no area."""

    kind = "lobby"

    def __init__(
        self, world: World, org: str, zones: tuple[str | None, ...], id_: str, metadata: dict[str, Any]
    ) -> None:
        super().__init__(world, org, zones, id_, metadata)
        self.sign = self.module("Display", "driver-display", power=False, input="Signage", volume=0, mute=True)
        self.lock = self.module("Lock", "driver-lock", locked=True, battery=100.0)

    def processes(self) -> list[Process]:
        """Return what goes on here."""
        return [*super().processes(), self._pass()]

    def _pass(self) -> Process:
        world, random = self.world, self.world.random
        while True:
            yield random.uniform(15.0, 90.0)
            wanted = world.attendance * 14.0
            self._count(max(0, min(40, round(self.people + (wanted - self.people) * 0.3 + random.uniform(-2.0, 2.0)))))
            open_ = 6.5 <= world.hour <= 19.5
            world.change(self.sign["power"], open_)
            if self.lock.online:
                world.change(self.lock["locked"], not open_ or world.weekend)


def faults(world: World, systems: list[System]) -> Iterator[float]:
    """Now and then a sensor or a lock is not heard of for a few minutes."""
    while True:
        yield world.random.expovariate(len(systems) / (6.0 * HOUR))
        system = world.random.choice(systems)
        module = world.random.choice([found for found in system.modules if found.name in ("Sensor", "Lock")])
        world.change(module.connected, not module.online)
        if not module.online:
            yield world.random.uniform(30.0, 300.0)
            world.change(module.connected, True)
