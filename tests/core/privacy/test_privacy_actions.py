"""What stands in place of what was found."""

import re
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from privacy_rules import EMAIL, SECRET, Pattern, after, rule, written

from northbound.privacy.actions import Generalise, Hash, Keep, Mask, Redact, action_of
from northbound.privacy.keys import Key, Keys
from northbound.privacy.options import RuleOptions
from northbound_detectors.coordinates import Coordinates

CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.text(CHARACTERS, min_size=1, max_size=40)
LONG_TEXTS = st.text(CHARACTERS, min_size=9, max_size=40)  # shorter ones may by chance be hex digits of their hash
BOB = "Bob@Example.com"
CANONICAL = "bob@example.com"


def action(name, *, keys=None, **options):
    return action_of(RuleOptions(name="r", action=name, **{"detect": ("email",), **options}), keys or Keys(SECRET))


def coarse(text, **options):
    return action("generalise", detect=(), states=("*",), **options).text(text, None, None)


# hash


def test_a_hash_is_of_the_canonical_form_where_there_is_one():
    key = Key(SECRET)
    assert action("hash").text(BOB, CANONICAL, EMAIL) == key.hash(CANONICAL)
    assert action("hash").text(BOB, None, EMAIL) == key.hash(BOB)
    assert action("hash", length=8, prefix="user:").text(BOB, CANONICAL, EMAIL) == f"user:{key.hash(CANONICAL, 8)}"
    assert action("hash", length=64).text(BOB, CANONICAL, EMAIL) == key.hash(CANONICAL, 64)


def test_the_hash_of_placeos_is_of_the_text_as_it_stands():
    made = action("hash", format="placeos", keys=Keys("secret"))
    assert made.text(CANONICAL, None, None) == "19d2874a5656a44394f7a94c5fa00a19a04fd9114939a49ed875ff70385f0352"
    assert made.text(BOB, CANONICAL, EMAIL) == Key("secret").digest(BOB)
    assert made.forms == []


def test_in_an_overlap_a_value_has_both_hashes_and_a_topic_one():
    made = action("hash", prefix="u:", keys=Keys("new", "old", until=1000))
    new, old = f"u:{Key('new').hash(BOB)}", f"{Key('old').hash(BOB)}"
    assert made.begin(999) is True
    assert made.overlap
    assert made.text(BOB, None, None) == f"{new}~{old}"
    assert made.text(BOB, None, None, form="topic") == new
    assert made.text(BOB, None, None, form="previous") == f"u:{old}"
    assert made.begin(999) is False
    assert made.begin(1000) is True
    assert not made.overlap
    assert made.text(BOB, None, None) == new
    assert made.forms == [("u:", Key("new").id, 32), ("u:", Key("old").id, 32)]


@given(LONG_TEXTS)
def test_a_hash_never_contains_what_it_stands_for(text):
    assert text not in action("hash").text(text, None, None)
    assert text.casefold() not in action("hash").text(text, None, None)


# mask


@pytest.mark.parametrize(
    ("options", "text", "masked"),
    [
        ({}, "bob@example.com", "b***@***.com"),
        ({"keep_last": 4}, "4111111111111111", "***1111"),
        ({"keep_first": 2}, "secret", "se***"),
        ({"keep_first": 1, "keep_last": 1}, "secret", "s***t"),
        ({"keep_first": 0}, "secret", "***"),
        ({"keep_last": 0}, "secret", "***"),
        ({"keep_first": 3, "keep_last": 3}, "secret", "***"),  # it would keep all of it
        ({"keep_first": 64, "keep_last": 64}, "secret", "***"),
        ({"keep_first": 3, "keep_last": 2}, "secret", "sec***et"),
    ],
)
def test_a_mask_shows_what_it_is_asked_to(options, text, masked):
    assert action("mask", **options).text(text, None, EMAIL) == masked


def test_without_a_detector_and_without_what_to_keep_a_mask_shows_nothing():
    assert action("mask").text("bob@example.com", None, None) == "***"


