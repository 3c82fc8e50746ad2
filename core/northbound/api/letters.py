"""``/api/dead-letters``: what was set aside, why, and what a person decides about it."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from northbound.administration import DeadLetters
from northbound.api.answers import Desk, Refused, answer, number
from northbound.api.audit import Happening
from northbound.api.identity import Access, Identity
from northbound.store.records import DeadLetter
from northbound.topics import filter_problem

log = logging.getLogger(__name__)

#: Notes what somebody did: what, who, and to which.
Audit = Callable[[Happening, Identity, str], None]

_MOST: Final = 1000
_MOST_CHOSEN: Final = 100_000


class Choice(msgspec.Struct, forbid_unknown_fields=True):
    """Which dead letters are meant: these ids, all of one connector, or all. One of the three."""

    ids: list[int] = []
    connector: str | None = None
    all: bool = False
    force: bool = False

    @property
    def problem(self) -> str | None:
        """What is wrong with it."""
        if sum((bool(self.ids), self.connector is not None, self.all)) != 1:
            return "say which: ids, connector or all, one of the three"
        if len(self.ids) > _MOST_CHOSEN:
            return f"at most {_MOST_CHOSEN} ids at once"
        return None


def row(letter: DeadLetter) -> dict[str, Any]:
    """Return a dead letter without its payload."""
    return {
        "id": letter.id,
        "connector": letter.connector,
        "at": letter.at,
        "topic": letter.message.topic,
        "size": letter.message.size,
        "state": "replay asked" if letter.replay else "replay failed" if letter.tries else "waiting",
        "reason": letter.reason,
    }


class Letters:
    """Reads and changes the dead letters of the store at ``path``, in threads: beside the service, like the CLI."""

    def __init__(self, path: Path, access: Access, desk: Desk, audit: Audit) -> None:
        self._path = path
        self._audit = audit
        self._access = access
        self._desk = desk

    async def index(self, request: Request, who: Identity) -> Response:
        """Answer with dead letters, oldest first, behind the id ``after``."""
        topic_filter = request.query_params.get("topic")
        if topic_filter is not None and (problem := filter_problem(topic_filter)):
            raise Refused(400, f"the topic {problem}")
        after = number(request, "after", 0, 0, 2**63 - 1)
        limit = number(request, "limit", 100, 1, _MOST)
        topics = () if topic_filter is None else (topic_filter,)
        connector = request.query_params.get("connector")

        def read() -> list[dict[str, Any]]:
            with DeadLetters(self._path, read_only=True) as letters:
                found = letters.each(connector=connector, topics=topics, after=after)
                return [row(letter) for letter in islice(self._seen(found, who), limit + 1)]

        rows = await asyncio.to_thread(read)
        more = len(rows) > limit
        return answer({"dead_letters": rows[:limit], "more": more})

    async def show(self, request: Request, who: Identity) -> Response:
        """Answer with one dead letter, its payload included."""
        letter = await self._one(request, who)
        message = letter.message
        shown = {
            **row(letter),
            "sequence": letter.sequence,
            "kind": message.kind,
            "time": message.time,
            "retain": message.retain,
            "replays_failed": letter.tries,
        }
        try:
            shown["payload_text"] = message.payload.decode()
        except UnicodeDecodeError:
            shown["payload_base64"] = b64encode(message.payload).decode()
        return answer(shown)

    async def replay_one(self, request: Request, who: Identity) -> Response:
        """Ask for one to be sent again."""
        letter = await self._one(request, who)
        return answer({"replay": await self._replay([letter.id], who, force="force" in request.query_params)})

    async def drop_one(self, request: Request, who: Identity) -> Response:
        """Delete one for good."""
        letter = await self._one(request, who)
        return answer({"dropped": await self._drop([letter.id], who)})

    async def replay(self, request: Request, who: Identity) -> Response:
        """Ask for some to be sent again."""
        choice = await self._choice(request)
        return answer({"replay": await self._replay(await self._ids(choice, who), who, force=choice.force)})

    async def drop(self, request: Request, who: Identity) -> Response:
        """Delete some for good."""
        return answer({"dropped": await self._drop(await self._ids(await self._choice(request), who), who)})

    async def _choice(self, request: Request) -> Choice:
        choice = await self._desk.body(request, Choice)
        if problem := choice.problem:
            raise Refused(400, problem)
        return choice

    async def _one(self, request: Request, who: Identity) -> DeadLetter:
        wanted = request.path_params["id"]

        def read() -> DeadLetter | None:
            with DeadLetters(self._path, read_only=True) as letters:
                found = letters.each(after=wanted - 1)
                letter = next(iter(found), None)
                return letter if letter is not None and letter.id == wanted else None

        letter = await asyncio.to_thread(read) if 0 < wanted < 2**63 else None
        # One that is not theirs to see is not there.
        if letter is None or not self._access.receive(who, letter.message.topic):
            raise Refused(404, f"there is no dead letter {wanted}")
        return letter

    async def _ids(self, choice: Choice, who: Identity) -> list[int]:
        wanted = frozenset(choice.ids)

        def read() -> list[int]:
            with DeadLetters(self._path, read_only=True) as letters:
                found = self._seen(letters.each(connector=choice.connector), who)
                return [letter.id for letter in found if not wanted or letter.id in wanted]

        return await asyncio.to_thread(read)

    def _seen(self, letters: Any, who: Identity) -> Any:
        return (letter for letter in letters if self._access.receive(who, letter.message.topic))

    async def _replay(self, ids: list[int], who: Identity, *, force: bool) -> list[int]:
        def write() -> list[int]:
            with DeadLetters(self._path) as letters:
                return letters.replay(ids, force=force)

        done = await asyncio.to_thread(write)
        self._note("dead letters replayed", done, who)
        return done

    async def _drop(self, ids: list[int], who: Identity) -> list[int]:
        def write() -> list[int]:
            with DeadLetters(self._path) as letters:
                return letters.drop(ids)

        done = await asyncio.to_thread(write)
        self._note("dead letters dropped", done, who)
        return done

    def _note(self, happened: Happening, ids: list[int], who: Identity) -> None:
        log.info("%s by %s: %d", happened, who.subject, len(ids))
        if ids:
            self._audit(happened, who, ",".join(map(str, ids)))
