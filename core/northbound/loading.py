"""Reads a configuration file and finds every problem at once, each with file, key and remedy."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
from msgspec import Struct

from northbound.config import ConnectorOptions, FileModel, ServiceOptions, SiteOptions, SourceOptions, StoreOptions
from northbound.connector import Connector
from northbound.errors import ConfigurationError, PluginError, Problem
from northbound.registry import Plugin, PluginKind, Registry
from northbound.shaping import METADATA_NAMES, STATE_NAMES, Template
from northbound.source import Source

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_REFERENCE = re.compile(r"\$\{(?:(file):([^}]+)|([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?)\}")
_LARGEST_FILE = 1_048_576
_LARGEST_SECRET = 65_536


class Instance(Struct, frozen=True):
    """One table ``[connectors.NAME]`` or ``[sources.NAME]``, checked."""

    name: str
    plugin: Plugin
    options: Any


class ConnectorInstance(Instance, frozen=True):
    """A configured connector."""

    options: ConnectorOptions

    def create(self) -> Connector:
        """Return the connector itself, not yet open."""
        implementation = self.plugin.implementation
        assert implementation is not None  # noqa: S101 - loading refused it otherwise
        connector = implementation(self.options, name=self.name)
        assert isinstance(connector, Connector)  # noqa: S101 - the registry checked the class
        return connector


class SourceInstance(Instance, frozen=True):
    """A configured source."""

    options: SourceOptions

    def create(self) -> Source:
        """Return the source itself, not yet running."""
        implementation = self.plugin.implementation
        assert implementation is not None  # noqa: S101 - loading refused it otherwise
        source = implementation(self.options, name=self.name)
        assert isinstance(source, Source)  # noqa: S101 - the registry checked the class
        return source


class Configuration(Struct, frozen=True):
    """A whole configuration, checked; only what is enabled."""

    path: str
    site: SiteOptions
    store: StoreOptions
    service: ServiceOptions
    connectors: tuple[ConnectorInstance, ...]
    sources: tuple[SourceInstance, ...]


def load_file(path: Path, registry: Registry, environment: Mapping[str, str] | None = None) -> Configuration:
    """Return the configuration in ``path``; raises :class:`ConfigurationError` with all of its problems."""
    name = str(path)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ConfigurationError([Problem(name, "", "is larger than 1 MiB", "a configuration is a few pages")])
        text = path.read_bytes().decode()
    except OSError as error:
        raise ConfigurationError([Problem(name, "", f"cannot be read: {error.strerror}", "check the path")]) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            [Problem(name, "", f"is not UTF-8 at byte {error.start}", "save it as UTF-8")]
        ) from None
    return load_text(text, registry, name=name, base=path.parent, environment=environment)


def load_text(
    text: str,
    registry: Registry,
    *,
    name: str = "configuration",
    base: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Configuration:
    """Return the configuration that ``text`` says; relative paths start at ``base``."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([Problem(name, "", f"is not TOML: {error}", "mend that line first")]) from None
    except RecursionError:
        raise ConfigurationError([Problem(name, "", "is nested too deeply", "")]) from None
    return _Loader(registry, name, base or Path(), os.environ if environment is None else environment).load(tree)


