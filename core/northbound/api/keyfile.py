"""API keys in a file beside the store: made and revoked by the command line, seen by the running service.

A file and not a table of the store: the store has one owner, the service, and a revocation must not wait for it, nor
for its disk queue. Written whole beside its place and renamed into it, so that a reader sees the old or the new one;
a lock keeps two writers apart.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from northbound.apikeys import ApiKey, Role, hash_secret
from northbound.credentials import fingerprint
from northbound.errors import StoreError

log = logging.getLogger(__name__)

#: How often the running service looks at the file: a revoked key ends within about this time.
_LOOK_SECONDS: Final = 0.5
_LARGEST: Final = 16 * 1024**2
_MOST_KEYS: Final = 10_000
_SECRET_BYTES: Final = 32


class _File(msgspec.Struct):
    keys: list[ApiKey]
    version: int = 1


def path_beside(store: Path) -> Path:
    """Return where the keys of a store are."""
    return store.with_name(f"{store.name}.api-keys.json")


class KeyFile:
    """The file as the command line uses it. Raises :class:`northbound.StoreError` where it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def keys(self) -> dict[str, ApiKey]:
        """Return all keys by id, revoked ones included."""
        return _read(self.path)

    def create(
        self,
        name: str,
        *,
        role: Role = "user",
        org: str | None = None,
        every_org: bool = False,
        scopes: tuple[str, ...] = ("mqtt.read",),
        expires: int | None = None,
        user: str | None = None,
    ) -> tuple[ApiKey, str]:
        """Make a key and return it with its token, ``<id>.<secret>``, which nobody can show again.

        Raises ``ValueError`` where a key of that name is in use, or there are too many.
        """
        id_, secret = secrets.token_hex(16), secrets.token_urlsafe(_SECRET_BYTES)
        now = _now()
        key = ApiKey(
            id=id_, name=name, hash=hash_secret(id_, secret), role=role, org=org, every_org=every_org,
            scopes=scopes, created=now, expires=expires, user=user,
        )  # fmt: skip
        with self._changing() as keys:
            if any(other.name == name and other.holds(now) for other in keys.values()):
                raise ValueError(f"a key named {name!r} is in use: revoke it first, or take another name")
            if len(keys) >= _MOST_KEYS:
                raise ValueError(f"there are {_MOST_KEYS:,} keys: revoke some, and remove them with 'keys prune'")
            keys[id_] = key
        return key, f"{id_}.{secret}"

    def revoke(self, which: str) -> list[ApiKey]:
        """Revoke the key with this id, or those in use with this name; returns them as they are now."""
        now = _now()
        with self._changing() as keys:
            chosen = [key for key in keys.values() if key.revoked is None and which in (key.id, key.name)]
            revoked = [msgspec.structs.replace(key, revoked=now) for key in chosen]
            keys.update((key.id, key) for key in revoked)
        return revoked

    def prune(self) -> list[ApiKey]:
        """Forget the keys that no longer hold; returns them."""
        now = _now()
        with self._changing() as keys:
            gone = [key for key in keys.values() if not key.holds(now)]
            for key in gone:
                del keys[key.id]
        return gone

    @contextmanager
    def _changing(self) -> Iterator[dict[str, ApiKey]]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self.path.with_name(f"{self.path.name}.lock"), flags, 0o600)
            _give(descriptor, self.path.parent)
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}: name a store whose folder may be written to") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            keys = _read(self.path)
            before = dict(keys)
            yield keys
            if keys != before:
                _write(self.path, keys)
        finally:
            os.close(descriptor)


class KeyRing:
    """The file as the service uses it: read again when it was replaced.

    A file that cannot be read lets nobody in: a revocation may stand in it. ``error`` says what is wrong.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.error: str | None = None
        self._clock = clock
        self._looked: float | None = None
        self._print: object = None
        self._keys: dict[str, ApiKey] = {}

    def __len__(self) -> int:
        return sum(key.revoked is None for key in self._keys.values())

    def find(self, id_: str) -> ApiKey | None:
        """Return the key with this id, revoked ones included, as it was at the last :meth:`look`."""
        return self._keys.get(id_)

    def look(self, *, at_once: bool = False) -> tuple[list[ApiKey], list[ApiKey]]:
        """Read the file where it is time (or ``at_once``) and it has changed; returns what is new, and what revoked."""
        now = self._clock()
        if self._looked is not None and now - self._looked < _LOOK_SECONDS and not at_once:
            return [], []
        first, self._looked = self._looked is None, now
        found = fingerprint((self.path,))
        if found == self._print:
            return [], []
        self._print = found
        before = self._keys
        try:
            self._keys = _read(self.path)
            self.error = None
        except StoreError as error:
            self._keys = {}
            self.error = str(error)
            log.error("%s; until then no API key is taken", error)  # noqa: TRY400 - said in words
        return ([], []) if first else _changes(before, self._keys)


def _changes(before: Mapping[str, ApiKey], after: Mapping[str, ApiKey]) -> tuple[list[ApiKey], list[ApiKey]]:
    made = [key for id_, key in after.items() if id_ not in before and key.revoked is None]
    usable = {id_ for id_, key in after.items() if key.revoked is None}
    gone = [key for id_, key in before.items() if key.revoked is None and id_ not in usable]
    return made, gone


def _read(path: Path) -> dict[str, ApiKey]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StoreError(f"the API keys {path} cannot be read: {error.strerror}: check their permissions") from None
    if mode & 0o022:
        raise StoreError(f"the API keys {path} can be written by others on this machine: chmod 600 {path}")
    try:
        if len(content) > _LARGEST:
            raise ValueError(f"larger than {_LARGEST} bytes")  # noqa: TRY301 - said with the others below
        found = msgspec.json.decode(content, type=_File)
        if found.version != 1:
            raise StoreError(f"the API keys {path} are of a newer version of northbound: update this one")
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise StoreError(f"the API keys {path} are damaged: restore them from a backup, or remove the file") from None
    return {key.id: key for key in found.keys}


def _write(path: Path, keys: Mapping[str, ApiKey]) -> None:
    content = msgspec.json.format(msgspec.json.encode(_File(list(keys.values()))), indent=1)
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                _give(descriptor, path.parent)
                os.fsync(descriptor)
            fresh.replace(path)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StoreError(f"the API keys {path} cannot be written: {error.strerror}") from None


def _give(descriptor: int, folder: Path) -> None:
    """Give what root has made to the owner of the folder: the service runs as somebody else."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _now() -> int:
    return time.time_ns() // 1_000_000
