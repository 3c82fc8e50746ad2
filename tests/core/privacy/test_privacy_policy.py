"""Rules over topics and values: their order, their reach, and what they leave alone."""
# ruff: noqa: E501 - in a table of what a detector may do wrong each is one word

import json
import re

import pytest
from privacy_rules import (
    EMAIL,
    NOW,
    SCHEME,
    SECRET,
    Pattern,
    Spans,
    Under,
    after,
    engine,
    policy,
    refusal,
    rule,
    state,
    written,
)

from northbound import Detector, Found
from northbound.engine import Engine
from northbound.events import Cleared, Metadata, State
from northbound.fields import NoOptions
from northbound.message import Address
from northbound.privacy.keys import Key
from northbound.privacy.policy import Act
from northbound.topics import MetadataAddress, TopicScheme

BOB = "bob@example.com"
HASHED = Key(SECRET).hash(BOB)


def redact(*detectors, name="redact", **options):
    return rule(*detectors, action="redact", name=name, **options)


def allow(*detectors, name="allow", **options):
    return rule(*detectors, action="allow", name=name, **options)


# order


def test_the_first_rule_that_matches_acts():
    first, second = rule(EMAIL, action="mask", name="first"), redact(EMAIL)
    assert after(f"to {BOB}", first, second) == "to b***@***.com"
    assert after(f"to {BOB}", second, first) == "to [redacted]"


def test_what_is_allowed_is_left_alone_by_later_rules_only():
    company = Pattern(r"\w+@acme\.com", "company")
    text = "bob@example.com, ann@acme.com"
    assert after(text, allow(company), redact(EMAIL)) == "[redacted], ann@acme.com"
    assert after(text, redact(EMAIL), allow(company)) == "[redacted], [redacted]"


def test_a_match_that_reaches_beyond_what_is_allowed_is_acted_on():
    assert after("ann@acme.com.evil.org", allow(Pattern(r"ann@acme\.com", "company")), redact(EMAIL)) == "[redacted]"


def test_two_allowed_pieces_side_by_side_do_not_make_a_longer_one():
    text = "ann@acme.com"
    assert (
        after(text, allow(Pattern("ann@", "left")), allow(Pattern(r"acme\.com", "right")), redact(EMAIL))
        == "[redacted]"
    )
    assert after(text, allow(Pattern("ann@ac", "left")), allow(Pattern(r"acme\.com", "right")), redact(EMAIL)) == text


def test_of_a_match_partly_replaced_already_the_rest_is_acted_on():
    inner, outer = Pattern("b+", "inner"), Pattern("[a-c]+", "outer")
    mask = rule(inner, action="mask", name="mask")
    assert after("-aabbcc-", mask, redact(outer, placeholder="#")) == "-#***#-"
    assert after("-bbcc-", mask, redact(outer, placeholder="#")) == "-***#-"
    assert after("-aabb-", mask, redact(outer, placeholder="#")) == "-#***-"
    assert after("-bb-", mask, redact(outer, placeholder="#")) == "-***-"
    assert after("-abcba-", mask, redact(outer, placeholder="#")) == "-#***#***#-"


def test_the_rest_of_a_hidden_match_is_not_shown():
    hidden = "%61%61bb%63%63"
    result = after(
        hidden,
        rule(Pattern("bb", "inner"), action="mask", name="mask"),
        redact(Pattern("[a-c]+", "outer"), placeholder="#"),
    )
    assert "%" not in result
    assert "cc" not in result


def test_overlapping_matches_of_one_rule_are_one():
    one, two = Pattern("abc", "one"), Pattern("cde", "two")
    assert after("xabcdex", redact(one, two)) == "x[redacted]x"
    assert after("xabcdex", rule(one, two)) == f"x{Key(SECRET).hash('abcde')}x"
    assert after("xabcdex", rule(one, two, action="mask")) == "x***x"


def test_what_covers_all_of_it_says_what_it_is():
    small, large = Pattern("B", "small"), Pattern("aBc", "large", canonical=str.lower)
    assert after("aBc", rule(small, large)) == Key(SECRET).hash("abc")
    assert after("aBc", rule(large, small)) == Key(SECRET).hash("abc")


def test_matches_side_by_side_are_two():
    assert after("abab", redact(Pattern("ab", "ab"), placeholder="#")) == "##"
    assert after("abba", redact(Pattern("ab", "ab"), Pattern("ba", "ba"), placeholder="#")) == "##"


