"""Waits against the policy. A clock of our own stands in for tenacity's; nothing sleeps."""

import math
from datetime import timedelta
from types import SimpleNamespace

import pydantic
import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from northbound.errors import NotConnected, Rejected, Unauthorised, Unavailable
from northbound.retry import LONGEST_RETRY_AFTER, UNAUTHORISED_INITIAL, Backoff, Connects, RetryPolicy

LONGEST = LONGEST_RETRY_AFTER.total_seconds()


def policy(**options):
    return RetryPolicy.model_validate({"jitter": 0} | options)


def waits(backoff, count, error=None):
    return [backoff.failed(error or Unavailable()) for _ in range(count)]


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0, monotonic=lambda: clock.now, sleep=None)
    monkeypatch.setattr(tenacity, "time", clock)
    return clock


def test_waits_double_from_half_a_second_to_a_minute():
    assert waits(Backoff(policy()), 9) == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"initial": "1s", "multiplier": 3, "maximum": "20s"}, [1, 3, 9, 20, 20]),
        ({"initial": "2s", "multiplier": 1}, [2, 2, 2]),
        ({"initial": "10s", "maximum": "1s"}, [1, 1]),
        ({"initial": "1ms", "maximum": "1ms"}, [0.001, 0.001]),
    ],
)
def test_the_policy_is_followed(options, expected):
    assert waits(Backoff(policy(**options)), len(expected)) == expected


def test_ten_thousand_failures_overflow_nothing():
    assert waits(Backoff(policy(multiplier=10)), 10_000)[-1] == 60


def test_success_starts_over():
    backoff = Backoff(policy())
    assert backoff.failures == 0
    waits(backoff, 5)
    assert backoff.failures == 5
    backoff.succeeded()
    assert backoff.failures == 0
    assert waits(backoff, 2) == [0.5, 1]


@settings(max_examples=examples(100))
@given(
    st.floats(0.001, 100),
    st.floats(0.001, 1000),
    st.floats(1, 10),
    st.floats(0, 1),
    st.integers(1, 12),
)
def test_no_wait_leaves_its_bounds(initial, maximum, multiplier, jitter, count):
    bounds = RetryPolicy.model_validate(
        {"initial": initial, "maximum": maximum, "multiplier": multiplier, "jitter": jitter}
    )
    initial, maximum = bounds.initial.total_seconds(), bounds.maximum.total_seconds()
    for failure, wait in enumerate(waits(Backoff(bounds), count)):
        least = min(initial * multiplier**failure, maximum / (1 + jitter))
        assert least * 0.999 <= wait <= min(least * (1 + jitter), maximum) * 1.001


def test_jitter_spreads_the_waits_at_the_maximum_too():
    found = {round(waits(Backoff(policy(jitter=0.5, initial="60s")), 1)[0], 6) for _ in range(20)}
    assert len(found) > 10
    assert all(40 <= wait <= 60 for wait in found)


@pytest.mark.parametrize(
    ("retry_after", "wait"),
    [
        (None, 0.5),
        (0, 0.5),
        (0.1, 0.5),
        (7, 7),
        (120, 120),
        (-5, 0.5),
        (math.nan, 0.5),
        (math.inf, LONGEST),
        (1e9, LONGEST),
    ],
)
@pytest.mark.parametrize("error", [Unavailable, NotConnected])
def test_the_destination_s_own_wish_is_honoured_within_reason(retry_after, wait, error):
    assert waits(Backoff(policy()), 1, error(retry_after=retry_after)) == [wait]


def test_refused_credentials_are_tried_slowly():
    slow = UNAUTHORISED_INITIAL.total_seconds()
    assert waits(Backoff(policy()), 6, Unauthorised("no")) == [slow, 2 * slow, 4 * slow, 8 * slow, 10 * slow, 10 * slow]
    assert waits(Backoff(policy(initial="2m", maximum="1h")), 2, Unauthorised("no")) == [120, 240]


