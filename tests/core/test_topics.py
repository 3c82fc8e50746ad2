"""Addresses to topics and back, and wildcards against a reference written from the MQTT specification."""

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from northbound.errors import EventRefused
from northbound.message import Address
from northbound.topics import (
    MAX_INDEX,
    MAX_TOPIC_BYTES,
    MetadataAddress,
    TopicMatcher,
    TopicScheme,
    escape,
    escape_zone,
    filter_problem,
    unescape,
)

DOCUMENTED = TopicScheme()
PLACEOS = TopicScheme(hierarchy=("org", "region", "building", "level", "area"), metadata_org="org")

AWKWARD = (
    "/",
    "+",
    "#",
    "%",
    "\0",
    "\n",
    "\x7f",
    "\x85",
    "_",
    "$",
    "%2F",
    "%5F",
    "..",
    " ",
    "😀",
    "\ufffe",
    "\U0010ffff",
)
#: Any Unicode text, with what topics are sensitive to made likely.
text = st.lists(
    st.one_of(st.sampled_from(AWKWARD), st.text(max_size=6), st.characters(exclude_categories=["Cs"])), max_size=4
).map("".join)
name = text.filter(bool)
zone = st.none() | name


def state_topic(scheme, address):
    a = address
    return scheme.state_topic(a.org, a.zones, a.system, a.driver, a.module, a.index, a.state)


@st.composite
def addresses(draw, scheme=DOCUMENTED):
    zones = tuple(draw(zone) for _ in scheme.hierarchy[1:])
    index = draw(st.integers(1, 12) | st.integers(1, MAX_INDEX))
    return Address(draw(name), zones, draw(name), draw(name), draw(name), index, draw(name))


def assert_unbroken(topic, levels):
    assert topic.count("/") == levels - 1
    assert not set(topic) & set("+#\0")
    assert not any(unicodedata.category(character) == "Cc" for character in topic)
    assert all(topic.split("/"))
    assert len(topic.encode()) <= MAX_TOPIC_BYTES


# the documented topics


def test_state_topic_as_documented():
    topic = DOCUMENTED.state_topic("org-acme", ("bld-1", "lvl-2", "area-3"), "sys-7", "dep-123", "Display", 1, "power")
    assert topic == "placeos/org-acme/state/bld-1/lvl-2/area-3/sys-7/dep-123/Display/1/power"
    assert topic.count("/") == 10


def test_metadata_topic_as_documented():
    assert DOCUMENTED.metadata_topic("org-acme", "sys-7") == "placeos/org-acme/metadata/sys-7"


def test_placeos_7_1_case_1_power_of_a_module():
    topic = PLACEOS.state_topic("org-donor", (None, "cards", "nek", "2042"), "cs-9445", "12345", "M'Odule", 1, "power")
    assert topic == "placeos/org-donor/state/_/cards/nek/2042/cs-9445/12345/M'Odule/1/power"


def test_placeos_7_1_case_2_without_a_building():
    topic = PLACEOS.state_topic("org-donor", (None, None, "nek", "2042"), "cs-9445", "12345", "M'Odule", 1, "power")
    assert topic == "placeos/org-donor/state/_/_/nek/2042/cs-9445/12345/M'Odule/1/power"


def test_placeos_7_1_case_4_metadata_under_the_literal_org():
    assert PLACEOS.metadata_topic("org-donor", "mod-1234") == "placeos/org/metadata/mod-1234"
    assert PLACEOS.parse("placeos/org/metadata/mod-1234") == MetadataAddress("org", "mod-1234")
    assert PLACEOS.parse("placeos/org-donor/metadata/mod-1234") is None


