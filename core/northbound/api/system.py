"""``$SYS`` topics: the broker about itself, in the words that explorers know from other brokers."""

from __future__ import annotations

from collections.abc import Mapping

from northbound.api.counters import BrokerStatus


def system_values(status: BrokerStatus, uptime: float, version: str) -> Mapping[str, str]:
    """Return topic → value. Times are seconds, sums are since the start."""
    counters = status.counters
    values = {
        "version": f"northbound {version}",
        "uptime": f"{uptime:.0f} seconds",
        "clients/connected": status.connections - status.strangers,
        "clients/disconnected": status.sessions - (status.connections - status.strangers),
        "clients/total": status.sessions,
        "clients/expired": counters.sessions_expired,
        "clients/taken over": counters.taken_over,
        "clients/refused": counters.refused,
        "subscriptions/count": status.subscriptions,
        "retained messages/count": status.retained,
        "messages/received": counters.received,
        "messages/sent": counters.delivered,
        "messages/conflated": counters.conflated,
        "messages/queued": status.queued,
        "publish/messages/received": counters.published + counters.received,
        "publish/messages/refused": counters.received_refused,
        "publish/messages/dropped": counters.dropped_queue_full + counters.dropped_expired + counters.dropped_too_large,
        "bytes/received": counters.bytes_received,
        "bytes/sent": counters.bytes_sent,
    }
    return {f"$SYS/broker/{name}": str(value) for name, value in values.items()}
