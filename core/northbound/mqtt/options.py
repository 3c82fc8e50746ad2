"""How to reach a broker and what to agree with it; what it then announced."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from northbound.mqtt.addresses import ProxyAddress
from northbound.mqtt.packets import Connack, Connect, Will
from northbound.mqtt.properties import NONE, Properties

MAX_WINDOW = 65_000  # of 65,535 packet identifiers; the rest are for subscribing


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Everything a client is told. Times are seconds, sizes bytes.

    ``version`` is 3 (MQTT 3.1), 4 (3.1.1) or 5. ``maximum_packet_size`` bounds what is accepted from the broker;
    ``max_inflight`` bounds the unacknowledged messages of QoS 1 and 2 where the broker does not bound them lower.
    With ``clean_start`` a reconnect starts anew, which is right for a sender with a queue of its own. Without it the
    session goes on: after a reconnect the broker sends what it kept, and what was unacknowledged is sent again, as MQTT
    wants it, although its ``publish`` has failed.

    ``websocket`` is the path of the broker's WebSocket; None is MQTT without one. ``proxy`` is asked to connect to
    ``host`` and ``port``. ``pins`` are SHA-256 digests of which one must be that of the broker's certificate or of its
    public key, beside what ``ssl`` verifies; CONNECT is not sent before.
    """

    host: str
    port: int = 1883
    ssl: ssl.SSLContext | None = None
    server_hostname: str | None = None
    websocket: str | None = None
    proxy: ProxyAddress | None = None
    pins: tuple[bytes, ...] = ()
    client_id: str = ""
    username: str | None = None
    password: str | bytes | None = field(default=None, repr=False)
    version: Literal[3, 4, 5] = 5
    clean_start: bool = True
    session_expiry: int = 0
    keep_alive: int = 60
    will: Will | None = field(default=None, repr=False)
    receive_maximum: int = 65_535
    maximum_packet_size: int = 16 * 1024 * 1024
    topic_alias_maximum: int = 64
    topic_aliases: bool = True
    user_properties: tuple[tuple[str, str], ...] = ()
    connect_timeout: float = 10.0
    ack_timeout: float = 30.0
    close_timeout: float = 2.0
    max_inflight: int = 1000
    write_high_water: int = 1024 * 1024

    def connect_packet(self, client_id: str) -> Connect:
        """Return the CONNECT these options ask for."""
        properties = NONE
        if self.version == 5:
            properties = Properties(
                session_expiry=self.session_expiry or None,
                receive_maximum=self.receive_maximum if self.receive_maximum < 65_535 else None,
                maximum_packet_size=self.maximum_packet_size,
                topic_alias_maximum=self.topic_alias_maximum or None,
                user=self.user_properties,
            )
        return Connect(
            client_id=client_id,
            version=self.version,
            clean_start=self.clean_start,
            keep_alive=self.keep_alive,
            username=self.username,
            password=self.password.encode() if isinstance(self.password, str) else self.password,
            will=self.will,
            properties=properties,
        )


class ServerLimits(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the broker announced on connecting (section 3.2.2.3), or what the version takes for granted.

    ``maximum_packet_size`` None is no bound but the protocol's; ``keep_alive`` and ``client_id`` are those in force.
    """

    version: int = 5
    session_present: bool = False
    receive_maximum: int = 65_535
    maximum_packet_size: int | None = None
    maximum_qos: int = 2
    retain_available: bool = True
    topic_alias_maximum: int = 0
    wildcard_subscription_available: bool = True
    subscription_ids_available: bool = True
    shared_subscription_available: bool = True
    keep_alive: int = 60
    session_expiry: int = 0
    client_id: str = ""


def limits_of(connack: Connack, options: ClientOptions, client_id: str) -> ServerLimits:
    """Return the limits in force after this CONNACK."""
    told = connack.properties
    if options.version < 5:
        return ServerLimits(
            version=options.version,
            session_present=connack.session_present,
            subscription_ids_available=False,
            shared_subscription_available=False,
            keep_alive=options.keep_alive,
            client_id=client_id,
        )
    expiry = options.session_expiry if told.session_expiry is None else told.session_expiry
    return ServerLimits(
        session_present=connack.session_present,
        receive_maximum=told.receive_maximum or 65_535,
        maximum_packet_size=told.maximum_packet_size,
        maximum_qos=2 if told.maximum_qos is None else told.maximum_qos,
        retain_available=told.retain_available is not False,
        topic_alias_maximum=told.topic_alias_maximum or 0,
        wildcard_subscription_available=told.wildcard_subscription_available is not False,
        subscription_ids_available=told.subscription_ids_available is not False,
        shared_subscription_available=told.shared_subscription_available is not False,
        keep_alive=options.keep_alive if told.server_keep_alive is None else told.server_keep_alive,
        session_expiry=expiry,
        client_id=told.assigned_client_id or client_id,
    )
