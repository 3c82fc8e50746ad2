"""How a connection is made: host, port, TLS, proxy, WebSocket; the same for a hub and the provisioning service."""

from __future__ import annotations

import ssl
from typing import Final

from northbound import NotConnected
from northbound.mqtt import ClientOptions, parse_pin
from northbound_azure_iot.options import ConnectorOptions, IdentityOptions

#: iot-mqtt-connect-to-iot-hub: 8883, and 443 for MQTT over WebSocket; the path is that of every SDK.
_PORTS: Final = {"mqtt": 8883, "websocket": 443}
_PATH: Final = "/$iothub/websocket"
#: Of what a hub sends: answers about the twin (two sections of 32 KB and their metadata) and nothing that is larger.
_LARGEST_PACKET: Final = 1024 * 1024


class Link:
    """Makes the client's options for one identity of a connector."""

    def __init__(self, options: ConnectorOptions, identity: IdentityOptions) -> None:
        self._options = options
        self._identity = identity

    @property
    def port(self) -> int:
        """The hub's port."""
        return self._options.port or _PORTS[self._options.transport]

    @property
    def provisioning_port(self) -> int:
        """The provisioning service's port."""
        return self._options.provisioning_port or _PORTS[self._options.transport]

    def client_options(
        self, host: str, port: int, client_id: str, username: str, password: str | None
    ) -> ClientOptions:
        """Return what to connect with. Files are read anew each time, so that a renewed certificate is used."""
        options = self._options
        return ClientOptions(
            host=host,
            port=port,
            ssl=self._context(),
            websocket=_PATH if options.transport == "websocket" else None,
            proxy=options.proxy_address,
            pins=tuple(map(parse_pin, options.pins)),
            client_id=client_id,
            username=username,
            password=password,
            version=4,  # "MQTT v3.1.1": IoT Hub speaks no other
            keep_alive=int(options.keep_alive.total_seconds()),
            maximum_packet_size=_LARGEST_PACKET,
            connect_timeout=options.connect_timeout.total_seconds(),
            ack_timeout=options.ack_timeout.total_seconds(),
            max_inflight=options.max_inflight,
        )

    def _context(self) -> ssl.SSLContext:
        options, identity = self._options, self._identity
        what = f"the CA file {options.ca}"
        try:
            context = ssl.create_default_context(cafile=options.ca)
            if identity.certificate is not None:
                what = f"the certificate {identity.certificate}"
                if identity.private_key is not None:
                    what += f" with the key {identity.private_key}"
                secret = identity.private_key_password
                # a callable, since without one OpenSSL asks for the password on the terminal
                context.load_cert_chain(
                    identity.certificate,
                    identity.private_key,
                    lambda: secret.get_secret_value() if secret is not None else "",
                )
        except OSError as error:  # ssl.SSLError is one
            reason = getattr(error, "reason", None) or error.strerror or "not PEM, or a key of another certificate"
            raise NotConnected(f"{what} cannot be used: {reason}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2  # the older ones ended on 2025-08-31 (iot-hub-tls-support)
        return context