@pytest.mark.timeout(30)
def test_long_chains_of_overlapping_matches_take_time_in_line_with_their_length():
    left = Spans(lambda text: [Found(at, at + 600) for at in range(0, len(text) - 1200, 1000)], "left")
    right = Spans(lambda text: [Found(at + 500, at + 1100) for at in range(0, len(text) - 1200, 1000)], "right")
    acting = rule(left, right, action="redact", paths=("$",), placeholder="#")
    assert len(after("x" * 20_000_000, acting)) < 1000


# what a match is


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("to bob%40example.com now", f"to {HASHED} now"),
        (r"to bob\u0040example.com now", f"to {HASHED} now"),
        ("to bob\uff20example\u3002com now", f"to {HASHED} now"),
        ("to b\u200bob@exam\u00adple.com now", f"to {HASHED} now"),
        ("to BOB@Example.COM now", f"to {HASHED} now"),
        ("to bob&#64;example.com now", f"to {HASHED} now"),
        ("50% of bob@example.com \\o/ &co", f"50% of {HASHED} \\o/ &co"),
        ("bob@example.com%20and%20ann", f"{HASHED}%20and%20ann"),
    ],
)
def test_a_match_is_hashed_alike_in_every_disguise_and_the_rest_is_left(text, result):
    assert after(text, rule(EMAIL)) == result


@pytest.mark.parametrize("letter", "bfnrtux")
def test_a_backslash_before_an_address_takes_none_of_its_letters(letter):
    """As in DOMAIN\\user: what reads as an escape is the beginning of the address."""
    address = f"{letter}ob@example.com"
    result = after(f"ACME\\{address}", rule(EMAIL))
    assert address[1:] not in result
    assert Key(SECRET).hash(address) in result


def test_a_match_only_as_written_counts_too():
    assert after("x%41y", redact(Pattern("%41", "percent"))) == "x[redacted]y"


def test_a_hash_of_our_own_is_never_looked_into():
    own = Key(SECRET).hash("anything")
    everything = Pattern(r"\S+", "everything")
    assert after(own, rule(everything), redact(everything)) == own
    assert after(f"a {own} b", redact(everything, placeholder="#"), rule(EMAIL)) == f"# {own} #"
    foreign = Key("another").hash("anything")
    assert after(foreign, rule(everything)) == Key(SECRET).hash(foreign)


def test_hashes_of_the_previous_key_are_own_ones_too():
    old, new = Key("old").hash("x"), Key("new").hash("x")
    everything = Pattern(r"\S+", "everything")
    both = rule(everything, secret="new", previous="old", until=NOW + 1, paths=("$",))
    assert after(f"{old} {new} {new}~{old}", both) == f"{old} {new} {new}~{old}"
    assert after("x", both) == f"{new}~{old}"
    assert after("x", rule(everything, secret="new", previous="old", until=NOW, paths=("$",))) == new


# scopes


def test_redact_takes_the_text_the_value_or_the_key():
    value = {"who": f"to {BOB}", "n": 1}
    assert after(value, redact(EMAIL)) == {"who": "to [redacted]", "n": 1}
    assert after(value, redact(EMAIL, scope="value")) == {"who": "[redacted]", "n": 1}
    assert after(value, redact(EMAIL, scope="value", null=True)) == {"who": None, "n": 1}
    assert after(value, redact(EMAIL, scope="key")) == {"n": 1}
    assert after(value, redact(EMAIL, placeholder="")) == {"who": "to ", "n": 1}


def test_redact_of_a_key_with_its_value():
    value = {BOB: 1, "n": BOB}
    assert after(value, redact(EMAIL)) == {"[redacted]": 1, "n": "[redacted]"}
    assert after(value, redact(EMAIL, scope="value")) == {"[redacted]": 1, "n": "[redacted]"}
    assert after(value, redact(EMAIL, scope="key")) == {}


def test_redact_of_a_key_within_arrays_leaves_their_members_out():
    assert after([1, BOB, [BOB], {"a": BOB}], redact(EMAIL, scope="key")) == [1, [], {}]
    assert after(BOB, redact(EMAIL, scope="key")) is None


