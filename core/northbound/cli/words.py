"""How values are written for people: control characters shown, times, sizes, counts. Pure."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from northbound.status import CredentialStatus

#: C0, DEL, C1, the marks that reverse the direction of text, and surrogates that no encoding takes.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def clean(text: str) -> str:
    """Return ``text`` with control characters shown instead of obeyed."""
    return _CONTROL.sub(lambda match: _SHORT.get(match.group(), f"\\u{ord(match.group()):04x}"), text)


def when(milliseconds: int) -> str:
    """Return a time (ms since 1970) as people read it, in UTC."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def size(count: int) -> str:
    """Return a number of bytes as people read it."""
    number = float(count)
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} GiB"


def plural(count: int, noun: str) -> str:
    """Return ``1 message``, ``2 messages``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def holds(credential: CredentialStatus) -> str | None:
    """Return how long what a connector signs in with still holds; ``None`` where that is not known."""
    if credential.expires is None:
        return None
    hours = (credential.expires / 1000 - time.time()) / 3600
    if hours <= 0:
        return f"the {credential.name} expired on {when(credential.expires)}"
    left = plural(int(hours / 24), "day") if hours >= 48 else f"{hours:.1f} hours"
    end = ", and is renewed by itself" if credential.renewed else ""
    return f"the {credential.name} holds for {left} more, until {when(credential.expires)}{end}"
