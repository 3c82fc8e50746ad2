"""``northbound schema``, tried with a validator of the keywords it uses."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pydantic
import pytest

import northbound
from northbound.cli.schema import document
from northbound.registry import Registry

KNOWN = {
    "$ref", "$schema", "$defs", "title", "description", "default", "examples", "format", "type", "properties",
    "required", "additionalProperties", "propertyNames", "minProperties", "anyOf", "const", "enum", "pattern", "items",
    "prefixItems", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems",
    "maxItems", "uniqueItems", "writeOnly",
}  # fmt: skip
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}


def fits(value: Any, schema: Any, root: dict[str, Any]) -> bool:
    """Whether ``value`` is what ``schema`` says."""
    if isinstance(schema, bool):
        return schema
    assert set(schema) <= KNOWN, set(schema) - KNOWN
    if "$ref" in schema and not fits(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root):
        return False
    kind = schema.get("type")
    if kind and (not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return False
    if "anyOf" in schema and not any(fits(value, member, root) for member in schema["anyOf"]):
        return False
    if value != schema.get("const", value) or ("enum" in schema and value not in schema["enum"]):
        return False
    if isinstance(value, str):
        return not ("pattern" in schema and not re.search(schema["pattern"], value)) and len(value) >= schema.get(
            "minLength", 0
        )
    if isinstance(value, list):
        return all(fits(item, schema.get("items", True), root) for item in value)
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        return (
            set(schema.get("required", ())) <= set(value)
            and len(value) >= schema.get("minProperties", 0)
            and all(
                fits(item, properties.get(k, schema.get("additionalProperties", True)), root)
                for k, item in value.items()
            )
            and all(fits(k, schema.get("propertyNames", True), root) for k in value)
        )
    return schema.get("minimum", value) <= value <= schema.get("maximum", value)


SMALL = """
[site]
org = "org-acme"
[sources.in]
type = "jsonl"
path = "events.jsonl"
[connectors.out]
type = "mqtt"
url = "mqtt://127.0.0.1:1883"
"""


@pytest.fixture(scope="module")
def schema():
    return document(Registry())


def valid(text: str, schema: dict[str, Any]) -> bool:
    return fits(tomllib.loads(text), schema, schema)


def test_the_smallest_file_is_valid(schema):
    assert valid(SMALL, schema)


@pytest.mark.parametrize(
    "more",
    [
        'client_id = "${NAME:hall}"\nqos = "${QOS}"',
        'keep_alive = "1m30s"\n[connectors.out.backlog]\nmaximum_bytes = "2 GiB"\nwhen_full = "${FULL}"',
        "keep_alive = 30\nenabled = false\n[connectors.out.retry]\nattempts = 5",
        'topics = ["a/#"]\n[service]\ndrain = "${DRAIN:5s}"',
    ],
)
def test_what_the_loader_takes_is_valid(schema, more):
    assert valid(SMALL + more, schema)


DETECTORS = """
[privacy.detectors.badge]
type = "regex"
pattern = "B[0-9]+"
[[privacy.rules]]
name = "badges"
detect = ["badge"]
action = "hash"
"""


def test_detectors_are_described_by_their_type(schema):
    assert valid(SMALL + DETECTORS, schema)
    assert not valid(SMALL + DETECTORS.replace("pattern", "patern"), schema)
    assert not valid(SMALL + DETECTORS.replace('"regex"', '"regexp"'), schema)
    assert "detectors" not in schema["properties"]


@pytest.mark.parametrize(
    "more",
    [
        "colour = 1",
        'qos = "often"',
        'keep_alive = "soon"',
        "[connectors.out.backlog]\nwhen_full = 'never'",
        "[connectors.in]\ntype = 'jsonl'\npath = '-'",
        "[connectors.none]\nurl = 'x'",
        "[connectors.'a b']\ntype = 'file'\npath = 'x'",
        "[connectors.file]\ntype = 'file'",
        "[stroe]",
    ],
)
def test_what_the_loader_refuses_is_not(schema, more):
    assert not valid(SMALL + more, schema)


def test_a_file_without_connectors_is_not(schema):
    assert not valid(SMALL.partition("[connectors")[0], schema)


@pytest.mark.parametrize("path", sorted(Path("plugins").glob("*/sample.toml")), ids=str)
def test_the_plugins_samples_are_valid(schema, path):
    assert valid(path.read_text(), schema)


def test_editors_have_something_to_show(schema):
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    mqtt = schema["$defs"]["MqttConnector"]
    assert mqtt["title"] == "connector mqtt"
    assert all("description" in field or "$ref" in field for field in mqtt["properties"].values())
    assert mqtt["properties"]["type"]["const"] == "mqtt"
    assert schema["$defs"]["RetryPolicy"]["properties"]["maximum"]["default"] == "1m"
    assert "'null'}" not in str(schema), "TOML has no null"


class Opaque:
    pass


class OpaqueOptions(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    thing: Opaque | None = None


class OpaqueConnector(northbound.Connector):
    """Has a model that no schema describes."""

    Config = OpaqueOptions


@northbound.hookimpl
def northbound_connectors():
    return {"opaque": OpaqueConnector}


def test_a_plugin_without_a_schema_takes_nothing_from_the_others():
    points = [EntryPoint("opaque", __name__, "northbound"), EntryPoint("jsonl", "northbound_jsonl", "northbound"),
              EntryPoint("file", "northbound_file", "northbound")]  # fmt: skip
    schema = document(Registry(points))
    head = SMALL.partition("[connectors")[0]
    assert valid(f'{head}[connectors.x]\ntype = "opaque"\nthing = 1', schema)
    assert valid(f'{head}[connectors.x]\ntype = "file"\npath = "x"', schema)
    assert not valid(f'{head}[connectors.x]\ntype = "other"', schema)


def test_the_command_prints_it(cli, schema):
    assert cli("schema").json == schema
