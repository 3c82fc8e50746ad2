"""The azure-iot connector in a running service: several devices, batches, budgets, twins, certificates that change."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from datetime import timedelta

import msgspec
import pytest
from tests.support.intake import until
from tests.support.iot_hub import metadata, running

from northbound import Unauthorised, delivery, renewal
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.azure_dps import AzureDpsTwin
from northbound.testing.twins.azure_iot import AzureHubTwin, HubLimits

DAY = 86_400


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(delivery, "GUARD_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "LOST_SECONDS", 0.2)
    monkeypatch.setattr(renewal, "ASK_SECONDS", 0.05)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


def hub_of(authority, *devices, **limits):
    hub = AzureHubTwin(authority, limits=HubLimits(**limits))
    for device in devices or ("dev1",):
        hub.register(device)
    return hub


async def test_several_devices_carry_each_topic_on_one_of_them(tmp_path, authority):
    devices = [f"gateway-{n}" for n in range(4)]
    async with hub_of(authority, *devices) as hub:
        identities = [{"connection_string": hub.connection_string(device)} for device in devices]
        async with running(tmp_path, hub, authority, identities=identities, tier="S2") as service:
            await service.numbers(300, topics=40)
            await service.delivered()
            for _ in range(8):  # one by one, when any of them would be free
                await service.numbers(1, topics=40)
                await service.delivered()
            hub.hang_up(devices[1])
            await service.numbers(100, topics=40)
            await service.delivered()
            assert service.azure.gauges()["lanes_connected"] == 4
        service.conserved()
        carried = defaultdict(set)
        for taken in hub.record.messages:
            carried[taken.user["topic"]].add(taken.client_id)
        assert all(len(by) == 1 for by in carried.values())
        assert set.union(*carried.values()) == set(devices)


async def test_batches_fill_the_metering_chunk_and_can_be_undone(tmp_path, authority):
    async with hub_of(authority) as hub:
        async with running(tmp_path, hub, authority, batch="4 KiB", batch_wait="200ms") as service:
            for _ in range(10):
                await service.numbers(60, topics=20)
                await asyncio.sleep(0.05)
            hub.hang_up("dev1")
            await service.numbers(400, topics=20)
            await service.delivered()
        service.conserved()
        assert hub.used_today == len(hub.record.messages) < 100  # 1,000 states, each message within one chunk
        assert all(int(taken.user["batch"]) == len(msgspec.json.decode(taken.payload)) for taken in hub.record.messages)
        assert {taken.user["org"] for taken in hub.record.messages} == {"org"}


async def test_a_daily_budget_waits_for_midnight(tmp_path, authority):
    async with hub_of(authority) as hub:

        def midnight_is_near(service):
            begin = time.time()
            service.clock = lambda: DAY * 20_000 - 2.0 + time.time() - begin

        async with running(tmp_path, hub, authority, daily_budget=30) as service:
            midnight_is_near(service)
            service.azure._meter._clock = service.clock
            await service.numbers(50)
            await until(lambda: "daily budget" in (service.status.error or ""), 5)
            assert len(hub.record.messages) == 30
            assert service.azure.gauges()["metered_today"] == service.azure.gauges()["daily_budget"] == 30
            await service.delivered()
            assert service.azure.gauges()["metered_today"] == 20
        assert service.conserved().duplicates == 0
        assert len(hub.record.connects) == 1  # it waited on the same connection


async def test_metadata_goes_into_the_twin_and_into_messages(tmp_path, authority):
    async with hub_of(authority) as hub:
        async with running(tmp_path, hub, authority, metadata="both") as service:
            await service.put(
                metadata(
                    "sys-7", name="Boardroom 7", capacity=12, features=["vc", "led"], owner={"a.b": 1, "old": True}
                ),
                metadata("sys-8", name="Too large", text="x" * 5000),
                metadata("sys.9", name="Level 9", gone=None),
            )
            await service.put(metadata("sys-7", name="Boardroom 7", owner={"a.b": 2}), metadata("bld-1", name="B"))
            service.made = 5
            await service.delivered()
            await service.put(metadata("bld-1", name="B2"))
            service.made = 6
            await service.delivered()
            assert service.azure.gauges()["twin_skipped"] == 1
        assert hub.identities["dev1"].reported == {
            "northbound": {
                "sys-7": {"name": "Boardroom 7", "owner": {"a%2Eb": 2}},
                "sys%2E9": {"name": "Level 9"},
                "bld-1": {"name": "B2"},
            }
        }
        service.conserved()
        assert not [refused for refused in hub.record.refused if refused.what == "twin"]


async def test_metadata_in_the_twin_alone_is_no_message(tmp_path, authority):
    async with hub_of(authority) as hub:
        async with running(tmp_path, hub, authority, metadata="twin") as service:
            await service.put(metadata("sys-7", name="Boardroom"), metadata("sys-8", text="x" * 5000))
            service.made = 2
            await service.delivered()
            assert service.status.counters.dead == 1
        assert hub.record.messages == type(hub.record.messages)()
        assert list(hub.identities["dev1"].reported["northbound"]) == ["sys-7"]


async def test_a_certificate_replaced_on_disk_is_used_without_a_loss(tmp_path, authority):
    pair = authority.client("dev1", valid=timedelta(minutes=5), file="device")
    async with AzureHubTwin(authority) as hub:
        hub.register("dev1", by_authority=True)
        options = {
            "host": hub.hub,
            "device_id": "dev1",
            "certificate": str(pair.certificate),
            "private_key": str(pair.private_key),
        }
        async with running(tmp_path, hub, authority, **options) as service:
            await service.flow(0.5)
            first = service.status.credentials[0].expires
            renewed = authority.client("dev1", valid=timedelta(days=5), file="device")
            hub.identities["dev1"].by_authority = False  # from now on nothing but the new one
            hub.identities["dev1"].thumbprints = [renewed.thumbprint]
            await until(lambda: len(hub.record.connects) == 2, 10)
            await service.flow(0.5)
            await service.delivered()
            assert service.status.credentials[0].expires > first + DAY * 1000
            assert service.status.counters.dead == 0
        assert service.conserved().duplicates == 0


async def test_a_device_moved_to_another_hub_is_provisioned_anew(tmp_path, authority):
    async with hub_of(authority) as hub, AzureDpsTwin(authority, retry_after=0) as dps:
        key = dps.enrol_group(hub)
        options = {
            "id_scope": dps.id_scope,
            "registration_id": "gateway-1",
            "group_key": key,
            "provisioning_host": "localhost",
            "provisioning_port": dps.port,
            "remember": str(tmp_path / "azure.json"),
        }
        async with running(tmp_path, hub, authority, **options) as service:
            await service.numbers(20)
            await service.delivered()
            assert dps.registered == ["gateway-1"]
            hub.hang_up("gateway-1")
            await service.numbers(20)
            await service.delivered()
            assert dps.registered == ["gateway-1"]  # it remembered
            dps.enrolments["gateway-1"].device_id = "renamed"
            del hub.identities["gateway-1"]
            hub.hang_up("gateway-1")
            await service.numbers(20)
            await service.delivered()
            assert dps.registered == ["gateway-1", "gateway-1"]
        service.conserved()
        assert hub.record.connects_by_client["renamed"] == 1


async def test_a_refused_device_is_explained_and_not_tried_fast(tmp_path, authority):
    async with hub_of(authority) as hub:
        hub.identities["dev1"].enabled = False
        async with running(tmp_path, hub, authority) as service:
            await until(lambda: service.status.state == "unauthorised", 5)
            explained = service.azure.explain(Unauthorised(service.status.error))
            assert "dev1 is not a device of acme.azure-devices.net, or it is disabled" in explained
            await asyncio.sleep(1)
            assert hub.record.reasons == ["the device is disabled"]  # the next try is half a minute away
