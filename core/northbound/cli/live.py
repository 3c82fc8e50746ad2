"""The demo's view while it runs: drawn four times a second on a terminal, a line every two seconds elsewhere."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from statistics import median
from typing import Any, Final

import click
import msgspec
from rich.box import ROUNDED
from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from northbound.cli.words import clean, size
from northbound.status import ConnectorStatus, Status

_WINDOW_SECONDS: Final = 3.0
_BARS: Final = "▁▂▃▄▅▆▇█"
_SAMPLES: Final = 24
_LATEST: Final = 5
_TAIL_BYTES: Final = 16_384
_STATE_STYLES: Final = {
    "online": "green",
    "draining": "cyan",
    "stopped": "dim",
    "connecting": "yellow",
    "retrying": "red",
    "unauthorised": "red",
}


class Rates:
    """How fast numbers grow, over the last seconds. Pure: told the time."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, dict[str, int]]] = deque()
        self.history: deque[float] = deque(maxlen=_SAMPLES)

    def add(self, now: float, counts: dict[str, int]) -> None:
        """Take in what was counted at ``now`` (seconds)."""
        self._samples.append((now, counts))
        while len(self._samples) > 2 and now - self._samples[0][0] > _WINDOW_SECONDS:
            self._samples.popleft()
        if len(self._samples) > 1:
            (earlier, before), (later, after) = self._samples[-2], self._samples[-1]
            self.history.append((after["accepted"] - before["accepted"]) / max(later - earlier, 1e-6))

    def of(self, name: str) -> float:
        """Return how many a second."""
        if len(self._samples) < 2:
            return 0.0
        (earlier, before), (later, after) = self._samples[0], self._samples[-1]
        return max(0.0, (after.get(name, 0) - before.get(name, 0)) / max(later - earlier, 1e-6))


def counts_of(status: Status) -> dict[str, int]:
    """Return what rates are wanted of."""
    return {
        "accepted": sum(source.committed for source in status.sources),
        **{f"connector {c.name}": c.counters.acknowledged for c in status.connectors},
    }


def bars(history: deque[float]) -> str:
    """Return a history as little bars; the burst at the start is cut off, so that the rest can be seen."""
    highest = min(max(history, default=0.0), 1.25 * median(history) if history else 0.0)
    if highest <= 0:
        return ""
    return "".join(_BARS[min(7, int(value / highest * 7.999))] for value in history)


def progress_line(status: Status, rates: Rates, elapsed: float) -> str:
    """Return the present as one line of text."""
    parts = [f"{elapsed:6.1f} s", f"accepted {counts_of(status)['accepted']:,} ({rates.of('accepted'):,.0f}/s)"]
    for connector in status.connectors:
        part = f"{connector.name} {connector.state}: {connector.counters.acknowledged:,} acknowledged"
        part += f", {connector.backlog:,} waiting"
        if connector.dead_letters:
            part += f", {connector.dead_letters:,} dead letters"
        if connector.error:
            part += f" ({connector.error})"
        parts.append(part)
    return clean("  ".join(parts))


class PlainView:
    """Writes a line every two seconds."""

    seconds = 2.0

    def __init__(self, *, err: bool) -> None:
        self._err = err
        self._rates = Rates()

    def show(self, status: Status, elapsed: float) -> None:
        """Write the present."""
        self._rates.add(time.monotonic(), counts_of(status))
        click.echo(progress_line(status, self._rates, elapsed), err=self._err)


class LiveView:
    """Draws the present into one panel. ``duration`` in seconds, ``None`` until Ctrl-C."""

    seconds = 0.25

    def __init__(self, *, duration: float | None, sent: Path, hint: str) -> None:
        self._duration = duration
        self._sent = sent
        self._hint = hint
        self._rates = Rates()

    def draw(self, status: Status, elapsed: float) -> Panel:
        """Return the panel."""
        self._rates.add(time.monotonic(), counts_of(status))
        body: list[Any] = [self._totals(status), "", self._connectors(status)]
        body += [Text(f"{c.name}: {clean(c.error)}", style="red") for c in status.connectors if c.error]
        body += ["", self._latest(), ""]
        if self._hint:
            body.append(Text(self._hint, style="dim", no_wrap=True, overflow="ellipsis"))
        of = f" of {self._duration:g} s" if self._duration is not None else ""
        draining = any(connector.state == "draining" for connector in status.connectors)
        doing = "delivering the rest" if draining else "Ctrl-C ends it"
        return Panel(
            Group(*body),
            box=ROUNDED,
            title="[bold]northbound demo[/] a simulated campus",
            title_align="left",
            subtitle=f"{elapsed:.0f} s{of} · {doing}",
            subtitle_align="right",
            border_style="blue",
            padding=(1, 2),
        )

    def _totals(self, status: Status) -> Table:
        grid = Table.grid(padding=(0, 3))
        accepted = counts_of(status)["accepted"]
        grid.add_row(
            Text("accepted", style="dim"),
            Text(f"{accepted:,} messages", style="bold"),
            Text(f"{self._rates.of('accepted'):,.0f}/s"),
            Text(bars(self._rates.history), style="cyan"),
        )
        refused = sum(source.refused for source in status.sources)
        grid.add_row(
            Text("store", style="dim"),
            Text(size(status.store.file_bytes)),
            Text(f"{refused:,} refused" if refused else ""),
            Text(clean(status.store.error or ""), style="red"),
        )
        return grid

    def _connectors(self, status: Status) -> Table:
        table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, header_style="dim", expand=False)
        for header in ("connector", "state", "acknowledged", "rate", "backlog", "dead"):
            right = header not in ("connector", "state")
            table.add_column(header, justify="right" if right else "left", no_wrap=True)
        for connector in status.connectors:
            table.add_row(*self._cells(connector))
        return table

    def _cells(self, connector: ConnectorStatus) -> list[Text]:
        counters = connector.counters
        return [
            Text(connector.name, style="bold"),
            Text(connector.state, style=_STATE_STYLES[connector.state]),
            Text(f"{counters.acknowledged:,}"),
            Text(f"{self._rates.of(f'connector {connector.name}'):,.0f}/s"),
            Text(f"{connector.backlog:,}", style="yellow" if connector.backlog > 1000 else ""),
            Text(f"{connector.dead_letters:,}", style="red" if connector.dead_letters else ""),
        ]

    def _latest(self) -> Table:
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=3)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=2)
        rows = latest(self._sent)
        for where, value in rows + [("", "")] * (_LATEST - len(rows)):
            table.add_row(Text(clean(where), style="dim"), Text(clean(value), style="green"))
        return table


def latest(sent: Path) -> list[tuple[str, str]]:
    """Return the newest messages in the file as (where, value), oldest first."""
    try:
        with sent.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - _TAIL_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    rows: list[tuple[str, str]] = []
    for line in reversed(lines[1:] if end > _TAIL_BYTES else lines):
        if len(rows) == _LATEST:
            break
        try:
            rows.append(_said(msgspec.json.decode(line)))
        except (ValueError, KeyError, TypeError):
            continue
    return rows[::-1]


def _said(line: dict[str, Any]) -> tuple[str, str]:
    levels = str(line["topic"]).split("/")
    if line["kind"] == "metadata":
        return f"metadata {levels[-1]}", str(line["payload"])
    where = "/".join(levels[-5:])
    payload = line["payload"]
    return where, str(msgspec.json.decode(payload)["value"]) if payload else "cleared"
