"""The window against a model: a destination that applies what it is sent in order, over connections that break."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.examples import examples

from northbound.errors import NotConnected, Rejected, Unavailable
from northbound.message import Message, Outgoing
from northbound.status import Counters
from northbound.store.records import Entries, stored_size
from northbound.window import POISON_HANGUPS, Window

TOPICS = "abc"


def message(topic, sequence):
    return Message(topic, str(sequence).encode(), "state", 0, True)


def outgoing(message, sequence):
    return Outgoing(message.topic, message.payload, "state", 0, True, message.topic, str(sequence))


def entries(*rows, through=None):
    """Rows are (topic, sequence)."""
    sequences = [sequence for _, sequence in rows]
    return Entries(sequences, sequences, [message(*row) for row in rows], through or sequences[-1])


def sequences(batch):
    return [int(item.key) for item in batch]


class WindowMachine(RuleBasedStateMachine):
    """The worker's rules: sends overlap; after a failure nothing is sent until nothing is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.topics = [TOPICS[n * n % 3] for n in range(40)]  # of the messages in the log, sequence 1 first
        self.window = Window("c", 0)
        self.flying: list = []  # (parcel, batch, call)
        self.failing = self.broken = self.anything_failed = False
        self.calls = 0
        self.applied: list[tuple[int, int]] = []  # (call, sequence) of what was acknowledged
        self.acknowledged: dict[str, int] = {}
        self.settled = 0
        self.counters = Counters()
        self.dead: list[int] = []
        self.first_at_hangups: dict[int, int] = {}

    def _route(self, item, sequence):
        if sequence % 13 == 0:
            return "filtered"
        if sequence % 17 == 0:
            raise Rejected("does not fit")
        return outgoing(item, sequence)

    @precondition(lambda self: self.window.position == len(self.topics))
    @rule(topics=st.lists(st.sampled_from(TOPICS), min_size=1, max_size=6))
    def grow(self, topics):
        self.topics += topics

    @precondition(lambda self: not self.failing and self.window.position < len(self.topics))
    @rule(count=st.integers(1, 8), skipped=st.sets(st.integers(0, 7), max_size=2))
    def read(self, count, skipped):
        after = self.window.position
        through = min(after + count, len(self.topics))
        rows = []
        for place, sequence in enumerate(range(after + 1, through + 1)):
            newer = self.topics[sequence - 1] in self.topics[sequence:]
            if not (place in skipped and newer):
                rows.append((self.topics[sequence - 1], sequence))
        found = [s for _, s in rows]
        self.window.add(Entries(found, found, [message(*row) for row in rows], through), self._route)

    @precondition(lambda self: not self.failing)
    @rule()
    def send(self):
        if self.window.isolating and self.flying:
            return
        parcel = self.window.next_unsent()
        if parcel is None:
            return
        batch = self.window.start(parcel)
        assert batch
        for sequence in sequences(batch):
            topic = self.topics[sequence - 1]
            assert sequence > self.acknowledged.get(topic, 0), "sent behind a newer value that was acknowledged"
        self.calls += 1
        self.flying.append((parcel, batch, self.calls))

    def _acknowledge(self, numbers, call):
        self.applied += [(call, sequence) for sequence in numbers]
        for sequence in numbers:
            topic = self.topics[sequence - 1]
            self.acknowledged[topic] = max(sequence, self.acknowledged.get(topic, 0))

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def acknowledge(self, data):
        parcel, batch, call = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        if self.broken:
            self._fail(parcel, batch, call, {i: NotConnected() for i in range(len(batch))})
            return
        self._acknowledge(sequences(batch), call)
        self.window.acknowledged(parcel)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def fail_some(self, data):
        parcel, batch, call = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        kinds = st.sampled_from([None, None, Unavailable("busy"), Rejected("no"), NotConnected("gone")])
        failures = {i: e for i in range(len(batch)) if (e := data.draw(kinds)) is not None}
        self._fail(parcel, batch, call, failures)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def refuse_whole(self, data):
        parcel, batch, _ = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        assert self.window.refused(parcel, Rejected("one of them")) == (len(batch) == 1)

    def _fail(self, parcel, batch, call, failures):
        taken = [s for i, s in enumerate(sequences(batch)) if i not in failures]
        self._acknowledge(taken, call)
        assert self.window.failed(parcel, failures) == len(taken)
        kinds = [e for e in failures.values() if not isinstance(e, Rejected)]
        if kinds:
            self.failing = self.anything_failed = True
        self.broken = self.broken or any(isinstance(e, NotConnected) for e in kinds)

    @precondition(lambda self: len(self.flying) > 2)
    @rule()
    def cut(self):
        self.failing = self.broken = True

    @precondition(lambda self: self.failing and not self.flying)
    @rule(give_up=st.booleans())
    def recover(self, give_up):
        if self.broken:
            first = self.window.first_failed
            if self.anything_failed and first is not None:
                self.first_at_hangups = {first: self.first_at_hangups.get(first, 0) + 1}
            aside = self.window.hung_up(NotConnected("gone"), sent=self.anything_failed)
            if aside:
                assert self.first_at_hangups.get(first, 0) >= POISON_HANGUPS
                self.first_at_hangups = {}
        elif give_up and self.window.first_failed is not None:
            assert self.window.give_up("too long") > 0
        self.failing = self.broken = self.anything_failed = False

    @precondition(lambda self: self.calls % 5 == 4)
    @rule()
    def forget(self):
        before = self.window.settled
        self.window.forget_unsent()
        assert self.window.position >= before

    @precondition(lambda self: self.window.position < len(self.topics) and self.calls % 7 == 6)
    @rule()
    def drop_oldest(self):
        self.window.forget_unsent()
        after = self.window.position
        through = min(after + 2, len(self.topics))
        self.window.pass_over(through, Counters(dropped_queue_full=through - after), (through - after, 0))

    @rule()
    def settle(self):
        settlement = self.window.settle()
        if settlement is None:
            return
        assert settlement.position > self.settled
        self.settled = settlement.position
        self.counters.add(settlement.counters)
        self.dead += [sequence for sequence, _, _ in settlement.dead]

    @invariant()
    def every_message_ends_in_exactly_one_counter(self):
        assert self.window.settled == self.settled
        assert self.counters.total == self.settled
        assert self.counters.dead == len(self.dead) == len(set(self.dead))

    @invariant()
    def nothing_under_way_is_passed(self):
        for _, batch, _ in self.flying:
            assert min(sequences(batch)) > self.settled
        assert self.window.in_flight == sum(len(batch) for _, batch, _ in self.flying)

    def teardown(self):
        """Everything goes well from now on: it ends, isolating ends, and all is accounted for."""
        for parcel, batch, call in self.flying:
            self._fail(parcel, batch, call, {i: NotConnected() for i in range(len(batch))})
        self.flying = []
        for _ in range(1000):
            if self.window.position < len(self.topics) and not self.window.isolating:
                after = self.window.position
                rows = [(self.topics[s - 1], s) for s in range(after + 1, len(self.topics) + 1)]
                self.window.add(entries(*rows), self._route)
            parcel = self.window.next_unsent()
            if parcel is not None:
                batch = self.window.start(parcel)
                self.calls += 1
                self._acknowledge(sequences(batch), self.calls)
                self.window.acknowledged(parcel)
            self.settle()
            if self.settled == len(self.topics) and self.window.empty:
                break
        assert self.settled == len(self.topics), "it does not end"
        self.every_message_ends_in_exactly_one_counter()
        highest: dict[str, int] = {}
        for _, sequence in sorted(self.applied):
            topic = self.topics[sequence - 1]
            assert sequence > highest.get(topic, 0), f"{topic} went back from {highest[topic]} to {sequence}"
            highest[topic] = sequence


