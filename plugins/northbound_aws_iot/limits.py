"""What IoT Core accepts: "AWS IoT Core message broker and protocol limits and quotas" of the AWS General Reference."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from northbound import Limits
from northbound_aws_iot.options import ConnectorOptions

PAYLOAD: Final = 128 * 1024
#: Version 5 counts the whole packet: fixed header 5, lengths of topic and properties 5, packet identifier 2.
_PACKET: Final = 12
_LONGEST_KEY: Final = 80  # of an idempotency key
_USER_PROPERTY: Final = 5  # identifier and two lengths
#: Of what a connection may carry in a second, in and out: with a shadow, for its requests, and for their answers alike.
_SHADOW_SHARE: Final = 0.2
_SHADOW_PER_SECOND: Final = 20.0  # requests per thing

LIMITS: Final = Limits(
    max_topic_levels=8,
    max_topic_bytes=256,
    max_payload_bytes=PAYLOAD,
    payload_counts="payload+topic",
    max_qos=1,
    retain="native",
    messages_per_second=100,
    bytes_per_second=512 * 1024,
    max_in_flight=100,
    batch_messages=200,
    batch_bytes=512 * 1024,
    batches_in_flight=8,
    keep_alive=(30, 1200),
    metering_bytes=5 * 1024,
)


def limits_of(options: ConnectorOptions, packet_bytes: int = PAYLOAD, window: int = 100) -> Limits:
    """Return the limits as configured; ``packet_bytes`` and ``window`` are those that the broker announced."""
    beside = _PACKET + len(prefix_of(options))
    if options.idempotency_property:
        beside += _USER_PROPERTY + len(options.idempotency_property.encode()) + _LONGEST_KEY
    # Not only narrower than those of the class: several connections take more, a private broker may too.
    return replace(
        LIMITS,
        max_payload_bytes=max(1, min(PAYLOAD, packet_bytes - beside)),
        max_in_flight=window,
        connections=options.connections,
        messages_per_second=options.messages_per_second - 2 * shadow_rate(options),
        retain="none" if options.rule else "native",  # reserved topics keep no retained message
    )


def shadow_rate(options: ConnectorOptions) -> float:
    """Return how many requests a second may be made of shadows; 0 without one."""
    return min(_SHADOW_PER_SECOND, _SHADOW_SHARE * options.messages_per_second) if options.shadow else 0.0


def prefix_of(options: ConnectorOptions) -> str:
    """Return the Basic Ingest prefix, which counts towards none of the limits of a topic."""
    return f"$aws/rules/{options.rule}/" if options.rule else ""
