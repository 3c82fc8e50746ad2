"""Cases for a policy: what is read, what is refused, what is judged right and wrong."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import pytest

import northbound
from northbound import ConfigurationError
from northbound.cases import Judge, read_cases
from northbound.expectations import Expected
from northbound.loading import load_text
from northbound.policies import Policies
from northbound.registry import Registry

CONFIGURATION = """
[site]
org = "org-acme"
[sources.in]
type = "jsonl"
path = "-"
[connectors.aws]
type = "file"
path = "a"
topic = "x/{system}/{module}.{index}.{state}"
limits.max_payload_bytes = 200
[privacy]
secret = "a secret of more than sixteen"
[[privacy.rules]]
name = "gone"
states = ["secret*"]
action = "drop"
[[privacy.rules]]
name = "digits"
states = ["count"]
action = "generalise"
round = 10
[[privacy.rules]]
name = "not even there"
states = ["never*"]
action = "drop"
connectors = ["aws"]
[[privacy.rules]]
name = "short"
detect = ["phone"]
action = "hash"
prefix = "tel."
length = 12
[[privacy.rules]]
name = "nothing"
states = ["nothing"]
action = "redact"
scope = "value"
null = true
"""
NOW = 1_700_000_000_000


def configuration(text: str = CONFIGURATION):
    return load_text(text, Registry())


def verdict(case: str, text: str = CONFIGURATION):
    found = configuration(text)
    cases = read_cases(f'[[cases]]\nname = "it"\n{case}', "cases.toml", found)
    return Judge(found, cases.people).judge(cases.cases[0], NOW)


@pytest.mark.parametrize(
    "case",
    [
        'event = { value = "bob@example.com" }\nexpect = { value = "{{hash}}", rules = ["default"] }',
        'event = { value = "Bob@Example.com" }\nexpect = { value = "{{hash:bob@example.com}}", absent = ["BOB"] }',
        (
            'event = { value = { who = ["to bob@example.com"] } }\n'
            'expect = { value = { who = ["to {{hash:bob@example.com}}"] } }'
        ),
        'event = { value = { "bob@example.com" = 1 } }\nexpect = { value = { "{{hash:bob@example.com}}" = 1 } }',
        'event = { state = "of bob@example.com" }\nexpect = { state = "of {{hash:bob@example.com}}", value = true }',
        'event = { value = "+44 20 7946 0958" }\nexpect = { value = "{{hash:+442079460958}}", rules = ["short"] }',
        'event = { state = "secret one", value = 3 }\nexpect = { dropped = true, rules = ["gone"] }',
        'event = { state = "count", value = 27 }\nexpect = { value = 30, rules = ["digits"], unchanged = false }',
        'event = { state = "nothing", value = "x" }\nexpect = { value = "{{null}}" }',
        'event = { value = "{{null}}" }\nexpect = { value = "{{null}}", unchanged = true, rules = [] }',
        (
            'event = { building = "b", time = 5 }\n'
            'expect = { time = 5, building = "b", level = "level-sample", index = 1, org = "org-acme" }'
        ),
        (
            'event = { metadata = { name = "bob@example.com" } }\n'
            'expect = { metadata = { name = "{{hash}}" }, id = "sys-sample" }'
        ),
        'event = { id = "z", metadata = {} }\nexpect = { topic = "placeos/org-acme/metadata/z", unchanged = true }',
        'event = { kind = "cleared", state = "bob@example.com" }\nexpect = { state = "{{hash}}", value = "{{null}}" }',
        'connector = "aws"\nevent = { state = "never" }\nexpect = { dropped = true, rules = ["not even there"] }',
        (
            'connector = "aws"\nevent = { state = "on" }\n'
            'expect = { topic = "x/sys-sample/Sample.1.on", unchanged = true }'
        ),
        'connector = "aws"\nevent = { state = "x", value = "a@b.com" }\nexpect = { value = "{{hash}}", state = "x" }',
    ],
)
def test_what_is_as_expected(case):
    assert verdict(case).differences == ()


@pytest.mark.parametrize(
    ("case", "what"),
    [
        ('event = { value = "bob" }\nexpect = { value = "{{hash}}" }', "value"),
        ('event = { value = "bob@example.com" }\nexpect = { value = "{{hash:eve@example.com}}" }', "value"),
        ('event = { value = "bob@example.com" }\nexpect = { unchanged = true }', "unchanged"),
        ('event = { value = "bob@example.com" }\nexpect = { rules = ["short"] }', "rules"),
        ('event = { value = "bob" }\nexpect = { dropped = true }', "dropped"),
        ('event = { value = "bob" }\nexpect = { withheld = true }', "withheld"),
        ('event = { state = "secret" }\nexpect = { value = true }', "outcome"),
        ('event = { state = "secret" }\nexpect = { absent = ["x"] }', "outcome"),
        ('event = { state = "secret" }\nexpect = { withheld = true }', "withheld"),
        ("event = { value = 1 }\nexpect = { value = true }", "value"),
        ("event = { value = [1, 2] }\nexpect = { value = [1] }", "value"),
        ("event = { value = { a = 1, b = 2 } }\nexpect = { value = { a = 1 } }", "value"),
        ('event = { value = "{\\"a\\":\\"%62ob\\"}" }\nexpect = { absent = ["bob"] }', "absent"),
        ('event = { state = "b/ob" }\nexpect = { absent = ["b/ob"] }', "absent"),
        ('event = { value = { a = { bob = 1 } } }\nexpect = { absent = ["BOB"] }', "absent"),
        ('connector = "aws"\nevent = { value = "' + "x" * 300 + '" }\nexpect = { state = "sample" }', "outcome"),
    ],
)
def test_what_is_not(case, what):
    assert [difference.what for difference in verdict(case).differences] == [what]


PEOPLE = (
    CONFIGURATION.replace('type = "jsonl"\npath = "-"', 'type = "staffed"')
    + """
