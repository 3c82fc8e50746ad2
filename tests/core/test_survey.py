"""What a survey counts, which rule it names, and that it tells nothing of what it found."""

from __future__ import annotations

import json

import msgspec
import pytest

from northbound import survey as module
from northbound.events import Cleared, Metadata, State
from northbound.loading import load_text
from northbound.policies import Policies
from northbound.registry import Registry
from northbound.survey import Survey, surveyed

HEAD = """
[site]
org = "org-acme"
[sources.in]
type = "jsonl"
path = "-"
[connectors.aws]
type = "file"
path = "a"
[connectors.hive]
type = "file"
path = "b"
[privacy]
secret = "a secret of more than sixteen"
"""
NOW = 1_700_000_000_000
MAIL, MAC = "canary.bob@example.com", "00:1b:44:11:3a:b7"


def surveying(rules: str = "", *events) -> Survey:
    configuration = load_text(HEAD + rules, Registry())
    policies = Policies(configuration, "")
    survey = Survey(configuration, policies, surveyed(configuration, policies, Registry()))
    for event in events:
        survey.event(event, NOW)
    return survey


def state(value, key="power", **more) -> State:
    return State(None, ("bld-1", None, None), "sys-1", "dep-1", "Display", 1, key, value, **more)


def found(survey: Survey) -> dict[str, tuple[int, int, dict[str, int]]]:
    return {f.detector: (f.count, f.topics, f.rules) for f in survey.findings.values() if f.count}


def everything(survey: Survey) -> str:
    told = [(f.detector, f.count, f.topics, f.rules, f.failed) for f in survey.findings.values()]
    return repr(told) + repr(survey.acts)


def test_what_is_looked_for_needs_no_options_or_has_them():
    assert {"email", "phone", "mac"} <= set(surveying().findings)
    assert not {"regex", "person"} & set(surveying().findings)
    badge = '[privacy.detectors.badge]\ntype = "regex"\npattern = "B[0-9]{4}"\n'
    survey = surveying(badge, state("B1234 and B9999"))
    assert found(survey) == {"badge": (2, 1, {"none": 2})}


def test_each_find_is_counted_for_the_rule_that_acts():
    survey = surveying("", state({"who": MAIL, "also": [MAIL, MAC]}), state(MAIL, "other"), state(1))
    assert found(survey) == {"email": (3, 2, {"default": 3}), "mac": (1, 1, {"none": 1})}
    assert survey.unprotected == 1
    assert survey.messages == 3
    topic = "placeos/org-acme/state/bld-1/_/_/sys-1/dep-1/Display/1"
    assert survey.acts == {
        ("default", f"{topic}/power"): 2, ("none", f"{topic}/power"): 1, ("default", f"{topic}/other"): 1,
    }  # fmt: skip


def test_of_two_rules_each_has_its_own():
    rules = (
        '[[privacy.rules]]\nname = "cars"\ndetect = ["mac"]\naction = "mask"\n'
        '[[privacy.rules]]\nname = "no bookings"\nstates = ["bookings"]\naction = "drop"\n'
        '[[privacy.rules]]\nname = "desks"\npaths = ["$.desk"]\naction = "redact"\nscope = "value"\n'
    )
    survey = surveying(
        rules,
        state({"who": MAIL, "car": MAC, "desk": {"of": MAIL}}),
        state({"who": MAIL}, "bookings"),
        state({"desk": 1}),
    )
    assert found(survey) == {
        "email": (3, 2, {"desks": 1, "default": 1, "no bookings": 1}), "mac": (1, 1, {"cars": 1}),
    }  # fmt: skip
    assert survey.unprotected == 0


def places(detect: str, rest: str) -> str:
    looks = f'detect = ["{detect}"]' if detect else 'states = ["power"]'
    return f'[[privacy.rules]]\nname = "places"\n{looks}\n{rest}\n'


PLACES = places("coordinates", 'action = "generalise"\ndecimals = 2')
ANY = '[privacy.detectors.any]\ntype = "regex"\npattern = ".+"\n'


@pytest.mark.parametrize("where", ["", 'connectors = ["aws"]\n'])
@pytest.mark.parametrize(
    ("rule", "detector", "value"),
    [
        (PLACES, "coordinates", {"latitude": 51.50741, "longitude": -0.12776}),
        (PLACES, "coordinates", {"latitude": 51.51, "longitude": -0.13}),  # as it is already
        (places("", 'action = "mask"\nkeep_last = 22'), "email", f"xx{MAIL}"),
        (places("email", 'action = "redact"\nplaceholder = "x@example.com"'), "email", MAIL),
        (ANY + places("any", 'action = "hash"\nformat = "placeos"'), "any", {"a": "b"}),
    ],
)
def test_a_rule_acts_although_what_it_writes_is_found_again(rule, detector, value, where):
    survey = surveying(f"default = false\n{rule}{where}", state(value))
    count, _, rules = found(survey)[detector]
    assert rules == {"places (aws)" if where else "places": count}
    assert survey.unprotected == 0


def test_what_a_rule_has_made_coarser_hides_nothing_behind_it():
    rules = PLACES + 'states = ["power"]\npaths = ["$.a"]\n'
    rules += PLACES.replace('"places"', '"more"') + 'paths = ["$.b"]\nconnectors = ["aws"]\n'
    place = {"latitude": 51.50741, "longitude": -0.12776}
    survey = surveying(rules, state({"a": place, "b": place, "c": place}))
    assert found(survey)["coordinates"] == (6, 1, {"places": 2, "more (aws)": 2, "none": 2})