@given(TEXTS, st.integers(0, 8), st.integers(0, 8))
def test_a_mask_never_shows_more_than_it_says_and_masking_again_changes_nothing(text, first, last):
    made = action("mask", keep_first=first, keep_last=last)
    masked = made.text(text, None, None)
    assert made.text(masked, None, None) == masked
    assert len(masked) <= first + last + 3
    if "***" not in text:
        assert masked in {"***", f"{text[:first]}***{text[len(text) - last :]}"}
        assert masked == "***" or first + last < len(text)


# redact, drop, allow


def test_a_redacted_text_is_the_placeholder():
    assert action("redact").text("x", None, None) == "[redacted]"
    assert action("redact", placeholder="").text("x", None, None) == ""


@pytest.mark.parametrize(
    ("name", "kind"),
    [("hash", Hash), ("mask", Mask), ("redact", Redact), ("drop", Keep), ("allow", Keep), ("generalise", Generalise)],
)
def test_each_action_is_made_by_its_name(name, kind):
    made = action(name, **({"round": 1} if name == "generalise" else {}))
    assert type(made) is kind
    assert made.replaces == (kind is not Keep)
    assert kind is Hash or made.begin(5) is False


# generalise


@pytest.mark.parametrize(
    ("options", "text", "result"),
    [
        ({"round": 10}, "37", "40"),
        ({"round": 10}, "35", "40"),
        ({"round": 10}, "25", "20"),
        ({"round": 10}, "-37", "-40"),
        ({"round": 10}, "-3", "0"),
        ({"round": 0.5}, "21.37", "21.5"),
        ({"round": 0.5}, "21", "21"),
        ({"round": 0.1}, "0.30000000000000004", "0.3"),
        ({"round": 1000}, "1e5", "100000"),
        ({"round": 1000}, "1.5E3", "2000"),
        ({"round": 1}, "0", "0"),
        ({"round": 1}, "-0.0", "0"),
        ({"buckets": (0, 5, 10)}, "7", "5"),
        ({"buckets": (0, 5, 10)}, "10", "10"),
        ({"buckets": (0, 5, 10)}, "1000", "10"),
        ({"buckets": (0, 5, 10)}, "-3", "0"),  # below all of them is in the first
        ({"buckets": (0.5, 2.5)}, "2.4999", "0.5"),
        ({"decimals": 2}, "51.507351", "51.51"),
        ({"decimals": 0}, "51.507351", "52"),
        ({"decimals": 3}, "-0.127758", "-0.128"),
        ({"decimals": 2}, "5", "5"),
        ({"round": 5}, "12 people in 3 rooms", "10 people in 5 rooms"),
        ({"decimals": 1}, "51.5074,-0.1278", "51.5,-0.1"),
        ({"round": 5}, "v1.2.3 of x86", "v1.2.3 of x86"),
        ({"round": 5}, "nothing", "nothing"),
        ({"round": 10}, "17ppl, 21.53C", "20ppl, 20C"),
        ({"round": 10}, "3d4f-12a4b 12_3 1.2.3", "3d4f-12a4b 12_3 1.2.3"),
    ],
)
def test_numbers_become_coarser(options, text, result):
    assert coarse(text, **options) == result


