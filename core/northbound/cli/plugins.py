"""``northbound connectors``, ``sources``, ``privacy detectors``: what is installed, its options, a sample."""

from __future__ import annotations

import difflib
import inspect
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import click
import pydantic
from click.shell_completion import CompletionItem
from rich.text import Text

from northbound import Limits, PluginError
from northbound.cli.options import Option, of_model, required_sample
from northbound.cli.output import console, emit, listing, on_terminal, say
from northbound.cli.parameters import json_option
from northbound.config import ConnectorOptions, DetectorOptions, SourceOptions
from northbound.registry import Plugin, PluginKind, Registry

_COMMON: Mapping[PluginKind, type[pydantic.BaseModel]] = {
    "connector": ConnectorOptions,
    "source": SourceOptions,
    "detector": DetectorOptions,
}
_STYLES = {"ok": "green", "does not load": "red"}


def type_names(kind: PluginKind) -> Any:
    """Return what completes the names of the installed types of one kind."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(name) for name in Registry().types(kind) if name.startswith(incomplete)]

    return complete


@click.command()
@click.argument("name", required=False, shell_complete=type_names("connector"))
@json_option
def connectors(name: str | None, *, as_json: bool) -> int:
    """Show which destinations can be configured, and how.

    Without NAME: every connector type, the package it comes from, and why one does not load. With NAME: its options,
    its limits and a sample.

    \b
    northbound connectors
    northbound connectors mqtt
    """  # noqa: D301 - \b keeps click from joining the lines
    return _command("connector", name, as_json=as_json)


@click.command()
@click.argument("name", required=False, shell_complete=type_names("source"))
@json_option
def sources(name: str | None, *, as_json: bool) -> int:
    """Show which sources can be configured, and how.

    Without NAME: every source type, the package it comes from, and why one does not load. With NAME: its options and
    a sample.

    \b
    northbound sources
    northbound sources jsonl
    """  # noqa: D301 - \b keeps click from joining the lines
    return _command("source", name, as_json=as_json)


@click.command()
@click.argument("name", required=False, shell_complete=type_names("detector"))
@json_option
def detectors(name: str | None, *, as_json: bool) -> int:
    """Show what can be detected, and how.

    Without NAME: every detector type, the package it comes from, and why one does not load. With NAME: its options and
    a sample. One that needs no options can be named in a rule as it is.

    \b
    northbound privacy detectors
    northbound privacy detectors phone
    """  # noqa: D301 - \b keeps click from joining the lines
    return _command("detector", name, as_json=as_json)


def _command(kind: PluginKind, name: str | None, *, as_json: bool) -> int:
    registry = Registry()
    if name is None:
        _list([row for row in registry.rows if row.kind in (kind, None)], as_json=as_json)
        return 0
    row = registry.find(kind, name)
    if row is None:
        near = difflib.get_close_matches(name, registry.types(kind), n=1)
        known = ", ".join(registry.types(kind)) or "none is installed"
        raise PluginError(f"no {kind} type {name!r} is installed: " + (f"did you mean {near[0]!r}?" if near else known))
    if row.implementation is None:
        if as_json:
            emit(_summary(row))
            return 1
        raise PluginError(f"{name} does not load: {row.error}" + (f": {row.hint}" if row.hint else ""))
    _describe(row, as_json=as_json)
    return 0


def _summary(row: Plugin) -> dict[str, Any]:
    return {
        "type": row.type_name,
        "kind": row.kind,
        "package": row.package,
        "version": row.version,
        "state": "ok" if row.implementation is not None else "does not load",
        "about": _about(row),
        "error": row.error,
        "hint": row.hint,
    }


def _list(rows: Sequence[Plugin], *, as_json: bool) -> None:
    summaries = [_summary(row) for row in rows]
    if as_json:
        emit(summaries)
        return
    listing(
        ("type", "package", "version", "state", "about"),
        [
            (
                s["type"],
                s["package"],
                s["version"],
                s["state"],
                s["about"] if s["error"] is None else s["error"] + (f" → {s['hint']}" if s["hint"] else ""),
            )
            for s in summaries
        ],
        wrap=("about",),
        styles=_STYLES,
    )


def _about(row: Plugin) -> str:
    """Return the first sentence of what the plugin says of itself."""
    if row.implementation is None:
        return ""
    words = inspect.getdoc(row.implementation) if "__doc__" in vars(row.implementation) else None
    paragraph = " ".join((words or "").partition("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", paragraph)[0]


def _describe(row: Plugin, *, as_json: bool) -> None:
    implementation: Any = row.implementation
    common: Any = _COMMON[row.kind or "connector"]
    own = of_model(row.model, without=("type", *common.model_fields))
    shared = of_model(common)
    limits = _limits(implementation.limits) if row.kind == "connector" else {}
    presets = dict(implementation.presets) if row.kind == "connector" else {}
    sample = _sample(row, own)
    if as_json:
        told = {"options": own, "common_options": shared, "limits": limits, "presets": presets, "sample": sample}
        emit({**_summary(row), **told})
        return
    say(f"{row.type_name}: {_about(row)}" if _about(row) else row.type_name, style="bold")
    say(f"{row.kind} from {row.package} {row.version}", style="dim")
    _section("Options", own, none="It has none of its own.")
    if shared:
        _section(f"Options every {row.kind} has", shared)
    if limits:
        say()
        say("Limits", style="bold")
        listing(("limit", "value"), limits.items(), wrap=("value",))
    if presets:
        say()
        say("Presets", style="bold")
        listing(("preset", "sets"), presets.items(), wrap=("sets",))
    say()
    say("Sample", style="bold")
    for line in sample.rstrip().splitlines():
        if on_terminal():
            console().print(Text(line, style="cyan"), soft_wrap=True)
        else:
            say(line)


def _section(title: str, options: Sequence[Option], none: str = "") -> None:
    say()
    say(title, style="bold")
    if not options:
        say(none)
        return
    listing(
        ("option", "type", "default", "meaning"),
        [(o.key, o.type, "required" if o.required else o.default, o.description) for o in options],
        wrap=("type", "meaning"),
        styles={"required": "yellow"},
    )


def _limits(limits: Limits) -> dict[str, str]:
    return {name: _plain(getattr(limits, name)) for name in limits.__struct_fields__}


def _plain(value: Any) -> str:
    if value is None:
        return "none known"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int | float) else str(value) or "none"


def _sample(row: Plugin, own: Sequence[Option]) -> str:
    """Return the package's own sample where it is one of this type, else one made from the options."""
    implementation: Any = row.implementation
    package = implementation.__module__.partition(".")[0]
    try:
        text = resources.files(package).joinpath("sample.toml").read_text(encoding="utf-8")
        tree = tomllib.loads(text)
        tables = (tree.get("privacy", {}) if row.kind == "detector" else tree).get(f"{row.kind}s", {})
        if any(table.get("type") == row.type_name for table in tables.values()):
            return text
    except (OSError, ValueError, TypeError, AttributeError, ModuleNotFoundError):
        pass  # none, or not one that can be shown
    table = f"{'privacy.' if row.kind == 'detector' else ''}{row.kind}s.{row.type_name}"
    lines = [f"[{table}]", f'type = "{row.type_name}"', *required_sample(own)]
    return "\n".join(lines) + "\n"
