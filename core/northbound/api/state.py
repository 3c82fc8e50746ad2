"""``/api/state``: the current values, once as JSON or as they change as server-sent events."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from northbound.api.answers import Refused, number
from northbound.api.identity import Access, Authenticator, Identity
from northbound.api.stream import Stream, Streams, event_of, told
from northbound.message import Message
from northbound.mqtt.names import MAX_LEVELS, too_deep
from northbound.topics import TopicMatcher, filter_problem

_MOST: Final = 1_000_000
#: How often a stream looks whether its token still holds, and how often it gives a sign of life, in seconds.
_LOOK_SECONDS: Final = 2.0
_ALIVE_SECONDS: Final = 15.0

_NO_MORE: Final = b'event: end\ndata: {"reason":"what you signed in with has expired or was revoked"}\n\n'

_encode = msgspec.json.Encoder().encode


class Tree(Protocol):
    """The live tree, as far as it is read here."""

    def current(self, filter: str, who: Identity | None) -> Iterator[list[Message]]:  # noqa: A002 - MQTT's word for it
        """Give the values at the topics that match ``filter`` and ``who`` may see, some at a time, or none."""
        ...


class State:
    """Answers what the present is."""

    def __init__(self, tree: Tree, access: Access, authenticator: Authenticator, streams: Streams) -> None:
        self._tree = tree
        self._access = access
        self._authenticator = authenticator
        self._streams = streams

    async def get(self, request: Request, who: Identity) -> Response:
        """Answer with the values at ``filter``, or with a stream of them where the client accepts events."""
        topic_filter = request.query_params.get("filter", "#")
        if problem := filter_problem(topic_filter):
            raise Refused(400, f"the filter {problem}")
        if too_deep(topic_filter):
            raise Refused(400, f"the filter has more than {MAX_LEVELS} levels")
        grant = self._access.subscribe(who, topic_filter)
        if grant == "refused":
            raise Refused(403, "this filter is wholly outside of what you may see")
        if "text/event-stream" in request.headers.get("accept", ""):
            present = request.query_params.get("present", "yes") != "no"
            return self._stream(topic_filter, who, narrowed=grant == "narrowed", present=present)
        limit = number(request, "limit", 10_000, 1, _MOST)
        values = self._tree.current(topic_filter, who)
        headers = {"Cache-Control": "no-store"}
        return StreamingResponse(_written(values, limit), media_type="application/json", headers=headers)

    def _stream(self, topic_filter: str, who: Identity, *, narrowed: bool, present: bool) -> Response:
        if len(self._streams) >= self._streams.limit:
            raise Refused(503, f"{len(self._streams)} streams are open: later", {"Retry-After": "10"})
        stream = Stream(TopicMatcher([topic_filter]), who, self._access, narrowed=narrowed)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            self._events(stream, topic_filter if present else None), media_type="text/event-stream", headers=headers
        )

    async def _events(self, stream: Stream, topic_filter: str | None) -> AsyncIterator[bytes]:
        """Give the present at ``topic_filter`` where one is named, then what changes."""
        with self._streams.opened(stream):
            yield b"retry: 3000\n\n"
            looked = alive = time.monotonic()
            if topic_filter is not None:
                # Each value is the newest when it is read: what changes meanwhile may come twice, never backwards.
                async for messages in _in_turns(self._tree.current(topic_filter, stream.who)):
                    yield b"".join(map(event_of, messages))
                    now = time.monotonic()  # which a client who reads slowly lets pass
                    if now - looked >= _LOOK_SECONDS:
                        looked = now
                        if not await self._authenticator.still_valid(stream.who):
                            yield _NO_MORE
                            return
            while not stream.closed:
                events = await stream.take(_LOOK_SECONDS)
                now = time.monotonic()
                if now - looked >= _LOOK_SECONDS:
                    looked = now
                    if not await self._authenticator.still_valid(stream.who):
                        yield _NO_MORE
                        return
                if events:
                    alive = now
                    yield b"".join(events)
                elif now - alive >= _ALIVE_SECONDS:
                    alive = now
                    yield b": here\n\n"
            yield b'event: end\ndata: {"reason":"the service is stopping"}\n\n'


async def _in_turns(values: Iterator[list[Message]]) -> AsyncIterator[list[Message]]:
    """Give messages some at a time; in between, the others on the loop have their turn."""
    for messages in values:
        if messages:
            yield messages
        await asyncio.sleep(0)


async def _written(values: Iterator[list[Message]], limit: int) -> AsyncIterator[bytes]:
    yield b'{"values":['
    comma, left, more = b"", limit, False
    async for messages in _in_turns(values):
        if left:
            yield comma + b",".join([_encode(told(message)) for message in messages[:left]])
            comma = b","
        more = len(messages) > left
        left = max(0, left - len(messages))
        if more:
            break
    yield b'],"more":' + _encode(more) + b"}"
