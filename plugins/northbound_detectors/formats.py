"""Secrets that are known by their form alone, wherever they stand."""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import re2

from northbound import Found
from northbound_detectors.matching import caseless, is_treated, is_word

Finder = Callable[[str], Iterator[Found]]

#: What base64url makes of the beginning of a JSON object, without and with space after the brace.
_HEADERS: Final = ("eyJ", "eyA", "ewo", "ew0", "ewk")
#: ``{"alg":""}`` is no shorter.
_SHORTEST_HEADER: Final = 14
_JWS, _JWE = 3, 5
#: A header may stand behind something else (session-eyJ…), and what is none may begin like one; of those, so many.
_MOST_BEGINNINGS: Final = 4

#: What begins like this is a secret, if enough of the right characters follow.
_PREFIXED: Final = (
    ("AKIA", r"[A-Z0-9]{16}"),  # AWS
    ("ASIA", r"[A-Z0-9]{16}"),
    ("AIza", r"[0-9A-Za-z_-]{35}"),  # Google
    ("ya29.", r"[0-9A-Za-z_-]{10}[0-9A-Za-z_.-]*"),
    ("GOCSPX-", r"[0-9A-Za-z_-]{20}[0-9A-Za-z_-]*"),
    ("1//0", r"[0-9A-Za-z_-]{20}[0-9A-Za-z_-]*"),
    *((f"gh{kind}_", r"[0-9A-Za-z]{16}[0-9A-Za-z_]*") for kind in "pousr"),  # GitHub
    ("github_pat_", r"[0-9A-Za-z_]{16}[0-9A-Za-z_]*"),
    *((f"gl{kind}-", r"[0-9A-Za-z_-]{16}[0-9A-Za-z_.-]*") for kind in ("pat", "dt", "rt", "ptt", "agent", "soat")),
    *((f"xox{kind}-", r"[0-9A-Za-z-]{10}[0-9A-Za-z-]*") for kind in "abeoprs"),  # Slack
    ("xapp-", r"[0-9A-Za-z-]{10}[0-9A-Za-z-]*"),
    *((f"{kind}_{mode}_", r"[0-9A-Za-z]{10}[0-9A-Za-z]*") for kind in ("sk", "rk") for mode in ("live", "test")),
    ("whsec_", r"[0-9A-Za-z+/=]{16}[0-9A-Za-z+/=]*"),
    ("npm_", r"[0-9A-Za-z]{30}[0-9A-Za-z]*"),
    ("pypi-", r"[0-9A-Za-z_-]{40}[0-9A-Za-z_-]*"),
    ("SG.", r"[0-9A-Za-z_-]{16}[0-9A-Za-z_-]*\.[0-9A-Za-z_-]{16}[0-9A-Za-z_-]*"),  # SendGrid
    ("hvs.", r"[0-9A-Za-z_-]{20}[0-9A-Za-z_-]*"),  # Vault
    ("dop_v1_", r"[0-9a-f]{32}[0-9a-f]*"),  # DigitalOcean
    ("sk-ant-", r"[0-9A-Za-z_-]{16}[0-9A-Za-z_-]*"),
    ("sk-proj-", r"[0-9A-Za-z_-]{16}[0-9A-Za-z_-]*"),
)  # fmt: skip
_STARTS: Final = tuple(prefix for prefix, _ in _PREFIXED)
#: None of them is shorter.
_SHORTEST: Final = 14
#: Each prefix holds one of these.
_MARKS: Final = ("_", "-", "AKIA", "ASIA", "AIza", "ya29.", "1//0", "SG.", "hvs.")
#: A letter or digit before is a part of another word; an underscore may join two.
_BY_PREFIX: Final = rf"(?:\b|_)({'|'.join(re2.escape(prefix) + rest for prefix, rest in _PREFIXED)})"
_AWS: Final = frozenset(("AKIA", "ASIA"))
#: An AWS secret right behind its key id, as in ``AKIA…:wJalr…``.
_BEHIND_AWS: Final = r"[ \t:,;/|]+([A-Za-z0-9/+]{40})(?:[^A-Za-z0-9/+]|$)"

_WEBHOOK: Final = (
    r"hooks\.slack\.com/(?:services|workflows|triggers)/([0-9A-Za-z/_-]+)"
    r"|discord(?:app)?\.com/api/webhooks/([0-9A-Za-z/_-]+)"
    r"|\.webhook\.office\.com/webhookb2/([0-9A-Za-z/@_-]+)"
)
_WEBHOOK_HOSTS: Final = ("hooks.slack.com/", "/webhooks/", ".webhook.office.com/")

_API_KEY: Final = r"[0-9a-f]{32}\.[0-9A-Za-z_-]{43}"
_API_KEY_LENGTH: Final = 76

_AUTHORIZATION: Final = rf"\b({caseless(['bearer'])}|{caseless(['basic'])})[ \t]+([0-9A-Za-z._~+/=:-]+)"
_SHORTEST_BEARER, _LONG_BEARER = 8, 20

_PEM_BEGIN: Final = r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
#: One dash at most in a row within; so a key whose end is missing ends before the next.
_PEM: Final = (
    rf"{_PEM_BEGIN}(?:[^-]|-[^-])*-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|{_PEM_BEGIN}[\sA-Za-z0-9+/=\\:,]*"
)

