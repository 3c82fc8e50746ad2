"""``northbound privacy scan``: what personal data a file, a store or a broker holds, and which rule would act."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from northbound import policies
from northbound.cli.captures import Item, Lines, StoredMessages, Subscription, listen
from northbound.cli.output import emit, listing, note, say
from northbound.cli.parameters import DURATION, json_option
from northbound.cli.words import plural
from northbound.events import Cleared, Metadata, State
from northbound.loading import Configuration, load_file
from northbound.mqtt import parse_url
from northbound.registry import Registry
from northbound.survey import MOST_TOPICS, NO_RULE, OTHER_TOPICS, Finding, Survey, surveyed
from northbound.topics import filter_problem


@click.command()
@click.argument("config", type=click.Path(dir_okay=False), default="northbound.toml")
@click.option("--file", "file", type=click.Path(allow_dash=True), help="A captured file, '-' for standard input.")
@click.option("--store", is_flag=True, help="The store of CONFIG: current values, log, dead letters. Read only.")
@click.option("--broker", metavar="URL", help="A broker (mqtt, mqtts, ws, wss): what it retains, and what comes.")
@click.option("--filter", "topic_filter", default="#", show_default=True, help="--broker: the topics to listen to.")
@click.option("--duration", type=DURATION, default="10s", show_default=True, help="--broker: how long to listen.")
@click.option("--username", help="--broker: the user name.")
@click.option("--password-env", metavar="NAME", help="--broker: the environment variable that holds the password.")
@click.option("--ca", type=click.Path(exists=True, dir_okay=False), help="--broker: file of the CA certificates (PEM).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(0, 100_000), help="Rows of rules by topic.")
@click.option("--fail", is_flag=True, help="Exit with 1 where something is found on which no rule would act.")
@json_option
def scan(config: str, file: str | None, *, store: bool, broker: str | None, as_json: bool, **more: Any) -> int:
    """Report what personal data there is, and which rule would act on it.

    Counts what each detector finds, in how many topics, and which rule of CONFIG would act on it; then each rule by
    topic, as the topic is afterwards. Never a piece of the data itself. Nothing is sent or changed. A file may hold
    events as JSON Lines, what a file connector wrote, or what 'mosquitto_sub -v' printed, line by line.

    \b
    northbound privacy scan northbound.toml --file export.jsonl
    northbound privacy scan northbound.toml --store --fail
    northbound privacy scan northbound.toml --broker mqtt://127.0.0.1 --filter 'placeos/#' --duration 1m
    """  # noqa: D301 - \b keeps click from joining the lines
    if sum((file is not None, store, broker is not None)) != 1:
        raise click.UsageError("say what to look through: --file FILE, --store or --broker URL, one of the three")
    registry = Registry()
    configuration = load_file(Path(config), registry)
    survey, names = _survey(configuration, registry)
    lines = Lines(configuration.site.scheme)
    if broker is not None:
        _listen(survey, broker, **{key: more[key] for key in more if key not in ("limit", "fail")})
    elif store:
        _read_store(survey, configuration.store.path)
    else:
        _read_file(survey, lines, str(file))
    for name in names:
        note(f"detector {name} learns from a source, which is not asked here: it finds nobody")
    _report(survey, lines.unrecognised, more["limit"], as_json=as_json)
    return 1 if more["fail"] and survey.unprotected else 0


def _survey(configuration: Configuration, registry: Registry) -> tuple[Survey, list[str]]:
    """Return a survey, and the names of the detectors that know nobody here."""
    found, thrown_away = policies.for_looking(configuration)
    if thrown_away:
        note(thrown_away)
    learners = [detector for detector in found.detectors.values() if detector.learns_from is not None]
    for detector in learners:
        detector.learn(())
    return Survey(configuration, found, surveyed(configuration, found, registry)), [d.name for d in learners]


def _now() -> int:
    return time.time_ns() // 1_000_000


def _look(survey: Survey, item: Item) -> None:
    if isinstance(item, State | Metadata | Cleared):
        survey.event(item, _now())
    elif isinstance(item, str):
        survey.text(item, _now())
    else:
        topic, payload = item
        survey.message(topic, payload, _now())


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Any]:
    """Draw how far it is, on a terminal's standard error only."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)


