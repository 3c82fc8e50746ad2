"""What is allowed in a configuration and yet asks for trouble: secrets in the file, paths that lead nowhere.

What privacy rules ask for is in :mod:`northbound.cli.caveats`, what the API does in :mod:`northbound.cli.exposure`.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pydantic

from northbound import Problem
from northbound.cli.caveats import caveats
from northbound.cli.exposure import exposure
from northbound.cli.options import is_secret
from northbound.loading import Configuration, ConnectorInstance, SourceInstance
from northbound.registry import Plugin
from northbound.shaping import METADATA_NAMES, STATE_NAMES, Template

_SECRET_KEY = re.compile(
    r"(^|_)(password|passphrase|secret|token|api_key|access_key|shared_access_key|sas|connection_string)$"
)
_SECRET_FILE = re.compile(r"\$\{file:([^}]+)\}")


def warnings(path: Path, configuration: Configuration | None) -> list[Problem]:
    """Return what deserves a look. What the file says is looked at even where it does not load."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = tomllib.loads(text.removeprefix("\ufeff"))
    except (OSError, ValueError, RecursionError):
        return []
    name = str(path)
    found = [Problem(name, *rest) for rest in _secrets(path, tree, configuration)]
    found += [Problem(name, *rest) for rest in _secret_files(path, text)]
    if configuration is not None:
        found += [Problem(name, *rest) for rest in caveats(configuration)]
        found += [Problem(name, *rest) for rest in exposure(configuration)]
        for source in configuration.sources:
            found += [Problem(name, *rest) for rest in _paths(source, "sources")]
        for connector in configuration.connectors:
            found += [Problem(name, *rest) for rest in _paths(connector, "connectors")]
            found += [Problem(name, *rest) for rest in _templates(connector, configuration)]
            found += [Problem(name, *rest) for rest in _own(connector)]
        for kind, instances in (("sources", configuration.sources), ("connectors", configuration.connectors)):
            if not instances:
                found.append(Problem(name, kind, "none is enabled", "set enabled = true on one"))
    return found


def _readable_by_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    except OSError:
        return False


def _secrets(path: Path, tree: dict[str, Any], configuration: Configuration | None) -> Iterator[tuple[str, str, str]]:
    """Find secrets that stand in the file itself."""
    declared = _declared_secrets(configuration)
    open_to_others = _readable_by_others(path)
    for where, value in _strings(tree, ()):
        if "${" in value or not value:
            continue
        key = ".".join(where)
        if key in declared or _SECRET_KEY.search(where[-1]):
            what = "a secret stands in the file"
        elif "://" in value and _has_password(value):
            what = "the URL holds a password"
        else:
            continue
        if open_to_others:
            what += f", and others on this machine may read it (mode {path.stat().st_mode & 0o777:o})"
        yield (
            key,
            what,
            "write ${NAME} or ${file:/path} in its place" + (f", or chmod 600 {path}" if open_to_others else ""),
        )


def _declared_secrets(configuration: Configuration | None) -> set[str]:
    if configuration is None:
        return set()
    tables: list[tuple[str, str, Plugin]] = [("connectors", c.name, c.plugin) for c in configuration.connectors]
    tables += [("sources", s.name, s.plugin) for s in configuration.sources]
    return {
        f"{table}.{name}.{key}"
        for table, name, plugin in tables
        for key, field in plugin.model.model_fields.items()
        if is_secret(field)
    }


def _has_password(value: str) -> bool:
    try:
        return bool(urlsplit(value).password)
    except ValueError:
        return False


def _secret_files(path: Path, text: str) -> Iterator[tuple[str, str, str]]:
    for reference in dict.fromkeys(_SECRET_FILE.findall(text)):
        file = path.parent / Path(reference).expanduser()
        if _readable_by_others(file):
            yield "", f"others on this machine may read the secret in {file}", f"chmod 600 {file}"


def _strings(value: Any, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(item, (*where, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _strings(item, (*where, str(position)))
    elif isinstance(value, str) and where:
        yield where, value


def _paths(instance: ConnectorInstance | SourceInstance, kind: str) -> Iterator[tuple[str, str, str]]:
    """Find paths that lead nowhere. A connector's ``path`` is what it writes; every other is something it reads."""
    options: pydantic.BaseModel = instance.options
    for key in type(options).model_fields:
        value = getattr(options, key)
        if not isinstance(value, Path):
            continue
        where = f"{kind}.{instance.name}.{key}"
        if not value.parent.is_dir():
            yield where, f"the folder {value.parent} does not exist", "create it, or name another"
        elif not (value.exists() or (kind == "connectors" and key == "path")):
            yield where, f"there is no file {value}", "check the path"


def _own(instance: ConnectorInstance) -> Iterator[tuple[str, str, str]]:
    """Return what the connector itself has to say of its options."""
    try:
        found = [*instance.create().warnings()]
    except Exception as error:  # noqa: BLE001 - a third party's connector may raise anything
        found = [("", f"cannot be looked at: {type(error).__name__}", "a defect of the plugin: report it")]
    for key, what, remedy in found:
        yield f"connectors.{instance.name}" + (f".{key}" if key else ""), what, remedy


def _templates(connector: ConnectorInstance, configuration: Configuration) -> Iterator[tuple[str, str, str]]:
    """Find templates that put two values at one topic, the connector's own among them."""
    zones = configuration.site.scheme.hierarchy[1:]
    made = connector.create()
    for key, default, names in (
        ("topic", made.default_topic, (*STATE_NAMES, *zones)),
        ("metadata_topic", made.default_metadata_topic, METADATA_NAMES),
    ):
        own = getattr(connector.options, key)
        text = own or default
        if text is None:
            continue
        template = Template(text, names)
        if not template.reversible:
            left_out = ", ".join(f"{{{name}}}" for name in names if name not in template.fields and name != "root")
            yield (
                f"connectors.{connector.name}.{key}",
                f"{'' if own else f'the default {text!r} '}leaves out {left_out}: different values may share a topic",
                "add them where both can occur" if own else f'set {key} = "…" with them, where both can occur',
            )
