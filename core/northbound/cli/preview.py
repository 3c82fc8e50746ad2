"""``northbound preview``: what each connector would send, or why not."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click
from rich.text import Text

from northbound import EventDecoder, EventRefused
from northbound.cli.changes import changed, removed
from northbound.cli.output import console, emit_line, note, on_terminal
from northbound.cli.parameters import config_argument, json_option
from northbound.cli.words import clean, plural, size
from northbound.engine import Engine
from northbound.events import Event
from northbound.loading import load_file
from northbound.message import Message, Outgoing
from northbound.preview import Passage, Preview, Previewed, sample_events
from northbound.registry import Registry

#: A longer line is no event that anybody would look at here.
_LONGEST_LINE = 16 * 1024**2


@click.command()
@config_argument
@click.option(
    "--input",
    "source",
    type=click.File("rb"),
    help="Events as JSON Lines, '-' for standard input. Default: a few samples made for the site's hierarchy.",
)
@click.option(
    "--originals/--no-originals",
    default=None,
    help="Also show what the privacy rules removed. Default: on a terminal only, since other output is for sharing.",
)
@json_option
def preview(config: str, source: BinaryIO | None, *, originals: bool | None, as_json: bool) -> None:
    """Show what each connector would send; nothing connects.

    For each event and connector: topic, retain, properties and payload, or why it would not be sent, and which privacy
    rules acted. On a terminal what they changed is in colour, removed in red, new in green. Limits that a broker
    announces only on connecting are not known here. --json prints one line for each event.

    \b
    northbound preview northbound.toml
    tail -n 20 events.jsonl | northbound preview northbound.toml --input - --json
    """  # noqa: D301 - \b keeps click from joining the lines
    configuration = load_file(Path(config), Registry())
    looking = Preview(configuration)
    remark(looking)
    sample = source is None
    scheme = looking.engine.scheme
    if source is None:
        events: Iterable[tuple[str, Event | str]] = (
            (f"sample {number}", event)
            for number, event in enumerate(sample_events(scheme.hierarchy, looking.engine.org), 1)
        )
    else:
        events = _read(source, EventDecoder(scheme.hierarchy), looking.engine)
    if originals is None:
        originals = on_terminal() and not as_json
    show = (_Json(sample=sample, originals=originals) if as_json else _Lines(originals=originals)).show
    count = 0
    for number, (where, event) in enumerate(events, 1):
        seen = Previewed(None, event) if isinstance(event, str) else looking.event(event, time.time_ns() // 1_000_000)
        show(where, seen)
        count = number
    if on_terminal() and not as_json:
        what = "sample event" if sample else "event"
        hint = "; --input FILE takes your own" if sample else ""
        console().print(Text(f"{plural(count, what)}, nothing was sent{hint}", style="dim"))


def remark(looking: Preview) -> None:
    """Say on standard error what is different here from the running service."""
    if looking.remark:
        note(looking.remark)
    for name in looking.unlearned:
        note(f"detector {name} learns from a source, which is not asked here: it finds nobody")


def _read(source: BinaryIO, decoder: EventDecoder, engine: Engine) -> Iterator[tuple[str, Event | str]]:
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
                yield f"line {number}", engine.shareable(str(error))


def _fate(seen: Previewed) -> tuple[str, str]:
    """Return in a word and in a sentence what became of an event that is no message."""
    if seen.dropped:
        return "dropped", f"by the privacy rule {seen.rules[-1]!r}" if seen.rules else "by a privacy rule"
    return ("withheld" if seen.withheld else "refused"), seen.refused


class _Json:
    def __init__(self, *, sample: bool, originals: bool) -> None:
        self._sample = sample
        self._originals = originals

    def show(self, where: str, seen: Previewed) -> None:
        row: dict[str, Any] = {"event": where, "sample": self._sample}
        message = seen.message
        if message is None:
            word, reason = _fate(seen)
            row |= {"dropped": True} if seen.dropped else {"refused": reason, "withheld": word == "withheld"}
        else:
            shown = {} if seen.hidden and not self._originals else {"topic": message.topic}
            row |= {**shown, "kind": message.kind, "time": message.time}
        row["rules"] = seen.rules
        if self._originals and seen.original is not None:
            row["original"] = {"topic": seen.original.topic, "payload": _text(seen.original.payload)}
        if message is not None:
            row["connectors"] = [self._passage(passage) for passage in seen.passages]
        emit_line(row)

    def _passage(self, passage: Passage) -> dict[str, Any]:
        row: dict[str, Any] = {"connector": passage.connector, "outcome": passage.outcome, "rules": passage.rules}
        if self._originals and passage.original is not None:
            row["original"] = {"topic": passage.original.topic, "payload": _text(passage.original.payload)}
        out = passage.outgoing
        if out is None:
            return {**row, "reason": passage.reason}
        payload = _text(out.payload)
        return {**row, "topic": out.topic, "retain": out.retain, "properties": dict(out.properties), "payload": payload}


class _Lines:
    def __init__(self, *, originals: bool) -> None:
        self._originals = originals

    def show(self, where: str, seen: Previewed) -> None:
        if on_terminal():
            _Drawing(originals=self._originals).draw(where, seen)
            return
        self._original(where, "-", seen.original if seen.message is None or not seen.passages else None)
        if seen.message is None:
            click.echo("\t".join((where, "-", *map(clean, _fate(seen)))))
        for passage in seen.passages:
            self._original(where, passage.connector, passage.original)
            out = passage.outgoing
            cells = [where, passage.connector, passage.outcome]
            if out is None:
                cells.append(passage.reason)
            else:
                retained = "retained" if out.retain else "not retained"
                cells += [out.topic, retained, _properties(passage), _text(out.payload)]
            click.echo("\t".join(map(clean, cells)))

    def _original(self, where: str, who: str, original: Message | Outgoing | None) -> None:
        if self._originals and original is not None:
            retained = "retained" if original.retain else "not retained"
            cells = (where, who, "original", original.topic, retained, "", _text(original.payload))
            click.echo("\t".join(map(clean, cells)))


class _Drawing:
    """One event on a terminal."""

    def __init__(self, *, originals: bool) -> None:
        self._originals = originals
        self._colours = console().color_system is not None and not console().no_color

    def draw(self, where: str, seen: Previewed) -> None:
        head = Text().append(f"{where}  ", style="dim")
        message, original = seen.message, seen.original
        if message is None:
            word, reason = _fate(seen)
            head.append(f"{word}: ", style="yellow" if word == "dropped" else "red").append(clean(reason), style="")
            console().print(head, soft_wrap=True)
            if self._originals and original is not None:
                for text in (original.topic, _text(original.payload)):
                    console().print("  ", removed(text, colours=self._colours), sep="", soft_wrap=True)
            console().print()
            return
        if seen.hidden and not self._originals:
            head.append("a topic that the rules keep from a connector", style="dim")
        else:
            head.append(self._change(original.topic if original else message.topic, message.topic, "bold"))
        console().print(head, soft_wrap=True)
        if seen.rules:
            console().print(Text(f"  privacy: {clean(', '.join(seen.rules))}", style="magenta"), soft_wrap=True)
        width = max((len(passage.connector) for passage in seen.passages), default=0)
        for passage in seen.passages:
            self._passage(passage, width)
        console().print()

    def _passage(self, passage: Passage, width: int) -> None:
        line = Text(f"  {passage.connector:<{width}}  ")
        out, original = passage.outgoing, passage.original
        if out is None:
            line.append(passage.outcome, style="red" if passage.outcome == "rejected" else "yellow")
            line.append(f": {clean(passage.reason)}")
        else:
            if out.topic == out.source_topic and not passage.rules:
                line.append("same topic", style="green")
            else:
                line.append(self._change(original.topic if original else out.topic, out.topic, "green"))
            line.append(", retained" if out.retain else ", not retained")
            if out.properties:
                line.append(f", {clean(_properties(passage))}")
            if not out.payload:
                line.append(", empty payload: clears the topic")
        if passage.rules:
            line.append(f", privacy: {clean(', '.join(passage.rules))}", style="magenta")
        if out is not None and out.payload:
            text = clean(_text(out.payload))
            line.append(f", {size(len(out.payload))}\n  {'':<{width}}  ")
            line.append(self._change(clean(_text(original.payload)) if original else text, text, "cyan"))
        console().print(line, soft_wrap=True)

    def _change(self, before: str, after: str, style: str) -> Text:
        return changed(before if self._originals else after, after, style=style, colours=self._colours)


def _text(payload: bytes) -> str:
    return payload.decode(errors="backslashreplace")


def _properties(passage: Passage) -> str:
    out = passage.outgoing
    return ", ".join(f"{name}={value}" for name, value in out.properties.items()) if out else ""
