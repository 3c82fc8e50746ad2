"""What outlives the process, in a small file where one is named: assignments, and the day's count."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

import msgspec

from northbound_azure_iot.provisioning import Assignment

log = logging.getLogger(__name__)
_LARGEST: int = 1024 * 1024


class _Remembered(msgspec.Struct):
    """Assignments by registration id; how much was metered on which day (days since 1970)."""

    assignments: dict[str, Assignment] = {}
    day: int = 0
    metered: int = 0


class Memory:
    """The file; without ``path`` nothing is kept. One that cannot be read or written costs its contents, no more."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._kept = _Remembered()
        if path is None:
            return
        try:
            if path.stat().st_size <= _LARGEST:
                self._kept = msgspec.json.decode(path.read_bytes(), type=_Remembered)
        except FileNotFoundError:
            pass
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s cannot be read and is begun anew: %s", path, error)

    def assignment(self, registration_id: str) -> Assignment | None:
        """Return where a registration was assigned to."""
        return self._kept.assignments.get(registration_id)

    def assigned(self, registration_id: str, assignment: Assignment) -> None:
        """Remember an assignment."""
        self._kept.assignments[registration_id] = assignment
        self._write()

    @property
    def metered(self) -> tuple[int, int]:
        """A day (days since 1970) and what was metered on it."""
        return self._kept.day, self._kept.metered

    def count(self, day: int, metered: int) -> None:
        """Remember the day's count."""
        if (day, metered) != self.metered:
            self._kept.day, self._kept.metered = day, metered
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(self._kept))
            fresh.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error)
            with contextlib.suppress(OSError):
                fresh.unlink()
