"""A northbound in a process of its own delivers to the twin, is killed, and goes on where it stopped."""

from __future__ import annotations

import asyncio
import json

import pytest
from tests.support.intake import until
from tests.support.service import Service

from northbound.testing.twins.authority import Authority
from northbound.testing.twins.azure_dps import AzureDpsTwin
from northbound.testing.twins.azure_iot import AzureHubTwin, HubLimits
from northbound.testing.twins.azure_rules import derived_key
from northbound_azure_iot import read_message

COUNT = 1500
ONE = {"kind": "state", "org": "o", "building": "b", "driver": "d", "module": "M", "index": 1, "state": "x"}


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


def arrived(hub):
    for taken in hub.record.messages:
        yield from read_message(taken.user, taken.payload)


async def test_killed_in_mid_flow(tmp_path, authority):
    events = tmp_path / "events.jsonl"
    events.write_text("".join(json.dumps({**ONE, "system": f"s{n % 20}", "value": n}) + "\n" for n in range(COUNT)))
    async with (
        AzureHubTwin(authority, limits=HubLimits(sends_per_second=1e6)) as hub,
        AzureDpsTwin(authority, retry_after=0) as dps,
    ):
        service = Service(
            tmp_path,
            f"""
            [sources.in]
            type = "jsonl"
            path = "events.jsonl"
            follow = true
            [connectors.azure]
            type = "azure-iot"
            tier = "S2"
            units = 5
            id_scope = "{dps.id_scope}"
            registration_id = "gw-1"
            group_key = "${{GROUP_KEY}}"
            provisioning_host = "localhost"
            provisioning_port = {dps.port}
            remember = "azure.json"
            gateway_host = "localhost"
            port = {hub.port}
            ca = "{authority.ca}"
            [connectors.azure.retry]
            initial = "50ms"
            [service]
            log_level = "debug"
            """,
            environment={"GROUP_KEY": (group_key := dps.enrol_group(hub))},
        )
        for share in (0.2, 0.5):
            service.start()
            await until(lambda at=share: len(hub.record.messages) > COUNT * at, 30)
            service.kill()
        service.start()
        try:
            await until(lambda: len({message.topic + str(message.payload) for message in arrived(hub)}) == COUNT, 40)
        finally:
            status = await asyncio.to_thread(service.stop)
        assert status == 0, service.log()
        log = service.log()
        assert dps.registered == ["gw-1"]  # remembered over two kills
    newest: dict[str, int] = {}
    seen: set[int] = set()
    for message in arrived(hub):
        number = int(json.loads(json.loads(message.payload)["value"]))
        if number not in seen:
            assert number > newest.get(message.topic, -1), f"{message.topic} went back"
            newest[message.topic] = number
            seen.add(number)
    assert seen == set(range(COUNT))
    print(f"\n{len(hub.record.messages) - COUNT} of {COUNT} more than once")
    assert len(hub.record.messages) - COUNT <= 2 * 400  # what was under way at two kills
    for secret in (group_key, derived_key(group_key, "gw-1"), "sig="):
        assert secret not in log
    assert hub.record.reasons == []
