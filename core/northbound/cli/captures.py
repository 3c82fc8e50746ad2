"""What there is to look through: a captured file, the store, a broker. One item at a time: memory is bounded."""

from __future__ import annotations

import asyncio
import sqlite3
import ssl
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import msgspec
from msgspec import Struct

from northbound import EventDecoder, EventRefused, NorthboundError, NotConnected, Unauthorised
from northbound.events import Event
from northbound.mqtt import (
    Client,
    ClientOptions,
    ClosedUnanswered,
    Received,
    VersionRefused,
    parse_url,
    subscribe_words,
)
from northbound.store import schema
from northbound.topics import TopicScheme

#: A longer line is not read as a whole; what was read of it is looked at.
LONGEST_LINE: Final = 16 * 1024**2
_MOST_SPACES: Final = 64
#: At so many messages not yet looked at, nothing more is read from the broker.
_MOST_WAITING: Final = 1_000
_LOOKED_AT_ONCE: Final = 50
#: Topics in one SUBSCRIBE: what a broker retains of so many fits into any queue.
_TOPICS_AT_ONCE: Final = 200
_VERSIONS: Final[tuple[Literal[3, 4, 5], ...]] = (5, 4, 3)
_EMPTY: Final = b"(null)"

Item = Event | tuple[str, bytes] | str
"""An event, a message as (topic, payload), or a text that is neither."""


class _Line(Struct):
    """A line of the ``file`` connector."""

    topic: str
    payload: str = ""
    payload_base64: str = ""


class Lines:
    """Reads captured lines: JSON Lines events, lines of the ``file`` connector, ``topic payload``.

    ``unrecognised`` counts the lines that are none of these; they are looked at as text.
    """

    def __init__(self, scheme: TopicScheme) -> None:
        self._scheme = scheme
        self._event = EventDecoder(scheme.hierarchy).decode
        self._line = msgspec.json.Decoder(_Line).decode
        self.unrecognised = 0

    def read(self, file: BinaryIO, progress: Callable[[int], object]) -> Iterator[Item]:
        """Give what each line holds; ``progress`` is told the bytes read."""
        while line := file.readline(LONGEST_LINE):
            progress(len(line))
            if line.strip():
                yield self.item(line.rstrip(b"\r\n"))

    def item(self, line: bytes) -> Item:
        """Return what one line holds."""
        if line[:1] == b"{":
            try:
                return self._event(line)
            except EventRefused:
                pass
            try:
                found = self._line(line)
                payload = b64decode(found.payload_base64) if found.payload_base64 else found.payload.encode()
            except (msgspec.DecodeError, UnicodeError, ValueError, RecursionError):
                pass
            else:
                return found.topic, payload
        return self._published(line)

    def _published(self, line: bytes) -> Item:
        """Return what ``mosquitto_sub -v`` wrote; a topic may hold spaces, so one of this site's is looked for."""
        text = line.decode(errors="replace")
        first, at = text.find(" "), -1
        if first > 0 and text[0] not in "{[\"'":
            for _ in range(_MOST_SPACES):
                at = text.find(" ", at + 1)
                if at < 0:
                    break
                if self._scheme.parse(text[:at]) is not None:
                    return text[:at], _payload(text[at + 1 :])
            if "/" in text[:first]:
                return text[:first], _payload(text[first + 1 :])
        self.unrecognised += 1
        return text


def _payload(text: str) -> bytes:
    payload = text.encode()
    return b"" if payload == _EMPTY else payload


class StoredMessages:
    """Every message that a store holds: current values, the log, dead letters. Read only, beside the service, too."""

    _PLACES: Final = (
        # What the log holds of the current values is the same message.
        ("current", "topic", "1"),
        (
            "log",
            "sequence",
            "NOT EXISTS (SELECT 1 FROM current c WHERE c.topic = log.topic AND c.sequence = log.sequence)",
        ),
        ("dead", "id", "1"),
    )

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = schema.open_existing(path, read_only=True)

    def close(self) -> None:
        """Let go of the store."""
        self._db.close()

    def count(self) -> int:
        """Return how many rows there are, about."""
        return sum(int(self._row(f"SELECT count(*) FROM {table}", ())[0]) for table, _, _ in self._PLACES)  # noqa: S608

    def read(self, progress: Callable[[int], object]) -> Iterator[Item]:
        """Give each message, a row at a time, so that the service is never kept waiting."""
        for table, key, condition in self._PLACES:
            last: Any = "" if key == "topic" else -1
            statement = (
                f"SELECT {key}, topic, payload FROM {table} WHERE {key} > ? AND {condition} ORDER BY {key} LIMIT 1"  # noqa: S608
            )
            while (row := self._row(statement, (last,))) is not None:
                last = row[0]
                progress(1)
                yield row[1], row[2]

    def _row(self, statement: str, parameters: tuple[Any, ...]) -> Any:
        try:
            return self._db.execute(statement, parameters).fetchone()
        except sqlite3.Error as error:
            raise schema.explain(self._path, error) from None


