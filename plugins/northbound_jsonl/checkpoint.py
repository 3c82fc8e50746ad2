"""Where reading stopped, as it is stored with a committed batch. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

from northbound_jsonl.lines import WINDOW, Place


class Checkpoint(NamedTuple):
    """A place in a file, and what tells whether a file is that one.

    The bytes before the place decide, not the file's number: a file that was copied or restored is still the same
    to whoever reads it, and a new file that was given an old number is not.
    """

    device: int
    inode: int
    offset: int
    line: int
    window: int
    fingerprint: str

    @classmethod
    def of(cls, place: Place, device: int, inode: int) -> Checkpoint:
        """Return the checkpoint of ``place`` in that file."""
        return cls(device, inode, place.offset, place.line, len(place.window), fingerprint(place.window))

    def encode(self) -> bytes:
        """Return the stored form."""
        return json.dumps(self._asdict(), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, stored: bytes | None) -> Checkpoint | None:
        """Return what was stored; ``None`` where it is nothing or nothing that this version wrote."""
        if stored is None:
            return None
        try:
            found: Any = json.loads(stored)
            checkpoint = cls(**found)
        except (ValueError, TypeError, RecursionError):
            return None
        *numbers, text = checkpoint
        if not isinstance(text, str) or not all(type(number) is int and number >= 0 for number in numbers):
            return None
        return checkpoint if checkpoint.window <= min(checkpoint.offset, WINDOW) else None


def fingerprint(window: bytes) -> str:
    """Return what tells ``window`` from any other bytes."""
    return hashlib.blake2b(window, digest_size=16).hexdigest()
