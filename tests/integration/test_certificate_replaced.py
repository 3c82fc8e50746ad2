"""A client certificate is replaced on disk while messages flow: the next connection uses it, nothing is lost."""

from __future__ import annotations

import json
import os
from collections import Counter

import trustme
from tests.support.mosquitto import Mosquitto
from tests.support.oracle import check_file
from tests.support.service import Service, until
from tests.support.subscriber import Subscriber

TOPICS = 50
ONE = {"kind": "state", "org": "o", "building": "b", "driver": "d", "module": "M", "index": 1, "state": "x"}


def write(blob, path):
    """Put a file in its place in one move, as those do that renew certificates."""
    fresh = path.with_suffix(".new")
    blob.write_to_path(str(fresh))
    os.replace(fresh, path)  # noqa: PTH105 - the move is what matters


def issue(ca, name, folder):
    device = ca.issue_cert(common_name=name)
    write(device.cert_chain_pems[0], folder / "device.crt")
    write(device.private_key_pem, folder / "device.key")


def test_a_replaced_certificate_is_used_without_a_restart_or_a_loss(tmp_path):
    ca = trustme.CA()
    server = ca.issue_cert("127.0.0.1", common_name="recorder")  # the recorder shows it, too
    for blob, name in [(ca.cert_pem, "ca"), (server.cert_chain_pems[0], "crt"), (server.private_key_pem, "key")]:
        blob.write_to_path(str(tmp_path / name))
    issue(ca, "device-1", tmp_path)
    events, sent = tmp_path / "events.jsonl", 0
    with (
        Mosquitto(
            tmp_path,
            tls=(tmp_path / "ca", tmp_path / "crt", tmp_path / "key"),
            require_certificate=True,
            config_lines=["use_identity_as_username true", "max_queued_messages 0"],
        ) as broker,
        Subscriber(broker.port, tls=(tmp_path / "ca", tmp_path / "crt", tmp_path / "key")) as recorder,
        events.open("w") as file,
        Service(
            tmp_path,
            f"""
            [sources.in]
            type = "jsonl"
            path = "events.jsonl"
            follow = true
            [connectors.cloud]
            type = "mqtt"
            url = "mqtts://127.0.0.1:{broker.port}"
            ca = "ca"
            certificate = "device.crt"
            private_key = "device.key"
            """,
        ) as service,
    ):

        def feed(count):
            nonlocal sent
            for n in range(sent, sent + count):
                file.write(json.dumps({**ONE, "system": f"s{n % TOPICS}", "value": n}) + "\n")
            file.flush()
            sent += count

        def arrived():
            return len({message.payload for message in list(recorder.arrived)})

        feed(2_000)
        until(lambda: "u'device-1'" in broker.log(), what="it never connected with the first certificate")
        assert service.process is not None
        process = service.process.pid
        issue(ca, "device-2", tmp_path)
        while "u'device-2'" not in broker.log():  # what flows while the connection is made anew is part of the test
            assert service.running, service.log()
            assert sent < 500_000, "the new certificate is never used"
            feed(100)
            until(lambda: arrived() > sent - 1_000, what="nothing arrives any more")
        feed(2_000)
        until(lambda: arrived() == sent, timeout=30, what="not all arrived")
        assert service.process.pid == process
        assert service.stop() == 0
        summary = service.log()
    assert "0 dead letters" in summary, summary[-1000:]
    assert "retrying" not in summary, summary[-2000:]
    newest: dict[str, int] = {}
    for topic, payload in dict.fromkeys((m.topic, m.payload) for m in recorder.arrived):
        n = int(json.loads(json.loads(payload)["value"]))
        assert n > newest.get(topic, -1)
        newest[topic] = n
    repeated = sum(Counter((m.topic, m.payload) for m in recorder.arrived).values()) - sent
    assert repeated == 0, "what is under way is finished before the connection is opened again"
    check_file(tmp_path / "northbound.db")