class Subscription(Struct, frozen=True):
    """Which broker to listen to, to what, and how long (seconds)."""

    url: str
    topic_filter: str
    seconds: float
    username: str | None = None
    password: str | None = None
    ca: str | None = None


async def listen(wanted: Subscription, look: Callable[[str, bytes], object], topics: Sequence[str] = ()) -> None:
    """Hand every message that arrives to ``look``; raises a :class:`NorthboundError` where the broker refuses.

    With ``topics`` these are subscribed to in place of the filter, a few at a time.
    """
    waiting: deque[Received] = deque()
    arrived = asyncio.Event()
    client: Client | None = None

    def take(messages: list[Received]) -> None:
        waiting.extend(messages)
        arrived.set()
        if client is not None and len(waiting) >= _MOST_WAITING:
            client.pause()

    client = await _connected(wanted, take)
    work = [asyncio.ensure_future(_subscribe(client, wanted.topic_filter, topics))]
    lost = asyncio.ensure_future(client.lost())
    try:
        await _drain(client, waiting, arrived, look, lost, work[0])
        work[0].result()
        work.append(asyncio.ensure_future(asyncio.sleep(wanted.seconds)))
        await _drain(client, waiting, arrived, look, lost, work[1])
    finally:
        for each in (lost, *work):
            each.cancel()
        await asyncio.gather(lost, *work, return_exceptions=True)
        await client.disconnect()


async def _subscribe(client: Client, topic_filter: str, topics: Sequence[str]) -> None:
    """Subscribe at QoS 0: a slower reader is given most of what Mosquitto retains then, at QoS 1 the first 1,020.

    A topic that may not be subscribed to alone is passed over.
    """
    for begin in range(0, len(topics), _TOPICS_AT_ONCE):
        await client.subscribe(topics[begin : begin + _TOPICS_AT_ONCE], qos=0)
    if not topics:
        granted = await client.subscribe([topic_filter], qos=0)
        if granted[0] >= 128:
            raise Unauthorised(f"the broker refuses the filter {topic_filter!r}: {subscribe_words(granted[0])}")


async def _drain(
    client: Client,
    waiting: deque[Received],
    arrived: asyncio.Event,
    look: Callable[[str, bytes], object],
    lost: asyncio.Future[Any],
    end: asyncio.Future[Any],
) -> None:
    """Look at what arrives until ``end``, and then at what has arrived."""
    while True:
        while waiting:
            for _ in range(min(len(waiting), _LOOKED_AT_ONCE)):
                message = waiting.popleft()
                look(message.topic, message.payload)
            await asyncio.sleep(0)  # the client has to read, and to answer the broker
        client.resume()
        if end.done():
            return
        if lost.done():
            lost.result()
        arrived.clear()
        waking = asyncio.ensure_future(arrived.wait())
        await asyncio.wait([waking, lost, end], return_when=asyncio.FIRST_COMPLETED)
        waking.cancel()


async def _connected(wanted: Subscription, take: Callable[[list[Received]], None]) -> Client:
    """Return a client in the newest version of the protocol that the broker speaks."""
    address = parse_url(wanted.url)
    for version in _VERSIONS:
        options = ClientOptions(
            host=address.host,
            port=address.port,
            ssl=_context(wanted.ca) if address.tls else None,
            websocket=address.path,
            username=wanted.username if wanted.username is not None else address.username,
            password=wanted.password if wanted.password is not None else address.password,
            version=version,
        )
        client = Client(options, on_messages=take)
        try:
            await client.connect()
        except (VersionRefused, ClosedUnanswered):
            if version == _VERSIONS[-1]:
                raise
            continue
        return client
    raise NorthboundError("there is no version to try")


def _context(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError is one
        reason = getattr(error, "reason", None) or error.strerror or "not PEM"
        raise NotConnected(f"the CA file {ca} cannot be used: {reason}") from None
