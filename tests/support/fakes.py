"""A scripted destination and source, and configurations made of them without a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from northbound import Connector, Limits, Source
from northbound.config import ConnectorOptions, ServiceOptions, SiteOptions, SourceOptions, StoreOptions
from northbound.errors import PartialDelivery
from northbound.events import State
from northbound.loading import Configuration, ConnectorInstance, SourceInstance
from northbound.privacy.options import PrivacyOptions
from northbound.registry import Plugin


class Destination:
    """What stands behind scripted connectors: their script, and what arrived, in the order of its arrival.

    ``on_open``, ``on_send``, ``on_close`` are called (and awaited where they answer with a coroutine); what they raise
    is what the connector raises. ``calls`` holds every call of ``send``.
    """

    def __init__(self, **limits) -> None:
        self.limits = Limits(**limits)
        self.on_open: Callable = lambda: None
        self.on_send: Callable = lambda batch: None
        self.on_close: Callable = lambda: None
        self.opened = self.closed = 0
        self.most_at_once = self._at_once = 0
        self.calls: list[list] = []
        self._acknowledged: dict[int, list] = {}
        self.lost: asyncio.Future | None = None

    def lose(self, error: BaseException) -> None:
        assert self.lost is not None
        if not self.lost.done():
            self.lost.set_exception(error)

    @property
    def acknowledged(self) -> list:
        """What was acknowledged, in the order of the calls: so a destination applies it, whenever it answers."""
        return [message for _, batch in sorted(self._acknowledged.items()) for message in batch]

    @property
    def sequences(self) -> list[int]:
        return [int(message.key.rpartition("-")[2]) for message in self.acknowledged]

    @property
    def rows(self) -> list[tuple[int, str, bytes]]:
        """What the oracle takes."""
        return [(s, m.source_topic, m.payload) for s, m in zip(self.sequences, self.acknowledged, strict=True)]


async def _answer(value):
    return await value if asyncio.iscoroutine(value) else value


class ScriptedConnector(Connector):
    destinations: ClassVar[dict[str, Destination]] = {}

    def __init__(self, config, *, name) -> None:
        super().__init__(config, name=name)
        self.it = self.destinations[name]
        self.limits = self.it.limits

    async def open(self) -> None:
        self.it.opened += 1
        self.it.lost = asyncio.get_running_loop().create_future()
        self.it.lost.add_done_callback(lambda future: future.cancelled() or future.exception())
        await _answer(self.it.on_open())

    async def send(self, batch) -> None:
        it = self.it
        call = len(it.calls)
        it.calls.append(list(batch))
        it._at_once += 1
        it.most_at_once = max(it.most_at_once, it._at_once)
        try:
            await asyncio.sleep(0)
            await _answer(it.on_send(batch))
        except PartialDelivery as error:
            if all(index < len(batch) for index in error.failures):
                it._acknowledged[call] = [m for index, m in enumerate(batch) if index not in error.failures]
            raise
        finally:
            it._at_once -= 1
        it._acknowledged[call] = list(batch)

    async def lost(self) -> None:
        await asyncio.shield(self.it.lost)

    async def close(self) -> None:
        self.it.closed += 1
        await _answer(self.it.on_close())


class ScriptedSource(Source):
    """Runs ``scripts[name](intake)``; those in ``finite_names`` end by themselves."""

    scripts: ClassVar[dict[str, Callable]] = {}
    finite_names: ClassVar[set[str]] = set()

    @property
    def finite(self) -> bool:
        return self.name in self.finite_names

    async def run(self, intake) -> None:
        await self.scripts[self.name](intake)


def event(topic: object, value: object) -> State:
    return State("org", (None, None, None), "sys", "drv", "Mod", 1, str(topic), value, 1)


CONNECTOR = Plugin("connector", "scripted", package="tests", version="0", implementation=ScriptedConnector)
SOURCE = Plugin("source", "scripted", package="tests", version="0", implementation=ScriptedSource)


def connector(name: str, destination: Destination, **options) -> ConnectorInstance:
    ScriptedConnector.destinations[name] = destination
    options.setdefault("retry", {"initial": "10ms", "maximum": "50ms", "jitter": 0})
    return ConnectorInstance(name, CONNECTOR, ConnectorOptions(**options))


def source(name: str, script: Callable, *, finite: bool = True) -> SourceInstance:
    ScriptedSource.scripts[name] = script
    ScriptedSource.finite_names.discard(name)
    if finite:
        ScriptedSource.finite_names.add(name)
    return SourceInstance(name, SOURCE, SourceOptions())


def configuration(folder: Path, *, connectors=(), sources=(), store=None, drain="10s") -> Configuration:
    return Configuration(
        "test.toml",
        SiteOptions(),
        StoreOptions(**{"path": folder / "store.db", **(store or {})}),
        ServiceOptions(drain=drain),
        tuple(connectors),
        tuple(sources),
        PrivacyOptions(default=False),
        (),
    )
