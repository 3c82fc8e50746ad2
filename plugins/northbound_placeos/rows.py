"""PlaceOS's tables: which columns are read, and what a row becomes in the directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from northbound.directory import Driver, Entity, Module, System, Zone

Detail = Literal["essential", "full"]


class Table(Struct, frozen=True):
    """A table: what it becomes, what of it is needed, and what of it is worth telling."""

    name: str
    kind: type[Entity]
    needed: tuple[str, ...]
    essential: tuple[str, ...] = ()
    described: bool = True


#: In the order of reading. The columns are those of PlaceOS/models' migrations; a column that is not there is left out.
TABLES: Final = (
    Table(
        "zone",
        Zone,
        ("id", "tags", "parent_id"),
        ("name", "display_name", "description", "location", "code", "type", "count", "capacity", "map_id", "timezone"),
    ),
    Table(
        "driver",
        Driver,
        ("id", "module_name"),
        ("name", "description", "role", "file_name", "commit"),
    ),
    Table(
        "sys",
        System,
        ("id", "zones", "modules"),
        (
            "name",
            "display_name",
            "description",
            "features",
            "bookable",
            "capacity",
            "code",
            "type",
            "map_id",
            "timezone",
        ),
    ),
    Table("mod", Module, ("id", "driver_id", "name", "custom_name", "running"), described=False),
)
#: What is never read, whatever it holds: the words that columns with secrets have in them.
_SECRET: Final = ("secret", "password", "token", "credential", "private_key")
#: Lists that only say what the directory says in topics.
_STRUCTURE: Final = frozenset(("modules", "zones"))


def columns_of(table: Table, readable: Sequence[str], detail: Detail) -> list[str]:
    """Return which ``readable`` columns are read; raises ``ValueError`` naming the needed ones not among them."""
    missing = [column for column in table.needed if column not in readable]
    if missing:
        raise ValueError(", ".join(missing))
    wanted = [*table.needed]
    if table.described:
        more = readable if detail == "full" else table.essential
        wanted += [column for column in more if column in readable and column not in wanted]
    return [column for column in wanted if not any(word in column for word in _SECRET)]


def entity(table: Table, row: Mapping[str, Any], detail: Detail) -> Entity:
    """Return what a row is; raises ``ValueError`` with the reason where it cannot be read."""
    id_ = _text(row, "id")
    if not id_:
        raise ValueError("it has no id")
    if table.kind is Module:
        driver = _text(row, "driver_id")
        running = row.get("running")
        return Module(id_, driver, _text(row, "name"), _text(row, "custom_name") or None, running is not False)
    about = _about(row, detail)
    if table.kind is Zone:
        return Zone(id_, _texts(row, "tags"), _text(row, "parent_id") or None, about)
    if table.kind is System:
        return System(id_, _texts(row, "zones"), _texts(row, "modules"), about)
    return Driver(id_, _text(row, "module_name"), about)


def _about(row: Mapping[str, Any], detail: Detail) -> dict[str, Any]:
    if detail == "full":
        return dict(row)
    return {key: value for key, value in row.items() if value not in (None, "", []) and key not in _STRUCTURE}


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{column} is not text")
    return value


def _texts(row: Mapping[str, Any], column: str) -> tuple[str, ...]:
    value = row.get(column)
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError(f"{column} is not a list")
    return tuple(item for item in value if isinstance(item, str) and item)
