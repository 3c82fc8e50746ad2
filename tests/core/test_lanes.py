"""Several connections as one: order per topic, balance, pace, and what fails on one of them."""

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from northbound import Lanes, NotConnected, Outgoing, PartialDelivery, Rejected


def message(topic, number=0, size=1):
    return Outgoing(topic, b"x" * size, "state", number, False, topic, f"s-{number}")


class Link:
    """A connection that acknowledges when told to."""

    def __init__(self, *, at_once=False):
        self.taken, self.waiting, self.at_once = [], [], at_once
        self.error = None

    def submit(self, batch):
        if self.error is not None:
            raise self.error
        self.taken += batch
        done = asyncio.get_running_loop().create_future()
        if self.at_once:
            done.set_result(None)
        else:
            self.waiting.append(done)
        return done

    def answer(self, error=None):
        done = self.waiting.pop(0)
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)


async def turn():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_messages_go_where_least_is_to_do():
    links = [Link(), Link(), Link()]
    lanes = Lanes([link.submit for link in links])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lanes.send([message(f"t{n}") for n in range(7)]))
        await turn()
        assert sorted(len(link.taken) for link in links) == [2, 2, 3]
        for link in links:
            link.answer()


async def test_a_topic_stays_on_its_lane_while_anything_of_it_is_under_way():
    links = [Link(), Link()]
    lanes = Lanes([link.submit for link in links])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lanes.send([message("a", 1), message("b", 2), message("b", 3), message("b", 4)]))
        await turn()
        tasks.create_task(lanes.send([message("b", 5), message("a", 6)]))
        await turn()
        assert [m.time for m in links[0].taken] == [1, 6]
        assert [m.time for m in links[1].taken] == [2, 3, 4, 5]
        links[1].answer()
        links[1].answer()
        await turn()
        tasks.create_task(lanes.send([message("c", 7), message("b", 8)]))
        await turn()
        assert links[1].taken[-1].time in (7, 8)
        for link in links:
            while link.waiting:
                link.answer()
    assert lanes._places == {}
    assert [lane.busy for lane in lanes._lanes] == [0, 0]


async def test_a_sticky_topic_always_takes_the_same_lane():
    links = [Link(at_once=True) for _ in range(4)]
    lanes = Lanes([link.submit for link in links], sticky=True)
    for number in range(40):
        await lanes.send([message(f"t{number % 20}", number)])
    for link in links:
        assert all(sum(m.topic == other.topic for other in link.taken) == 2 for m in link.taken)
    assert sum(bool(link.taken) for link in links) > 1


async def test_what_fails_on_one_lane_is_told_by_its_index():
    links = [Link(), Link()]
    lanes = Lanes([link.submit for link in links])
    task = asyncio.create_task(lanes.send([message(t) for t in "abcd"]))
    await turn()
    links[0].answer(PartialDelivery({1: Rejected("no")}))
    links[1].answer(NotConnected("gone"))
    with pytest.raises(PartialDelivery) as caught:
        await task
    words = {index: str(error) for index, error in caught.value.failures.items()}
    assert words == {1: "gone", 2: "no", 3: "gone"}
    assert lanes._places == {}


async def test_a_lane_that_takes_nothing_leaves_the_others_alone():
    links = [Link(at_once=True), Link(at_once=True)]
    links[0].error = NotConnected("down")
    lanes = Lanes([link.submit for link in links])
    with pytest.raises(PartialDelivery) as caught:
        await lanes.send([message(t) for t in "abcd"])
    assert set(caught.value.failures) == {0, 2}
    assert [m.topic for m in links[1].taken] == ["b", "d"]


async def test_a_cancelled_call_leaves_nothing_behind():
    links = [Link(), Link()]
    lanes = Lanes([link.submit for link in links], rate=20)
    task = asyncio.create_task(lanes.send([message(str(n)) for n in range(50)]))
    await turn()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lanes._places == {}
    assert not any(lane.turn.locked() for lane in lanes._lanes)


async def test_coroutines_that_nobody_awaits_are_closed():
    async def answer():
        await asyncio.Event().wait()

    lanes = Lanes([lambda batch: answer()], rate=100)  # three parts: two behind the one that is awaited
    task = asyncio.create_task(lanes.send([message(str(n)) for n in range(25)]))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(("rate", "bytes_rate"), [(200, None), (None, 2000)])
async def test_each_lane_keeps_its_pace_and_the_order_of_the_calls(rate, bytes_rate):
    """No faster than allowed is a promise to the destination; how slow it may be is not asserted."""
    links = [Link(at_once=True), Link(at_once=True)]
    lanes = Lanes([link.submit for link in links], rate=rate, bytes_rate=bytes_rate)
    begun = time.monotonic()
    calls = [[message(f"t{n % 7}", n + 40 * call, size=8) for n in range(40)] for call in range(3)]
    await asyncio.gather(*map(lanes.send, calls))
    took = time.monotonic() - begun
    for link in links:
        amount = len(link.taken) if rate else sum(len(m.topic) + len(m.payload) for m in link.taken)
        assert amount <= (rate or bytes_rate) * (took + 0.15)
        for topic in {m.topic for m in link.taken}:
            numbers = [m.time for m in link.taken if m.topic == topic]
            assert numbers == sorted(numbers)


def test_topics_are_measured_in_bytes():
    lanes = Lanes([Link().submit], bytes_rate=200)
    assert [lanes._lanes[0].length([message(letter * 10, size=0)] * 4) for letter in "aäあ"] == [2, 1, 1]


def test_there_is_no_lane_without_a_connection():
    with pytest.raises(ValueError, match="no lane"):
        Lanes([])


@settings(max_examples=examples(60))
@given(
    st.lists(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=6), min_size=1, max_size=8),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_no_topic_is_under_way_on_two_lanes_and_none_overtakes_itself(calls, count, random, sticky):
    async def run():
        links = [Link() for _ in range(count)]
        lanes = Lanes([link.submit for link in links], sticky=sticky)
        number = 0
        async with asyncio.TaskGroup() as tasks:
            for call in calls:
                batch = []
                for topic in call:
                    number += 1
                    batch.append(message(topic, number))
                tasks.create_task(lanes.send(batch))
                await turn()
                busy = [link for link in links if link.waiting]
                if busy and random.random() < 0.6:
                    random.choice(busy).answer()
                    await turn()
            while busy := [link for link in links if link.waiting]:
                random.choice(busy).answer()
                await turn()
        arrived = [m for link in links for m in link.taken]
        assert len(arrived) == number
        for topic in {m.topic for m in arrived}:
            for link in links:
                numbers = [m.time for m in link.taken if m.topic == topic]
                assert numbers == sorted(numbers)

    asyncio.run(run())
