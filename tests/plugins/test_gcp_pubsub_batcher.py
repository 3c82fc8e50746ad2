"""The batcher by itself: whatever fails, each lane keeps its order and every call is told the truth."""

from __future__ import annotations

import asyncio
import random

import pytest
from google.pubsub_v1.types import pubsub
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.pubsub import TOPIC, outgoing

from northbound import DeliveryError, NotConnected, Outgoing, PartialDelivery, Rejected, Unavailable
from northbound_gcp_pubsub.attributes import Attributes
from northbound_gcp_pubsub.batcher import Batcher, RequestRefused
from northbound_gcp_pubsub.options import REQUEST_OVERHEAD


def number(message: Outgoing) -> int:
    return int(message.payload)


class Service:
    """Takes requests after a while, or fails them; ``bad`` messages are refused with the request they are in."""

    def __init__(self, rng: random.Random, *, failing: float, bad: set[int]) -> None:
        self.rng, self.failing, self.bad = rng, failing, bad
        self.taken: dict[int, list[int]] = {}
        self.under_way: set[int] = set()
        self.largest = 0

    async def publish(self, lane: int, messages) -> None:
        assert lane not in self.under_way, "two requests of one lane at once"
        self.under_way.add(lane)
        self.largest = max(self.largest, len(messages))
        try:
            for _ in range(self.rng.randrange(4)):
                await asyncio.sleep(0)
            if self.bad & set(map(number, messages)):
                raise RequestRefused("one of them is bad")
            taken = self.taken.setdefault(lane, [])
            if self.rng.random() < self.failing:
                if self.rng.random() < 0.3:  # the acknowledgement is lost
                    taken += map(number, messages)
                raise self.rng.choice([Unavailable("busy"), NotConnected("gone")])
            taken += map(number, messages)
        finally:
            self.under_way.discard(lane)


async def deliver(batcher: Batcher, batches, lanes: int, in_flight: int) -> dict[int, DeliveryError]:
    """Do as the engine does: several batches under way; after a failure wait for all, then begin with what failed."""
    waiting, refused = list(batches), {}
    while waiting:
        window: list[list[Outgoing]] = []
        calls = []
        failed = asyncio.Event()

        async def call(batch, failed=failed):
            try:
                await batcher.send([(m, number(m) % lanes, 10) for m in batch])
            except PartialDelivery as partial:
                if not all(isinstance(error, Rejected) for error in partial.failures.values()):
                    failed.set()
                return partial.failures
            return {}

        async with asyncio.TaskGroup() as tasks:
            while waiting and not failed.is_set():
                if sum(not done.done() for done in calls) >= in_flight:
                    await asyncio.sleep(0)
                    continue
                window.append(waiting.pop(0))
                calls.append(tasks.create_task(call(window[-1])))
        again = []
        for batch, done in zip(window, calls, strict=True):
            rest = []
            for index, error in done.result().items():
                if isinstance(error, Rejected):
                    refused[number(batch[index])] = error
                else:
                    rest.append(batch[index])
            again.append(sorted(rest, key=number))
        waiting = [batch for batch in again if batch] + waiting
    return refused


@settings(max_examples=examples(60))
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 4), st.sampled_from([0.0, 0.1, 0.5]), st.integers(1, 9))
def test_order_is_kept_and_nothing_is_lost(seed, lanes, in_flight, failing, most):
    rng = random.Random(seed)
    count = 120
    bad = {n for n in range(count) if rng.random() < 0.03}
    service = Service(rng, failing=failing, bad=bad)

    async def run() -> dict[int, DeliveryError]:
        batcher = Batcher(service.publish, lanes, request_messages=most, request_bytes=10_000)
        batches, at = [], 0
        while at < count:
            size = rng.randrange(1, 20)
            batches.append([outgoing(n) for n in range(at, min(count, at + size))])
            at += size
        async with asyncio.timeout(20):
            refused = await deliver(batcher, batches, lanes, in_flight)
        assert batcher.under_way == 0
        return refused

    refused = asyncio.run(run())
    assert set(refused) == bad
    assert service.largest <= most
    for lane, taken in service.taken.items():
        assert list(dict.fromkeys(taken)) == [n for n in range(count) if n % lanes == lane and n not in bad]


async def test_a_lane_is_paced_and_the_others_are_not_held_up():
    sent: list[tuple[int, float]] = []

    async def publish(lane: int, messages) -> None:
        sent.append((lane, asyncio.get_running_loop().time()))

    batcher = Batcher(publish, 2, request_messages=1, request_bytes=10_000, rate=10_000)
    await batcher.send([(outgoing(n), 0, 3_000) for n in range(4)] + [(outgoing(9), 1, 3_000)])
    begin = sent[0][1]
    slow = [at - begin for lane, at in sent if lane == 0]
    # half a second was saved up: two go at once, and each after it waits for what the one before it took
    assert slow[-1] >= 0.35
    assert [lane for lane, _ in sent[:3]].count(1) == 1


async def test_everything_behind_a_cancelled_call_is_told_so():
    never = asyncio.Event()

    async def publish(lane: int, messages) -> None:
        await never.wait()

    batcher = Batcher(publish, 1, request_messages=10, request_bytes=10_000)
    first = asyncio.create_task(batcher.send([(outgoing(1), 0, 1)]))
    await asyncio.sleep(0)
    second = asyncio.create_task(batcher.send([(outgoing(2), 0, 1)]))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(PartialDelivery, match="given up"):
        await second
    never.set()
    await asyncio.sleep(0)
    await batcher.send([(outgoing(3), 0, 1)])


TEXTS = st.text(max_size=60)


@given(
    st.lists(
        st.tuples(
            TEXTS, st.dictionaries(st.text(min_size=1, max_size=20), TEXTS, max_size=12), st.binary(max_size=400)
        ),
        max_size=5,
    )
)
def test_a_request_is_never_larger_than_estimated(rows):
    attributes = Attributes(1024, "key")
    request = pubsub.PublishRequest.pb()(topic=TOPIC)
    estimated = REQUEST_OVERHEAD
    for n, (topic, beside, payload) in enumerate(rows):
        message = outgoing(n, f"{topic}-{n}", payload, **{f"p-{name}": value for name, value in beside.items()})
        estimated += attributes.place(message).size + len(payload)
        request.messages.add(data=payload, attributes=attributes.of(message), ordering_key="k-1023")
    assert request.ByteSize() <= estimated
