"""When a password ends that is a token: HiveMQ, EMQX, RabbitMQ and NATS take a JSON Web Token in its place."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime


def expiry(password: str) -> datetime | None:
    """Return the time in ``exp`` of a JWT (RFC 7519, section 4.1.4); None for any other password.

    The signature is the broker's business: this is only for telling people how long it holds.
    """
    parts = password.split(".")
    if len(parts) != 3 or not password.isascii():
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        end = claims["exp"]
        return datetime.fromtimestamp(end, UTC) if isinstance(end, int | float) else None
    except (ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
        return None
