"""Promises 1 and 2 with real programs: events over HTTP while the service is killed and the broker goes away."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time

import pytest
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.proxy import Proxy
from tests.support.service import Service, until
from tests.support.subscriber import Arrived, Subscriber

CHUNK = 20
#: What the connector has under way at the most: batches in flight, each of twice Mosquitto's window of 20.
UNDER_WAY = 4 * 40
TOPICS = 25


class Producer(threading.Thread):
    """Posts chunks of its own topics; one that gets no answer is not posted again: no duplicate is the producer's."""

    def __init__(self, number: int, port: int, count: int) -> None:
        super().__init__(daemon=True)
        self.number, self.port, self.count = number, port, count
        self.accepted: list[tuple[str, int]] = []
        self.unanswered: set[tuple[str, int]] = set()
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            self._post_all()
        except BaseException as error:  # noqa: BLE001 - told by the test itself
            self.failed = error

    def _post_all(self) -> None:
        connection: http.client.HTTPConnection | None = None
        begin = 0
        while begin < self.count:
            chunk = [(f"s{self.number}-{n % TOPICS}", n) for n in range(begin, min(begin + CHUNK, self.count))]
            body = b"\n".join(
                json.dumps(
                    {"kind": "state", "building": "b", "system": "s", "driver": "d", "module": "M", "index": 1,
                     "state": state, "value": n}
                ).encode()
                for state, n in chunk
            )  # fmt: skip
            try:
                connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.connect() if connection.sock is None else None
            except OSError:
                connection = None
                time.sleep(0.02)
                continue  # nothing was sent
            try:
                connection.request("POST", "/api/events", body)
                response = connection.getresponse()
                answer = response.read()
            except (OSError, http.client.HTTPException):
                self.unanswered.update(chunk)
                connection.close()
                connection = None
                begin += CHUNK
                continue
            if response.status == 200:
                assert json.loads(answer)["accepted"] == len(chunk)
                self.accepted.extend(chunk)
                begin += CHUNK
            elif response.status in (429, 503):
                time.sleep(0.05)
            else:
                raise AssertionError(f"{response.status}: {answer!r}")
        if connection is not None:
            connection.close()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _named(message: Arrived) -> tuple[str, int]:
    return message.topic.rsplit("/", 1)[1], int(json.loads(json.loads(message.payload)["value"]))


def kill_and_cut(tmp_path, *, events: int, kills: int, cuts: int, seed: int) -> None:
    rng = random.Random(seed)
    port = free_port()
    lines = ["max_queued_messages 0", "autosave_interval 1"]
    with (
        Mosquitto(tmp_path, persistence=True, config_lines=lines) as broker,
        Proxy(free_port(), broker.port) as proxy,
    ):
        service = Service(
            tmp_path,
            f"""
            [site]
            org = "org-acme"
            [sources.push]
            type = "http"
            listen = "127.0.0.1:{port}"
            max_events_per_second = 1000000
            [connectors.local]
            type = "mqtt"
            url = "mqtt://127.0.0.1:{proxy.port}"
            version = "5"
            [connectors.local.retry]
            initial = "100ms"
            maximum = "500ms"
            """,
        )
        with Subscriber(broker.port) as recorder, service:
            producers = [Producer(number, port, events // 4) for number in range(4)]
            for producer in producers:
                producer.start()
            todo = ["kill"] * kills + ["cut"] * cuts
            rng.shuffle(todo)
            for action in todo:
                time.sleep(rng.uniform(0.1, 1.2))
                if action == "kill":
                    service.kill()
                    service.start()
                else:
                    broker.stop()
                    time.sleep(rng.uniform(0.05, 0.8))
                    broker.start()
            for producer in producers:
                producer.join(240)
                assert producer.failed is None, producer.failed
                assert not producer.is_alive()
            accepted = [event for producer in producers for event in producer.accepted]
            unanswered = {event for producer in producers for event in producer.unanswered}

            arrived: list[tuple[str, int]] = []
            missing = set(accepted)

            def all_there() -> (
                bool
            ):  # looks at what is new: parsing all of it each time keeps the recorder from reading
                new = [_named(message) for message in recorder.arrived[len(arrived) :]]
                arrived.extend(new)
                missing.difference_update(new)
                return not missing

            until(all_there, timeout=60, what="an accepted event did not arrive")
            until(lambda: _answers(port), what="it did not start again")
            assert service.stop() == 0, service.log()[-2000:]
            assert all_there()
    unique = dict.fromkeys(arrived)
    # The proxy counts what northbound sent twice. The recorder also gets twice what it had not acknowledged when the
    # broker was stopped; that is the broker's doing.
    duplicates = proxy.repeated
    brokers = len(arrived) - len(unique) - duplicates
    assert set(unique) <= set(accepted) | unanswered, "something arrived that nobody sent"
    newest: dict[str, int] = {}
    for state, n in unique:  # in the order of first arrival
        assert n > newest.get(state, -1), f"{state} went back from {newest[state]} to {n}"
        newest[state] = n
    print(
        f"\n{len(accepted):,} accepted and all arrived, {len(unanswered)} unanswered, {kills} kills, {cuts} cuts, "
        f"{duplicates} duplicates ({duplicates / len(arrived):.2%}), and {brokers} that the broker sent again itself"
    )
    assert duplicates <= (kills + cuts) * UNDER_WAY, "more than what was under way was sent again"
    if events >= 100_000:
        assert duplicates < 0.01 * len(accepted)


def test_kill_nine_and_broker_restarts_lose_nothing(tmp_path):
    kill_and_cut(tmp_path, events=20_000, kills=4, cuts=2, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_hundred_thousand_events_twenty_kills_ten_cuts(tmp_path, seed):
    kill_and_cut(tmp_path, events=100_000, kills=20, cuts=10, seed=seed)
