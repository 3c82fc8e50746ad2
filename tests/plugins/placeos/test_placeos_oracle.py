"""What PlaceOS's own tests state and what its code does, case by case (numbers as in the reference: 7.1 and 7.2).

Cases about what is not a source's business stand elsewhere: 14 to 16 (who may sign in, tokens, keys) in
tests/core/api/test_api_placeos_oracle.py, the filter's hashes with the privacy rules. 18 is about InfluxDB; here it
is the same value as a message.
"""

from __future__ import annotations

import json

import pytest

from northbound.config import SiteOptions
from northbound.directory import Directory, Driver, Module, System, Zone
from northbound.engine import Engine
from northbound_placeos.live import Arrivals
from northbound_placeos.tree import Tree

LEVELS = ("org", "region", "building", "level", "area")
NOW = 1_700_000_000_900
STATE = "placeos/org-donor/state/_/cards/nek/2042/cs-9445/12345/M'Odule/1"


def rows(*missing: str, module="mod-1234"):
    """Return the common map M: its zones but for those ``missing``."""
    zones = {"org-donor": "org", "cards": "building", "nek": "level", "2042": "area"}
    listed = [id_ for id_, tag in zones.items() if tag not in missing]
    return [
        *(Zone(id_, (tag,), None, {"name": id_}) for id_, tag in zones.items()),
        System("cs-9445", tuple(listed), (module,), {"name": "thing"}),
        Driver("12345", "mock"),
        Module(module, "12345", "mock", "M'Odule"),
    ]


class World:
    """A tree in PlaceOS's profile, with the engine behind it: rows and changes in, messages out."""

    def __init__(self, *entities, hierarchy=LEVELS, profile="placeos", **options) -> None:
        site = SiteOptions(profile=profile, hierarchy=hierarchy)
        self.refused: list[tuple[str, str]] = []
        self.tree = Tree(Directory(hierarchy), lambda where, why: self.refused.append((where, why)), **options)
        self.engine = Engine(site.scheme, site.payloads)
        self.unsent = 0
        self.metadata = self.messages(self.tree.rows(list(entities)))

    def messages(self, events) -> list[tuple[str, bytes, bool]]:
        messages, refused, _ = self.engine.process(events, NOW)
        self.unsent += len(refused)
        return [(m.topic, m.payload, m.retain) for m in messages]

    def read(self, module="mod-1234", **values: str):
        self.tree.begin(100)
        return self.messages(self.tree.values(module, {k.encode(): v.encode() for k, v in values.items()}, NOW))

    def change(self, key: str, text: bytes, module="mod-1234", at=NOW):
        return self.messages(self.tree.changed(module, key, text, at))


def payload(value, time=1_700_000_000) -> bytes:
    return json.dumps({"time": time, "value": value}, separators=(",", ":")).encode()


def test_case_1_a_status_has_its_topic():
    assert World(*rows()).read(power="true") == [(f"{STATE}/power", payload(True), True)]


def test_case_2_a_missing_building_is_an_underscore():
    world = World(*rows("building"))
    assert world.read(power="true")[0][0] == "placeos/org-donor/state/_/_/nek/2042/cs-9445/12345/M'Odule/1/power"


def test_case_3_without_an_organisation_nothing_is_published():
    world = World(*rows("org"))
    before = world.unsent
    assert world.read(power="true") == []
    assert world.unsent == before + 1


def test_case_4_metadata_has_the_scope_and_the_id_and_none_without_an_organisation():
    world = World(*rows())
    assert world.engine.scheme.metadata_topic("hello", "mod-1234") == "placeos/org/metadata/mod-1234"
    assert SiteOptions().scheme.metadata_topic("hello", "mod-1234") == "placeos/hello/metadata/mod-1234"
    assert {topic for topic, _, _ in world.metadata} >= {"placeos/org/metadata/cs-9445", "placeos/org/metadata/12345"}
    assert "placeos/org/metadata/cs-9445" not in {topic for topic, _, _ in World(*rows("org")).metadata}


