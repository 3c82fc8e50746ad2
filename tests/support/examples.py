"""How many examples a property is tried with."""

from __future__ import annotations

from hypothesis import settings


def examples(thorough: int) -> int:
    """Return the number for the profile in use: ``thorough`` of them by ``make slow``, a third by ``make test``."""
    return max(5, thorough * settings.default.max_examples // 100)
