"""``northbound tail``: the live tree of the running service, a line for each value."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click
import msgspec
from rich.text import Text

from northbound.cli.caller import Caller, called
from northbound.cli.output import console, emit_line, on_terminal
from northbound.cli.parameters import json_option
from northbound.cli.words import clean
from northbound.topics import filter_problem


@click.command()
@click.argument("filter", default="#")
@click.option("--new", is_flag=True, help="Only what changes from now on, not the present first.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many.")
@called
@json_option
def tail(
    filter: str,  # noqa: A002 - MQTT's word for it
    config: str | None,
    store: str | None,
    url: str | None,
    *,
    new: bool,
    count: int | None,
    as_json: bool,
) -> None:
    """Show values as they change, at topics that match FILTER.

    The present comes first. A value that changes faster than it can be written is shown in its newest form.

    \b
    northbound tail
    northbound tail 'placeos/+/state/bld-1/#' --new
    northbound tail --json --count 10 | jq .payload
    """  # noqa: D301 - \b keeps click from joining the lines
    if problem := filter_problem(filter):
        raise click.UsageError(f"the filter {filter!r} {problem}")
    query = {"filter": filter, "present": "no" if new else "yes"}
    events = Caller(config, store, url).events("/api/state", **query)
    for event in islice(events, count):
        if as_json:
            emit_line(event)
        else:
            _show(event)


def _show(event: Any) -> None:
    moment = datetime.fromtimestamp(event["time"] / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    topic, value = clean(event["topic"]), clean(value_of(event))
    if on_terminal():
        console().print(
            Text.assemble((moment, "dim"), "  ", topic, "  ", (value, "green")), soft_wrap=True
        )  # fmt: skip
    else:
        click.echo(f"{moment}\t{topic}\t{value}")


def value_of(event: Any) -> str:
    """Return the value in an event, on one line, in whichever form the site writes payloads."""
    if "payload" not in event:
        return str(event.get("payload_text", event.get("payload_base64", "")))
    payload = event["payload"]
    if payload is None:
        return "(cleared)"
    value = payload["value"] if isinstance(payload, dict) and payload.keys() == {"time", "value"} else payload
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