def test_a_configured_root_and_a_hierarchy_of_the_organisation_alone():
    scheme = TopicScheme("site", ("org",))
    topic = scheme.state_topic("o", (), "s", "d", "m", 2, "k")
    assert topic == "site/o/state/s/d/m/2/k"
    assert scheme.parse(topic) == Address("o", (), "s", "d", "m", 2, "k")


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("missing", [None, ""])
def test_a_missing_zone_is_one_underscore(position, missing):
    zones = ["b", "l", "a"]
    zones[position] = missing
    topic = DOCUMENTED.state_topic("o", tuple(zones), "s", "d", "m", 1, "k")
    assert topic.split("/")[3 + position] == "_"
    assert DOCUMENTED.parse(topic).zones[position] is None


def test_a_zone_that_is_called_underscore_is_not_a_missing_one():
    topic = DOCUMENTED.state_topic("_", ("_", None, "%5F"), "_", "_", "_", 1, "_")
    assert topic == "placeos/_/state/%5F/_/%255F/_/_/_/1/_"
    assert DOCUMENTED.parse(topic) == Address("_", ("_", None, "%5F"), "_", "_", "_", 1, "_")


@pytest.mark.parametrize(
    ("plain", "level"),
    [
        ("zone-1:areas", "zone-1:areas"),
        ("a/b", "a%2Fb"),
        ("a+b#c", "a%2Bb%23c"),
        ("100%", "100%25"),
        ("%2F", "%252F"),
        ("a\0b\n\x7f\x85", "a%00b%0A%7F%C2%85"),
        ("\ufffe\ufdd0\U0001ffff", "%EF%BF%BE%EF%B7%90%F0%9F%BF%BF"),
        ("Größe 😀 日本", "Größe 😀 日本"),
        ("$SYS", "$SYS"),
        ("", ""),
    ],
)
def test_escaping_by_example(plain, level):
    assert escape(plain) == level
    assert unescape(level) == plain


# properties


@settings(max_examples=examples(150))
@given(addresses())
@example(Address("/", ("_", None, "#"), "+", "%", "\0", 1, "/"))
@example(Address("o", ("b", "l", "a"), "s", "d", "m", 1, "x" * 50_000))
def test_a_topic_is_never_broken_and_gives_the_address_back(address):
    topic = state_topic(DOCUMENTED, address)
    assert_unbroken(topic, 11)
    assert DOCUMENTED.parse(topic) == address


@settings(max_examples=examples(50))
@given(addresses(PLACEOS))
def test_the_longer_hierarchy_too(address):
    topic = state_topic(PLACEOS, address)
    assert_unbroken(topic, 12)
    assert PLACEOS.parse(topic) == address


@settings(max_examples=examples(100))
@given(name, name)
def test_metadata_topics_too(org, id_):
    topic = DOCUMENTED.metadata_topic(org, id_)
    assert_unbroken(topic, 4)
    assert DOCUMENTED.parse(topic) == MetadataAddress(org, id_)


@settings(max_examples=examples(100))
@given(addresses(), addresses())
def test_different_addresses_have_different_topics(one, other):
    assert (state_topic(DOCUMENTED, one) == state_topic(DOCUMENTED, other)) == (one == other)


@settings(max_examples=examples(200))
@given(text, text)
def test_escaping_is_exact_one_level_and_injective(one, other):
    for function in (escape, escape_zone):
        assert unescape(function(one)) == one
        assert "/" not in function(one)
        assert (function(one) == function(other)) == (one == other)


levels = st.sampled_from(
    [
        "placeos",
        "state",
        "metadata",
        "_",
        "1",
        "01",
        "+1",
        "1_0",
        "0",
        "²",
        "%41",
        "%2f",
        "%2F",
        "%FF",
        "%",
        "",
        "a",
        "\x01",
    ]
)


