"""Durations, sizes, paths and filters as people write them."""

import math
from datetime import timedelta
from pathlib import Path

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from northbound.fields import ConfigPath, Duration, Size, TopicFilter, format_duration, parse_duration

DURATION = pydantic.TypeAdapter(Duration)
SIZE = pydantic.TypeAdapter(Size)
PATH = pydantic.TypeAdapter(ConfigPath)
FILTER = pydantic.TypeAdapter(TopicFilter)
TEN_YEARS = 3650 * 86_400


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("5m", 300),
        ("5min", 300),
        ("72h", 259_200),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        (" 1 h  30 min ", 5400),
        ("1.5h", 5400),
        ("0.25s", 0.25),
        ("0s", 0),
        ("1m1m", 120),
        ("1d1ms", 86_400.001),
        (30, 30),
        (0.5, 0.5),
        (0, 0),
        (TEN_YEARS, TEN_YEARS),
        ("3650d", TEN_YEARS),
        (timedelta(hours=1), 3600),
    ],
)
def test_durations(written, seconds):
    assert DURATION.validate_python(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written",
    [
        "",
        " ",
        "30",
        "s",
        "5S",
        "5 years",
        "soon",
        "-5s",
        "5s-",
        "1h,30m",
        "1..5h",
        ".5h",
        "1e3s",
        "\u0661s",
        "5s x",
        "PT5M",
        "00:30",
        -1,
        -0.001,
        TEN_YEARS + 1,
        "3651d",
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        True,
        False,
        None,
        [],
        {},
        b"5s",
        timedelta(seconds=-1),
        timedelta(days=4000),
        "1" * 50_000,
        "1s " * 50_000,
    ],
    ids=lambda value: "huge" if value == 10**400 else repr(value)[:20],
)
def test_what_is_no_duration_is_refused_in_words(written):
    with pytest.raises(pydantic.ValidationError) as caught:
        DURATION.validate_python(written)
    (error,) = caught.value.errors()
    assert "duration" in error["msg"]
    assert len(error["msg"]) < 200


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.5, "500ms"),
        (30, "30s"),
        (90, "90s"),
        (5400, "90m"),
        (7200, "2h"),
        (86_400, "1d"),
        (1_209_600, "2w"),
    ],
)
def test_durations_are_written_in_the_largest_whole_unit(seconds, text):
    assert format_duration(timedelta(seconds=seconds)) == text


@settings(max_examples=examples(100))
@given(st.integers(0, TEN_YEARS * 1000))
def test_what_is_written_is_read_back(milliseconds):
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@settings(max_examples=examples(150))
@given(st.text("0123456789.smhdw in", max_size=12) | st.integers() | st.floats() | st.text())
def test_nothing_but_a_value_error_escapes(written):
    try:
        duration = parse_duration(written)
    except ValueError:
        return
    assert timedelta(0) <= duration <= timedelta(days=3650)


@pytest.mark.parametrize(
    ("written", "size"),
    [("2 GiB", 2 * 1024**3), ("1kb", 1000), ("64 KiB", 65_536), (5, 5), ("7", 7), (2**63 - 1, 2**63 - 1)],
)
def test_sizes(written, size):
    assert SIZE.validate_python(written) == size


@pytest.mark.parametrize("written", ["", "big", "2 GoB", "9" * 400, 2**63, math.inf, math.nan, None, [], "1" * 100_000])
def test_what_is_no_size_is_refused(written):
    with pytest.raises(pydantic.ValidationError):
        SIZE.validate_python(written)


def test_relative_paths_start_beside_the_file():
    def read(text, base="/etc/northbound"):
        return PATH.validate_python(text, context={"base": Path(base)} if base else None)

    assert read("certs/a.pem") == Path("/etc/northbound/certs/a.pem")
    assert read("../a.pem") == Path("/etc/northbound/../a.pem")
    assert read("/abs/a.pem") == Path("/abs/a.pem")
    assert read("a.pem", base=None) == Path("a.pem")
    assert PATH.validate_python("a.pem") == Path("a.pem")


def test_the_home_directory_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert PATH.validate_python("~/a.pem", context={"base": Path("/etc")}) == Path("/home/someone/a.pem")


@pytest.mark.parametrize(("written", "words"), [("~no-such-user-here/a", "home directory"), ("a\0b", "NUL")])
def test_what_is_no_path_is_refused_in_words(written, words):
    with pytest.raises(pydantic.ValidationError, match=words):
        PATH.validate_python(written)


def test_filters():
    assert FILTER.validate_python("placeos/+/state/#") == "placeos/+/state/#"
    for wrong in ("", "a/#/b", "a+", "a\0"):
        with pytest.raises(pydantic.ValidationError, match="topic filter"):
            FILTER.validate_python(wrong)


def test_every_field_has_a_schema_an_editor_can_use():
    schema = DURATION.json_schema()
    assert {"string", "number"} == {variant["type"] for variant in schema["anyOf"]}
    assert SIZE.json_schema()
    assert PATH.json_schema()["format"] == "path"
