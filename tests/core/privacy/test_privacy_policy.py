"""Rules over topics and values: their order, their reach, and what they leave alone."""
# ruff: noqa: E501 - in a table of what a detector may do wrong each is one word

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
)

from northbound import Found
from northbound.engine import Engine
from northbound.events import Cleared, Metadata, State
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


def test_a_state_key_is_matched_as_it_is_written_and_by_what_it_hides():
    def acted(glob, key):
        (message,) = engine(redact(EMAIL, states=(glob,))).process([state(BOB, state=key)], NOW).messages
        return BOB.encode() not in message.payload

    assert acted("desk[1]", "desk[1]")
    assert acted("desk[1]*", "Desk[1]/x")
    assert acted("[!a]?", "[!a]b")
    assert not acted("desk[1]", "desk1")
    assert acted("badge", "b%61dge")
    assert acted("b%61dge", "b%61dge")
    assert acted("badge*", "\uff42adge 1")
    assert not acted("badge", "b%62dge")


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


def test_of_a_few_more_topics_than_are_kept_most_stay_known(monkeypatch):
    monkeypatch.setattr("northbound.privacy.policy._CACHED_PLANS", 80)
    site = engine(rule(EMAIL, kinds=("state",)))
    planned = []
    plan_anew = site.policy._new_plan
    site.policy._new_plan = lambda *given: planned.append(given) or plan_anew(*given)
    events = [state(1, state=f"u{number}") for number in range(88)]
    for _ in range(10):
        site.process(events, NOW)
    assert len(planned) < len(events) * 5
    assert len(site.policy._plans) <= 80


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