def test_refused_credentials_after_other_failures_are_not_tried_sooner():
    backoff = Backoff(policy())
    waits(backoff, 3)
    assert backoff.failed(Unauthorised("no")) >= UNAUTHORISED_INITIAL.total_seconds()


def test_without_bounds_nothing_is_given_up(clock):
    backoff = Backoff(policy())
    assert not backoff.exhausted
    waits(backoff, 1000)
    clock.now += 1e9
    waits(backoff, 1)
    assert not backoff.exhausted


def test_attempts_are_counted():
    backoff = Backoff(policy(attempts=3))
    found = []
    for _ in range(4):
        found.append(backoff.exhausted)
        waits(backoff, 1)
    assert found == [False, False, False, True]
    backoff.succeeded()
    assert not backoff.exhausted


def test_one_attempt_is_one_failure():
    backoff = Backoff(policy(attempts=1))
    waits(backoff, 1, Rejected("no"))
    assert backoff.exhausted


def test_time_is_counted_from_the_first_failure(clock):
    backoff = Backoff(policy(give_up_after="10s"))
    waits(backoff, 1)
    clock.now += 9.9
    waits(backoff, 1)
    assert not backoff.exhausted
    clock.now += 0.2
    waits(backoff, 1)
    assert backoff.exhausted
    backoff.succeeded()
    waits(backoff, 1)
    assert not backoff.exhausted


def test_whichever_bound_comes_first(clock):
    backoff = Backoff(policy(attempts=2, give_up_after="1h"))
    waits(backoff, 2)
    assert backoff.exhausted
    backoff = Backoff(policy(attempts=100, give_up_after="1s"))
    waits(backoff, 1)
    clock.now += 2
    waits(backoff, 1)
    assert backoff.exhausted


def made(connects, pauses):
    """Make a connection after each of ``pauses``, or later where it must wait; returns how long each had to."""
    now, waited = 0.0, []
    for pause in pauses:
        now += pause
        waited.append(connects.wait(now))
        now += waited[-1]
        connects.made(now)
    return waited


def test_six_connections_may_follow_each_other_then_they_are_ten_seconds_apart():
    assert made(Connects(policy()), [1] * 9) == [0, 0, 0, 0, 0, 0, 9, 9, 9]


def test_connections_that_last_are_followed_at_once():
    assert not any(made(Connects(policy()), [13] * 50))
    assert made(Connects(policy()), [1] * 8 + [100] + [1] * 7)[8:] == [0, 0, 0, 0, 0, 0, 9, 9]


def test_a_policy_of_shorter_waits_is_one_for_connections_too():
    assert made(Connects(policy(maximum="2s")), [0.5] * 8) == [0, 0, 0, 0, 0, 0, 1.5, 1.5]


@settings(max_examples=examples(50))
@given(st.lists(st.floats(0, 30), min_size=20, max_size=60))
def test_there_are_never_more_than_twelve_in_a_minute(pauses):
    now, at, connects = 0.0, [], Connects(policy())
    for pause in pauses:
        now += pause
        now += connects.wait(now)
        connects.made(now)
        at.append(now)
    assert all(sum(begin <= other < begin + 60 for other in at) <= 12 for begin in at)


@pytest.mark.parametrize(
    "options",
    [
        {"initial": "0s"},
        {"initial": 0},
        {"maximum": "0s"},
        {"initial": "-1s"},
        {"multiplier": 0.5},
        {"multiplier": 11},
        {"multiplier": math.nan},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"jitter": math.nan},
        {"attempts": 0},
        {"attempts": 1.5},
        {"give_up_after": "soon"},
        {"intial": "1s"},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_is_refused(options):
    with pytest.raises(pydantic.ValidationError):
        RetryPolicy.model_validate(options)


def test_the_defaults():
    assert RetryPolicy() == RetryPolicy(initial=timedelta(seconds=0.5), maximum=timedelta(minutes=1))
    assert RetryPolicy().model_dump(mode="json")["initial"] == "500ms"
