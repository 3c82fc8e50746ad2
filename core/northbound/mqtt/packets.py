"""The packets of MQTT 3.1, 3.1.1 and 5, both directions, as frozen values.

One set of types serves all versions: what a version cannot say (properties, most reason codes) is left out when it is
written, and has its default when it was read.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from northbound.mqtt.properties import NONE, Properties


class Will(msgspec.Struct, frozen=True, gc=False):
    """What the broker publishes when this client disappears (section 3.1.2.5)."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    properties: Properties = NONE


class Connect(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Section 3.1. ``version`` is 3 (3.1), 4 (3.1.1) or 5; ``keep_alive`` is seconds, 0 is off."""

    client_id: str = ""
    version: int = 5
    clean_start: bool = True
    keep_alive: int = 60
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = NONE

    def __repr__(self) -> str:
        """Leave the password out."""
        return f"Connect(client_id={self.client_id!r}, version={self.version}, clean_start={self.clean_start})"


class Connack(msgspec.Struct, frozen=True, gc=False):
    """Section 3.2. ``reason`` is a reason code in version 5 and a return code (0 to 5) in 3.x."""

    reason: int = 0
    session_present: bool = False
    properties: Properties = NONE


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Section 3.3. ``packet_id`` is 0 where there is none: at QoS 0, and before a session has given one."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    duplicate: bool = False
    packet_id: int = 0
    properties: Properties = NONE


class Puback(msgspec.Struct, frozen=True, gc=False):
    """Section 3.4: the answer to a message of QoS 1."""

    packet_id: int
    reason: int = 0
    properties: Properties = NONE


class Pubrec(msgspec.Struct, frozen=True, gc=False):
    """Section 3.5: QoS 2, received."""

    packet_id: int
    reason: int = 0
    properties: Properties = NONE


class Pubrel(msgspec.Struct, frozen=True, gc=False):
    """Section 3.6: QoS 2, release."""

    packet_id: int
    reason: int = 0
    properties: Properties = NONE


class Pubcomp(msgspec.Struct, frozen=True, gc=False):
    """Section 3.7: QoS 2, complete."""

    packet_id: int
    reason: int = 0
    properties: Properties = NONE


class Subscription(msgspec.Struct, frozen=True, gc=False):
    """One topic filter with its options (section 3.8.3); all but ``qos`` need version 5."""

    filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


class Subscribe(msgspec.Struct, frozen=True, gc=False):
    """Section 3.8."""

    packet_id: int
    subscriptions: tuple[Subscription, ...]
    properties: Properties = NONE


class Suback(msgspec.Struct, frozen=True, gc=False):
    """Section 3.9; one code a filter: the granted QoS, or 128 and above for a refusal."""

    packet_id: int
    reasons: tuple[int, ...]
    properties: Properties = NONE


class Unsubscribe(msgspec.Struct, frozen=True, gc=False):
    """Section 3.10."""

    packet_id: int
    filters: tuple[str, ...]
    properties: Properties = NONE


class Unsuback(msgspec.Struct, frozen=True, gc=False):
    """Section 3.11; ``reasons`` is empty in 3.x."""

    packet_id: int
    reasons: tuple[int, ...] = ()
    properties: Properties = NONE


class Pingreq(msgspec.Struct, frozen=True, gc=False):
    """Section 3.12."""


class Pingresp(msgspec.Struct, frozen=True, gc=False):
    """Section 3.13."""


class Disconnect(msgspec.Struct, frozen=True, gc=False):
    """Section 3.14; in 3.x only a client sends it, without a reason."""

    reason: int = 0
    properties: Properties = NONE


class Auth(msgspec.Struct, frozen=True, gc=False):
    """Section 3.15, version 5 only."""

    reason: int = 0
    properties: Properties = NONE


Packet: TypeAlias = (
    Connect
    | Connack
    | Publish
    | Puback
    | Pubrec
    | Pubrel
    | Pubcomp
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
