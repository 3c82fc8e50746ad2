"""Owns the tasks: start order, reload, shutdown.

Start: the store, then every connector's place in it, then the workers, then the sources, so that nothing is accepted
before everyone who should get it is known. Stop, in four verbs, each safe to repeat: stop the intake, drain to a
deadline, cancel, close.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any, Final

from northbound import __version__
from northbound.delivery import Worker
from northbound.engine import Engine
from northbound.errors import ConfigurationError, NorthboundError, Problem
from northbound.intake import SourceIntake, SourceRunner
from northbound.loading import Configuration, ConnectorInstance, SourceInstance
from northbound.message import Message
from northbound.privacy.messages import MessagePolicy
from northbound.protection import Protection
from northbound.serving import ApiOptions
from northbound.status import Counters, Status
from northbound.store import SqliteStore

if TYPE_CHECKING:
    from northbound.api.service import Api
    from northbound.api.sourcekeys import Lookup

log = logging.getLogger(__name__)

#: How long what is cancelled may take to end tidily: more than a connector may take to close.
STOP_SECONDS: Final = 15.0
_BLOCKED_POLL_SECONDS: Final = 0.05


class Runtime:
    """The service: one configuration, running."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        site = configuration.site
        self._engine = Engine(site.scheme, site.payloads, org=site.org, retain_state=site.retain_state)
        self._protection: Protection
        self._guard: asyncio.Task[None]
        self._starting: asyncio.Task[None]
        self._store: SqliteStore | None = None
        self._workers: dict[str, tuple[Worker, asyncio.Task[None]]] = {}
        self._sources: dict[str, tuple[SourceRunner, asyncio.Task[None]]] = {}
        self._api: tuple[Api, asyncio.Task[None]] | None = None
        self._mounted: dict[str, Any] = {}
        self._stop = asyncio.Event()
        self._started = time.monotonic()
        self._tasks: asyncio.TaskGroup
        self.undelivered = 0
        self.initial: dict[str, Counters] = {}
        """Each connector's counters when it began here."""
        self.final: Status | None = None
        """Every number at the end of :meth:`run`, which closes what :meth:`status` reads; ``None`` until then."""

    def stop(self) -> None:
        """Begin to shut down; :meth:`run` returns when done."""
        self._stop.set()

    def shareable(self, words: str) -> str:
        """Return words (a line of a log) after the privacy rules, for whatever may have got into them."""
        return self._engine.shareable(words)

    @property
    def api(self) -> Api | None:
        """The API, where there is one and it runs."""
        return None if self._api is None else self._api[0]

    @property
    def failed_sources(self) -> list[str]:
        """Sources that ended with an error, in words."""
        return [f"{name}: {runner.status().error}" for name, (runner, _) in self._sources.items() if runner.failed]

    def status(self) -> Status:
        """Return every number there is. Call it between the start and the end of :meth:`run`."""
        store = self._opened
        return Status(
            version=__version__,
            uptime=time.monotonic() - self._started,
            sources=[runner.status() for runner, _ in self._sources.values()],
            connectors=[worker.status() for worker, _ in self._workers.values()],
            store=store.status(),
            rules=self._protection.status(),
        )

    async def run(self, *, once: bool = False, started: asyncio.Event | None = None) -> None:
        """Run until :meth:`stop`; with ``once`` until finite sources are read and all is delivered.

        ``started`` is set when every worker and source runs. Raises :class:`northbound.StoreError` where the store
        cannot be opened or breaks.
        """
        if once:
            self._refuse_endless()
        self._store = SqliteStore(self.configuration.store)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                broken = self._tasks.create_task(self._store.watch(), name="store")
                self._protect(Protection(self.configuration))
                self._begin_guarding()
                await self._retire(self.configuration.connectors)
                for connector in self.configuration.connectors:
                    await self._start_connector(connector)
                if self.configuration.api is not None and not once:
                    await self._start_api(self.configuration.api)
                self._begin_reading()
                await asyncio.sleep(0)  # a source that waits for nothing runs
                if started is not None:
                    started.set()
                if once:
                    await self._until_read()
                else:
                    await self._stop.wait()
                await self._shut_down(once=once)
                self.final = self.status()
                await self._unprotect()
                broken.cancel()
        except BaseExceptionGroup as group:  # of the tasks: the one error that says most is raised in its place
            raise _first(group) from None
        finally:
            await self._store.close()

    async def reload(self, configuration: Configuration) -> None:
        """Run ``configuration`` from now on; connectors and sources that did not change are not touched.

        Raises :class:`ConfigurationError` where something changed that only a restart can change.
        """
        old = self.configuration
        for key in ("store", "site"):
            if getattr(old, key) != getattr(configuration, key):
                problem = Problem(configuration.path, key, "cannot change while running", "restart the service")
                raise ConfigurationError([problem])
        protection = Protection(configuration, self._protection)
        self._starting.cancel()
        for name in [*self._sources]:
            # Until the detectors have learnt, the rules before the store would refuse what a source brings.
            if protection.must_wait() or _find(old.sources, name) != _find(configuration.sources, name):
                await self._stop_source(name)
        stopping = [
            name
            for name in self._workers
            if _find(old.connectors, name) != _find(configuration.connectors, name) or protection.must_wait(name)
        ]
        for name in stopping:
            await self._stop_connector(name)
        await self._replace(protection)
        self.configuration = configuration
        await self._retire(configuration.connectors)
        for connector in configuration.connectors:
            if connector.name not in self._workers:
                await self._start_connector(connector)
        await self._reload_api(configuration.api)
        self._begin_reading()
        log.info("reloaded: %d connectors restarted, the others not touched", len(stopping))

    # starting

    @property
    def _opened(self) -> SqliteStore:
        if self._store is None:
            raise NorthboundError("the service has not started")
        return self._store

    def _refuse_endless(self) -> None:
        endless = [s.name for s in self.configuration.sources if not s.create().finite]
        if endless:
            key = f"sources.{endless[0]}"
            raise ConfigurationError(
                [
                    Problem(
                        self.configuration.path, key, "never ends, so --once would never end", "run it without --once"
                    )
                ]
            )

    async def _retire(self, connectors: Iterable[ConnectorInstance]) -> None:
        gone = await self._opened.retire([connector.name for connector in connectors])
        for name, waiting in gone.items():
            log.warning(
                "%s is no longer configured: its place in the store is given up (%d undelivered)", name, waiting
            )

    async def _start_connector(self, instance: ConnectorInstance) -> None:
        store = self._opened
        policy = self._protection.of_connector(instance.name)
        worker = Worker(instance, store, self._engine.scheme, self.configuration.store, policy)
        await worker.prepare()
        self.initial.setdefault(instance.name, copy(worker.status().counters))
        task = self._tasks.create_task(self._deliver(worker), name=f"connector {instance.name}")
        self._workers[instance.name] = (worker, task)

    async def _deliver(self, worker: Worker) -> None:
        # A reload may put others in the place of rules that still have something to learn.
        while (rules := self._protection).of_connector(worker.name) is not None and not rules.ready.is_set():
            await rules.ready.wait()
        await worker.run()

    def _protect(self, protection: Protection) -> None:
        self._protection = protection
        self._engine.policy = protection.site
        for name, (worker, _) in self._workers.items():
            worker.protect(protection.of_connector(name))

    def _begin_guarding(self) -> None:
        self._guard = self._tasks.create_task(self._protection.run(), name="privacy")

    async def _replace(self, protection: Protection) -> None:
        await self._cancel(self._guard)
        before = self._protection
        protection.count_on(before)
        self._protect(protection)
        before.ready.set()  # whoever waits for it looks at the new one
        # Only now: what its rules do up to here belongs into the audit log, which one at a time writes.
        await before.close()
        self._begin_guarding()

    async def _unprotect(self) -> None:
        await self._cancel(self._guard)
        await self._protection.close()

    def _begin_reading(self) -> None:
        self._starting = self._tasks.create_task(self._start_sources(), name="sources")

    async def _start_sources(self) -> None:
        """Start every source that does not run, once the detectors know what they need."""
        await self._protection.learn()
        for source in self.configuration.sources:
            if source.name not in self._sources:
                self._start_source(source)

    def _start_source(self, instance: SourceInstance) -> None:
        intake = SourceIntake(instance.name, self._engine, self._opened, self._unblocked, self._mount)
        runner = SourceRunner(instance, intake)
        task = self._tasks.create_task(runner.run(), name=f"source {instance.name}")
        self._sources[instance.name] = (runner, task)

    async def _unblocked(self) -> None:
        while any(worker.blocks for worker, _ in self._workers.values()):  # noqa: ASYNC110 - the cause is on the disk
            await asyncio.sleep(_BLOCKED_POLL_SECONDS)

    # the API

    async def _start_api(self, options: ApiOptions) -> None:
        from northbound.api.service import Api, Surroundings  # noqa: PLC0415 - starlette and uvicorn, where configured

        around = Surroundings(
            site=self.configuration.site,
            store=self._opened,
            status=self._shareable_status,
            accept=self._accept,
            lookup=self._key_lookup,
            mounted=self._mounted,
        )
        api = Api(options, around)
        await api.prepare()
        self._api = (api, self._tasks.create_task(api.run(), name="API"))

    async def _stop_api(self) -> None:
        if self._api is not None:
            _, task = self._api
            self._api = None
            await self._cancel(task)

    async def _reload_api(self, options: ApiOptions | None) -> None:
        """Leave it alone where nothing changed that it must begin again for."""
        try:
            if self._api is not None and options is not None and self._api[0].renew(options):
                return
            await self._stop_api()
            if options is not None:
                await self._start_api(options)
        except NorthboundError as error:  # delivery goes on without it
            log.error("%s", error)  # noqa: TRY400 - said in words

    @contextmanager
    def _mount(self, path: str, app: Any) -> Iterator[None]:
        if self.configuration.api is None:
            raise NorthboundError(f"{path} cannot be served: add an [api] table, or let the source listen itself")
        if path in self._mounted:
            raise NorthboundError(f"{path} is served by another source: one of them listens itself")
        self._mounted[path] = app
        try:
            yield
        finally:
            del self._mounted[path]

    def _shareable_status(self) -> Status:
        """Return the status with the privacy rules applied to the words of others."""
        status = self.status()
        for connector in status.connectors:
            connector.error = connector.error and self.shareable(connector.error)
        for source in status.sources:  # its last refusal is shareable from the beginning
            source.error = source.error and self.shareable(source.error)
        return status

    def _accept(self, message: Message) -> asyncio.Future[Any]:
        """Store what a client published, after the privacy rules, so that it is delivered like a source's."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            kept = self._permitted(message)
        except NorthboundError as error:
            done.set_exception(error)
            return done
        if kept is not None:
            return self._opened.append([kept]).committed
        done.set_result(None)  # a rule lets it go no further
        return done

    def _permitted(self, message: Message) -> Message | None:
        policy = self._engine.policy
        if not self._opened.has_room:
            raise NorthboundError("the store's queue is full: later")
        if policy is None:
            return message
        if not self._protection.ready.is_set():
            raise NorthboundError("the privacy rules have yet to learn whom they look for: later")
        policy.begin(time.time_ns() // 1_000_000)
        return MessagePolicy(policy, self._engine.scheme, self.configuration.site.payloads).apply(message)

    def _key_lookup(self, options: ApiOptions) -> Lookup | None:
        found = _find(self.configuration.sources, options.auth.api_keys_from or "")
        return found.create().api_key if isinstance(found, SourceInstance) else None

    # stopping

    async def _until_read(self) -> None:
        stop = self._tasks.create_task(self._stop.wait(), name="stop")
        await asyncio.wait([stop, self._starting], return_when=asyncio.FIRST_COMPLETED)
        while not stop.done() and (waiting := [task for _, task in self._sources.values() if not task.done()]):
            await asyncio.wait([stop, *waiting], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()

    async def _shut_down(self, *, once: bool) -> None:
        await self._cancel(self._starting, *(task for _, task in self._sources.values()))
        await self._opened.flush()
        for worker, _ in self._workers.values():
            worker.drain()
        tasks = [task for _, task in self._workers.values()]
        if tasks:
            if once:
                await self._until_drained(tasks)
            drain = self.configuration.service.drain.total_seconds()
            _, late = await asyncio.wait(tasks, timeout=drain)
            await self._cancel(*late)
        await self._stop_api()
        self.undelivered = max((worker.status().backlog for worker, _ in self._workers.values()), default=0)
        if self.undelivered:
            log.warning(
                "stopped with up to %d messages a connector undelivered: they stay in the store", self.undelivered
            )

    async def _until_drained(self, tasks: list[asyncio.Task[None]]) -> None:
        stop = self._tasks.create_task(self._stop.wait(), name="stop")
        while not stop.done() and (waiting := [task for task in tasks if not task.done()]):
            await asyncio.wait([stop, *waiting], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()

    async def _stop_source(self, name: str) -> None:
        _, task = self._sources.pop(name)
        await self._cancel(task)

    async def _stop_connector(self, name: str) -> None:
        worker, task = self._workers.pop(name)
        await self._cancel(task)
        await self._opened.flush()
        self._opened.unregister(worker.name)

    @staticmethod
    async def _cancel(*tasks: asyncio.Task[None]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
            for task in late:
                log.error("%s did not stop within %.0f s", task.get_name(), STOP_SECONDS)


def _find(
    instances: Iterable[ConnectorInstance] | Iterable[SourceInstance], name: str
) -> ConnectorInstance | SourceInstance | None:
    return next((instance for instance in instances if instance.name == name), None)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that says most: ours before a plugin's or a defect."""
    flat: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            flat.append(error)
    return next((error for error in flat if isinstance(error, NorthboundError)), flat[0])
