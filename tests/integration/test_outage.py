"""The broker is away: nothing lost, memory flat, it drains, and ``latest`` leaves the newest value per topic."""

from __future__ import annotations

import json
import sqlite3
import time

import pytest
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.service import Service, until
from tests.support.subscriber import Subscriber

LATEST = """
[connectors.local.backlog]
maximum_bytes = "1 MiB"
when_full = "latest"
"""


def configuration(broker_port: int, events: str, extra: str = "") -> str:
    return f"""
    [site]
    org = "org-acme"
    [sources.in]
    type = "jsonl"
    path = "{events}"
    follow = true
    [connectors.local]
    type = "mqtt"
    url = "mqtt://127.0.0.1:{broker_port}"
    [connectors.local.retry]
    initial = "100ms"
    maximum = "500ms"
    {extra}
    """


def write(path, begin: int, end: int, topics: int) -> None:
    with path.open("a") as file:
        for n in range(begin, end):
            file.write(
                json.dumps(
                    {"kind": "state", "building": "b", "system": f"s{n % topics}", "driver": "d", "module": "M",
                     "index": 1, "state": "level", "value": n}
                ) + "\n"
            )  # fmt: skip


def value(payload: bytes) -> int:
    return int(json.loads(json.loads(payload)["value"]))


def backlog_of(service: Service) -> int:
    """Count what the store holds, from outside."""
    with sqlite3.connect(f"file:{service.directory / 'northbound.db'}?mode=ro", uri=True) as db:
        try:
            return int(db.execute("SELECT max(sequence) FROM log").fetchone()[0] or 0)
        finally:
            db.rollback()


def outage(tmp_path, *, away: int, live: int, topics: int, memory_mb: float) -> None:
    port = free_port()
    events = tmp_path / "events.jsonl"
    write(events, 0, away, topics)
    with Service(tmp_path, configuration(port, "events.jsonl")) as service:
        until((tmp_path / "northbound.db").exists, what="no store")
        until(lambda: backlog_of(service) >= away, timeout=120, what="the backlog was not taken in")
        assert service.resident_mb() < memory_mb
        with Mosquitto(tmp_path, port=port, config_lines=["max_queued_messages 0"]):
            with Subscriber(port) as recorder:
                write(events, away, away + live, topics)
                until(lambda: len(recorder.arrived) >= away + live, timeout=300, what="not all arrived")
                time.sleep(0.3)
                arrived = list(recorder.arrived)
            assert service.resident_mb() < memory_mb
            assert service.stop() == 0
    assert len(arrived) == away + live, "an outage repeats nothing"
    newest: dict[str, int] = {}
    for message in arrived:
        n = value(message.payload)
        assert n > newest.get(message.topic, -1)
        newest[message.topic] = n


def test_what_came_while_the_broker_was_away_arrives_in_order(tmp_path):
    outage(tmp_path, away=30_000, live=2_000, topics=300, memory_mb=200)


@pytest.mark.slow
def test_an_hours_worth_of_backlog(tmp_path):
    outage(tmp_path, away=1_000_000, live=50_000, topics=5_000, memory_mb=200)


def test_latest_leaves_exactly_the_newest_value_of_each_topic(tmp_path):
    port = free_port()
    events = tmp_path / "events.jsonl"
    count, topics = 40_000, 50
    write(events, 0, count, topics)
    with Service(tmp_path, configuration(port, "events.jsonl", LATEST)) as service:
        until((tmp_path / "northbound.db").exists, what="no store")
        until(lambda: backlog_of(service) >= count, timeout=60, what="not taken in")
        until(lambda: "keeping the newest" in service.log(), what="it never grew too large")
        time.sleep(2.5)  # the bound is looked at every second; then nothing more comes
        broker = Mosquitto(tmp_path, port=port, config_lines=["max_queued_messages 0"])  # it drops the newest of 1,000
        with broker, Subscriber(port) as recorder:
            newest = list(range(count - topics, count))

            def last() -> list[int]:
                return sorted({m.topic: value(m.payload) for m in list(recorder.arrived)}.values())

            until(lambda: last() == newest, what="the newest value of a topic is missing")
            time.sleep(0.3)
        assert service.stop() == 0
    assert last() == newest
    assert len(recorder.arrived) < count / 2, "superseded values were sent"
