"""What the broker counts, and what it shows of it."""

from __future__ import annotations

import msgspec


class Counters(msgspec.Struct, gc=False):
    """Sums since the start. ``conflated``: values that gave way to a newer one of their topic, for a slow client."""

    connections_total: int = 0
    refused: int = 0
    published: int = 0
    received: int = 0
    received_refused: int = 0
    delivered: int = 0
    conflated: int = 0
    dropped_queue_full: int = 0
    dropped_expired: int = 0
    dropped_too_large: int = 0
    dropped_nobody: int = 0
    acknowledged: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    wills: int = 0
    taken_over: int = 0
    sessions_expired: int = 0
    ended_by_access: int = 0


class BrokerStatus(msgspec.Struct, frozen=True, gc=False):
    """The broker at one moment: what there is of everything, and :class:`Counters`."""

    connections: int
    strangers: int
    sessions: int
    subscriptions: int
    filters: int
    retained: int
    queued: int
    away_bytes: int
    counters: Counters
