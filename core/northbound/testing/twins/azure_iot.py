"""A twin of Azure IoT Hub: MQTT 3.1.1 over TLS and over WebSocket, as devices and modules see it.

Strict: a device that does what IoT Hub forbids is hung up on without a word, since "AMQP returns errors for many
conditions, while MQTT terminates the connection" (the MQTT page of :mod:`.azure_rules`, which names the pages). What is
refused, and why, is in ``record``.
"""

from __future__ import annotations

import base64
import re
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from contextlib import AsyncExitStack
from typing import Any, Final, Self

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from northbound.mqtt import Properties
from northbound.testing.twins.authority import LOOPBACK, Authority
from northbound.testing.twins.azure_peer import HubPeer
from northbound.testing.twins.azure_rules import metered
from northbound.testing.twins.mqtt_listener import Greeting, MqttListener
from northbound.testing.twins.record import Record

#: MQTT: "MQTT v3.1.1 over WebSocket on TCP port 443"; the path is that of every SDK (azure/iot/device
#: common/mqtt_transport.py).
WEBSOCKET_PATH: Final = "/$iothub/websocket"
#: identities: "ASCII 7-bit alphanumeric characters plus certain special characters", at most 128
#: (iot-hub-devguide-identity-registry); "#" is one of them, but no topic may hold it.
_DEVICE_ID = re.compile(r"[A-Za-z0-9\-.%_*?!(),:=@$']{1,128}")
_DAY: Final = 86_400


class Identity(msgspec.Struct, kw_only=True):
    """A device or module of the registry. ``client_id`` is ``device`` or ``device/module``."""

    client_id: str
    keys: list[str] = []  # base64, primary and secondary; none for X.509
    thumbprints: Collection[str] = ()  # SHA-1 or SHA-256, upper-case hexadecimal
    by_authority: bool = False  # X.509 signed by a CA that the hub knows, with the device's id as common name
    enabled: bool = True
    reported: dict[str, Any] = {}
    reported_version: int = 1
    subscriptions: list[str] = []  # of a session that goes on

    @property
    def device_id(self) -> str:
        """The device, of a module too."""
        return self.client_id.partition("/")[0]

    @property
    def resource(self) -> str:
        """What a token is for, below the hub's name (iot-hub-dev-guide-sas)."""
        device, _, module = self.client_id.partition("/")
        return f"devices/{device}/modules/{module}" if module else f"devices/{device}"

    @property
    def events_topic(self) -> str:
        """What device-to-cloud topics begin with."""
        return f"{self.resource}/messages/events/"


class HubLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of one unit of S1, from the quotas page; rates are a second and hub."""

    sends_per_second: float = 100.0  # "Higher of 100 send operations/sec or 12 send operations/sec/unit"
    #: "IoT Hub accepts requests above the throttle for a limited time": so many seconds' worth of it.
    burst_seconds: float = 60.0
    #: "the size of this queue is limited ... eventually the queue fills up"; no number is given.
    queue: int = 1_000
    connects_per_second: float = 100.0  # "Higher of 100/sec or 12/sec/unit"
    quota: int = 400_000  # messages a day and unit (azure.microsoft.com/pricing/details/iot-hub)
    #: Whether a hub whose quota is used up keeps connections and acknowledges nothing (azure-iot-sdk-python#727: "the
    #: connection is held") in place of severing them (azure-iot-sdk-java#377).
    quota_holds: bool = False
    chunk: int = 4096  # "0.5 KB for a free tier hub and 4KB for all other tiers"
    twin_updates_per_second: float = 50.0
    twin_reads_per_second: float = 100.0
    twins: bool = True  # "This feature is not available in the basic tier"
    max_silence: float = 1767.0  # MQTT: "IoT Hub limits the maximum server-side timeout to 29.45 minutes"
    max_filters: int = 5  # MQTT: "A device can only subscribe to five topics at a time"


class Throttle:
    """So many a second with a burst; what is above waits in a queue of bounded length. Pure: the time is passed in."""

    def __init__(self, rate: float, burst: float, queue: int) -> None:
        self._rate, self._burst, self._queue = rate, burst, queue
        self._free_at = 0.0

    def delay(self, now: float) -> float | None:
        """Return for how many seconds the next one waits; ``None`` where the queue is full."""
        free_at = max(self._free_at, now - self._burst) + 1 / self._rate
        delay = free_at - now
        if delay * self._rate > self._queue:
            return None
        self._free_at = free_at
        return max(0.0, delay)


class AzureHubTwin:
    """One IoT hub. ``port`` speaks MQTT, ``websocket_port`` MQTT over WebSocket; both are TLS with ``authority``'s CA.

    ``hub`` is the name that user names and tokens hold; clients reach it by ``host`` (as ``gateway_host``). ``clock``
    is the hub's idea of the time, in seconds since 1970: replace it to have a skewed one, or the next day.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        hub: str = "acme.azure-devices.net",
        host: str = "127.0.0.1",
        port: int = 0,
        websocket_port: int = 0,
        limits: HubLimits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.hub = hub
        self.host = host
        self.port = port
        self.websocket_port = websocket_port
        self.limits = limits or HubLimits()
        self.clock = clock
        self.record = Record()
        self.identities: dict[str, Identity] = {}
        self.peers: dict[str, HubPeer] = {}
        self.hung_up: Counter[str] = Counter()
        #: Whether a message is one that the hub hangs up on for no reason it tells; for tests of poison.
        self.poison: Callable[[dict[str, str], bytes], bool] = lambda _properties, _body: False
        self._authority = authority
        self._stack = AsyncExitStack()
        self._sends = Throttle(self.limits.sends_per_second, self.limits.burst_seconds, self.limits.queue)
        # twins answer 429 instead of waiting: MQTT, "429 | Too many requests (throttled)"
        self.twin_updates = Throttle(self.limits.twin_updates_per_second, 1.0, 0)
        self.twin_reads = Throttle(self.limits.twin_reads_per_second, 1.0, 0)
        self._connects: deque[float] = deque()
        self._day = -1
        self._used = 0

    # -- the registry -------------------------------------------------------------------------------------------

    def register(
        self,
        client_id: str,
        *,
        thumbprints: Collection[str] = (),
        by_authority: bool = False,
    ) -> Identity:
        """Create a device, or ``device/module``; without a certificate it gets two keys."""
        if not all(_DEVICE_ID.fullmatch(part) for part in client_id.split("/")) or client_id.count("/") > 1:
            raise ValueError(f"{client_id!r} is no device id")
        keys = [] if thumbprints or by_authority else [new_key(), new_key()]
        identity = Identity(client_id=client_id, keys=keys, thumbprints=thumbprints, by_authority=by_authority)
        self.identities[client_id] = identity
        return identity

    def connection_string(self, client_id: str) -> str:
        """Return what the portal shows for a device with keys."""
        device, _, module = client_id.partition("/")
        names = f"HostName={self.hub};DeviceId={device}" + (f";ModuleId={module}" if module else "")
        return f"{names};SharedAccessKey={self.identities[client_id].keys[0]}"

    # -- what peers ask -----------------------------------------------------------------------------------------

    def shows_certificate(self, greeting: Greeting, identity: Identity) -> bool:
        """Whether the TLS client certificate is one of ``identity``'s."""
        shown = greeting.certificate
        if shown is None:
            return False
        prints = {shown.fingerprint(kind()).hex().upper() for kind in (hashes.SHA1, hashes.SHA256)}
        if prints & {thumbprint.upper() for thumbprint in identity.thumbprints}:
            return True
        names = shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return identity.by_authority and [name.value for name in names] == [identity.device_id]

    def too_many_connects(self) -> bool:
        """Take note of a connection; whether it is one too many in this second."""
        now = time.monotonic()
        while self._connects and self._connects[0] < now - 1:
            self._connects.popleft()
        self._connects.append(now)
        return len(self._connects) > self.limits.connects_per_second

    def used_up(self) -> bool:
        """Whether the day's quota is used up; every day (UTC) begins anew.

        403002: "Send and Receive operations are blocked for this hub until the next UTC day"
        (learn.microsoft.com/answers/questions/3102).
        """
        return self.used_today >= self.limits.quota

    @property
    def used_today(self) -> int:
        """Metered messages of this day (UTC)."""
        day = int(self.clock() // _DAY)
        if day != self._day:
            self._day, self._used = day, 0
        return self._used

    def meter(self, size: int) -> None:
        """Count a message, or what a device reads of its twin or reports into it.

        "Twin reads from the device ... are charged as messages in 4-KB chunks" (iot-hub-devguide-pricing), and updates.
        """
        self._used = self.used_today + metered(size, self.limits.chunk)

    def send_delay(self) -> float | None:
        """Return how long traffic shaping holds the next message back; ``None``: it is refused."""
        return self._sends.delay(time.monotonic())

    def take(self, client_id: str, topic: str, body: bytes, properties: dict[str, str], *, retain: bool) -> None:
        """Keep a message."""
        user = Properties(user=tuple(properties.items()))
        self.record.took(client_id, topic, body, retain=retain, properties=user)

    # -- what tests do to it ------------------------------------------------------------------------------------

    def hang_up(self, client_id: str) -> None:
        """End one device's connection, as a hub that fails over does."""
        peer = self.peers.get(client_id)
        if peer is not None:
            peer.refuse("hang-up", "the hub fails over")

    # -- running ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        names = tuple(dict.fromkeys((*LOOPBACK, self.host, self.hub)))
        pair = self._authority.server(names)
        for over_websocket in (False, True):
            listener = MqttListener(
                lambda wire, socket=over_websocket: HubPeer(wire, self, websocket=socket),  # type: ignore[misc]
                host=self.host,
                port=self.websocket_port if over_websocket else self.port,
                context=self._authority.server_context(pair, clients="optional"),
                path=WEBSOCKET_PATH,
            )
            await self._stack.enter_async_context(listener)
            if over_websocket:
                self.websocket_port = listener.port
            else:
                self.port = listener.port
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()


def new_key() -> str:
    """Return a symmetric key as the portal makes them: 32 bytes in base64."""
    return base64.b64encode(secrets.token_bytes(32)).decode()
