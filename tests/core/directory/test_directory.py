"""Where modules are: by example, and against the plainest way to work it out."""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.support import placeos_tree
from tests.support.examples import examples

from northbound.directory import Described, Directory, Driver, Module, Moved, Place, System, Zone

HIERARCHY = ("org", "building", "level", "area")


def campus(**options) -> Directory:
    directory = Directory(HIERARCHY, **options)
    directory.apply(
        [
            Zone("org-1", ("org",)),
            Zone("bld-1", ("building",), "org-1"),
            Zone("bld-2", ("building",), "org-1"),
            Zone("lvl-1", ("level",), "bld-1"),
            Zone("room", (), "lvl-1"),
            System("sys-1", ("org-1", "bld-1", "lvl-1"), ("mod-1", "mod-2", "mod-3")),
            Driver("drv-1", "Display"),
            Module("mod-1", "drv-1", "Display"),
            Module("mod-2", "drv-1", "Display"),
            Module("mod-3", "drv-1", "Display", "Lobby"),
        ]
    )
    return directory


def place(name="Display", index=1, system="sys-1", zones=("bld-1", "lvl-1", None), org="org-1") -> Place:
    return Place(org, zones, system, "drv-1", name, index)


def test_modules_are_numbered_by_name_in_the_systems_order():
    directory = campus()
    assert directory.places("mod-1") == (place(index=1),)
    assert directory.places("mod-2") == (place(index=2),)
    assert directory.places("mod-3") == (place("Lobby"),)


def test_a_module_in_two_systems_has_two_places():
    directory = campus()
    changes = directory.apply([System("sys-2", ("org-1", "bld-2"), ("mod-2",))])
    elsewhere = place(index=1, system="sys-2", zones=("bld-2", None, None))
    assert changes.moved == [Moved("mod-2", (), (elsewhere,))]
    assert directory.places("mod-2") == (place(index=2), elsewhere)


def test_a_renamed_module_renumbers_its_neighbours():
    changes = campus().apply([Module("mod-1", "drv-1", "Display", "Lobby")])
    assert changes.moved == [
        Moved("mod-1", (place(index=1),), (place("Lobby", 1),)),
        Moved("mod-2", (place(index=2),), (place(index=1),)),
        Moved("mod-3", (place("Lobby", 1),), (place("Lobby", 2),)),
    ]


def test_a_reordered_system_renumbers():
    changes = campus().apply([System("sys-1", ("org-1", "bld-1", "lvl-1"), ("mod-2", "mod-1", "mod-3"))])
    assert changes.moved == [
        Moved("mod-1", (place(index=1),), (place(index=2),)),
        Moved("mod-2", (place(index=2),), (place(index=1),)),
    ]


def test_a_drivers_new_module_name_renames_those_without_their_own():
    directory = campus()
    directory.apply([Module("mod-1", "drv-1", ""), Module("mod-2", "drv-1", " ")])
    changes = directory.apply([Driver("drv-1", "Panel")])
    assert [moved.module for moved in changes.moved] == ["mod-1", "mod-2"]
    assert directory.places("mod-2") == (place("Panel", 2),)


def test_a_retagged_zone_moves_only_the_systems_that_list_it():
    directory = campus()
    directory.apply([System("sys-2", ("org-1", "bld-2"), ("mod-3",))])
    changes = directory.apply([Zone("lvl-1", ("area",), "bld-1")])
    assert {moved.module for moved in changes.moved} == {"mod-1", "mod-2", "mod-3"}
    assert directory.places("mod-1") == (place(zones=("bld-1", None, "lvl-1")),)
    assert Place("org-1", ("bld-2", None, None), "sys-2", "drv-1", "Lobby", 1) in directory.places("mod-3")


def test_a_system_that_gets_zones_and_modules_later():
    directory = campus()
    assert directory.apply([System("sys-2", (), ())]).moved == []
    assert directory.apply([System("sys-2", (), ("mod-1",))]).moved == [
        Moved("mod-1", (), (Place(None, (None,) * 3, "sys-2", "drv-1", "Display", 1),))
    ]
    changes = directory.apply([System("sys-2", ("org-1",), ("mod-1",))])
    assert changes.moved[0].new == (Place("org-1", (None,) * 3, "sys-2", "drv-1", "Display", 1),)


