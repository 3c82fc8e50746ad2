"""What the pages about AWS IoT Core say is true: the policy is enough and no more, the rule undoes the topics."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from northbound import Outgoing, PartialDelivery
from northbound.cli.options import of_model
from northbound.config import ConnectorOptions as EveryConnector
from northbound.loading import load_file
from northbound.registry import Registry
from northbound.shaping import STATE_NAMES, Template
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.aws_iot import AwsIotTwin
from northbound.topics import TopicScheme
from northbound_aws_iot import AwsIotConnector, ConnectorOptions

ROOT = Path(__file__).parents[2]
HERE = ROOT / "plugins/northbound_aws_iot"
GUIDE = (ROOT / "docs/providers/aws-iot.md").read_text()
README = (HERE / "README.md").read_text()


def block(language: str) -> str:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)[0]


def test_the_sample_loads():
    (instance,) = load_file(HERE / "sample.toml", Registry()).connectors
    made = instance.create()
    assert isinstance(made, AwsIotConnector)
    assert made.limits.connections == 2


def test_the_ten_lines_load(tmp_path):
    (tmp_path / "northbound.toml").write_text(block("toml"))
    (instance,) = load_file(tmp_path / "northbound.toml", Registry()).connectors
    assert instance.create().destination == "mqtts://abc123-ats.iot.eu-west-1.amazonaws.com:8883"


def test_the_table_of_options_is_the_models():
    row = Registry().find("connector", "aws-iot")
    lines = []
    for option in of_model(row.model, without={*EveryConnector.model_fields, "type"}):
        default = f"`{option.default}`" if option.default and not option.required else ""
        lines.append(f"| `{option.key}` | {default} | {option.description} |")
    assert "\n".join(lines) in README


def out(topic: str, *, retain: bool = False) -> Outgoing:
    return Outgoing(topic, b"{}", "metadata" if retain else "state", 1, retain, topic, "store-1")


async def test_the_policy_is_enough_and_no_more(tmp_path):
    policy = json.loads(block("json"))
    authority = Authority(tmp_path)
    pair = authority.client("acme-hq")
    state = "placeos/org-acme/state/bld-1/lvl-2/_/sys-7/dep-123.Display.1.power"
    async with AwsIotTwin(authority, policy=policy) as twin:
        options = ConnectorOptions(
            endpoint=twin.endpoint, port=twin.port, ca=authority.ca, client_id="acme-hq", connections=2,
            certificate=pair.certificate, private_key=pair.private_key,
        )  # fmt: skip
        it = AwsIotConnector(options, name="aws")
        await it.open()
        await it.send([out(state), out("placeos/org-acme/metadata/sys-7", retain=True)])
        assert len(twin.messages) == 2
        with pytest.raises(PartialDelivery) as caught:
            await it.send([out("placeos/org-other/state/x"), out(state, retain=True), out("other")])
        assert len(caught.value.failures) == 3
        await it.close()


def test_the_rule_undoes_the_topic():
    sql = block("sql")
    scheme = TopicScheme()
    template = Template(AwsIotConnector.default_topic, (*STATE_NAMES, *scheme.hierarchy[1:]))
    values = {
        "root": "placeos", "org": "org-acme", "building": "bld-1", "level": "_", "area": "ar.ea",
        "system": "sys.7", "driver": "dep-1.2", "module": "Display", "index": "12", "state": "power.on",
    }  # fmt: skip
    topic = template.fill(values)
    levels = ["", *topic.split("/")]
    found = {}
    for expression, name in re.findall(r"^(?:SELECT)?\s+(\S.*?)\s+AS (\w+),", sql, re.MULTILINE):
        level = levels[int(re.search(r"topic\((\d)\)", expression)[1])]
        patterns = re.findall(r'"(.*?)"', expression)
        if expression.startswith("regexp_substr"):
            level = re.search(patterns[0], level)[0]
        elif expression.startswith("regexp_replace"):
            level = re.sub(patterns[0], patterns[1].replace("$1", r"\1"), level)
        found[name] = level.replace("%2E", ".")
    assert found == {"kind": "state", "number": "12"} | {
        name: values[name] for name in ("org", "building", "level", "area", "system", "driver", "module", "state")
    }
