"""``northbound compare`` against real brokers and a real store."""

from __future__ import annotations

import asyncio

import paho.mqtt.client as mqtt
import pytest
from tests.support.mosquitto import Mosquitto

from northbound import NotConnected
from northbound.mqtt import Client, ClientOptions, Publish

QUICK = ("--duration", "700ms", "--settle", "500ms")


def publish(port: int, retained: dict[str, bytes | str]) -> None:
    client = mqtt.Client("publisher", protocol=mqtt.MQTTv311)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for topic, payload in retained.items():
        client.publish(topic, payload, qos=1, retain=True).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


@pytest.fixture
def brokers(tmp_path):
    with Mosquitto(tmp_path / "a") as one, Mosquitto(tmp_path / "b") as other:
        yield one, other


def test_two_brokers(cli, brokers):
    one, other = brokers
    publish(one.port, {"p/a": '{"time":1,"value":1}', "p/b": '{"time":1,"value":1}', "p/c": "same", "q/x": "elsewhere"})
    publish(other.port, {"p/b": '{"time":2,"value":2}', "p/c": "same", "p/d": "new"})
    urls = f"mqtt://127.0.0.1:{one.port}", f"mqtt://127.0.0.1:{other.port}"
    told = cli("compare", *urls, "--filter", "p/#", *QUICK)
    assert told.status == 1
    assert told.rows == [["differing", "p/b"], ["extra", "p/d"], ["missing", "p/a"]]
    assert "1 the same, 1 missing, 1 extra, 1 differing" in told.err
    told = cli("compare", *urls, "--filter", "p/#", "--values", "--json", *QUICK)
    assert told.json["differences"][0] == {
        "difference": "differing", "topic": "p/b", "left": '{"time":1,"value":1}', "right": '{"time":2,"value":2}',
    }  # fmt: skip
    assert cli("compare", urls[0], urls[0], *QUICK).status == 0


def test_a_broker_and_the_store(cli, brokers, site):
    broker = brokers[0]
    assert cli("run", "--once").status == 0
    base = "placeos/org-acme/state/bld-1/_/_/sys-7/dep-1/Display/1"
    publish(broker.port, {f"{base}/power": '{"time":5,"value":"false"}', f"{base}/gone": '{"time":1,"value":null}'})
    told = cli("compare", f"mqtt://127.0.0.1:{broker.port}", "northbound.toml", *QUICK)
    assert told.rows == [["extra", f"{base}/input"]]
    assert "1 the same" in told.err
    assert "1 null here" in told.err
    assert "of its own" not in told.err
    (site / "northbound.toml").write_text((site / "northbound.toml").read_text() + 'topic = "other/{state}"\n')
    told = cli("compare", f"mqtt://127.0.0.1:{broker.port}", "northbound.toml", "--strict", *QUICK)
    assert ["missing", f"{base}/gone"] in told.rows
    assert "connector 'out' has topics or privacy rules of its own" in told.err


def test_a_broker_that_drops_what_a_slow_reader_does_not_take(cli, tmp_path, monkeypatch):
    """Mosquitto keeps a thousand messages for a connection, and says nothing of the others."""
    subscribe = Client.subscribe

    async def slow(client, filters, qos=1):
        if filters == ["#"]:  # nothing is read while the broker answers with what it retains
            client.pause()
            asyncio.get_running_loop().call_later(0.3, client.resume)
        return await subscribe(client, filters, qos)

    async def fill(port: int) -> None:
        client = Client(ClientOptions(host="127.0.0.1", port=port))
        await client.connect()
        await client.publish([Publish(f"t/{n}", b"x" * 4000, qos=1, retain=True) for n in range(4000)])
        await client.disconnect()

    with (
        Mosquitto(tmp_path / "a") as one,
        Mosquitto(tmp_path / "b", config_lines=("max_queued_messages 0",)) as other,
    ):
        for broker in (one, other):
            asyncio.run(fill(broker.port))
        urls = f"mqtt://127.0.0.1:{one.port}", f"mqtt://127.0.0.1:{other.port}"
        monkeypatch.setattr(Client, "subscribe", slow)
        told = cli("compare", *urls, "--limit", 1, *QUICK)
    assert "4,000 the same" in told.err
    assert (told.status, told.rows) == (0, [])


def test_a_broker_that_takes_no_filter_for_each_topic(cli, brokers, monkeypatch):
    subscribe = Client.subscribe

    async def only_all(client, filters, qos=1):
        if filters != ["#"]:
            raise NotConnected("too many filters")
        return await subscribe(client, filters, qos)

    publish(brokers[0].port, {"p/a": "1"})
    monkeypatch.setattr(Client, "subscribe", only_all)
    told = cli("compare", *(f"mqtt://127.0.0.1:{broker.port}" for broker in brokers), *QUICK)
    assert (told.status, told.rows) == (1, [["missing", "p/a"]])
    assert "may only have been dropped: too many filters" in told.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("mqtt://a", "mqtt://b", "--filter", "a/#/b"), "--filter"),
        (("http://a", "mqtt://b"), "LEFT"),
        (("mqtt://a", "mqtt://b", "--left-password-env", "NOT_SET_AT_ALL"), "NOT_SET_AT_ALL"),
        (("northbound.toml", "mqtt://b", "--left-username", "x"), "--left"),
    ],
)
def test_wrong_usage(cli, site, arguments, words):
    told = cli("compare", *arguments)
    assert told.status == 2
    assert words in told.err


def test_a_broker_that_is_not_there_and_a_store_that_is_not(cli, site, brokers):
    told = cli("compare", "mqtt://127.0.0.1:1", f"mqtt://127.0.0.1:{brokers[0].port}", *QUICK)
    assert (told.status, told.out) == (1, "")
    assert "defect" not in told.err
    told = cli("compare", f"mqtt://127.0.0.1:{brokers[0].port}", "northbound.toml", *QUICK)
    assert told.status == 1
    assert "does not exist" in told.err
