"""``northbound compare``: what two brokers, or a broker and a store, retain differently."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import click
import msgspec

from northbound import NorthboundError
from northbound.cli.captures import Subscription, listen
from northbound.cli.output import emit, listing, note
from northbound.cli.parameters import DURATION, json_option
from northbound.cli.words import plural
from northbound.comparison import Comparison, Difference, compare
from northbound.loading import Configuration, load_file
from northbound.mqtt import parse_url
from northbound.registry import Registry
from northbound.store import schema
from northbound.topics import TopicMatcher, filter_problem

_STYLES: Final = {"missing": "red", "extra": "yellow", "differing": "magenta"}
_LONGEST: Final = 60
_LARGEST_TREE: Final = 2 * 1024**3


class _Side(Protocol):
    """One of the two: it listens, to some ``topics`` alone where they are named, and can then say what is retained."""

    async def listen(self, seconds: float, topics: Sequence[str] = ()) -> None: ...

    def tree(self) -> dict[str, bytes]: ...


class _Broker:
    """What a broker retains, and what it sends while we listen."""

    def __init__(self, wanted: Subscription) -> None:
        self._wanted = wanted
        self._tree: dict[str, bytes] = {}
        self._size = 0

    async def listen(self, seconds: float, topics: Sequence[str] = ()) -> None:
        await listen(msgspec.structs.replace(self._wanted, seconds=seconds), self._take, topics)

    def _take(self, topic: str, payload: bytes) -> None:
        self._size += len(payload) - len(self._tree.get(topic, b""))
        if self._size > _LARGEST_TREE:
            raise click.ClickException("the broker retains more than 2 GiB: narrow it with --filter")
        if payload:
            self._tree[topic] = payload
        else:
            self._tree.pop(topic, None)

    def tree(self) -> dict[str, bytes]:
        return dict(self._tree)


class _Store:
    """The current values in the store of a configuration; the service may run beside it."""

    def __init__(self, path: Path, topic_filter: str) -> None:
        self._path = path
        self._matches = TopicMatcher([topic_filter]).matches

    async def listen(self, seconds: float, topics: Sequence[str] = ()) -> None:  # noqa: ARG002 - it has all of them
        await asyncio.sleep(seconds)

    def tree(self) -> dict[str, bytes]:
        with closing(schema.open_existing(self._path, read_only=True)) as db:
            try:
                rows = db.execute(
                    "SELECT topic, payload FROM (SELECT sequence, topic, payload FROM current UNION ALL"
                    " SELECT sequence, topic, payload FROM log"
                    " WHERE sequence > (SELECT value FROM meta WHERE key = 'folded')) ORDER BY sequence"
                )
                found = {topic: payload for topic, payload in rows if self._matches(topic)}
            except sqlite3.Error as error:
                raise schema.explain(self._path, error) from None
        return {topic: payload for topic, payload in found.items() if payload}


@click.command("compare")
@click.argument("left")
@click.argument("right")
@click.option("--filter", "topic_filter", default="#", show_default=True, help="The topics to compare.")
@click.option("--duration", type=DURATION, default="10s", show_default=True, help="How long to listen to brokers.")
@click.option("--settle", type=DURATION, default="3s", show_default=True, help="Look again after so long.")
@click.option("--strict", is_flag=True, help="Compare all of the metadata, how values are written, and nulls.")
@click.option("--values", is_flag=True, help="Show what both sides say; it may be personal.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(0, 10_000_000), help="Rows to show.")
@click.option("--left-username", help="User name at LEFT, where its URL holds none.")
@click.option("--left-password-env", metavar="NAME", help="Environment variable with the password of LEFT.")
@click.option("--left-ca", type=click.Path(exists=True, dir_okay=False), help="CA certificates (PEM) for LEFT.")
@click.option("--right-username", help="User name at RIGHT, where its URL holds none.")
@click.option("--right-password-env", metavar="NAME", help="Environment variable with the password of RIGHT.")
@click.option("--right-ca", type=click.Path(exists=True, dir_okay=False), help="CA certificates (PEM) for RIGHT.")
@json_option
def comparing(left: str, right: str, *, topic_filter: str, strict: bool, as_json: bool, **more: Any) -> int:
    """Compare what two brokers retain, or a broker and a store.

    LEFT and RIGHT are each a broker (mqtt:// or mqtts://) or a configuration, whose store is read. 'missing' is only in
    LEFT, 'extra' only in RIGHT, 'differing' in both with another value, whenever that was taken. Both are looked at
    twice, and what changes in between is not counted: it is under way. Where they differ, brokers are asked once more
    for these topics alone. Exit status 1 where anything differs.

    \b
    northbound compare mqtt://placeos-broker mqtt://new-broker --filter 'placeos/#'
    northbound compare mqtt://placeos-broker northbound.toml --duration 1m --values
    """  # noqa: D301 - \b keeps click from joining the lines
    if problem := filter_problem(topic_filter):
        raise click.UsageError(f"--filter {topic_filter!r} {problem}")
    sides = [_side(name, topic_filter, prefix, more) for name, prefix in ((left, "left"), (right, "right"))]
    seconds, settle = _seconds(more["duration"]), _seconds(more["settle"])
    found, moving = asyncio.run(_look_twice(sides, seconds, settle, strict=strict))
    _report(found, moving, values=more["values"], limit=more["limit"], as_json=as_json)
    return 1 if found.differences else 0


def _seconds(value: timedelta) -> float:
    return value.total_seconds()


def _side(name: str, topic_filter: str, prefix: str, more: dict[str, Any]) -> _Side:
    username, variable, ca = (more[f"{prefix}_{key}"] for key in ("username", "password_env", "ca"))
    if "://" not in name:
        if username or variable or ca:
            raise click.UsageError(f"--{prefix}-…: {name} is a configuration, which needs none of that")
        configuration = load_file(Path(name), Registry())
        for connector in _rewriting(configuration):
            note(
                f"connector {connector!r} has topics or privacy rules of its own: what its broker retains is not what "
                "the store holds, and 'missing' and 'extra' may be one topic under two names"
            )
        return _Store(configuration.store.path, topic_filter)
    try:
        parse_url(name)
    except ValueError as error:
        raise click.UsageError(f"{prefix.upper()}: {error}") from None
    password = None
    if variable is not None:
        password = os.environ.get(variable)
        if password is None:
            raise click.UsageError(f"--{prefix}-password-env: the environment variable {variable} is not set")
    return _Broker(Subscription(name, topic_filter, 0, username, password, ca))


def _rewriting(configuration: Configuration) -> list[str]:
    """Return the connectors whose topics need not be the store's."""
    ruled = {name for rule in configuration.privacy.rules for name in rule.connectors or ()}
    return [
        c.name
        for c in configuration.connectors
        if c.name in ruled or c.options.topic is not None or c.options.metadata_topic is not None
    ]


async def _look_twice(sides: list[_Side], seconds: float, settle: float, *, strict: bool) -> tuple[Comparison, int]:
    """Return the differences that lasted, and how many did not."""

    def compared() -> Comparison:
        return compare(sides[0].tree(), sides[1].tree(), strict=strict)

    try:
        async with asyncio.TaskGroup() as tasks:
            for side in sides:
                tasks.create_task(side.listen(seconds + settle))
            await asyncio.sleep(seconds)
            before = compared()
        after = compared()
        found = before.lasting(after)
        if found.differences:
            await _ask_once_more(sides, found, settle)
            after = compared()
            found = found.lasting(after)
    except BaseExceptionGroup as group:  # one side cannot be had: that is the answer
        raise group.exceptions[0] from None
    return found, len(after.differences) - len(found.differences)


async def _ask_once_more(sides: list[_Side], found: Comparison, seconds: float) -> None:
    """Ask each side for what it lacks or says otherwise: a broker drops in silence what a slow reader does not take."""
    doubtful = [
        [difference.topic for difference in found.differences.values() if difference.kind in kinds]
        for kinds in (("extra", "differing"), ("missing", "differing"))
    ]
    try:
        async with asyncio.TaskGroup() as tasks:
            for side, topics in zip(sides, doubtful, strict=True):
                if topics:
                    tasks.create_task(side.listen(seconds, topics))
    except* NorthboundError as group:
        note(f"what differs could not be asked for once more, and may only have been dropped: {group.exceptions[0]}")


def _report(found: Comparison, moving: int, *, values: bool, limit: int, as_json: bool) -> None:
    rows = sorted(found.differences.values(), key=lambda difference: (difference.kind, difference.topic))
    counts = {kind: sum(row.kind == kind for row in rows) for kind in _STYLES}
    if as_json:
        shown = [_row(row, values=values) for row in rows[:limit]]
        emit({"same": found.same, "nulls": found.nulls, "moving": moving, **counts, "differences": shown})
        return
    headers = ("difference", "topic", *(("left", "right") if values else ()))
    listing(
        headers,
        [(row.kind, row.topic, *((_short(row.left), _short(row.right)) if values else ())) for row in rows[:limit]],
        wrap=("topic", "left", "right"),
        styles=_STYLES,
    )
    if len(rows) > limit:
        note(f"{plural(len(rows) - limit, 'more row')}: --limit shows more")
    words = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    note(f"{found.same:,} the same, {words}; {found.nulls:,} null here and clear there, {moving:,} changing just now")


def _row(difference: Difference, *, values: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"difference": difference.kind, "topic": difference.topic}
    if values:
        row |= {"left": _text(difference.left), "right": _text(difference.right)}
    return row


def _text(payload: bytes | None) -> str | None:
    return None if payload is None else payload.decode(errors="replace")


def _short(payload: bytes | None) -> str:
    text = _text(payload)
    if text is None:
        return "-"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