def _read_file(survey: Survey, lines: Lines, name: str) -> None:
    with click.open_file(name, "rb") as file:
        size = None if name == "-" else os.fstat(file.fileno()).st_size or None
        with _progress("bytes read", size) as advance:
            for item in lines.read(cast("BinaryIO", file), advance):
                _look(survey, item)


def _read_store(survey: Survey, path: Path) -> None:
    with closing(StoredMessages(path)) as stored, _progress("messages of the store", stored.count()) as advance:
        for item in stored.read(advance):
            _look(survey, item)


def _listen(
    survey: Survey,
    url: str,
    *,
    topic_filter: str,
    duration: timedelta,
    username: str | None,
    password_env: str | None,
    ca: str | None,
) -> None:
    if problem := filter_problem(topic_filter):
        raise click.UsageError(f"--filter {topic_filter!r} {problem}")
    try:
        parse_url(url)
    except ValueError as error:
        raise click.UsageError(f"--broker: {error}") from None
    password = None
    if password_env is not None:
        password = os.environ.get(password_env)
        if password is None:
            raise click.UsageError(f"--password-env: the environment variable {password_env} is not set")
    wanted = Subscription(url, topic_filter, duration.total_seconds(), username, password, ca)
    with _progress("messages", None) as advance:

        def look(topic: str, payload: bytes) -> None:
            survey.message(topic, payload, _now())
            advance(1)

        asyncio.run(listen(wanted, look))


def _report(survey: Survey, unrecognised: int, limit: int, *, as_json: bool) -> None:
    findings = sorted(survey.findings.values(), key=lambda finding: (-finding.count, finding.detector))
    acts = sorted(survey.acts.items(), key=lambda act: (-act[1], act[0]))
    if as_json:
        emit(
            {
                "messages": survey.messages,
                "refused": survey.refused,
                "unrecognised": unrecognised,
                "unprotected": survey.unprotected,
                "detectors": [_row(finding) for finding in findings],
                "rules": [{"rule": rule, "topic": topic, "count": count} for (rule, topic), count in acts[:limit]],
                "more": max(0, len(acts) - limit),
            }
        )
        return
    listing(
        ("detector", "found", "topics", "rule that would act"),
        [(f.detector, f"{f.count:,}", _topics(f), _rules(f)) for f in findings],
        right=("found", "topics"),
        wrap=("rule that would act",),
        styles={NO_RULE: "bold red", "-": "dim", "0": "dim"},
    )
    if acts and limit:
        say()
        listing(
            ("rule", "count", "topic afterwards"),
            [(rule, f"{count:,}", topic) for (rule, topic), count in acts[:limit]],
            right=("count",),
            wrap=("topic afterwards",),
            styles={NO_RULE: "bold red"},
        )
    _remarks(survey, unrecognised, max(0, len(acts) - limit))


def _remarks(survey: Survey, unrecognised: int, more: int) -> None:
    if more:
        note(f"{plural(more, 'more row')} of rules by topic: --limit shows more")
    if any(topic == OTHER_TOPICS for _, topic in survey.acts):
        note(f"more than {MOST_TOPICS:,} topics: those beyond are counted together")
    for finding in survey.findings.values():
        if finding.failed:
            note(f"detector {finding.detector} failed on {plural(finding.failed, 'message')}")
    if unrecognised:
        note(f"{plural(unrecognised, 'line')} of no known form: looked at as text")
    if survey.refused:
        note(f"{plural(survey.refused, 'event')} that the engine would refuse: not looked at")
    words = f"{plural(survey.messages, 'message')} looked at: "
    left = survey.unprotected
    note(words + (f"on {plural(left, 'find')} no rule would act" if left else "a rule would act on all that was found"))


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "detector": finding.detector,
        "found": finding.count,
        "topics": finding.topics,
        "rules": finding.rules,
        "failed": finding.failed,
    }


def _topics(finding: Finding) -> str:
    return f"{finding.topics:,}" + ("+" if finding.topics >= MOST_TOPICS else "")


def _rules(finding: Finding) -> str:
    if len(finding.rules) < 2:
        return next(iter(finding.rules), "-")
    return ", ".join(f"{rule} ({count:,})" for rule, count in sorted(finding.rules.items(), key=lambda row: -row[1]))
