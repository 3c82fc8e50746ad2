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
from northbound.errors import ConfigurationError, Problem
from northbound.limits import Limits
from northbound.privacy.detector import Detector
from northbound.privacy.options import PrivacyOptions
from northbound.registry import Plugin, PluginKind, Registry
from northbound.serving import ApiOptions
from northbound.shaping import METADATA_NAMES, STATE_NAMES, Template
from northbound.source import Source

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_REFERENCE = re.compile(r"\$\{(?:(file):([^}]+)|(?!file:)([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?)\}")
_BARE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHORTEST_SECRET = 4  # a shorter one would blacken words it has nothing to do with
_LONGEST_MESSAGE = 400
_LARGEST_FILE = 1_048_576
_LARGEST_SECRET = 65_536


_TABLES: Mapping[PluginKind, str] = {
    "connector": "connectors",
    "source": "sources",
    "detector": "privacy.detectors",
}


class Instance(Struct, frozen=True):
    """One table ``[connectors.NAME]`` or ``[sources.NAME]``, checked."""

    name: str
    plugin: Plugin
    options: Any

    def __repr__(self) -> str:
        return f"<{self.plugin.kind} {self.name!r} of type {self.plugin.type_name!r}>"


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


class DetectorInstance(Instance, frozen=True):
    """A detector that a rule names, under that name."""

    def create(self) -> Detector:
        """Return the detector itself; raises what it raises where it cannot be made (a file that is not there)."""
        implementation = self.plugin.implementation
        assert implementation is not None  # noqa: S101 - loading refused it otherwise
        detector = implementation(self.options, name=self.name)
        assert isinstance(detector, Detector)  # noqa: S101 - the registry checked the class
        return detector


class Configuration(Struct, frozen=True):
    """A whole configuration, checked; only what is enabled."""

    path: str
    site: SiteOptions
    store: StoreOptions
    service: ServiceOptions
    connectors: tuple[ConnectorInstance, ...]
    sources: tuple[SourceInstance, ...]
    privacy: PrivacyOptions
    detectors: tuple[DetectorInstance, ...]
    api: ApiOptions | None = None


def load_file(path: Path, registry: Registry, environment: Mapping[str, str] | None = None) -> Configuration:
    """Return the configuration in ``path``; raises :class:`ConfigurationError` with all of its problems."""
    name = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise ConfigurationError([Problem(name, "", "is larger than 1 MiB", "a configuration is a few pages")])
        text = content.decode()
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
    loader = _Loader(registry, name, base or Path(), os.environ if environment is None else environment)
    try:
        return loader.load(tomllib.loads(text.removeprefix("\ufeff")))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([Problem(name, "", f"is not TOML: {error}", "mend that line first")]) from None
    except RecursionError:
        raise ConfigurationError([Problem(name, "", "is nested too deeply", "write fewer brackets and dots")]) from None
    except ValueError:  # Python's own bound on the digits of a number
        raise ConfigurationError([Problem(name, "", "holds a number of thousands of digits", "write less")]) from None


