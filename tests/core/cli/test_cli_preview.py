"""``northbound preview`` and the pure part behind it."""

from __future__ import annotations

import io
import json
import sys

import pytest

from northbound.cli import preview as command
from northbound.engine import Engine
from northbound.loading import load_text
from northbound.preview import Preview, sample_events
from northbound.registry import Registry
from northbound.topics import TopicScheme

CONFIGURATION = """
[site]
org = "org-acme"
[sources.in]
type = "jsonl"
path = "-"
[connectors.all]
type = "file"
path = "a"
[connectors.states]
type = "file"
path = "b"
topics = ["placeos/+/state/#"]
topic = "x/{system}/{driver}.{module}.{index}.{state}"
retain = false
limits.max_payload_bytes = 45
"""
STATE = '{"kind":"state","system":"s","driver":"d","module":"M.1","index":1,"state":"power","value":true,"time":5}'


def looking(text: str = CONFIGURATION) -> Preview:
    return Preview(load_text(text, Registry()))


@pytest.mark.parametrize("hierarchy", [("org",), ("org", "building"), ("org", "region", "building", "level", "area")])
def test_samples_are_events_of_the_site(hierarchy):
    engine = Engine(TopicScheme(hierarchy=hierarchy))
    events = sample_events(hierarchy, None)
    processed = engine.process(events, 0)
    assert len(events) == 5
    assert not processed.refused


def test_each_connector_says_what_it_would_do():
    preview = looking()
    first, second, _, metadata, cleared = [
        preview.event(event, 1000) for event in sample_events(preview.engine.scheme.hierarchy, preview.engine.org)
    ]
    assert [passage.outcome for passage in first.passages] == ["sent", "sent"]
    same, rewritten = (passage.outgoing for passage in first.passages)
    assert same.topic == first.message.topic
    assert same.retain
    assert rewritten.topic == "x/sys-boardroom/dep-display.Display.1.power"
    assert not rewritten.retain
    assert [passage.outcome for passage in second.passages] == ["sent", "rejected"]
    assert second.passages[1].reason.endswith("bytes: the destination takes 45")
    assert [passage.outcome for passage in metadata.passages] == ["sent", "filtered"]
    assert metadata.passages[1].reason == "outside its topics: placeos/+/state/#"
    assert cleared.passages[0].outgoing.payload == b""


def test_what_the_engine_refuses_goes_nowhere():
    preview = looking(CONFIGURATION.replace('org = "org-acme"', ""))
    seen = preview.event(sample_events(("org",), None)[0], 0)
    assert seen.refused
    assert seen.message is None
    assert seen.passages == ()


def test_samples_are_labelled(cli, site):
    told = cli("preview", "--json")
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert told.status == 0
    assert [line["event"] for line in lines] == [f"sample {number}" for number in range(1, 6)]
    assert all(line["sample"] for line in lines)
    assert lines[0]["connectors"][0]["outcome"] == "sent"
    assert not (site / "sent.jsonl").exists()
    assert not (site / "northbound.db").exists()


def test_input_from_a_file_names_its_lines(cli, site):
    (site / "northbound.toml").write_text(CONFIGURATION)
    (site / "mine.jsonl").write_text(f'{STATE}\n\nnonsense\n{{"kind":"metadata","id":"a\\tb","metadata":{{}}}}\n')
    told = cli("preview", "--input", "mine.jsonl")
    assert told.status == 0
    assert [row[:3] for row in told.rows] == [
        ["line 1", "all", "sent"],
        ["line 1", "states", "sent"],
        ["line 3", "-", "refused"],
        ["line 4", "all", "sent"],
        ["line 4", "states", "filtered"],
    ]
    assert told.rows[1][3:] == ["x/s/d.M%2E1.1.power", "not retained", "", '{"time":5,"value":"true"}']
    assert told.rows[3][3] == "placeos/org-acme/metadata/a%09b"


def test_input_from_standard_input(cli, site, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(STATE.encode())))
    told = cli("preview", "--input", "-", "--json")
    assert told.json["topic"].endswith("/s/d/M.1/1/power")
    assert told.json["sample"] is False


CONFINED = """
[privacy]
default = false
[[privacy.rules]]
name = "not outside"
detect = ["email"]
action = "{action}"
connectors = ["all", "states"]
{more}
"""


@pytest.mark.parametrize(
    ("action", "more"),
    [
        ("hash", 'secret = "s"'),
        ("mask", 'kinds = ["state"]'),
        ("drop", ""),
    ],
)
def test_a_topic_that_the_rules_of_a_connector_change_is_shown_with_the_originals_only(cli, site, action, more):
    text = CONFIGURATION.replace('"placeos/+/state/#"', '"placeos/+/metadata/#"')
    (site / "northbound.toml").write_text(text + CONFINED.format(action=action, more=more))
    (site / "mine.jsonl").write_text(STATE.replace('"power"', '"jane@example.com"'))
    told = cli("preview", "--input", "mine.jsonl", "--json")
    assert "jane@" not in told.out
    assert "topic" not in told.json
    assert {row["outcome"] for row in told.json["connectors"]} <= {"sent", "filtered", "withheld"}
    assert cli("preview", "--input", "mine.jsonl", "--json", "--originals").json["topic"].endswith("/jane@example.com")
    (site / "mine.jsonl").write_text(STATE)
    assert cli("preview", "--input", "mine.jsonl", "--json").json["topic"].endswith("/power")


def test_an_endless_line_is_refused_and_the_next_one_read(cli, site, monkeypatch):
    monkeypatch.setattr(command, "_LONGEST_LINE", 200)
    (site / "mine.jsonl").write_text(f"{'x' * 1000}\n{STATE}\n{'y' * 300}")
    told = cli("preview", "--input", "mine.jsonl")
    assert [(row[0], row[2]) for row in told.rows] == [("line 1", "refused"), ("line 2", "sent"), ("line 3", "refused")]


def test_a_broken_configuration(cli, site):
    (site / "northbound.toml").write_text("")
    told = cli("preview")
    assert told.status == 1
    assert not told.out
    assert told.err.endswith("northbound: 2 problems in the configuration\n")