TestWindowMachine = WindowMachine.TestCase
TestWindowMachine.settings = settings(max_examples=examples(300), stateful_step_count=50)


def window_of(*batches):
    window = Window("c", 0)
    for rows in batches:
        window.add(entries(*rows), outgoing)
    return window


def test_poison_needs_three_hang_ups_in_a_row_as_first_in_line():
    window = window_of([("a", 1), ("b", 2), ("c", 3)])
    for hangup in range(POISON_HANGUPS):
        parcel = window.next_unsent()
        batch = window.start(parcel)
        assert sequences(batch) == ([1, 2, 3] if hangup == 0 else [1])
        window.failed(parcel, dict.fromkeys(range(len(batch)), NotConnected()))
        assert window.hung_up(NotConnected("it hung up"), sent=True) == (hangup == 2)
    assert not window.isolating
    parcel = window.next_unsent()
    assert sequences(window.start(parcel)) == [2, 3]
    window.acknowledged(parcel)
    settlement = window.settle()
    assert settlement.counters == Counters(acknowledged=2, dead=1)
    assert settlement.dead[0][2] == "stood first in line at 3 hang-ups in a row: it hung up"


def test_a_flapping_network_that_lets_something_through_sets_nothing_aside():
    window = window_of([("abcd"[n % 4], n + 1) for n in range(20)])
    for _ in range(200):
        parcel = window.next_unsent()
        if parcel is None:
            break
        batch = window.start(parcel)
        if len(batch) == 1:  # alone it gets through
            window.acknowledged(parcel)
            continue
        window.failed(parcel, dict.fromkeys(range(len(batch)), NotConnected()))
        window.hung_up(NotConnected(), sent=True)
    assert window.settle().counters == Counters(acknowledged=20)
    assert not window.isolating