def test_an_exception_is_not_acted_on():
    rules = '[privacy.detectors.ours]\ntype = "regex"\npattern = "[a-z.]+@example\\\\.com"\n'
    rules += '[[privacy.rules]]\nname = "ours"\ndetect = ["ours"]\naction = "allow"\n'
    assert found(surveying(rules, state([MAIL, "eve@other.org"])))["email"] == (2, 1, {"default": 1, "none": 1})


def test_rules_of_a_connector_are_told_with_its_name():
    rules = '[[privacy.rules]]\nname = "cars"\ndetect = ["mac"]\naction = "hash"\nconnectors = ["aws"]\n'
    survey = surveying(rules, state([MAC, MAIL]))
    assert found(survey) == {"mac": (1, 1, {"cars (aws)": 1}), "email": (1, 1, {"default": 1})}
    assert survey.unprotected == 0


def test_a_rule_that_cannot_be_evaluated_is_told():
    rules = '[[privacy.rules]]\nname = "far"\nstates = ["far"]\naction = "generalise"\nround = 10\n'
    survey = surveying(rules, state(["9" * 60, MAIL], "far"))
    assert found(survey)["email"] == (1, 1, {"(withheld)": 1})
    assert survey.acts == {("(withheld)", "(withheld)"): 1}


def test_topics_are_told_without_what_is_in_them_even_where_no_rule_acts():
    survey = surveying(
        "default = false",
        state(1, f"of {MAIL}"),
        Cleared(None, (MAC, None, None), "s", "d", "M", 1, "x"),
        Metadata(None, MAIL, {"name": MAIL}),
    )
    assert found(survey) == {"email": (3, 2, {"none": 3}), "mac": (1, 1, {"none": 1})}
    told = everything(survey)
    assert "canary" not in told
    assert MAC not in told
    assert "of [email]" in told
    assert "metadata/[email]" in told


def test_our_own_hashes_are_no_finds():
    survey = surveying("", state(MAIL))
    [action] = [rule.action for rule in survey._site.policy.rules]
    digest = action.text(MAIL, None, None)
    survey = surveying("", state({"token": digest, "user_id": digest, "x": [digest]}, f"of {digest}"))
    assert found(survey) == {}


@pytest.mark.parametrize(
    ("topic", "payload", "expected"),
    [
        ("placeos/org-acme/state/_/_/_/s/d/M/1/x", {"time": 1, "value": json.dumps([MAIL])}, "placeos/org-acme/"),
        ("placeos/org-acme/state/_/_/_/s/d/M/1/x", [MAIL], "placeos/org-acme/"),
        ("placeos/org-acme/metadata/z", {"name": MAIL}, "placeos/org-acme/metadata/z"),
        ("zigbee2mqtt/lamp 1/#2", {"by": MAIL}, "zigbee2mqtt/lamp 1/#2"),
        ("somewhere", MAIL, "somewhere"),
    ],
)
def test_messages_of_any_form_are_looked_at(topic, payload, expected):
    survey = surveying()
    survey.message(topic, msgspec.json.encode(payload), NOW)
    assert found(survey) == {"email": (1, 1, {"default": 1})}
    [(rule, where)] = survey.acts
    assert rule == "default"
    assert msgspec.json.decode(msgspec.json.encode(where.replace("%23", "#").replace("%2F", "/"))).startswith(expected)


@pytest.mark.parametrize(
    "payload",
    [
        b'{"time":1,"value":"1","note":"%b"}',
        b'{"time":1,"value":"1","%b":2}',
        rb'{"time":1,"value":"\"%b\"","value":"1"}',
        rb'{"time":1,"value":"{\"a\":\"%b\",\"a\":1}"}',
        b'{"time":"%b","value":"1"}',
        b'{"name":"%b","name":"x","time":' + b"9" * 5000 + b"}",
    ],
)
@pytest.mark.parametrize("topic", ["placeos/org-acme/state/_/_/_/s/d/M/1/x", "placeos/org-acme/metadata/z", "x"])
def test_nothing_hides_beside_a_value(topic, payload):
    survey = surveying()
    survey.message(topic, payload % MAIL.encode(), NOW)
    assert found(survey)["email"] == (1, 1, {"default": 1})


@pytest.mark.parametrize("payload", [b"", b"\xff\xfe", b"[" * 5000, b'"' + b"x" * 100_000, b"null", b"1e400"])
def test_hostile_payloads_are_looked_at(payload):
    survey = surveying()
    for topic in ("placeos/org-acme/state/_/_/_/s/d/M/1/x", "placeos/org-acme/metadata/z", "$SYS/x", "", "a\0b"):
        survey.message(topic, payload, NOW)
    survey.text(payload.decode(errors="replace"), NOW)
    assert survey.messages == 6
    assert survey.unprotected == 0


def test_what_the_engine_refuses_is_counted():
    survey = surveying("", State(None, (None,), "s", "d", "M", 1, "x", MAIL))
    assert (survey.messages, survey.refused) == (0, 1)


def test_topics_beyond_the_bound_are_counted_together(monkeypatch):
    monkeypatch.setattr(module, "MOST_TOPICS", 10)
    survey = surveying("", *(state(MAIL, f"key {number}") for number in range(50)))
    assert found(survey)["email"] == (50, 10, {"default": 50})
    assert len(survey.acts) == 11
    assert survey.acts["default", module.OTHER_TOPICS] == 40


def test_a_detector_that_fails_takes_nothing_from_the_others():
    survey = surveying()
    survey._probes["mac"].policy.rules[0].detectors[0].find = broken
    survey.event(state([MAIL, MAC]), NOW)
    assert survey.findings["mac"].failed == 1
    assert found(survey) == {"email": (1, 1, {"default": 1})}


def broken(text, key):
    raise KeyError(text)
