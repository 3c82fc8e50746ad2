"""What one connector has read and not yet settled. Pure: the state machine of delivery, without sockets or clocks.

A parcel is a batch on its way. Parcels are settled in order, from the front, so that the cursor never passes a message
that is neither acknowledged nor accounted for. After a failure the parcels are sent again from the first unsettled
message on; a message whose topic a later, acknowledged one has overtaken is skipped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal

from northbound.errors import DeliveryError, NotConnected, Rejected
from northbound.message import Message, Outgoing
from northbound.status import Counters
from northbound.store.records import Entries, Position, Settlement, stored_size

#: A message that stands first in line at so many hang-ups in a row is poison.
POISON_HANGUPS: Final = 3

#: Why a message is not sent: it is not for this connector, or a privacy rule keeps it back. Named as it is counted.
Unsent = Literal["filtered", "withheld"]
#: (message, sequence) → what is sent, or why not; may raise ``Rejected``.
Route = Callable[[Message, int], Outgoing | Unsent]


class Parcel:
    """A batch of one connector: ``outgoing`` is what is sent, ``pending`` the indices not yet acknowledged."""

    __slots__ = (
        "counters",
        "dead",
        "failed",
        "in_flight",
        "outgoing",
        "passed",
        "pending",
        "sent",
        "singly",
        "sources",
        "through",
        "tried",
    )

    def __init__(self, through: Position) -> None:
        self.through = through
        self.outgoing: Sequence[Outgoing] = ()
        self.sources: Sequence[tuple[int, Message]] = ()
        self.pending: list[int] = []
        self.sent: list[int] = []
        self.failed: list[int] = []
        self.singly = False
        self.in_flight = False
        self.tried = False
        self.counters = Counters()
        self.dead: list[tuple[int, Message, str]] = []
        self.passed = (0, 0)

    def set_aside(self, index: int, reason: str) -> None:
        """Make a dead letter of one message."""
        sequence, message = self.sources[index]
        self.dead.append((sequence, message, reason))
        self.counters.dead += 1


class Window:
    """The parcels of one connector, oldest first."""

    def __init__(self, connector: str, position: Position) -> None:
        self._connector = connector
        self._settled = position
        self._parcels: deque[Parcel] = deque()
        self._suspect: tuple[int, int] | None = None  # sequence, hang-ups in a row

    @property
    def position(self) -> Position:
        """The last position read."""
        return self._parcels[-1].through if self._parcels else self._settled

    @property
    def settled(self) -> Position:
        """The last position settled."""
        return self._settled

    @property
    def empty(self) -> bool:
        """Whether nothing is unsettled."""
        return not self._parcels

    @property
    def parcels(self) -> int:
        """How many batches are kept."""
        return len(self._parcels)

    @property
    def dead(self) -> int:
        """Messages set aside in batches that are not settled yet."""
        return sum(len(parcel.dead) for parcel in self._parcels)

    @property
    def first_failed(self) -> int | None:
        """The sequence of the first message that was sent and is still to be sent again."""
        for parcel in self._parcels:
            if parcel.failed and parcel.pending:
                return parcel.sources[parcel.pending[0]][0]
        return None

    @property
    def in_flight(self) -> int:
        """Messages being sent now."""
        return sum(len(parcel.sent) for parcel in self._parcels if parcel.in_flight)

    def add(self, entries: Entries, route: Route) -> Parcel:
        """Take in what was read; what is not sent at all is accounted for at once."""
        before = self.position
        parcel = Parcel(entries.through)
        counters = parcel.counters
        outgoing: list[Outgoing] = []
        sources: list[tuple[int, Message]] = []
        for message, sequence in zip(entries.messages, entries.sequences, strict=True):
            try:
                shaped = route(message, sequence)
            except Rejected as error:
                parcel.dead.append((sequence, message, error.reason))
                counters.dead += 1
                continue
            if shaped == "filtered":
                counters.filtered += 1
            elif shaped == "withheld":
                counters.withheld += 1
            else:
                outgoing.append(shaped)
                sources.append((sequence, message))
        count = len(entries.messages)
        if isinstance(before, int) and isinstance(entries.through, int):
            counters.superseded = entries.through - before - count
        else:
            counters.from_snapshot = count
        parcel.passed = (count, stored_size(entries.messages)) if isinstance(before, int) else (0, 0)
        parcel.outgoing = outgoing
        parcel.sources = sources
        parcel.pending = list(range(len(outgoing)))
        before_it = self._parcels[-1] if self._parcels else None
        if outgoing or before_it is None or before_it.pending or before_it.in_flight:
            self._parcels.append(parcel)
        else:  # nothing to send behind what is finished: not one parcel more to keep
            before_it.through = parcel.through
            before_it.counters.add(counters)
            before_it.dead.extend(parcel.dead)
            before_it.passed = (before_it.passed[0] + parcel.passed[0], before_it.passed[1] + parcel.passed[1])
        return parcel

    def pass_over(self, through: int, counters: Counters, passed: tuple[int, int]) -> None:
        """Account for messages that were given up unread, up to ``through``."""
        parcel = Parcel(through)
        parcel.counters = counters
        parcel.passed = passed
        self._parcels.append(parcel)

    def forget_unsent(self) -> None:
        """Drop what was read but never tried, so that it is read again."""
        while self._parcels and not self._parcels[-1].tried:
            self._parcels.pop()

    def next_unsent(self) -> Parcel | None:
        """Return the first parcel that waits to be sent, without what has been overtaken meanwhile."""
        for parcel in self._parcels:
            if parcel.pending and not parcel.in_flight:
                if parcel.tried:
                    self._skip_overtaken(parcel)
                if parcel.pending:
                    return parcel
        return None

    def start(self, parcel: Parcel) -> Sequence[Outgoing]:
        """Mark ``parcel`` as being sent and return what to send: a suspect of poison is sent alone."""
        parcel.in_flight = parcel.tried = True
        parcel.sent = parcel.pending[:1] if parcel.singly else parcel.pending
        if self._suspect is not None:
            if parcel.sources[parcel.pending[0]][0] == self._suspect[0]:
                parcel.sent = parcel.pending[:1]
            else:
                self._suspect = None
        if len(parcel.sent) == len(parcel.outgoing):
            return parcel.outgoing
        return [parcel.outgoing[index] for index in parcel.sent]

    @property
    def isolating(self) -> bool:
        """Whether messages are sent one by one, to find the one at fault: nothing else may be sent beside them."""
        return self._suspect is not None or any(parcel.singly and parcel.pending for parcel in self._parcels)

    def acknowledged(self, parcel: Parcel) -> None:
        """All that was sent of ``parcel`` has been acknowledged."""
        self._finished(parcel, {})

    def failed(self, parcel: Parcel, failures: Mapping[int, DeliveryError]) -> int:
        """Take in what failed, by index within what was sent; returns how many were acknowledged all the same."""
        by_index = {parcel.sent[place]: error for place, error in failures.items() if place < len(parcel.sent)}
        return self._finished(parcel, by_index)

    def refused(self, parcel: Parcel, error: Rejected) -> bool:
        """Take in that all that was sent was refused at once; returns whether that made a dead letter.

        Of several messages it does not say which is at fault: they are sent again one by one.
        """
        if len(parcel.sent) > 1:
            parcel.singly = True
            parcel.failed, parcel.sent = parcel.sent, []
            parcel.in_flight = False
            return False
        self._finished(parcel, dict.fromkeys(parcel.sent, error))
        return True

    def _finished(self, parcel: Parcel, failures: Mapping[int, DeliveryError]) -> int:
        sent, parcel.sent = parcel.sent, []
        parcel.in_flight = False
        rest = parcel.pending[len(sent) :]
        again: list[int] = []
        acknowledged = len(sent)
        for index, error in sorted(failures.items()):
            acknowledged -= 1
            if isinstance(error, Rejected):
                parcel.set_aside(index, error.reason)
            else:
                again.append(index)
        parcel.counters.acknowledged += acknowledged
        parcel.pending = again + rest
        parcel.failed = again
        if (
            self._suspect is not None
            and sent
            and parcel.sources[sent[0]][0] == self._suspect[0]
            and sent[0] not in again
        ):
            self._suspect = None
        return acknowledged

    def hung_up(self, error: NotConnected, *, sent: bool) -> bool:
        """Take in that the connection was lost; ``sent`` says whether anything was under way.

        Returns whether that set a message aside as poison. Call it when all that was under way has failed.
        """
        if not sent:
            return False
        first = next((parcel for parcel in self._parcels if parcel.pending and parcel.tried), None)
        if first is None:
            self._suspect = None
            return False
        index = first.pending[0]
        sequence = first.sources[index][0]
        hangups = self._suspect[1] + 1 if self._suspect is not None and self._suspect[0] == sequence else 1
        if hangups < POISON_HANGUPS:
            self._suspect = (sequence, hangups)
            return False
        self._suspect = None
        del first.pending[0]
        first.failed = [other for other in first.failed if other != index]
        first.set_aside(index, f"stood first in line at {hangups} hang-ups in a row: {error}")
        return True

    def give_up(self, reason: str) -> int:
        """Make dead letters of what failed at the front when it was sent last; returns how many."""
        for parcel in self._parcels:
            if parcel.failed and parcel.pending and not parcel.in_flight:
                failed = set(parcel.failed).intersection(parcel.pending)
                for index in sorted(failed):
                    parcel.set_aside(index, reason)
                    self._acquit(parcel.sources[index][0])
                parcel.pending = [index for index in parcel.pending if index not in failed]
                parcel.failed = []
                return len(failed)
        return 0

    def settle(self) -> Settlement | None:
        """Return what is finished from the front on, ``None`` where nothing is."""
        settlement: Settlement | None = None
        while self._parcels and not self._parcels[0].pending and not self._parcels[0].in_flight:
            parcel = self._parcels.popleft()
            self._settled = parcel.through
            later = Settlement(self._connector, parcel.through, parcel.counters, parcel.dead, *parcel.passed)
            if settlement is None:
                settlement = later
            else:
                settlement.absorb(later)
        return settlement

    def _skip_overtaken(self, parcel: Parcel) -> None:
        newest = self._newest_acknowledged(parcel)
        kept = []
        for index in parcel.pending:
            sequence, message = parcel.sources[index]
            if newest.get(message.topic, 0) > sequence:
                parcel.counters.overtaken += 1
                self._acquit(sequence)
            else:
                kept.append(index)
        parcel.pending = kept

    def _acquit(self, sequence: int) -> None:
        if self._suspect is not None and self._suspect[0] == sequence:
            self._suspect = None

    def _newest_acknowledged(self, first: Parcel) -> dict[str, int]:
        newest: dict[str, int] = {}
        reached = False
        for parcel in self._parcels:
            reached = reached or parcel is first
            if not reached or not parcel.tried:
                continue
            waiting = set(parcel.pending)
            aside = {sequence for sequence, _, _ in parcel.dead}
            for index, (sequence, message) in enumerate(parcel.sources):
                if index not in waiting and sequence not in aside:
                    newest[message.topic] = sequence
        return newest