def test_whole_places_are_redacted_whatever_they_hold():
    value = {"a": {"b": [1, "x"]}, "c": True, "d": None, "e": "", "f": 1.5, "g": [], "h": "kept"}
    paths = ("$.a", "$.c", "$.e", "$.f", "$.g")
    result = after(value, redact(paths=paths, scope="value"))
    assert result["a"] == result["c"] == result["f"] == result["g"] == "[redacted]"
    assert result["h"] == "kept"
    assert after(value, redact(paths=("$.a", "$.c", "$.f", "$.g"), scope="key")) == {"d": None, "e": "", "h": "kept"}


def test_a_whole_place_is_hashed_leaf_by_leaf():
    key = Key(SECRET)
    value = {"a": {"b": [1, "x", True], "c": None}, "d": "x"}
    assert after(value, rule(paths=("$.a",))) == {
        "a": {"b": [key.hash("1"), key.hash("x"), key.hash("true")], "c": None},
        "d": "x",
    }


# order of whole rules


def test_an_allowed_place_is_out_of_reach_of_the_rules_behind():
    value = {"contact": {"support": BOB, "deep": [BOB]}, "who": BOB}
    rules = (allow(paths=("$.contact",)), redact(EMAIL))
    assert after(value, *rules) == {"contact": value["contact"], "who": "[redacted]"}
    assert after(value, *reversed(rules)) == {
        "contact": {"support": "[redacted]", "deep": ["[redacted]"]},
        "who": "[redacted]",
    }


def test_an_allowed_topic_is_out_of_reach_of_the_rules_behind():
    rules = (allow(states=("support",)), redact(EMAIL))
    assert after(BOB, *rules, state="support") == BOB
    assert after(BOB, *rules, state="other") == "[redacted]"


# values


def test_every_string_at_any_depth_and_every_key():
    value = {"a": [{"b": {"c": ("x", BOB)}}, [[BOB]]], f"key of {BOB}": {BOB: BOB}}
    text = written(value, rule(EMAIL))
    assert BOB not in text
    assert text.count(HASHED) == 5
    assert json.loads(text)["a"] == [{"b": {"c": ["x", HASHED]}}, [[HASHED]]]


def test_keys_that_become_alike_keep_all_members():
    value = {f"u{number}@example.com": number for number in range(50)} | {"[redacted]": "taken", "[redacted]~2": "too"}
    result = after(value, redact(EMAIL))
    assert sorted(map(str, result.values())) == sorted([*map(str, range(50)), "taken", "too"])
    assert len(result) == 52


@pytest.mark.timeout(60)
def test_keys_that_become_alike_take_time_in_line_with_their_number():
    value = {f"u{number}@example.com": number for number in range(100_000)}
    for acting in (redact(EMAIL), rule(EMAIL, action="mask")):
        assert len(after(value, acting)) == 100_000


def test_str_subclasses_are_looked_at_or_refused():
    class Name(str):
        __slots__ = ()

    for value in (Name(BOB), [Name(BOB)], {"a": Name(BOB)}, {Name(BOB): 1}):
        done = engine(rule(EMAIL)).process([state(value)], NOW)
        assert BOB not in str(done.refused)
        assert all(BOB.encode() not in message.payload for message in done.messages)


def test_strings_that_hold_json_are_looked_into():
    value = json.dumps({"note": json.dumps([BOB, {"email": BOB}]), "n": 1.0})
    result = after(value, rule(EMAIL))
    assert json.loads(json.loads(result)["note"]) == [HASHED, {"email": HASHED}]
    spaced = ' \n [ "bob\\u0040example.com" ] '
    assert json.loads(after(spaced, rule(EMAIL))) == [HASHED]


def test_json_in_a_string_keeps_the_digits_of_its_numbers():
    text = f'["{BOB}", 1.10, 12345678901234567890123, 0.1234567890123456789, 1.0, 9007199254740993]'
    assert (
        after(text, redact(EMAIL))
        == '["[redacted]",1.10,12345678901234567890123,0.1234567890123456789,1.0,9007199254740993]'
    )


def test_json_in_a_string_without_a_match_stays_as_it_is():
    text = '{ "a" : 1.10, "b": "x@" }'
    assert after(text, redact(EMAIL)) == text


