"""The audit log of access: who signed in or failed to, which keys came and went, what access refused or let through.

One line for what happened alike within a second, with its count: failing over and over does not fill the disk. What
somebody receives is not in it, nor anything of a token.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from northbound.api.access import Rules
from northbound.api.identity import Grant, Identity, SignInRefused
from northbound.apikeys import ApiKey
from northbound.journal import Journal

Happening = Literal[
    "signed in", "sign-in refused", "subscription granted", "subscription narrowed", "subscription refused",
    "publish allowed", "publish refused", "key made", "key revoked", "dead letters replayed", "dead letters dropped",
]  # fmt: skip

_WRITE_SECONDS: Final = 1.0
_MOST_DIFFERENT: Final = 5_000
_LONGEST_TOPIC: Final = 1024


class _Entry(Struct, frozen=True):
    happened: Happening
    subject: str | None = None
    role: str | None = None
    org: str | None = None
    issuer: str | None = None
    key: str | None = None
    address: str | None = None
    topic: str | None = None
    why: str | None = None


class AccessAudit:
    """Collects what happened and writes it each second. Call :meth:`run` in a task of the service."""

    def __init__(self, path: Path, *, max_bytes: int, files: int) -> None:
        self._journal = Journal(path, max_bytes=max_bytes, files=files, noun="audit log of access")
        self._counts: Counter[_Entry] = Counter()
        self._left_out = 0
        self._written: asyncio.Future[None] | None = None

    @property
    def error(self) -> str | None:
        """Why it cannot be written, or ``None``."""
        return self._journal.error

    def signed_in(self, who: Identity, address: str) -> None:
        """Note that ``who`` was let in."""
        self._note(_about("signed in", who, address=address))

    def refused(self, error: SignInRefused, address: str) -> None:
        """Note that somebody was not let in."""
        self._note(_Entry("sign-in refused", address=address, why=f"{error.reason}: {error.words}"))

    def decided(self, happened: Happening, who: Identity, topic: str) -> None:
        """Note what access said to ``who`` about a topic or a filter."""
        self._note(_about(happened, who, topic=topic[:_LONGEST_TOPIC]))

    def keys(self, made: list[ApiKey], revoked: list[ApiKey]) -> None:
        """Note which API keys are new, and which are gone."""
        for happened, keys in (("key made", made), ("key revoked", revoked)):
            for key in keys:
                self._note(_Entry(happened, subject=key.name, role=key.role, org=key.org, key=key.id))  # type: ignore[arg-type]

    async def run(self) -> None:
        """Write what happened each second, until cancelled."""
        while True:
            await asyncio.sleep(_WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Write what has happened since."""
        if self._written is not None:  # by a call that was cancelled; its thread goes on all the same
            await asyncio.shield(self._written)
        if self._counts or self._left_out or self._journal.error:
            now = time.time_ns() // 1_000_000
            rows = self._take(now)
            self._written = asyncio.get_running_loop().run_in_executor(None, self._journal.append, now, rows)
            await asyncio.shield(self._written)

    async def close(self) -> None:
        """Write the rest, and close the file."""
        await self.write()
        self._journal.close()

    def _note(self, entry: _Entry) -> None:
        if entry in self._counts or len(self._counts) < _MOST_DIFFERENT:
            self._counts[entry] += 1
        else:
            self._left_out += 1

    def _take(self, now: int) -> list[dict[str, Any]]:
        counts, self._counts = self._counts, Counter()
        left_out, self._left_out = self._left_out, 0
        rows = [{"time": now, **_shown(entry), "count": count} for entry, count in counts.items()]
        return [*rows, {"time": now, "happened": "others", "count": left_out}] if left_out else rows


class AuditedRules(Rules):
    """Rules whose decisions about subscriptions and publishing are noted; ``audit`` may be ``None``."""

    audit: AccessAudit | None = None

    def subscribe(self, who: Identity, filter: str) -> Grant:  # noqa: A002 - MQTT's word for it
        """Say how ``who`` is granted ``filter``, and note it."""
        grant = super().subscribe(who, filter)
        if self.audit is not None:
            self.audit.decided(_GRANTS[grant], who, filter)
        return grant

    def publish(self, who: Identity, topic: str) -> bool:
        """Say whether ``who`` may publish at ``topic``, and note it."""
        allowed = super().publish(who, topic)
        if self.audit is not None:
            self.audit.decided("publish allowed" if allowed else "publish refused", who, topic)
        return allowed


_GRANTS: Final[dict[Grant, Happening]] = {
    "whole": "subscription granted",
    "narrowed": "subscription narrowed",
    "refused": "subscription refused",
}


def _about(happened: Happening, who: Identity, *, address: str | None = None, topic: str | None = None) -> _Entry:
    return _Entry(happened, who.subject, who.role, who.org, who.issuer, who.key_id, address, topic)


def _shown(entry: _Entry) -> dict[str, str]:
    found = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return {name: value for name, value in found.items() if value is not None}
