"""The part of JSONPath that names places."""
# ruff: noqa: E501 - in a table of paths each is one word

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from northbound.privacy.paths import Cursor, parse_path

DOCUMENT = {
    "organiser": {"email": "1", "name": "2"},
    "attendees": [{"email": "3", "rooms": ["4", "5"]}, {"email": "6"}],
    "a b": {"it's": "7", 'say "so"': "8", "back\\slash": "9", "": "10"},
    "0": "11",
    "straße": "12",
    "e-mail": "13",
}


def leaves(value, cursor):
    """Give the leaves that a walk finds at or below the cursor's paths."""
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in leaves(item, cursor.into(key))]
    if isinstance(value, list):
        return [leaf for place, item in enumerate(value) for leaf in leaves(item, cursor.into(place))]
    return [value] if cursor.selected else []


def selected(*paths, document=DOCUMENT):
    return leaves(document, Cursor.start(tuple(map(parse_path, paths))))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", [str(number) for number in range(1, 14)]),
        ("$.organiser", ["1", "2"]),
        ("$.organiser.email", ["1"]),
        ("$['organiser']['email']", ["1"]),
        ('$["organiser"].email', ["1"]),
        ("$.attendees[0]", ["3", "4", "5"]),
        ("$.attendees[1].email", ["6"]),
        ("$.attendees[2]", []),
        ("$.attendees[*].email", ["3", "6"]),
        ("$.attendees.*.email", ["3", "6"]),
        ("$..email", ["1", "3", "6"]),
        ("$..rooms[1]", ["5"]),
        ("$..[1]", ["5", "6"]),
        ("$..*", [str(number) for number in range(1, 14)]),
        ("$..attendees..email", ["3", "6"]),
        ("$.*.email", ["1"]),
        (r"$['a b']['it\'s']", ["7"]),
        ('$["a b"]["it\'s"]', ["7"]),
        (r'$["a b"]["say \"so\""]', ["8"]),
        (r"$['a b']['back\\slash']", ["9"]),
        ("$['a b']['']", ["10"]),
        ("$['0']", ["11"]),
        ("$[0]", []),
        ("$.straße", ["12"]),
        ("$.e-mail", ["13"]),
        ("$.Organiser", []),
        ("$.organiser.email.more", []),
    ],
)
def test_a_path_names_its_places_and_what_is_below(path, found):
    assert selected(path) == found


def test_several_paths_name_the_places_of_each():
    assert selected("$.organiser.name", "$..email") == ["1", "2", "3", "6"]
    assert selected() == []


@pytest.mark.parametrize(
    "path",
    [
        "", "organiser", ".organiser", "$organiser", "$.", "$..", "$...a", "$[", "$[]", "$[-1]", "$[1:2]", "$[?(@.a)]",
        "$.a.", "$.a b", "$['a]", '$["a\']', "$.[0]", "$.['a']", "$.0", "$.a[1.5]", "$['a'", "$['a'b']", "$.a$", " $.a", "$.a ",
        "$[9999999999]", "$.a\n", "$" + ".a" * 300,
    ],
)  # fmt: skip
def test_what_is_no_path_is_said_in_words(path):
    with pytest.raises(ValueError, match=r"path"):
        parse_path(path)


KEYS = st.sampled_from(["a", "b", "a b", "it's", 'x"y', "\\", "", "é", "0"])
DOCUMENTS = st.recursive(
    st.integers(0, 9).map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
SEGMENTS = st.tuples(st.booleans(), st.none() | KEYS | st.integers(0, 2))


def spelled(segments):
    parts = ["$"]
    for deep, step in segments:
        inside = "*" if step is None else str(step) if isinstance(step, int) else json.dumps(step, ensure_ascii=False)
        parts.append(f"{'..' if deep else ''}[{inside}]")
    return "".join(parts)


def reference(value, segments):
    """Give the leaves of ``value`` at or below a path, the slow and obvious way."""
    places = [()]
    for deep, step in segments:
        if deep:
            places = [place + more for place in places for more in below(at(value, place))]
        places = [
            (*place, key)
            for place in places
            for key in children(at(value, place))
            if step is None or (key == step and isinstance(key, str) == isinstance(step, str))
        ]
    return {
        place + more for place in places for more in below(at(value, place)) if not children(at(value, place + more))
    }


def at(value, place):
    for step in place:
        value = value[step]
    return value


def children(value):
    return list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []


def below(value):
    return [(), *((key, *more) for key in children(value) for more in below(at(value, (key,))))]


def ends(value, cursor, place=()):
    if not children(value):
        return {place} if cursor.selected else set()
    return {end for key in children(value) for end in ends(at(value, (key,)), cursor.into(key), (*place, key))}


@given(DOCUMENTS, st.lists(SEGMENTS, max_size=4))
def test_a_walk_selects_what_the_definition_says(document, segments):
    cursor = Cursor.start((parse_path(spelled(segments)),))
    assert ends(document, cursor) == reference(document, segments)