@pytest.mark.parametrize(
    ("step", "text", "result"),
    [
        ("hour", "2023-11-14T22:13:20Z", "2023-11-14T22:00:00Z"),
        ("hour", "2023-11-14T22:13:20.123456Z", "2023-11-14T22:00:00Z"),
        ("hour", "2023-11-14T22:13:20,5+05:30", "2023-11-14T22:00:00+05:30"),
        ("hour", "2023-11-14t22:13:20-08:00", "2023-11-14t22:00:00-08:00"),
        ("hour", "2023-11-14 22:13", "2023-11-14 22:00"),
        ("hour", "2023-11-14", "2023-11-14"),
        ("minute", "2023-11-14T22:13:59.9Z", "2023-11-14T22:13:00Z"),
        ("day", "2023-11-14T22:13:20Z", "2023-11-14T00:00:00Z"),
        ("month", "2023-11-14T22:13:20Z", "2023-11-01T00:00:00Z"),
        ("year", "2023-11-14T22:13:20Z", "2023-01-01T00:00:00Z"),
        ("year", "2023-11-14", "2023-01-01"),
        ("hour", "2016-12-31T23:59:60Z", "2016-12-31T23:00:00Z"),
        ("day", "from 2023-11-14T22:13:20Z to 2023-11-15 01:02", "from 2023-11-14T00:00:00Z to 2023-11-15 00:00"),
        ("hour", "1700000000", "1699999200"),
        ("hour", "1700000000123", "1699999200000"),
        ("minute", "1700000000.75", "1699999980"),
        ("day", "1700000000", "1699920000"),
        ("month", "1700000000", "1698796800"),
        ("year", "1700000000000", "1672531200000"),
        ("hour", "12", "12"),
        ("hour", "noon", "noon"),
        ("hour", "20231114T221320Z", "20231114T220000Z"),
        ("day", "20231114T2213+0530", "20231114T0000+0530"),
        ("month", "20231114t221320.5", "20231101t000000"),
        ("hour", "2023-318T22:13:20Z", "2023-318T22:00:00Z"),
        ("hour", "Tue, 14 Nov 2023 22:13:20 +0000", "Tue, 14 Nov 2023 22:00:00 +0000"),
        ("hour", "9:47 to 10:13", "9:00 to 10:00"),
        ("day", "22:13-23:47", "00:00-00:00"),
        ("day", "2023-11-14T22:13-08:30", "2023-11-14T00:00-08:30"),
        ("hour", "1700000000123 x", "1699999200000 x"),
        ("hour", "+442079460018 a1700000000 aa:11:22:33:44:55", "+442079460018 a1700000000 aa:11:22:33:44:55"),
    ],
)
def test_times_go_to_the_beginning_of_their_step_in_their_own_form(step, text, result):
    assert coarse(text, time=step) == result


def test_of_time_and_numbers_a_text_with_a_time_is_a_time():
    assert coarse("2023-11-14T22:13:20Z", time="hour", round=10) == "2023-11-14T22:00:00Z"
    assert coarse("37", time="hour", round=10) == "40"


@pytest.mark.parametrize(
    ("options", "found", "result"),
    [
        ({"decimals": 1}, "51.5074N 0.1278W", "51.5N 0.1W"),
        ({"decimals": 1}, "N51.5074 W0.1278", "N51.5 W0.1"),
        ({"decimals": 1}, "51.5074° N, 0.1278° W", "51.5° N, 0.1° W"),
        ({"decimals": 1}, "+51.5074-000.1278/", "+51.5-0.1/"),
        ({"decimals": 1}, "51.5,-0.1", "51.5,-0.1"),
        ({"decimals": 1}, "51.5074", "51.5"),
        ({"round": 10}, "17ppl", "20ppl"),
        ({"round": 10}, "door-17", "door-20"),
        ({"round": 10}, "a17b", "a20b"),
        ({"time": "hour"}, "2023-11-14T22:13:20Z", "2023-11-14T22:00:00Z"),
        ({"time": "hour"}, "at 22:13", "at 22:00"),
        *(
            ({"decimals": 1, "time": "month"}, text, "***")
            for text in (
                "51°30'26\"N 0°7'39\"W", "+513026-0000739/", "192.0.2.17", "2001:db8::1", "aa:bb:cc:11:22:33",
                "Jane Doe", "jane4@example.com", "123e4567-e89b-12d3-a456-426614174000", "door 0018", "51%2E5074",
                "Tue, 14 Nov 2023 22:13", "***",
            )
        ),
    ],
)  # fmt: skip
def test_what_a_detector_found_and_no_number_or_time_is_becomes_a_mask(options, found, result):
    made = action("generalise", detect=("x",), **options)
    assert made.text(found, None, None) == result
    assert made.text(result, None, None) == result


