"""E-mail addresses."""

from __future__ import annotations

from collections.abc import Iterator

import re2

from northbound import Detector, Found

_ADDRESS = re2.compile(r"[\pL\pM\pN.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[\pL\pN](?:[\pL\pM\pN-]{0,62})\.)+[\pL\pN][\pL\pM\pN-]{1,62}")


class Email(Detector):
    """E-mail addresses (RFC 5321 and 6531)."""

    literals = ("@",)

    def find(self, text: str, key: str) -> Iterator[Found]:  # noqa: ARG002
        """Give the addresses in ``text``."""
        if "@" in text:
            for match in _ADDRESS.finditer(text):
                yield Found(match.start(), match.end(), match.group().lower())

    def mask(self, text: str) -> str:
        """Return ``j***@***.com``."""
        local, _, domain = text.rpartition("@")
        return f"{local[:1]}***@***.{domain.rpartition('.')[2]}"
