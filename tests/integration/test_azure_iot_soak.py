"""A minute of everything at once: hang-ups, stalls, takeovers, poison, tokens that end, on several devices."""

from __future__ import annotations

import random
import time

import pytest
from tests.support.intake import until
from tests.support.iot_hub import running

from northbound import delivery
from northbound.events import State
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.azure_iot import AzureHubTwin, HubLimits
from northbound_azure_iot import pacing

SECONDS = 40


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("options", [{}, {"batch": "4 KiB", "batch_wait": "200ms"}, {"transport": "websocket"}])
async def test_nothing_is_lost_whatever_happens(tmp_path, monkeypatch, options):
    monkeypatch.setattr(delivery, "LOST_SECONDS", 0.5)
    monkeypatch.setattr(pacing, "SPACING", 0.5)
    rng = random.Random(5)
    authority = Authority(tmp_path / "ca")
    devices = [f"gw-{n}" for n in range(3)]
    async with AzureHubTwin(authority, limits=HubLimits(sends_per_second=2000)) as hub:
        for device in devices:
            hub.register(device)
        hub.poison = lambda _properties, body: b"poison" in body
        if options.get("transport") == "websocket":
            options = options | {"port": hub.websocket_port}
        merged = {
            "identities": [{"connection_string": hub.connection_string(device)} for device in devices],
            "tier": "S2",
            "units": 4,
            "token_seconds": 4,
            "ack_timeout": "1s",
            "keep_alive": "2s",
        }
        async with running(tmp_path, hub, authority, **(merged | options)) as service:
            began, poisoned = time.monotonic(), 0
            while time.monotonic() - began < SECONDS:
                await service.flow(rng.uniform(0.2, 2.0), rate=200)
                device = rng.choice(devices)
                peer = hub.peers.get(device)
                match rng.randrange(6):
                    case 0:
                        hub.hang_up(device)
                    case 1 if peer is not None:
                        peer.cut()
                    case 2 if peer is not None:
                        peer.wire.listen(on=False)
                    case 3 if poisoned < 5:
                        poisoned += 1
                        await service.put(
                            State("org", (None,) * 3, "sys", "drv", "Mod", 1, f"p{poisoned}", "poison", 1)
                        )
                        service.made += 1
            await until(lambda: counters_of(service) >= service.made, 120)
            counters = service.status.counters
            assert counters.dead == poisoned
            renewed = service.azure.gauges()["tokens_renewed"]
        found = service.conserved(set_aside=poisoned + counters.overtaken)
        print(
            f"\n{service.made:,} states, {found.duplicates} more than once, {len(hub.record.connects)} connections, "
            f"{renewed:.0f} tokens renewed, {poisoned} set aside"
        )


def counters_of(service):
    counters = service.status.counters
    return counters.acknowledged + counters.dead + counters.overtaken
