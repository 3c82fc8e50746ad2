"""Privacy rules in a configuration: what is wrong is found on loading, in words, without a secret."""
# ruff: noqa: E501 - in a table of broken files each is one line

import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import northbound
from northbound.errors import ConfigurationError
from northbound.loading import load_text
from northbound.registry import Registry

CANARY = "c4n4ry-hunter2-Zq9"


class Out(northbound.Connector):
    """A connector."""


class Source(northbound.Source):
    """A source that knows nobody."""


class Directory(northbound.Source):
    """A source with a user table."""

    async def people(self):
        return ["Ann Example"]


class Breaks(northbound.Detector):
    """Cannot be made."""

    def __init__(self, config, *, name):
        raise RuntimeError(f"a defect that tells {CANARY}")


class Fails(northbound.Detector):
    """Cannot look."""

    def find(self, text, key):
        raise RuntimeError(f"a defect that tells {CANARY}")


class Nothing(northbound.Detector):
    """Gives no list."""

    def find(self, text, key):
        return None


class NotOne(northbound.Detector):
    """Learns from a source that is not there."""

    learns_from = "nowhere"


class Point:
    extras: tuple = ()
    dist = None
    module = name = "fakes"

    def load(self):
        module = types.ModuleType("provider")
        for kind, provided in (
            ("connectors", {"out": Out}),
            ("sources", {"in": Source, "directory": Directory}),
            ("detectors", {"breaks": Breaks, "fails": Fails, "nothing": Nothing, "notone": NotOne}),
        ):
            name = f"northbound_{kind}"
            setattr(module, name, northbound.hookimpl(specname=name)(lambda provided=provided: provided))
        return module


REGISTRY = Registry([Point(), EntryPoint("detectors", "northbound_detectors", "northbound")])
SMALLEST = """
[site]
org = "org-acme"
[sources.users]
type = "directory"
[sources.in]
type = "in"
[sources.off]
type = "directory"
enabled = false
[connectors.cloud]
type = "out"
[connectors.later]
type = "out"
enabled = false
"""
RULE = """
[[privacy.rules]]
name = "mine"
action = "redact"
"""


def load(text, environment=None, base=None):
    return load_text(SMALLEST + text, REGISTRY, name="northbound.toml", environment=environment or {}, base=base)


def problems(text, **options):
    with pytest.raises(ConfigurationError) as caught:
        load(text, **options)
    return [str(problem) for problem in caught.value.problems]


def test_without_a_word_about_it_the_default_rule_is_there():
    configuration = load("")
    assert [rule.name for rule in configuration.privacy.all_rules] == ["default"]
    assert sorted(detector.name for detector in configuration.detectors) == ["email", "token", "url_credentials"]


def test_it_takes_an_explicit_line_to_have_none():
    configuration = load("[privacy]\ndefault = false\n")
    assert configuration.privacy.all_rules == ()
    assert configuration.detectors == ()