def test_a_connection_lost_while_nothing_was_sent_makes_no_suspect():
    window = window_of([("a", 1), ("b", 2)])
    for _ in range(5):
        assert not window.hung_up(NotConnected(), sent=False)
        assert not window.isolating
    assert not Window("c", 0).hung_up(NotConnected(), sent=True)


def test_what_a_newer_acknowledged_value_has_overtaken_is_not_sent_again():
    window = window_of([("a", 1), ("b", 2)], [("a", 3), ("a", 4)])
    first, second = window.next_unsent(), None
    window.start(first)
    second = window.next_unsent()
    window.start(second)
    window.failed(first, {0: Unavailable(), 1: Unavailable()})
    window.acknowledged(second)
    assert window.next_unsent() is first
    assert sequences(window.start(first)) == [2]
    window.acknowledged(first)
    assert window.settle().counters == Counters(acknowledged=3, overtaken=1)


def test_a_newer_value_that_was_set_aside_overtakes_nothing():
    window = window_of([("a", 1), ("a", 2)])
    parcel = window.next_unsent()
    window.start(parcel)
    window.failed(parcel, {0: Unavailable(), 1: Rejected("too large")})
    assert window.next_unsent() is parcel
    assert sequences(window.start(parcel)) == [1]


def test_what_is_not_sent_at_all_is_kept_in_no_more_parcels():
    window = window_of([("a", 1)])
    parcel = window.next_unsent()
    window.start(parcel)
    for sequence in range(2, 100):
        window.add(entries(("b", sequence)), lambda *_: "filtered")
    assert window.parcels == 2
    assert window.settle() is None
    window.acknowledged(parcel)
    settlement = window.settle()
    assert settlement.position == 99
    assert settlement.counters == Counters(acknowledged=1, filtered=98)
    assert (settlement.passed, settlement.passed_bytes) == (
        99,
        stored_size([message("a", 1)] + [message("b", s) for s in range(2, 100)]),
    )


def test_forgetting_and_dropping_while_sends_are_under_way():
    window = window_of([("a", 1), ("a", 2)])
    parcel = window.next_unsent()
    window.start(parcel)
    window.add(entries(("b", 3)), outgoing)
    window.forget_unsent()
    assert window.position == 2
    window.pass_over(9, Counters(dropped_queue_full=7), (7, 700))
    assert window.settle() is None
    window.failed(parcel, {0: Unavailable(), 1: Unavailable()})
    assert window.next_unsent() is parcel
    window.start(parcel)
    window.acknowledged(parcel)
    settlement = window.settle()
    assert (settlement.position, settlement.counters) == (9, Counters(acknowledged=2, dropped_queue_full=7))


def test_only_what_failed_when_it_was_sent_last_is_given_up():
    window = window_of([("a", 1), ("b", 2), ("c", 3)])
    parcel = window.next_unsent()
    window.start(parcel)
    window.failed(parcel, dict.fromkeys(range(3), NotConnected()))
    window.hung_up(NotConnected(), sent=True)
    assert sequences(window.start(parcel)) == [1]
    window.failed(parcel, {0: NotConnected()})
    assert window.give_up("enough") == 1
    assert sequences(window.start(window.next_unsent())) == [2, 3]


@pytest.mark.parametrize("first", ["", "m"])
def test_the_first_snapshot_counts_apart(first):
    window = Window("c", first)
    window.add(Entries(["x", "y"], [5, 2], [message("x", 5), message("y", 2)], "y"), outgoing)
    window.add(Entries([], [], [], 9), outgoing)
    window.add(entries(("x", 10)), outgoing)
    for _ in range(2):
        parcel = window.next_unsent()
        window.start(parcel)
        window.acknowledged(parcel)
    settlement = window.settle()
    assert settlement.counters == Counters(acknowledged=3, from_snapshot=2)
    assert settlement.position == 10
    assert settlement.passed == 1
