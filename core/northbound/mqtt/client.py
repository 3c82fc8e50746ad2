"""The asyncio client: connect, publish in batches, subscribe, acknowledge, leave tidily.

One future per call of :meth:`Client.publish`, none per message, and no task of its own. Use one client from one event
loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NoReturn

from northbound.errors import NotConnected
from northbound.mqtt.driver import Driver
from northbound.mqtt.inbound import Received
from northbound.mqtt.network import network_error
from northbound.mqtt.options import ClientOptions, ServerLimits
from northbound.mqtt.packets import Connack, Publish, Subscription
from northbound.mqtt.session import ClientSession, Request

Dial = Callable[[Callable[[], asyncio.Protocol]], Awaitable[object]]
"""Opens a transport and connects a protocol to it, as ``loop.create_connection`` does."""


class Client:
    """A connection to one broker, at one time.

    ``on_messages`` is called with the messages of one read. With ``auto_ack`` they are acknowledged when it returns;
    without, when :meth:`ack` is called. ``dial`` replaces the transport that the options describe by another one.
    """

    def __init__(
        self,
        options: ClientOptions,
        *,
        on_messages: Callable[[list[Received]], None] | None = None,
        auto_ack: bool = True,
        dial: Dial | None = None,
    ) -> None:
        self._options = options
        self._on_messages = on_messages
        self._auto_ack = auto_ack
        plain = options.websocket is None and options.proxy is None and not options.pins
        self._dial = dial or (self._tcp if plain else self._layered)
        self._session = ClientSession(options)
        self._driver: Driver | None = None

    @property
    def limits(self) -> ServerLimits | None:
        """What the broker announced; None while there is no connection."""
        return self._session.limits

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection and it has not ended."""
        return self._session.connected

    @property
    def inflight(self) -> int:
        """The number of messages sent and not acknowledged."""
        return self._session.outbound.inflight

    async def connect(self) -> Connack:
        """Connect and return the broker's answer.

        Raises ``Unauthorised`` for refused credentials, ``VersionRefused`` for a refused protocol version, ``Rejected``
        for settings that cannot be sent, and ``NotConnected`` for everything else, each with the remedy in words.
        """
        if self._driver is not None and not self._driver.lost.done():
            raise RuntimeError("this client is connected already")
        options, loop = self._options, asyncio.get_running_loop()
        self._session.open(loop.time())
        driver = Driver(self._session, options, loop, self._on_messages, auto_ack=self._auto_ack)
        self._driver = driver
        where = f"{options.host}:{options.port}"
        accepted = False
        try:
            async with asyncio.timeout(options.connect_timeout):
                await self._dial(lambda: driver)
                await driver.opened
            accepted = not driver.lost.done()
        except TimeoutError:
            through = f" through the proxy {options.proxy.where}" if options.proxy is not None else ""
            raise NotConnected(
                f"{where} did not answer{through} within {options.connect_timeout:g} s; "
                "check the address and the firewall"
            ) from None
        except OSError as error:  # ssl.SSLError is one
            raise network_error(error, options) from error
        finally:
            if not accepted:
                driver.lose(NotConnected("the connection was not established"), abort=True)
        if not accepted:
            raise driver.lost.result()
        connack = self._session.connack
        assert connack is not None  # noqa: S101 - set before the session calls itself connected
        return connack

    async def _tcp(self, factory: Callable[[], asyncio.Protocol]) -> object:
        options = self._options
        name = (options.server_hostname or options.host) if options.ssl is not None else None
        loop = asyncio.get_running_loop()
        return await loop.create_connection(factory, options.host, options.port, ssl=options.ssl, server_hostname=name)

    async def _layered(self, factory: Callable[[], asyncio.Protocol]) -> None:
        from northbound.mqtt import transports  # noqa: PLC0415 - the plain way needs none of it

        await transports.dial(self._options, factory)

    def _require(self) -> Driver:
        driver = self._driver
        if driver is None:
            raise NotConnected("there is no connection to the broker")
        if driver.lost.done():
            raise driver.lost.result().with_traceback(None)
        return driver

    async def publish(self, batch: Sequence[Publish]) -> None:
        """Send all messages in order; return when every one is acknowledged (QoS 0: written).

        Several calls may be under way at once; the order on the wire is the order of the calls. Raises
        ``PartialDelivery`` naming the messages that failed, or a single ``DeliveryError`` if one befell all of them.
        A cancelled call sends nothing more; what it has sent may arrive.
        """
        driver = self._require()
        if not batch:
            return
        done = asyncio.get_running_loop().create_future()
        under_way = self._session.publish(batch, partial(_wake, done))
        driver.pump_soon()
        try:
            await done
        except asyncio.CancelledError:
            self._session.outbound.abandon(under_way)
            raise
        error = under_way.error
        if error is not None:
            raise error.with_traceback(None)

    async def subscribe(self, filters: Sequence[str | Subscription], qos: int = 1) -> list[int]:
        """Subscribe; return per filter the granted QoS, or a reason code of 128 and above (see ``reasons``)."""
        items = [Subscription(item, qos) if isinstance(item, str) else item for item in filters]
        return await self._ask(lambda now, done: self._session.subscribe(items, now, done))

    async def unsubscribe(self, filters: Sequence[str]) -> list[int]:
        """End subscriptions; return a reason code per filter."""
        return await self._ask(lambda now, done: self._session.unsubscribe(filters, now, done))

    async def _ask(self, ask: Callable[[float, Callable[[], object]], Request]) -> list[int]:
        driver = self._require()
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        request = ask(loop.time(), partial(_wake, done))
        driver.pump_soon()
        await done
        if request.error is not None:
            raise request.error.with_traceback(None)
        return list(request.reasons or ())

    def ack(self, *messages: Received) -> None:
        """Acknowledge messages, in manual mode; the broker hears of it in the order they came.

        Messages of a connection that has ended are passed over: the broker sends them again.
        """
        self._session.acknowledge(messages)
        if self._driver is not None:
            self._driver.pump_soon()

    def pause(self) -> None:
        """Read nothing from the broker until :meth:`resume`: back-pressure, also for QoS 0 and before version 5."""
        if self._driver is not None:
            self._driver.listen(on=False)

    def resume(self) -> None:
        """Read again."""
        if self._driver is not None:
            self._driver.listen(on=True)

    async def lost(self) -> NoReturn:
        """Wait until the connection is lost, and raise the reason."""
        driver = self._require()
        await asyncio.wait([driver.lost])
        raise driver.lost.result().with_traceback(None)

    async def disconnect(self) -> None:
        """Leave with DISCONNECT, so that no will is published. Never raises, and ends within ``close_timeout``."""
        driver = self._driver
        if driver is None:
            return
        if not driver.lost.done():
            self._session.disconnect()
            driver.pump()
            driver.lose(NotConnected("the connection was closed by this side"))
        await asyncio.wait([driver.gone], timeout=self._options.close_timeout + 1)


def _wake(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