@pytest.mark.parametrize(
    "text",
    [
        '{"a":"bob@example.com","a":"x"}',
        '{"a":"x","a":"bob@example.com"}',
        '[{"a":{"b":"bob@example.com"},"a":[]}]',
        '{"bob@example.com":1,"a":"x","a":"y"}',
    ],
)
def test_a_key_that_comes_twice_in_a_string_that_holds_json_hides_nothing(text):
    assert BOB not in after(text, rule(EMAIL))
    assert BOB not in json.dumps(after({"x": [text]}, redact(EMAIL)))


@pytest.mark.parametrize(
    "text",
    [
        '{"password":"hunter2","password":"***"}',
        '{"password":"***","password":"hunter2"}',
        '{"password":1,"password":2,"password":["hunter2"]}',
    ],
)
def test_a_secret_under_a_key_that_comes_twice_is_found(text):
    assert "hunter2" not in after(text, redact(Under("password")))
    assert "hunter2" not in after({"s": text}, redact(paths=("$.s.password",)))["s"]


def test_a_secret_is_found_under_its_key_at_any_depth_and_in_json_in_a_string():
    under = redact(Under("password"))
    assert after({"password": "hunter2", "user": "hunter2"}, under) == {"password": "[redacted]", "user": "hunter2"}
    assert after({"password": [["hunter2"]]}, under) == {"password": [["[redacted]"]]}
    assert after({"PassWord": "hunter2"}, under) == {"PassWord": "[redacted]"}
    assert after({"pass%77ord": "hunter2"}, under) == {"pass%77ord": "[redacted]"}
    assert after({"x": '{"password": "hunter2"}'}, under) == {"x": '{"password":"[redacted]"}'}
    assert after({"x": r'{"pass\u0077ord": "hunter2"}'}, under) == {"x": '{"password":"[redacted]"}'}
    assert after("hunter2", under, state="password") == "[redacted]"
    assert after(["hunter2"], under, state="Password") == ["[redacted]"]


@pytest.mark.parametrize("key", ["pass%77ord", "\uff50assword", r"pass\u0077ord", "pass\u200bword"])
def test_a_status_key_is_shown_to_detectors_in_its_plain_form(key):
    assert after("hunter2", redact(Under("password")), state=key) == "[redacted]"


def test_numbers_are_looked_at_by_detectors_that_ask_for_them():
    badge = Pattern(r"\b4711\d*", "badge", numbers=True)
    value = {"a": 4711, "b": 471155, "c": 4711.5, "d": "4711", "e": True, "f": 12}
    assert after(value, redact(badge)) == {
        "a": "[redacted]",
        "b": "[redacted]",
        "c": "[redacted].5",
        "d": "[redacted]",
        "e": True,
        "f": 12,
    }
    assert after(value, redact(Pattern(r"\b4711\d*", "text only"))) == value | {"d": "[redacted]"}
    assert after(4711, rule(badge)) == Key(SECRET).hash("4711")


def test_a_coarse_number_stays_a_number_of_its_kind():
    value = {"n": 37, "f": 21.37, "s": "37 people", "t": True, "x": None, "deep": [{"n": 44}]}
    result = written(value, rule(action="generalise", paths=("$",), round=10))
    assert result == '{"n":40,"f":20,"s":"40 people","t":true,"x":null,"deep":[{"n":40}]}'
    assert written(7, rule(action="generalise", states=("count",), buckets=(0, 5, 10)), state="count") == "5"
    text = '{"n": 37.25, "m": 1.10}'
    assert after({"s": text}, rule(action="generalise", paths=("$.s.n",), round=10)) == {"s": '{"n":40,"m":1.10}'}


@pytest.mark.parametrize(
    "text",
    [BOB, f"call {BOB}", f"37 people ask {BOB}", f"2023-11-14T22:13:20Z {BOB}", f'[37, "{BOB}"]', f'{{"{BOB}": 1}}'],
)
@pytest.mark.parametrize("options", [{"round": 10}, {"time": "hour"}])
def test_generalise_shields_no_text_from_the_rules_behind(text, options):
    coarse = rule(action="generalise", states=("power",), name="coarse", **options)
    assert BOB not in after(text, coarse, rule(EMAIL))
    assert BOB not in after({"a": [text]}, coarse, redact(EMAIL))["a"][0]


def test_paths_lead_into_strings_that_hold_json():
    assert after({"s": '{"who": "ann", "n": 1}'}, redact(paths=("$.s.who",))) == {"s": '{"who":"[redacted]","n":1}'}


