"""From options to an open connection: TLS, the broker that answers, and the version it speaks."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final, Literal

from northbound import NotConnected
from northbound.mqtt import BrokerAddress, Client, ClientOptions, ClosedUnanswered, Received, VersionRefused
from northbound_mqtt.options import BrokerOptions

Level = Literal[3, 4, 5]
_LEVELS: Final[dict[str, tuple[Level, ...]]] = {"auto": (5, 4), "3.1": (3,), "3.1.1": (4,), "5": (5,)}
#: After so long no other broker is tried; the engine waits 90 s for a connection.
_LONGEST: Final = 45.0
#: A broker that hangs up sooner is passed over at the next connecting, where there is another.
_SHORT_LIVED: Final = 10.0
_WINDOW: Final = 65_000


class Connecting:
    """Opens connections of one plugin instance, and remembers which broker answered and which version worked."""

    def __init__(self, options: BrokerOptions, name: str, *, max_in_flight: int | None = None) -> None:
        self._options = options
        self._addresses = options.addresses
        self._at = 0
        self._connected_at: float | None = None
        self._client_id = options.client_id or f"northbound-{name}"
        self._levels = _LEVELS[options.protocol]
        self._max_in_flight = max_in_flight or _WINDOW
        self._tell: Callable[[str], object] = str

    @property
    def where(self) -> str:
        """The broker, for people; without secrets."""
        others = len(self._addresses) - 1
        return self._address.where + (f" (one of {others + 1})" if others else "")

    @property
    def _address(self) -> BrokerAddress:
        return self._addresses[self._at]

    def left(self) -> None:
        """Take in that the connection ended because we wanted it to."""
        self._connected_at = None

    def _next(self) -> None:
        self._at = (self._at + 1) % len(self._addresses)
        self._levels = _LEVELS[self._options.protocol]

    async def connect(
        self,
        *,
        on_messages: Callable[[list[Received]], None] | None = None,
        auto_ack: bool = True,
        tell: Callable[[str], object] = str,
        **settings: Any,
    ) -> Client:
        """Return a connected client, to the first broker that answers, beginning with the one that last did.

        ``tell`` hears what is tried and what answers. ``settings`` are fields of ``ClientOptions``. Raises as
        ``Client.connect``; where no broker answers, with what was wrong with each.
        """
        self._tell = tell
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if self._connected_at is not None and begun - self._connected_at < _SHORT_LIVED:
            self._next()
        self._connected_at = None
        failures: list[tuple[str, NotConnected]] = []
        for _ in self._addresses:
            try:
                client = await self._try(on_messages, settings, auto_ack=auto_ack)
            except NotConnected as error:
                failures.append((self._address.where, error))
                if len(self._addresses) > 1:
                    self._tell(f"{self._address.where}: {error}")
                self._next()
                if loop.time() - begun > _LONGEST:
                    break
                continue
            self._connected_at = loop.time()
            return client
        if len(self._addresses) == 1:
            raise failures[0][1]
        words = "; ".join(f"{where}: {error}" for where, error in failures)
        raise NotConnected(f"none of {len(failures)} brokers can be used: {words}") from failures[0][1]

    async def _try(
        self, on_messages: Callable[[list[Received]], None] | None, settings: dict[str, Any], *, auto_ack: bool
    ) -> Client:
        """Connect to the broker whose turn it is, in the newest version that it speaks."""
        proxy, where = self._options.through, self._address.where
        self._tell(f"{where}: connecting{f' through {proxy.where}' if proxy else ''} as {self._client_id!r}")
        context = self._context()
        for level in self._levels:
            client = Client(self._client_options(level, context, settings), on_messages=on_messages, auto_ack=auto_ack)
            try:
                connack = await client.connect()
            except (VersionRefused, ClosedUnanswered) as error:
                if level == self._levels[-1]:
                    self._levels = _LEVELS[self._options.protocol]
                    raise
                self._tell(f"{where}: {error}; trying an older version")
                continue
            self._levels = (level,)
            self._tell(f"{where}: accepted, {_said(client, session=connack.session_present)}")
            return client
        raise AssertionError("there is a version to try")

    def _client_options(self, level: Level, context: ssl.SSLContext | None, settings: dict[str, Any]) -> ClientOptions:
        options, address = self._options, self._address
        username, password = options.login(address)
        settings = {"max_inflight": self._max_in_flight, **settings}
        settings["max_inflight"] = min(settings["max_inflight"], self._max_in_flight)
        return ClientOptions(
            host=address.host,
            port=address.port,
            ssl=context,
            server_hostname=options.server_name,
            websocket=address.path,
            proxy=options.through,
            pins=options.pins,
            client_id=self._client_id,
            username=username,
            password=password,
            version=level,
            keep_alive=int(options.keep_alive.total_seconds()),
            maximum_packet_size=int(options.maximum_packet_size),
            connect_timeout=options.connect_timeout.total_seconds(),
            ack_timeout=options.ack_timeout.total_seconds(),
            **settings,
        )

    def _context(self) -> ssl.SSLContext | None:
        """Return the TLS context; read anew for every connection, so that a renewed certificate needs no restart."""
        options = self._options
        if not self._address.tls:
            return None
        what = f"the CA file {options.ca}"
        try:
            context = ssl.create_default_context(cafile=options.ca)
            if options.certificate is not None:
                what = f"the certificate {options.certificate}"
                if options.private_key is not None:
                    what += f" with the key {options.private_key}"
                secret = options.private_key_password
                # a callable, since without one OpenSSL asks for the password on the terminal
                context.load_cert_chain(
                    options.certificate,
                    options.private_key,
                    lambda: secret.get_secret_value() if secret is not None else "",
                )
        except OSError as error:  # ssl.SSLError is one
            reason = getattr(error, "reason", None) or error.strerror or "not PEM, or a key of another certificate"
            raise NotConnected(f"{what} cannot be used: {reason}") from None
        if not options.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _said(client: Client, *, session: bool) -> str:
    """Return what a broker announced, in words."""
    limits = client.limits
    if limits is None:
        return "and closed at once"
    words = [f"MQTT {({3: '3.1', 4: '3.1.1'}).get(limits.version, '5')}"]
    if limits.version == 5:
        words += [f"QoS {limits.maximum_qos} at most", f"{limits.receive_maximum:,} in flight"]
        if limits.maximum_packet_size is not None:
            words.append(f"packets of {limits.maximum_packet_size:,} bytes")
        if not limits.retain_available:
            words.append("nothing retained")
    words.append(f"keep-alive {limits.keep_alive} s")
    if session:
        words.append("session resumed")
    return ", ".join(words)
