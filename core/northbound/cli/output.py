"""How commands write: tables for people on a terminal, lines of tab-separated cells for a pipe, JSON for programs.

Nothing here goes out as it came: what a topic, a payload or a provider's words hold could move the cursor of a
terminal, or break a line in two.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import click
import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from northbound.cli.words import clean


def on_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


@cache
def console() -> Console:
    """Return the terminal. rich respects ``NO_COLOR`` and ``TERM``."""
    return Console(highlight=False, emoji=False, markup=False)


def say(text: str = "", style: str = "") -> None:
    """Write a line; ``style`` is for terminals only."""
    if on_terminal():
        console().print(Text(clean(text), style=style), soft_wrap=True)
    else:
        click.echo(clean(text))


def note(text: str) -> None:
    """Write a remark to standard error, so that it never mixes with data."""
    click.echo(clean(text), err=True)


def emit(value: Any) -> None:
    """Write ``value`` as one JSON document."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def emit_line(value: Any) -> None:
    """Write ``value`` as one line of JSON, for output that has no end in sight."""
    click.echo(msgspec.json.encode(value).decode())


def listing(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    wrap: Sequence[str] = (),
    styles: dict[str, str] | None = None,
) -> None:
    """Write a table: drawn on a terminal, tab-separated without its headers elsewhere, as ``cut`` wants it."""
    if not on_terminal():
        for row in rows:
            click.echo("\t".join(clean(cell) for cell in row))
        return
    console().print(drawn(headers, rows, right=right, wrap=wrap, styles=styles))


def drawn(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    wrap: Sequence[str] = (),
    styles: dict[str, str] | None = None,
) -> Table:
    """Return a table for a terminal. ``wrap`` names the columns that give way; ``styles`` goes by a cell's text."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for header in headers:
        justify: JustifyMethod = "right" if header in right else "left"
        table.add_column(header, justify=justify, overflow="fold", no_wrap=header not in wrap)
    for row in rows:
        table.add_row(*[Text(clean(cell), style=(styles or {}).get(cell, "")) for cell in row])
    return table