@pytest.mark.parametrize(
    ("text", "value"), [(b'"hello"', "hello"), (b"true", True), (b'"online"', "online"), (b'{"a":[1]}', {"a": [1]})]
)
def test_case_5_a_payload_holds_the_value_itself(text, value):
    world = World(*rows())
    world.read()
    assert world.change("state", text) == [(f"{STATE}/state", payload(value), True)]


def test_case_5_metadata_holds_the_entity():
    found = {topic: json.loads(body)["value"] for topic, body, _ in World(*rows()).metadata}
    assert found["placeos/org/metadata/cs-9445"]["name"] == "thing"


def test_case_6_everything_is_retained_and_the_last_value_counts():
    world = World(*rows())
    world.read(power="false")
    ((topic, body, retain),) = world.change("power", b"true")
    assert (topic, body, retain) == (f"{STATE}/power", payload(True), True)
    assert all(retain for _, _, retain in world.metadata)


def test_case_7_a_deleted_module_leaves_nothing():
    world = World(*rows())
    world.read(power="true")
    assert world.messages(world.tree.rows([], [(Module, "mod-1234")]))[0] == (f"{STATE}/power", b"", True)


def test_case_7_a_renamed_module():
    world = World(*rows())
    world.read(power="true")
    cleared = world.messages(world.tree.rows([Module("mod-1234", "12345", "mock", "New Name")]))
    assert cleared == [(f"{STATE}/power", b"", True)]
    renamed = STATE.replace("M'Odule", "New Name")
    assert world.read(power="true") == [(f"{renamed}/power", payload(True), True)]


def test_case_7_a_new_index():
    world = World(*rows())
    world.read(power="true")
    world.tree.rows([Module("mod-0", "12345", "mock", "M'Odule")])
    moved = world.messages(
        world.tree.rows([System("cs-9445", ("org-donor", "cards", "nek", "2042"), ("mod-0", "mod-1234"))])
    )
    assert (f"{STATE}/power", b"", True) in moved
    assert world.read(power="true") == [(f"{STATE[:-1]}2/power", payload(True), True)]


def test_case_8_what_redis_publishes_is_one_message():
    world = World(*rows(module="mod-hello_hello"))
    world.read("mod-hello_hello")
    arrivals = Arrivals(coalesce=True)
    arrivals.put(b"status/mod-hello_hello/power", b'"text"', NOW)
    (change,) = arrivals.take(pytest.fail)
    assert world.messages(world.tree.changed(*change)) == [(f"{STATE}/power", payload("text"), True)]


def test_case_8_of_two_quick_changes_the_last_is_sent():
    arrivals = Arrivals(coalesce=True)
    arrivals.put(b"status/mod-hello_hello/power", b'"on"', NOW)
    arrivals.put(b"status/mod-hello_hello/power", b'"off"', NOW)
    assert arrivals.take(pytest.fail) == [("mod-hello_hello", "power", b'"off"', NOW)]


def test_case_9_indices_count_per_name_in_the_systems_order():
    names = ["custom", None, "custom", "extra_custom", None]
    ids = [f"mod-{number}" for number in range(5)]
    directory = Directory(LEVELS)
    modules = [Module(id_, "drv", "mock", name) for id_, name in zip(ids, names, strict=True)]
    directory.apply([System("sys", (), tuple(ids)), Driver("drv", "mock"), *modules])
    found = [(place.module, place.index) for id_ in ids for place in directory.places(id_)]
    assert found == [("custom", 1), ("mock", 1), ("custom", 2), ("extra_custom", 1), ("mock", 2)]


def located(tags: dict[str, str], listed=None) -> tuple:
    directory = Directory(LEVELS)
    zones = [Zone(id_, (tag,)) for id_, tag in tags.items()]
    directory.apply([*zones, System("sys", tuple(listed or tags), ("mod",)), Driver("drv"), Module("mod", "drv", "M")])
    (place,) = directory.places("mod")
    return (place.org, *place.zones)


def test_case_10_zones_by_their_tags():
    assert located({f"zone-{n}": tag for n, tag in enumerate(LEVELS)}) == tuple(f"zone-{n}" for n in range(5))


