"""The simulator: the same campus for the same seed, believable, and at the rate asked for."""

import asyncio
import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.support.intake import RecordingIntake, running, until

from northbound import Metadata, State
from northbound.loading import load_file
from northbound.registry import Registry
from northbound_simulator import Options, SimulatorSource
from northbound_simulator.campus import Campus, milliseconds

HERE = Path(__file__).parents[2] / "plugins" / "northbound_simulator"
HIERARCHY = ("org", "building", "level", "area")
MONDAY = "2026-01-05T08:00:00Z"


def campus(hierarchy=HIERARCHY, start=0, **options):
    return Campus(Options(**options), hierarchy, start)


def source(**options):
    return SimulatorSource(Options(**options), name="sim")


def place(event):
    return (event.system, event.module, event.index, event.state)


def day(hours=24, **options):
    simulated = campus(rate=0, **options)
    initial = list(simulated.initial())
    return initial, simulated.world.take(10**9, simulated.world.clock + hours * 3600)


# the same for the same seed


def test_the_same_seed_gives_the_same_events_however_they_are_taken():
    one, other = campus(seed=7), campus(seed=7)
    assert list(one.initial()) == list(other.initial())
    assert one.world.take(5000) == [event for size in [1, 2, 997] * 5 for event in other.world.take(size)]
    assert campus(seed=8).world.take(100) != campus(seed=7).world.take(100)


def test_the_present_changes_the_stamps_only():
    early, late = campus(start=0).world.take(500), campus(start=1000).world.take(500)
    assert [(place(event), event.value, event.time + 1000) for event in early] == [
        (place(event), event.value, event.time) for event in late
    ]


# believable


def test_everything_is_told_of_first():
    initial = list(campus().initial())
    entities = [event for event in initial if isinstance(event, Metadata)]
    states = [event for event in initial if isinstance(event, State)]
    assert initial == entities + states
    ids = {event.id for event in entities}
    assert len(ids) == len(entities) == 1 + 1 + 4 + 12 + 48 + 8
    assert all(next(iter(event.metadata)) == "name" for event in entities)
    for event in states:
        assert {event.system, event.driver, *filter(None, event.zones)} <= ids
        assert event.zones[:2] == ("bld-1", f"lvl-{event.system.split('-')[1]}-{event.system.split('-')[2]}")
    modules = {(event.system, event.module, event.index) for event in states}
    assert modules == {place(event)[:3] for event in states if event.state == "connected"}
    assert len({place(event) for event in states}) == len(states)
    assert any(event.index == 2 for event in states)
    assert {event.zones[2] is None for event in states} == {True, False}


def test_values_are_of_every_type_json_has():
    initial, changes = day()
    assert {type(event.value) for event in initial + changes if isinstance(event, State)} == {
        bool, int, float, str, dict, list, type(None),
    }  # fmt: skip


def test_a_change_is_a_change_and_time_does_not_go_back():
    initial, changes = day()
    current = {place(event): event.value for event in initial if isinstance(event, State)}
    last = 0
    for event in changes:
        assert place(event) in current
        assert current[place(event)] != event.value
        current[place(event)] = event.value
        assert event.time >= last
        last = event.time
    assert 23 * 3_600_000 < last < 24 * 3_600_000