#: Each text with one of these forms holds one of these, whatever the case, or what :data:`PATTERNS` say.
LITERALS: Final = ("-----begin", "bearer", "basic", *_HEADERS, *_STARTS, *_WEBHOOK_HOSTS)
#: A number and a sentence hold a full stop; an API key, too.
PATTERNS: Final = (r"[0-9a-f]{32}\.",)


def finders() -> tuple[Finder, ...]:
    """Return what finds each of the forms."""
    return _jwt(), _prefixed(), _webhook(), _api_key(), _authorization(), _pem()


def _jwt() -> Finder:
    pattern = re2.compile(rf"[0-9A-Za-z_-]*(?:{'|'.join(_HEADERS)})[0-9A-Za-z_-]+(?:\.[0-9A-Za-z_-]*)+")

    def find(text: str) -> Iterator[Found]:
        if "." not in text or ("ey" not in text and "ew" not in text):
            return
        for match in pattern.finditer(text):
            start = match.start()
            parts = match[0].split(".")
            skip = 0
            for at, part in enumerate(parts[:-2]):
                if skip:
                    skip -= 1
                elif header := _header(part):
                    before, count = header
                    kept = parts[at : at + count]
                    if len(kept) == count:
                        yield Found(start + before, start + sum(map(len, kept)) + count - 1)
                        skip = count - 1
                start += len(part) + 1

    return find


def _header(part: str) -> tuple[int, int] | None:
    """Return where in ``part`` a header begins, which goes to its end, and of how many parts the token is."""
    if len(part) < _SHORTEST_HEADER:
        return None
    start = -1
    for _ in range(_MOST_BEGINNINGS):
        starts = [at for header in _HEADERS if (at := part.find(header, start + 1)) >= 0]
        if not starts:
            break
        start = min(starts)
        if count := _parts(part[start:]):
            return start, count
    return None


def _parts(header: str) -> int:
    """Return of how many parts the token with this header is; 0 where it is no header."""
    if len(header) < _SHORTEST_HEADER:
        return 0
    try:
        text = binascii.a2b_base64(header.translate(_URL_SAFE) + "==")
        if not text.rstrip().endswith(b"}"):
            return 0
        decoded: Any = json.loads(text)
    except (ValueError, RecursionError):
        return 0
    if not isinstance(decoded, dict) or "alg" not in decoded:
        return 0
    return _JWE if "enc" in decoded else _JWS


_URL_SAFE: Final = str.maketrans("-_", "+/")


def _prefixed() -> Finder:
    pattern, behind = re2.compile(_BY_PREFIX), re2.compile(_BEHIND_AWS)

    def find(text: str) -> Iterator[Found]:
        if len(text) < _SHORTEST or not any(mark in text for mark in _MARKS):
            return
        for match in pattern.finditer(text):
            start, end = match.span(1)
            if text[start : start + 4] not in _AWS:
                yield Found(start, end)
            elif (after := text[end : end + 1]) == "_" or not is_word(after):
                yield Found(start, end)
                if secret := behind.match(text[end : end + 50]):
                    yield Found(end + secret.start(1), end + secret.end(1))

    return find


def _webhook() -> Finder:
    pattern = re2.compile(_WEBHOOK)

    def find(text: str) -> Iterator[Found]:
        if not any(host in text for host in _WEBHOOK_HOSTS):
            return
        for match in pattern.finditer(text):
            group = match.lastindex
            if not is_treated(match[group]):
                yield Found(*match.span(group))

    return find


def _api_key() -> Finder:
    pattern = re2.compile(_API_KEY)

    def find(text: str) -> Iterator[Found]:
        if len(text) < _API_KEY_LENGTH or "." not in text:
            return
        for match in pattern.finditer(text):
            start, end = match.span()
            after = text[end : end + 1]
            before = text[start - 1 : start]
            if (before == "_" or not is_word(before)) and not (is_word(after) or after == "-"):
                yield Found(start, end)

    return find


def _authorization() -> Finder:
    pattern = re2.compile(_AUTHORIZATION)

    def find(text: str) -> Iterator[Found]:
        lower = text.lower()
        if "bearer" not in lower and "basic" not in lower:
            return
        for match in pattern.finditer(text):
            value = match[2]
            is_bearer = match[1].lower() == "bearer"
            if not is_treated(value) and (_is_bearer(value) if is_bearer else _is_basic(value)):
                yield Found(*match.span(2))

    return find


def _is_bearer(value: str) -> bool:
    return len(value) >= _LONG_BEARER or (len(value) >= _SHORTEST_BEARER and any(map(str.isdigit, value)))


def _is_basic(value: str) -> bool:
    try:
        return b":" in binascii.a2b_base64(value.translate(_URL_SAFE) + "==")
    except ValueError:
        return False


def _pem() -> Finder:
    pattern = re2.compile(_PEM)

    def find(text: str) -> Iterator[Found]:
        if "PRIVATE KEY" not in text:
            return
        for match in pattern.finditer(text):
            yield Found(*match.span())

    return find
