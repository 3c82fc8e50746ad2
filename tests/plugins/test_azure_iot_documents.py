"""The pages about azure-iot: configurations load, tables are the model's, the snippet reads what is sent."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.contracts.test_documents import SECRET, completed, samples

from northbound.cli.options import of_model
from northbound.config import ConnectorOptions as CommonOptions
from northbound.loading import load_text
from northbound.message import Address, Message
from northbound.registry import Registry
from northbound.shaping import Shaper
from northbound.testing.twins import azure_rules
from northbound.topics import TopicScheme
from northbound_azure_iot import AzureIotConnector
from northbound_azure_iot.packing import pack_each, pack_many

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/providers/azure-iot-hub.md").read_text()
README = (ROOT / "plugins/northbound_azure_iot/README.md").read_text()
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
ENVIRONMENT = {
    "AZURE_CONNECTION_STRING": f"HostName=acme.azure-devices.net;DeviceId=hq;SharedAccessKey={KEY}",
    "AZURE_MODULE_CONNECTION_STRING": f"HostName=a.azure-devices.net;DeviceId=e;ModuleId=m;SharedAccessKey={KEY}",
    "AZURE_GROUP_KEY": KEY,
    "PROXY_PASSWORD": "x",
    "NORTHBOUND_PRIVACY_SECRET": SECRET,
}
SCHEME = TopicScheme()


@pytest.mark.parametrize("path", ["docs/providers/azure-iot-hub.md", "plugins/northbound_azure_iot/README.md"])
def test_configurations_load(path, tmp_path):
    found = samples(path)
    assert found
    for text, _ in found:
        configuration = load_text(completed(text), Registry(), base=tmp_path, environment=ENVIRONMENT)
        assert any(connector.plugin.type_name == "azure-iot" for connector in configuration.connectors)


def test_the_table_of_options_is_the_models():
    row = next(row for row in Registry().rows if row.type_name == "azure-iot")
    options = of_model(row.model, without={*CommonOptions.model_fields, "type"})
    wanted = [
        (option.key, f"`{option.default}`" if option.default else "", option.description)
        for option in options
        if not option.key.startswith("identities.")
    ]
    assert re.findall(r"^\| `(\w+)` \| ?(.*?) \| (.*) \|$", README, re.MULTILINE) == wanted


def shaped(address, payload, time, sequence):
    topic = SCHEME.state_topic(*(getattr(address, name) for name in Address.__struct_fields__))
    shape = Shaper.of(AzureIotConnector, CommonOptions(), SCHEME, AzureIotConnector.limits, "f36060d0-").shape
    return shape(Message(topic, payload, "state", time, True), sequence)


ADDRESSES = [
    Address("org-acme", ("bld-1", "lvl-2", None), "sys-7", "dep-123", "Display", 1, "power"),
    Address("org-acme", ("bld-1", None, None), "sys-7", "dep-123", "Sensor", 2, "température/max"),
]


def as_event_hubs_give_them(properties):
    return {name.encode(): value.encode() for name, value in properties.items() if not name.startswith("$.")}


def test_the_snippet_reads_what_is_sent():
    (snippet,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    names: dict = {}
    exec(snippet, names)
    payload = b'{"time":1700000000123,"value":"true"}'
    batch = [shaped(address, payload, 1_700_000_000_123, 1) for address in ADDRESSES]
    batch.append(shaped(ADDRESSES[0], b"", 1_700_000_000_124, 2))
    for packed in (pack_each(batch, range(3)), pack_many(batch, range(3), 4096)):
        found = []
        for packet in packed:
            properties = azure_rules.decode_bag(packet.bag)
            found += names["messages"](as_event_hubs_give_them(properties), packet.body)
        assert found == [(m.topic, json.loads(m.payload) if m.payload else "") for m in batch]
    assert names["messages"]({b"kind": b"trial"}, b"{}") == []


def test_the_batch_in_the_guide_is_what_is_sent():
    (shown,) = re.findall(r"```json\n(.*?)\n```", GUIDE, re.DOTALL)
    message = shaped(ADDRESSES[0], b'{"time":1700000000123,"value":"true"}', 1_700_000_000_123, 1)
    (packet,) = pack_many([message], [0], 4096)
    assert packet.body.decode() == shown
    full, *_ = pack_many([message] * 30, range(30), 4096)
    assert 15 <= len(full.indices) <= 20
    (alone,) = pack_each([message], [0])
    assert 250 <= alone.size - len(message.payload) <= 350  # "about 300 bytes"
