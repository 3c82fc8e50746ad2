"""The dead letters of one connector that a person wants sent again: which wait, and what became of each."""

from __future__ import annotations

from collections import deque
from typing import Final

from northbound.errors import Rejected
from northbound.store.records import DeadLetter, Store

_AT_ONCE: Final = 20


class Replays:
    """What waits to be sent again, one by one; ``active`` while one is under way."""

    def __init__(self, connector: str, store: Store) -> None:
        self._connector = connector
        self._store = store
        self._waiting: deque[DeadLetter] = deque()
        self._handled: set[int] = set()
        self._outcomes: list[tuple[int, str | None]] = []
        self.active = False

    def __bool__(self) -> bool:
        """Whether any waits."""
        return bool(self._waiting)

    def look(self) -> bool:
        """See whether a person has marked some; returns whether the store was asked."""
        if self._waiting:
            return False
        letters = self._store.replays(self._connector, _AT_ONCE)
        self._waiting.extend(letter for letter in letters if letter.id not in self._handled)
        self._handled.update(letter.id for letter in letters)
        return True

    def begin(self) -> DeadLetter:
        """Return the next, which is under way from now on."""
        self.active = True
        return self._waiting.popleft()

    def check(self, letter: DeadLetter) -> None:
        """Raise :class:`Rejected` where a newer value has overtaken it: a topic never goes backwards."""
        topic = letter.message.topic
        if letter.replay == 1 and self._store.newest([topic]).get(topic, 0) > letter.sequence:
            raise Rejected("there is a newer value of this topic; replay with --force to send it all the same")

    def again(self, letter: DeadLetter) -> None:
        """Leave it marked: it is sent once more later."""
        self._handled.discard(letter.id)

    def end(self, letter: DeadLetter, reason: str | None) -> None:
        """Take in what became of it: ``None`` where it was acknowledged, else why not."""
        self.active = False
        if letter.id in self._handled:
            self._outcomes.append((letter.id, reason))

    async def record(self) -> None:
        """Write down what became of them; apart from sending, so that a full disk holds up no delivery."""
        outcomes, self._outcomes = self._outcomes, []
        if outcomes:
            done = [number for number, reason in outcomes if reason is None]
            await self._store.replayed(done, [(number, reason) for number, reason in outcomes if reason is not None])
            self._handled.difference_update(number for number, _ in outcomes)
