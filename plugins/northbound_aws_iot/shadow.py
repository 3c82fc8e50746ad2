"""Metadata as the reported state of a device shadow: update, and wait for what the shadow service answers.

A shadow merges what it is told, and ``null`` removes: so a key that an entity has lost is told as ``null``, and an
entity that was not told before by this process is removed first. Bounds: "AWS IoT Device Shadow service limits and
quotas".
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from northbound import DeliveryError, Outgoing, Rejected, Unavailable
from northbound_aws_iot.retained import Turns

_DOCUMENT_BYTES: Final = 8 * 1024
_IN_FLIGHT: Final = 10  # per thing
_LATER: Final = frozenset((409, 429, 500))  # codes of a refusal that another try may not meet
_REMEMBERED: Final = 10_000  # entities
_DEEPEST: Final = 8

Publish = Callable[[str, bytes], Awaitable[None]]


class _Thing:
    """One thing that something is asked of: how many requests may be under way, and how many are or wait for it."""

    __slots__ = ("requests", "waiting")

    def __init__(self) -> None:
        self.requests = asyncio.Semaphore(_IN_FLIGHT)
        self.waiting = 0


class _Request(NamedTuple):
    """An update, and the token that its answer holds."""

    token: str
    body: bytes


class Shadow:
    """The shadows of one connector; ``thing`` and ``shadow`` may hold ``{id}`` and ``{org}``.

    ``seconds`` is how long an answer may take, ``rate`` how many requests a second may be made.
    """

    def __init__(self, shadow: str, thing: str, *, seconds: float, rate: float) -> None:
        self._base = f"$aws/things/{thing}/shadow" + ("" if shadow == "classic" else f"/name/{shadow}")
        self._thing = thing
        self._own = "{id}" in self._base
        self._seconds = seconds
        # Whoever else updates the shadow is answered at the same topics: the token tells whose answer it is.
        self._prefix = secrets.token_hex(6)
        self._count = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._known: dict[str, frozenset[tuple[str, ...]]] = {}
        self._things: dict[str, _Thing] = {}
        self._turns = Turns(0, 0)
        self._pace = Turns(0, rate)

    @property
    def filters(self) -> tuple[str, ...]:
        """What to subscribe to for the answers, and for nothing else that is published beside them and metered."""
        base = "/".join("+" if "{" in level else level for level in self._base.split("/"))
        return f"{base}/update/accepted", f"{base}/update/rejected"

    def heard(self, topic: str, payload: bytes) -> None:
        """Take in what the shadow service says."""
        try:
            told = json.loads(payload)
        except ValueError:
            return
        waiting = self._waiting.pop(str(told.get("clientToken")), None) if isinstance(told, dict) else None
        if waiting is not None and not waiting.done():
            waiting.set_result(told if topic.endswith("/rejected") else {})

    async def send(self, batch: Sequence[Outgoing], publish: Publish) -> None:
        """Update the shadows; each entity keeps its order. Raises ``PartialDelivery``."""

        async def one(messages: Sequence[Outgoing]) -> None:
            for message in messages:
                await self._one(message, publish)

        await self._turns.send(batch, one)

    async def _one(self, message: Outgoing, publish: Publish) -> None:
        org, _, rest = message.source_topic.partition("/metadata/")
        names = {"{id}": rest, "{org}": org.rpartition("/")[2]}
        base, thing = _filled(self._base, names), _filled(self._thing, names)
        entity = _entity(message)
        keys = _paths(entity)
        update = self._request(entity, rest)
        if len(update.body) > _DOCUMENT_BYTES:
            raise Rejected(f"metadata of {len(update.body):,} bytes: a shadow takes {_DOCUMENT_BYTES:,}")
        known = self._known.pop(message.topic, None)  # while it is under way nobody knows what is there
        first = entity is not None and known is None
        if entity is not None and known is not None and (gone := known - keys):
            patch = self._request(_without(entity, gone), rest)
            first = len(patch.body) > _DOCUMENT_BYTES
            update = update if first else patch
        try:
            if first:
                await self._ask(base, thing, self._request(None, rest), publish)
                known = frozenset()
            await self._ask(base, thing, update, publish)
        except Rejected:
            if known is not None:
                self._known[message.topic] = known
            raise
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[message.topic] = keys

    def _request(self, entity: dict[str, Any] | None, id_: str) -> _Request:
        token = f"{self._prefix}-{next(self._count)}"
        reported = entity if self._own else {id_: entity}
        update = {"state": {"reported": reported}, "clientToken": token}
        return _Request(token, json.dumps(update, separators=(",", ":")).encode())

    async def _ask(self, base: str, thing: str, request: _Request, publish: Publish) -> None:
        known = self._things.setdefault(thing, _Thing())
        known.waiting += 1
        try:
            async with known.requests:
                refusal = await self._answer(base, thing, request, publish)
        finally:
            known.waiting -= 1
            if not known.waiting:
                del self._things[thing]
        if refusal:
            raise _error(thing, refusal)

    async def _answer(self, base: str, thing: str, request: _Request, publish: Publish) -> dict[str, Any]:
        """Return the refusal, empty where there is none."""
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        await self._pace.pace()
        self._waiting[request.token] = answer
        try:
            await publish(f"{base}/update", request.body)
            async with asyncio.timeout(self._seconds):
                return await answer
        except TimeoutError:
            raise Unavailable(f"the shadow of {thing} has not answered in time") from None
        finally:
            self._waiting.pop(request.token, None)


def _entity(message: Outgoing) -> dict[str, Any] | None:
    """Return the metadata, ``None`` where the entity is gone."""
    if not message.payload:
        return None
    try:
        entity = json.loads(message.payload)
    except ValueError:
        entity = None
    if not isinstance(entity, dict):
        raise Rejected("the metadata is not a JSON object, so no shadow takes it")
    return entity


def _error(thing: str, refusal: dict[str, Any]) -> DeliveryError:
    code, words = refusal.get("code"), str(refusal.get("message", ""))[:200]
    said = f"the shadow of {thing} refuses the metadata ({code} {words})"
    return Unavailable(said, retry_after=1.0) if code in _LATER else Rejected(said)


def _paths(value: Any, at: tuple[str, ...] = ()) -> frozenset[tuple[str, ...]]:
    """Return the keys of a document, those within its objects too."""
    if not isinstance(value, dict) or len(at) >= _DEEPEST:
        return frozenset()
    own = {(*at, key) for key in value}
    return frozenset(own.union(*(_paths(part, (*at, key)) for key, part in value.items())))


def _without(entity: dict[str, Any], gone: frozenset[tuple[str, ...]]) -> dict[str, Any]:
    """Return ``entity`` with ``null`` for the keys that are gone."""
    patch: dict[str, Any] = json.loads(json.dumps(entity))
    for path in sorted(gone, key=len):
        at: Any = patch
        for key in path[:-1]:
            at = at.get(key) if isinstance(at, dict) else None
        if isinstance(at, dict):  # else what was above it is gone too, or has become something else
            at[path[-1]] = None
    return patch


def _filled(text: str, names: dict[str, str]) -> str:
    for name, value in names.items():
        text = text.replace(name, value)
    return text
