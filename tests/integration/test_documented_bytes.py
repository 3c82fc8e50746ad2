"""Standard input to a real Mosquitto: exactly the documented topics and payloads, byte for byte, in both profiles."""

from __future__ import annotations

import json

import pytest
from tests.support.mosquitto import Mosquitto
from tests.support.service import Service, lines
from tests.support.subscriber import Subscriber, retained

EVENTS = [
    {"kind": "metadata", "org": "org-acme", "id": "sys-7", "metadata": {"capacity": 8, "name": "Boardroom 7"}},
    {
        "kind": "state", "org": "org-acme", "building": "bld-1", "level": "lvl-2", "area": None, "system": "sys-7",
        "driver": "dep-123", "module": "Display", "index": 1, "state": "power", "value": True, "time": 1700000000123,
    },
    {
        "kind": "state", "building": "bld-1", "system": "sys-7", "driver": "dep-123", "module": "Display", "index": 2,
        "state": "zone-1/areas", "value": {"a": 'é"/', "b": [1, 2.5, None]}, "time": 1700000000999,
    },
    {
        "kind": "state", "building": "bld-1", "system": "sys-7", "driver": "dep-123", "module": "M'Odule", "index": 1,
        "state": "gone", "value": 1, "time": 1700000001000,
    },
    {
        "kind": "cleared", "building": "bld-1", "system": "sys-7", "driver": "dep-123", "module": "M'Odule",
        "index": 1, "state": "gone", "time": 1700000002000,
    },
]  # fmt: skip

DOCUMENTED = {
    "placeos/org-acme/metadata/sys-7": b'{"name":"Boardroom 7","capacity":8}',
    "placeos/org-acme/state/bld-1/lvl-2/_/sys-7/dep-123/Display/1/power": b'{"time":1700000000123,"value":"true"}',
    "placeos/org-acme/state/bld-1/_/_/sys-7/dep-123/Display/2/zone-1%2Fareas": (
        '{"time":1700000000999,"value":"{\\"a\\":\\"é\\\\\\"/\\",\\"b\\":[1,2.5,null]}"}'.encode()
    ),
}

PLACEOS = {
    "placeos/org/metadata/sys-7": b'{"time":%d,"value":{"capacity":8,"name":"Boardroom 7"}}',
    "placeos/org-acme/state/_/bld-1/lvl-2/_/sys-7/dep-123/Display/1/power": b'{"time":1700000000,"value":true}',
    "placeos/org-acme/state/_/bld-1/_/_/sys-7/dep-123/Display/2/zone-1%2Fareas": (
        '{"time":1700000000,"value":{"a":"é\\"/","b":[1,2.5,null]}}'.encode()
    ),
}


@pytest.mark.parametrize("version", ["3.1", "3.1.1", "5"])
@pytest.mark.parametrize("profile", ["documented", "placeos"])
def test_standard_input_becomes_the_documented_bytes(tmp_path, profile, version):
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as live:
        service = Service(
            tmp_path,
            f"""
            [site]
            org = "org-acme"
            profile = "{profile}"
            [sources.in]
            type = "jsonl"
            path = "-"
            [connectors.local]
            type = "mqtt"
            url = "mqtt://127.0.0.1:{broker.port}"
            version = "{version}"
            """,
        )
        done = service.once(lines([json.dumps(event).encode() for event in EVENTS]))
        assert done.returncode == 0, done.stderr
        kept = retained(broker.port)
        topics = [message.topic for message in live.arrived]
    if profile == "documented":
        assert kept == DOCUMENTED
    else:
        metadata = kept.pop("placeos/org/metadata/sys-7")
        expected = dict(PLACEOS)
        form = expected.pop("placeos/org/metadata/sys-7")
        assert metadata == form % json.loads(metadata)["time"]
        assert kept == expected
    assert len(topics) == len(EVENTS)
    assert [message.payload for message in live.arrived][-1] == b"", "the cleared value was not cleared"
    assert {message.qos for message in live.arrived} == {1}


def test_retain_state_false_keeps_metadata_only(tmp_path):
    with Mosquitto(tmp_path) as broker:
        service = Service(
            tmp_path,
            f"""
            [site]
            org = "org-acme"
            retain_state = false
            [sources.in]
            type = "jsonl"
            path = "-"
            [connectors.local]
            type = "mqtt"
            url = "mqtt://127.0.0.1:{broker.port}"
            """,
        )
        assert service.once(lines([json.dumps(event).encode() for event in EVENTS])).returncode == 0
        assert list(retained(broker.port)) == ["placeos/org-acme/metadata/sys-7"]