def test_a_day_looks_like_a_day():
    _, changes = day()
    by_hour = {}
    for event in changes:
        by_hour.setdefault(8 + event.time // 3_600_000, []).append(event)
    power = {hour: sum(event.state == "power" for event in events) for hour, events in by_hour.items()}
    assert power[10] > 5
    assert all(power[hour] == 0 for hour in range(22, 30))
    sensors = sum(event.module == "Sensor" for event in changes)
    assert sensors > 20 * sum(power.values()) > 0
    latest_co2 = {event.system: event.value for event in changes if event.state == "co2" and event.time < 2 * 3_600_000}
    assert max(latest_co2.values()) > 550
    temperatures = [event.value for event in changes if event.state == "temperature"]
    assert 15 < min(temperatures) < max(temperatures) < 30


def test_a_meeting_goes_as_meetings_go():
    _, changes = day()
    displays = [event for event in changes if (event.module, event.state) == ("Display", "power")]
    room = next(event.system for event in displays if event.value and event.system != "sys-1-1-1-1")
    events = [event for event in changes if event.system == room]
    on = next(at for at, event in enumerate(events) if place(event) == (room, "Display", 1, "power"))
    before = {event.state: event.value for event in events[:on]}
    assert before["status"] == "busy"
    assert before["current_booking"]["host"]["email"].endswith("@example.com")
    assert before["people_count"] >= 1
    after = [event for event in events[on + 1 :] if event.state in ("input", "scene", "power")]
    assert after[0].state in ("power", "input")
    assert "Presentation" in [event.value for event in after[:4]]
    assert next(event.value for event in after if place(event) == (room, "Display", 1, "power")) is False


def test_nobody_in_it_is_real():
    initial, changes = day()
    text = " ".join(
        json.dumps(event.value if isinstance(event, State) else event.metadata) for event in initial + changes
    )
    assert text.count("@") == text.count("@example.com") > 100


@pytest.mark.parametrize(
    "hierarchy",
    [("org",), ("org", "building"), ("org", "region", "building", "level", "area"), ("org", "wing", "area")],
)
async def test_it_fits_any_hierarchy(hierarchy):
    intake = RecordingIntake(hierarchy=hierarchy)
    await source(rate=0, count=3000).run(intake)
    assert len(intake.stored) == 3000
    assert intake.engine_refused == []


@pytest.mark.parametrize(("options", "systems"), [
    ({"systems": 7}, 7), ({"systems": 100, "levels": 1, "areas": 1}, 100),
    ({"buildings": 3, "levels": 2, "areas": 1}, 24),
    ({"systems_per_area": 1}, 12), ({"systems": 1}, 1)])  # fmt: skip
def test_it_is_as_large_as_asked(options, systems):
    simulated = campus(**options)
    assert len(simulated.systems) == systems == Options(**options).total_systems
    assert len({system.id for system in simulated.systems}) == systems
    assert len(simulated.world.take(200)) == 200


def test_start_time_sets_the_hour_and_the_stamps():
    options = Options(start_time="2026-01-10T03:00:00+02:00", rate=100)
    simulated = Campus(options, HIERARCHY, milliseconds(options.start_time))
    assert simulated.world.weekend
    assert simulated.world.hour == 3
    assert next(simulated.initial()).time == 1_768_006_800_000
    assert [event.time - 1_768_006_800_000 for event in simulated.world.take(3)] == [10, 20, 30]
    assert milliseconds(Options(start_time="2026-01-10T01:00:00").start_time) == 1_768_006_800_000


# the source


async def test_count_ends_it_exactly_and_all_is_committed():
    intake = RecordingIntake(delay=0.001)
    await source(rate=0, count=4321).run(intake)
    assert len(intake.stored) == 4321
    assert intake.engine_refused == []
    intake = RecordingIntake()
    await source(count=3).run(intake)
    assert len(intake.stored) == 3


async def test_duration_ends_it():
    intake = RecordingIntake()
    await source(rate=0, duration="1h", start_time=MONDAY).run(intake)
    times = [event.time for event in intake.events]
    assert 3_000_000 < max(times) - min(times) <= 3_600_000
    intake = RecordingIntake()
    initial = sum(1 for _ in campus().initial())
    await source(rate=1000, duration="200ms").run(intake)
    assert len(intake.stored) == initial + 200


@pytest.mark.parametrize("rate", [40, 2000])
async def test_the_rate_is_kept_on_average(rate):
    intake = RecordingIntake()
    initial = sum(1 for _ in campus().initial())
    clock = asyncio.get_running_loop().time
    async with running(source(rate=rate), intake):
        await until(lambda: len(intake.events) >= initial)
        begun = clock()
        await asyncio.sleep(0.6)
        expected = rate * (clock() - begun)
        assert math.isclose(len(intake.events) - initial, expected, abs_tol=max(6, rate * 0.2))


async def test_held_up_it_catches_up_for_a_second_at_most(monkeypatch):
    monkeypatch.setattr("northbound_simulator.source.CATCH_UP", 0.1)
    intake = RecordingIntake(automatic=False, capacity=4)
    initial = sum(1 for _ in campus().initial())
    async with running(source(rate=1000), intake):
        for _ in range(3):
            await until(lambda: intake._waiting)
            intake.commit()
            await asyncio.sleep(0)
        await until(lambda: len(intake.events) > initial)
        await asyncio.sleep(0.5)  # nothing is committed
        held = len(intake.events)
        intake.capacity, intake.automatic = 1_000_000, True
        intake.commit()
        await asyncio.sleep(0.1)
        assert len(intake.events) - held < 1000 * (0.1 + 0.1 + 0.15)


async def test_what_is_not_committed_is_bounded():
    intake = RecordingIntake(automatic=False)
    async with running(source(rate=0), intake):
        await until(lambda: len(intake.batches) >= 17)
        await asyncio.sleep(0.05)
    assert len(intake.batches) == 17
    assert max(map(len, intake.batches)) <= 1000


def test_it_is_finite_only_when_told():
    assert not source().finite
    assert source(count=1).finite
    assert source(duration="1s").finite
    assert source().origin == "a simulated campus of 48 systems"


async def test_it_knows_everybody_who_hosts_a_meeting():
    known = set(await source().people())
    bookings = [e.value for part in day() for e in part if isinstance(e, State) and e.state == "current_booking"]
    hosts = {booking["host"]["name"] for booking in bookings if booking}
    assert hosts
    assert hosts <= known


# configuration


@pytest.mark.parametrize("options", [{"buildings": 0}, {"rate": -1}, {"count": 0}, {"duration": 0}, {"seeds": 1},
                                     {"systems": 30_000}, {"buildings": 1000, "levels": 200}, {"org": ""}])  # fmt: skip
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValidationError):
        Options(**options)


def test_the_sample_is_a_whole_configuration():
    assert load_file(HERE / "sample.toml", Registry()).sources[0].create().config.rate == 10


def test_every_option_is_described():
    assert all(field.description for field in Options.model_fields.values())
    readme = (HERE / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in Options.model_fields)
