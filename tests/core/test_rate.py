"""The token bucket, with the time passed in."""

from hypothesis import given
from hypothesis import strategies as st

from northbound.rate import TokenBucket


@given(
    rate=st.floats(0.1, 10_000),
    burst=st.floats(1, 1000),
    steps=st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 50)), max_size=60),
)
def test_no_more_passes_than_the_rate_and_two_bursts(rate, burst, steps):
    bucket = TokenBucket(rate, burst)
    now = taken = largest = 0.0
    for pause, amount in steps:
        now += pause
        if bucket.wait(now) == 0.0:
            bucket.take(amount)
            taken += amount
            largest = max(largest, amount)
        assert taken <= rate * now + burst + largest + 1e-6


@given(rate=st.floats(0.1, 10_000), burst=st.floats(1, 1000), amount=st.floats(0.1, 5000))
def test_after_the_wait_it_says_something_may_pass(rate, burst, amount):
    bucket = TokenBucket(rate, burst)
    assert bucket.wait(5.0) == 0.0
    bucket.take(amount)
    wait = bucket.wait(5.0)
    assert wait <= amount / rate + 1e-3
    assert bucket.wait(5.0 + wait + 1e-5) == 0.0


@given(rate=st.integers(1, 1000), pauses=st.lists(st.floats(0, 0.5), max_size=60))
def test_one_at_a_time_never_more_than_the_rate_in_any_second(rate, pauses):
    """What a provider that counts would see: with a burst of one there is no second with one more."""
    bucket, now, passed = TokenBucket(float(rate), 1), 0.0, []
    for pause in pauses:
        now += pause
        while (wait := bucket.wait(now)) > 0.0:
            now += wait
        bucket.take(1)
        passed.append(now)
    for first, last in zip(passed, passed[rate:], strict=False):
        assert last - first >= 1 - 1e-6