def test_of_two_zones_on_a_level_the_later_counts_and_of_two_tags_the_first():
    directory = campus()
    directory.apply([System("sys-1", ("org-1", "bld-2", "bld-1"), ("mod-1",))])
    assert directory.places("mod-1")[0].zones == ("bld-1", None, None)
    directory.apply([Zone("bld-1", ("x", "level", "building"))])
    assert directory.places("mod-1")[0].zones == ("bld-2", "bld-1", None)


def test_parents_are_walked_only_where_asked():
    listing = System("sys-1", ("room",), ("mod-1",))
    plain, walking = campus(), campus(walk_parents=True)
    plain.apply([listing])
    walking.apply([listing])
    assert plain.places("mod-1")[0] == place(zones=(None, None, None), org=None)
    assert walking.places("mod-1")[0] == place()
    changes = walking.apply([Zone("lvl-1", ("level",), "bld-2")])
    assert changes.moved[0].new == (place(zones=("bld-2", "lvl-1", None)),)


def test_what_is_unknown_has_no_place_and_no_number():
    directory = campus()
    directory.apply(gone=[(Module, "mod-1")])
    assert directory.places("mod-2") == (place(index=1),)
    assert directory.apply(gone=[(Driver, "drv-1")]).moved[0].new == ()
    assert directory.placed() == []


def test_a_row_that_stays_as_it_was_changes_nothing():
    changes = campus().apply([Zone("lvl-1", ("level",), "bld-1"), Module("mod-1", "drv-1", "Display")], [(Zone, "no")])
    assert (changes.moved, changes.described) == ([], [])


def test_metadata_is_of_every_level_system_and_driver_in_use():
    directory = Directory(HIERARCHY)
    changes = directory.apply([Zone("org-1", ("org",)), Zone("lvl-1", ("level",), "bld-1", {"name": "Level 1"})])
    assert Described("lvl-1", None, {"name": "Level 1"}) in changes.described
    changes = directory.apply([Zone("bld-1", ("building",), "org-1"), Zone("desk", ("desk",), "lvl-1")])
    level = {"name": "Level 1"}
    assert changes.described == [
        Described("lvl-1", None, None),
        Described("bld-1", "org-1", {}),
        Described("lvl-1", "org-1", level),
    ]
    assert directory.apply([Driver("drv-1", "Display")]).described == []
    changes = directory.apply([System("sys-1", ("org-1",), ("mod-1",)), Module("mod-1", "drv-1")])
    assert changes.described == [Described("drv-1", "org-1", {}), Described("sys-1", "org-1", {})]
    changes = directory.apply(gone=[(System, "sys-1")])
    assert changes.described == [Described("drv-1", "org-1", None), Described("sys-1", "org-1", None)]


def test_metadata_that_one_organisation_loses_is_told_again_for_the_others():
    directory = campus()
    directory.apply([Zone("org-2", ("org",)), System("sys-2", ("org-2",), ("mod-1",))])
    changes = directory.apply(gone=[(System, "sys-2")])
    assert Described("drv-1", "org-2", None) in changes.described
    assert changes.described.index(Described("drv-1", "org-2", None)) < changes.described.index(
        Described("drv-1", "org-1", {})
    )


def test_zones_in_a_circle_are_survived():
    directory = Directory(HIERARCHY, walk_parents=True)
    directory.apply([Zone("a", ("level",), "b"), Zone("b", ("building",), "a"), System("s", ("a",), ("m",))])
    directory.apply([Driver("d"), Module("m", "d", "M")])
    assert directory.places("m")[0].zones == ("b", "a", None)


@pytest.mark.parametrize("name", ["M'Odule", "a/b", "naïve+#", "😀", "x" * 300])
def test_names_are_kept_as_they_are(name):
    directory = campus()
    directory.apply([Module("mod-1", "drv-1", "Display", name)])
    assert directory.places("mod-1") == (place(name),)


def test_a_change_costs_what_depends_on_it(monkeypatch):
    directory = Directory(HIERARCHY)
    rows = [Zone("org-1", ("org",)), *(Zone(f"bld-{n}", ("building",), "org-1") for n in range(20))]
    rows += [System(f"sys-{n}", ("org-1", f"bld-{n % 20}"), (f"mod-{n}",)) for n in range(400)]
    directory.apply([*rows, Driver("drv-1"), *(Module(f"mod-{n}", "drv-1", "M") for n in range(400))])
    looked_at: list[str] = []
    original = Directory._places_of
    monkeypatch.setattr(Directory, "_places_of", lambda self, id_: looked_at.append(id_) or original(self, id_))
    directory.apply([Module("mod-7", "drv-1", "N")])
    assert looked_at == ["mod-7"]
    looked_at.clear()
    directory.apply([Zone("bld-3", ("level",), "org-1")])
    assert len(looked_at) == 20
    looked_at.clear()
    directory.apply([Zone("bld-3", ("level",), "org-1", {"name": "3"}), Driver("drv-1", about={"name": "D"})])
    assert looked_at == []


