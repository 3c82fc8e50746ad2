"""The mqtt source: patterns on paper, and acknowledging on a real Mosquitto."""

import asyncio
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import mosquitto
from intake import RecordingIntake, running, until
from mosquitto import Mosquitto

from northbound import Cleared, EventRefused, Metadata, NorthboundError, NotConnected, State
from northbound import mqtt as m
from northbound_mqtt import MqttSource, SourceOptions
from northbound_mqtt.patterns import Map, Pattern

HIERARCHY = ("org", "building", "level", "area")
PLACEOS = "placeos/{org}/state/{building}/{level}/{area}/{system}/{driver}/{module}/{index}/{state}"


def events(spec, topic, payload):
    return Pattern(Map(**spec)).events(topic, payload, HIERARCHY)


def test_an_object_is_a_state_per_key():
    spec = {"topic": "zigbee2mqtt/{module}", "body": "object", "system": "z2m", "building": "b"}
    assert events(spec, "zigbee2mqtt/lamp", b'{"on":true,"level":3}') == [
        State(None, ("b", None, None), "z2m", "mqtt", "lamp", 1, "on", True),
        State(None, ("b", None, None), "z2m", "mqtt", "lamp", 1, "level", 3),
    ]
    assert events(spec, "zigbee2mqtt/bridge/state", b"{}") is None
    assert events(spec, "other/lamp", b"{}") is None
    with pytest.raises(EventRefused, match="not a JSON object"):
        events(spec, "zigbee2mqtt/lamp", b"[1]")
    with pytest.raises(EventRefused, match="not JSON"):
        events(spec, "zigbee2mqtt/lamp", b"{")


def test_an_empty_object_clears_what_was_seen():
    pattern = Pattern(Map(topic="z/{module}", body="object", system="s"))
    pattern.events("z/a", b'{"x":1}', HIERARCHY)
    pattern.events("z/a", b'{"y":1}', HIERARCHY)
    cleared = pattern.events("z/a", b"", HIERARCHY)
    assert [(type(event), event.state) for event in cleared] == [(Cleared, "x"), (Cleared, "y")]
    assert pattern.events("z/a", b"", HIERARCHY) == []


@pytest.mark.parametrize(
    ("payload", "value"),
    [(b"21.5", 21.5), (b"ON", "ON"), (b'"ON"', "ON"), (b"null", None), ("höher".encode(), "höher"), (b"{", "{")],
)
def test_a_whole_body_is_a_value(payload, value):
    spec = {"topic": "ha/{driver}/{module}/{state}", "system": "ha-{driver}"}
    (event,) = events(spec, "ha/sensor/kitchen/temp", payload)
    assert event == State(None, (None,) * 3, "ha-sensor", "sensor", "kitchen", 1, "temp", value)
    with pytest.raises(EventRefused, match="neither JSON nor UTF-8"):
        events(spec, "ha/a/b/c", b"\xff")
    assert isinstance(events(spec, "ha/a/b/c", b"")[0], Cleared)


@pytest.mark.parametrize(
    ("payload", "value", "time"),
    [
        (b'{"time":1700000000123,"value":"{\\"power\\":true}"}', {"power": True}, 1_700_000_000_123),
        (b'{"time":1700000000123,"value":"\\"on\\""}', "on", 1_700_000_000_123),
        (b'{"time":1700000000,"value":"true"}', "true", 1_700_000_000_000),
        (b'{"time":1700000000,"value":{"a":1}}', {"a": 1}, 1_700_000_000_000),
        (b'{"value":"not json"}', "not json", None),
    ],
)
def test_what_northbound_and_placeos_write(payload, value, time):
    topic = "placeos/org-1/state/bld/_/a%2Fb/sys/drv/Display/2/power"
    (event,) = events({"topic": PLACEOS, "body": "placeos"}, topic, payload)
    assert event == State("org-1", ("bld", None, "a/b"), "sys", "drv", "Display", 2, "power", value, time)


@pytest.mark.parametrize("payload", [b"1", b"{}", b"x", b'{"time":"now","value":1}', b'{"time":true,"value":1}'])
def test_what_they_do_not_write(payload):
    with pytest.raises(EventRefused):
        events({"topic": PLACEOS, "body": "placeos"}, "placeos/o/state/b/l/a/s/d/m/1/x", payload)


def test_metadata():
    spec = {"topic": "placeos/{org}/metadata/{id}", "body": "metadata"}
    assert events(spec, "placeos/o/metadata/sys-1", b'{"name":"A"}') == [Metadata("o", "sys-1", {"name": "A"})]
    given = b'{"time":1700000000,"value":{"name":"A"}}'
    assert events(spec, "placeos/o/metadata/x", given) == [Metadata("o", "x", {"name": "A"}, 1_700_000_000_000)]
    assert events(spec, "placeos/o/metadata/x", b"") == [Metadata("o", "x", None)]
    with pytest.raises(EventRefused):
        events(spec, "placeos/o/metadata/x", b"3")


def test_the_rest_of_a_topic():
    (event,) = events({"topic": "a/{module}/{state...}", "system": "s"}, "a/m/x/y", b"1")
    assert event.state == "x/y"
    assert Pattern(Map(topic="a/{module}/{state...}", system="s")).filter == "a/+/#"
    assert Pattern(Map(topic="+/{module}/#", system="s")).filter == "+/+/#"


