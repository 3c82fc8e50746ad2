"""Wrong input everywhere: a clear word each, the service alive, the neighbours delivered."""

from __future__ import annotations

import json
import os
import subprocess
import time

import pytest
from tests.support.mosquitto import Mosquitto
from tests.support.service import Service, lines, until
from tests.support.subscriber import Subscriber, retained


def event(state: str, **more: object) -> bytes:
    base = {"kind": "state", "org": "o", "building": "b", "system": "s", "driver": "d", "module": "M", "index": 1}
    return json.dumps({**base, "state": state, "value": 1, **more}).encode()


def configuration(port: int, source: str = 'type = "jsonl"\npath = "-"') -> str:
    return f"""
    [sources.in]
    {source}
    [connectors.local]
    type = "mqtt"
    url = "mqtt://127.0.0.1:{port}"
    """


WRONG = {
    "truncated": event("x")[:-5],
    "nul bytes": b"\0\0\0" + event("x"),
    "not utf-8": event("x").replace(b'"o"', b'"\xff\xfe"'),
    "deep nesting": b'{"kind":"state","value":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nan": event("x").replace(b'"value": 1', b'"value": NaN'),
    "no org is fine but no state": event(""),
    "a time in seconds times a million": event("x", time=10**18),
    "unknown key": event("x", colour="red"),
    "beyond the hierarchy": event("x", region="r"),
    "not an object": b"[1,2,3]",
    "index zero": event("x", index=0),
}


def test_wrong_lines_are_named_and_their_neighbours_arrive(tmp_path):
    with Mosquitto(tmp_path) as broker:
        service = Service(tmp_path, configuration(broker.port))
        body = [
            event("before"),
            *WRONG.values(),
            event("y1970", time=0),
            event("y2200", time=7258118400000),
            event("after"),
        ]
        done = service.once(lines(body))
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
        kept = {topic.rsplit("/", 1)[1] for topic in retained(broker.port)}
    assert kept == {"before", "y1970", "y2200", "after"}
    assert b"refused" in done.stderr


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_line_has_a_reason_with_its_number(tmp_path, name):
    service = Service(tmp_path, configuration(1, 'type = "jsonl"\npath = "-"\nstrict = true'))
    service.config.write_text(
        service.config.read_text().split("[connectors.local]")[0]
        + '[connectors.out]\ntype = "file"\npath = "out.jsonl"\n'
    )
    done = service.once(lines([event("before"), WRONG[name]]))
    assert done.returncode == 1, done.stderr
    assert b"line 2" in done.stderr, done.stderr
    assert b"Traceback" not in done.stderr


def test_a_line_of_a_hundred_megabytes(tmp_path):
    with Mosquitto(tmp_path) as broker:
        (tmp_path / "events.jsonl").write_bytes(
            event("before")
            + b"\n"
            + event("x")[:-1]
            + b', "state": "'
            + b"y" * 100_000_000
            + b'"}\n'
            + event("after")
            + b"\n"
        )
        source = 'type = "jsonl"\npath = "events.jsonl"\nfollow = true'
        with Service(tmp_path, configuration(broker.port, source)) as service, Subscriber(broker.port) as recorder:
            until(lambda: any(m.topic.endswith("/after") for m in recorder.arrived), timeout=60, what="stuck")
            assert service.resident_mb() < 250
            until(lambda: "line 2" in service.log(), what="the long line is not named")
            assert service.stop() == 0


@pytest.mark.parametrize("content", [b"", b"not a database, but text of some length " * 10], ids=["zero bytes", "text"])
def test_a_store_that_is_none_is_refused_and_left_alone(tmp_path, content):
    service = Service(tmp_path, configuration(1))
    store = tmp_path / "northbound.db"
    store.write_bytes(content)
    done = service.once()
    assert done.returncode == 1
    assert b"northbound.db" in done.stderr
    assert b"Traceback" not in done.stderr
    assert store.read_bytes() == content


def test_a_full_disk_accepts_nothing_and_loses_nothing(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(mount)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("mounting a tmpfs needs root and a kernel that lets us; the store's own tests fill one otherwise")
    try:
        _fill_up(tmp_path, mount)
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def _fill_up(tmp_path, mount) -> None:
    filler = mount / "filler"
    filler.write_bytes(b"\0" * 34 * 1024**2)
    events = tmp_path / "events.jsonl"
    count = 20_000
    with events.open("wb") as file:
        for n in range(count):
            file.write(event(f"s{n % 100}", value="x" * 500 + str(n)) + b"\n")
    with Mosquitto(tmp_path, config_lines=["max_queued_messages 0"]) as broker:
        broker.stop()  # so that the store must hold everything
        text = configuration(broker.port, f'type = "jsonl"\npath = "{events}"\nfollow = true')
        text += f'\n[connectors.local.retry]\nmaximum = "500ms"\n[store]\npath = "{mount}/northbound.db"\n'
        with Service(tmp_path, text) as service:
            until(lambda: "the disk takes no more" in service.log(), timeout=60, what="it never filled up")
            assert service.running
            broker.start()
            with Subscriber(broker.port) as recorder:
                filler.unlink()
                until(lambda: len(recorder.arrived) >= count, timeout=90, what="it did not go on")
                time.sleep(0.3)
                numbers = [json.loads(json.loads(m.payload)["value"])[500:] for m in recorder.arrived]
            assert service.stop() == 0
    assert sorted(set(map(int, numbers))) == list(range(count))
