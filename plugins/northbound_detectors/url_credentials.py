"""Credentials in URLs: the user-info before the host, and parameters that sign or authorise."""

from __future__ import annotations

from collections.abc import Iterable
from string import ascii_letters

import re2

from northbound import Detector, Found
from northbound_detectors.matching import caseless, in_order, is_treated
from northbound_detectors.secrets import is_secret, names_credential

#: Schemes whose user-info may stand right behind the colon; with a password only, else it is an address.
_NO_SLASHES = ("sip", "sips", "xmpp", "mailto", "acct", "turn", "turns", "stun", "stuns")
#: A password may hold a '/' or '?' that nobody encoded; then what follows the ':' is no port.
_USER_INFO = (
    r"""://([^\s/?#"'<>\\]*)@"""
    r"""|://([^\s/?#"'<>\\@\[]*:[^\s/?#"'<>\\@]*[^\s"'<>\\@0-9/?#][^\s"'<>\\@]*)@"""
    rf"""|(?:{caseless(["jdbc:oracle:"])})[A-Za-z0-9]+:([^\s"'<>@:/]+/[^\s"'<>@]+)@"""
    rf"""|\b(?:{caseless(_NO_SLASHES)}):([^\s"'<>\\@:/]+:[^\s"'<>\\@:]+)@"""
)
_AUTHORITY, _AUTHORITY_WITH_PASSWORD, _ORACLE = 1, 2, 3  # the groups
#: Schemes in which a user name alone is a token most of the time.
_TOKEN_SCHEMES = frozenset(("http", "https", "ws", "wss"))
#: Names that everybody knows, and that let nobody in.
_ACCOUNTS = frozenset((
    "git", "hg", "svn", "cvs", "anonymous", "ftp", "sftp", "backup", "root", "guest", "admin", "administrator", "user",
    "nobody", "postgres", "mysql", "pi", "ubuntu", "www-data", "oauth2", "x-access-token", "x-token-auth",
))  # fmt: skip
_TOKEN = re2.compile(r"[0-9A-Za-z._~%+/=-]+")
_LONGEST_SCHEME = 16
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
                if _holds_secret(match[group], group, text[max(0, match.start() - _LONGEST_SCHEME) : match.start()]):
                    found.append(Found(*match.span(group)))
        if "=" in text and ("?" in text or "&" in text or ";" in text or "#" in text):
            found += (
                Found(*match.span(2))
                for match in self._parameter.finditer(text)
                if _is_credential(match[1].rstrip("]"), match[2]) and is_secret(match[2])
            )
        return in_order(found)


def _holds_secret(user_info: str, group: int, before: str) -> bool:
    """Whether there is a password, or a user that is a token; ``before`` ends with the scheme."""
    user, _, password = user_info.partition(":")
    if group == _ORACLE:
        return _may_be_secret(user_info)
    if _may_be_secret(password):
        return True
    if password and not is_treated(password) and not _REFERENCE.fullmatch(password):
        return _may_be_secret(user)  # a weak password is one
    if not _may_be_secret(user) or group not in {_AUTHORITY, _AUTHORITY_WITH_PASSWORD}:
        return False
    if before[len(before.rstrip(ascii_letters)) :].lower() in _TOKEN_SCHEMES:
        return user.lower() not in _ACCOUNTS
    return _is_token(user)


def _is_token(user: str) -> bool:
    """Whether a user name alone looks like a token."""
    has_both = any(map(str.isdigit, user)) and any(map(str.isalpha, user))
    return has_both and len(user) >= _LONG and _TOKEN.fullmatch(user) is not None


def _may_be_secret(part: str) -> bool:
    return bool(part) and is_secret(part) and not _REFERENCE.fullmatch(part)


def _is_credential(name: str, value: str) -> bool:
    if names_credential(name):
        return True
    last = name.lower().replace("-", "_").replace(".", "_").rpartition("_")[2]
    return last in _IN_URLS or last.endswith("sessionid") or (last in _OFTEN_OTHERS and len(value) >= _LONG)
