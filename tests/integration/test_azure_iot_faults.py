"""The azure-iot connector in a running service, on the twin, while things go wrong: nothing lost, no way back."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.support.intake import until
from tests.support.iot_hub import running

from northbound import NotConnected, delivery, renewal
from northbound.events import State
from northbound.mqtt import Client, ClientOptions
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.azure_iot import AzureHubTwin, HubLimits
from northbound_azure_iot import pacing
from northbound_azure_iot.tokens import sign


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(delivery, "GUARD_SECONDS", 0.05)
    monkeypatch.setattr(delivery, "LOST_SECONDS", 0.2)
    monkeypatch.setattr(pacing, "SPACING", 0.5)
    monkeypatch.setattr(renewal, "ASK_SECONDS", 0.05)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


def hub_of(authority, **limits):
    hub = AzureHubTwin(authority, limits=HubLimits(**limits))
    hub.register("dev1")
    return hub


def state(name, value):
    return State("org", (None, None, None), "sys", "drv", "Mod", 1, name, value, 1)


async def test_a_token_that_expires_in_mid_flow_is_renewed_without_a_failure(tmp_path, authority):
    async with hub_of(authority) as hub:
        async with running(tmp_path, hub, authority, token_seconds=2) as service:
            await service.flow(4, rate=80)
            await service.delivered()
            assert service.azure.gauges()["tokens_renewed"] >= 2
            assert service.status.retried == service.status.reconnects == 0
            token, _ca = service.status.credentials
            assert token.renewed
            assert token.expires
        assert service.conserved().duplicates == 0
        assert hub.record.reasons == []  # the hub never had to end a connection


async def test_hang_ups_lose_nothing(tmp_path, authority):
    async with hub_of(authority) as hub:
        async with running(tmp_path, hub, authority) as service:
            for _ in range(3):
                await until(lambda: "dev1" in hub.peers, 5)
                await service.flow(0.3, rate=100)
                hub.hang_up("dev1")
            await service.numbers(20)
            await service.delivered()
            assert service.status.counters.dead == 0
        service.conserved()
        assert 4 <= len(hub.record.connects) <= 8


async def test_a_stalled_connection_is_given_up(tmp_path, authority):
    async with hub_of(authority) as hub:
        async with running(tmp_path, hub, authority, ack_timeout="300ms", keep_alive="1s") as service:
            await service.numbers(50)
            await service.delivered()
            hub.peers["dev1"].wire.listen(on=False)
            await service.numbers(50)
            await service.delivered()
            assert service.status.counters.dead == 0
        service.conserved()
        assert len(hub.record.connects) == 2


@pytest.mark.parametrize("options", [{}, {"batch": "4 KiB", "batch_wait": 0}])
async def test_a_message_the_hub_hangs_up_on_is_set_aside(tmp_path, authority, options):
    async with hub_of(authority) as hub:
        hub.poison = lambda _properties, body: b"poison" in body
        async with running(tmp_path, hub, authority, **options) as service:
            await service.numbers(20)
            await service.put(state("bad", "poison"))
            service.made += 1
            await service.numbers(19)
            await service.delivered()
            assert service.status.counters.dead == 1
        service.conserved(set_aside=1)
        assert "poison" in hub.record.reasons
        assert len(hub.record.connects) <= 7


async def test_too_large_a_message_is_never_sent(tmp_path, authority):
    async with hub_of(authority) as hub:
        async with running(tmp_path, hub, authority) as service:
            await service.numbers(5)
            await service.put(state("large", "x" * 262_144))
            service.made += 1
            await service.numbers(5)
            await service.delivered()
            assert service.status.counters.dead == 1
        service.conserved(set_aside=1)
        assert hub.record.reasons == []


async def test_throttling_ends_in_few_reconnects(tmp_path, authority):
    limits = {"sends_per_second": 40, "burst_seconds": 0.5, "queue": 20}
    async with hub_of(authority, **limits) as hub:
        async with running(tmp_path, hub, authority, retry={"initial": "500ms", "maximum": "2s"}) as service:
            await service.numbers(150)
            await service.delivered(seconds=40)
            assert service.status.counters.dead == 0
        service.conserved()
        assert any("429002" in reason for reason in hub.record.reasons)
        assert len(hub.record.connects) <= 15


@pytest.mark.parametrize("holds", [False, True])
async def test_a_quota_that_is_used_up_costs_no_message_and_no_storm(tmp_path, authority, holds):
    async with hub_of(authority, quota=100, quota_holds=holds) as hub:
        day = [0.0]
        hub.clock = lambda: time.time() + day[0]
        async with running(tmp_path, hub, authority, token_lifetime="2d", ack_timeout="300ms") as service:
            await service.numbers(180)
            await until(lambda: "takes no message at all" in (service.status.error or ""), 10)
            before = len(hub.record.connects)
            await asyncio.sleep(1)
            assert len(hub.record.connects) - before <= 3
            assert service.status.counters.dead == 0
            assert service.status.counters.acknowledged == 100
            explained = service.azure.explain(NotConnected(service.status.error))
            assert "quota" in explained
            day[0] = 86_400.0
            service.worker._opens.succeeded()
            service.worker._renew()  # in place of the wait
            await service.delivered(seconds=30)
            assert service.status.counters.dead == 0
        service.conserved()


async def test_a_second_client_with_the_same_id(tmp_path, authority):
    async with hub_of(authority) as hub:
        identity = hub.identities["dev1"]
        intruder_options = ClientOptions(
            host=hub.host, port=hub.port, ssl=authority.client_context(), client_id="dev1", version=4,
            username=f"{hub.hub}/dev1/?api-version=2021-04-12",
            password=sign(f"{hub.hub}/devices/dev1", identity.keys[1], 3600).text,
        )  # fmt: skip
        async with running(tmp_path, hub, authority) as service:
            for _ in range(3):
                await service.flow(0.4, rate=100)
                intruder = Client(intruder_options)
                await intruder.connect()
                await until(lambda: hub.record.reasons.count("a newer connection of the same device") >= 1, 5)
                await intruder.disconnect()
            await service.delivered()
            assert service.status.counters.dead == 0
        service.conserved()
        assert hub.hung_up["dev1"] >= 3
