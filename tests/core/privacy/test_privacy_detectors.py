"""Detectors that misbehave let nothing through; the search for their literals passes nothing by."""
# ruff: noqa: E501 - in a table of what a detector may do wrong each is one word

import json
import re

import pytest
from privacy_rules import (
    EMAIL,
    NOW,
    SECRET,
    Pattern,
    Spans,
    after,
    engine,
    json_of,
    policy,
    refusal,
    rule,
    state,
    written,
)

from northbound import Detector, Found
from northbound.events import Metadata
from northbound.fields import NoOptions
from northbound.privacy.keys import Key
from northbound_detectors.ip import Ip, IpOptions
from northbound_detectors.token import Token

BOB = "bob@example.com"
HASHED = Key(SECRET).hash(BOB)


def redact(*detectors, name="redact", **options):
    return rule(*detectors, action="redact", name=name, **options)


def allow(*detectors, name="allow", **options):
    return rule(*detectors, action="allow", name=name, **options)


# detectors that misbehave


class Raising(Detector):
    def __init__(self, error):
        super().__init__(NoOptions(), name="raising")
        self._error = error

    def find(self, text, key):
        raise self._error


@pytest.mark.parametrize(
    "error",
    [
        ValueError(BOB),
        RuntimeError(BOB),
        KeyError(BOB),
        RecursionError(BOB),
        MemoryError(BOB),
        StopIteration(BOB),
        UnicodeEncodeError("utf-8", BOB, 0, 1, BOB),
        OSError(5, BOB),
    ],
)
def test_a_detector_that_raises_withholds_the_event_and_its_words(error):
    reason = refusal({"a": BOB}, redact(Raising(error), name="mine", paths=("$",)))
    assert BOB not in reason
    assert "'mine'" in reason
    done = engine(redact(Raising(error), name="mine")).process([Metadata(None, "x", {"a": BOB})], NOW)
    assert (done.messages, len(done.refused)) == ([], 1)


def test_what_a_detector_raises_about_one_event_touches_no_other():
    class Sometimes(Pattern):
        def find(self, text, key):
            if "boom" in text:
                raise ValueError(text)
            return super().find(text, key)

    done = engine(redact(Sometimes("@"))).process([state("a@"), state("boom"), state("b@")], NOW)
    assert [position for position, _ in done.refused] == [1]
    assert [b"redacted" in message.payload for message in done.messages] == [True, True]


@pytest.mark.parametrize(
    "spans",
    [
        [Found(-5, 15)], [Found(-15, -1)], [Found(0, 10**9)], [Found(14, 16)], [Found(15, 20)], [Found(-(10**9), 10**9)], [(0, 15)], [None], [Found(0.0, 15.0)], [Found("a", "b")],
        None, 5, [Found(0, 15, 5)], [Found(0, 15, b"x")], [Found(0, 15, "\ud800")], [Found(None, None)],
    ],
)  # fmt: skip
def test_spans_that_are_none_let_nothing_through(spans):
    """Withheld, or all that the span may have meant is gone; never half of it."""
    for acting in (redact(Spans(spans), paths=("$",)), rule(Spans(spans), paths=("$",))):
        done = engine(acting).process([state(BOB)], NOW)
        if done.refused:
            assert BOB not in done.refused[0][1]
            continue
        (message,) = done.messages
        value = json.loads(json.loads(message.payload)["value"])
        assert value in {
            "[redacted]",
            HASHED,
            BOB[:14] + "[redacted]",
            BOB[:14] + Key(SECRET).hash("m"),
            BOB[:14] + Key(SECRET).hash("m"),
        }


@pytest.mark.parametrize(
    "spans",
    [
        [Found(12, 15), Found(0, 3)],  # unordered
        [Found(0, 3), Found(0, 3), Found(12, 15)],  # twice
        [Found(0, 2), Found(1, 3), Found(12, 14), Found(13, 15)],  # overlapping
        [Found(0, 3), Found(5, 5), Found(12, 15), Found(15, 15)],  # empty ones
    ],
)
def test_spans_in_any_order_overlapping_or_empty_are_put_in_order(spans):
    assert after(BOB, redact(Spans(spans), paths=("$",), placeholder="#")) == "#@example.#"


