"""``northbound deadletters``: what was set aside, and what a person decides about it."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

import click
import msgspec
from rich.text import Text

from northbound.administration import DeadLetters, is_running
from northbound.cli.output import console, emit, listing, note, on_terminal, say
from northbound.cli.parameters import json_option
from northbound.cli.place import Place, placed
from northbound.cli.words import clean, plural, size, when
from northbound.store.records import DeadLetter
from northbound.topics import filter_problem

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def deadletters() -> None:
    """Look at what was set aside; send or drop it.

    A dead letter is a message that its destination will never take as it is, with the reason. It is kept until it is
    replayed or dropped. All of this works while the service runs and while it does not.

    \b
    northbound deadletters list --connector aws
    northbound deadletters replay --connector aws
    """  # noqa: D301 - \b keeps click from joining the lines


@deadletters.command("list")
@placed
@click.option("--connector", help="Only those of this connector.")
@click.option("--topic", "topics", multiple=True, metavar="FILTER", help="Only topics that match; '+' and '#' work.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
@json_option
def list_(
    config: str | None, store: str | None, connector: str | None, topics: tuple[str, ...], limit: int, *, as_json: bool
) -> None:
    """List dead letters, oldest first.

    \b
    northbound deadletters list --topic 'placeos/+/state/bld-1/#' --limit 10
    """  # noqa: D301 - \b keeps click from joining the lines
    for topic_filter in topics:
        if problem := filter_problem(topic_filter):
            raise click.UsageError(f"--topic {topic_filter!r} {problem}")
    place = Place(config, store)
    with DeadLetters(place.path, read_only=True) as letters:
        found = [_row(letter) for letter in islice(letters.each(connector=connector, topics=topics), limit + 1)]
        total = letters.count(connector)
    more = len(found) > limit
    del found[limit:]
    if as_json:
        emit({"dead_letters": found, "more": more})
        return
    if not found:
        note("no dead letters" + (" that match" if connector or topics else ""))
        return
    listing(
        ("id", "connector", "set aside", "topic", "size", "state", "reason"),
        [
            (str(r["id"]), r["connector"], when(r["at"]), r["topic"], size(r["size"]), r["state"], r["reason"])
            for r in found
        ],
        right=("id", "size"),
        wrap=("topic", "reason"),
    )
    if more:
        of = f" of {total:,}" if not topics else ""
        note(f"the oldest {limit:,}{of}: --limit shows more")


def _row(letter: DeadLetter) -> dict[str, Any]:
    state = "replay asked" if letter.replay else "replay failed" if letter.tries else "waiting"
    return {
        "id": letter.id,
        "connector": letter.connector,
        "at": letter.at,
        "topic": letter.message.topic,
        "size": letter.message.size,
        "state": state,
        "reason": letter.reason,
    }


@deadletters.command()
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@placed
@json_option
def show(number: int, config: str | None, store: str | None, *, as_json: bool) -> None:
    """Show one dead letter, its payload included.

    \b
    northbound deadletters show 17
    """  # noqa: D301 - \b keeps click from joining the lines
    with DeadLetters(Place(config, store).path, read_only=True) as letters:
        letter = letters.get(number)
    message = letter.message
    row: dict[str, Any] = {
        **_row(letter),
        "sequence": letter.sequence,
        "kind": message.kind,
        "time": message.time,
        "retain": message.retain,
        "replays_failed": letter.tries,
    }
    try:
        text: str | None = message.payload.decode()
        row["payload"] = text
    except UnicodeDecodeError:
        text = None
        row["payload_base64"] = b64encode(message.payload).decode()
    if as_json:
        emit(row)
        return
    for name in ("at", "time"):
        row[name] = when(row[name])
    row["size"] = size(row["size"])
    row["retain"] = "yes" if row["retain"] else "no"
    for name, value in row.items():
        if not name.startswith("payload"):
            say(f"{name.replace('_', ' '):<15}{value}")
    say()
    _show_payload(text, row.get("payload_base64", ""))


def _show_payload(text: str | None, base64: str) -> None:
    if text is None:
        say(f"{base64} (base64: the payload is not text)")
    elif not text:
        say("(empty: it clears the topic)")
    elif not on_terminal():
        click.echo(clean(text))
    else:
        try:
            pretty = msgspec.json.format(text.encode(), indent=2).decode()
        except msgspec.DecodeError:
            pretty = text
        console().print(Text("\n".join(map(clean, pretty.split("\n"))), style="cyan"), soft_wrap=True)


def _chosen(command: F) -> F:
    command = click.option("--connector", help="All of this connector.")(command)
    command = click.option("--all", "every", is_flag=True, help="All there are.")(command)
    return click.argument("ids", metavar="[ID]...", nargs=-1, type=click.IntRange(min=1))(command)


def _choice(letters: DeadLetters, ids: tuple[int, ...], connector: str | None, *, every: bool) -> list[int]:
    if sum((bool(ids), connector is not None, every)) != 1:
        raise click.UsageError("say which: ids, --connector NAME or --all, one of the three")
    return sorted(set(ids)) if ids else letters.ids(connector)


def _missing(asked: list[int], found: list[int]) -> int:
    """Report ids that there were none of; returns the exit status."""
    gone = sorted(set(asked) - set(found))
    if gone:
        shown = ", ".join(map(str, gone[:10])) + (", …" if len(gone) > 10 else "")
        note(f"northbound: no dead letter {shown}: 'northbound deadletters list' shows which there are")
    return 1 if gone else 0


@deadletters.command()
@_chosen
@click.option("--force", is_flag=True, help="Also where a newer value of the topic has been sent since.")
@placed
@json_option
def replay(
    ids: tuple[int, ...],
    connector: str | None,
    config: str | None,
    store: str | None,
    *,
    every: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Send dead letters again.

    The running service sends them within seconds; one that fails again stays, with the new reason. A state that a
    newer value of its topic has overtaken is not sent, for a topic never goes backwards, unless --force is given.

    \b
    northbound deadletters replay 17 18
    northbound deadletters replay --connector aws
    """  # noqa: D301 - \b keeps click from joining the lines
    place = Place(config, store)
    with DeadLetters(place.path) as letters:
        asked = _choice(letters, ids, connector, every=every)
        owners = _owners(letters, asked, connector) if place.connectors is not None else set()
        found = letters.replay(asked, force=force)
    running = is_running(place.path)
    homeless = sorted(owners - (place.connectors or set()))
    if as_json:
        emit({"replay": found, "running": running, "not_configured": homeless})
    elif not found:
        note("no dead letters to replay")
    else:
        later = "the service sends them within seconds" if running else "they will be sent when the service runs"
        say(f"{plural(len(found), 'dead letter')} marked: {later}")
    for name in homeless:
        note(f"northbound: {name} is not configured: its dead letters wait until it is, or until they are dropped")
    return _missing(asked, found)


