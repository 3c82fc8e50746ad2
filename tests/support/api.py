"""A runtime in this process with an API on a free port, a scripted source and scripted connectors, and API keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from msgspec import structs
from tests.support.fakes import Destination, configuration, connector, source

from northbound.api.keyfile import KeyFile, path_beside
from northbound.events import State
from northbound.runtime import Runtime
from northbound.serving import ApiOptions

ORG = "org"
QUICK = {"listen": "127.0.0.1:0", "requests_per_second": 10_000, "auth": {"throttle": {"delay": "0s"}}}


def value(state: str, content: object, *, org: str = ORG, time: int = 1) -> State:
    """Return an event at ``placeos/{org}/state/_/_/_/sys/drv/Mod/1/{state}``."""
    return State(org, (None, None, None), "sys", "drv", "Mod", 1, state, content, time)


def topic(state: str, *, org: str = ORG) -> str:
    """Return the topic of such an event."""
    return f"placeos/{org}/state/_/_/_/sys/drv/Mod/1/{state}"


class Running:
    """The service. ``http`` asks as an admin of ``org``; ``headers(role)`` are those of others."""

    def __init__(self, runtime: Runtime, queue: asyncio.Queue, out: Destination, task: asyncio.Task) -> None:
        self.runtime, self.out, self.task = runtime, out, task
        self._queue = queue
        assert runtime.api is not None
        self.url = runtime.api.url
        self.store = runtime.configuration.store.path
        path_beside(self.store).unlink(missing_ok=True)  # of the service before a restart
        self.keys = KeyFile(path_beside(self.store))
        self.tokens: dict[str, str] = {}
        for name, role, org, scopes in (
            ("admin", "admin", ORG, ("mqtt",)),
            ("support", "support", ORG, ("mqtt",)),
            ("watcher", "admin", ORG, ("mqtt.read",)),
            ("user", "user", ORG, ("mqtt",)),
            ("other", "admin", "other", ("mqtt",)),
        ):
            self.tokens[name] = self.keys.create(name, role=role, org=org, scopes=scopes)[1]  # type: ignore[arg-type]
        self.http = httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=20, headers=self.headers("admin"))

    def headers(self, name: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[name]}"}

    @property
    def ws(self) -> str:
        return self.url.replace("http", "ws", 1) + "/api/mqtt/"

    async def put(self, *events: object) -> None:
        """Hand in events; return when they are on disk."""
        done = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((list(events), done))
        await done

    async def get(self, path: str, name: str = "admin", **headers: str) -> httpx.Response:
        return await self.http.get(path, headers={**self.headers(name), **headers})

    def status(self, name: str = "out"):
        return next(c for c in self.runtime.status().connectors if c.name == name)


@asynccontextmanager
async def running(
    folder: Path, out: Destination | None = None, *, options: dict | None = None, **api
) -> AsyncIterator[Running]:
    """Run a service with ``[api]`` as ``api`` says; ``options`` are those of its connector ``out``."""
    queue: asyncio.Queue = asyncio.Queue()

    async def feed(intake) -> None:
        while True:
            events, done = await queue.get()
            ticket = await intake.submit(events)
            await ticket.committed()
            done.set_result(None)

    out = out or Destination()
    config = configuration(
        folder, connectors=[connector("out", out, **(options or {}))], sources=[source("in", feed, finite=False)],
        drain="1s",
    )  # fmt: skip
    runtime = Runtime(structs.replace(config, api=ApiOptions(**{**QUICK, **api})))
    started = asyncio.Event()
    task = asyncio.create_task(runtime.run(started=started))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task
    found = Running(runtime, queue, out, task)
    try:
        async with found.http:
            yield found
    finally:
        runtime.stop()
        await task
