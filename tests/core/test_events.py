"""The JSON Lines format: what is taken, and that everything else is a short reason and never a crash."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from northbound.errors import EventRefused
from northbound.events import Cleared, EventDecoder, Metadata, State, event_at
from northbound.message import Address

DECODER = EventDecoder()
STATE = {
    "kind": "state",
    "org": "org-acme",
    "building": "bld-1",
    "level": "lvl-2",
    "area": None,
    "system": "sys-7",
    "driver": "dep-123",
    "module": "Display",
    "index": 1,
    "state": "power",
    "value": True,
    "time": 1700000000123,
}


def line(base=STATE, /, *, without=(), **changes):
    return json.dumps({key: value for key, value in base.items() if key not in without} | changes)


def raw(value):
    """Return a line whose value is this text, JSON or not."""
    return line(value="@").replace('"@"', value)


def reason_of(text, decoder=DECODER):
    with pytest.raises(EventRefused) as caught:
        decoder.decode(text)
    reason = str(caught.value)
    assert 5 < len(reason) < 300
    assert reason.isprintable()
    return reason


# what is taken


def test_the_documented_lines():
    lines = [
        '{"kind":"state","org":"org-acme","building":"bld-1","level":"lvl-2","area":null,"system":"sys-7","driver":"dep-123","module":"Display","index":1,"state":"power","value":true,"time":1700000000123}',
        '{"kind":"metadata","org":"org-acme","id":"sys-7","metadata":{"name":"Boardroom 7"}}',
        '{"kind":"cleared","org":"org-acme","building":"bld-1","level":"lvl-2","area":null,"system":"sys-7","driver":"dep-123","module":"Display","index":1,"state":"power"}',
    ]
    zones = ("bld-1", "lvl-2", None)
    expected = [
        State("org-acme", zones, "sys-7", "dep-123", "Display", 1, "power", True, 1700000000123),
        Metadata("org-acme", "sys-7", {"name": "Boardroom 7"}),
        Cleared("org-acme", zones, "sys-7", "dep-123", "Display", 1, "power"),
    ]
    assert DECODER.decode_all(lines) == (expected, [])
    assert DECODER.decode_all(text.encode() for text in lines) == (expected, [])


def test_zones_org_and_time_may_be_left_out():
    event = DECODER.decode(line(without=("org", "building", "level", "area", "time")))
    assert event == State(None, (None, None, None), "sys-7", "dep-123", "Display", 1, "power", True, None)


def test_an_entity_that_is_gone_has_null_as_metadata():
    assert DECODER.decode('{"kind":"metadata","id":"x","metadata":null}') == Metadata(None, "x", None)


@pytest.mark.parametrize("value", [None, False, 0, -1.5, 10**40, "", "é😀\0", [], {}, [1, {"a": None}]], ids=repr)
def test_any_json_value_is_a_value(value):
    assert DECODER.decode(line(value=value)).value == value


def test_of_a_key_that_comes_twice_the_last_one_counts():
    assert DECODER.decode(line()[:-1] + ',"org":"other"}').org == "other"
    assert DECODER.decode(raw('{"a":1,"a":2}')).value == {"a": 2}


@pytest.mark.parametrize(
    "hierarchy", [("org",), ("org", "site"), ("org", "region", "building", "level", "area", "desk_2")]
)
def test_zones_follow_the_hierarchy(hierarchy):
    names = hierarchy[1:]
    event = EventDecoder(hierarchy).decode(
        line(without=("building", "level", "area"), **{name: f"id of {name}" for name in names})
    )
    assert event.zones == tuple(f"id of {name}" for name in names)


def test_blank_lines_are_passed_over_and_positions_count_all():
    lines = [b"", line().encode(), b"  \r\n", b"{", line(index=2).encode(), "\n", "nonsense"]
    events, refused = DECODER.decode_all(lines)
    assert [event.index for event in events] == [1, 2]
    assert [position for position, _ in refused] == [3, 6]


def test_event_at_says_the_address():
    address = Address("o", ("b", None, "a"), "s", "d", "m", 3, "k")
    assert event_at(address, 5, 7) == State("o", ("b", None, "a"), "s", "d", "m", 3, "k", 5, 7)


# what is refused, and the words

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "truncated"),
        ("{", "truncated"),
        (line()[:-1], "truncated"),
        (line()[:30], "truncated"),
        ("\0", "malformed"),
        (b"\0" * 1000, "malformed"),
        (line() + "x", "trailing"),
        (line() + line(), "trailing"),
        ("[]", "object"),
        ("null", "object"),
        ("17", "object"),
        ('"text"', "object"),
        ("{}", "kind"),
        (b'\xef\xbb\xbf{"kind":"state"}', "byte order mark"),
        ("\ufeff" + line(), "byte order mark"),
        (b'{"kind":"state","system":"\xff"}', "UTF-8 at byte 26"),
        (b'{"kind":"state","value":"\xed\xa0\x80"}', "UTF-8 at byte 25"),
        (b"\xff\xfe{", "malformed"),
        (raw('"\ud800"'), "surrogate at character"),
        (raw(r'"\ud800"'), "surrogate pair"),
        (r'{"kind":"state","value":"\ud800"}', "half of a surrogate pair"),
        (raw(r'"\q"'), "malformed"),
        (raw('"a\nb"'), "malformed"),
        (raw(DEEP), "nested too deeply"),
        ('{"kind":"metadata","id":"x","metadata":{"a":' + DEEP + "}}", "nested too deeply"),
        (raw("NaN"), "malformed"),
        (raw("Infinity"), "malformed"),
        (raw("-Infinity"), "malformed"),
        (raw("1e400"), "value"),
        (raw("-1e400"), "value"),
        (raw("1" * 100_000), "value"),
        (raw("01"), "malformed"),
        (raw("'single'"), "malformed"),
        (line(kind=5), "kind"),
        (line(kind=None), "kind"),
        (line(kind="State"), "kind"),
        (line(without=["kind"]), "kind"),
        (line(org=5), "org"),
        (line(building=["x"]), "building"),
        (line(system=None), "system"),
        (line(system=""), "system"),
        (line(system={}), "system"),
        (line(without=["driver"]), "driver"),
        (line(module=True), "module"),
        (line(index="1"), "index"),
        (line(index=1.5), "index"),
        (line(index=True), "index"),
        (line(index=None), "index"),
        (line().replace('"index": 1', '"index": ' + "1" * 9999), "index"),
        (line(without=["state"]), "state"),
        (line(without=["value"]), "'value'"),
        (line(time="2026-01-01"), "time"),
        (line(time=1.5), "time"),
        (line(time=False), "time"),
        (line(region="r"), "unknown key 'region': the hierarchy here is org, building, level, area"),
        (line(sytem="s"), "unknown key 'sytem'"),
        (line(**{"x\n\x1b[31m`": 1}), "unknown key"),
        (line(**{"k" * 10_000: 1}), "unknown key of 10000 characters"),
        ('{"kind":"metadata","metadata":{}}', "'id'"),
        ('{"kind":"metadata","id":"","metadata":{}}', "'id'"),
        ('{"kind":"metadata","id":5,"metadata":{}}', "id"),
        ('{"kind":"metadata","id":"x"}', "'metadata'"),
        ('{"kind":"metadata","id":"x","metadata":[]}', "metadata"),
        ('{"kind":"metadata","id":"x","metadata":"name"}', "metadata"),
        ('{"kind":"cleared"}', "system, driver, module, index, state"),
    ],
    ids=lambda value: repr(value)[:50],
)
def test_what_is_malformed_has_a_reason_that_names_the_place(text, words):
    assert words in reason_of(text)
    if isinstance(text, str) and "\ud800" not in text:
        assert words in reason_of(text.encode())


def test_all_that_is_missing_is_named_at_once():
    assert reason_of(line(without=["driver", "index"], module="")) == "missing or empty: driver, module, index"


CANARY = "bob@example.com"


@pytest.mark.parametrize("key", [*STATE, "id", "metadata"])
@pytest.mark.parametrize("wrong", [CANARY, [CANARY], {CANARY: CANARY}, {"a": [CANARY]}])
@pytest.mark.parametrize("kind", ["state", "metadata", "cleared", CANARY])
def test_a_reason_tells_no_value(key, wrong, kind):
    text = line(STATE | {"kind": kind, key: wrong})
    events, refused = DECODER.decode_all([text, text[:-1], text[: len(text) // 2]])
    assert len(refused) == 3 - len(events) >= 2
    assert CANARY not in str(refused)


# nothing else ever escapes


def decode(text):
    try:
        event = DECODER.decode(text)
    except EventRefused as error:
        assert 0 < len(str(error)) < 300  # noqa: PT017 - either outcome is right, but a reason must be a reason
    else:
        assert isinstance(event, State | Metadata | Cleared)


@settings(max_examples=examples(300))
@given(st.binary(max_size=60) | st.text(max_size=40))
@example(b'{"\xff":1}')
@example("\udfff")
def test_random_input_never_crashes(text):
    decode(text)


GOOD = [
    line().encode(),
    line(value={"a": [1, "é", None]}).encode(),
    b'{"kind":"metadata","id":"x","metadata":{"name":"n"}}',
    line(without=["value"], kind="cleared").encode(),
]
SNIPPETS = [
    b"",
    b"\0",
    b"\xff",
    b'"',
    b"{",
    b"}",
    b"[",
    b",",
    b":",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"-",
    b"1e999",
    b"null",
    b"NaN",
]


@settings(max_examples=examples(400))
@given(
    st.sampled_from(GOOD),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9), st.sampled_from(SNIPPETS)), min_size=1, max_size=4),
)
def test_mutated_lines_never_crash(text, mutations):
    for where, removed, inserted in mutations:
        at = int(where * len(text))
        text = text[:at] + inserted + text[at + removed :]
    decode(text)


some_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=examples(200))
@given(st.dictionaries(st.sampled_from([*STATE, "id", "metadata", "more"]), some_json), st.sampled_from([*GOOD, b"{}"]))
def test_wrong_types_anywhere_never_crash(changes, base):
    decode(json.dumps(json.loads(base) | changes))


@settings(max_examples=examples(100))
@given(st.lists(st.sampled_from([*GOOD, b"", b"  ", b"{", b"\xff", b'{"kind":1}']), max_size=12))
def test_every_line_is_an_event_a_reason_or_blank(lines):
    events, refused = DECODER.decode_all(lines)
    assert len(events) == sum(text in GOOD for text in lines)
    assert [position for position, _ in refused] == [
        position for position, text in enumerate(lines) if text not in GOOD and text.strip()
    ]
