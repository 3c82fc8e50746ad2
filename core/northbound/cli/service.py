"""A runtime in this process: its event loop, and what signals do to it.

SIGINT and SIGTERM drain and stop; a second one stops at once. SIGHUP reads the configuration again; where the new one
is wrong, or changes what only a restart can change, that is reported and the old one goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from northbound import ConfigurationError, NorthboundError
from northbound.loading import Configuration
from northbound.runtime import Runtime

log = logging.getLogger(__name__)

#: After a second signal the process is gone within this time, whatever a connector still waits for.
_AT_ONCE_SECONDS: Final = 2.0
#: The store's writer and the sources' threads share the interpreter with the event loop. Handing it over every
#: millisecond in place of every five keeps a commit, and with it the next batch, from waiting for a turn.
_SWITCH_SECONDS: Final = 0.001


class Service:
    """Runs one runtime. ``forced`` is the signal that stopped it at once, ``None`` where it ended in good order."""

    def __init__(
        self, runtime: Runtime, *, load: Callable[[], Configuration] | None = None, once: bool = False
    ) -> None:
        self.runtime = runtime
        self.started = asyncio.Event()
        self.forced: int | None = None
        self._load = load
        self._once = once
        self._hangup = asyncio.Event()
        self._stopping = False
        self._reloading = False
        self._error: NorthboundError | None = None

    async def run(self, beside: Callable[[Service], Awaitable[None]] | None = None) -> None:
        """Run until stopped or, with ``once``, until all is delivered; ``beside`` runs with it until it ends.

        Raises :class:`northbound.NorthboundError` where the runtime cannot go on.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._run(), name="service")
            others = [group.create_task(self._reload_on_hangup(), name="reload")]
            if beside is not None:
                others.append(group.create_task(self._beside(beside), name="view"))
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self._stop, number, task)
            loop.add_signal_handler(signal.SIGHUP, self._hangup.set)
            await asyncio.wait([task])
            for other in others:
                other.cancel()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if self._error is not None:
            raise self._error

    @property
    def stopping(self) -> bool:
        """Whether it has begun to stop."""
        return self._stopping

    def stop(self) -> None:
        """Drain and stop."""
        self._stopping = True
        if not self._reloading:
            self.runtime.stop()

    async def _run(self) -> None:
        try:
            await self.runtime.run(once=self._once, started=self.started)
        except NorthboundError as error:
            self._error = error

    async def _beside(self, beside: Callable[[Service], Awaitable[None]]) -> None:
        await self.started.wait()
        await beside(self)

    def _stop(self, number: int, task: asyncio.Task[None]) -> None:
        name = signal.Signals(number).name
        if not self._stopping:
            drain = self.runtime.configuration.service.drain.total_seconds()
            log.info("%s: no more is taken in; delivering for up to %g s; again to stop at once", name, drain)
            self.stop()
        elif self.forced is None:
            log.warning("%s: stopping at once; what is not acknowledged stays in the store", name)
            self.forced = number
            task.cancel()
            asyncio.get_running_loop().call_later(_AT_ONCE_SECONDS, os._exit, 128 + number)

    async def _reload_on_hangup(self) -> None:
        await self.started.wait()
        while True:
            await self._hangup.wait()
            self._hangup.clear()
            if self._load is None or self._once:
                log.warning("SIGHUP: there is nothing to reload here")
            elif not self._stopping:
                await self._reload(self._load)

    async def _reload(self, load: Callable[[], Configuration]) -> None:
        self._reloading = True
        try:
            configuration = await asyncio.to_thread(load)
            await self.runtime.reload(configuration)
        except ConfigurationError as error:
            for problem in error.problems:
                log.error("%s", problem)  # noqa: TRY400 - said in words
            log.error("the configuration was not reloaded; the old one goes on")  # noqa: TRY400 - said in words
        except NorthboundError as error:
            log.error("the configuration was not reloaded: %s", error)  # noqa: TRY400 - said in words
        finally:
            self._reloading = False
            if self._stopping:
                self.runtime.stop()


def run_loop(main: Callable[[], Awaitable[None]]) -> None:
    """Run ``main`` on the fastest event loop there is."""
    # From here on a terminal that goes away does not end the service; before the loop runs, nobody can be told.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.setswitchinterval(_SWITCH_SECONDS)

    async def run() -> None:
        await main()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - it is not there on every platform
    except ImportError:
        return None
    factory: Any = uvloop.new_event_loop
    return factory  # type: ignore[no-any-return]
