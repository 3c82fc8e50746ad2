"""A secure WebSocket through a proxy, cut and stalled beneath: nothing lost, nothing set aside, order kept."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import time

import trustme
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.oracle import check_file
from tests.support.proxy import Proxy
from tests.support.service import Service, until
from tests.support.subscriber import Subscriber
from tests.support.tunnels import HttpProxy
from tests.support.websocket_front import WebSocketFront

from northbound.mqtt.pins import digests

COUNT = 12_000
TOPICS = 200
ONE = {"kind": "state", "org": "o", "building": "b", "driver": "d", "module": "M", "index": 1, "state": "x"}


async def test_cuts_and_stalls_below_every_layer_lose_nothing(tmp_path):
    rng = random.Random(11)
    ca = trustme.CA()
    server = ca.issue_cert("broker.internal")
    ca.cert_pem.write_to_path(str(tmp_path / "ca"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.configure_cert(context)
    pin = digests(ssl.PEM_cert_to_DER_cert(server.cert_chain_pems[0].bytes().decode()))[1].hex()
    events = tmp_path / "events.jsonl"
    with (
        Mosquitto(tmp_path, config_lines=["max_queued_messages 0"]) as broker,
        Proxy(free_port(), broker.port) as cutter,
        Subscriber(broker.port) as recorder,
        events.open("w") as file,
    ):
        async with (
            WebSocketFront(cutter.port, tls=context) as front,
            HttpProxy(login=("acme", "hunter2"), names={"broker.internal": "127.0.0.1"}) as proxy,
        ):
            service = Service(
                tmp_path,
                f"""
                [sources.in]
                type = "jsonl"
                path = "events.jsonl"
                follow = true
                [connectors.cloud]
                type = "mqtt"
                url = ["wss://broker.internal:{free_port()}", "wss://broker.internal:{front.port}"]
                proxy = "http://acme:hunter2@127.0.0.1:{proxy.port}"
                ca = "ca"
                pin = ["sha256:{pin}"]
                version = "5"
                ack_timeout = "1s"
                connect_timeout = "2s"
                [connectors.cloud.retry]
                initial = "50ms"
                maximum = "200ms"
                """,
            )

            def arrived():
                return len({message.payload for message in list(recorder.arrived)})

            def feed_and_disturb():
                with service:
                    until(lambda: cutter.connections, what="it never connected")
                    for n in range(COUNT):
                        file.write(json.dumps({**ONE, "system": f"s{n % TOPICS}", "value": n}) + "\n")
                        if n % 2_000 == 1_999:
                            file.flush()
                            cutter.stall() if n % 4_000 == 1_999 else cutter.cut()
                            time.sleep(rng.uniform(0.05, 1.5))
                            cutter.flow()
                            until(lambda sent=n + 1: arrived() == sent, timeout=60, what="it never came back")
                    assert service.stop() == 0

            await asyncio.to_thread(feed_and_disturb)
            summary = service.log()
    newest: dict[str, int] = {}
    for topic, payload in dict.fromkeys((m.topic, m.payload) for m in recorder.arrived):
        n = int(json.loads(json.loads(payload)["value"]))
        assert n > newest.get(topic, -1)
        newest[topic] = n
    assert "0 dead letters" in summary, summary[-1000:]
    assert cutter.connections > 3
    assert "hunter2" not in summary
    check_file(tmp_path / "northbound.db")