def test_of_an_index_that_is_none_all_is_told_or_nothing():
    pattern = {"topic": "{module}/{index}", "system": "s"}
    with pytest.raises(EventRefused, match=r"^the index 'jane@example\.com' is not a number$"):
        events(pattern, "m/jane@example.com", b"1")
    with pytest.raises(EventRefused, match=r"^the index of 62 characters is not a number$"):
        events(pattern, f"m/{'x' * 30}@example.com{'y' * 20}", b"1")


def test_an_index_that_is_none():
    with pytest.raises(EventRefused, match="'one' is not a number"):
        events({"topic": "{module}/{index}", "system": "s"}, "m/one", b"1")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"topic": "a"}, "say the system"),
        ({"topic": "a", "system": "s"}, "say the module"),
        ({"topic": "a/{module", "system": "s"}, "whole level"),
        ({"topic": "a/x{module}", "system": "s"}, "whole level"),
        ({"topic": "{module...}/a", "system": "s"}, "stand last"),
        ({"topic": "#/{module}", "system": "s"}, "stand last"),
        ({"topic": "{module}/{module}", "system": "s"}, "twice"),
        ({"topic": "{module}", "system": "{other}"}, "{other} is not in the topic"),
        ({"topic": "{module}", "system": "s", "body": "object", "state": "x"}, "holds {key}"),
        ({"topic": "{module}", "body": "metadata"}, "say the id"),
        ({"topic": "{module}", "system": "s", "colour": "red"}, "colour"),
    ],
)
def test_maps_that_cannot_be(spec, words):
    with pytest.raises(ValidationError, match=words):
        Map(**spec)


broker_needed = pytest.mark.skipif(not mosquitto.available(), reason="no Mosquitto to test against")


def source(broker, **options):
    maps = [{"topic": "z/{module}", "body": "object", "system": "s"}, {"topic": "v/{module}/{state}", "system": "s"}]
    options = {"url": f"mqtt://127.0.0.1:{broker.port}", "map": maps, **options}
    return MqttSource(SourceOptions(**options), name="in")


async def publish(broker, *messages):
    client = m.Client(m.ClientOptions(host="127.0.0.1", port=broker.port, client_id="publisher"))
    await client.connect()
    await client.publish([m.Publish(topic, payload, 1) for topic, payload in messages])
    await client.disconnect()


async def subscribed(broker):
    await until(lambda: "northbound-in" in broker.log())
    await asyncio.sleep(0.1)


@broker_needed
@pytest.mark.parametrize("version", ["3.1.1", "5"])
async def test_what_is_not_committed_comes_again(tmp_path, version):
    with Mosquitto(tmp_path) as broker:
        intake = RecordingIntake(automatic=False)
        async with running(source(broker, version=version), intake):
            await subscribed(broker)
            await publish(broker, ("z/a", b'{"x":1}'))
            await until(lambda: len(intake.events) == 1)
            intake.commit()
            await asyncio.sleep(0.05)
            await publish(broker, ("z/a", b'{"x":2}'), ("v/b/on", b"true"))
            await until(lambda: len(intake.events) == 3)
        again = intake.killed()
        await publish(broker, ("v/b/on", b"false"))
        async with running(source(broker, version=version), again):
            await until(lambda: len(again.events) == 3)
        assert [(event.state, event.value) for event in again.events] == [("x", 2), ("on", True), ("on", False)]
        assert again.refusals == []


@broker_needed
async def test_the_malformed_is_counted_and_blocks_nothing(tmp_path):
    with Mosquitto(tmp_path) as broker:
        intake = RecordingIntake()
        async with running(source(broker), intake):
            await subscribed(broker)
            await publish(broker, ("z/a", b"x"), ("v/a/b", b"\xff"), ("v/a/b", b"1"))
            await until(lambda: len(intake.events) == 1)
            assert [where for where, _reason in intake.refusals] == ["z/a", "v/a/b"]
        again = RecordingIntake()
        async with running(source(broker), again):
            await asyncio.sleep(0.2)
        assert again.refusals == []


@broker_needed
@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize("qos", [0, 1])
async def test_reading_waits_for_the_disk(tmp_path, version, qos):
    with Mosquitto(tmp_path, config_lines=["max_queued_messages 0"]) as broker:
        intake = RecordingIntake(automatic=False)
        async with running(source(broker, version=version, qos=qos, max_unsettled=50), intake):
            await subscribed(broker)
            sending = asyncio.gather(
                *(publish(broker, *((f"v/m/{index}", b"%d" % index) for index in range(500))) for _ in range(1))
            )
            await asyncio.sleep(0.4)
            taken = len(intake.events)
            async with asyncio.timeout(10):
                while len(intake.events) < 500:
                    intake.commit()
                    await asyncio.sleep(0.01)
            await sending
            if qos:
                assert 50 <= taken < 500 or version == "3.1.1"
                assert [event.value for event in intake.events] == list(range(500))


@broker_needed
async def test_failures_are_said(tmp_path):
    with Mosquitto(tmp_path, acl=["topic read v/#"]) as broker:
        with pytest.raises(NorthboundError, match="the map of z/"):
            spec = {"topic": "z/{module}", "body": "object", "system": "s", "region": "r"}
            await source(broker, map=[spec]).run(RecordingIntake())
        task = asyncio.get_running_loop().create_task(source(broker).run(RecordingIntake()))
        await subscribed(broker)
        broker.kill()
        with pytest.raises(NotConnected):
            await asyncio.wait_for(task, 5)
        assert source(broker).origin == f"mqtt://127.0.0.1:{broker.port}"
