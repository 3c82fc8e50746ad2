"""From options to an open connection: TLS, and the version the broker speaks."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any, Final, Literal

from northbound import NotConnected
from northbound.mqtt import Client, ClientOptions, ClosedUnanswered, Received, VersionRefused
from northbound_mqtt.options import BrokerOptions

Level = Literal[3, 4, 5]
_LEVELS: Final[dict[str, tuple[Level, ...]]] = {"auto": (5, 4), "3.1": (3,), "3.1.1": (4,), "5": (5,)}


class Connecting:
    """Opens connections of one plugin instance, and remembers which version worked."""

    def __init__(self, options: BrokerOptions, name: str) -> None:
        self._options = options
        self._address = options.address
        self._client_id = options.client_id or f"northbound-{name}"
        self._levels = _LEVELS[options.version]

    @property
    def where(self) -> str:
        """The broker, for people; without secrets."""
        address = self._address
        host = f"[{address.host}]" if ":" in address.host else address.host
        return f"{'mqtts' if address.tls else 'mqtt'}://{host}:{address.port}"

    async def connect(
        self,
        *,
        on_messages: Callable[[list[Received]], None] | None = None,
        auto_ack: bool = True,
        **settings: Any,
    ) -> Client:
        """Return a connected client. ``settings`` are fields of ``ClientOptions``. Raises as ``Client.connect``."""
        context = self._context()
        for level in self._levels:
            client = Client(self._client_options(level, context, settings), on_messages=on_messages, auto_ack=auto_ack)
            try:
                await client.connect()
            except (VersionRefused, ClosedUnanswered):
                if level == self._levels[-1]:
                    self._levels = _LEVELS[self._options.version]
                    raise
                continue
            self._levels = (level,)
            return client
        raise AssertionError("there is a version to try")

    def _client_options(self, level: Level, context: ssl.SSLContext | None, settings: dict[str, Any]) -> ClientOptions:
        options, address = self._options, self._address
        password = options.password.get_secret_value() if options.password is not None else address.password
        return ClientOptions(
            host=address.host,
            port=address.port,
            ssl=context,
            server_hostname=options.server_name,
            client_id=self._client_id,
            username=options.username if options.username is not None else address.username,
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
