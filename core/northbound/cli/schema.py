"""``northbound schema``: the JSON Schema of the whole configuration, the plugins' tables included.

It says what the file says, not what the models hold: TOML has no null, and any value may be a ``${NAME}`` reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, get_args

import click
import pydantic
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from northbound import __version__
from northbound.cli.output import emit
from northbound.config import FileModel
from northbound.fields import format_duration
from northbound.registry import Plugin, PluginKind, Registry

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = {
    "type": "string",
    "pattern": r"\$\{[^}]+\}",
    "title": "Reference",
    "description": "${NAME}, ${NAME:default} or ${file:/path}: read when the configuration is loaded.",
}
_POINTER: Final = {"$ref": "#/$defs/Reference"}
#: What pydantic writes and JSON Schema does not know.
_FOREIGN: Final = ("ge", "gt", "le", "lt", "discriminator")
_WHAT: Final[Mapping[PluginKind, str]] = {
    "connector": "Where messages go",
    "source": "Where state comes from",
    "detector": "Detectors with options, or under another name",
}


@click.command()
def schema() -> None:
    """Print the JSON Schema of the configuration.

    It holds the options of every installed plugin, so editors complete and check northbound.toml with it.

    \b
    northbound schema > northbound.schema.json
    # then, as the first line of northbound.toml (Even Better TOML, taplo):
    #:schema ./northbound.schema.json
    """  # noqa: D301 - \b keeps click from joining the lines
    emit(document(Registry()))


class _Generator(GenerateJsonSchema):
    """Writes defaults as one would write them in the file."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012 - as its base declares it

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, timedelta):
            return format_duration(dft)
        if isinstance(dft, pydantic.BaseModel):
            return dft.model_dump(mode="json", exclude_unset=True, warnings=False)
        return super().encode_default(dft)


def document(registry: Registry) -> dict[str, Any]:
    """Return the schema of a configuration for the plugins in ``registry``."""
    plugins = [row for row in registry.rows if row.implementation is not None and _describable(row)]
    pointers, shared = models_json_schema(
        [(FileModel, "validation"), *[(row.model, "validation") for row in plugins]], schema_generator=_Generator
    )
    definitions: dict[str, Any] = shared["$defs"]
    root = definitions.pop(pointers[FileModel, "validation"]["$ref"].rpartition("/")[2])
    for kind in get_args(PluginKind):
        members = {row.type_name: pointers[row.model, "validation"] for row in plugins if row.kind == kind}
        undescribed = [name for name in registry.types(kind) if name not in members]
        table = _tables(kind, [*members.values()], undescribed)
        if kind == "detector":
            definitions["PrivacyOptions"]["properties"]["detectors"] = table
        else:
            root["properties"][f"{kind}s"] = table
    for definition in [root, *definitions.values()]:
        _as_in_the_file(definition)
    for row in plugins:
        name = pointers[row.model, "validation"]["$ref"].rpartition("/")[2]
        definitions[name]["title"] = f"{row.kind} {row.type_name}"
    return {
        "$schema": _DIALECT,
        "title": f"northbound {__version__} configuration",
        "description": "What comes in, where it goes, and what is kept until it is there.",
        **{key: value for key, value in root.items() if key not in ("title", "description")},
        "required": ["sources", "connectors"],
        "$defs": {**definitions, "Reference": _REFERENCE},
    }


def _describable(row: Plugin) -> bool:
    """Whether a third party's model has a schema at all; one that has none must not take the others' away."""
    try:
        row.model.model_json_schema(schema_generator=_Generator)
    except Exception:  # noqa: BLE001 - a third party's model may raise anything
        return False
    return True


def _tables(kind: PluginKind, members: list[Any], undescribed: list[str]) -> dict[str, Any]:
    if undescribed:
        members = [*members, {"type": "object", "properties": {"type": {"enum": undescribed}}, "required": ["type"]}]
    within = "privacy." if kind == "detector" else ""
    return {
        "title": f"{kind.capitalize()}s",
        "description": f"{_WHAT[kind]}: one [{within}{kind}s.NAME] table each, with its type.",
        "type": "object",
        **({} if kind == "detector" else {"minProperties": 1}),
        "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"},
        "additionalProperties": {"anyOf": members} if members else False,
    }


def _as_in_the_file(node: Any) -> None:
    """Change a schema of pydantic's into one of the file, in place."""
    if isinstance(node, list):
        for item in node:
            _as_in_the_file(item)
        return
    if not isinstance(node, dict):
        return
    for key in _FOREIGN:
        node.pop(key, None)
    if node.get("default", ...) is None:
        del node["default"]
    for key in ("properties", "$defs"):
        for name, value in node.get(key, {}).items():
            _as_in_the_file(value)
            if key == "properties":
                node[key][name] = _or_reference(value)
    for key in ("items", "prefixItems", "anyOf", "oneOf", "allOf", "additionalProperties"):
        _as_in_the_file(node.get(key))
    if "anyOf" in node:
        node["anyOf"] = [member for member in node["anyOf"] if member != {"type": "null"}]
        if len(node["anyOf"]) == 1 and (only := node.pop("anyOf")[0]):
            node.update({key: value for key, value in only.items() if key not in node})


def _or_reference(node: dict[str, Any]) -> dict[str, Any]:
    """Return ``node`` so that a reference may stand in place of its value, where it is no plain string anyway."""
    if "anyOf" in node:
        if any(_is_table(member) or _takes_any_string(member) for member in node["anyOf"]):
            return node
        return {**node, "anyOf": [*node["anyOf"], _POINTER]}
    if _is_table(node) or _takes_any_string(node) or "const" in node:
        return node
    outer: dict[str, Any] = {key: node[key] for key in ("title", "description", "default", "examples") if key in node}
    inner = {key: value for key, value in node.items() if key not in outer}
    return {**outer, "anyOf": [inner, _POINTER]}


def _is_table(node: dict[str, Any]) -> bool:
    return "$ref" in node or node.get("type") in ("object", "array") or "type" not in node


def _takes_any_string(node: dict[str, Any]) -> bool:
    return node.get("type") == "string" and not {"pattern", "enum", "const", "maxLength"} & node.keys()