def _owners(letters: DeadLetters, asked: list[int], connector: str | None) -> set[str]:
    if connector is not None:
        return {connector} if asked else set()
    wanted = set(asked)
    return {letter.connector for letter in letters.each() if letter.id in wanted}


@deadletters.command()
@_chosen
@click.option("--yes", is_flag=True, help="Do not ask.")
@placed
@json_option
def drop(
    ids: tuple[int, ...],
    connector: str | None,
    config: str | None,
    store: str | None,
    *,
    every: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Delete dead letters for good.

    \b
    northbound deadletters drop 17
    northbound deadletters drop --all --yes
    """  # noqa: D301 - \b keeps click from joining the lines
    place = Place(config, store)
    with DeadLetters(place.path) as letters:
        asked = _choice(letters, ids, connector, every=every)
        if asked and not ids and not yes:
            if as_json or not sys.stdin.isatty():
                raise click.UsageError(f"{plural(len(asked), 'dead letter')} would be deleted: add --yes")
            click.confirm(f"Delete {plural(len(asked), 'dead letter')} for good?", abort=True, err=True)
        found = letters.drop(asked)
    if as_json:
        emit({"dropped": found})
    elif found or not ids:
        say(f"{plural(len(found), 'dead letter')} dropped")
    return _missing(asked, found)
