"""What can be set for the detectors, what is said where it is wrong, and what the plugin costs."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

import northbound_detectors
from northbound.registry import Registry
from northbound_detectors import regex

TYPES = northbound_detectors.northbound_detectors()
README = (Path(northbound_detectors.__file__).parent / "README.md").read_text()


def problem(kind, **options):
    with pytest.raises(ValidationError) as caught:
        TYPES[kind].Config(**options)
    return [error["msg"].removeprefix("Value error, ") for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("regex", {"pattern": "[a"}, "not a pattern of RE2: missing ]: [a"),
        ("regex", {"pattern": r"(?=a)"}, "not a pattern of RE2: invalid perl operator: (?="),
        ("regex", {"patterns": ["a", "(b"]}, "not a pattern of RE2: missing ): (b"),
        (
            "regex",
            {"pattern": "a*"},
            "the pattern matches the empty text: write what must be there with + instead of * or ?",
        ),
        (
            "regex",
            {"pattern": r"\b"},
            "the pattern matches the empty text: write what must be there with + instead of * or ?",
        ),
        ("regex", {}, "give either pattern or patterns"),
        ("regex", {"pattern": "a", "patterns": ["b"]}, "give either pattern or patterns"),
        ("regex", {"pattern": "(a)", "group": 2}, "the pattern has no group 2"),
        ("regex", {"pattern": "(a)", "group": -1}, "the pattern has no group -1"),
        ("regex", {"patterns": ["(?P<n>a)", "b"], "group": "n"}, "the pattern has no group 'n'"),
        (
            "user_id",
            {"patterns": ["x?"]},
            "the pattern matches the empty text: write what must be there with + instead of * or ?",
        ),
        ("phone", {"region": "UK"}, "not a region: write two letters such as 'GB' or 'DE' (ISO 3166)"),
    ],
)
def test_what_is_said_of_wrong_options(kind, options, said):
    assert problem(kind, **options) == [said]


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_unknown_options_are_refused(kind):
    plugin = Registry().find("detector", kind)
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        plugin.model.model_validate({"type": kind, "nonsense": 1})


def test_numbers_and_literals_are_the_patterns_own():
    detector = regex.Regex(regex.Regex.Config(pattern="7+", numbers=True, literals=["7"]), name="x")
    assert detector.numbers
    assert detector.literals == ("7",)


def test_matches_that_take_too_long_are_an_error_without_the_text(monkeypatch):
    monkeypatch.setattr(regex, "LONGEST", 0.0)
    detector = regex.Regex(regex.Regex.Config(pattern="secret"), name="x")
    with pytest.raises(RuntimeError) as caught:
        detector.find("secret secret", "")
    assert "secret" not in str(caught.value)


def test_a_quadratic_search_ends():
    detector = regex.Regex(regex.Regex.Config(pattern="a|a.*b"), name="x")
    with pytest.raises(RuntimeError, match="took more than 1 s"):
        detector.find("a" * 2_000_000, "")


def test_every_type_is_installed():
    assert set(TYPES) <= set(Registry().types("detector"))


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_the_readme_names_every_option(kind):
    section = README.partition(f"\n## `{kind}`\n")[2].partition("\n## ")[0]
    assert section
    rows = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}
    common = set(northbound_detectors.Card.Config.model_fields)
    assert rows == set(TYPES[kind].Config.model_fields) - common


def test_the_tables_of_the_readme_are_valid():
    tables = tomllib.loads(README.partition("```toml\n")[2].partition("```")[0])["privacy"]["detectors"]
    for table in tables.values():
        options = {name: value for name, value in table.items() if name != "type"}
        TYPES[table["type"]].Config(**options)


def test_phonenumbers_is_imported_only_where_numbers_are_looked_for():
    code = """
import sys, northbound_detectors as detectors
print("phonenumbers" in sys.modules)
detectors.Phone(detectors.Phone.Config(), name="x")
print("phonenumbers" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True"]