def test_case_10_a_retagged_and_a_destroyed_zone():
    directory = Directory(LEVELS)
    directory.apply([Zone("o", ("org",)), Zone("z", ("level",)), System("sys", ("o", "z"), ("mod",))])
    directory.apply([Driver("drv"), Module("mod", "drv", "M")])
    directory.apply([Zone("z", ("building",))])
    assert directory.places("mod")[0].zones == (None, "z", None, None)
    directory.apply(gone=[(Zone, "z")])
    assert directory.places("mod")[0].zones == (None, None, None, None)


def test_case_11_deletions_go_before_what_is_published():
    world = World(*rows())
    world.read(power="true", volume="3")
    events = world.tree.rows(
        [Module("mod-1234", "12345", "mock", "N"), System("cs-9445", ("org-donor",), ("mod-1234",))]
    )
    bodies = [body for _, body, _ in world.messages(events)]
    assert bodies[:2] == [b"", b""]
    assert bodies.index(b'{"time":1700000000,"value":{}}') >= bodies.count(b"")


def test_case_13_a_deleted_driver_and_a_deleted_module_lose_their_places_and_others_do_not():
    directory = Directory(LEVELS)
    directory.apply([System("sys", (), ("a", "b", "c")), Driver("d1"), Driver("d2")])
    directory.apply([Module("a", "d1", "A"), Module("b", "d2", "B"), Module("c", "d2", "C")])
    directory.apply(gone=[(Driver, "d1")])
    assert sorted(directory.placed()) == ["b", "c"]
    directory.apply(gone=[(Module, "b")])
    assert directory.placed() == ["c"]


def test_case_17_a_stored_null_is_nothing_and_true_is_true():
    assert World(*rows()).read(gone="null", empty="", power="true") == [(f"{STATE}/power", payload(True), True)]


def test_case_18_the_influx_value_as_a_message():
    assert World(*rows()).read(power="false") == [(f"{STATE}/power", payload(False), True)]


# 7.2: what follows from PlaceOS's code


def test_derived_the_time_is_in_seconds_rounded_down():
    world = World(*rows())
    world.read()
    assert world.change("power", b"true", at=1_700_000_000_900) == [
        (f"{STATE}/power", b'{"time":1700000000,"value":true}', True)
    ]


def test_derived_a_published_null_is_a_retained_null():
    world = World(*rows(), removed="null")
    world.read(power="true")
    assert world.change("power", b"null") == [(f"{STATE}/power", b'{"time":1700000000,"value":null}', True)]
    assert world.change("never", b"null") == [(f"{STATE}/never", b'{"time":1700000000,"value":null}', True)]
    assert world.change("power", b"null") == []
    assert world.change("power", b"1") == [(f"{STATE}/power", b'{"time":1700000000,"value":1}', True)]


def test_derived_a_module_in_two_systems_has_two_topics():
    world = World(*rows(), System("cs-2", ("org-donor",), ("mod-1234",)))
    assert [topic for topic, _, _ in world.read(power="true")] == [
        "placeos/org-donor/state/_/_/_/_/cs-2/12345/M'Odule/1/power", f"{STATE}/power",
    ]  # fmt: skip


def test_derived_the_older_hierarchy_has_eleven_levels():
    ((topic, _, _),) = World(*rows(), hierarchy=("org", "building", "level", "area")).read(power="true")
    assert topic == "placeos/org-donor/state/cards/nek/2042/cs-9445/12345/M'Odule/1/power"
    assert topic.count("/") == 10


def test_derived_the_documented_profile_writes_the_seeds_form():
    world = World(*rows(), hierarchy=("org", "building", "level", "area"), profile="documented")
    assert world.read(power="true")[0][1] == b'{"time":1700000000900,"value":"true"}'
    assert "placeos/org-donor/metadata/nek" in [topic for topic, _, _ in World(
        *rows(), Zone("nek", ("level",), "cards"), Zone("cards", ("building",), "org-donor"), profile="documented"
    ).metadata]  # fmt: skip


def test_a_status_is_no_event_of_a_module_nobody_knows():
    world = World(*rows())
    assert world.change("power", b"true", module="mod-9") == []
