"""The source against a real Redis and a real PostgreSQL: what is retained is what both databases say."""

from __future__ import annotations

import pytest
from tests.support.intake import until

from northbound import Metadata, State

ROOM = "placeos/zone-org/state/zone-b1/zone-l1/_/sys-1/driver-d"
LOBBY = "placeos/zone-org/state/zone-b2/_/_/sys-2/driver-d"


async def test_the_whole_tree_is_there_from_the_start(service):
    async with service.running():
        tree = await service.settled()
    assert tree[f"{ROOM}/Display/1/power"] is True
    assert tree[f"{ROOM}/Display/2/volume"] == 20
    assert tree[f"{LOBBY}/Display/2/volume"] == 20
    assert tree["placeos/zone-org/metadata/zone-l1"] == "Level 1"
    assert tree["placeos/zone-org/metadata/driver-d"] == "Acme display"
    assert len(tree) == 2 * 4 + 4 + 2 + 1


async def test_a_change_arrives_at_every_place_once(service):
    async with service.running():
        await service.settled()
        service.news()
        service.installation.set("mod-2", "volume", "21")
        await service.settled()
        assert sorted(service.news()) == sorted([(f"{ROOM}/Display/2/volume", 21), (f"{LOBBY}/Display/2/volume", 21)])
        service.installation.status.publish("status/mod-2/volume", "21")  # as signal_status does
        service.installation.set("mod-2", "volume", "22")
        await service.settled()
        assert [value for _, value in service.news()] == [22, 22]


# truth after every event: old topics cleared, current values at the new ones


async def test_a_renamed_module_moves_with_its_values_and_renumbers(service):
    async with service.running():
        await service.settled()
        service.installation.put("mod", "mod-1", custom_name="Left")
        tree = await service.settled()
    assert tree[f"{ROOM}/Left/1/power"] is True
    assert tree[f"{ROOM}/Display/1/volume"] == 20
    assert f"{ROOM}/Display/2/volume" not in tree


async def test_reordered_modules_swap_their_topics(service):
    async with service.running():
        await service.settled()
        service.installation.put("sys", "sys-1", modules=["mod-2", "mod-1"])
        tree = await service.settled()
    assert (tree[f"{ROOM}/Display/1/volume"], tree[f"{ROOM}/Display/2/volume"]) == (20, 10)


async def test_a_drivers_new_module_name(service):
    service.installation.put("mod", "mod-1", name="")
    async with service.running():
        await service.settled()
        service.installation.put("driver", "driver-d", module_name="Panel")
        assert f"{ROOM}/Panel/1/power" in await service.settled()


async def test_a_system_moves_between_buildings(service):
    async with service.running():
        await service.settled()
        service.installation.put("sys", "sys-1", zones=["zone-org", "zone-b2"])
        tree = await service.settled()
    assert "placeos/zone-org/state/zone-b2/_/_/sys-1/driver-d/Display/1/power" in tree


async def test_a_retagged_zone_moves_only_its_own_systems(service):
    async with service.running():
        await service.settled()
        service.news()
        service.installation.put("zone", "zone-l1", tags=["area"])
        await service.settled()
        assert not [topic for topic, _ in service.news() if "sys-2" in topic]


async def test_a_module_goes_into_and_out_of_a_system(service):
    async with service.running():
        await service.settled()
        service.installation.put("sys", "sys-1", modules=["mod-1", "mod-2", "mod-3"])
        await service.settled()
        service.installation.put("sys", "sys-1", modules=["mod-3"])
        await service.settled()


@pytest.mark.parametrize(
    ("table", "id_"), [("sys", "sys-1"), ("driver", "driver-d"), ("mod", "mod-2"), ("zone", "zone-l1")]
)
async def test_what_is_deleted_is_cleared_with_its_metadata(service, table, id_):
    async with service.running():
        before = await service.settled()
        service.installation.delete(table, id_)
        after = await service.settled()
    assert len(after) < len(before) or table == "zone"
    assert f"placeos/zone-org/metadata/{id_}" not in after


async def test_a_deleted_organisation_takes_all_with_it(service):
    async with service.running():
        await service.settled()
        service.installation.delete("zone", "zone-org")
        assert await service.settled() == {}


async def test_a_new_system_that_is_given_its_zones_later(service):
    async with service.running():
        await service.settled()
        service.installation.put("sys", "sys-3", name="New", zones=[], modules=["mod-1"])
        await service.settled()
        service.installation.put("sys", "sys-3", zones=["zone-org", "zone-b2"])
        tree = await service.settled()
    assert tree["placeos/zone-org/metadata/sys-3"] == "New"
    assert tree["placeos/zone-org/state/zone-b2/_/_/sys-3/driver-d/Display/1/volume"] == 10


async def test_new_names_appear_in_metadata_and_nothing_else_moves(service):
    async with service.running():
        await service.settled()
        service.news()
        service.installation.put("zone", "zone-b1", name="Tower")
        await service.settled()
        assert service.news() == [("placeos/zone-org/metadata/zone-b1", "Tower")]


async def test_statuses_come_and_go(service):
    async with service.running():
        await service.settled()
        service.installation.set("mod-1", "input", '"hdmi"')
        await service.settled()
        service.installation.remove("mod-1", "input")
        assert f"{ROOM}/Display/1/input" not in await service.settled()


