"""The body of one request to events in the store."""

from __future__ import annotations

import asyncio
from io import BytesIO
from itertools import islice
from typing import Final

import northbound

#: Lines handed in at once at most.
BATCH: Final = 2000
#: Refused lines that an answer lists; it counts them all.
LISTED: Final = 1000

_BOM: Final = b"\xef\xbb\xbf"


class Outcome:
    """What became of the lines: how many were accepted, and the first of those refused, with their reasons."""

    def __init__(self) -> None:
        self.accepted = 0
        self.refused: list[tuple[int, str]] = []
        self.refused_total = 0

    def refuse(self, lines: list[tuple[int, str]]) -> None:
        """Note refused lines."""
        self.refused_total += len(lines)
        self.refused += lines[: LISTED - len(self.refused)]


class Receiver:
    """Hands the lines of a body to the intake."""

    def __init__(self, intake: northbound.Intake, max_line: int) -> None:
        self._intake = intake
        self._max_line = max_line
        self._decode = northbound.EventDecoder(intake.hierarchy).decode_all

    async def take(self, body: BytesIO) -> Outcome:
        """Return when every line that can be accepted is on disk; raises :class:`northbound.StoreError`."""
        outcome = Outcome()
        tickets: list[northbound.Ticket] = []
        if body.read(3) != _BOM:
            body.seek(0)
        first = 1
        while lines := list(islice(body, BATCH)):
            malformed: list[tuple[int, str]] = []
            if max(map(len, lines)) > self._max_line:
                malformed = self._too_long(lines)
            events, refused = self._decode(lines)
            malformed = sorted([*malformed, *refused]) if malformed else refused
            for position, reason in malformed:
                self._intake.refuse(f"line {first + position} of a request", reason)
            if events:
                ticket = await self._intake.submit(events)
                tickets.append(ticket)
                outcome.accepted += len(events) - len(ticket.refused)
                if ticket.refused:
                    malformed = sorted([*malformed, *_positions(ticket, lines, malformed)])
            outcome.refuse([(first + position, reason) for position, reason in malformed])
            first += len(lines)
            await asyncio.sleep(0)  # a large body takes no other client's turn
        for ticket in tickets:
            await ticket.committed()
        return outcome

    def _too_long(self, lines: list[bytes]) -> list[tuple[int, str]]:
        """Empty the lines that are too long."""
        refused: list[tuple[int, str]] = []
        for position, line in enumerate(lines):
            if len(line) > self._max_line and len(line.rstrip(b"\r\n")) > self._max_line:
                lines[position] = b""
                refused.append((position, f"longer than {self._max_line} bytes (max_line)"))
        return refused


def _positions(
    ticket: northbound.Ticket, lines: list[bytes], malformed: list[tuple[int, str]]
) -> list[tuple[int, str]]:
    """Return where among ``lines`` the events stood that the engine refused."""
    passed_over = {position for position, _ in malformed}
    taken = [position for position, line in enumerate(lines) if position not in passed_over and line.strip()]
    return [(taken[position], reason) for position, reason in ticket.refused]