def test_a_number_that_cannot_be_made_coarser_withholds_the_event():
    reason = refusal({"n": 1e300}, rule(action="generalise", paths=("$.n",), round=10, name="coarse"))
    assert "'coarse'" in reason
    assert "300" not in reason


def test_deep_values_pass_or_are_refused():
    value = BOB
    for _ in range(150):
        value = {"k": [value]}
    assert BOB not in written(value, rule(EMAIL))
    for _ in range(2000):
        value = [value]
    assert "deep" in refusal(value, rule(EMAIL))


# where a rule looks


def test_paths_say_where_in_a_value():
    value = {"organiser": {"email": BOB}, "guests": [{"email": BOB}, {"name": BOB}], "email": BOB}
    assert after(value, redact(EMAIL, paths=("$.organiser", "$.guests[*].name"))) == {
        "organiser": {"email": "[redacted]"},
        "guests": [{"email": BOB}, {"name": "[redacted]"}],
        "email": BOB,
    }


def test_states_topics_kinds_say_which_messages():
    events = [state(BOB, state="Booking_1"), state(BOB, state="power"), Metadata(None, "x", {"name": BOB})]

    def acted(**options):
        done = engine(redact(EMAIL, **options)).process(events, NOW)
        return [BOB.encode() not in message.payload for message in done.messages]

    assert acted() == [True, True, True]
    assert acted(states=("booking_*",)) == [True, False, False]
    assert acted(states=("BOOKING_?", "power")) == [True, True, False]
    assert acted(states=("booking",)) == [False, False, False]
    assert acted(kinds=("metadata",)) == [False, False, True]
    assert acted(kinds=("state",), states=("power",)) == [False, True, False]
    assert acted(topics=("placeos/+/metadata/#",)) == [False, False, True]
    assert acted(topics=("placeos/#",), states=("power",)) == [False, True, False]


LEVELS = ("org", "building", "level", "area", "system", "driver", "module", "state")


def everywhere(text):
    return State(text, (text, text, text), text, text, text, 1, text, 1)


@pytest.mark.parametrize("level", LEVELS)
def test_levels_say_where_in_a_topic(level):
    (message,) = engine(rule(EMAIL, levels=(level,))).process([everywhere(BOB)], NOW).messages
    address = SCHEME.parse(message.topic)
    found = dict(
        zip(
            LEVELS,
            (address.org, *address.zones, address.system, address.driver, address.module, address.state),
            strict=True,
        )
    )
    assert found == {name: HASHED if name == level else BOB for name in LEVELS}


def test_without_levels_and_paths_a_rule_looks_at_every_level_of_a_topic():
    (message,) = engine(rule(EMAIL)).process([everywhere(f"x {BOB}/+#%")], NOW).messages
    hashed = f"x {HASHED}/+#%"
    assert SCHEME.parse(message.topic) == Address(hashed, (hashed,) * 3, hashed, hashed, hashed, 1, hashed)
    (message,) = engine(rule(EMAIL)).process([Metadata(BOB, BOB, {"a": 1})], NOW).messages
    assert SCHEME.parse(message.topic) == MetadataAddress(HASHED, HASHED)


def test_with_paths_alone_topics_are_left_alone_and_with_levels_alone_values():
    event = state(BOB, state=BOB)
    (message,) = engine(redact(EMAIL, paths=("$",))).process([event], NOW).messages
    assert BOB in message.topic
    assert BOB.encode() not in message.payload
    (message,) = engine(redact(EMAIL, levels=("state",))).process([event], NOW).messages
    assert BOB not in message.topic
    assert BOB.encode() in message.payload
    (message,) = engine(redact(EMAIL, levels=("state",), paths=("$",))).process([event], NOW).messages
    assert BOB not in message.topic
    assert BOB.encode() not in message.payload


def test_the_id_of_metadata_is_a_level():
    (message,) = engine(redact(levels=("id",))).process([Metadata(None, "sys-7", {"name": "x"})], NOW).messages
    assert message.topic == "placeos/org-acme/metadata/[redacted]"


