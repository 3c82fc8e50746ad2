"""``northbound privacy``: try a policy, look for personal data, look a hash up, see what can be detected."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from msgspec import structs
from rich.text import Text

from northbound import ConfigurationError, NorthboundError, Problem
from northbound.cases import CaseFile, Judge, Verdict, read_cases
from northbound.cli.output import console, emit, listing, note, on_terminal, say
from northbound.cli.parameters import json_option
from northbound.cli.plugins import detectors, type_names
from northbound.cli.preview import remark
from northbound.cli.scan import scan
from northbound.cli.words import clean, plural
from northbound.loading import Configuration, load_file
from northbound.lookup import HashRule, hash_of, hash_rules
from northbound.policies import Policies, for_looking
from northbound.privacy.detector import Detector
from northbound.registry import Registry
from northbound.survey import surveyed

_CASES: Final = "privacy.cases.toml"
_LARGEST_FILE: Final = 4 * 1024**2
_LONGEST_TEXT: Final = 1024**2

config_argument = click.argument("config", type=click.Path(dir_okay=False))


@click.group()
def privacy() -> None:
    """Try the privacy rules, and look for personal data.

    All of this works without the service and beside it; nothing is sent, stored or changed.

    \b
    northbound privacy test northbound.toml
    northbound privacy scan northbound.toml --store
    """  # noqa: D301 - \b keeps click from joining the lines


privacy.add_command(scan)
privacy.add_command(detectors)


@privacy.command()
@config_argument
@click.argument("files", metavar="[CASES]...", nargs=-1, type=click.Path(dir_okay=False))
@json_option
def test(config: str, files: tuple[str, ...], *, as_json: bool) -> int:
    """Try the rules on cases: an event, and what has to become of it.

    CASES are TOML files; without any, privacy.cases.toml beside CONFIG. What an event leaves out of its address is
    filled in. With connector = "NAME" it goes on to that connector: its rules, template and limits. Expected can be
    value, metadata, topic, time, a level of the topic, rules, dropped, withheld, unchanged, and absent: texts that
    must stand nowhere. {{hash}} stands for any hash of these rules, {{hash:TEXT}} for the one of that text, {{null}}
    for null. The status is 0 when every case is as expected.

    \b
    [[cases]]
    name = "the organiser is hashed"
    event = { state = "bookings", value = { organiser = "bob@example.com" } }
    expect = { value = { organiser = "{{hash:bob@example.com}}" }, absent = ["bob"] }

    \b
    northbound privacy test northbound.toml
    northbound privacy test northbound.toml cases/*.toml --json
    """  # noqa: D301 - \b keeps click from joining the lines
    configuration = load_file(Path(config), Registry())
    paths = [Path(name) for name in files] or [Path(config).parent / _CASES]
    if not files and not paths[0].exists():
        raise click.UsageError(f"there is no {paths[0]}: write one, or name the files that hold the cases")
    found = _read(paths, configuration)
    if not any(file.cases for file in found):
        raise click.UsageError(f"no cases in {', '.join(map(str, paths))}: write [[cases]] with name, event and expect")
    verdicts: list[Verdict] = []
    for path, file in zip(paths, found, strict=True):
        judge = Judge(configuration, file.people)
        if judge.preview.unlearned and not file.people:
            remark(judge.preview)
        for case in file.cases:
            verdict = judge.judge(case, time.time_ns() // 1_000_000)
            verdicts.append(verdict)
            if not as_json:
                _tell(verdict, str(path) if len(paths) > 1 else "")
    failed = sum(not verdict.ok for verdict in verdicts)
    if as_json:
        cases = [{"ok": verdict.ok, **structs.asdict(verdict)} for verdict in verdicts]
        emit({"ok": not failed, "passed": len(verdicts) - failed, "failed": failed, "cases": cases})
    else:
        words = f"{len(verdicts) - failed:,} passed" + (f", {failed:,} failed" if failed else "")
        say(f"{plural(len(verdicts), 'case')}: {words}", style="bold red" if failed else "bold green")
    return 1 if failed else 0


def _read(paths: Sequence[Path], configuration: Configuration) -> list[CaseFile]:
    found: list[CaseFile] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            with path.open("rb") as file:
                content = file.read(_LARGEST_FILE + 1)
            if len(content) > _LARGEST_FILE:
                raise ConfigurationError([Problem(str(path), "", "is larger than 4 MiB", "split it")])  # noqa: TRY301
            found.append(read_cases(content.decode(), str(path), configuration))
        except UnicodeDecodeError as error:
            problems.append(Problem(str(path), "", f"is not UTF-8 at byte {error.start}", "save it as UTF-8"))
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(problems)
    return found


def _tell(verdict: Verdict, where: str) -> None:
    name = clean(f"{where}: {verdict.name}" if where else verdict.name)
    if on_terminal():
        mark = Text("✓ " if verdict.ok else "✗ ", style="green" if verdict.ok else "bold red")
        console().print(mark.append(name, style="default not bold"), soft_wrap=True)
    else:
        click.echo(f"{'pass' if verdict.ok else 'FAIL'}\t{name}")
    for difference in verdict.differences:
        say(f"  {difference.what}: expected  {_json(difference.expected)}", style="green")
        say(f"  {'':>{len(difference.what)}}  got       {_json(difference.got)}", style="red")


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


@privacy.command("hash")
@config_argument
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option("--rule", "name", help="Only the hash of this rule. Default: of every rule that hashes.")
@click.option("--connector", help="Only the rules of this connector.")
@click.option(
    "--detector",
    "wanted",
    shell_complete=type_names("detector"),
    help="Take the canonical form of this detector. Default: of the rule's own.",
)
@click.option("--key", default="", help="The object key that the text stands under, where the detector looks at it.")
@json_option
def hash_(
    config: str,
    texts: tuple[str, ...],
    name: str | None,
    connector: str | None,
    wanted: str | None,
    key: str,
    *,
    as_json: bool,
) -> int:
    """Print the hash that the rules write for a text, to look it up in what has left.

    Without TEXT, each line of standard input is one: it stays out of the shell's history. The text itself is not
    printed. Each line: the rule, its connector or '-', the hash; in an overlap of two secrets both hashes.

    \b
    northbound privacy hash northbound.toml < people.txt
    northbound privacy hash northbound.toml bob@example.com --rule default
    """  # noqa: D301 - \b keeps click from joining the lines
    configuration = load_file(Path(config), Registry())
    policies, thrown_away = for_looking(configuration)
    if thrown_away:
        raise NorthboundError(f"there is no hash yet: {thrown_away}")
    rules = _chosen(policies, name, connector)
    detector = None if wanted is None else _detector(configuration, policies, wanted)
    for policy in (policies.site, *policies.connectors.values()):
        if policy is not None:
            policy.begin(time.time_ns() // 1_000_000)
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(texts or _lines(), 1):
        try:
            text.encode()
        except UnicodeEncodeError:  # of bytes that are none Python makes lone surrogates
            raise NorthboundError(f"text {number} is not UTF-8: write it in that encoding") from None
        rows += [_hashed(rule, number, text, detector, key) for rule in rules]
    if as_json:
        emit(rows)
    else:
        listing(("rule", "connector", "hash"), [(row["rule"], row["connector"] or "-", row["hash"]) for row in rows])
    return 0


def _chosen(policies: Policies, name: str | None, connector: str | None) -> list[HashRule]:
    every = hash_rules(policies)
    found = [rule for rule in every if name in (None, rule.rule.name) and connector in (None, rule.connector)]
    if not found:
        known = ", ".join(f"{r.rule.name!r}" + (f" of {r.connector}" if r.connector else "") for r in every)
        raise NorthboundError(f"no such rule hashes anything: {f'there is {known}' if known else 'no rule does'}")
    return found


def _detector(configuration: Configuration, policies: Policies, name: str) -> Detector:
    found = surveyed(configuration, policies, Registry())
    if name not in found:
        raise NorthboundError(f"no detector {name!r} can be used here: one of {', '.join(sorted(found))}")
    return found[name]


def _hashed(rule: HashRule, number: int, text: str, detector: Detector | None, key: str) -> dict[str, Any]:
    detectors = rule.rule.detectors if detector is None else (detector,)
    found = hash_of(rule, text, detectors, key=key)
    where = f"text {number}, rule {rule.rule.name!r}"
    if detector is not None and not found.detector:
        raise NorthboundError(
            f"detector {detector.name!r} does not find text {number}: check it, or leave --detector out"
        )
    if not found.detector and detectors:
        note(f"{where}: no detector finds it, so it is hashed as it is")
    elif found.part:
        note(f"{where}: detector {found.detector!r} finds a part of it, and that is hashed")
    return {
        "text": number,
        "rule": rule.rule.name,
        "connector": rule.connector,
        "detector": found.detector or None,
        "hash": found.text,
    }


def _lines() -> Iterator[str]:
    if sys.stdin.isatty():
        note("one text a line; Ctrl-D ends")
    try:
        while line := sys.stdin.readline(_LONGEST_TEXT):
            if text := line.rstrip("\r\n"):
                yield text
    except UnicodeDecodeError:
        raise NorthboundError("standard input is not UTF-8: convert it first, for example with iconv") from None
