"""IP addresses, both versions."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import ClassVar, Final

import pydantic
import re2
from pydantic import ConfigDict, Field

from northbound import Detector, Found
from northbound_detectors.keys import last_word
from northbound_detectors.matching import is_word

#: Runs are taken whole: five numbers with dots are no address, nor six groups with colons.
_CANDIDATE: Final = r"(?:[0-9A-Fa-f]*:){2,}[0-9A-Fa-f.]*|[0-9]+(?:\.[0-9]+){3,}"
_LONGEST: Final = 64
_LONGEST_V4: Final = 15
_SHORTEST: Final = 2
#: Four numbers behind one of these are a version.
_VERSION_WORDS: Final = frozenset((
    "v", "ver", "version", "versions", "release", "rev", "revision", "build", "firmware", "fw", "oid",
))  # fmt: skip
_BEHIND: Final = " \t=:.\"'"
_LOOK_BACK: Final = 16
_FULL_GROUPS: Final = 7  # colons of an address that leaves none out

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class IpOptions(pydantic.BaseModel):
    """IP addresses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    loopback: bool = Field(False, description="Also loopback and unspecified addresses: 127.0.0.1, ::1, 0.0.0.0, ::.")


class Ip(Detector):
    """IP addresses."""

    Config: ClassVar[type[pydantic.BaseModel]] = IpOptions
    literals = ("::",)
    literal_patterns = (r":[0-9a-f]*:", r"[0-9]\.[0-9]+\.[0-9]+\.[0-9]")

    def __init__(self, config: IpOptions, *, name: str) -> None:
        super().__init__(config, name=name)
        self._loopback = config.loopback
        self._candidate = re2.compile(_CANDIDATE)

    def find(self, text: str, key: str) -> Iterator[Found]:
        """Give the addresses in ``text`` without port, zone or prefix length; canonical is the compressed form."""
        if len(text) < _SHORTEST or (text.count(".") < 3 and text.count(":") < 2):
            return
        versions = last_word(key) in _VERSION_WORDS
        for match in self._candidate.finditer(text):
            start, end = match.span()
            if ":" in match[0]:
                found = _v6(text, start, end)
                if found is None and "." in match[0]:  # 12:30:45:192.0.2.1
                    start = text.rindex(":", start, end) + 1
                    found = None if versions else _v4(text, start, end)
            else:
                found = None if versions else _v4(text, start, end)
            if found is None:
                continue
            address, start, end = found
            if self._loopback or not (address.is_loopback or address.is_unspecified):
                yield Found(start, end, address.compressed)

    def mask(self, text: str) -> str:
        """Return the first three octets, or the first 48 bits: ``192.0.2.***``, ``2001:db8:0:***``."""
        try:
            address = _plain(ipaddress.ip_address(text))
        except ValueError:  # 192.000.002.001
            return f"{text.rpartition('.')[0]}.***"
        if isinstance(address, ipaddress.IPv4Address):
            return f"{address.compressed.rpartition('.')[0]}.***"
        return ":".join(f"{int(group, 16):x}" for group in address.exploded.split(":")[:3]) + ":***"


def _plain(address: Address) -> Address:
    """Return the IPv4 address of an IPv6 address that only wraps one."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _v4(text: str, start: int, end: int) -> tuple[Address, int, int] | None:
    if end - start > _LONGEST_V4 or text.count(".", start, end) != 3:
        return None
    after = text[end : end + 1]
    before = text[start - 1 : start]
    if (before != "_" and is_word(before)) or before == "." or (after != "_" and is_word(after)):
        return None
    try:
        address = ipaddress.IPv4Address(".".join(str(int(number)) for number in text[start:end].split(".")))
    except ValueError:
        return None
    # Masks and broadcast begin with 255, "this network" with 0.
    if address.packed[0] == 255 or (address.packed[0] == 0 and not address.is_unspecified):
        return None
    return None if _is_version(text, start) else (address, start, end)


def _is_version(text: str, start: int) -> bool:
    before = text[max(0, start - _LOOK_BACK) : start].rstrip(_BEHIND)
    at = len(before)
    while at and before[at - 1].isalpha():
        at -= 1
    return before[at:].lower() in _VERSION_WORDS


def _v6(text: str, start: int, end: int) -> tuple[Address, int, int] | None:
    if end - start > _LONGEST:
        return None
    if is_word(text[start - 1 : start]):  # id:2001:db8::1; the d is of the word
        start = text.index(":", start, end)
    while text[end - 1] == "." or (text[end - 1] == ":" and text[end - 2 : end - 1] != ":"):
        end -= 1
    if text[start] == ":" and text[start + 1 : start + 2] != ":":
        start += 1
    if (behind := text.find(":::", start, end)) >= 0:  # presence:::ffff:192.0.2.1
        start = behind + 1
    written = text[start:end]
    if "::" not in written and written.count(":") != _FULL_GROUPS - ("." in written):
        return None  # a time of day, most of the time
    # "dead::" and "a::b" are words more often than addresses.
    if is_word(text[end : end + 1]) or not (any(map(str.isdigit, written)) or written == "::"):
        return None
    try:
        return _plain(ipaddress.IPv6Address(written)), start, end
    except ValueError:
        return None
