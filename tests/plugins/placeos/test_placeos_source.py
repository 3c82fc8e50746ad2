"""The source against a real Redis and a real PostgreSQL: what is retained is what both databases say."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.intake import until

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