@pytest.mark.parametrize("options", [
    {"scope": "value"}, {"scope": "key"}, {"placeholder": ""}, {"scope": "value", "null": True}, {"placeholder": "a/b+#%\0"}, {"placeholder": "_"}, {"placeholder": "\uffff x"},
])  # fmt: skip
def test_a_topic_stays_one_whatever_takes_a_level_s_place(options):
    (message,) = engine(redact(EMAIL, **options)).process([everywhere(BOB)], NOW).messages
    address = SCHEME.parse(message.topic)
    assert address is not None
    assert address.zones[0] is not None
    assert BOB not in message.topic
    (again,) = engine(redact(EMAIL, **options)).process([everywhere(BOB)], NOW).messages
    assert again.topic == message.topic


def test_a_topic_that_becomes_too_long_is_refused():
    reason = refusal(1, redact(Pattern("x", "x"), placeholder="y" * 80), module="x" * 1000)
    assert "65535" in reason


def test_a_state_and_its_clearing_have_one_topic():
    place = (BOB, (BOB, None, "x"), "sys", "drv", f"of {BOB}", 3, BOB)
    for acting in (rule(EMAIL), redact(EMAIL), rule(EMAIL, action="mask"), rule(levels=("module",))):
        done = engine(acting).process([State(*place, 1), Cleared(*place), State(*place, 2), Cleared(*place)], NOW)
        assert len({message.topic for message in done.messages}) == 1
        assert [bool(message.payload) for message in done.messages] == [True, False, True, False]


def test_plans_of_topics_are_not_mixed():
    site = engine(rule(EMAIL), redact(Under("power"), states=("power",)))
    for _ in range(2):
        events = [state("x", state=name, org=org) for name in (BOB, "power", "volume") for org in ("a", "b", BOB)]
        topics = [message.topic for message in site.process(events, NOW).messages]
        assert len(set(topics)) == 9
        assert topics == [
            message.topic
            for event in events
            for message in engine(rule(EMAIL), redact(Under("power"), states=("power",))).process([event], NOW).messages
        ]


def test_plans_are_not_mixed_where_topics_hold_no_organisation():
    scheme = TopicScheme(metadata_org="org")
    dropping = rule(Pattern("secret-org", "org"), action="drop", levels=("org",))
    site = Engine(scheme, policy=policy(dropping, scheme=scheme))
    done = site.process([Metadata("open-org", "x", {"a": 1}), Metadata("secret-org", "x", {"a": 2})], NOW)
    assert (len(done.messages), done.dropped) == (1, 1)
    done = site.process([Metadata("secret-org", "x", {"a": 2}), Metadata("open-org", "x", {"a": 1})], NOW)
    assert (len(done.messages), done.dropped) == (1, 1)


def test_more_topics_than_are_kept_change_nothing(monkeypatch):
    monkeypatch.setattr("northbound.privacy.policy._CACHED_PLANS", 3)
    site = engine(rule(EMAIL))
    events = [state(1, state=f"u{number}@example.com") for number in range(10)]
    topics = [message.topic for message in site.process(events * 3, NOW).messages]
    assert topics[:10] == topics[10:20] == topics[20:]
    assert len(set(topics)) == 10


# drop


def test_drop_lets_the_whole_event_go_no_further():
    site = engine(rule(EMAIL, action="drop"))
    events = [state({"a": [BOB]}), state(1), state({BOB: 1}), state(1, state=BOB), Cleared(None, ("b", None, None), "s", "d", "m", 1, BOB),
        Metadata(None, "x", {"a": BOB}), Metadata(None, BOB, None), Metadata(None, "x", {})]  # fmt: skip
    done = site.process(events, NOW)
    assert done.dropped == 6
    assert done.refused == []
    assert [message.topic.rpartition("/")[2] for message in done.messages] == ["power", "x"]
    assert site.policy.counts == {"rule": 6}


def test_drop_of_a_place_or_of_topics():
    assert (
        engine(rule(action="drop", paths=("$.private",)))
        .process([state({"private": 0}), state({"public": 0})], NOW)
        .dropped
        == 1
    )
    assert (
        engine(rule(action="drop", states=("secret_*",))).process([state(1, state="secret_1"), state(1)], NOW).dropped
        == 1
    )
    assert (
        engine(rule(action="drop", topics=("+/+/metadata/#",)))
        .process([Metadata(None, "x", None), state(1)], NOW)
        .dropped
        == 1
    )