@settings(max_examples=examples(300))
@given(
    st.lists(levels, max_size=13)
    | st.tuples(*[levels] * 10).map(lambda rest: ["placeos", rest[0], "state", *rest[1:8], "1", rest[9]])
)
@example(["placeos", "o", "state", "b", "l", "a", "s", "d", "m", "1", "k"])
@example(["placeos", "o", "state", "b", "l", "a", "s", "d", "m", "01", "k"])
@example(["placeos", "o", "state", "b", "", "a", "s", "d", "m", "1", "k"])
@example(["placeos", "%41", "metadata", "x"])
def test_only_what_this_scheme_would_have_written_is_parsed(parts):
    topic = "/".join(parts)
    address = DOCUMENTED.parse(topic)
    if isinstance(address, Address):
        assert state_topic(DOCUMENTED, address) == topic
    elif address is not None:
        assert DOCUMENTED.metadata_topic(address.org, address.id) == topic


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "placeos",
        "other/o/state/b/l/a/s/d/m/1/k",
        "placeos/o/state/b/l/a/s/d/m/1",
        "placeos/o/state/b/l/a/s/d/m/1/k/more",
        "placeos/o/state/b/l/a/s/d/m/one/k",
        "placeos/o/state/b/l/a/s/d/m/01/k",
        "placeos/o/state/b/l/a/s/d/m/1_0/k",
        "placeos/o/state/b/l/a/s/d/m/\u0661/k",
        "placeos/o/state/b/l/a/s/d/m/0/k",
        "placeos/o/state/b//a/s/d/m/1/k",
        "placeos/o/state/b/l/a/s/d/m/1/",
        "placeos/o/state/b/l/a/s/d/m/1/%FF",
        "placeos/o/state/b/l/a/s/d/m/1/%41",
        "placeos/o/state/b/l/a/s/d/m/1/a+b",
        "placeos/o/metadata/x/y",
        "placeos/o/metadata/",
        "placeos/o/event/x",
    ],
)
def test_a_foreign_topic_is_not_parsed(topic):
    assert DOCUMENTED.parse(topic) is None


# refusals


def refused(*, org="o", zones=(None, None, None), system="s", driver="d", module="m", index=1, state="k"):
    with pytest.raises(EventRefused) as caught:
        DOCUMENTED.state_topic(org, zones, system, driver, module, index, state)
    reason = str(caught.value)
    assert len(reason) < 200
    return reason


@pytest.mark.parametrize("field", ["org", "system", "driver", "module", "state"])
def test_an_empty_part_is_refused(field):
    assert "empty" in refused(**{field: ""})


@pytest.mark.parametrize("index", [0, -1, MAX_INDEX + 1, pytest.param(10**5000, id="huge"), True, 1.0, "1", None])
def test_an_index_that_is_none_is_refused(index):
    assert "index" in refused(index=index)


@pytest.mark.parametrize("zones", [(), (None,), (None,) * 4])
def test_another_number_of_zones_is_refused(zones):
    assert f"{len(zones)} zone levels where the hierarchy has 3" in refused(zones=zones)


@pytest.mark.parametrize("field", ["org", "system", "state"])
@pytest.mark.parametrize("long", ["", "é" * 20_000])
def test_a_lone_surrogate_is_refused(field, long):
    assert "surrogate" in refused(**{field: "\ud800" + long})


@pytest.mark.parametrize("state", ["x" * 65_536, "é" * 32_768, "/" * 21_850, "😀" * 16_400])
def test_a_topic_longer_than_mqtt_allows_is_refused(state):
    assert f"MQTT allows {MAX_TOPIC_BYTES}" in refused(state=state)


def test_the_longest_topic_is_taken():
    rest = len(DOCUMENTED.state_topic("o", (None, None, None), "s", "d", "m", 1, "k")) - 1
    topic = DOCUMENTED.state_topic("o", (None, None, None), "s", "d", "m", 1, "k" * (MAX_TOPIC_BYTES - rest))
    assert len(topic) == MAX_TOPIC_BYTES
    assert "MQTT allows" in refused(state="k" * (MAX_TOPIC_BYTES - rest + 1))


@pytest.mark.parametrize(("org", "id_"), [("", "x"), ("o", "")])
def test_empty_metadata_parts_are_refused(org, id_):
    with pytest.raises(EventRefused, match="empty"):
        DOCUMENTED.metadata_topic(org, id_)


