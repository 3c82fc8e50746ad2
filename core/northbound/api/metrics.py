"""``/metrics`` for Prometheus, made from one :class:`northbound.status.Status` each time it is asked for. Pure.

The words are EMQX's, with ``_`` for its dots: matched, success, failed, dropped_expired, dropped_queue_full, retried,
inflight, queuing. Its late_reply has no counterpart: an answer that comes after a send was given up is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from northbound.status import ConnectorStatus, SourceStatus, Status

_STATES: Final = ("connecting", "online", "retrying", "unauthorised", "draining", "stopped")

_CONNECTOR_COUNTERS: Final[Mapping[str, tuple[str, Callable[[ConnectorStatus], float]]]] = {
    "matched": ("Messages its filters want", lambda c: c.counters.total - c.counters.filtered),
    "success": ("Messages its destination acknowledged", lambda c: c.counters.acknowledged),
    "failed": ("Messages set aside as dead letters", lambda c: c.counters.dead),
    "dropped_expired": ("Messages dropped: older than the backlog's age", lambda c: c.counters.dropped_expired),
    "dropped_queue_full": ("Messages dropped: backlog full", lambda c: c.counters.dropped_queue_full),
    "superseded": ("Messages replaced by newer ones: backlog full", lambda c: c.counters.superseded),
    "overtaken": ("Messages a newer value has overtaken", lambda c: c.counters.overtaken),
    "withheld": ("Messages a privacy rule of the connector dropped", lambda c: c.counters.withheld),
    "filtered": ("Messages outside its filters", lambda c: c.counters.filtered),
    "retried": ("Sends that failed and were tried again, since start", lambda c: c.retried),
    "reconnects": ("Connections opened again, since start", lambda c: c.reconnects),
}
_CONNECTOR_GAUGES: Final[Mapping[str, tuple[str, Callable[[ConnectorStatus], float | None]]]] = {
    "inflight": ("Messages sent and not acknowledged", lambda c: c.inflight),
    "queuing": ("Messages that wait", lambda c: c.backlog),
    "queuing_bytes": ("Bytes that wait", lambda c: c.backlog_bytes),
    "queuing_bytes_maximum": ("Bytes that may wait", lambda c: c.backlog_maximum_bytes),
    "oldest_age_seconds": ("Age of the first message that waits", lambda c: c.oldest_age),
    "last_acknowledged_age_seconds": ("Since the last acknowledgement", lambda c: c.last_acknowledged_age),
    "dead_letters": ("Dead letters that wait for a person", lambda c: c.dead_letters),
}
_SOURCE_COUNTERS: Final[Mapping[str, tuple[str, Callable[[SourceStatus], float]]]] = {
    "received": ("Events handed in", lambda s: s.received),
    "refused": ("Events and input that could not become messages", lambda s: s.refused),
    "dropped": ("Events a privacy rule let go no further", lambda s: s.dropped),
    "committed": ("Messages on disk", lambda s: s.committed),
}


class StatusCollector(Collector):
    """One status, and the numbers of the API, as families of metrics."""

    def __init__(self, status: Status, api: Mapping[str, float]) -> None:
        self._status = status
        self._api = api

    def collect(self) -> Iterable[Metric]:
        """Give the families."""
        yield from self._service()
        yield from self._connectors()
        yield from self._sources()
        for name, value in self._api.items():
            yield _gauge(f"northbound_api_{name}", f"{name.replace('_', ' ')} of the API", [], [([], value)])

    def _service(self) -> Iterator[Metric]:
        status = self._status
        info = InfoMetricFamily("northbound", "The service")
        info.add_metric([], {"version": status.version})
        yield info
        yield _gauge("northbound_uptime_seconds", "Since the start", [], [([], status.uptime)])
        yield _gauge("northbound_store_log_messages", "Messages in the log", [], [([], status.store.log_messages)])
        yield _gauge("northbound_store_bytes", "Size of the store's files", [], [([], status.store.file_bytes)])
        yield _gauge("northbound_store_ok", "1 where it takes messages", [], [([], status.store.error is None)])
        yield _counter("northbound_store_messages", "Messages committed ever", [], [([], status.store.sequence)])
        acted = [([rule.name, rule.action, rule.connector or ""], rule.acted) for rule in status.rules]
        yield _counter("northbound_privacy_acted", "What rules changed", ["rule", "action", "connector"], acted)

    def _connectors(self) -> Iterator[Metric]:
        connectors = self._status.connectors
        for name, (words, counted) in _CONNECTOR_COUNTERS.items():
            rows = [([c.name, c.type], counted(c)) for c in connectors]
            yield _counter(f"northbound_connector_{name}", words, ["connector", "type"], rows)
        for name, (words, measured) in _CONNECTOR_GAUGES.items():
            known = [([c.name, c.type], value) for c in connectors if (value := measured(c)) is not None]
            yield _gauge(f"northbound_connector_{name}", words, ["connector", "type"], known)
        states = [([c.name, c.type, state], c.state == state) for c in connectors for state in _STATES]
        yield _gauge("northbound_connector_state", "1 at the state it is in", ["connector", "type", "state"], states)
        expires = [
            ([c.name, c.type, credential.name], credential.expires / 1000)
            for c in connectors
            for credential in c.credentials
            if credential.expires is not None
        ]
        yield _gauge(
            "northbound_connector_credential_expires_timestamp_seconds",
            "When what it signs in with ends",
            ["connector", "type", "credential"],
            expires,
        )
        own = [([c.name, c.type, name], value) for c in connectors for name, value in c.gauges.items()]
        yield _gauge("northbound_connector_gauge", "Its own numbers", ["connector", "type", "name"], own)

    def _sources(self) -> Iterator[Metric]:
        for name, (words, counted) in _SOURCE_COUNTERS.items():
            rows = [([s.name, s.type], counted(s)) for s in self._status.sources]
            yield _counter(f"northbound_source_{name}", words, ["source", "type"], rows)
        running = [([s.name, s.type], s.state in ("running", "finished")) for s in self._status.sources]
        yield _gauge("northbound_source_up", "1 where it runs or has finished", ["source", "type"], running)


def _counter(name: str, words: str, labels: list[str], rows: Iterable[tuple[list[str], float]]) -> Metric:
    family = CounterMetricFamily(name, words, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def _gauge(name: str, words: str, labels: list[str], rows: Iterable[tuple[list[str], float]]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=labels)
    for values, value in rows:
        family.add_metric(values, float(value))
    return family


def exposition(status: Status, api: Mapping[str, float], accept: str) -> tuple[bytes, str]:
    """Return the metrics in the format that ``accept`` prefers, and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(StatusCollector(status, api))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