[privacy.detectors.staff]
type = "person"
source = "in"
[[privacy.rules]]
name = "staff"
detect = ["staff"]
action = "hash"
"""
)


@pytest.mark.parametrize(
    ("table", "key", "remedy"),
    [
        ('nam = "a"', "cases.0.nam", "did you mean 'name'?"),
        ("event = { value = 1 }\nexpect = { vlaue = 1 }", "cases.0.expect.vlaue", "did you mean 'value'?"),
        ('event = { sate = "x" }\nexpect = { value = 1 }', "cases.0.event", "JSON Lines"),
        ("event = { value = 2020-01-01 }\nexpect = { value = 1 }", "cases.0.event", "as text"),
        ("event = { value = nan }\nexpect = { value = 1 }", "cases.0.event", "as text"),
        ('connector = "hive"', "cases.0.connector", "one of aws"),
        ('event = { value = 1 }\nexpect = { rules = ["defualt"] }', "cases.0.expect.rules", "did you mean 'default'?"),
        ("event = { value = 1 }\nexpect = { absent = [1] }", "cases.0.expect.absent", "absent = "),
        ('event = { value = 1 }\nexpect = { dropped = "yes" }', "cases.0.expect.dropped", ""),
        ("event = { value = 1 }\nexpect = {}", "cases.0.expect", "expect some of value"),
    ],
)
def test_what_cannot_be_meant_is_a_problem_with_its_key(table, key, remedy):
    with pytest.raises(ConfigurationError) as raised:
        read_cases(f'[[cases]]\nname = "it"\n{table}', "cases.toml", configuration())
    [problem] = [problem for problem in raised.value.problems if problem.key == key]
    assert remedy in problem.remedy


@pytest.mark.parametrize("text", ["[", "cases = 1", "people = 1", "cse = []", '[[cases]]\nname = "a"\n' * 2])
def test_a_file_that_is_none(text):
    with pytest.raises(ConfigurationError):
        read_cases(text, "cases.toml", configuration())


BROKEN = '[[privacy.rules]]\nname = "far"\nstates = ["far"]\naction = "generalise"\nround = 10\n'


def test_a_rule_that_cannot_be_evaluated_withholds():
    many = "9" * 60
    case = f'event = {{ state = "far", value = "{many}" }}\nexpect = {{ withheld = true, absent = ["{many}"] }}'
    assert verdict(case, CONFIGURATION + BROKEN).differences == ()
    assert verdict(case.replace("withheld", "dropped"), CONFIGURATION + BROKEN).differences != ()
    connector = BROKEN + 'connectors = ["aws"]\n'
    assert verdict(f'connector = "aws"\n{case}', CONFIGURATION + connector).differences == ()


def test_hashes_of_any_form_are_recognised():
    text = CONFIGURATION + '[[privacy.rules]]\nname = "old"\ndetect = ["email"]\naction = "hash"\nformat = "placeos"\n'
    found = configuration(text)
    case = (
        '[[cases]]\nname = "it"\nevent = { value = "bob@example.com" }\nexpect = { value = "{{hash:bob@example.com}}" }'
    )
    cases = read_cases(case, "", found)
    assert Judge(found).judge(cases.cases[0], NOW).ok
    expected = Expected(Policies(found, ""))
    assert expected.matches("{{hash}}", "0" * 64)
    assert not expected.matches("{{hash}}", "0" * 63)
    assert not expected.matches("{{hash}}", "xyz")


def test_in_an_overlap_both_hashes_are_expected():
    text = CONFIGURATION.replace(
        "[privacy]\n", '[privacy]\nprevious_secret = "the one before that one"\noverlap_until = 2100-01-01\n'
    )
    for key, event in (("value", 'value = "bob@example.com"'), ("state", 'state = "bob@example.com"')):
        for pattern in ("{{hash}}", "{{hash:bob@example.com}}"):
            assert verdict(f'event = {{ {event} }}\nexpect = {{ {key} = "{pattern}" }}', text).differences == ()


class Staffed(northbound.Source):
    """A source that knows people."""

    async def people(self):
        return ["Bob Unasked"]


@northbound.hookimpl
def northbound_sources():
    return {"staffed": Staffed}


def test_people_a_source_would_know():
    points = [*entry_points(group="northbound"), EntryPoint("staffed", __name__, "northbound")]
    found = load_text(PEOPLE, Registry(points))
    text = 'people = ["Ann Example"]\n[[cases]]\nname = "it"\nevent = { value = "by Ann Example" }\n'
    cases = read_cases(f'{text}expect = {{ value = "by {{{{hash}}}}" }}', "", found)
    assert Judge(found, cases.people).judge(cases.cases[0], NOW).differences == ()
    assert not Judge(found).judge(cases.cases[0], NOW).ok
