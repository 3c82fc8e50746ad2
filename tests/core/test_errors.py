"""The error tree, and what an error says of itself."""

import re

import pytest

from northbound import errors
from northbound.errors import (
    DeliveryError,
    NotConnected,
    PartialDelivery,
    Rejected,
    Unauthorised,
    Unavailable,
)


def test_the_tree_at_the_top_is_the_tree_there_is():
    drawn = re.findall(r"^ +[│├└─ ]*([A-Z]\w+)", errors.__doc__, re.MULTILINE)
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == classes


def test_each_error_stands_where_it_is_drawn():
    parents: list[str] = []
    for drawn in errors.__doc__.splitlines():
        if (match := re.match(r"^    ([│├└─ ]*)([A-Z]\w+)", drawn)) is None:
            continue
        depth = len(match[1]) // 4
        parents = [*parents[:depth], match[2]]
        if depth:
            assert getattr(errors, match[2]).__bases__ == (getattr(errors, parents[-2]),)


@pytest.mark.parametrize("kind", [Unavailable, NotConnected])
def test_what_is_unavailable_may_say_for_how_long(kind):
    assert kind().retry_after is None
    assert kind("busy", retry_after=3).retry_after == 3
    assert str(kind("busy")) == "busy"
    assert str(kind())


def test_a_rejection_has_a_reason():
    assert Rejected("too long").reason == str(Rejected("too long")) == "too long"


def test_part_of_a_batch_says_which_and_why():
    error = PartialDelivery({3: Rejected("too long"), 5: Unavailable()})
    assert list(error.failures) == [3, 5]
    assert str(error) == "2 of a batch failed: too long"
    assert PartialDelivery({}).failures == {}


def test_refused_credentials_are_not_a_passing_trouble():
    assert not issubclass(Unauthorised, Unavailable)
    assert issubclass(Unauthorised, DeliveryError)