class _Loader:
    def __init__(self, registry: Registry, name: str, base: Path, environment: Mapping[str, str]) -> None:
        self.registry = registry
        self.name = name
        self.base = base
        self.environment = environment
        self.problems: list[Problem] = []

    def load(self, tree: dict[str, Any]) -> Configuration:
        tree = self._resolve(tree, ())
        # A table of the wrong shape must not hide the others' problems.
        sections = {key: value for key, value in tree.items() if key not in ("connectors", "sources")}
        model = self._validate(FileModel, sections, ())
        connectors = [
            ConnectorInstance(key, plugin, options)
            for key, plugin, options in self._instances(tree, "connectors", "connector")
        ]
        sources = [
            SourceInstance(key, plugin, options) for key, plugin, options in self._instances(tree, "sources", "source")
        ]
        if model is not None:
            for connector in connectors:
                self._check_templates(connector, model.site)
        if not tree.get("sources"):
            self._problem("sources", "no source is configured", "add a [sources.NAME] table with a type")
        if not tree.get("connectors"):
            self._problem("connectors", "no connector is configured", "add a [connectors.NAME] table with a type")
        if self.problems or model is None:
            raise ConfigurationError(self.problems)
        return Configuration(
            self.name,
            model.site,
            model.store,
            model.service,
            tuple(c for c in connectors if c.options.enabled),
            tuple(s for s in sources if s.options.enabled),
        )

    def _problem(self, key: str, message: str, remedy: str = "") -> None:
        self.problems.append(Problem(self.name, key, message, remedy))

    # references to the environment and to files

    def _resolve(self, value: Any, where: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return {key: self._resolve(item, (*where, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolve(item, (*where, str(position))) for position, item in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            return _REFERENCE.sub(lambda match: self._reference(match, where), value)
        return value

    def _reference(self, match: re.Match[str], where: tuple[str, ...]) -> str:
        key = ".".join(where)
        if match[1]:
            path = self.base / Path(match[2]).expanduser()
            try:
                with path.open("rb") as file:
                    content = file.read(_LARGEST_SECRET + 1)
                if len(content) > _LARGEST_SECRET:
                    self._problem(key, f"the file {path} is larger than 64 KiB", "point it at the secret alone")
                return content.decode().removesuffix("\n").removesuffix("\r")
            except OSError as error:
                self._problem(key, f"the file {path} cannot be read: {error.strerror}", "check path and permissions")
            except UnicodeDecodeError:
                self._problem(key, f"the file {path} is not UTF-8 text", "point it at a text file")
            return ""
        name, default = match[3], match[4]
        value = self.environment.get(name, default)
        if value is None:
            self._problem(key, f"the environment variable {name} is not set", f"set it, or write ${{{name}:default}}")
            return ""
        return value

    # tables

    def _instances(self, tree: dict[str, Any], table: str, kind: PluginKind) -> list[tuple[str, Plugin, Any]]:
        found: list[tuple[str, Plugin, Any]] = []
        tables = tree.get(table, {})
        if not isinstance(tables, dict):
            self._problem(table, "is not a table", f"write [{table}.NAME]")
            return found
        for key, options in tables.items():
            where = f"{table}.{key}"
            if not _NAME.fullmatch(key):
                self._problem(where, "is not a name", "use letters, digits, '-' and '_', at most 64")
            if not isinstance(options, dict):
                self._problem(where, "is not a table", f"write [{where}]")
                continue
            plugin = self._plugin(where, kind, options.get("type"))
            if plugin is None:
                continue
            checked = self._validate(plugin.model, options, (table, key))
            if checked is not None:
                found.append((key, plugin, checked))
        return found

    def _plugin(self, where: str, kind: PluginKind, type_name: Any) -> Plugin | None:
        known = self.registry.types(kind)
        if type_name is None:
            self._problem(f"{where}.type", "is missing", f"one of {', '.join(known)}")
            return None
        plugin = self.registry.connector(type_name) if kind == "connector" else self.registry.source(type_name)
        if plugin is None:
            near = difflib.get_close_matches(str(type_name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}"
            self._problem(f"{where}.type", f"no {kind} of type {str(type_name)[:60]!r} is installed", hint)
            return None
        if plugin.implementation is None:
            self._problem(
                f"{where}.type", f"{type_name!r} is installed but does not load: {plugin.error}", plugin.hint or ""
            )
            return None
        return plugin

    def _validate(self, model: type[pydantic.BaseModel], values: Mapping[str, Any], where: tuple[str, ...]) -> Any:
        try:
            return model.model_validate(values, context={"base": self.base})
        except pydantic.ValidationError as error:
            # The input is left out on purpose: it may be a secret.
            for detail in error.errors(include_url=False, include_input=False):
                self._explain(model, detail, where)
        except PluginError as error:
            self._problem(".".join(where), str(error))
        return None

    def _explain(self, model: type[pydantic.BaseModel], detail: Any, where: tuple[str, ...]) -> None:
        location = [str(part) for part in detail["loc"]]
        key = ".".join((*where, *location))
        if detail["type"] == "extra_forbidden":
            known = _keys_at(model, location[:-1])
            near = difflib.get_close_matches(location[-1], known, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
            self._problem(key, "is not a known key", remedy)
        elif detail["type"] == "missing":
            field = _field_at(model, location)
            self._problem(key, "is missing", (field.description or "") if field else "")
        else:
            field = _field_at(model, location)
            message = detail["msg"].removeprefix("Value error, ")
            self._problem(key, message[:1].lower() + message[1:], (field.description or "") if field else "")

    def _check_templates(self, connector: ConnectorInstance, site: SiteOptions) -> None:
        where = f"connectors.{connector.name}"
        hierarchy = site.scheme.hierarchy
        for key, names in (("topic", (*STATE_NAMES, *hierarchy[1:])), ("metadata_topic", METADATA_NAMES)):
            text = getattr(connector.options, key)
            if text is None:
                continue
            try:
                Template(text, names)
            except ValueError as error:
                self._problem(f"{where}.{key}", str(error), "see 'northbound preview' for what it would send")


def _field_at(model: type[pydantic.BaseModel], location: Sequence[str]) -> pydantic.fields.FieldInfo | None:
    field = None
    for part in location:
        owner = _model_of(field) if field is not None else model
        if owner is None:
            return field
        field = owner.model_fields.get(part, field)
    return field


def _keys_at(model: type[pydantic.BaseModel], location: Sequence[str]) -> list[str]:
    owner: type[pydantic.BaseModel] | None = model
    for part in location:
        field = owner.model_fields.get(part) if owner else None
        if field is not None:
            owner = _model_of(field)
    return list(owner.model_fields) if owner else []


def _model_of(field: pydantic.fields.FieldInfo) -> type[pydantic.BaseModel] | None:
    candidates = [field.annotation, *typing.get_args(field.annotation)]
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, pydantic.BaseModel):
            return candidate
    return None
