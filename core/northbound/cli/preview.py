"""``northbound preview``: what each connector would send, or why not."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.text import Text

from northbound import EventDecoder, EventRefused
from northbound.cli.output import console, emit_line, on_terminal
from northbound.cli.parameters import config_argument, json_option
from northbound.cli.words import clean, plural, size
from northbound.events import Event
from northbound.loading import load_file
from northbound.preview import Passage, Preview, Previewed, sample_events
from northbound.registry import Registry

#: A longer line is no event that anybody would look at here.
_LONGEST_LINE = 16 * 1024**2
_SHOWN_PAYLOAD = 2_000


@click.command()
@config_argument
@click.option(
    "--input",
    "source",
    type=click.File("rb"),
    help="Events as JSON Lines, '-' for standard input. Default: a few samples made for the site's hierarchy.",
)
@json_option
def preview(config: str, source: BinaryIO | None, *, as_json: bool) -> None:
    """Show what each connector would send; nothing connects.

    For each event and connector: topic, retain, properties and payload, or why it would not be sent. Limits that a
    broker announces only on connecting are not known here. --json prints one line for each event.

    \b
    northbound preview northbound.toml
    tail -n 20 events.jsonl | northbound preview northbound.toml --input - --json
    """  # noqa: D301 - \b keeps click from joining the lines
    configuration = load_file(Path(config), Registry())
    looking = Preview(configuration)
    sample = source is None
    scheme = looking.engine.scheme
    if source is None:
        events: Iterable[tuple[str, Event | str]] = (
            (f"sample {number}", event)
            for number, event in enumerate(sample_events(scheme.hierarchy, looking.engine.org), 1)
        )
    else:
        events = _read(source, EventDecoder(scheme.hierarchy))
    show = _Json(sample=sample).show if as_json else _Lines().show
    count = 0
    for number, (where, event) in enumerate(events, 1):
        seen = Previewed(None, event) if isinstance(event, str) else looking.event(event, time.time_ns() // 1_000_000)
        show(where, seen)
        count = number
    if on_terminal() and not as_json:
        what = "sample event" if sample else "event"
        hint = "; --input FILE takes your own" if sample else ""
        console().print(Text(f"{plural(count, what)}, nothing was sent{hint}", style="dim"))


def _read(source: BinaryIO, decoder: EventDecoder) -> Iterator[tuple[str, Event | str]]:
    """Give each line's event, or why it is none."""
    number = 0
    while line := source.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            while line and not line.endswith(b"\n"):
                line = source.readline(_LONGEST_LINE)
            yield f"line {number}", f"longer than {size(_LONGEST_LINE)}"
        elif line.strip():
            try:
                yield f"line {number}", decoder.decode(line)
            except EventRefused as error:
                yield f"line {number}", str(error)


class _Json:
    def __init__(self, *, sample: bool) -> None:
        self._sample = sample

    def show(self, where: str, seen: Previewed) -> None:
        row: dict[str, Any] = {"event": where, "sample": self._sample}
        if seen.message is None:
            row["refused"] = seen.refused
        else:
            row |= {"topic": seen.message.topic, "kind": seen.message.kind, "time": seen.message.time}
            row["connectors"] = [_passage(passage) for passage in seen.passages]
        emit_line(row)


def _passage(passage: Passage) -> dict[str, Any]:
    row: dict[str, Any] = {"connector": passage.connector, "outcome": passage.outcome}
    out = passage.outgoing
    if out is None:
        return {**row, "reason": passage.reason}
    payload = _text(out.payload)
    return {**row, "topic": out.topic, "retain": out.retain, "properties": dict(out.properties), "payload": payload}


class _Lines:
    def show(self, where: str, seen: Previewed) -> None:
        if on_terminal():
            _draw(where, seen)
            return
        if seen.message is None:
            click.echo("\t".join((where, "-", "refused", clean(seen.refused))))
        for passage in seen.passages:
            out = passage.outgoing
            cells = [where, passage.connector, passage.outcome]
            if out is None:
                cells.append(passage.reason)
            else:
                retained = "retained" if out.retain else "not retained"
                cells += [out.topic, retained, _properties(passage), _text(out.payload)]
            click.echo("\t".join(map(clean, cells)))


def _draw(where: str, seen: Previewed) -> None:
    head = Text(f"{where}  ", style="dim")
    if seen.message is None:
        head.append("refused: ", style="red").append(clean(seen.refused), style="")
        console().print(head, "", sep="\n")
        return
    head.append(clean(seen.message.topic), style="bold")
    console().print(head, soft_wrap=True)
    width = max(len(passage.connector) for passage in seen.passages) if seen.passages else 0
    for passage in seen.passages:
        line = Text(f"  {passage.connector:<{width}}  ")
        out = passage.outgoing
        if out is None:
            line.append(passage.outcome, style="red" if passage.outcome == "rejected" else "yellow")
            line.append(f": {clean(passage.reason)}")
        else:
            line.append("same topic" if out.topic == out.source_topic else clean(out.topic), style="green")
            line.append(", retained" if out.retain else ", not retained")
            if out.properties:
                line.append(f", {clean(_properties(passage))}")
            if not out.payload:
                line.append(", empty payload: clears the topic")
            else:
                text = clean(_text(out.payload))
                more = "…" if len(text) > _SHOWN_PAYLOAD else ""
                line.append(f", {size(len(out.payload))}\n  {'':<{width}}  ").append(
                    text[:_SHOWN_PAYLOAD] + more, style="cyan"
                )
        console().print(line, soft_wrap=True)
    console().print()


def _text(payload: bytes) -> str:
    return payload.decode(errors="backslashreplace")


def _properties(passage: Passage) -> str:
    out = passage.outgoing
    return ", ".join(f"{name}={value}" for name, value in out.properties.items()) if out else ""
