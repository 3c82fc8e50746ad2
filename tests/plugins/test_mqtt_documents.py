"""What the page about brokers shows is tried: configurations, the table of presets, topics, Mosquitto's ACL."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.support.mosquitto import Mosquitto
from tests.support.service import until
from tests.support.subscriber import Subscriber

from northbound.config import ConnectorOptions as CommonOptions
from northbound.loading import load_text
from northbound.message import Message
from northbound.registry import Registry
from northbound.shaping import Shaper
from northbound.topics import TopicScheme
from northbound_mqtt import ConnectorOptions, MqttConnector
from northbound_mqtt.presets import PRESETS, summary

PLUGIN = Path(__file__).parents[2] / "plugins" / "northbound_mqtt"
PAGE = (Path(__file__).parents[2] / "docs/providers/mqtt-brokers.md").read_text()
REGISTRY = Registry()
AROUND = '[site]\norg = "org-acme"\n[sources.in]\ntype = "jsonl"\npath = "-"\n'
ENVIRONMENT = dict.fromkeys(set(re.findall(r"\$\{([A-Z_]+)\}", PAGE)), "a secret")
LOGIN = {"username": "u", "password": "p", "client_id": "c"}


def shaped(preset, topic):
    url = "x.example" if PRESETS[preset].schemes[0] == "mqtts" else "localhost"
    connector = MqttConnector(ConnectorOptions(preset=preset, url=url, **LOGIN), name="x")
    shaper = Shaper.of(connector, CommonOptions(), TopicScheme(), connector.limits)
    return shaper.shape(Message(topic, b"1", "state", 1, True), 1).topic


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL))
def test_every_configuration_loads_and_is_of_a_section_that_says_so(text, tmp_path, monkeypatch):
    monkeypatch.setenv("CLOUDMQTT_URL", "mqtt://u:p@host:1883")
    (instance,) = load_text(AROUND + text, REGISTRY, base=tmp_path, environment=ENVIRONMENT).connectors
    retired = instance.options.known.retired
    assert [key for key, *_ in instance.create().warnings() if key == "url"] == (["url"] if retired else [])


def test_every_preset_has_a_section_with_a_configuration():
    for name in PRESETS:
        assert name == "cloudmqtt" or f'preset = "{name}"' in PAGE


def test_the_table_of_presets_is_that_of_the_data():
    table = "\n".join(f"| `{name}` | {summary(preset)} |" for name, preset in PRESETS.items())
    assert f"| preset | sets |\n| --- | --- |\n{table}\n" in PAGE


def test_topics_look_as_shown():
    rows = re.findall(r"^\| `(placeos.*?)` \| `(.*?)` \| `(.*?)` \|$", PAGE, re.MULTILINE)
    assert len(rows) >= 5
    for topic, preset, becomes in rows:
        assert shaped(preset, topic) == becomes


def test_the_template_for_eight_levels_fits():
    (template,) = re.findall(r'`topic = "(.*?)"`', PAGE)
    text = re.findall(r"```toml\n(\[connectors\.grid\].*?)```", PAGE, re.DOTALL)[0]
    more = f'topic = "{template}"\n[connectors.grid.preset_limits]\nmax_topic_levels = 8\n'
    load_text(AROUND + text + more, REGISTRY, environment=ENVIRONMENT)


def test_the_links_within_the_page_lead_somewhere():
    anchors = {title.lower().replace(",", "").replace("'", "").replace(" ", "-")
               for title in re.findall(r"^## (.*)$", PAGE, re.MULTILINE)}  # fmt: skip
    assert set(re.findall(r"\]\(#(.*?)\)", PAGE)) <= anchors


async def test_mosquittos_acl_is_all_that_is_needed(tmp_path):
    acl = re.findall(r"```\n(user acme\n.*?)```", PAGE, re.DOTALL)[0].splitlines()
    users = {"acme": "p", "reader": "p"}
    with (
        Mosquitto(tmp_path, users=users, acl=[*acl, "user reader", "topic read #"]) as broker,
        Subscriber(broker.port, username="reader", password="p") as seen,
    ):
        options = ConnectorOptions(
            preset="mosquitto",
            url=f"127.0.0.1:{broker.port}",
            username="acme",
            password="p",
            availability_topic="placeos/org-acme/northbound",
        )
        connector = MqttConnector(options, name="x")
        await connector.open()
        try:
            topic = "placeos/org-acme/state/bld-1/_/_/sys-7/dep-1/Display/1/power"
            shaper = Shaper.of(connector, CommonOptions(), TopicScheme(), connector.limits)
            await connector.send([shaper.shape(Message(topic, b"1", "state", 1, True), 1)])
        finally:
            await connector.close()
        until(lambda: len(seen.arrived) == 3, what="not all arrived")
        assert {message.topic for message in seen.arrived} == {"placeos/org-acme/northbound", topic}
