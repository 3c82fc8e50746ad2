"""Promise 4: what a broker refuses is set aside with its reason, its neighbours arrive, and it can be replayed."""

from __future__ import annotations

import json

import pytest
from tests.support.mosquitto import Mosquitto
from tests.support.service import Service, lines, until
from tests.support.subscriber import Subscriber, retained


def event(state: str, value: object) -> bytes:
    return json.dumps(
        {"kind": "state", "org": "o", "building": "b", "system": "s", "driver": "d", "module": "M", "index": 1,
         "state": state, "value": value}
    ).encode()  # fmt: skip


def configuration(port: int, extra: str = "", limits: str = "") -> str:
    return f"""
    [sources.in]
    type = "jsonl"
    path = "-"
    [connectors.local]
    type = "mqtt"
    url = "mqtt://127.0.0.1:{port}"
    username = "bridge"
    password = "secret"
    {extra}
    [connectors.local.retry]
    initial = "50ms"
    maximum = "200ms"
    {limits}
    """


def letters(service: Service) -> list[dict[str, object]]:
    done = service.call("deadletters", "list", "--json", "--config", str(service.config))
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["dead_letters"])


def states(kept: dict[str, bytes]) -> set[str]:
    return {topic.rsplit("/", 1)[1] for topic in kept}


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_too_large_and_refused_become_dead_letters_and_neighbours_arrive(tmp_path, version):
    allowed = [f"topic write placeos/+/state/+/+/+/+/+/+/+/{state}" for state in ("ok1", "ok2", "large")]
    acl = ["user bridge", *allowed]
    small = Mosquitto(tmp_path, users={"bridge": "secret"}, acl=acl, config_lines=["max_packet_size 100000"])
    with small:
        service = Service(tmp_path, configuration(small.port, f'version = "{version}"'))
        done = service.once(
            lines([event("ok1", 1), event("large", "x" * 300_000), event("forbidden", 1), event("ok2", 2)])
        )
        assert done.returncode == 0, done.stderr
        found = {str(letter["topic"]).rsplit("/", 1)[1]: str(letter["reason"]) for letter in letters(service)}
        log = small.log()
    assert "large" in found
    if version == "5":
        assert "takes 99" in found["large"] or "100" in found["large"]
        assert set(found) == {"large", "forbidden"}
        assert "not authorised" in found["forbidden"].lower() or "refuses" in found["forbidden"]
    else:
        # 3.1.1 has no word for it: the broker hangs up, and three hang-ups first in line make it poison
        assert "hang-ups in a row" in found["large"], log
    with Mosquitto(tmp_path, users={"bridge": "secret"}) as again:
        service.config.write_text(configuration(again.port, f'version = "{version}"'))
        service.start()
        try:
            replay = service.call("deadletters", "replay", "--all", "--config", str(service.config))
            assert replay.returncode == 0, replay.stderr
            until(lambda: letters(service) == [], what="not replayed")
        finally:
            service.stop()
        kept = retained(again.port, username="bridge", password="secret")
    assert states(kept) == set(found)


def test_an_illegal_topic_is_a_dead_letter_in_words(tmp_path):
    with Mosquitto(tmp_path) as broker:
        limits = "[connectors.local.limits]\nmax_topic_bytes = 40"
        text = (
            configuration(broker.port, limits=limits)
            .replace('username = "bridge"', "")
            .replace('password = "secret"', "")
        )
        service = Service(tmp_path, text)
        metadata = json.dumps({"kind": "metadata", "org": "o", "id": "b", "metadata": {"name": "B"}}).encode()
        assert service.once(lines([event("d" * 40, 1), metadata])).returncode == 0
        assert states(retained(broker.port)) == {"b"}
        (letter,) = letters(service)
        assert letter["reason"] == "the topic has 70 bytes: the destination takes 40"
        service.config.write_text(text.replace(limits, ""))
        service.start()
        try:
            with Subscriber(broker.port) as recorder:
                assert service.call("deadletters", "replay", "--all").returncode == 0
                until(lambda: any(m.topic.endswith("/" + "d" * 40) for m in recorder.arrived), what="not replayed")
        finally:
            service.stop()
