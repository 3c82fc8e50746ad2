"""Credentials in URLs: the user-info before the host, and parameters that sign or authorise."""

from __future__ import annotations

from collections.abc import Iterable

import re2

from northbound import Detector, Found
from northbound_detectors.matching import caseless, in_order
from northbound_detectors.secrets import is_secret, names_credential

#: A password may hold a '/' or '?' that nobody encoded; then what follows the ':' is no port.
_USER_INFO = (
    r"""://([^\s/?#"'<>\\]*)@"""
    r"""|://([^\s/?#"'<>\\@\[]*:[^\s/?#"'<>\\@]*[^\s"'<>\\@0-9/?#][^\s"'<>\\@]*)@"""
    rf"""|(?:{caseless(["jdbc:oracle:"])})[A-Za-z0-9]+:([^\s"'<>@:/]+/[^\s"'<>@]+)@"""
)
_NAMES = (
    "sig", "signature", "token", "key", "apikey", "password", "passwd", "pwd", "pass", "secret", "auth",
    "authorization", "credential", "jwt", "code", "sas", "otp", "session", "sessionid", "ticket",
    "awsaccesskeyid", "assertion",
)  # fmt: skip
_PARAMETER = rf"""[?&;#]([A-Za-z0-9_.\[\]-]*(?:{caseless(_NAMES)})\]?)=([^\s&;#"'<>\\]+)"""
#: Whole names, or last words of one, that are no credential in other places.
_IN_URLS = frozenset((
    "sig", "signature", "pass", "auth", "credential", "session", "sessionid", "ticket", "awsaccesskeyid", "assertion",
))  # fmt: skip
#: These may be anything: only a long value is a credential.
_OFTEN_OTHERS = frozenset(("key", "code"))
_LONG = 16
_REFERENCE = re2.compile(r"\$\{[^{}]*\}")


class UrlCredentials(Detector):
    """Credentials in URLs, of any scheme."""

    literals = ("@", *(f"{name}=" for name in _NAMES), "]=")

    def __init__(self, config: object, *, name: str) -> None:
        super().__init__(config, name=name)
        self._user_info = re2.compile(_USER_INFO)
        self._parameter = re2.compile(_PARAMETER)

    def find(self, text: str, key: str) -> Iterable[Found]:  # noqa: ARG002 - they are ones under any key
        """Give the user-info of URLs without its '@', and the values of parameters that are credentials."""
        found: list[Found] = []
        if "@" in text and ":" in text:
            for match in self._user_info.finditer(text):
                group = match.lastindex
                if _holds_secret(match[group]):
                    found.append(Found(*match.span(group)))
        if "=" in text and ("?" in text or "&" in text or ";" in text or "#" in text):
            found += (
                Found(*match.span(2))
                for match in self._parameter.finditer(text)
                if _is_credential(match[1].rstrip("]"), match[2]) and is_secret(match[2])
            )
        return in_order(found)


def _holds_secret(user_info: str) -> bool:
    user, _, password = user_info.partition(":")
    return any(part and is_secret(part) and not _REFERENCE.fullmatch(part) for part in (user, password))


def _is_credential(name: str, value: str) -> bool:
    if names_credential(name):
        return True
    last = name.lower().replace("-", "_").replace(".", "_").rpartition("_")[2]
    return last in _IN_URLS or last.endswith("sessionid") or (last in _OFTEN_OTHERS and len(value) >= _LONG)
