"""``[api.mqtt]``: what one client, and all of them together, may take of the MQTT server; every bound in one place."""

from __future__ import annotations

from datetime import timedelta

import pydantic
from pydantic import ByteSize, ConfigDict, Field

from northbound.fields import Duration, Size

_KIB = 1024


class MqttOptions(pydantic.BaseModel):
    """Bounds of the MQTT server. What is beyond one is refused, conflated or dropped, and counted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connections: int = Field(5000, ge=1, description="Connections at once, over WebSocket and TCP together.")
    strangers: int = Field(
        500, ge=1, description="Connections at once that are not signed in yet; half of them from one address."
    )
    sessions: int = Field(
        10_000,
        ge=1,
        description="Sessions, connected or waiting for their client; the one that is away the longest makes room.",
    )
    sessions_per_user: int = Field(1000, ge=1, description="Of these, of one user, who makes room alike.")
    away_bytes: Size = Field(
        ByteSize(256 * _KIB * _KIB),
        description="What waits for all clients that are away; beyond it the sessions away the longest end.",
    )
    subscriptions: int = Field(200, ge=1, description="Topic filters of one session, and of one SUBSCRIBE.")
    session_expiry: Duration = Field(
        timedelta(hours=24), description="How long a session waits for its client at most, whatever the client asks."
    )
    connect_timeout: Duration = Field(
        timedelta(seconds=5), description="How long a client may take to say CONNECT, and signing in may take."
    )
    connect_bytes: Size = Field(ByteSize(16 * _KIB), description="What a client may send before it is signed in.")
    packet_bytes: Size = Field(ByteSize(256 * _KIB), description="The largest packet taken from a client.")
    receive_maximum: int = Field(
        100,
        ge=1,
        le=65_535,
        description="Messages of QoS 1 and 2 a client may have under way. In version 5 it is told; others wait.",
    )
    topic_aliases: int = Field(64, ge=0, le=65_535, description="Topic aliases in either direction.")
    inflight: int = Field(1000, ge=1, le=65_000, description="Messages of QoS 1 and 2 under way to one client.")
    queue_messages: int = Field(
        1000, ge=1, description="Messages of QoS 1 and 2 that wait for one client before they are conflated."
    )
    queue_bytes: Size = Field(
        ByteSize(512 * _KIB), description="Messages of QoS 0 that wait for one client before they are conflated."
    )
    conflated: int = Field(
        100_000, ge=1, description="Topics, and messages that are no values, a slow client may be behind with."
    )
    retained: int = Field(
        1_000_000, ge=1, description="Topics whose value is kept; what clients retain beyond is refused."
    )
    maximum_keep_alive: Duration | None = Field(
        None, description="The longest keep-alive of clients of version 5; by default it is theirs to choose."
    )
    stall_timeout: Duration = Field(
        timedelta(seconds=60), description="How long a client may read nothing of what waits for it."
    )
    system_interval: Duration = Field(timedelta(seconds=10), description="How often $SYS topics are published.")
    recheck_interval: Duration = Field(
        timedelta(seconds=2), description="How often it is asked whether a token or key still holds."
    )
