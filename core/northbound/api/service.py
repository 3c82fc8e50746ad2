"""The API as the runtime sees it: prepared, fed, told of a reload, stopped.

Prepared before the sources run, so that the tree is whole when the first client comes; stopped after them, so that
clients see what the sources brought last.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from msgspec import Struct, structs

from northbound.api import local
from northbound.api.app import Served, build
from northbound.api.audit import AuditedRules, Happening
from northbound.api.broker import Broker
from northbound.api.identity import Identity
from northbound.api.mqtt_socket import MqttListener, mqtt_endpoint, strangers_message
from northbound.api.pages import App
from northbound.api.signin import SignIn
from northbound.api.sourcekeys import Lookup
from northbound.api.stream import Streams
from northbound.api.websocket import WebSocket
from northbound.config import SiteOptions
from northbound.errors import NorthboundError
from northbound.hosting import ListenAddress
from northbound.hosting.server import HttpServer
from northbound.message import Message
from northbound.serving import ApiOptions
from northbound.status import Status
from northbound.store import SqliteStore
from northbound.store.present import present

log = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0


class Surroundings(Struct, kw_only=True):
    """What the API needs of the service around it."""

    site: SiteOptions
    store: SqliteStore
    status: Callable[[], Status]
    accept: Callable[[Message], asyncio.Future[Any]]  # what somebody publishes: stored and delivered
    lookup: Callable[[ApiOptions], Lookup | None]  # who answers for the API keys of another system
    mounted: dict[str, App]  # what sources serve themselves


class Api:
    """One API. :meth:`prepare` it, then :meth:`run` it in a task until that is cancelled."""

    def __init__(self, options: ApiOptions, around: Surroundings) -> None:
        self.options = options
        self._around = around
        self._token = local.new_token()
        self._signin, rules = self._sign_in(options)
        self._door = local.Door(self._signin, self._token)
        self._bounds = local.Bounds(rules)
        self._streams: Streams
        self._broker: Broker
        self._newer: set[str] | None = None  # while the present is loaded: topics that have changed since
        self._stop_listening: Callable[[], None] = lambda: None
        self._changed = asyncio.Event()
        self._deaf = asyncio.Event()  # what is committed could not be taken in
        self._server: HttpServer | None = None
        self._listeners: list[MqttListener] = []
        self.error: str | None = None

    # in the order of its life

    async def prepare(self) -> None:
        """Take the addresses and load the tree; raises :class:`NorthboundError` where that cannot be."""
        try:
            await self._begin()
        except BaseException:  # raised again: nothing stays open
            await self.close()
            raise

    async def run(self) -> None:
        """Serve until cancelled. What fails here ends no delivery: it is logged, and begun again."""
        pause = _FIRST_PAUSE_SECONDS
        try:
            while True:
                began = time.monotonic()
                try:
                    if self._server is None:
                        await self._begin()
                    await self._run()
                except NorthboundError as error:
                    self.error = str(error)
                    log.error("%s; the API tries again in %g s", error, pause)  # noqa: TRY400 - said in words
                except Exception as error:  # a defect here must not end delivery
                    self.error = f"{type(error).__name__}: {error}"
                    log.exception("the API failed; it begins again in %g s", pause)
                await self._end()
                await asyncio.sleep(pause)
                steady = time.monotonic() - began > _LONGEST_PAUSE_SECONDS
                pause = _FIRST_PAUSE_SECONDS if steady else min(pause * 2, _LONGEST_PAUSE_SECONDS)
        finally:
            await self.close()

    async def close(self) -> None:
        """Let go of what :meth:`prepare` took."""
        await self._end()
        await self._signin.close()

    def renew(self, options: ApiOptions) -> bool:
        """Take over what can change while clients stay connected; returns whether that was all that changed."""
        changing = {"auth": options.auth, "access": options.access}
        if self.options.model_copy(update=changing) != options:
            return False
        if self.options != options:
            self.options = options
            self._changed.set()
        if self._server is not None:
            self._server.renew_certificate()
        return True

    @property
    def addresses(self) -> tuple[ListenAddress, ...]:
        """Where it listens, with the ports that 0 became; empty while it does not."""
        return () if self._server is None else self._server.addresses

    @property
    def mqtt_addresses(self) -> tuple[ListenAddress, ...]:
        """Where it listens for MQTT alone."""
        return tuple(ListenAddress(*found[:2]) for listener in self._listeners for found in listener.addresses)

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        address = self.addresses[0]
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - compared, not bound
        return f"{'https' if self.options.certificate else 'http'}://{ListenAddress(host, address.port)}"

    def numbers(self) -> dict[str, float]:
        """Return the API's own numbers."""
        told = structs.asdict(self._broker.numbers())
        counters = structs.asdict(told.pop("counters"))
        streams = {
            "streams": len(self._streams),
            "streams_conflated": self._streams.conflated,
            "streams_dropped": self._streams.dropped,
        }
        return {**told, **counters, **streams, **self._signin.numbers()}

    # within

    async def _begin(self) -> None:
        """Make a tree, take the addresses, load the present; nobody is let in before that is there."""
        self._deaf.clear()
        self._streams = Streams(self.options.max_streams)
        self._broker = Broker(access=self._bounds, authenticator=self._door, options=self.options.mqtt)
        self._broker.on_publish = self._published
        self._broker.system = self._system_topics
        server = self._server = HttpServer(
            build(self._served()),
            self.options,
            websocket=WebSocket,
            ws_max_size=strangers_message(self.options.mqtt),
            trusted_proxies=self.options.trusted_proxies,
            table="api",
        )
        await server.bind()
        await self._load()
        for address in self.options.mqtt_addresses:
            listener = MqttListener(
                self._broker, self._door, self._bounds, self.options.mqtt, address=address, ssl=server.ssl
            )
            try:
                await listener.start()
            except OSError as error:
                words = error.strerror or error
                raise NorthboundError(
                    f"[api] cannot listen for MQTT on {address}: {words}; is the port free?"
                ) from None
            self._listeners.append(listener)
        local.write(self._around.store.path, self._entrance())

    async def _end(self) -> None:
        """Let go of what :meth:`_begin` took."""
        self._stop_listening()
        self._stop_listening = lambda: None
        local.remove(self._around.store.path)
        server, self._server = self._server, None
        if server is not None:
            server.close()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            await listener.stop()

    def _served(self) -> Served:
        site, around = self._around.site, self._around
        payloads = site.payloads
        return Served(
            options=self.options,
            site={
                "root": site.root,
                "hierarchy": site.scheme.hierarchy,
                "time": payloads.time,
                "value": payloads.value,
                "metadata": payloads.metadata,
            },
            store=around.store.path,
            tree=self._broker,
            streams=self._streams,
            authenticator=self._door,
            access=self._bounds,
            audit=self._note,
            status=around.status,
            numbers=self.numbers,
            mqtt=mqtt_endpoint(self._broker, self._door, self._bounds, self.options.mqtt, origins=self.options.origins),
            mounted=around.mounted,
        )

    async def _load(self) -> None:
        """Load the present; of a topic that changes meanwhile, what it was before is not wanted any more."""
        newer = self._newer = set()
        self._stop_listening = self._around.store.listen(self._hear)
        async for messages in present(self._around.store.path):
            self._broker.load([message for message in messages if message.topic not in newer])
        self._newer = None

    def _hear(self, messages: Sequence[Message]) -> None:
        """Take in what was committed. It is the store that calls: whatever fails here is not its business."""
        if self._deaf.is_set():
            return
        try:
            self._broker.publish(messages)
            self._streams.publish(messages)
        except Exception:  # a defect here must not reach the store that calls it
            log.exception("the API could not take in what was committed")
            self._deaf.set()
        if self._newer is not None:
            self._newer.update([message.topic for message in messages])

    async def _run(self) -> None:
        server = self._server
        assert server is not None  # noqa: S101 - whoever calls has begun
        async with asyncio.TaskGroup() as group:
            beside = [
                group.create_task(self._broker.run(), name="broker"),
                group.create_task(self._signing_in(), name="sign-in"),
                group.create_task(self._hearing(), name="hearing"),
            ]
            try:
                await server.serve(self._started, self._farewell)
            finally:
                for task in beside:
                    task.cancel()

    async def _hearing(self) -> None:
        await self._deaf.wait()
        raise RuntimeError("the tree is no longer what was committed")

    def _started(self) -> None:
        self.error = None
        log.info("the API listens on %s", self.url)
        for address in self.mqtt_addresses:
            log.info("MQTT without WebSocket on %s", address)
        if self.options.certificate is None and not all(address.loopback for address in self.addresses):
            log.warning("the API listens without TLS where others than this machine reach it: tokens can be read")

    async def _farewell(self) -> None:
        self._streams.close()
        await self._broker.close()

    async def _signing_in(self) -> None:
        """Keep signing in fresh; after a reload of its options, with new ones."""
        while True:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(self._signin.run(), name="sign-in")
                await self._changed.wait()
                self._changed.clear()
                task.cancel()
            before = self._signin
            self._signin, rules = self._sign_in(self.options, before)
            self._door.inner, self._bounds.inner = self._signin, rules
            self._broker.forget_rights()
            self._streams.forget_rights()
            await before.close()

    def _sign_in(self, options: ApiOptions, before: SignIn | None = None) -> tuple[SignIn, AuditedRules]:
        around = self._around
        signin = SignIn(
            options.auth,
            store=around.store.path,
            site_org=around.site.org,
            lookup=around.lookup(options),
            before=before,
        )
        rules = AuditedRules(options.access, around.site.scheme)
        rules.audit = signin.audit
        return signin, rules

    def _note(self, happened: Happening, who: Identity, words: str) -> None:
        if self._signin.audit is not None:
            self._signin.audit.decided(happened, who, words)

    def _published(self, _: Identity, message: Message) -> asyncio.Future[Any] | None:
        if self.options.publish == "north":
            return self._around.accept(message)
        self._streams.publish([message])
        return None

    def _system_topics(self) -> dict[str, str]:
        """Return what the service says of itself below ``$SYS``, beside what the broker says."""
        status = self._around.status()
        told = {"$SYS/bridge/store/messages": str(status.store.sequence)}
        for connector in status.connectors:
            begin = f"$SYS/bridge/connectors/{connector.name}"
            told[f"{begin}/state"] = connector.state
            told[f"{begin}/acknowledged"] = str(connector.counters.acknowledged)
            told[f"{begin}/backlog"] = str(connector.backlog)
            told[f"{begin}/dead_letters"] = str(connector.dead_letters)
        return told

    def _entrance(self) -> local.Entrance:
        certificate = self.options.certificate
        return local.Entrance(
            url=self.url,
            token=self._token,
            pid=os.getpid(),
            certificate=None if certificate is None else str(certificate.absolute()),
        )