def test_rules_detectors_and_connectors_are_found_by_their_names():
    configuration = load(
        RULE
        + 'detect = ["badge", "mac", "staff"]\nconnectors = ["cloud", "later"]\nlevels = ["building", "state", "id"]\n'
        '[privacy.detectors.badge]\ntype = "regex"\npattern = "B[0-9]+"\n[privacy.detectors.staff]\ntype = "person"\nsource = "users"\n'
        '[privacy.detectors.unused]\ntype = "regex"\npattern = "x"\n'
    )
    assert sorted(detector.name for detector in configuration.detectors) == [
        "badge",
        "email",
        "mac",
        "staff",
        "token",
        "url_credentials",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RULE + 'detect = ["emial"]', ["no detector of type 'emial' is installed", "did you mean 'email'?"]),
        (RULE + 'detect = ["email", "nonsense"]', ["'nonsense'"]),
        (RULE + 'detect = ["out"]', ["it is a connector"]),
        (RULE + 'detect = ["email"]\nconnectors = ["clout"]', ["no connector 'clout'", "did you mean 'cloud'?"]),
        (RULE + 'detect = ["email"]\nlevels = ["bulding"]', ["no level 'bulding'", "did you mean 'building'?"]),
        (RULE + 'detect = ["email"]\nlevels = ["index"]', ["no level 'index'"]),
        (RULE + 'detect = ["r"]\n[privacy.detectors.r]\ntype = "regex"\npattern = "(a"', ["privacy.detectors.r.pattern", "not a pattern of RE2"]),
        (RULE + 'detect = ["r"]\n[privacy.detectors.r]\ntype = "regex"\npattern = "(?=a)"', ["not a pattern of RE2"]),
        (RULE + 'detect = ["r"]\n[privacy.detectors.r]\ntype = "regex"\npattern = "a*"', ["matches the empty text"]),
        (RULE + 'detect = ["r"]\n[privacy.detectors.r]\ntype = "regex"', ["pattern"]),
        (RULE + 'detect = ["r"]\n[privacy.detectors.r]\npattern = "a"', ["privacy.detectors.r.type", "is missing"]),
        (RULE + 'detect = ["regex"]', ["pattern"]),
        (RULE + 'detect = ["p"]\n[privacy.detectors.p]\ntype = "person"\nnames = "missing.txt"', ["privacy.detectors.p", "missing.txt", "No such file"]),
        (RULE + 'detect = ["p"]\n[privacy.detectors.p]\ntype = "person"\nsource = "nobody"', ["no source is named 'nobody'"]),
        (RULE + 'detect = ["p"]\n[privacy.detectors.p]\ntype = "person"\nsource = "off"', ["no source is named 'off'"]),
        (RULE + 'detect = ["p"]\n[privacy.detectors.p]\ntype = "person"\nsource = "in"', ["knows no people"]),
        (RULE + 'detect = ["p"]\n[privacy.detectors.p]\ntype = "person"', ["names"]),
        (RULE + 'detect = ["breaks"]', ["cannot be used: RuntimeError"]),
        (RULE + 'detect = ["fails"]', ["cannot be used: RuntimeError"]),
        (RULE + 'detect = ["nothing"]', ["cannot be used: TypeError"]),
        (RULE + 'detect = ["notone"]', ["no source is named 'nowhere'"]),
        (RULE + 'detect = ["email"]\npaths = ["organiser"]', ["write a path such as"]),
        (RULE + 'detect = ["email"]\npath = ["$"]', ["is not a known key", "did you mean 'paths'?"]),
        (RULE + 'detect = ["email"]' + RULE + 'detect = ["mac"]', ["two rules are named 'mine'"]),
        ('[[privacy.rules]]\nname = "default"\ndetect = ["mac"]\naction = "hash"', ["the rule that is always there"]),
        ("[privacy]\ndefaults = false", ["is not a known key", "did you mean 'default'?"]),
        ("[privacy]\nprevious_secret = 'x'", ["overlap_until"]),
        ("privacy = 5", ["privacy", "is not a table"]),
        ("[privacy]\ndetectors = 5", ["privacy.detectors"]),
        ("[privacy.detectors]\nx = 5", ["privacy.detectors.x", "is not a table"]),
        ('[privacy.detectors."a b"]\ntype = "email"', ["is not a name"]),
        ('[privacy.rules]\nname = "mine"', ["privacy.rules"]),
        ("[connectors.other]\ntype = 'out'\nprivacy_secret = ''", ["connectors.other.privacy_secret"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_words(text, words):
    if text.startswith("privacy"):
        with pytest.raises(ConfigurationError) as caught:
            load_text(text + SMALLEST, REGISTRY, name="northbound.toml", environment={})
        said = str(caught.value)
    else:
        said = "\n".join(problems(text))
    for word in words:
        assert word in said
    assert CANARY not in said


def test_every_problem_is_found_at_once():
    said = problems(
        RULE
        + 'detect = ["emial"]\nconnectors = ["clout"]\nlevels = ["bulding"]\n'
        + RULE.replace("mine", "second")
        + 'detect = ["mca"]\n'
        '[privacy.detectors.r]\ntype = "regex"\npattern = "(a"\n'
    )
    assert len(said) == 5


def test_a_detector_s_name_goes_before_a_type_of_that_name():
    configuration = load(RULE + 'detect = ["email"]\n[privacy.detectors.email]\ntype = "regex"\npattern = "x@y"\n')
    (instance,) = [detector for detector in configuration.detectors if detector.name == "email"]
    assert instance.plugin.type_name == "regex"


@pytest.mark.parametrize(
    "text",
    [
        '[privacy]\nsecret = "${SECRET}"\nprevious_secret = "${SECRET}"\n',
        RULE.replace("redact", "hash") + 'detect = ["email"]\nsecret = "${SECRET}"\nlength = 3\n',
        RULE.replace("redact", "hash") + 'detect = ["${SECRET}"]\n',
        RULE + 'detect = ["r"]\n[privacy.detectors.r]\ntype = "regex"\npattern = "(${SECRET}"\n',
        RULE + 'detect = ["p"]\n[privacy.detectors.p]\ntype = "person"\nnames = "${SECRET}"\n',
        RULE + 'detect = ["p"]\n[privacy.detectors.p]\ntype = "person"\nsource = "${SECRET}"\n',
        RULE + 'connectors = ["${SECRET}"]\nlevels = ["${SECRET}"]\npaths = ["${SECRET}"]\n',
        RULE.replace("mine", "${SECRET}") * 2,
        '[connectors.x]\ntype = "out"\nprivacy_secret = ["${SECRET}"]\n',
    ],
)
def test_a_secret_is_never_in_the_words(text):
    said = "\n".join(problems(text, environment={"SECRET": CANARY}))
    assert CANARY not in said
    assert "hunter2" not in said


def test_secrets_are_not_in_what_is_printed_of_a_configuration():
    configuration = load(
        '[privacy]\nsecret = "${S}"\n[connectors.x]\ntype = "out"\nprivacy_secret = "${S}"\n', environment={"S": CANARY}
    )
    assert CANARY not in repr(configuration)
    assert configuration.privacy.secret.get_secret_value() == CANARY


def test_a_file_of_names_starts_at_the_configuration(tmp_path: Path):
    (tmp_path / "staff.txt").write_text("Ann Example\n")
    text = RULE + 'detect = ["p"]\n[privacy.detectors.p]\ntype = "person"\nnames = "staff.txt"\n'
    configuration = load(text, base=tmp_path)
    (person,) = [detector.create() for detector in configuration.detectors if detector.name == "p"]
    assert [found[:2] for found in person.find("to Ann Example now", "")] == [(3, 14)]
