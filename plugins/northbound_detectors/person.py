"""People of whom the installation has a list, or whom a source knows."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final, Self

import pydantic
from pydantic import ConfigDict, Field

from northbound import ConfigPath, Detector, Found
from northbound_detectors.matching import in_order
from northbound_detectors.names import Names

_LARGEST: Final = 256 * 1024**2


class PersonOptions(pydantic.BaseModel):
    """Names of people."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    names: ConfigPath | None = Field(
        None, description="File of names in UTF-8, one a line, '#' before comments; of a .csv file the first column."
    )
    source: str | None = Field(None, min_length=1, description="Name of the source whose people they are.")
    single: bool = Field(False, description="Names of a single word too.")

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.names is None) == (self.source is None):
            raise ValueError("give either names, a file, or source, the name of a source")
        return self


class Person(Detector):
    """Names of people."""

    Config: ClassVar[type[pydantic.BaseModel]] = PersonOptions

    def __init__(self, config: PersonOptions, *, name: str) -> None:
        super().__init__(config, name=name)
        self._path = config.names
        self._source = config.source
        self._single = config.single
        self._names: Names | None = None
        self._read: tuple[int, int] | None = None
        self.refresh()

    def find(self, text: str, key: str) -> Iterable[Found]:  # noqa: ARG002 - a name is one under any key
        """Give the names in ``text``; raises ``RuntimeError`` before they are known."""
        if self._names is None:
            raise RuntimeError(f"the source {self._source!r} has not yet said whom it knows")
        return in_order(list(self._names.find(text)))

    def refresh(self) -> None:
        """Read the file again if it has changed; raises ``OSError``, and then the names stay what they were."""
        if self._path is None:
            return
        status = self._path.stat()
        changed = (status.st_mtime_ns, status.st_size)
        if changed != self._read:
            self._names = _names(self._path, single=self._single)
            self._read = changed

    @property
    def learns_from(self) -> str | None:
        """The source, where names come from one."""
        return self._source

    def learn(self, people: Sequence[str]) -> None:
        """Take these names in place of those before."""
        self._names = Names(people, single=self._single)


def _names(path: Path, *, single: bool) -> Names:
    if path.stat().st_size > _LARGEST:
        raise OSError(f"{path} is larger than 256 MiB")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = Names(_column(file) if path.suffix.lower() == ".csv" else _lines(file), single=single)
    except (UnicodeDecodeError, csv.Error) as error:
        raise OSError(f"{path} is no list of names in UTF-8: {error}") from None
    if not names:
        # More likely a file that is just being written than a building without people.
        raise OSError(f"{path} holds no name of two words" if not single else f"{path} holds no name")
    return names


def _lines(file: Iterable[str]) -> Iterator[str]:
    for line in file:
        name = line.partition("#")[0].strip()
        if name:
            yield name


def _column(file: Iterable[str]) -> Iterator[str]:
    for row in csv.reader(file):
        if row and not row[0].lstrip().startswith("#"):
            yield row[0]
