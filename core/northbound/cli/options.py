"""The options of a pydantic model as rows for people: key, type, default, meaning. Pure."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Collection
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pydantic
from msgspec import Struct
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from northbound.fields import format_duration

_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    timedelta: "duration",
    pydantic.ByteSize: "size",
    pydantic.SecretStr: "secret",
    pydantic.SecretBytes: "secret",
}
_EXAMPLES = {"whole number": "1", "number": "1.0", "true or false": "true", "duration": '"30s"', "size": '"1 MiB"'}

#: How a default is written, the narrower type first: a size is a number, too.
_WRITTEN: dict[type, Callable[[Any], str]] = {
    pydantic.SecretStr: lambda value: '"***"' if value.get_secret_value() else '""',
    pydantic.SecretBytes: lambda value: '"***"' if value.get_secret_value() else '""',
    bool: lambda value: str(value).lower(),
    timedelta: lambda value: f'"{format_duration(value)}"',
    pydantic.ByteSize: lambda value: f'"{_size(value)}"',
    str: lambda value: f'"{value}"',
    Path: lambda value: f'"{value}"',
}
_ANYTHING = '"…"'


class Option(Struct, frozen=True):
    """One key of a table; ``default`` as one would write it, empty where there is none."""

    key: str
    type: str
    default: str
    required: bool
    description: str


def of_model(model: type[pydantic.BaseModel], *, without: Collection[str] = (), prefix: str = "") -> list[Option]:
    """Return the options of ``model``; those of a table within it are ``table.key``."""
    options: list[Option] = []
    for name, field in model.model_fields.items():
        if name in without:
            continue
        key = f"{prefix}{field.alias or name}"
        nested = _table(field.annotation)
        if nested is not None:
            options += of_model(nested, prefix=f"{key}.")
            continue
        required = field.is_required()
        default = "" if required else written(field.get_default(call_default_factory=True, validated_data={}))
        options.append(Option(key, type_words(field.annotation), default, required, field.description or ""))
    return options


def required_sample(options: Collection[Option]) -> list[str]:
    """Return lines of TOML that set what must be set."""
    return [f"{option.key} = {_EXAMPLES.get(option.type, _ANYTHING)}" for option in options if option.required]


def written(value: Any) -> str:
    """Return ``value`` as one would write it in the file."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{', '.join(map(written, value))}]"
    if value is None or value is PydanticUndefined:
        return ""
    return next((write(value) for kind, write in _WRITTEN.items() if isinstance(value, kind)), str(value))


def _size(value: int) -> str:
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if value and value % 1024**power == 0:
            return f"{value // 1024**power} {unit}"
    return str(int(value))


def type_words(annotation: Any) -> str:
    """Return what a person may write for ``annotation``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    members = [a for a in arguments if a not in (type(None), Ellipsis)]
    if isinstance(annotation, type) and origin is None:
        return _class_words(annotation)
    if origin is Literal:
        return " or ".join(map(written, arguments))
    if origin is typing.Annotated:
        return type_words(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(type_words, members)))
    if origin in (list, tuple, set, frozenset):
        return f"list of {' or '.join(dict.fromkeys(map(type_words, members)))}"
    return "table" if origin is dict else "any value"


def _class_words(found: type) -> str:
    if issubclass(found, Enum):
        return " or ".join(written(member) for member in found)
    return next((_WORDS[base] for base in found.__mro__ if base in _WORDS), found.__name__.lower())


def is_secret(field: FieldInfo) -> bool:
    """Whether the field is declared as a secret."""
    return "secret" in type_words(field.annotation).split(" or ")


def _table(annotation: Any) -> type[pydantic.BaseModel] | None:
    candidates = [annotation, *typing.get_args(annotation)]
    for candidate in candidates:
        if isinstance(candidate, type) and issubclass(candidate, pydantic.BaseModel):
            return candidate
    return None
