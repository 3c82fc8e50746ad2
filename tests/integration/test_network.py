"""The network between the service and the broker is cut and stalls: nothing lost, nothing set aside, order kept."""

from __future__ import annotations

import json
import random
import time

from tests.support.mosquitto import Mosquitto, free_port
from tests.support.proxy import Proxy
from tests.support.service import Service, until
from tests.support.subscriber import Subscriber

COUNT = 30_000
TOPICS = 200


def test_cuts_and_stalls_lose_nothing(tmp_path):
    rng = random.Random(7)
    events = tmp_path / "events.jsonl"
    one = {"kind": "state", "org": "o", "building": "b", "driver": "d", "module": "M", "index": 1, "state": "x"}
    with (
        Mosquitto(tmp_path, config_lines=["max_queued_messages 0"]) as broker,
        Proxy(free_port(), broker.port) as proxy,
        Subscriber(broker.port) as recorder,
        events.open("w") as file,
    ):
        service = Service(
            tmp_path,
            f"""
            [sources.in]
            type = "jsonl"
            path = "events.jsonl"
            follow = true
            [connectors.local]
            type = "mqtt"
            url = "mqtt://127.0.0.1:{proxy.port}"
            version = "5"
            ack_timeout = "500ms"
            connect_timeout = "500ms"
            [connectors.local.retry]
            initial = "50ms"
            maximum = "200ms"
            """,
        )
        with service:
            until(lambda: proxy.connections, what="it never connected")
            for n in range(COUNT):
                file.write(json.dumps({**one, "system": f"s{n % TOPICS}", "value": n}) + "\n")
                if n % 2_000 == 1_999:
                    file.flush()
                    proxy.stall() if rng.random() < 0.4 else proxy.cut()
                    time.sleep(rng.uniform(0.05, 0.8))
                    proxy.flow()
            file.flush()
            until(lambda: len({m.payload for m in list(recorder.arrived)}) == COUNT, timeout=60, what="not all arrived")
            assert service.stop() == 0
            summary = service.log()
        arrived = list(recorder.arrived)
    newest: dict[str, int] = {}
    for topic, payload in dict.fromkeys((m.topic, m.payload) for m in arrived):  # in the order of first arrival
        n = int(json.loads(json.loads(payload)["value"]))
        assert n > newest.get(topic, -1)
        newest[topic] = n
    assert "0 dead letters" in summary, summary[-1000:]
    assert proxy.connections > 5
    print(f"\n{proxy.connections} connections, {proxy.repeated} of {COUNT:,} sent again")
    assert proxy.repeated < 0.05 * COUNT
