"""Finds plugins, once at start. The only user of pluggy's manager.

Entry points are loaded one by one: a plugin that does not load is a row with the reason and never takes the rest down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

import pluggy
import pydantic

from northbound import hookspecs
from northbound.config import ConnectorOptions, DetectorOptions, SourceOptions
from northbound.connector import Connector
from northbound.errors import PluginError
from northbound.hookspecs import PROJECT
from northbound.limits import Limits
from northbound.privacy.detector import Detector
from northbound.source import Source

PluginKind = Literal["connector", "source", "detector"]
Implementation = type[Connector | Source | Detector]

_TYPE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_LONGEST_REASON = 300
_COMMON: Mapping[PluginKind, type[pydantic.BaseModel]] = {
    "connector": ConnectorOptions,
    "source": SourceOptions,
    "detector": DetectorOptions,
}


class Plugin:
    """One row of what is installed: a connector, source or detector type, or an entry point that gave none and why."""

    def __init__(
        self,
        kind: PluginKind | None,
        type_name: str,
        *,
        package: str,
        version: str,
        implementation: Implementation | None = None,
        error: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.kind = kind
        self.type_name = type_name
        self.package = package
        self.version = version
        self.implementation = implementation
        self.error = error
        self.hint = hint

    @cached_property
    def model(self) -> type[pydantic.BaseModel]:
        """The whole table of the configuration: the plugin's options and those that every one has."""
        if self.implementation is None:
            raise PluginError(f"{self.type_name}: {self.error}")
        common = _COMMON[self.kind or "connector"]
        own = self.implementation.Config
        clash = sorted({"type", *common.model_fields} & set(own.model_fields))
        if clash:
            raise PluginError(f"its options {', '.join(clash)} are ones that every {self.kind} has")
        title = "".join(part.capitalize() for part in re.split(r"[^a-z0-9]+", self.type_name))
        fields: dict[str, Any] = {"type": (Literal[self.type_name], pydantic.Field(description="The kind of plugin."))}
        return pydantic.create_model(f"{title}{str(self.kind).capitalize()}", __base__=(own, common), **fields)


class Registry:
    """The plugins of this installation."""

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.rows: list[Plugin] = []
        if points is None:
            points = entry_points(group=PROJECT)
        # Our own first: a type of theirs cannot be taken over by a plugin whose name sorts before it.
        for point in sorted(points, key=lambda point: (_package(point) != PROJECT, point.name)):
            self._load(point)
        self.rows.sort(key=lambda row: (row.kind or "~", row.type_name))

    def types(self, kind: PluginKind) -> list[str]:
        """Return the names of the working types of one kind."""
        return [row.type_name for row in self.rows if row.kind == kind and row.implementation is not None]

    def find(self, kind: PluginKind, type_name: str) -> Plugin | None:
        """Return the type of that kind and name; ``None`` where none is installed."""
        found = [row for row in self.rows if row.type_name == type_name and row.kind in (kind, None)]
        found.sort(key=lambda row: row.implementation is None)
        return found[0] if found else None

    def _load(self, point: EntryPoint) -> None:
        package = _package(point)
        version = point.dist.version if point.dist else ""
        name = f"{package}:{point.name}"
        try:
            plugin = point.load()
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
            rows = self._collect(plugin, package, version)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a third party's import may raise anything
            # What it has pending would be held against every plugin after it.
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            rows = [self._broken(point, package, version, error)]
        self.rows.extend(rows)

    @staticmethod
    def _provided(function: Callable[[], object]) -> dict[str, Any]:
        provided = function()
        if not isinstance(provided, Mapping):
            raise PluginError("its hook returns no mapping of type names to classes")
        return dict(provided)

    def _collect(self, plugin: object, package: str, version: str) -> list[Plugin]:
        rows: list[Plugin] = []
        kinds: tuple[tuple[PluginKind, pluggy.HookCaller, Implementation], ...] = (
            ("connector", self._manager.hook.northbound_connectors, Connector),
            ("source", self._manager.hook.northbound_sources, Source),
            ("detector", self._manager.hook.northbound_detectors, Detector),
        )
        for kind, hook, base in kinds:
            for implementation in hook.get_hookimpls():
                if implementation.plugin is not plugin:
                    continue
                for type_name, found in self._provided(implementation.function).items():
                    if not (isinstance(type_name, str) and _TYPE_NAME.fullmatch(type_name)):
                        raise PluginError("a type is named by lower-case letters, digits, '-' and '_', at most 64")
                    row = Plugin(kind, type_name, package=package, version=version, implementation=found)
                    row.error = self._defect(row, base)
                    if row.error:
                        row.implementation = None
                    rows.append(row)
        if not rows:
            raise PluginError("it provides no connector, no source and no detector: is a @northbound.hookimpl missing?")
        return rows

    def _defect(self, row: Plugin, base: Implementation) -> str | None:
        found: Any = row.implementation
        if not (isinstance(found, type) and issubclass(found, base)):
            return f"what it registers is not a northbound.{base.__name__}"
        if not (isinstance(found.Config, type) and issubclass(found.Config, pydantic.BaseModel)):
            return "its Config is not a pydantic model"
        if issubclass(found, Connector) and not isinstance(found.limits, Limits):
            return "its limits are not a northbound.Limits"
        taken = self.find(row.kind, row.type_name) if row.kind else None
        if taken is not None and taken.implementation is not None:
            return f"the type {row.type_name!r} is already provided by {taken.package}"
        try:
            row.model  # noqa: B018 - building it is the check
        except Exception as error:  # noqa: BLE001 - a third party's model may raise anything; it becomes a row
            return _glance(error)
        return None

    @staticmethod
    def _broken(point: EntryPoint, package: str, version: str, error: BaseException) -> Plugin:
        hint = None
        if isinstance(error, ModuleNotFoundError) and error.name:
            missing = error.name.partition(".")[0]
            if missing == point.module.partition(".")[0]:
                hint = f"its entry point names a module that is not there: install {package} again"
            elif point.extras:
                hint = f"pip install '{package}[{','.join(point.extras)}]'"
            else:
                hint = f"pip install {missing}"
        return Plugin(None, point.name, package=package, version=version, error=_glance(error), hint=hint)


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.module


def _glance(error: BaseException) -> str:
    """Return what ``error`` says as one line of a table."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, PluginError | ImportError) and reason != type(error).__name__:
        reason = f"{type(error).__name__}: {reason}"
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 1]}…"