@pytest.mark.parametrize(
    "value",
    [
        "51°30'26\"N 0°7'39\"W",
        {"lon": "51.5074N"},
        [{"lat": "N 51.5074"}],
        {"lat": 51.5074},
        {"at": [51.5074, 9.3939]},
    ],
)
def test_a_position_that_is_generalised_is_exact_no_more(value):
    detector = Coordinates(None, name="coordinates")
    left = written(value, rule(detector, action="generalise", decimals=1))
    assert not {"5074", "30", "39"} & set(re.findall(r"\d+", left))


def test_a_number_in_which_something_was_found_becomes_a_mask():
    found = Pattern("23", "found", numbers=True)
    assert after({"a": 1234.5}, rule(found, action="generalise", time="hour")) == {"a": "1***4.5"}


def test_the_time_of_a_message_goes_to_the_beginning_of_its_step():
    made = action("generalise", time="hour", message_time=True)
    assert made.coarse_ms(1_700_000_000_123) == 1_699_999_200_000
    assert made.coarse_ms(0) == 0
    assert made.coarse_ms(253_402_300_799_999) == 253_402_297_200_000


@pytest.mark.parametrize("text", ["1e31", "-1e400", "1" * 31, "1e999999999", "9" * 100_000, "0." + "1" * 40])
def test_a_number_beyond_reason_is_refused_not_shown(text):
    with pytest.raises(ValueError, match="digits"):
        coarse(text, round=10)


NUMBERS = st.one_of(
    st.integers(-(10**15), 10**15).map(str),
    st.decimals(-(10**9), 10**9, allow_nan=False, places=6).map(str),
    st.floats(-1e12, 1e12).filter(lambda value: value == 0 or abs(value) > 1e-9).map(repr),
)
WAYS = st.one_of(
    st.sampled_from([0.1, 0.25, 0.5, 1, 3, 7, 10, 1000]).map(lambda value: {"round": value}),
    st.lists(st.integers(-50, 50), min_size=1, max_size=5, unique=True).map(
        lambda edges: {"buckets": tuple(sorted(edges))}
    ),
    st.integers(0, 12).map(lambda value: {"decimals": value}),
    st.sampled_from(["minute", "hour", "day", "month", "year"]).map(lambda step: {"time": step}),
)


@given(NUMBERS, WAYS)
def test_a_coarse_number_is_coarse_already(text, way):
    assume("time" not in way or not text.lstrip("-").startswith(("1" + "0" * 10, "9")))
    once = coarse(text, **way)
    Decimal(once)
    assert coarse(once, **way) == once


@given(
    st.datetimes(),
    st.sampled_from(["", "Z", "+02:00", ".5Z"]),
    st.sampled_from(["minute", "hour", "day", "month", "year"]),
)
def test_a_coarse_time_is_coarse_already_and_says_nothing_finer(moment, zone, step):
    once = coarse(f"{moment:%Y-%m-%dT%H:%M:%S}".zfill(19) + zone, time=step)
    assert coarse(once, time=step) == once
    at = {"minute": 17, "hour": 14, "day": 11, "month": 8, "year": 5}[step]
    assert set(once[at:19]) <= set("01-T:")
    assert "." not in once


@given(NUMBERS, st.integers(1, 1000))
def test_a_rounded_number_is_the_nearest_multiple(text, step):
    result = Decimal(coarse(text, round=step))
    assert result % step == 0
    assert abs(result - Decimal(text)) <= Decimal(step) / 2


def test_generalise_takes_one_way_with_numbers_for_two_do_not_end():
    """With two, what the first leaves may be changed by the other, and the other way round, each time anew."""
    for way, text in (
        ({"round": 10, "buckets": (0, 5, 15)}, "14"),
        ({"buckets": (0, 0.25), "decimals": 1}, "0.3"),
    ):
        try:
            once = coarse(text, **way)
        except ValueError:
            continue  # refused in the options
        assert coarse(once, **way) == once
