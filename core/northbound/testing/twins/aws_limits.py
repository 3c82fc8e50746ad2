"""The numbers of AWS IoT Core, each with its source; A1, A2… are listed at the end of docs/providers/aws-iot.md."""

from __future__ import annotations

from msgspec import Struct


class AwsLimits(Struct, frozen=True, kw_only=True):
    """What the twin enforces; sizes are bytes, rates are per second."""

    #: Forward slashes in a topic. "Maximum number of slashes in topic and topic filter", A1, A3 iot-basic-ingest.md.
    slashes: int = 7
    #: Topic size, UTF-8; like the slashes without the Basic Ingest prefix. A1, A3.
    topic_bytes: int = 256
    #: "Payload size … can't exceed 128 KB. AWS IoT rejects publish and connect requests larger than this size." A1.
    payload: int = 128 * 1024
    #: Maximum Packet Size in CONNACK of version 5, "cannot exceed 128 KB". A2.
    packet: int = 128 * 1024
    #: "Publish requests per second per connection", in and out together, not adjustable; what is above is discarded
    #: and the connection stays: A1, A7. The burst is not published: a second's worth is [inferred].
    publishes: float = 100.0
    #: "Throughput per second per connection": what is above is delayed. A1.
    throughput: float = 512 * 1024
    #: "Maximum inbound unacknowledged QoS 1 publish requests" per client. A1, and the Receive Maximum of A2.
    unacknowledged: int = 100
    #: Keep-alive: "default 1200, minimum 30, maximum 1200", what is outside is moved in. A8, A2.
    keep_alive: tuple[int, int] = (30, 1200)
    #: Client id size. A8, A11.
    client_id: int = 128
    #: "Connect requests per second per client ID". A1. The answer to more is [inferred].
    connects_per_client: float = 1.0
    #: Session expiry, at most 7 days. A2.
    session: int = 7 * 86_400
    #: Topic alias maximum of CONNACK. Known from provider docs, not confirmed [K].
    topic_aliases: int = 8
    #: Topic filters in one SUBSCRIBE, and on one connection. A1.
    filters_per_packet: int = 8
    filters: int = 50
    #: Retained messages per account: A9; two sources differ (4 000), so it is a setting.
    retained: int = 500_000
    #: Inbound retained publishes per second of the account: known, not confirmed [K].
    retained_per_second: float = 500.0
    #: Retained publishes per second of one topic (quota L-771FD74A): the quota exists (A9), its value is [K].
    retained_per_topic: float = 1.0
    #: Size of a shadow's document, and its depth. A1.
    shadow: int = 8 * 1024
    shadow_depth: int = 8
    #: Name of a shadow. A1.
    shadow_name: int = 64
    #: Requests in flight per thing. A1. More are refused with 429.
    shadow_in_flight: int = 10
    #: Shadow requests per second per thing. Known, not confirmed [K].
    shadow_per_second: float = 20.0