def test_what_was_dropped_is_audited_without_its_topic():
    site = engine(rule(EMAIL, action="drop"))
    site.process([state(1, state=BOB)], NOW)
    (act,) = site.policy.take_acts()
    assert BOB not in repr(act)
    assert (act.rule, act.action, act.kind, act.count) == ("rule", "drop", "state", 1)


# counts and acts


def test_what_the_rules_did_is_counted():
    site = engine(
        rule(EMAIL, action="allow", name="allowed", states=("support",)),
        rule(EMAIL, name="hashed"),
        redact(Under("password"), name="redacted"),
    )
    events = [
        state({"a": [BOB, f"{BOB} and ann@example.com"], BOB: 1, "password": "x"}),
        state(1, state=BOB),
        state(BOB, state="support"),
        state("nothing"),
        Metadata(None, "x", {"m": BOB}),
        Metadata(None, BOB, None),
    ]
    messages = site.process(events, NOW).messages
    topics = [message.topic for message in messages]
    assert site.policy.counts == {"allowed": 0, "hashed": 7, "redacted": 1}
    acts = site.policy.take_acts()
    assert sorted(acts, key=lambda act: (act.rule, act.topic)) == sorted(
        [
            Act("hashed", "hash", "state", topics[0], 4),
            Act("redacted", "redact", "state", topics[0], 1),
            Act("hashed", "hash", "state", topics[1], 1),
            Act("hashed", "hash", "metadata", topics[4], 1),
            Act("hashed", "hash", "metadata", topics[5], 1),
        ],
        key=lambda act: (act.rule, act.topic),
    )
    assert site.policy.take_acts() == []
    assert site.policy.counts == {"allowed": 0, "hashed": 7, "redacted": 1}


def test_what_is_as_the_rule_wants_it_already_is_not_counted():
    site = engine(rule(Pattern(r"\*\*\*|x+", "x"), action="mask"))
    site.process([state("*** xx")], NOW)
    assert site.policy.counts == {"rule": 1} or site.policy.counts == {"rule": 2}
    site.policy.take_acts()
    (message,) = site.process([state("*** ***")], NOW).messages
    assert site.policy.take_acts() == []
    assert b"*** ***" in message.payload


def test_beyond_a_bound_topics_share_a_line(monkeypatch):
    monkeypatch.setattr("northbound.privacy.policy._MOST_ACTS", 5)
    site = engine(rule(EMAIL))
    site.process([state(BOB, state=f"s{number}") for number in range(20)], NOW)
    acts = site.policy.take_acts()
    assert len(acts) == 6
    assert sum(act.count for act in acts) == 20


# words that are no value


def test_words_are_scrubbed_of_what_the_rules_detect():
    words = f"line 3: unknown key '{BOB}'"
    assert policy(rule(EMAIL)).scrub(words) == f"line 3: unknown key '{HASHED}'"
    assert policy(redact(EMAIL, scope="value")).scrub(words) == "[withheld]"
    assert policy(rule(EMAIL, action="drop")).scrub(words) == "[withheld]"
    assert policy(redact(Spans(["no span"]))).scrub(words) == "[withheld]"
    assert policy(rule(EMAIL)).scrub("\ud800") == "[withheld]"
    assert policy(redact(paths=("$.a",))).scrub(words) == words
    assert policy(rule(EMAIL)).scrub("line 3") == "line 3"
    assert (
        policy(rule(EMAIL, states=("other",), kinds=("metadata",), paths=("$.x",))).scrub(words)
        == f"line 3: unknown key '{HASHED}'"
    )


@pytest.mark.parametrize(
    "options",
    [
        {"states": ("support",)},
        {"kinds": ("metadata",)},
        {"topics": ("a/#",)},
        {"paths": ("$.x",)},
        {"levels": ("org",)},
    ],
)
def test_an_exception_for_some_place_is_none_for_words(options):
    assert BOB not in policy(allow(EMAIL, **options), rule(EMAIL)).scrub(f"reason: {BOB}")


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


def test_a_great_many_literals_are_no_trouble():
    names = tuple(f"name{number:06d}xyz" for number in range(20_000))
    found = Pattern("|".join(re.escape(name) for name in (names[0], names[-1])), "names", literals=names)
    assert after(f"{names[-1]} and others", redact(found)) == "[redacted] and others"
    assert after("nobody", redact(found)) == "nobody"
