"""``northbound status``: the running service at one moment, or as it goes on."""

from __future__ import annotations

import time
from typing import Any, Final

import click
import msgspec
from rich.console import Group
from rich.live import Live
from rich.text import Text

from northbound.cli.caller import Caller, called
from northbound.cli.live import Rates, counts_of
from northbound.cli.output import console, drawn, emit, emit_line, listing, on_terminal, say
from northbound.cli.parameters import json_option
from northbound.cli.words import clean, holds, plural, size
from northbound.status import ConnectorStatus, Status

_STYLES: Final = {
    "online": "green",
    "running": "green",
    "finished": "green",
    "draining": "cyan",
    "connecting": "yellow",
    "waiting": "yellow",
    "retrying": "red",
    "unauthorised": "red",
    "stopped": "red",
}
_CONNECTORS: Final = ("connector", "type", "state", "rate", "acknowledged", "last", "waiting", "oldest", "dead")
_SOURCES: Final = ("source", "type", "state", "rate", "stored", "refused")
_RIGHT: Final = ("rate", "acknowledged", "last", "waiting", "oldest", "dead", "stored", "refused")
_WATCH_SECONDS: Final = 1.0


@click.command()
@click.option(
    "--watch", is_flag=True, help="Go on until Ctrl-C: drawn on a terminal, a JSON line a second with --json."
)
@called
@json_option
def status(config: str | None, store: str | None, url: str | None, *, watch: bool, as_json: bool) -> int:
    """Show the running service: connectors, backlog, errors.

    The service needs an [api] table. On its machine, as its user, no token is asked for. The exit status is 1 where a
    connector is not online or stalls, or the store takes nothing.

    \b
    northbound status
    northbound status --watch
    northbound status --url https://building.example.com:8080 --json
    """  # noqa: D301 - \b keeps click from joining the lines
    caller = Caller(config, store, url)
    if watch:
        return _watch(caller, as_json=as_json)
    told = caller.get("/api/status")
    if as_json:
        emit(told)
    else:
        _tell(_read(told), None)
    return 0 if told["healthy"] else 1


def _read(told: Any) -> Status:
    return msgspec.convert(told, Status)


def _watch(caller: Caller, *, as_json: bool) -> int:
    rates = Rates()
    if as_json or not on_terminal():
        while True:
            told = caller.get("/api/status")
            if as_json:
                emit_line(told)
            else:
                found = _read(told)
                rates.add(time.monotonic(), counts_of(found))
                _tell(found, rates)
            time.sleep(_WATCH_SECONDS)
    with Live(console=console(), auto_refresh=False) as screen:
        while True:
            found = _read(caller.get("/api/status"))
            rates.add(time.monotonic(), counts_of(found))
            screen.update(_picture(found, rates), refresh=True)
            time.sleep(_WATCH_SECONDS)


def _tell(found: Status, rates: Rates | None) -> None:
    listing(_CONNECTORS, _connectors(found, rates), right=_RIGHT, styles=_STYLES)
    if on_terminal():
        say()
    listing(_SOURCES, _sources(found, rates), right=_RIGHT, styles=_STYLES)
    if on_terminal():
        for line in _remarks(found):
            say(line, style="red")
        say(_foot(found), style="dim")


def _picture(found: Status, rates: Rates) -> Group:
    remarks = [Text(clean(line), style="red") for line in _remarks(found)]
    return Group(
        drawn(_CONNECTORS, _connectors(found, rates), right=_RIGHT, styles=_STYLES),
        "",
        drawn(_SOURCES, _sources(found, rates), right=_RIGHT, styles=_STYLES),
        *remarks,
        Text(f"{_foot(found)}; Ctrl-C ends it", style="dim"),
    )


def _connectors(found: Status, rates: Rates | None) -> list[tuple[str, ...]]:
    return [
        (
            c.name,
            c.type,
            c.state,
            "" if rates is None else f"{rates.of(f'connector {c.name}'):,.0f}/s",
            f"{c.counters.acknowledged:,}",
            _age(c.last_acknowledged_age),
            f"{c.backlog:,}" + (f" ({size(c.backlog_bytes)})" if c.backlog else ""),
            _age(c.oldest_age) if c.backlog else "",
            f"{c.dead_letters:,}",
        )
        for c in found.connectors
    ]


def _sources(found: Status, rates: Rates | None) -> list[tuple[str, ...]]:
    # Rates are kept of all sources together.
    shared = "" if rates is None or len(found.sources) != 1 else f"{rates.of('accepted'):,.0f}/s"
    return [(s.name, s.type, s.state, shared, f"{s.committed:,}", f"{s.refused:,}") for s in found.sources]


def _remarks(found: Status) -> list[str]:
    lines = [f"store: {found.store.error}"] if found.store.error else []
    lines += [f"{c.name}: {c.error}" for c in found.connectors if c.error]
    lines += [f"{s.name}: {s.error}" for s in found.sources if s.error]
    return lines + [f"{c.name}: {words}" for c in found.connectors for words in _credentials(c)]


def _credentials(connector: ConnectorStatus) -> list[str]:
    return [words for credential in connector.credentials if (words := holds(credential)) is not None]


def _foot(found: Status) -> str:
    up = _age(found.uptime)
    acted = sum(rule.acted for rule in found.rules)
    return (
        f"northbound {found.version}, up {up}; the store has {size(found.store.file_bytes)} on disk; "
        f"privacy rules acted {plural(acted, 'time')}"
    )


def _age(seconds: float | None) -> str:
    """Return an age as people read it."""
    if seconds is None:
        return "never"
    for limit, divisor, unit in ((60, 1, "s"), (3600, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.1f} {unit}" if unit == "s" else f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
