"""What failing costs, in a time of the test's own."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from northbound.admission import ThrottleOptions
from northbound.api import throttle
from northbound.api.identity import SignInRefused
from northbound.api.throttle import Throttle, network


class Clock:
    now = 1e6

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def made(clock, **more):
    return Throttle(ThrottleOptions(attempts=3, window=timedelta(seconds=60), **more), clock=clock)


def test_each_failure_waits_longer_and_after_some_there_is_no_answer(clock):
    ours = made(clock)
    assert [ours.failed("192.0.2.1") for _ in range(2)] == [0.1, 0.2]
    ours.check("192.0.2.1")
    ours.failed("192.0.2.1")
    with pytest.raises(SignInRefused) as caught:
        ours.check("192.0.2.1")
    assert (caught.value.reason, caught.value.retry_after) == ("too_many", 60.0)
    ours.check("192.0.2.2")
    clock.now += 59
    with pytest.raises(SignInRefused):
        ours.check("192.0.2.1")
    clock.now += 1
    ours.check("192.0.2.1")
    assert ours.failed("192.0.2.1") == 0.1


def test_the_longest_wait_is_two_seconds(clock):
    ours = made(clock)
    assert max(ours.failed("x") for _ in range(2000)) == 2.0


def test_many_addresses_are_remembered_up_to_a_bound(clock, monkeypatch):
    monkeypatch.setattr(throttle, "_MOST_ADDRESSES", 100)
    ours = made(clock)
    for number in range(1000):
        ours.failed(f"10.0.{number // 256}.{number % 256}")
    assert len(ours) == 100
    for _ in range(3):
        ours.failed("10.0.3.231")
    with pytest.raises(SignInRefused):
        ours.check("10.0.3.231")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "unix", False),
    ],
)
def test_what_counts_as_one_address(one, other, same):
    assert (network(one) == network(other)) == same


@given(st.text(max_size=200))
def test_any_text_is_an_address(text):
    assert len(network(text)) <= 64


@given(st.lists(st.tuples(st.floats(0, 90), st.booleans()), max_size=40))
def test_never_more_failures_in_a_window_than_allowed(steps):
    clock = Clock()
    ours = made(clock)
    answered = []
    for pause, _ in steps:
        clock.now += pause
        try:
            ours.check("a")
        except SignInRefused as refused:
            wait = refused.retry_after
        else:
            answered.append(clock.now)
            ours.failed("a")
            continue
        assert 0 < wait <= 60
    # A window begins with its first failure, so that any four failures lie within no single one.
    begun, count = -1e9, 0
    for moment in answered:
        if moment - begun >= 60:
            begun, count = moment, 0
        count += 1
        assert count <= 3