# wildcards: MQTT 5.0, 4.7


def reference_match(topic_filter, topic):
    """Say what 4.7.1 to 4.7.3 say, level by level."""
    if topic.startswith("$") and topic_filter[:1] in ("#", "+"):
        return False  # 4.7.2
    filters, parts = topic_filter.split("/"), topic.split("/")
    for position, level in enumerate(filters):
        if level == "#":
            return True  # 4.7.1.2: the parent and any number of child levels
        if position == len(parts) or level not in ("+", parts[position]):
            return False
    return len(filters) == len(parts)


def reference_valid(topic_filter):
    levels = topic_filter.split("/")
    return (
        topic_filter != ""  # 4.7.3
        and "\0" not in topic_filter
        and len(topic_filter.encode()) <= 65_535
        and all(level == "+" or "+" not in level for level in levels)
        and all("#" not in level for level in levels[:-1])
        and (levels[-1] == "#" or "#" not in levels[-1])
    )


part = st.sampled_from(["a", "b", "", "$SYS", "$x", "a$", "é"])
topics = st.lists(part, min_size=1, max_size=5).map("/".join).filter(bool)
filters = (
    st.tuples(st.lists(part | st.just("+"), max_size=5), st.sampled_from([[], ["#"], ["+"]]))
    .map(lambda both: "/".join([*both[0], *both[1]]))
    .filter(bool)
)


@settings(max_examples=examples(400))
@given(st.lists(filters, max_size=5), topics)
def test_matching_is_what_the_specification_says(some, topic):
    assert TopicMatcher(some).matches(topic) == any(reference_match(one, topic) for one in some)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "matches"),
    [  # the specification's own examples
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/#", "sport", True),
        ("#", "a/b/c", True),
        ("sport/tennis/+", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/monitor/Clients", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/monitor/Clients", True),
        ("$SYS/#", "$SYS", True),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", True),
        ("a/+", "a/$SYS", True),
        ("ACCOUNTS", "Accounts", False),
        ("placeos/+/state/#", "placeos/org/state/_/_/_/s/d/m/1/k", True),
        ("placeos/+/state/#", "placeos/org/metadata/s", False),
    ],
)
def test_matching_by_example(topic_filter, topic, matches):
    assert TopicMatcher([topic_filter]).matches(topic) is matches
    assert reference_match(topic_filter, topic) is matches


def test_a_matcher_knows_when_it_matches_everything():
    assert TopicMatcher(["a", "#"]).matches_all
    assert not TopicMatcher(["a/#", "+/#"]).matches_all
    assert not TopicMatcher([]).matches("a")


@settings(max_examples=examples(300))
@given(st.lists(st.sampled_from(["+", "#", "/", "a", "\0", "é"]), max_size=6).map("".join))
def test_filters_are_judged_as_the_specification_says(topic_filter):
    assert (filter_problem(topic_filter) is None) == reference_valid(topic_filter)


@pytest.mark.parametrize(
    ("topic_filter", "words"),
    [
        ("", "empty"),
        ("a\0", "NUL"),
        ("sport/tennis#", "'#'"),
        ("sport/#/ranking", "'#'"),
        ("sport+", "'+'"),
        ("a" * 65_536, "65535 bytes"),
        ("é" * 32_768, "65535 bytes"),
        ("\ud800", "surrogate"),
    ],
)
def test_what_is_wrong_with_a_filter_is_said(topic_filter, words):
    assert words in filter_problem(topic_filter)
    with pytest.raises(ValueError, match="topic filter") as caught:
        TopicMatcher([topic_filter])
    assert len(str(caught.value)) < 300


def test_the_deepest_filter_is_no_trouble():
    deep = "/" * MAX_TOPIC_BYTES
    matcher = TopicMatcher([deep, "+" + "/+" * 1000])
    assert matcher.matches(deep)
    assert not matcher.matches(deep[1:])
