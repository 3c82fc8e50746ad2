"""Keys that tokens are verified with, where they come from, and that they change: PEM files and a secret."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from northbound.admission.publickeys import algorithms_of, read_pem
from northbound.credentials import fingerprint

log = logging.getLogger(__name__)

#: How often files are looked at for a replacement.
_LOOK_SECONDS: Final = 1.0
#: So many keys are tried at most for a token that does not name its own.
_MOST_TRIED: Final = 8


class VerificationKey(Struct, frozen=True):
    """One key, and the algorithms it is for; ``id`` is the ``kid`` of tokens that are signed with it."""

    id: str | None
    key: Any
    algorithms: frozenset[str]

    def __repr__(self) -> str:
        return f"<VerificationKey {self.id}>"


def chosen(keys: Iterable[VerificationKey], key_id: str | None, algorithm: str) -> list[VerificationKey]:
    """Return which of ``keys`` a token may be signed with that names ``key_id`` and ``algorithm``.

    A key without an id is tried for every token; a token without one tries every key, up to a bound.
    """
    fitting = [key for key in keys if algorithm in key.algorithms]
    named = [key for key in fitting if key.id == key_id and key_id is not None]
    others = [key for key in fitting if key_id is None or key.id is None]
    return (named or others)[:_MOST_TRIED]


class FileKeys:
    """Public keys in PEM files, which are read again when one is replaced; what cannot be read leaves the old ones."""

    def __init__(
        self, paths: Sequence[Path], algorithms: Iterable[str], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._paths = tuple(paths)
        self._algorithms = frozenset(algorithms)
        self._clock = clock
        self._looked = clock()
        self._print: object = None
        self._keys: list[VerificationKey] = []
        self._look()

    def keys(self) -> Sequence[VerificationKey]:
        """Return the keys as they are now."""
        now = self._clock()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            self._look()
        return self._keys

    def _look(self) -> None:
        found = fingerprint(self._paths)
        if found == self._print:
            return
        self._print = found
        try:
            self._keys = [self._read(path) for path in self._paths]
        except (OSError, ValueError) as error:
            log.error("keys that tokens are verified with: %s; those read before go on", error)  # noqa: TRY400 - said in words

    def _read(self, path: Path) -> VerificationKey:
        try:
            key = read_pem(path)
        except ValueError as error:
            raise ValueError(f"{path} {error}") from None
        return VerificationKey(None, key, self._algorithms.intersection(algorithms_of(key)))
