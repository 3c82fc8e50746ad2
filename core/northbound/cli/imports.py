"""``northbound import``: another system's destinations as a configuration."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import pydantic

from northbound import ConfigurationError, Imported, NorthboundError, PluginError, Source
from northbound.cli.output import emit, listing, note, say
from northbound.cli.parameters import json_option
from northbound.cli.words import plural
from northbound.loading import load_file
from northbound.registry import Registry

_HEAD: Final = """\
# Written by 'northbound import placeos'. Secrets stand in files of their own, which only their owner can read.
# 'northbound check' finds what is missing; 'northbound compare' sets the result beside what PlaceOS publishes.

[site]
profile = "placeos"                    # topics and payloads as PlaceOS writes them
"""
_SECRET_IN_URL: Final = re.compile(r"://[^/@]*:[^/@]+@|password\s*=")


@click.group("import")
def imports() -> None:
    """Turn another system's destinations into a configuration.

    \b
    northbound import placeos --postgres postgresql://reader@db/place --redis redis://cache
    """  # noqa: D301 - \b keeps click from joining the lines


@imports.command()
@click.option("--postgres", envvar="PG_DATABASE_URL", required=True, help="PlaceOS's PostgreSQL, as in [sources.NAME].")
@click.option("--redis", envvar="REDIS_URL", default="redis://127.0.0.1:6379", help="PlaceOS's Redis.")
@click.option("--output", default="northbound.toml", type=click.Path(dir_okay=False), help="The file to write.")
@click.option("--secrets", default="secrets", help="Folder for the secrets, beside the file.")
@click.option("--force", is_flag=True, help="Write over what is there.")
@json_option
def placeos(postgres: str, redis: str, output: str, secrets: str, *, force: bool, as_json: bool) -> int:
    """Turn PlaceOS's brokers into connectors.

    Reads the table 'broker' and writes a configuration with the placeos source and one connector each, the passwords in
    files of mode 600. Says what PlaceOS accepted and never did. Addresses with passwords are better given by the
    environment, as PlaceOS itself takes them: PG_DATABASE_URL and REDIS_URL. Exit status 1 where something in the file
    has to be put right first.

    \b
    northbound import placeos --postgres postgresql://reader@db/place --redis redis://cache
    PG_DATABASE_URL=… REDIS_URL=… northbound import placeos --output /etc/northbound/northbound.toml
    """  # noqa: D301 - \b keeps click from joining the lines
    settings = {"postgres": postgres, "redis": redis}
    found = asyncio.run(_destinations("placeos", settings))
    writing = _Writing(Path(output), secrets)
    writing.source("placeos", settings)
    for each in found:
        writing.connector(each)
    writing.write(force=force)
    return 0 if _report(writing, as_json=as_json) else 1


async def _destinations(type_name: str, settings: Mapping[str, str]) -> Sequence[Imported]:
    row = Registry().find("source", type_name)
    if row is None or row.implementation is None:
        raise PluginError(
            f"the source {type_name!r} "
            + ("is not installed" if row is None else f"does not load: {row.error}: {row.hint or 'install it again'}")
        )
    try:
        options = row.model.model_validate({"type": type_name, **settings})
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        words = "; ".join(f"--{detail['loc'][0]}: {detail['msg']}" for detail in details)
        raise click.UsageError(words.replace("Value error, ", "")) from None
    source = row.implementation(options, name=type_name)
    assert isinstance(source, Source)  # noqa: S101 - the registry checked the class
    return await source.destinations()


class _Writing:
    """The configuration in the making."""

    def __init__(self, path: Path, secrets: str) -> None:
        self.path = path
        self.rows: list[tuple[str, str, tuple[str, ...]]] = []
        self.unusable: list[str] = []
        self._secrets = secrets
        self._files: dict[str, str] = {}
        self._parts = [_HEAD]
        self._names: set[str] = set()

    def source(self, type_name: str, settings: Mapping[str, str]) -> None:
        """Add the source itself."""
        lines = [f"[sources.{type_name}]", f"type = {_toml(type_name)}"]
        for key, value in settings.items():
            name = f"{type_name}-{key}"
            secret = _SECRET_IN_URL.search(value) is not None
            lines.append(f"{key} = {self._secret(name, value) if secret else self._literal(name, value)}")
        self._parts.append("\n".join(lines) + "\n")

    def connector(self, found: Imported) -> None:
        """Add a connector, and its filters as a privacy rule of its own."""
        name = self._name(found.name)
        lines = [f"[connectors.{name}]", f"type = {_toml(found.type)}"]
        lines += [f"{key} = {self._literal(f'{name}-{key}', value)}" for key, value in found.options.items()]
        lines += [f"{key} = {self._secret(f'{name}-{key}', value)}" for key, value in found.secrets.items()]
        remarks = [*found.remarks]
        usable, unusable = _patterns(found.filters)
        if unusable:
            remarks.append(f"no regular expression that can be used here, left out: {', '.join(map(repr, unusable))}")
            lines.insert(0, f"# left out, for RE2 does not take it: {', '.join(map(_toml, unusable))}")
        if usable:
            lines += self._rule(name, usable, found.filter_secret)
        if problem := _problem(found):
            remarks.insert(0, f"it cannot be used as it is, and is written as a comment: {problem}")
            lines = [f"# {line}".rstrip() for line in lines]
            self.unusable.append(name)
        above = remarks[: len(remarks) - bool(unusable)]  # those left out stand there already
        self._parts.append("\n".join([*(f"# {line}" for r in above for line in _wrapped(r)), *lines]) + "\n")
        self.rows.append((name, str(found.options.get("url", "")), tuple(remarks)))

    def _rule(self, name: str, patterns: Sequence[str], secret: str | None) -> list[str]:
        detector = f"{name}_filters".replace("-", "_")
        lines = ["", "[[privacy.rules]]", f"name = {_toml(f'filters of {name}')}", f"detect = [{_toml(detector)}]"]
        lines += ['action = "hash"', 'format = "placeos"', f"connectors = [{_toml(name)}]"]
        if secret:
            lines.append(f"secret = {self._secret(f'{name}-filters', secret)}")
        kept = [self._literal(f"{name}-filter-{number}", text) for number, text in enumerate(patterns, 1)]
        return [*lines, f"[privacy.detectors.{detector}]", 'type = "regex"', f"patterns = [{', '.join(kept)}]"]

    def _literal(self, name: str, value: Any) -> str:
        """Return a value as it is; one with ``${`` stands in a file, or it would be taken for a reference itself."""
        return self._secret(name, value) if isinstance(value, str) and "${" in value else _toml(value)

    def _secret(self, name: str, value: str) -> str:
        """Put a secret aside; returns the reference to it."""
        self._files[name] = value
        return _toml("${file:" + f"{self._secrets}/{name}" + "}")

    def _name(self, wanted: str) -> str:
        base = re.sub(r"[^A-Za-z0-9]+", "-", wanted).strip("-").lower()[:50] or "broker"
        name, number = base, 1
        while name in self._names:
            number += 1
            name = f"{base}-{number}"
        self._names.add(name)
        return name

    def write(self, *, force: bool) -> None:
        """Write everything, the secrets first; raises :class:`NorthboundError` where a file is there already."""
        folder = self.path.parent / self._secrets
        files = {folder / name: text for name, text in self._files.items()}
        there = [path for path in (self.path, *files) if path.exists()]
        if there and not force:
            raise NorthboundError(f"{there[0]} is there already: --force writes over it, --output names another")
        if files:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, text in files.items():
            path.unlink(missing_ok=True)
            _write(path, text, 0o600)
        self.path.unlink(missing_ok=True)
        _write(self.path, "\n".join(self._parts), 0o600)


def _write(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)


def _problem(found: Imported) -> str | None:
    """Return why a connector is none, where its own model says so; nothing of its values but the address."""
    row = Registry().find("connector", found.type)
    if row is None:
        return None  # the file says it
    try:
        row.model.model_validate({"type": found.type, **found.options, **found.secrets})
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        return "; ".join(": ".join((*map(str, d["loc"]), d["msg"].removeprefix("Value error, "))) for d in details)
    return None


def _patterns(filters: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the filters that the detector of patterns takes, and the others."""
    row = Registry().find("detector", "regex")
    usable: list[str] = []
    unusable: list[str] = []
    for text in filters:
        try:
            if row is None:
                raise PluginError("no detector of type 'regex'")  # noqa: TRY301 - told like what the model raises
            row.model.model_validate({"type": "regex", "pattern": text})
        except (pydantic.ValidationError, PluginError):
            unusable.append(text)
        else:
            usable.append(text)
    return usable, unusable


def _toml(value: Any) -> str:
    """Return a value as TOML: a JSON string is one of TOML but for DEL, which JSON lets stand."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _wrapped(text: str) -> list[str]:
    """Return a remark in lines short enough for a comment; what it quotes cannot end the comment."""
    words = " ".join(text.split()).split(" ")
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > 110:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return ["".join(c if c.isprintable() else "?" for c in line) for line in lines]


def _report(writing: _Writing, *, as_json: bool) -> bool:
    """Tell what was written; returns whether it can be used as it is."""
    try:
        load_file(writing.path, Registry())
        problems: list[str] = []
    except ConfigurationError as error:
        problems = [str(problem) for problem in error.problems]
    if as_json:
        rows = [{"connector": name, "url": url, "remarks": list(remarks)} for name, url, remarks in writing.rows]
        emit({"file": str(writing.path), "connectors": rows, "problems": problems})
        return not problems and not writing.unusable
    listing(("connector", "destination"), [(name, url) for name, url, _ in writing.rows])
    for name, _, remarks in writing.rows:
        for remark in remarks:
            say(f"{name}: {remark}")
    for problem in problems:
        note(problem)
    note(f"{writing.path}: {plural(len(writing.rows), 'connector')}")
    note(f"try it with: northbound check {writing.path} --connect")
    return not problems and not writing.unusable
