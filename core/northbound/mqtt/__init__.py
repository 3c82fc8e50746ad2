"""MQTT 3.1, 3.1.1 and 5 of our own: packets, a decoder that takes bytes as they come, a session without I/O.

``import northbound.mqtt`` is the whole surface of this part; why it exists is in DESIGN, "Why an MQTT implementation of
our own". Below it stand, each importing only those above: ``errors`` and ``reasons`` (what can go wrong, in words),
``properties`` and ``packets`` (values), ``encoder`` and ``decoder`` (values ↔ bytes), ``session`` (what a client does
next, told the time and the bytes), ``server`` (what a server does for one client, likewise) and ``client`` (a client's
session, driven by asyncio). Both sides share ``inbound`` and ``exchange``: identifiers, acknowledgements, exactly-once.
Beside them, imported where they are asked for: ``transports``, ``websocket``, ``proxies`` and ``pins``.
"""

from northbound.mqtt.addresses import PORTS, BrokerAddress, ProxyAddress, Scheme, parse_pin, parse_proxy, parse_url
from northbound.mqtt.client import Client, Dial
from northbound.mqtt.decoder import Decoder
from northbound.mqtt.encoder import encode
from northbound.mqtt.errors import (
    ClosedUnanswered,
    ConnectRefused,
    CredentialsRefused,
    ProtocolError,
    VersionRefused,
)
from northbound.mqtt.inbound import Received
from northbound.mqtt.names import check_filter, check_name
from northbound.mqtt.options import ClientOptions, ServerLimits
from northbound.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Subscription,
    Unsuback,
    Unsubscribe,
    Will,
)
from northbound.mqtt.properties import Properties
from northbound.mqtt.reasons import subscribe_words
from northbound.mqtt.server import ServerOptions, ServerSession
from northbound.mqtt.session import ClientSession

__all__ = [
    "PORTS",
    "Auth",
    "BrokerAddress",
    "Client",
    "ClientOptions",
    "ClientSession",
    "ClosedUnanswered",
    "Connack",
    "Connect",
    "ConnectRefused",
    "CredentialsRefused",
    "Decoder",
    "Dial",
    "Disconnect",
    "Packet",
    "Pingreq",
    "Pingresp",
    "Properties",
    "ProtocolError",
    "ProxyAddress",
    "Puback",
    "Pubcomp",
    "Publish",
    "Pubrec",
    "Pubrel",
    "Received",
    "Scheme",
    "ServerLimits",
    "ServerOptions",
    "ServerSession",
    "Suback",
    "Subscribe",
    "Subscription",
    "Unsuback",
    "Unsubscribe",
    "VersionRefused",
    "Will",
    "check_filter",
    "check_name",
    "encode",
    "parse_pin",
    "parse_proxy",
    "parse_url",
    "subscribe_words",
]