@pytest.mark.parametrize("stopped", ["disconnected", "clear", "keep"])
async def test_a_stopped_module(service, stopped):
    service.installation.set("mod-1", "connected", "true")
    async with service.running(stopped=stopped):
        tree = await service.settled(stopped=stopped)
        assert tree[f"{ROOM}/Display/1/connected"] is True
        service.installation.put("mod", "mod-1", running=False)
        tree = await service.settled(stopped=stopped)
        assert tree.get(f"{ROOM}/Display/1/connected") == {"disconnected": False, "clear": None, "keep": True}[stopped]
        service.installation.set("mod-1", "connected", "true")  # as the driver does when it ends
        service.installation.set("mod-1", "power", "false")
        await service.settled(stopped=stopped)
        service.installation.put("mod", "mod-1", running=True)
        await service.settled(stopped=stopped)


async def test_parents_are_walked_where_asked(service):
    service.installation.put("sys", "sys-1", zones=["zone-l1"])
    async with service.running(walk_parents=True):
        assert f"{ROOM}/Display/1/power" in await service.settled(walk=True)
        service.installation.put("zone", "zone-l1", parent_id="zone-b2")
        await service.settled(walk=True)


async def test_the_sites_organisation_stands_in_where_a_system_has_none(service):
    service.installation.put("sys", "sys-1", zones=[])
    async with service.running():
        await service.settled()
        await until(lambda: service.intake.refused > 0)
        assert "no org" in service.intake.last_refusal


# a module's restart


async def test_a_restart_that_changes_nothing_is_not_seen(service):
    async with service.running(restart_window="30s"):
        await service.settled()
        service.news()
        service.installation.restart_module("mod-2", {"power": "true", "volume": "20"})
        service.installation.set("mod-1", "volume", "99")
        await service.settled()
        assert service.news() == [(f"{ROOM}/Display/1/volume", 99)]


async def test_what_a_restarted_module_does_not_set_again_is_cleared_after_the_window(service):
    async with service.running(restart_window="300ms"):
        await service.settled()
        service.news()
        service.installation.restart_module("mod-1", {"power": "false"})
        await service.settled()
        assert service.news() == [(f"{ROOM}/Display/1/power", False), (f"{ROOM}/Display/1/volume", None)]


async def test_a_status_that_expires_in_silence_is_found(service):
    async with service.running(reread="2s"):
        await service.settled()
        service.installation.status.hdel("status/mod-1", "power")
        assert f"{ROOM}/Display/1/power" not in await service.settled()


async def test_a_removed_status_can_be_null_as_placeos_has_it(service):
    async with service.running(removed="null"):
        await service.settled()
        service.news()
        service.installation.remove("mod-1", "power")
        await until(
            lambda: service.intake.committed and service.store.read("out", service._position, 1, 1 << 20).messages
        )
        entries = service.store.read("out", service._position, 10, 1 << 20)
        assert entries.messages[0].payload.endswith(b'"value":"null"}')
        assert service.news() == [(f"{ROOM}/Display/1/power", None)]


# down for a while


async def test_what_vanished_while_the_service_was_down_is_cleared_and_the_rest_not_sent_again(service):
    async with service.running():
        await service.settled()
    service.news()
    service.installation.delete("sys", "sys-2")
    service.installation.put("mod", "mod-2", custom_name="Right")
    service.installation.status.hdel("status/mod-1", "volume")
    async with service.running():
        await service.settled()
        assert sorted(topic for topic, _ in service.news()) == sorted(
            [
                f"{ROOM}/Right/1/power", f"{ROOM}/Right/1/volume",
                f"{ROOM}/Display/2/power", f"{ROOM}/Display/2/volume", f"{ROOM}/Display/1/volume",
                f"{LOBBY}/Display/1/power", f"{LOBBY}/Display/1/volume",
                f"{LOBBY}/Display/2/power", f"{LOBBY}/Display/2/volume", "placeos/zone-org/metadata/sys-2",
            ]
        )  # fmt: skip


async def test_an_organisation_that_vanished_while_the_service_was_down_is_cleared(service):
    async with service.running():
        await service.settled()
    service.installation.delete("zone", "zone-org")
    async with service.running():
        assert await service.settled() == {}


async def test_what_other_sources_brought_is_left_alone(service):
    await service.intake.submit(
        [
            State("zone-org", ("b", None, None), "hvac", "bacnet", "AHU", 1, "fan", 3),
            Metadata("zone-org", "floor-plan", {"name": "plan"}),
            State("other-org", ("b", None, None), "sys-9", "driver-9", "D", 1, "power", 3),
        ]
    )
    others = await service.tree()
    async with service.running() as source:
        await until(lambda: source.synchronised)
        wanted = service.installation.tree() | others
        assert await service.tree() == wanted


async def test_an_organisation_that_came_and_went_is_known_as_ours(service):
    """It appears, the service dies at once, and it is gone when the service comes back."""
    async with service.running():
        await service.settled()
        service.installation.put("zone", "zone-new", name="New", tags=["org"])
        service.installation.put("sys", "sys-2", zones=["zone-new", "zone-b2"])
        moved = "placeos/zone-new/metadata/sys-2"
        await until(lambda: moved in dict(service.news()))
    service.installation.delete("zone", "zone-new")
    async with service.running():
        await service.settled()


async def test_what_is_refused_is_told_once_and_not_each_time_it_is_read(service):
    service.installation.set("mod-3", "early", "no json")
    async with service.running(reread="1s") as source:
        await until(lambda: source.synchronised)
        service.installation.status.hset("status/mod-1", "late", "1")
        await until(lambda: f"{ROOM}/Display/1/late" in dict(service.news()))
        service.installation.status.hset("status/mod-1", "late", "2")
        await until(lambda: f"{ROOM}/Display/1/late" in dict(service.news()))
        assert service.intake.refused == 1
        service.installation.set("mod-3", "early", "other")
        await until(lambda: service.intake.refused == 2)
        service.installation.set("mod-3", "early", "1")
        await service.settled()
