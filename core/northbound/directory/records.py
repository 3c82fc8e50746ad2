"""The rows that a directory is given, and the answers it gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

NOTHING: Final[Mapping[str, Any]] = {}


class Zone(Struct, frozen=True):
    """A zone. ``tags`` say what it is (``org``, ``building``, ``level`` …); ``about`` is its metadata."""

    id: str
    tags: tuple[str, ...] = ()
    parent: str | None = None
    about: Mapping[str, Any] = NOTHING


class System(Struct, frozen=True):
    """A system: the zones it is in and the modules it has, both as ids in its own order."""

    id: str
    zones: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    about: Mapping[str, Any] = NOTHING


class Driver(Struct, frozen=True):
    """A driver. ``module_name`` is what its modules are called that have no name of their own."""

    id: str
    module_name: str = ""
    about: Mapping[str, Any] = NOTHING


class Module(Struct, frozen=True):
    """A module. ``custom_name``, where it is not blank, goes before ``name``; ``running``: it is meant to run."""

    id: str
    driver: str
    name: str = ""
    custom_name: str | None = None
    running: bool = True


Entity = Zone | System | Driver | Module


class Place(Struct, frozen=True):
    """Where a module is: the address of its values but for the state. ``org`` is ``None`` where nothing tells."""

    org: str | None
    zones: tuple[str | None, ...]
    system: str
    driver: str
    module: str
    index: int


class Moved(Struct, frozen=True):
    """A module's places have changed: clear the values at those ``gone``, publish them at the ``new``."""

    module: str
    gone: tuple[Place, ...]
    new: tuple[Place, ...]


class Described(Struct, frozen=True):
    """The metadata of an entity under one organisation is now ``about``; ``None``: it is gone there."""

    id: str
    org: str | None
    about: Mapping[str, Any] | None


def resolved_name(module: Module, driver: Driver | None) -> str:
    """Return what a module is called in topics: its own name, that of its row, that of its driver."""
    if module.custom_name is not None and module.custom_name.strip():
        return module.custom_name
    return module.name if module.name.strip() else driver.module_name if driver is not None else ""