class _Loader:
    def __init__(self, registry: Registry, name: str, base: Path, environment: Mapping[str, str]) -> None:
        self.registry = registry
        self.name = name
        self.base = base
        self.environment = environment
        self.problems: list[Problem] = []
        self.secrets: set[str] = set()

    def load(self, tree: dict[str, Any]) -> Configuration:
        tree = self._resolve(tree, ())
        # A table of the wrong shape must not hide the others' problems.
        sections = {key: value for key, value in tree.items() if key not in ("connectors", "sources")}
        sections.setdefault("store", {})  # its default path starts beside the file, so it has to be checked too
        model = self._validate(FileModel, sections, ())
        detectors: list[DetectorInstance] = []
        connectors = [
            ConnectorInstance(key, plugin, options) for key, plugin, options in self._instances(tree, "connector")
        ]
        sources = [SourceInstance(key, plugin, options) for key, plugin, options in self._instances(tree, "source")]
        if model is not None:
            for connector in connectors:
                self._check_templates(connector, model.site)
            detectors = self._detectors(tree, model.privacy, sources)
            self._check_rules(model.privacy, model.site, tree)
            if model.api is not None and (name := model.api.auth.api_keys_from) is not None:
                self._check_key_source(name, sources)
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
            model.privacy,
            tuple(detectors),
            model.api,
        )

    def _problem(self, key: str, message: str, remedy: str = "") -> None:
        self.problems.append(Problem(self.name, key, self._censored(message), self._censored(remedy)))

    def _censored(self, text: str) -> str:
        """Return ``text`` without what references stood for, whoever wrote it into the message, and not for ever."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text if len(text) <= _LONGEST_MESSAGE else f"{text[: _LONGEST_MESSAGE - 1]}…"

    # references to the environment and to files

    def _resolve(self, value: Any, where: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return {key: self._resolve(item, (*where, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._resolve(item, (*where, str(position))) for position, item in enumerate(value)]
        if isinstance(value, str) and "${" in value:
            if "${" in _REFERENCE.sub("-", value):
                self._problem(
                    _key(where),
                    "holds '${' that begins no reference",
                    "write ${NAME}, ${NAME:default} or ${file:/path}",
                )
            return _REFERENCE.sub(lambda match: self._reference(match, where), value)
        return value

    def _reference(self, match: re.Match[str], where: tuple[str, ...]) -> str:
        if match[1]:
            value = self._content(match[2], _key(where))
        else:
            name, default = match[3], match[4]
            found = self.environment.get(name, default)
            if found is None:
                remedy = f"set it, or write ${{{name}:default}}"
                self._problem(_key(where), f"the environment variable {name} is not set", remedy)
            value = found or ""
        if len(value) >= _SHORTEST_SECRET:
            self.secrets |= {value, repr(value)[1:-1]}
        return value

    def _content(self, name: str, key: str) -> str:
        try:
            path = self.base / Path(name).expanduser()
            with path.open("rb") as file:
                content = file.read(_LARGEST_SECRET + 1)
            if len(content) > _LARGEST_SECRET:
                self._problem(key, f"the file {path} is larger than 64 KiB", "point it at the secret alone")
            return content.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
        except OSError as error:
            self._problem(key, f"the file {name} cannot be read: {error.strerror}", "check path and permissions")
        except UnicodeDecodeError:
            self._problem(key, f"the file {name} is not UTF-8 text", "point it at a text file")
        except (ValueError, RuntimeError):  # NUL in the path; a home directory that is not known
            self._problem(key, f"{name!r} is not a path", "write ${file:/path}")
        return ""

    # tables

    def _instances(self, tree: dict[str, Any], kind: PluginKind) -> list[tuple[str, Plugin, Any]]:
        found: list[tuple[str, Plugin, Any]] = []
        table = _TABLES[kind]
        tables: Any = tree
        for part in table.split("."):
            tables = tables.get(part, {}) if isinstance(tables, dict) else {}
        if not isinstance(tables, dict):
            self._problem(table, "is not a table", f"write [{table}.NAME]")
            return found
        for key, options in tables.items():
            where = _key((*table.split("."), key))
            if not _NAME.fullmatch(key):
                self._problem(where, "is not a name", "use letters, digits, '-' and '_', at most 64")
            if not isinstance(options, dict):
                self._problem(where, "is not a table", f"write [{where}]")
                continue
            plugin = self._plugin(where, kind, options.get("type"))
            if plugin is None:
                continue
            checked = self._validate(plugin.model, options, (*table.split("."), key))
            if checked is not None:
                found.append((key, plugin, checked))
        return found

    def _plugin(self, where: str, kind: PluginKind, type_name: Any) -> Plugin | None:
        known = self.registry.types(kind)
        if type_name is None:
            self._problem(f"{where}.type", "is missing", _one_of(known))
            return None
        plugin = self.registry.find(kind, type_name)
        if plugin is None:
            shown = self._censored(str(type_name))[:60]
            near = difflib.get_close_matches(shown, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else _one_of(known)
            for other, table in _TABLES.items():
                if other != kind and type_name in self.registry.types(other):
                    hint = f"it is a {other}: write [{table}.NAME]"
            self._problem(f"{where}.type", f"no {kind} of type {shown!r} is installed", hint)
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
            told: dict[str, list[str]] = {}
            for detail in error.errors(include_url=False, include_input=False):
                location = _location(values, detail["loc"])
                key, message, remedy = self._explain(model, detail, location, where)
                if detail["type"] == "too_short" and any(other.startswith(f"{key}.") for other in told):
                    continue  # it counts only the items that were right
                if key in told and message not in told[key]:  # one value that fits no member of a union
                    before = self.problems.pop()
                    message = f"{before.message}, or {message}"
                elif key in told:
                    continue
                told.setdefault(key, []).append(message)
                self._problem(key, message, remedy)
        except Exception as error:  # noqa: BLE001 - a plugin's own check may raise anything; it may hold the value
            self._problem(
                _key(where), f"cannot be checked: {type(error).__name__}", "a defect of the plugin: report it"
            )
        return None

    @staticmethod
    def _explain(
        model: type[pydantic.BaseModel], detail: Any, location: Sequence[str], where: tuple[str, ...]
    ) -> tuple[str, str, str]:
        """Return key, message and remedy."""
        key = _key((*where, *location))
        kind = detail["type"]
        if kind == "extra_forbidden":
            known = _keys_at(model, location[:-1])
            near = difflib.get_close_matches(location[-1], known, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known))}"
            return key, "is not a known key", remedy
        field = _field_at(model, location)
        remedy = (field.description or "") if field else ""
        if kind == "missing":
            return key, "is missing", remedy
        message = detail["msg"].removeprefix("Value error, ")
        if kind in _IN_OUR_WORDS:
            message = _IN_OUR_WORDS[kind]
        return key, message[:1].lower() + message[1:], remedy or "'northbound schema' prints what is allowed"

    # privacy

    def _detectors(
        self, tree: dict[str, Any], privacy: PrivacyOptions, sources: Sequence[SourceInstance]
    ) -> list[DetectorInstance]:
        """Return the detectors the rules name, each tried once: rules that cannot be evaluated are refused."""
        found = {
            key: DetectorInstance(key, plugin, options) for key, plugin, options in self._instances(tree, "detector")
        }
        used = {name for rule in privacy.all_rules for name in rule.detect}
        for name in sorted(used - privacy.detectors.keys()):
            where = _key(("privacy", "rules", next(r.name for r in privacy.all_rules if name in r.detect), "detect"))
            plugin = self._plugin(where, "detector", name)
            options = self._validate(plugin.model, {"type": name}, ("privacy", "detectors", name)) if plugin else None
            if plugin is not None and options is not None:
                found[name] = DetectorInstance(name, plugin, options)
        for name, instance in found.items():
            where = _key(("privacy", "detectors", name))
            try:
                detector = instance.create()
                source = detector.learns_from
                if source is None:
                    list(detector.find("", ""))
                else:
                    self._check_teacher(where, source, sources)
            except OSError as error:
                self._problem(where, f"{error.filename}: {error.strerror}", "check path and permissions")
            except Exception as error:  # noqa: BLE001 - a third party's detector may raise anything
                self._problem(where, f"cannot be used: {type(error).__name__}", "a defect of the plugin: report it")
        return [instance for name, instance in found.items() if name in used]

    def _check_teacher(self, where: str, name: str, sources: Sequence[SourceInstance]) -> None:
        source = next((source for source in sources if source.name == name), None)
        if source is None or not source.options.enabled:
            self._problem(where, f"no source is named {name!r}", _one_of([source.name for source in sources]))
        elif getattr(source.plugin.implementation, "people", None) is Source.people:
            self._problem(where, f"a source of type {source.plugin.type_name!r} knows no people", "name a file instead")

    def _check_key_source(self, name: str, sources: Sequence[SourceInstance]) -> None:
        source = next((source for source in sources if source.name == name), None)
        where = "api.auth.api_keys_from"
        if source is None or not source.options.enabled:
            self._problem(where, f"no source is named {name!r}", _one_of([source.name for source in sources]))
        elif getattr(source.plugin.implementation, "api_key", None) is Source.api_key:
            self._problem(where, f"a source of type {source.plugin.type_name!r} knows no API keys", "leave it out")

    def _check_rules(self, privacy: PrivacyOptions, site: SiteOptions, tree: dict[str, Any]) -> None:
        levels = (*site.scheme.hierarchy, "system", "driver", "module", "state", "id")
        connectors = tuple(tree.get("connectors", ()))
        for rule in privacy.rules:
            for key, named, known in (("levels", rule.levels, levels), ("connectors", rule.connectors, connectors)):
                for name in named or ():
                    if name not in known:
                        near = difflib.get_close_matches(name, known, n=1)
                        hint = f"did you mean {near[0]!r}?" if near else _one_of(known)
                        where = _key(("privacy", "rules", rule.name, key))
                        self._problem(where, f"there is no {key.removesuffix('s')} {name!r}", hint)

    def _check_templates(self, connector: ConnectorInstance, site: SiteOptions) -> None:
        """Report what would make every message of a connector a dead letter."""
        try:
            made = connector.create()
        except Exception as error:  # noqa: BLE001 - a third party's connector may raise anything
            where = _key(("connectors", connector.name))
            self._problem(
                where, f"cannot be made: {type(error).__name__}: {error}", "a defect of the plugin: report it"
            )
            return
        limits = connector.options.limits.narrow(made.limits)
        scheme = site.scheme
        for key, default, names, unshaped in (
            ("topic", made.default_topic, (*STATE_NAMES, *scheme.hierarchy[1:]), len(scheme.hierarchy) + 7),
            ("metadata_topic", made.default_metadata_topic, METADATA_NAMES, 4),
        ):
            own = getattr(connector.options, key)
            problem = _template_problem(own or default, names, limits, scheme.root, unshaped)
            if problem is not None:
                remedy = "see 'northbound preview' for what it would send"
                if own is None and default is not None:
                    problem = f"the default {default!r} does not fit: {problem}"
                    remedy = f'set {key} = "…" to one of your own'
                self._problem(_key(("connectors", connector.name, key)), problem, remedy)


_IN_OUR_WORDS: Mapping[str, str] = {
    "model_type": "is not a table",
    "dict_type": "is not a table",
    "byte_size": "write a size such as '512 KiB' or '2 GiB'",
    "byte_size_unit": "write a size such as '512 KiB' or '2 GiB'",
}


def _template_problem(text: str | None, names: Sequence[str], limits: Limits, root: str, unshaped: int) -> str | None:
    levels, begin = unshaped, root
    if text is not None:
        try:
            template = Template(text, names, limits.escaped, limits.max_topic_levels)
        except ValueError as error:
            return str(error)
        levels = template.text.count("/") + (unshaped if "topic" in template.fields else 1)
        begin = text.partition("{")[0] or (root if text.startswith(("{root}", "{topic}")) else "")
    if limits.max_topic_levels is not None and levels > limits.max_topic_levels:
        return f"topics of {levels} levels: the destination takes {limits.max_topic_levels}"
    for prefix in limits.reserved_prefixes:
        if begin.startswith(prefix):
            return f"begins with {prefix!r}, which the destination keeps for itself"
    return None


def _one_of(known: Sequence[str]) -> str:
    return f"one of {', '.join(known)}" if known else "none is installed"


def _key(parts: Sequence[str]) -> str:
    """Return the dotted key as one would write it in the file; what needs quotes gets them, and is cut."""
    return ".".join(part if _BARE.fullmatch(part) else ascii(part[:64]) for part in parts)


def _location(values: Any, location: Sequence[str | int]) -> list[str]:
    """Return the keys of ``location`` that stand in the file: pydantic adds the members of unions it tried."""
    keys: list[str] = []
    last = len(location) - 1
    for position, part in enumerate(location):
        within = part < len(values) if isinstance(values, list) and isinstance(part, int) else False
        if within or (isinstance(values, Mapping) and part in values):
            values = values[part]
        elif position != last or not isinstance(values, Mapping):
            continue
        keys.append(str(part))
    return keys


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
    candidates: list[Any] = [field.annotation]
    while candidates:
        candidate = candidates.pop(0)
        if isinstance(candidate, type) and issubclass(candidate, pydantic.BaseModel):
            return candidate
        candidates.extend(typing.get_args(candidate))
    return None
