"""Whether the demo's comparison with what its twins took can fail."""

import json

import pytest

from northbound.cli.clouds import Clouds
from northbound.cli.proof import FileContent
from northbound.config import SiteOptions
from northbound.registry import Registry

TOPIC = "placeos/o/state/b.1/l/_/s-7/d/M/1/a.b"
FOLDED = "placeos/o/state/b.1/l/_/s-7/d.M.1.a%2Eb"
CONTENT = FileContent(2, 2, {TOPIC: b"2", "placeos/o/metadata/s-7": b"{}"})


def took(folder, kind, *rows):
    text = "".join(json.dumps({"topic": t, "properties": p, "payload": v}) + "\n" for t, p, v in rows)
    (folder / f"{kind}.jsonl").write_text(text)


@pytest.fixture
def clouds(tmp_path):
    made = Clouds(Registry(), tmp_path)
    assert made.missing == []
    return made


def compared(clouds, kind, acknowledged, content=CONTENT):
    name = {"aws-iot": "aws", "azure-iot": "azure", "gcp-pubsub": "google"}[kind]
    clouds._options = {kind: {}}
    (check,) = clouds.compare(SiteOptions(), {name: acknowledged}, content)
    return check.ok, check.words


AWS = ((FOLDED, {"id": "s-1"}, "1"), ("placeos/o/metadata/s-7", {"id": "s-2"}, "{}"), (FOLDED, {"id": "s-3"}, "2"))


def test_folded_topics_are_undone(clouds, tmp_path):
    took(tmp_path, "aws-iot", *AWS)
    assert compared(clouds, "aws-iot", 3)[0]


@pytest.mark.parametrize(
    ("rows", "acknowledged", "words"),
    [
        (AWS[:2], 3, "took 2 different messages: 3 were acknowledged"),
        ((*AWS, AWS[0]), 4, "took 3 different messages: 4 were acknowledged"),
        ((*AWS[:2], ("a/b", {"id": "s-3"}, "2")), 3, "1 have a topic that cannot be undone"),
        ((AWS[2], AWS[1], AWS[0]), 3, "1 topics end with another value than in the file"),
        ((AWS[0], AWS[2]), 2, "1 topics end with another value than in the file"),
    ],
)
def test_what_is_wrong_is_told(clouds, tmp_path, rows, acknowledged, words):
    took(tmp_path, "aws-iot", *rows)
    ok, told = compared(clouds, "aws-iot", acknowledged)
    assert not ok
    assert words in told


def test_topics_in_properties_are_taken_as_they_are(clouds, tmp_path):
    took(tmp_path, "gcp-pubsub", ("", {"key": "s-1", "topic": TOPIC}, "2"))
    assert compared(clouds, "gcp-pubsub", 1, FileContent(1, 1, {TOPIC: b"2"}))[0]
    took(tmp_path, "azure-iot", ("devices/x", {"$.mid": "s-1", "topic": TOPIC}, "3"))
    assert not compared(clouds, "azure-iot", 1, FileContent(1, 1, {TOPIC: b"2"}))[0]
    assert compared(clouds, "azure-iot", 1, None)[0]
