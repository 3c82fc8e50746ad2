"""The twin of AWS IoT Core's message broker, MQTT 3.1.1 and 5, over mutual TLS and WebSocket.

Where the service's reaction is published it is that; where only the reason code is listed and not the occasion, the
twin's choice is marked [inferred] and can be set otherwise. Numbers and their sources: :mod:`.aws_limits`.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, Self

from northbound.mqtt import Publish
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.aws_limits import AwsLimits
from northbound.testing.twins.aws_peer import AwsPeer
from northbound.testing.twins.aws_policy import ALLOW_ALL, REGION, Policy
from northbound.testing.twins.aws_shadow import Shadows
from northbound.testing.twins.aws_sign_in import AccessKey, Authoriser
from northbound.testing.twins.mqtt_listener import MqttListener, Wire
from northbound.testing.twins.quota import Quota
from northbound.testing.twins.record import Record

#: Port 443 tells by ALPN what is spoken there. A3 protocols.md.
ALPN_MQTT: Final = "x-amzn-mqtt-ca"
ALPN_CUSTOM: Final = "mqtt"
ALPN_HTTP: Final = "http/1.1"
_REMEMBERED: Final = 10_000  # clients


class AwsIotTwin(Record):
    """``async with AwsIotTwin(authority) as twin:``; clients connect to ``twin.endpoint`` and ``twin.port``.

    ``acts_as`` is the port whose rules hold, 8883 (client certificate) or 443 (ALPN; WebSocket with SigV4; custom
    authoriser). ``policy`` is that of every certificate and access key. ``over_rate`` says what happens above 100
    publishes a second: they are discarded without PUBACK (A7), or answered with 0x97 (listed by A2; [inferred]).
    ``bad_topic`` and ``not_authorised`` say how version 5 hears of it; both forms are listed by A2.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        endpoint: str = "localhost",
        port: int = 0,
        acts_as: Literal[8883, 443] = 8883,
        limits: AwsLimits | None = None,
        policy: Mapping[str, Any] = ALLOW_ALL,
        region: str = REGION,
        access_keys: Mapping[str, AccessKey] | None = None,
        authorisers: Mapping[str, Authoriser] | None = None,
        default_authoriser: str | None = None,
        over_rate: Literal["discard", "puback", "disconnect"] = "discard",
        bad_topic: Literal["disconnect", "puback"] = "disconnect",
        not_authorised: Literal["disconnect", "puback"] = "puback",
        keep: int = 500_000,
    ) -> None:
        super().__init__(keep)
        self.authority = authority
        self.endpoint = endpoint
        self.acts_as = acts_as
        self.limits = limits or AwsLimits()
        self.policy = Policy(policy)
        self.region = region
        self.access_keys = access_keys or {}
        self.authorisers = authorisers or {}
        self.default_authoriser = default_authoriser
        self.over_rate = over_rate
        self.bad_topic = bad_topic
        self.not_authorised = not_authorised
        self.peers: dict[str, AwsPeer] = {}
        self.inactive: set[int] = set()  # serial numbers of certificates that were deactivated
        self.retained: dict[str, bytes] = {}
        self.shadows = Shadows(self.limits)
        self.sessions: dict[str, tuple[float, dict[str, int]]] = {}
        #: What a test breaks on purpose: a reason code answers the publish (0 takes it silently), ``None`` goes on.
        self.refuse_publish: Callable[[Publish], int | None] = lambda _packet: None
        #: A reason code here hangs up on the publish, as on a message the service cannot stand.
        self.hang_up_on: Callable[[Publish], int | None] = lambda _packet: None
        #: Seconds until PUBACK, and until a shadow answers.
        self.delay = 0.0
        #: The clock that signatures are held against; a test may set it wrong.
        self.clock: Callable[[], datetime | None] = lambda: None
        self.last_connect: dict[str, float] = {}
        self._retained_rate = Quota(self.limits.retained_per_second)
        self._retained_at: dict[str, float] = {}
        context = authority.server_context(
            authority.server([endpoint, "127.0.0.1"]),
            clients="required" if acts_as == 8883 else "optional",
            alpn=() if acts_as == 8883 else (ALPN_MQTT, ALPN_CUSTOM, ALPN_HTTP),
        )
        # "SessionTicket TLS extension unsupported": A3 transport-security.md.
        context.options |= ssl.OP_NO_TICKET
        self._listener = MqttListener(
            self._peer,
            port=port,
            context=context,
            server_name_seen=self._server_name,
            refused_tls=lambda why: self.refuse("", "tls", why),
        )

    @property
    def port(self) -> int:
        """The port in use."""
        return self._listener.port

    async def __aenter__(self) -> Self:
        await self._listener.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._listener.__aexit__(*exc)

    # -- what a test does ---------------------------------------------------------------------------------------

    def hang_up(self, reason: int | None = None, *, client_id: str | None = None) -> None:
        """Close the connection of one client, or all."""
        for peer in self._chosen(client_id):
            peer.hang_up(reason)

    def cut(self, *, client_id: str | None = None) -> None:
        """Reset the connection of one client, or all."""
        for peer in self._chosen(client_id):
            peer.cut()

    def stall(self, *, on: bool, client_id: str | None = None) -> None:
        """Read nothing, and answer nothing, on the connections that stand; or go on."""
        for peer in self._chosen(client_id):
            peer.hold(on=on)

    def deactivate(self, serial: int) -> None:
        """Deactivate a certificate: its connections end, and it is refused from now on."""
        self.inactive.add(serial)
        for peer in [*self.peers.values()]:
            certificate = peer.wire.greeting.certificate
            if certificate is not None and certificate.serial_number == serial:
                peer.hang_up()

    def _chosen(self, client_id: str | None) -> Iterable[AwsPeer]:
        return [peer for peer in self.peers.values() if client_id in {None, peer.client_id}]

    # -- what a peer asks ---------------------------------------------------------------------------------------

    def retain(self, topic: str, payload: bytes) -> str | None:
        """Keep a retained message; returns why not, where a quota is reached. An empty one clears."""
        now = time.monotonic()
        per_topic = self.limits.retained_per_topic
        if per_topic and now - self._retained_at.get(topic, -1e9) < 1 / per_topic - 1e-3:
            return f"more than {per_topic:g} retained messages a second on one topic"
        if not self._retained_rate.take():
            return "too many retained messages a second in this account"
        if payload and topic not in self.retained and len(self.retained) >= self.limits.retained:
            return "the account keeps no more retained messages"
        if len(self._retained_at) > 100_000:
            self._retained_at.clear()
        self._retained_at[topic] = now
        if payload:
            self.retained[topic] = payload
        else:
            self.retained.pop(topic, None)
        return None

    def note_connect(self, client_id: str) -> None:
        """Remember when a client connected."""
        if len(self.last_connect) > _REMEMBERED:
            self.last_connect.clear()
        self.last_connect[client_id] = time.monotonic()

    def keep_session(self, client_id: str, seconds: float, filters: dict[str, int]) -> None:
        """Remember a session of a client that is gone."""
        now = time.monotonic()
        if len(self.sessions) > _REMEMBERED:
            self.sessions = {name: kept for name, kept in self.sessions.items() if kept[0] > now}
        self.sessions[client_id] = (now + seconds, filters)

    def distribute(self, packet: Publish) -> None:
        """Send a message to whoever has subscribed to it."""
        for peer in [*self.peers.values()]:
            peer.deliver(packet)

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Call something later, or now."""
        if seconds <= 0:
            call()
        else:
            asyncio.get_running_loop().call_later(seconds, call)

    def _peer(self, wire: Wire) -> AwsPeer:
        return AwsPeer(wire, self)

    def _server_name(self, name: str | None) -> int | None:
        # "SNI … endpoint address is required, and must match": A3 transport-security.md.
        if name == self.endpoint:
            return None
        self.refuse("", "tls", f"the server name is {name!r}, not the endpoint")
        return int(ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)
