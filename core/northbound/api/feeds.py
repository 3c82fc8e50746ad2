"""The present values of a filter for one subscriber, each read when it can be sent (section 3.3.1.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from northbound.api.retained import Retained
from northbound.mqtt.deliveries import Delivery
from northbound.mqtt.publication import form


class Feed:
    """``topics`` are those of the filter; ``allowed`` is asked for each where the filter is wider than the rights."""

    __slots__ = ("_allowed", "_ids", "_retained", "_topics", "qos", "version")

    def __init__(
        self,
        retained: Retained,
        topics: Sequence[str],
        *,
        version: int,
        qos: int,
        ids: tuple[int, ...],
        allowed: Callable[[str], bool] | None,
    ) -> None:
        self._retained = retained
        self._topics: Iterator[str] = iter(topics)
        self._ids = ids
        self._allowed = allowed
        self.version = version
        self.qos = qos

    def next(self) -> Delivery | None:
        """Return the next value, None at the end."""
        for topic in self._topics:
            if self._allowed is not None and not self._allowed(topic):
                continue
            publication = self._retained.publication(topic)
            if publication is not None:
                return publication, form(self.version, min(self.qos, publication.qos), True, self._ids)
        return None
