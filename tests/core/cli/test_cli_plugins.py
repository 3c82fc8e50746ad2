"""``northbound connectors`` and ``northbound sources``, and how options are told."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from enum import Enum
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, Literal

import pydantic
import pytest

import northbound
from northbound.cli import plugins
from northbound.cli.options import Option, of_model, required_sample, type_words, written
from northbound.registry import Registry


def test_all_types_are_listed(cli):
    told = cli("connectors")
    assert told.status == 0
    assert {("file", "northbound", "0.1.0", "ok"), ("mqtt", "northbound", "0.1.0", "ok")} <= {
        tuple(row[:4]) for row in told.rows
    }
    assert {row["type"] for row in cli("sources", "--json").json} >= {"jsonl", "simulator", "mqtt"}


def test_a_plugin_that_does_not_load_is_a_row_with_the_reason(cli, monkeypatch):
    broken = EntryPoint("acme", "northbound_of_nobody", "northbound")
    missing = EntryPoint("wires", "xml.etree.nothing_here", "northbound")
    monkeypatch.setattr(plugins, "Registry", lambda: Registry([broken, missing]))
    for command in ("connectors", "sources"):
        told = cli(command)
        assert told.status == 0
        [row] = [row for row in told.rows if row[0] == "acme"]
        assert row[3] == "does not load"
        assert "No module named" in row[4]
    told = cli("connectors", "acme")
    assert told.status == 1
    assert told.err.startswith("northbound: acme does not load: No module named")
    told = cli("connectors", "acme", "--json")
    assert told.status == 1
    assert told.json["error"]


@pytest.mark.parametrize("kind", ["connectors", "sources"])
def test_each_type_is_described_with_a_sample_that_is_toml(cli, kind):
    for summary in cli(kind, "--json").json:
        told = cli(kind, summary["type"], "--json")
        assert told.status == 0, told.err
        found = told.json
        tables = tomllib.loads(found["sample"])[kind]
        assert summary["type"] in {table["type"] for table in tables.values()}
        assert bool(found["limits"]) == (kind == "connectors")
        assert all(option["description"] for option in found["options"]), summary["type"]
        own = {option["key"] for option in found["options"]}
        assert "enabled" not in own
        assert "enabled" in {option["key"] for option in found["common_options"]}
        text = cli(kind, summary["type"]).out
        assert all(f"\n{key}\t" in text for key in own)


def test_a_name_that_is_not_installed(cli):
    told = cli("connectors", "mqqt")
    assert told.status == 1
    assert told.err == "northbound: no connector type 'mqqt' is installed: did you mean 'mqtt'?\n"
    assert "jsonl" in cli("sources", "zzz").err


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Inner(pydantic.BaseModel):
    wait: northbound.Duration = pydantic.Field(timedelta(seconds=90), description="How long.")


class Options(pydantic.BaseModel):
    url: str = pydantic.Field(description="Where.")
    key: pydantic.SecretStr | None = pydantic.Field(None, description="A key.")
    token: pydantic.SecretStr = pydantic.SecretStr("geheim")
    kind: Literal["a", "b"] = "a"
    colour: Colour = Colour.BLUE
    sizes: tuple[pydantic.ByteSize, ...] = (pydantic.ByteSize(2048),)
    either: Annotated[int | Literal["-"], pydantic.Field(description="One of two.")] = 3
    on: bool = False
    table: dict[str, int] = pydantic.Field(default_factory=dict)
    at: Path = Path("/x")
    inner: Inner = Inner()


def test_options_are_told_as_one_writes_them():
    assert of_model(Options, without=("at",)) == [
        Option("url", "text", "", required=True, description="Where."),
        Option("key", "secret", "", required=False, description="A key."),
        Option("token", "secret", '"***"', required=False, description=""),
        Option("kind", '"a" or "b"', '"a"', required=False, description=""),
        Option("colour", '"red" or "blue"', '"blue"', required=False, description=""),
        Option("sizes", "list of size", '["2 KiB"]', required=False, description=""),
        Option("either", 'whole number or "-"', "3", required=False, description="One of two."),
        Option("on", "true or false", "false", required=False, description=""),
        Option("table", "table", "{}", required=False, description=""),
        Option("inner.wait", "duration", '"90s"', required=False, description="How long."),
    ]


def test_what_must_be_set_is_in_a_made_sample():
    assert required_sample(of_model(Options)) == ['url = "…"']


def test_types_and_values_nobody_foresaw():
    assert type_words(bytes) == "bytes"
    assert type_words(list[str | None]) == "list of text"
    assert written({"a": 1}) == "{'a': 1}"
    assert written(pydantic.ByteSize(1500)) == '"1500"'


def test_detectors_are_listed_and_described_with_a_sample_that_loads(cli):
    rows = cli("privacy", "detectors", "--json").json
    assert {"email", "phone", "regex"} <= {row["type"] for row in rows}
    for row in rows:
        found = cli("privacy", "detectors", row["type"], "--json").json
        tables = tomllib.loads(found["sample"])["privacy"]["detectors"]
        assert row["type"] in {table["type"] for table in tables.values()}
        assert all(option["description"] for option in found["options"]), row["type"]
        assert found["limits"] == {}
    assert "did you mean 'email'?" in cli("privacy", "detectors", "emial").err


def test_a_connectors_presets_are_shown(cli):
    told = cli("connectors", "mqtt")
    shown = dict(row for row in told.rows if len(row) == 2)
    known = cli("connectors", "mqtt", "--json").json["presets"]
    assert "hivemq-cloud" in known
    assert known.items() <= shown.items()
    assert cli("connectors", "file", "--json").json["presets"] == {}


def test_check_says_that_a_presets_service_is_no_more(cli, site, monkeypatch):
    monkeypatch.setenv("CLOUDMQTT_URL", "mqtts://u:geheim@m10.cloudmqtt.com:12345")
    text = '[site]\norg = "o"\n[sources.in]\ntype = "jsonl"\npath = "-"\n[connectors.old]\ntype = "mqtt"\n'
    (site / "northbound.toml").write_text(text + 'preset = "heroku-cloudmqtt"\n')
    told = cli("check")
    assert told.status == 0
    assert (
        "connectors.old.preset: CloudMQTT ended on 2025-01-27, and Heroku's add-on with it (move to a broker"
        in told.out
    )
    assert "geheim" not in told.out
    monkeypatch.delenv("CLOUDMQTT_URL")
    told = cli("check")
    assert told.status == 1
    assert "the environment variable CLOUDMQTT_URL is not set" in told.out
