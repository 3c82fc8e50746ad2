"""Promise 3: a connector with a wrong password and one that reaches nobody do not slow a third."""

from __future__ import annotations

import json
import time

from tests.support.mosquitto import Mosquitto, free_port
from tests.support.service import Service, lines, until
from tests.support.subscriber import Subscriber

COUNT = 20_000


def rate(tmp_path, *, troubled: bool) -> float:
    tmp_path.mkdir()
    events = tmp_path / "events.jsonl"
    one = {"kind": "state", "org": "o", "building": "b", "driver": "d", "module": "M", "index": 1, "state": "x"}
    events.write_bytes(lines([json.dumps({**one, "system": f"s{n % 500}", "value": n}).encode() for n in range(COUNT)]))
    with (
        Mosquitto(tmp_path / "good", config_lines=["max_queued_messages 0"]) as good,
        Mosquitto(tmp_path / "guarded", users={"a": "b"}) as guarded,
        Subscriber(good.port) as recorder,
    ):
        trouble = f"""
        [connectors.wrong]
        type = "mqtt"
        url = "mqtt://127.0.0.1:{guarded.port}"
        username = "a"
        password = "not it"
        [connectors.nobody]
        type = "mqtt"
        url = "mqtt://127.0.0.1:{free_port()}"
        """
        service = Service(
            tmp_path,
            f"""
            [sources.in]
            type = "jsonl"
            path = "events.jsonl"
            [connectors.local]
            type = "mqtt"
            url = "mqtt://127.0.0.1:{good.port}"
            {trouble if troubled else ""}
            [service]
            drain = "500ms"
            """,
        )
        with service:
            until(lambda: recorder.arrived, what="nothing arrives")
            started, first = time.perf_counter(), len(recorder.arrived)
            until(lambda: len(recorder.arrived) >= COUNT, timeout=60, what="not all arrived")
            measured = (COUNT - first) / (time.perf_counter() - started)
            if troubled:
                until(
                    lambda: "wrong: unauthorised" in service.log() and "nobody: retrying" in service.log(),
                    what="no trouble",
                )
            assert service.stop() == 0
        return measured


def test_trouble_of_one_connector_is_not_anothers(tmp_path):
    alone = rate(tmp_path / "alone", troubled=False)
    beside = rate(tmp_path / "beside", troubled=True)
    print(f"\n{alone:,.0f} msg/s alone, {beside:,.0f} beside two that fail")
    assert beside > alone / 5, "far less: not noise of the machine"
