"""Values made to take long or to break something: each has a clear outcome, in time in line with its size."""
# ruff: noqa: E501 - in a table of hostile values each is one word

import json

import pytest
from privacy_rules import EMAIL, NOW, Pattern, Under, engine, rule, state

from northbound.events import Metadata

BOB = "bob@example.com"

pytestmark = pytest.mark.timeout(90)


def outcome(value, *rules, **place):
    """Return the one message, or the reason there is none."""
    done = engine(*(rules or (rule(EMAIL),))).process([state(value, **place)], NOW)
    assert len(done.messages) + len(done.refused) == 1
    return done.messages[0] if done.messages else done.refused[0][1]


@pytest.mark.parametrize(
    "place", [lambda t: t, lambda t: {t: 1}, lambda t: [{"a": t}], json.dumps, lambda t: json.dumps({"a": t})]
)
def test_ten_megabytes_of_the_beginnings_of_addresses(place):
    message = outcome(place("a@" * 5_000_000))
    assert b"a@a@a@" in message.payload


def test_a_megabyte_of_addresses():
    message = outcome(f"{BOB} " * 65_536)
    assert b"bob" not in message.payload


@pytest.mark.parametrize("action", ["hash", "mask", "redact"])
def test_a_great_many_keys(action):
    message = outcome({f"u{number}@example.com": {"n": number} for number in range(30_000)}, rule(EMAIL, action=action))
    assert b"example.com" not in message.payload
    assert len(json.loads(json.loads(message.payload)["value"])) == 30_000


@pytest.mark.parametrize(
    "piece",
    [
        "\\",
        "%",
        "%25",
        "&",
        "&amp;",
        "\u200b",
        "\u0301",
        "\ufdfa",
        "[",
        "{",
        '"',
        "{@",
        "[[",
        '\\"',
        "\\u005c",
        "%%34%30",
    ],
)
@pytest.mark.parametrize("where", ["before", "behind"])
def test_a_megabyte_of_what_may_begin_something(piece, where):
    text = piece * (500_000 // len(piece))
    result = outcome(f"{text} {BOB}" if where == "before" else f"{BOB} {text}")
    assert BOB not in (result if isinstance(result, str) else result.payload.decode())


@pytest.mark.parametrize("depth", [100, 1000, 2000, 100_000])
@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"k": inner}])
def test_deep_values(depth, wrap):
    value = BOB
    for _ in range(depth):
        value = wrap(value)
    result = outcome(value)
    assert "deep" in result if isinstance(result, str) else BOB.encode() not in result.payload
    while isinstance(value, list | dict):  # undone by hand: to give it up at once would need as much stack
        value = value[0] if isinstance(value, list) else value["k"]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 50_000 + f'"{BOB}"' + "}" * 50_000, '["' * 50_000]
)
def test_deep_json_in_a_string(text):
    result = outcome(f"{text} {BOB}")
    assert BOB not in (result if isinstance(result, str) else result.payload.decode())
    result = outcome(text if BOB in text else f"{text}{BOB}")
    assert BOB not in (result if isinstance(result, str) else result.payload.decode())


def test_json_in_json_in_json():
    text = BOB
    for _ in range(16):
        text = json.dumps([text]) if len(text) < 2_000_000 else text
    assert BOB not in outcome(text).payload.decode()


@pytest.mark.parametrize("layers", [5, 12, 20, 50])
def test_json_in_json_whose_backslashes_are_written_as_escapes(layers):
    """So it grows by little with each layer, and may be as deep as one likes."""
    text = '["bob\\u0040example.com"]'
    for _ in range(layers):
        text = '["' + text.replace("\\", "\\u005c").replace('"', "\\u0022") + '"]'
    result = outcome(text)
    if isinstance(result, str):
        assert "rule" in result or "deep" in result  # withheld in words
        return
    inner = json.loads(json.loads(result.payload)["value"])
    while isinstance(inner, str) and inner.startswith("["):
        (inner,) = json.loads(inner)
    assert inner != BOB
    assert "bob" not in inner


@pytest.mark.parametrize(
    "number", ["1e999999999", "-1e999999999", "1e-999999999", "9" * 5_000, "0." + "9" * 100_000, "1" + "0" * 100_000, "1E+400", "[1e400, 1e-400]"]
)  # fmt: skip
def test_numbers_that_would_be_large_if_written_out(number):
    coarse = rule(action="generalise", paths=("$",), round=10)
    numbers = Pattern(r"\d+", "digits", numbers=True)
    for value in (number, json.dumps([number]), f'[{number.strip("[]")}, "{BOB}"]'):
        for rules in ((rule(EMAIL), coarse), (coarse, rule(EMAIL)), (rule(numbers), rule(EMAIL)), (rule(EMAIL),)):
            result = outcome(value, *rules)
            text = result if isinstance(result, str) else result.payload.decode()
            assert BOB not in text
            assert len(text) < 300_000


def test_a_string_of_digits_is_not_turned_into_a_number():
    coarse = rule(action="generalise", paths=("$",), round=10, name="coarse")
    assert "'coarse'" in outcome("9" * 10_000_000, coarse)


@pytest.mark.parametrize("piece", ["1-", "1.", "-", "1", "1x", "2023-", "2023-11-14T", "2023-11-14T22:13:20."])
def test_generalise_of_a_long_text(piece):
    text = piece * (200_000 // len(piece)) + "x"
    for options in ({"round": 10}, {"time": "hour"}, {"time": "hour", "decimals": 1}):
        assert outcome(text, rule(action="generalise", paths=("$",), **options))


def test_a_long_key_and_long_levels():
    assert outcome({"k" * 1_000_000: "hunter2"}, rule(Under("password"), action="redact"))
    assert isinstance(outcome(1, state="a@" * 50_000), str)


def test_an_object_with_the_same_secret_in_many_places():
    shared = [BOB] * 1000
    message = outcome({str(number): shared for number in range(20)})
    assert BOB.encode() not in message.payload
    laughs = [BOB]
    for _ in range(13):
        laughs = [laughs, laughs]
    assert BOB.encode() not in outcome(laughs).payload


def test_an_array_of_many_strings_that_look_like_json():
    assert outcome([f'{{"{BOB}'] * 50_000)
    assert BOB.encode() not in outcome([f'{{"a":"{BOB}"}}'] * 50_000).payload


def test_metadata_of_the_same_kinds():
    done = engine(rule(EMAIL)).process([Metadata(None, "x", {"a@" * 500_000: BOB})], NOW)
    assert BOB.encode() not in done.messages[0].payload
