"""The secret beside the store, where the configuration names none."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from northbound.errors import StoreError

_BYTES: Final = 32
_LARGEST: Final = 4096


def path_beside(store: Path) -> Path:
    """Return where the secret of a store is."""
    return store.with_name(f"{store.name}.privacy-secret")


def read(path: Path) -> str | None:
    """Return the secret in the file at ``path``; ``None`` where there is no file.

    Raises :class:`StoreError` where it cannot be used, also where others on the machine may read it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"the privacy secret {path} cannot be read: {error.strerror}: check its permissions") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise StoreError(f"the privacy secret {path} is not a file")
        if mode & 0o077:
            raise StoreError(f"the privacy secret {path} is open to others on this machine: chmod 600 {path}")
        secret = os.read(descriptor, _LARGEST).strip()
    finally:
        os.close(descriptor)
    if len(secret) < _BYTES or not secret.isascii():
        raise StoreError(f"the privacy secret {path} is damaged: restore it from a backup, or remove it for a new one")
    return secret.decode()


def read_or_make(path: Path) -> tuple[str, bool]:
    """Return the secret at ``path``, making one where there is none, and whether it was made now."""
    found = read(path)
    if found is not None:
        return found, False
    secret = secrets.token_hex(_BYTES)
    # Made whole beside its place and linked there, so that a kill leaves none or all of it.
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{secret}\n")
            file.flush()
            os.fsync(descriptor)
        try:
            os.link(fresh, path)
        except FileExistsError:
            found = read(path)
            return (secret, True) if found is None else (found, False)
        finally:
            fresh.unlink()
    except OSError as error:
        raise StoreError(f"no privacy secret could be made at {path}: {error.strerror}") from None
    return secret, True
