"""The corpus is what its generator writes, its labels are sound, and the detectors measure up to it."""

import json

import pytest
from tests.corpus import make
from tests.support import corpus

from northbound import EventDecoder
from northbound.engine import Engine
from northbound.topics import TopicScheme

LABELLED, NEAR = 120, 80
LABELLED_OF_THOSE = 250


@pytest.fixture(scope="module")
def evaluator():
    return corpus.Evaluator()


def test_the_files_are_what_the_generator_writes():
    for name, text in make.files().items():
        assert (corpus.FOLDER / name).read_text(encoding="utf-8") == text, name


def test_no_file_is_left_over():
    assert {path.stem for path in corpus.FOLDER.glob("*.jsonl")} == set(corpus.DETECTORS)


def test_there_are_enough_items():
    assert sum(len(corpus.read(detector)) for detector in corpus.DETECTORS) >= 2_500


@pytest.mark.parametrize("detector", corpus.DETECTORS)
def test_each_detector_has_enough_of_both_kinds(detector):
    labelled = [item["expected"] is not None for item in corpus.read(detector)]
    least = LABELLED_OF_THOSE if detector in corpus.MUST_FIND else LABELLED
    assert sum(labelled) >= least
    assert len(labelled) - sum(labelled) >= NEAR


@pytest.mark.parametrize("detector", corpus.DETECTORS)
def test_items_are_told_apart_and_their_events_are_events(detector):
    items = corpus.read(detector)
    engine = Engine(TopicScheme())
    events = [EventDecoder().decode(json.dumps(item["event"])) for item in items]
    assert engine.process(events, corpus.NOW).refused == []
    assert len({item["id"] for item in items}) == len(items)
    assert len({json.dumps((item["event"], item.get("region"))) for item in items}) == len(items)


@pytest.mark.parametrize("detector", corpus.DETECTORS)
def test_what_is_expected_holds_nothing_that_is_labelled(detector):
    engine = Engine(TopicScheme())
    for item in corpus.read(detector):
        if item["expected"] is None:
            continue
        found = corpus.labels(item["event"], item["expected"])
        [before, after] = engine.process(
            [EventDecoder().decode(json.dumps(item[key])) for key in ("event", "expected")], corpus.NOW
        ).messages
        assert found
        assert all(corpus.stands_in(label, before) for label in found), item["id"]
        assert not any(corpus.stands_in(label, after) for label in found), item["id"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": "x@y.z"}, {"a": "[x]"}, ["x@y.z"]),
        ({"x@y.z": [1, 2]}, {"[x]": [1, "[x]"]}, ["x@y.z", "2"]),
        ("by x@y.z, p@q.r.", "by [x], [x].", ["x@y.z", "p@q.r"]),
        ('{"a": "x@y.z", "n": 1}', '{"a":"[x]","n":1}', ["x@y.z"]),
        ("same", "same", []),
    ],
)
def test_labels_are_what_stood_where_the_placeholder_is(before, after, expected):
    assert corpus.labels(before, after) == expected


@pytest.mark.parametrize(
    "disguised",
    [
        "x%40y.z",
        "x%2540y.z",
        "X@Y.Z",
        "x&#64;y.z",
        "x\\u0040y.z",
        "x\u200b@y.z",
        "\uff58\uff20\uff59\uff0e\uff5a",
        "… x@y.z …",
    ],
)
def test_a_disguised_label_still_stands(disguised):
    message = Engine(TopicScheme()).process(
        [EventDecoder().decode(json.dumps(_state({"raw": json.dumps({"n": [disguised]})})))], corpus.NOW
    )[0][0]
    assert corpus.stands_in("x@y.z", message)
    assert not corpus.stands_in("p@q.r", message)


@pytest.mark.parametrize(
    ("label", "came_out", "expected", "left"),
    [
        ("pass%40word", "u:[x]%40word", "u:[x]", True),
        ("jane@example.com", "[x] https://example.com", "[x] https://example.com", False),
        ("jane@example.com", "[x]", "[x]", False),
        ("abc", "abc", "[x]", True),
    ],
)
def test_a_part_of_a_label_that_is_left_is_seen(label, came_out, expected, left):
    events = [EventDecoder().decode(json.dumps(_state(value))) for value in (came_out, expected)]
    got, wanted = Engine(TopicScheme()).process(events, corpus.NOW).messages
    assert corpus.is_left(label, got, wanted) is left


def test_the_report_for_programs_counts_what_is_there(capsys):
    status = corpus.main(["--detector", "card", "--json", "--misses", "1"])
    card = json.loads(capsys.readouterr().out)["card"]
    assert card["items"] == card["true"] + card["near_misses"] == len(corpus.read("card"))
    assert card["found"] == sum(form["found"] for form in card["forms"].values())
    assert status == (card["recall"] < corpus.RECALL_OF_THOSE)


def _state(value):
    address = {"org": "org-1", "system": "sys-1", "driver": "dep-1", "module": "Display", "index": 1, "state": "power"}
    return {"kind": "state", **address, "value": value}


@pytest.mark.parametrize("detector", corpus.DETECTORS)
def test_the_detector_finds_what_is_labelled_and_little_else(detector, evaluator):
    score = corpus.Score.of(evaluator.verdicts(detector))
    assert score.recall >= (corpus.RECALL_OF_THOSE if detector in corpus.MUST_FIND else corpus.RECALL)
    assert score.precision >= corpus.PRECISION