def test_spans_the_wrong_way_round_are_no_match_and_no_crash():
    done = engine(redact(Spans([Found(9, 3)]), paths=("$",))).process([state(BOB)], NOW)
    assert done.refused or len(done.messages) == 1


@pytest.mark.timeout(10)
@pytest.mark.parametrize("span", [Found(0, 0), Found(0, 1)])
def test_a_detector_that_never_ends_withholds_the_event(span):
    def forever(text):
        while True:
            yield span

    assert "'mine'" in refusal("x", redact(Spans(forever), name="mine", paths=("$",)))


def test_a_detector_that_is_not_deterministic_leaves_a_topic_stable():
    class Fickle(Detector):
        asked = 0

        def find(self, text, key):
            self.asked += 1
            return [Found(0, len(text))] if self.asked % 2 else []

    site = engine(redact(Fickle(NoOptions(), name="fickle"), levels=("state",)))
    topics = {message.topic for _ in range(5) for message in site.process([state(1)], NOW).messages}
    assert len(topics) == 1


# literals


def test_a_detector_is_asked_only_where_one_of_its_literals_may_be():
    asked = []

    class Asked(Detector):
        literals = ("@", "Mail")

        def find(self, text, key):
            asked.append((text, key))
            return []

    site = engine(redact(Asked(NoOptions(), name="asked")))
    site.process([state({"a": "nothing", "b": [1, True, None]})], NOW)
    assert asked == []
    site.process([state({"a": "nothing", "b": "x@"})], NOW)
    assert asked == [("x@", "b")]
    asked.clear()
    site.process([state({"EMAIL": "x", "b": "MAIL"})], NOW)
    assert {text for text, _ in asked} == {"EMAIL", "x", "MAIL"}
    asked.clear()
    site.process([state({"a": "x%40", "b": "nothing"})], NOW)
    assert {text for text, _ in asked} == {"x%40", "x@"}


@pytest.mark.parametrize(
    "text",
    [
        "bob%40example.com",
        "bob\uff20example.com",
        r"bob\u0040example.com",
        "bob&#64;example.com",
        "bob&commat;example.com",
        "bob&#X40;example.com",
    ],
)
@pytest.mark.parametrize(
    "place",
    [
        lambda t: t,
        lambda t: [t],
        lambda t: {t: 1},
        lambda t: {"a": {"b": [t]}},
        json.dumps,
        lambda t: json.dumps({"a": t}),
    ],
)
def test_no_disguise_passes_the_search_for_literals(text, place):
    assert HASHED in written(place(text), rule(EMAIL))


def test_a_pattern_opens_the_search_where_no_literal_stands():
    found = Pattern(r"[a-f]+\.[0-9]", "found", literals=("never",))
    found.literal_patterns = (r"[a-f]{3}\.",)
    acting = redact(found)
    assert policy(acting).clean([b"1.5", b'"as. it is."']) == [True, True]
    assert after({"a": "abc.1 1.5"}, acting) == {"a": "[redacted] 1.5"}
    assert after("ABC.1, abc%2E1", redact(found)) == "ABC.1, [redacted]"
    assert after("never ab.1", acting) == "never [redacted]"
    found.literal_patterns = ("(",)  # none that can be searched for
    assert after("ab.1", redact(found)) == "[redacted]"
    found.literals = ()  # any text may hold a match
    assert after("ab.1", redact(found)) == "[redacted]"


@pytest.mark.parametrize("value", [21.5, {"temperature": 21.5}, "Meeting starts. Please wait.", {"at": "10.2", "b": 1}])
def test_numbers_and_sentences_pass_the_search_for_tokens_and_addresses(value):
    detectors = [Token(None, name="token"), Ip(IpOptions(), name="ip"), EMAIL]
    assert policy(redact(*detectors)).clean([json_of(value).encode()]) == [True]


def test_a_great_many_literals_are_no_trouble():
    names = tuple(f"name{number:06d}xyz" for number in range(20_000))
    found = Pattern("|".join(re.escape(name) for name in (names[0], names[-1])), "names", literals=names)
    assert after(f"{names[-1]} and others", redact(found)) == "[redacted] and others"
    assert after("nobody", redact(found)) == "nobody"
