"""A whole service in this process, one real connector and a witness beside it, held to the oracle at the end."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.support.fakes import Destination, configuration, connector, source
from tests.support.oracle import Received, check_file, check_received

from northbound.events import Event
from northbound.loading import ConnectorInstance
from northbound.registry import Registry
from northbound.runtime import Runtime
from northbound.status import ConnectorStatus


class Letter(NamedTuple):
    sequence: int
    topic: str
    reason: str


class Pipeline:
    """``async with Pipeline(folder, "aws-iot", options) as it:``; then ``put`` events, and ``check`` after the end.

    The witness is a scripted connector that takes everything: it tells what was accepted, in order.
    """

    def __init__(self, folder: Path, type_name: str, options: Mapping[str, Any], *, drain: str = "20s") -> None:
        plugin = Registry().find("connector", type_name)
        assert plugin is not None, f"{type_name} is not installed"
        assert plugin.implementation is not None, plugin.error
        quick = {"retry": {"initial": "50ms", "maximum": "500ms"}}
        checked = plugin.model(**{"type": type_name, **quick, **options})
        self.path = folder / "store.db"
        self.witness = Destination(batches_in_flight=4)
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        feed = source("in", self._feed, finite=False)
        self._runtime = Runtime(
            configuration(
                folder,
                connectors=[ConnectorInstance("cloud", plugin, checked), connector("witness", self.witness)],
                sources=[feed],
                drain=drain,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        started = asyncio.Event()
        self._task = asyncio.create_task(self._runtime.run(started=started))
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait([self._task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._runtime.stop()
        assert self._task is not None
        await self._task

    async def put(self, *events: Event) -> None:
        """Returns when they are on disk."""
        done = asyncio.get_running_loop().create_future()
        self._events.put_nowait((list(events), done))
        await done

    async def _feed(self, intake: Any) -> None:
        while True:
            events, done = await self._events.get()
            ticket = await intake.submit(events)
            await ticket.committed()
            done.set_result(None)

    @property
    def status(self) -> ConnectorStatus:
        return next(one for one in self._runtime.status().connectors if one.name == "cloud")

    async def until(self, condition: Callable[[], object], *, within: float = 30.0, what: str = "") -> None:
        deadline = asyncio.get_running_loop().time() + within
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, f"in vain: {what}: {self.status}"
            await asyncio.sleep(0.01)

    async def delivered(self, *, within: float = 30.0) -> None:
        """Wait until nothing is left to do."""
        await self.until(lambda: not self.status.backlog, within=within, what="delivered")

    @property
    def accepted(self) -> list[tuple[str, bytes]]:
        """What was accepted, (topic, payload), in order."""
        rows = self.witness.rows
        assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
        return [(topic, payload) for _, topic, payload in rows]

    def check(self, received: Iterable[tuple[int, str, bytes]]) -> Received:
        """Hold what the destination got, (sequence, normalised topic, payload), to what was accepted. After the end."""
        account = check_file(self.path).accounts["cloud"]
        assert not account.waiting
        missing = account.counters["dead"] + account.counters["overtaken"]
        return check_received(self.accepted, received, missing_allowed=missing)

    def letters(self) -> list[Letter]:
        """The dead letters. After the end."""
        db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            rows = db.execute("SELECT sequence, topic, reason FROM dead WHERE connector = 'cloud' ORDER BY sequence")
            return [Letter(*row) for row in rows]
        finally:
            db.close()
