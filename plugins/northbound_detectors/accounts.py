r"""Accounts of Windows with their domain: ``ACME\jdoe``, ``corp.example\jane.doe``.

A backslash is also in paths, escapes and patterns. A domain in capitals tells an account from those; one in small
letters needs a closer look at what stands around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from string import ascii_letters
from typing import Final

import re2

from northbound import Found
from northbound_detectors.matching import is_word

_WHOLE: Final = r"([0-9A-Za-z][0-9A-Za-z.-]*)\\([0-9A-Za-z][0-9A-Za-z._$@-]*)"
_AMID: Final = r"([0-9A-Za-z][0-9A-Za-z.-]*)\\([0-9A-Za-z][0-9A-Za-z._$-]+)"
#: What begins with a drive or a server: all of it may be a path, spaces too.
_PATH: Final = r"""(?:\b[A-Za-z]:\\|\\\\)[^\n"'<>|,;()]*"""
_LONGEST: Final = 256
_LONGEST_NETBIOS: Final = 15
_LOOK_BACK: Final = 24
#: Accounts of the system itself, and what is above the keys of the registry.
_SYSTEM: Final = frozenset(("authority", "builtin", "service", "hklm", "hkcu", "hkcr", "hku", "hkcc"))
#: No domain is called so; paths begin with some of them, and others are alternatives.
_NO_DOMAIN: Final = frozenset((
    "and", "or", "on", "off", "in", "out", "up", "down", "yes", "no", "left", "right", "true", "false", "am", "pm",
    "input", "output",
    "windows", "system32", "syswow64", "program", "files", "software", "drivers", "data", "programdata", "appdata",
    "roaming", "users", "public", "documents", "downloads", "desktop", "pictures", "videos", "music", "media", "images",
    "fonts", "assets", "temp", "tmp", "bin", "src", "lib", "dist", "build", "test", "tests", "docs", "doc", "logs",
    "log", "config", "conf", "etc", "var", "opt", "usr", "share", "shares", "shared", "backup", "folder", "dir", "path",
    "signage", "playlist", "playlists", "content", "templates", "scripts",
))  # fmt: skip
#: A user is not called like a file.
_FILES: Final = frozenset((
    "txt", "log", "csv", "json", "xml", "html", "htm", "pdf", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "png", "jpg",
    "jpeg", "gif", "svg", "bmp", "webp", "ico", "mp3", "mp4", "mov", "avi", "mkv", "wav", "webm", "exe", "dll", "sys",
    "msi", "bat", "cmd", "ps1", "vbs", "py", "js", "ts", "css", "rb", "cr", "cs", "sh", "ini", "cfg", "conf", "toml",
    "yml", "yaml", "zip", "gz", "tar", "7z", "rar", "db", "sqlite", "bak", "tmp", "dat", "bin", "iso", "lnk", "md",
    "pem", "key", "crt", "cer", "pfx", "rdp",
))  # fmt: skip
#: Behind one of these an account is expected.
_CUES: Final = frozenset((
    "by", "user", "users", "username", "login", "logon", "account", "runas", "as", "guest", "owner", "host", "upn",
))  # fmt: skip
#: Escapes, where a name could begin so too: line1\nline2.
_ESCAPE: Final = "[nrt]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2}"
_BEFORE_NONE: Final = frozenset("\\/.-")
#: Behind these it goes on: a path, or a pattern.
_BEHIND_NONE: Final = frozenset("/*+{[(^|")


class Accounts:
    """Finds accounts with their domain."""

    def __init__(self) -> None:
        self._whole, self._amid, self._path, self._escape = map(re2.compile, (_WHOLE, _AMID, _PATH, _ESCAPE))

    def find(self, text: str, *, is_person: bool) -> Iterator[Found]:
        """Give the accounts in ``text``. ``is_person``: the key says that somebody stands there."""
        whole = self._whole.fullmatch(text) if len(text) <= _LONGEST else None
        if whole:
            if is_person or (len(whole[2]) > 1 and _may_be(whole[1], whole[2])):
                yield Found(0, len(text), text.lower())
            return
        paths = [match.span() for match in self._path.finditer(text)]
        at = 0
        for match in self._amid.finditer(text):
            start = match.start()
            user = match[2].rstrip(".-")
            end = match.start(2) + len(user)
            while at < len(paths) and paths[at][1] <= start:
                at += 1
            in_path = at < len(paths) and paths[at][0] < start
            if (
                len(user) > 1
                and end - start <= _LONGEST
                and _is_alone(text, start, end)
                and _may_be(match[1], user)
                and (
                    _is_netbios(match[1])
                    or is_person
                    or _is_expected(text, start)
                    or not (in_path or self._escape.match(user) or text[end : end + 1] in _BEHIND_NONE)
                )
            ):
                yield Found(start, end, text[start:end].lower())


def _is_alone(text: str, start: int, end: int) -> bool:
    """Whether this is no part of a longer word or path."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if before == ":" and not text[start - 3 : start - 1].isalnum():  # C:temp\x, not user:ACME\x
        return False
    return not (is_word(before) or before in _BEFORE_NONE or is_word(after) or after == "\\")


def _is_netbios(domain: str) -> bool:
    return domain.isupper() and "." not in domain and not domain[0].isdigit() and len(domain) <= _LONGEST_NETBIOS


def _is_expected(text: str, start: int) -> bool:
    """Whether the word before says that an account follows."""
    before = text[max(0, start - _LOOK_BACK) : start].rstrip(" \t\xa0:=")
    return before[len(before.rstrip(ascii_letters)) :].lower() in _CUES


def _may_be(domain: str, user: str) -> bool:
    """Whether these may be a domain and a user: no folder and file, no pair of words, no fraction."""
    first, last = domain.lower(), user.lower()
    if first in _SYSTEM or first in _NO_DOMAIN or last in _NO_DOMAIN or not any(map(str.isalpha, domain)):
        return False
    return len(domain) > 1 and last.rpartition(".")[2] not in _FILES
