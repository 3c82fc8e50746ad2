"""The ``aws-iot`` connector."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import pydantic

import northbound
from northbound import Credential, DeliveryError, Lanes, NotConnected, Outgoing, PartialDelivery, Unauthorised
from northbound_aws_iot import diagnosis
from northbound_aws_iot.failures import WrongPin
from northbound_aws_iot.limits import LIMITS, limits_of, prefix_of, shadow_rate
from northbound_aws_iot.options import ConnectorOptions
from northbound_aws_iot.retained import Turns
from northbound_aws_iot.shadow import Shadow

if TYPE_CHECKING:
    from northbound_aws_iot.link import Link

#: IoT Core takes one CONNECT a second of one client id.
_BETWEEN_CONNECTS: Final = 1.05
#: How long a handshake of our own may take, which is to tell why another one failed.
_DIAGNOSIS_SECONDS: Final = 10.0


class AwsIotConnector(northbound.Connector):
    """Publishes to AWS IoT Core over one or several MQTT 5 connections; the acknowledgement is PUBACK."""

    Config: ClassVar[type[pydantic.BaseModel]] = ConnectorOptions
    config: ConnectorOptions
    limits = LIMITS
    default_topic = "{root}/{org}/state/{zones}/{system}/{driver}.{module}.{index}.{state}"
    #: A retained message is metered twice and has a quota of its own: only what seldom changes is retained.
    retained_kinds = frozenset(("metadata",))

    def __init__(self, config: ConnectorOptions, *, name: str) -> None:
        super().__init__(config, name=name)
        self.limits = limits_of(config)
        base = config.client_id or f"northbound-{name}"
        count = config.connections
        self.client_ids = [base] if count == 1 else [f"{base}-{number}" for number in range(1, count + 1)]
        self._links: list[Link] = []
        self._lanes: Lanes | None = None
        self._retained = Turns(config.retained_per_topic, config.retained_per_second)
        self._shadow = _shadow_of(config, base)
        self._connected_at: dict[str, float] = {}
        self._doubtful = True  # whether TLS is tried first, since it is not known to work
        self._pin_refused = False
        self._cause: tuple[DeliveryError, str] | None = None

    @property
    def destination(self) -> str:
        """The endpoint."""
        return f"{'wss' if self.config.over_websocket else 'mqtts'}://{self.config.endpoint}:{self.config.port_in_use}"

    # -- the connections ----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and sign in, on every lane; take in what IoT Core announces."""
        await self.close()
        if self._pin_refused:
            raise Unauthorised("the PIN was refused, and is not tried again: a token locks itself; set pkcs11_pin anew")
        config = self.config
        seconds = config.connect_timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                if self._doubtful:
                    self.tell(f"a TLS handshake with {config.endpoint}:{config.port_in_use}")
                    await diagnosis.check_tls(config)
                await self._connect()
        except DeliveryError as error:
            await self._give_up()
            raise await self._better(error) from None
        except TimeoutError:
            await self._give_up()
            raise NotConnected(f"{self.destination} has not accepted the connection within {seconds:g} s") from None
        self._doubtful = False

    async def _connect(self) -> None:
        from northbound_aws_iot.link import Link  # noqa: PLC0415 - the SDK takes 100 ms, and only those who use it

        config = self.config
        shadow = self._shadow
        heard = shadow.heard if shadow is not None else None
        self._links = [
            Link(config, client_id, prefix=prefix_of(config), on_message=heard) for client_id in self.client_ids
        ]
        self.tell(
            f"CONNECT as {', '.join(self.client_ids[:3])}{'…' if len(self.client_ids) > 3 else ''}, by {config.auth}"
        )
        told: list[Any] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                for link in self._links:
                    tasks.create_task(self._open(link, told), name=f"{self.name}: {link.client_id}")
        except BaseExceptionGroup as group:  # of whatever the connections raised, the first is what is told
            raise _first(group) from None
        packet = min((settings.maximum_packet_size_to_server for settings in told), default=0)
        window = min((settings.receive_maximum_from_server for settings in told), default=100)
        self.tell(f"it takes packets of {packet:,} bytes, and {window} messages unacknowledged")
        self.limits = limits_of(config, packet, window)
        if not all(settings.retain_available for settings in told):
            self.limits = self.limits.narrowed(retain="none")
        if shadow is not None:
            self.tell(f"SUBSCRIBE to {' and '.join(shadow.filters)}")
            await self._links[0].subscribe(shadow.filters)
        self._lanes = Lanes(
            [link.submit for link in self._links],
            rate=self.limits.messages_per_second,
            bytes_rate=self.limits.bytes_per_second,
        )

    async def _open(self, link: Link, told: list[Any]) -> None:
        wait = self._connected_at.get(link.client_id, 0.0) + _BETWEEN_CONNECTS - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        try:
            told.append(await link.open())
        finally:
            self._connected_at[link.client_id] = time.monotonic()

    async def _give_up(self) -> None:
        self._doubtful = True
        await self.close()

    async def _better(self, error: DeliveryError) -> DeliveryError:
        """Return the error in words, where a handshake of our own tells more than the SDK's number."""
        self._cause = None
        self._pin_refused = isinstance(error, WrongPin)
        name = getattr(error, "name", "")
        if "TLS" in name or "SOCKET_CLOSED" in name or "HANGUP" in name:
            try:
                async with asyncio.timeout(_DIAGNOSIS_SECONDS):
                    await diagnosis.check_tls(self.config, alerts=True)
            except DeliveryError as found:
                return found
            except TimeoutError:
                return error
        elif "WEBSOCKET" in name and self.config.auth == "sigv4":
            from northbound_aws_iot.signing_in import now  # noqa: PLC0415 - see above

            error = Unauthorised(f"the WebSocket is refused: {error}; check the AWS credentials and the region")
            ahead = await diagnosis.clock_skew(self.config, now)
            if ahead is not None:
                seconds = ahead.total_seconds()
                way = "ahead" if seconds > 0 else "behind"
                self._cause = (
                    error,
                    f"the clock of this machine is {abs(seconds):,.0f} s {way}: signatures depend on it",
                )
        return error

    async def lost(self) -> None:
        """Wait until one of the connections is lost."""
        if not self._links:
            raise NotConnected("the connection is not open")
        done, _ = await asyncio.wait([link.lost for link in self._links], return_when=asyncio.FIRST_COMPLETED)
        raise done.pop().result()

    async def close(self) -> None:
        """Disconnect every lane."""
        links, self._links, self._lanes = self._links, [], None
        async with asyncio.TaskGroup() as tasks:
            for link in links:
                tasks.create_task(link.close(), name=f"{self.name}: close {link.client_id}")

    # -- messages -----------------------------------------------------------------------------------------------

    async def send(self, batch: Sequence[Outgoing]) -> None:
        """Publish; returns when every message is acknowledged."""
        lanes = self._lanes
        if lanes is None:
            raise NotConnected("the connection is not open")
        parts: dict[str, list[int]] = {}
        for index, message in enumerate(batch):
            parts.setdefault(self._way(message), []).append(index)
        if parts.keys() == {"lanes"}:
            await lanes.send(batch)
            return
        failures: dict[int, DeliveryError] = {}
        async with asyncio.TaskGroup() as tasks:
            straight = parts.pop("lanes", [])
            for way, indices in parts.items():
                part = [batch[index] for index in indices]
                work = self._send(way, part, lanes)
                tasks.create_task(_noting(work, indices, failures), name=f"{self.name}: {way}")
            # Not in a task: what begins a turn later would be overtaken by a call that has nothing but these.
            if straight:
                await _noting(lanes.send([batch[index] for index in straight]), straight, failures)
        if failures:
            raise PartialDelivery(failures)

    def _way(self, message: Outgoing) -> str:
        if self._shadow is not None and message.kind == "metadata":
            return "shadow"
        return "retained" if message.retain and self._retained.bounded else "lanes"

    async def _send(self, way: str, part: Sequence[Outgoing], lanes: Lanes) -> None:
        if way == "shadow" and self._shadow is not None:
            await self._shadow.send(part, self._links[0].publish_one)
        else:
            await self._retained.send(part, lanes.send)

    # -- what it tells ------------------------------------------------------------------------------------------

    def credentials(self) -> Sequence[Credential]:
        """Return the certificate, and the files that are watched."""
        config = self.config
        beside = [path for path in (config.private_key, config.ca) if path is not None]
        if config.certificate is not None:
            return [Credential.of_certificate("certificate", config.certificate, *beside)]
        if config.certificate_pem is not None:
            return [
                Credential.of_certificate("certificate", config.certificate_pem.get_secret_value().encode(), *beside)
            ]
        found = [Credential("CA", None, tuple(beside))] if beside else []
        expires = min((link.expires for link in self._links if link.expires is not None), default=None)
        if expires is not None:
            found.append(Credential("AWS credentials", expires, renewed=config.access_key_id is None))
        return found

    def gauges(self) -> Mapping[str, float]:
        """Return how many lanes stand, what is under way on them, and what a quota holds back."""
        return {
            "lanes_connected": sum(not link.lost.done() for link in self._links),
            "unacknowledged": sum(link.in_flight for link in self._links),
            "retained_held_back": self._retained.held_back,
        }

    def explain(self, error: Exception) -> str | None:
        """Return the likely cause of an error of ``open`` or ``probe``."""
        if self._cause is not None and self._cause[0] is error:
            return self._cause[1]
        return diagnosis.likely_cause(str(error), self.config, self.client_ids[0], self.credentials())

    async def probe(self) -> None:
        """Publish an empty message to ``probe_topic``, where one is configured: nothing else tells of iot:Publish."""
        topic = self.config.probe_topic
        if topic is None:
            return
        self.tell(f"PUBLISH of an empty message to {topic}")
        await self.send([Outgoing(topic, b"", "state", int(time.time() * 1000), False, topic, "probe")])


def _shadow_of(config: ConnectorOptions, client_id: str) -> Shadow | None:
    if config.shadow is None:
        return None
    seconds = config.ack_timeout.total_seconds()
    return Shadow(config.shadow, config.shadow_thing or client_id, seconds=seconds, rate=shadow_rate(config))


async def _noting(work: Coroutine[Any, Any, None], indices: Sequence[int], failures: dict[int, DeliveryError]) -> None:
    """Wait for part of a batch, and note what fails by its index in the whole."""
    try:
        await work
    except PartialDelivery as error:
        failures.update({indices[place]: one for place, one in error.failures.items()})
    except DeliveryError as error:
        failures.update(dict.fromkeys(indices, error))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what went wrong first; of several lanes it is mostly the same."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
