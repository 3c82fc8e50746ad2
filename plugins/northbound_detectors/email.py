"""E-mail addresses.

What may stand before the '@' in theory is nearly anything. Where that would take in a path, a query or quotes around
the address, the address begins behind them: equal addresses must be equal wherever they stand.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import ClassVar

import pydantic
import re2
from pydantic import ConfigDict, Field

from northbound import Detector, Found
from northbound_detectors.matching import caseless

_LOCAL = r"[\pL\pM\pN.!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[\pL\pM\pN_-]+"
_DOMAIN = rf"(?:{_LABEL}\.)+\pL{_LABEL}"
_ANY_DOMAIN = rf"\pL{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[0-9A-Za-z:.]+\]"
_SCHEME = caseless(("mailto", "acct", "sip", "sips", "xmpp"))
_ADDRESS = rf"""://([^\s/?#"'<>\\]*)@|(?:(?:{_SCHEME}):/*)?({_LOCAL}|")@"""
#: Where the address begins behind the last of these,
_BEFORE = "/?&#|{}`"
#: and without these.
_LEADING = "'*!$%^~=.&"
#: The account of a guest in Entra ID: jane_acme.com#EXT#@partner.example
_GUEST = "#ext#"
#: What is percent-encoded; behind most of it an address begins.
_TRIPLE = re2.compile("%(?:25)*([0-9A-Fa-f]{2})")
_WITHIN = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.+_-")
_LONGEST_LOCAL = 64
_RETINA = frozenset(("1x", "2x", "3x", "4x"))


class EmailOptions(pydantic.BaseModel):
    """E-mail addresses (RFC 5321, 6531)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    single_label: bool = Field(False, description="Also addresses at a host without a dot, such as bob@localhost.")


class Email(Detector):
    """E-mail addresses (RFC 5321, 6531)."""

    Config: ClassVar[type[pydantic.BaseModel]] = EmailOptions
    literals = ("@",)

    def __init__(self, config: EmailOptions, *, name: str) -> None:
        super().__init__(config, name=name)
        domain = _ANY_DOMAIN if config.single_label else _DOMAIN
        self._address = re2.compile(f"{_ADDRESS}({domain}|{_LITERAL})")

    def find(self, text: str, key: str) -> Iterator[Found]:  # noqa: ARG002 - an address is one under any key
        """Give the addresses in ``text``, in lower case as canonical form."""
        if "@" not in text:
            return
        last: Found | None = None
        for found in self._found(text):
            if last is not None and found.start >= last.end:
                yield last
            last = found
        if last is not None:
            yield last

    def mask(self, text: str) -> str:
        """Return ``j***@***.com``."""
        local, _, domain = text.rpartition("@")
        first = local.lstrip('"')[:1]
        top = "" if domain.endswith("]") or "." not in domain else f".{domain.rpartition('.')[2]}"
        return f"{first}***@***{top}"

    def _found(self, text: str) -> Iterator[Found]:
        """Give the addresses; a quoted local part may reach back over the one before."""
        for match in self._address.finditer(text):
            start, end = match.span(1)
            if start >= 0:  # what stands before the '@' of a URL is no local part; but a user may be an address
                user = text[start:end].partition(":")[0]
                if "@" in user:
                    for found in self._found(user):
                        yield Found(start + found.start, start + found.end, found.canonical)
                continue
            at = match.end(2)
            begin = _begin(text, *match.span(2))
            length = _domain(match[3])
            if (
                begin is None
                or not length
                or (text[begin:at] == "git" and text[at + 1 + length : at + 2 + length] == ":")
            ):
                continue
            end = at + 1 + length
            yield Found(begin, end, text[begin:end].lower())


def _begin(text: str, start: int, end: int) -> int | None:
    """Return where the local part begins in this run of characters that may stand in one; ``None``: nowhere."""
    if text[start:end] == '"':
        return _quote(text, start)
    if text[start:end].isalnum():
        return start
    start += _encoded(text[start:end])
    run = text[start:end]
    is_query = "=" in run or "?" in run
    tail = end - len(_GUEST) if run[-len(_GUEST) :].lower() == _GUEST else end
    behind = start
    for character in _BEFORE:
        if character != "&" or is_query:  # r&d@example.com
            behind = max(behind, text.rfind(character, start, tail) + 1)
    while (equals := text.find("=", behind, end)) >= 0 and text[behind:equals].isidentifier():
        behind = equals + 1  # email=bob@…; the names before the '=' of a bounce address hold a '+' or '.'
    local = text[behind:end].lstrip(_LEADING)
    if not local.strip("*.") or local.lower() == _GUEST:
        return None
    if behind > start + 1 and not any(map(str.isalnum, run)):  # nothing in it is a name or a place
        return start
    return end - len(local)


def _encoded(run: str) -> int:
    """Return where in ``run`` the last percent-encoded character ends that is no part of a local part."""
    end = 0
    if "%" in run:
        for match in _TRIPLE.finditer(run):
            code = int(match[1], 16)
            if code < 0x80 and code not in _WITHIN:
                end = match.end()
    return end


def _quote(text: str, closing: int) -> int | None:
    """Return where the quoted local part begins that ends in this quote."""
    at = closing
    while (at := text.rfind('"', max(0, closing - _LONGEST_LOCAL - 1), at)) >= 0:
        before = text[max(0, at - _LONGEST_LOCAL) : at]
        if (len(before) - len(before.rstrip("\\"))) % 2 == 0:
            return at if at + 1 < closing and "\n" not in text[at:closing] else None
    return None


def _domain(domain: str) -> int:
    """Return how much of ``domain`` is one; 0 for nothing of it."""
    if domain.startswith("["):
        try:
            ipaddress.ip_address(domain[1:-1].removeprefix("IPv6:"))
        except ValueError:
            return 0
        return len(domain)
    if domain.partition(".")[0].lower() in _RETINA:  # icon@2x.png
        return 0
    return len(domain.rstrip("-_"))
