"""How filters lie to each other, against trying all topics of a small world."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from northbound.api.filters import covers, overlap, prefix_of
from northbound.topics import TopicMatcher, filter_problem

LEVELS = ("a", "b", "", "$s", "new")  # "new" stands for all that no filter names
TOPICS = ["/".join(levels) for count in range(1, 5) for levels in product(LEVELS, repeat=count)]
FILTERS = st.lists(st.sampled_from(("a", "b", "", "$s", "+", "+")), min_size=1, max_size=3).flatmap(
    lambda levels: st.sampled_from((levels, [*levels, "#"], ["#"]))
).map("/".join).filter(lambda text: filter_problem(text) is None)  # fmt: skip


def matching(topic_filter):
    matcher = TopicMatcher([topic_filter])
    return {topic for topic in TOPICS if topic and matcher.matches(topic)}


def test_they_say_what_trying_every_topic_says():
    """All pairs of filters of up to three levels."""
    begins = ["/".join(levels) for count in (1, 2, 3) for levels in product(("a", "b", "", "$s", "+"), repeat=count)]
    filters = [text for begin in begins for text in (begin, f"{begin}/#") if filter_problem(text) is None] + ["#"]
    found = {text: matching(text) for text in filters}
    for one, other in product(filters, repeat=2):
        left, right = found[one], found[other]
        assert covers(one, other) == (right <= left), (one, other)
        assert overlap(one, other) == (not left.isdisjoint(right)), (one, other)


@given(FILTERS)
def test_a_filter_covers_itself_and_overlaps_it(one):
    assert covers(one, one)
    assert overlap(one, one)


@given(FILTERS)
def test_a_prefix_says_the_same_as_its_filter(one):
    begin = prefix_of(one)
    if begin is not None:
        assert {topic for topic in TOPICS if topic.startswith(begin)} == matching(one)


@pytest.mark.parametrize(
    ("wide", "narrow", "covered", "overlapping"),
    [
        ("placeos/acme/#", "placeos/acme/state/+/power", True, True),
        ("+", "/#", False, False),  # but for the empty topic, which is none
        ("/+/#", "/#", True, True),
        ("#", "/#", True, True),
        ("+/#", "#", True, True),
        ("placeos/acme/#", "placeos/acme", True, True),
        ("placeos/acme/#", "placeos/+/state/#", False, True),
        ("placeos/acme/#", "placeos/other/#", False, False),
        ("placeos/acme/#", "#", False, True),
        ("placeos/acme/#", "placeos/acme-2/#", False, False),
        ("#", "$SYS/#", False, False),
        ("+/#", "$SYS/#", False, False),
        ("$SYS/#", "#", False, False),
        ("$SYS/#", "$SYS/broker/+", True, True),
        ("a/+", "a/b/#", False, True),
        ("a", "a/#", False, True),
        ("a/+/#", "a/#", False, True),
    ],
)
def test_the_cases_people_think_of(wide, narrow, covered, overlapping):
    assert (covers(wide, narrow), overlap(wide, narrow)) == (covered, overlapping)
