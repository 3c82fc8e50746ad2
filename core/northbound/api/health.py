"""``/healthz``: whether each destination gets what it should. Numbers and states, no words of a provider. Pure."""

from __future__ import annotations

from typing import Any

from northbound.status import ConnectorStatus, Status


def problem(connector: ConnectorStatus, stalled_after: float) -> str | None:
    """Return what is wrong with a connector: its state, or that it stalls; ``None`` where nothing is."""
    if connector.state != "online":
        return connector.state
    waited = connector.oldest_age or 0.0
    silent = connector.last_acknowledged_age
    # Behind, and being worked off, is well; the first message waiting and nothing acknowledged is not.
    if waited > stalled_after and (silent is None or silent > stalled_after):
        return "stalled"
    return None


def health(status: Status, stalled_after: float) -> tuple[bool, dict[str, Any]]:
    """Return whether all is well, and each connector's state, ages (seconds) and backlog (messages)."""
    problems = {connector.name: problem(connector, stalled_after) for connector in status.connectors}
    well = status.store.error is None and not any(problems.values())
    return well, {
        "status": "ok" if well else "unhealthy",
        "uptime": round(status.uptime, 3),
        "store": "ok" if status.store.error is None else "takes nothing",
        "connectors": {
            connector.name: {
                "healthy": problems[connector.name] is None,
                "state": problems[connector.name] or connector.state,
                "last_acknowledged_age": connector.last_acknowledged_age,
                "backlog": connector.backlog,
                "oldest_age": connector.oldest_age,
            }
            for connector in status.connectors
        },
    }
