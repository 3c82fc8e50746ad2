"""The audit log of privacy: which rule did what, to which topic, how often; never to what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from northbound.journal import Journal
from northbound.privacy.policy import Act


class AuditLog(Journal):
    """Appends what rules have done to one file."""

    def write(self, now: int, acts: Sequence[tuple[str | None, Act]]) -> None:
        """Append a line for each of ``acts``, the connector (``None``: before the store) and what a rule did there.

        ``now`` (ms since 1970) is the end of the time they were counted in. Never raises, as ``append`` does not.
        """
        self.append(now, [_row(now, connector, act) for connector, act in acts])


def _row(now: int, connector: str | None, act: Act) -> dict[str, Any]:
    row = {
        "time": now,
        "rule": act.rule,
        "action": act.action,
        "kind": act.kind,
        "topic": act.topic,
        "count": act.count,
    }
    if connector is not None:
        row["connector"] = connector
    return row