# by property

ZONES, SYSTEMS, DRIVERS, MODULES = (
    [f"{kind}-{n}" for n in range(count)] for kind, count in (("z", 6), ("s", 4), ("d", 2), ("m", 5))
)
_tags = st.lists(st.sampled_from([*HIERARCHY, "desk"]), max_size=2)
_rows = {
    Zone: (ZONES, st.builds(dict, tags=_tags, parent_id=st.none() | st.sampled_from(ZONES), n=st.integers(0, 1))),
    System: (
        SYSTEMS,
        st.builds(
            dict,
            zones=st.lists(st.sampled_from(ZONES), max_size=4),
            modules=st.lists(st.sampled_from(MODULES), max_size=5),
        ),
    ),
    Driver: (DRIVERS, st.builds(dict, module_name=st.sampled_from(["A", "B"]))),
    Module: (
        MODULES,
        st.builds(
            dict,
            driver_id=st.sampled_from(DRIVERS),
            name=st.sampled_from(["", "A", "B"]),
            custom_name=st.sampled_from([None, " ", "A", "C"]),
        ),
    ),
}


def entity(kind, id_, row):
    if kind is Zone:
        return Zone(id_, tuple(row["tags"]), row["parent_id"], {"n": row["n"]})
    if kind is System:
        return System(id_, tuple(row["zones"]), tuple(row["modules"]))
    if kind is Driver:
        return Driver(id_, row["module_name"])
    return Module(id_, row["driver_id"], row["name"], row["custom_name"])


_change = st.sampled_from([*_rows]).flatmap(
    lambda kind: st.tuples(st.just(kind), st.sampled_from(_rows[kind][0]), st.none() | _rows[kind][1])
)


class Histories(RuleBasedStateMachine):
    """Applies random batches; what the answers add up to must be what is worked out from scratch."""

    walk: ClassVar[bool] = False

    @initialize()
    def start(self):
        self.directory = Directory(HIERARCHY, walk_parents=self.walk)
        self.tables = {kind: {} for kind in _rows}
        self.places: dict[str, set] = {}
        self.metadata: dict[tuple, dict] = {}

    @rule(changes=st.lists(_change, min_size=1, max_size=12, unique_by=lambda change: change[:2]))
    def apply(self, changes):
        for kind, id_, row in changes:
            if row is None:
                self.tables[kind].pop(id_, None)
            else:
                self.tables[kind][id_] = row
        answer = self.directory.apply(
            [entity(*change) for change in changes if change[2] is not None],
            [change[:2] for change in changes if change[2] is None],
        )
        for moved in answer.moved:
            here = self.places.setdefault(moved.module, set())
            assert here.issuperset(moved.gone)
            assert here.isdisjoint(moved.new)
            here -= set(moved.gone)
            here |= set(moved.new)
        for told in answer.described:
            if told.about is None:
                del self.metadata[told.id, told.org]
            else:
                self.metadata[told.id, told.org] = told.about

    @invariant()
    def equals_what_is_worked_out_from_scratch(self):
        tables = [self.tables[kind] for kind in (Zone, System, Driver, Module)]
        wanted = placeos_tree.places(*tables, hierarchy=HIERARCHY, walk=self.walk)
        found = {
            module: {(p.org, p.zones, p.system, p.driver, p.module, p.index) for p in places}
            for module, places in self.places.items()
            if places
        }
        assert found == wanted
        assert {module: set(self.directory.places(module)) for module in self.directory.placed()} == {
            module: places for module, places in self.places.items() if places
        }
        assert set(self.metadata) == placeos_tree.described(*tables, hierarchy=HIERARCHY, walk=self.walk)
        for (id_, _), about in self.metadata.items():
            row = self.tables[Zone].get(id_)
            assert about == ({} if row is None else {"n": row["n"]})


class WalkingHistories(Histories):
    walk = True


_settings = settings(max_examples=examples(25), stateful_step_count=12)
TestHistories = Histories.TestCase
TestHistories.settings = _settings
TestWalkingHistories = WalkingHistories.TestCase
TestWalkingHistories.settings = _settings
