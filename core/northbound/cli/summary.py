"""What a run came to, told at its end. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from northbound.cli.words import plural
from northbound.status import Counters, Status

_WORDS = {
    "filtered": "outside its topics",
    "withheld": "dropped by its privacy rules",
    "overtaken": "overtaken by newer values",
    "superseded": "superseded by newer values",
    "dropped_queue_full": "dropped, backlog full",
    "dropped_expired": "dropped, too old",
}


def summary(final: Status, before: Mapping[str, Counters]) -> dict[str, Any]:
    """Return what happened between ``before`` (each connector's counters at the start) and ``final``."""
    connectors = []
    for connector in final.connectors:
        counters = structs.asdict(connector.counters)
        earlier = structs.asdict(before.get(connector.name, Counters()))
        connectors.append(
            {
                "name": connector.name,
                "type": connector.type,
                "destination": connector.destination,
                **{name: value - earlier[name] for name, value in counters.items()},
                "undelivered": connector.backlog,
                "dead_letters": connector.dead_letters,
                "error": connector.error,
            }
        )
    sources = [
        {
            "name": source.name,
            "type": source.type,
            "origin": source.origin,
            "received": source.received,
            "accepted": source.committed,
            "refused": source.refused,
            "last_refusal": source.last_refusal,
            "dropped": source.dropped,
            "error": source.error,
        }
        for source in final.sources
    ]
    return {
        "seconds": round(final.uptime, 3),
        "accepted": sum(source.committed for source in final.sources),
        "refused": sum(source.refused for source in final.sources),
        "sources": sources,
        "connectors": connectors,
        "rules": [structs.asdict(rule) for rule in final.rules],
    }


def sentences(told: Mapping[str, Any]) -> list[str]:
    """Return the summary in words."""
    lines = [f"accepted {plural(told['accepted'], 'message')} in {told['seconds']:.1f} s"]
    lines += [
        f"{source['name']}: {plural(source['refused'], 'event')} refused, the last: {source['last_refusal']}"
        for source in told["sources"]
        if source["refused"]
    ]
    lines += [
        f"{source['name']}: {plural(source['dropped'], 'event')} dropped by privacy rules"
        for source in told["sources"]
        if source["dropped"]
    ]
    for connector in told["connectors"]:
        parts = [f"{connector['acknowledged']:,} acknowledged"]
        parts += [f"{connector[name]:,} {words}" for name, words in _WORDS.items() if connector[name]]
        parts.append(f"{plural(connector['dead'], 'dead letter')}")
        parts.append(f"{connector['undelivered']:,} undelivered")
        line = f"{connector['name']}: {', '.join(parts)}"
        if connector["undelivered"] and connector["error"]:
            line += f" ({connector['error']})"
        lines.append(line)
    return lines + [acted(rule) for rule in told["rules"] if rule["acted"]]


def acted(rule: Mapping[str, Any]) -> str:
    """Return in words how often a privacy rule has acted."""
    where = f" for {rule['connector']}" if rule["connector"] else ""
    return f"privacy: {rule['name']} ({rule['action']}){where} acted {plural(rule['acted'], 'time')}"
