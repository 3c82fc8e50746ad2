"""Templates and their inverse, and what a destination's limits make of a message."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from northbound.config import ConnectorOptions
from northbound.connector import Connector
from northbound.errors import Rejected
from northbound.limits import Limits
from northbound.message import Address, Message
from northbound.shaping import METADATA_NAMES, STATE_NAMES, Shaper, Template
from northbound.topics import MAX_INDEX, TopicScheme, escape

SCHEME = TopicScheme()
NAMES = (*STATE_NAMES, *SCHEME.hierarchy[1:])
AWS = "placeos/{org}/state/{building}/{level}/{area}/{system}/{driver}.{module}.{index}.{state}"

AWKWARD = ("_", "%", "%2E", "%5F", "%2D", ".", "-", "__", "._", "/", "+", "#", "\0", " ", "2E", "😀", "$", "'", "*")
name = (
    st.lists(
        st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=1, max_size=4
    )
    .map("".join)
    .filter(bool)
)
addresses = st.builds(
    Address, name, st.tuples(*[st.none() | name] * 3), name, name, name, st.integers(1, MAX_INDEX), name
)


def topic_of(a):
    return SCHEME.state_topic(a.org, a.zones, a.system, a.driver, a.module, a.index, a.state)


def message_of(address, payload=b"1", *, retain=True):
    return Message(topic_of(address), payload, "state", 5, retain)


def plain(address):
    a = address
    values = dict(zip(SCHEME.hierarchy[1:], a.zones, strict=True))
    return values | {name: str(getattr(a, name)) for name in ("org", "system", "driver", "module", "index", "state")}


def escaped(address):
    levels = topic_of(address).split("/")
    return dict(
        zip(
            ("root", "org", "", "building", "level", "area", "system", "driver", "module", "index", "state"),
            levels,
            strict=True,
        )
    )


TEMPLATES = [
    AWS,
    "{root}/{org}/state/{building}/{level}/{area}/{system}/{driver}/{module}/{index}/{state}",
    "x/{org}-{building}-{level}-{area}/{system}-{driver}-{module}-{index}-{state}",
    "x/{org}_{building}_{level}_{area}_{system}_{driver}_{module}_{index}_{state}",
    "x/{building}__{level}__{area}/{org}/{system}_{driver}/{module}_{index}/{state}",
    "{org}/{building} - {level} - {area}/{system}.{driver}-{module}_{index}'{state}'",
    "{org}/pre{building}.2E{level}.5F{area}.post/{system}/{driver}/{module}:{index}/{state}",
    "{org}/{building}/{building}.{level}/{level}-{area}/{area}/{system}/{driver}/{module}/{index}/{state}",
    "{org}*{state}/{building}/{level}@{area}/{system}/{driver}&{module}=({index})/50%/%2E",
]
NASTY = [
    Address("_", ("_", None, "%5F"), "_", "_", "_", 1, "_"),
    Address("a.b", (".", None, "-"), "%2E", "2E", "a%2Eb", 12, "a.b.c"),
    Address("o", ("_b", "l_", "_a_"), "__", "-_-", "%2D", 9, "%255F"),
    Address("x", ("a/b", "+", "#"), "%", "\0", "é.😀", 2, "zone-1:areas"),
]


@pytest.mark.parametrize("text", TEMPLATES)
@pytest.mark.parametrize("address", NASTY, ids=lambda a: a.org)
def test_nasty_addresses_come_back_exactly(text, address):
    template = Template(text, NAMES)
    assert template.reversible
    topic = template.fill(escaped(address))
    assert topic.count("/") == text.count("/")
    values = template.inverse(topic)
    values.pop("root", None)
    assert values == plain(address)


@settings(max_examples=examples(300))
@given(st.sampled_from(TEMPLATES), addresses)
@example(AWS, NASTY[0])
def test_any_address_comes_back_exactly(text, address):
    template = Template(text, NAMES)
    topic = template.fill(escaped(address))
    assert topic.count("/") == text.count("/")
    assert not set(topic) & set("+#\0")
    values = template.inverse(topic)
    values.pop("root", None)
    assert values == plain(address)


@settings(max_examples=examples(150))
@given(st.sampled_from(TEMPLATES), addresses, addresses)
def test_two_addresses_never_share_a_shaped_topic(text, one, other):
    template = Template(text, NAMES)
    assert (template.fill(escaped(one)) == template.fill(escaped(other))) == (one == other)


@settings(max_examples=examples(200))
@given(st.sampled_from(TEMPLATES), st.text(st.sampled_from("/_.-%2E5FoxAé"), max_size=40))
def test_another_s_topic_has_no_inverse(text, topic):
    template = Template(text, NAMES)
    values = template.inverse(topic)
    if values is not None:
        filled = {
            key: "_" if value is None else "%5F" if value == "_" and key in SCHEME.hierarchy else escape(value)
            for key, value in values.items()
        }
        assert template.fill(filled) == topic


def test_the_aws_default_by_example():
    address = Address("org-acme", ("bld-1", "lvl-2", None), "sys-7", "dep-1.2", "M'Odule", 1, "a.b")
    topic = Template(AWS, NAMES).fill(escaped(address))
    assert topic == "placeos/org-acme/state/bld-1/lvl-2/_/sys-7/dep-1%2E2.M'Odule.1.a%2Eb"
    assert topic.count("/") == 7


def test_a_missing_zone_and_one_called_underscore_are_told_apart():
    template = Template("{building}_{level}", NAMES)
    assert template.inverse("_____") is None
    assert template.inverse("___") == {"building": None, "level": None}
    assert template.inverse("%5F__") == {"building": "_", "level": None}
    assert template.inverse("__%5F") == {"building": None, "level": "_"}
    assert not template.reversible


def test_bytes_that_are_no_text_have_no_inverse():
    assert Template("{org}", NAMES).inverse("%FF") is None
    assert Template("{org}", NAMES).inverse("%41") is None


@pytest.mark.parametrize("topic", [topic_of(address) for address in NASTY])
def test_the_whole_topic_comes_back_as_it_is(topic):
    template = Template("site/{topic}", NAMES)
    assert template.reversible
    assert template.fill({"topic": topic}) == f"site/{topic}"
    assert template.inverse(f"site/{topic}") == {"topic": topic}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("a/{region}/b", "{region} is not known here: root, org"),
        ("a/{}/b", "{} is not known here"),
        ("a/{Org}/b", "{Org} is not known here"),
        ("a/{org/b", "unclosed brace"),
        ("a/org}/b", "unclosed brace"),
        ("a/{{org}}", "is not known|unclosed brace"),
        ("a/+/b", "must not have"),
        ("a/{org}#", "must not have"),
        ("a/\0/{org}", "must not have"),
        ("a/\n/{org}", "must not have"),
        ("{driver}{module}", "touch"),
        ("{driver}x{module}", "punctuation"),
        ("{driver}2{module}", "punctuation"),
        ("{driver}%{module}", "punctuation"),
        ("{driver}é{module}", "punctuation"),
        ("a{topic}", "stands alone"),
        ("{topic}.x", "stands alone"),
        ("{org}/{topic}", "no other placeholder"),
        ("{topic}/{topic}", "no other placeholder"),
        ("x/{" + "z" * 5000 + "}", "is not known here"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_template_that_cannot_be_used_is_refused_in_words(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        Template(text, NAMES)
    assert len(str(caught.value)) < 300


def test_a_template_may_leave_parts_out_but_says_so():
    assert not Template("{org}/{system}/{state}", NAMES).reversible
    assert not Template("fixed", NAMES).reversible
    assert Template("{org}/{id}", METADATA_NAMES).reversible


# the shaper

ADDRESS = Address("org-acme", ("bld-1", None, "area-3"), "sys-7", "dep-123", "Display", 1, "power")
STATE = message_of(ADDRESS)
METADATA = Message("placeos/org-acme/metadata/a%2Fb", b'{"name":"x"}', "metadata", 5, True)


def shaped(message=STATE, limits=None, **options):
    return Shaper(SCHEME, limits or Limits(), **options).shape(message, 7)


def rejected(message=STATE, limits=None, **options):
    with pytest.raises(Rejected) as caught:
        shaped(message, limits, **options)
    return caught.value.reason


def test_without_a_template_the_topic_stays():
    out = shaped(key_prefix="store-")
    assert (out.topic, out.source_topic, out.payload, out.kind, out.time) == (
        STATE.topic,
        STATE.topic,
        b"1",
        "state",
        5,
    )
    assert (out.retain, dict(out.properties), out.key) == (True, {}, "store-7")


def test_each_kind_has_its_template():
    shaper = Shaper(SCHEME, Limits(), topic=AWS, metadata_topic="m/{org}/{id}")
    assert shaper.shape(STATE, 1).topic == "placeos/org-acme/state/bld-1/_/area-3/sys-7/dep-123.Display.1.power"
    assert shaper.shape(METADATA, 2).topic == "m/org-acme/a%2Fb"
    assert shaper.shape(STATE, 1).source_topic == STATE.topic
    assert Shaper(SCHEME, Limits(), topic="x/{topic}").shape(STATE, 1).topic == f"x/{STATE.topic}"
    assert Shaper(SCHEME, Limits(), topic=AWS).shape(METADATA, 1).topic == METADATA.topic


@settings(max_examples=examples(150))
@given(addresses)
def test_shaping_and_inverse_are_exact(address):
    out = Shaper(SCHEME, Limits(), topic=AWS).shape(message_of(address), 1)
    assert Template(AWS, NAMES).inverse(out.topic) == plain(address)


@pytest.mark.parametrize(
    ("topic", "kind"),
    [
        ("some/where/else", "state"),
        ("placeos/o/metadata/x", "state"),
        (STATE.topic, "metadata"),
        (STATE.topic + "/x", "state"),
    ],
)
def test_a_foreign_topic_fits_no_template(topic, kind):
    message = Message(topic, b"1", kind, 5, True)
    assert "scheme" in rejected(message, topic=AWS, metadata_topic="m/{id}")


@pytest.mark.parametrize(
    ("levels", "reason"),
    [(11, None), (10, "the topic has 11 levels: the destination takes 10")],
)
def test_levels_are_limited(levels, reason):
    limits = Limits(max_topic_levels=levels)
    assert (rejected(limits=limits) if reason else None) == reason
    assert shaped(limits=Limits(max_topic_levels=8), topic=AWS)


def test_topic_bytes_are_limited_as_bytes():
    message = message_of(Address("é", (None, None, None), "s", "d", "m", 1, "k"))
    size = len(message.topic.encode())
    assert shaped(message, Limits(max_topic_bytes=size))
    assert (
        rejected(message, Limits(max_topic_bytes=size - 1))
        == f"the topic has {size} bytes: the destination takes {size - 1}"
    )


@pytest.mark.parametrize(
    ("counts", "retain", "beside"),
    [
        ("payload", "native", 0),
        ("payload+topic", "native", len(STATE.topic)),
        ("payload+topic+properties", "native", len(STATE.topic)),
        ("payload+topic+properties", "property", len(STATE.topic) + len("retaintrue")),
        ("payload+topic", "property", len(STATE.topic)),
        ("payload+properties", "property", len("retaintrue")),
        ("payload+properties", "native", 0),
    ],
)
def test_payload_bytes_are_limited_with_what_counts(counts, retain, beside):
    message = message_of(ADDRESS, b"x" * 100)
    limits = Limits(max_payload_bytes=100 + beside, payload_counts=counts, retain=retain)
    assert shaped(message, limits)
    reason = rejected(message, limits.narrowed(max_payload_bytes=99 + beside))
    assert reason == f"{counts} of {100 + beside:,} bytes: the destination takes {99 + beside:,}"


@pytest.mark.parametrize("prefix", ["p", "placeos/", "placeos/org-acme/state"])
def test_reserved_prefixes_are_refused(prefix):
    assert repr(prefix) in rejected(limits=Limits(reserved_prefixes=(prefix,)))


def test_an_organisation_that_begins_with_a_dollar_is_refused_only_where_it_comes_first():
    message = message_of(Address("$SYS", (None, None, None), "s", "d", "m", 1, "k"))
    assert shaped(message)
    assert "'$'" in rejected(message, topic="{org}/{state}")


@pytest.mark.parametrize(
    ("wanted", "option", "limit", "retain", "properties"),
    [
        (True, None, "native", True, {}),
        (True, True, "native", True, {}),
        (True, False, "native", False, {}),
        (False, True, "native", False, {}),
        (True, None, "property", False, {"retain": "true"}),
        (False, None, "property", False, {}),
        (True, False, "property", False, {}),
        (True, None, "none", False, {}),
        (False, None, "none", False, {}),
    ],
)
def test_retain(wanted, option, limit, retain, properties):
    retained = {None: ("state", "metadata"), True: ("state",), False: ("metadata",)}[option]
    out = shaped(message_of(ADDRESS, retain=wanted), Limits(retain=limit), retained=retained)
    assert (out.retain, dict(out.properties)) == (retain, properties)


def test_the_address_travels_beside_the_payload_where_it_is_wanted():
    address = Address("org/1", ("b é", None, "a+"), "sys", "drv", "Mod", 2, "zone-1:areas/x")
    out = shaped(message_of(address), Limits(retain="property"), address=True)
    assert dict(out.properties) == {
        "topic": out.source_topic,
        "kind": "state",
        "org": "org/1",
        "building": "b é",
        "area": "a+",
        "system": "sys",
        "driver": "drv",
        "module": "Mod",
        "index": "2",
        "state": "zone-1:areas/x",
        "retain": "true",
    }
    metadata = Message(SCHEME.metadata_topic("org/1", "sys 7"), b"{}", "metadata", 5, False)
    out = shaped(metadata, Limits(retain="property"), address=True)
    assert dict(out.properties) == {
        "topic": metadata.topic, "kind": "metadata", "org": "org/1", "id": "sys 7",
    }  # fmt: skip


@given(addresses)
def test_the_property_gives_the_address_back(address):
    out = shaped(message_of(address), Limits(), address=True)
    assert SCHEME.parse(out.properties["topic"]) == address


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"max_properties": 9}, "10 properties: the destination takes 9"),
        ({"max_property_name_bytes": 7}, "the name of the property 'building' has 8 bytes: the destination takes 7"),
        ({"max_property_value_bytes": 30}, "the value of the property 'topic' has"),
    ],
)
def test_properties_are_limited(limit, words):
    address = Address("org", ("é", "l", None), "sys", "drv", "Mod", 2, "key")
    assert words in rejected(message_of(address), Limits(**limit), address=True)


def test_a_retain_property_counts_among_the_properties_of_what_is_retained():
    address = Address("org", ("b", "l", None), "sys", "drv", "Mod", 2, "key")
    limits = Limits(max_properties=10, retain="property")
    assert "11 properties" in rejected(message_of(address), limits, address=True)
    assert shaped(message_of(address), limits, address=True, retained=())


@pytest.mark.parametrize(
    ("option", "kinds", "expected"),
    [(None, {"metadata"}, False), (True, {"metadata"}, True), (False, {"state"}, False)],
)
def test_what_is_retained_is_the_connectors_unless_it_is_configured(option, kinds, expected):
    class Some(Connector):
        retained_kinds = frozenset(kinds)

    shaper = Shaper.of(Some(None, name="x"), ConnectorOptions(retain=option), SCHEME, Limits())
    assert shaper.shape(message_of(ADDRESS), 1).retain is expected


def test_a_refused_topic_is_refused_again_and_does_not_hold_the_message():
    shaper = Shaper(SCHEME, Limits(max_topic_levels=3))
    reasons = []
    for _ in range(2):
        with pytest.raises(Rejected) as caught:
            shaper.shape(STATE, 1)
        reasons.append(caught.value.reason)
    assert reasons[0] == reasons[1]
    (kept,) = shaper._shapes.values()
    assert kept.__traceback__ is None


def test_the_memory_of_topics_is_bounded(monkeypatch):
    monkeypatch.setattr("northbound.shaping._CACHED_TOPICS", 10)
    shaper = Shaper(SCHEME, Limits(), topic=AWS)
    for number in range(1, 100):
        address = Address("o", (None, None, None), "s", "d", "m", number, "k")
        assert shaper.shape(message_of(address), 1).topic.endswith(f"d.m.{number}.k")
        assert len(shaper._shapes) <= 10


# -- characters that a destination does not take, and hierarchies of any depth ------------------

ESCAPED = " ."


@pytest.mark.parametrize("text", [None, "{root}/{org}/{zones}/{system}/{driver}~{module}~{index}/{state}"])
@given(addresses)
@example(Address("a.b c", (".", None, "%2E"), "%20", "2E", "a%2Eb", 12, "a.b/c d"))
def test_what_is_escaped_for_a_destination_comes_back(text, address):
    shaper = Shaper(SCHEME, Limits(escaped=ESCAPED), topic=text)
    topic = shaper.shape(message_of(address), 1).topic
    assert not set(topic) & set(ESCAPED)
    found = Template(text or "{topic}", NAMES, ESCAPED).inverse(topic)
    assert found == ({"topic": topic_of(address)} if text is None else {"root": "placeos", **plain(address)})


def test_metadata_topics_are_escaped_too():
    shaper = Shaper(SCHEME, Limits(escaped=ESCAPED))
    message = Message(SCHEME.metadata_topic("o.g", "zone 1.2"), b"1", "metadata", 5, True)
    assert shaper.shape(message, 1).topic == "placeos/o%2Eg/metadata/zone%201%2E2"


def test_a_template_must_do_without_what_the_destination_does_not_take():
    with pytest.raises(ValueError, match=r"holds '\.', which the destination does not take"):
        Template("{org}/{driver}.{module}", NAMES, ESCAPED)
    assert Limits(escaped=".").narrowed(escaped=" .").escaped == ". "


@pytest.mark.parametrize(
    ("hierarchy", "levels"),
    [(("org",), ""), (("org", "building"), "{building}/"), (("org", "region", "site"), "{region}/{site}/")],
)
def test_zones_stand_for_the_levels_of_the_hierarchy(hierarchy, levels):
    template = Template("{org}/{zones}/{system}-{state}", (*STATE_NAMES, *hierarchy[1:]))
    assert template.text == f"{{org}}/{levels}{{system}}-{{state}}"
    assert Template("{zones}", (*STATE_NAMES, "zones")).text == "{zones}"


@pytest.mark.parametrize(
    ("most", "levels"),
    [(None, "{a}/{b}/{c}"), (5, "{a}/{b}/{c}"), (4, "{a}.{b}/{c}"), (3, "{a}.{b}.{c}"), (2, "{a}.{b}.{c}")],
)
def test_zones_that_are_too_many_levels_share_the_first(most, levels):
    template = Template("{org}/{zones}/{system}-{state}", (*STATE_NAMES, *"abc"), most_levels=most)
    assert template.text == f"{{org}}/{levels}/{{system}}-{{state}}"
    assert Template("{org}/{zones}/x", STATE_NAMES, most_levels=1).text == "{org}/x"
