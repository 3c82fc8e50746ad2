"""The ``mqtt`` source: an existing broker's topics as events, acknowledged when they are on disk."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import ClassVar

import pydantic

import northbound
from northbound import Event, EventRefused, Intake, NorthboundError, Ticket
from northbound.mqtt import Client, Received, Subscription, subscribe_words
from northbound_mqtt.connection import Connecting
from northbound_mqtt.options import SourceOptions
from northbound_mqtt.patterns import Pattern

_BATCH = 500


class MqttSource(northbound.Source):
    """Subscribes to one broker. What it has not acknowledged when it ends, the broker sends again."""

    Config: ClassVar[type[pydantic.BaseModel]] = SourceOptions
    config: SourceOptions

    def __init__(self, config: SourceOptions, *, name: str) -> None:
        super().__init__(config, name=name)
        self._connecting = Connecting(config, name)
        self._patterns = [Pattern(spec) for spec in config.map]

    @property
    def origin(self) -> str:
        """The broker's address."""
        return self._connecting.where

    async def run(self, intake: Intake) -> None:
        """Read until cancelled or until the connection is lost."""
        for pattern in self._patterns:
            try:
                pattern.check(intake.hierarchy)
            except ValueError as error:
                raise NorthboundError(f"the map of {pattern.filter}: {error}") from None
        config, inbox = self.config, _Inbox(self.config.max_unsettled)
        client = await self._connecting.connect(
            on_messages=inbox.put,
            auto_ack=False,
            clean_start=config.clean_start,
            session_expiry=int(config.session_expiry.total_seconds()),
            receive_maximum=config.max_unsettled,
        )
        inbox.client = client
        failure: BaseException | None = None
        try:
            await self._subscribe(client)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(client.lost(), name=f"{self.name}: connection")
                tasks.create_task(self._take_in(intake, inbox), name=f"{self.name}: intake")
                tasks.create_task(inbox.settle(), name=f"{self.name}: acknowledge")
        except* NorthboundError as group:
            failure = group.exceptions[0]
        finally:
            await client.disconnect()
        if failure is not None:
            raise failure.with_traceback(None)

    async def _subscribe(self, client: Client) -> None:
        """Subscribe. Of a session that goes on, retained messages are not asked for again."""
        filters = list(dict.fromkeys(pattern.filter for pattern in self._patterns))
        codes = await client.subscribe(
            [Subscription(text, self.config.qos, retain_as_published=True, retain_handling=1) for text in filters]
        )
        for text, code in zip(filters, codes, strict=True):
            if code >= 128:
                raise NorthboundError(f"{text}: {subscribe_words(code)}")

    async def _take_in(self, intake: Intake, inbox: _Inbox) -> None:
        while True:
            messages = await inbox.take()
            events: list[Event] = []
            for message in messages:
                try:
                    events += self._events(message, intake)
                except EventRefused as error:
                    intake.refuse(message.topic, str(error))
            inbox.unsettled(messages, await intake.submit(events) if events else None)

    def _events(self, message: Received, intake: Intake) -> list[Event]:
        for pattern in self._patterns:
            events = pattern.events(message.topic, message.payload, intake.hierarchy)
            if events is not None:
                return events
        raise EventRefused("no map fits the topic")


class _Inbox:
    """Messages from the broker to the intake, and back as acknowledgements. At ``most`` of them reading pauses."""

    def __init__(self, most: int) -> None:
        self.client: Client | None = None
        self._most = most
        self._held = 0
        self._arrived: deque[Received] = deque()
        self._submitted: deque[tuple[list[Received], Ticket | None]] = deque()
        self._news = asyncio.Event()
        self._settling = asyncio.Event()

    def put(self, messages: list[Received]) -> None:
        """Take what arrived."""
        self._arrived.extend(messages)
        self._held += len(messages)
        self._news.set()
        if self._held >= self._most and self.client is not None:
            self.client.pause()

    async def take(self) -> list[Received]:
        """Return what arrived since the last call, a batch at most; waits for something."""
        while not self._arrived:
            self._news.clear()
            await self._news.wait()
        arrived = self._arrived
        return [arrived.popleft() for _ in range(min(_BATCH, len(arrived)))]

    def unsettled(self, messages: list[Received], ticket: Ticket | None) -> None:
        """Remember that the messages were handed in; without ``ticket`` there was nothing in them to keep."""
        self._submitted.append((messages, ticket))
        self._settling.set()

    async def settle(self) -> None:
        """Acknowledge what is on disk, for ever."""
        while True:
            while not self._submitted:
                self._settling.clear()
                await self._settling.wait()
            messages, ticket = self._submitted.popleft()
            if ticket is not None:
                await ticket.committed()
            self._held -= len(messages)
            if self.client is not None:
                self.client.ack(*messages)
                if self._held < self._most:
                    self.client.resume()
