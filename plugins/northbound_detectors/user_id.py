"""What a directory or a badge system calls a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any, ClassVar, Final

import pydantic
import re2
from pydantic import ConfigDict, Field

from northbound import Detector, Found
from northbound_detectors.accounts import Accounts
from northbound_detectors.keys import words
from northbound_detectors.matching import in_order, is_treated, is_word
from northbound_detectors.regex import Pattern, compiled

_PLACEOS: Final = r"\buser-[0-9A-Za-z_~]{4}[0-9A-Za-z_~-]*"
_SID: Final = r"[Ss]-1-(?:5-21|12-1)-[0-9]+-[0-9]+-[0-9]+(?:-[0-9]+)?"
_DN: Final = r"""\b(?:[Cc][Nn]|[Uu][Ii][Dd])=((?:[^,\\=+"\n]|\\.)+)(?:\+[^,=\n]+=[^,=\n]+)?,\s*[A-Za-z]{1,3}="""
_GUID: Final = r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}"
_GOOGLE: Final = r"[0-9]{21}"

#: Under a key with one of these words, what looks like an id of a directory is a person's.
_PEOPLE: Final = frozenset((
    "user", "users", "userid", "owner", "owners", "host", "hosts", "organiser", "organisers", "organizer", "organizers",
    "oid", "sub", "subject", "upn", "attendee", "attendees", "person", "people", "member", "members", "employee",
    "employees", "staff", "visitor", "visitors", "guest", "guests", "principal",
    "approver", "assignee", "creator", "author", "booker", "occupant", "occupants", "by", "account", "profile",
    "contact", "manager", "requester", "objectid",
))  # fmt: skip
_PEOPLE_PAIRS: Final = frozenset((("object", "id"), ("google", "id"), ("directory", "id")))
#: What stands under one of these, as the last words of a key, is an id whatever it looks like.
_IDS: Final = frozenset((
    ("userid",), ("username",), ("login",), ("logon",), ("upn",), ("badge",), ("swipe",), ("samaccountname",),
    ("employeeid",), ("staffid",), ("cardnumber",), ("badgenumber",), ("badgeid",), ("employeenumber",),
    ("user", "id"), ("user", "ids"), ("user", "name"), ("user", "names"), ("logon", "name"), ("login", "name"),
    ("login", "id"),
    ("principal", "name"), ("account", "name"), ("employee", "id"), ("employee", "ids"), ("employee", "number"),
    ("employee", "no"), ("staff", "id"), ("staff", "ids"), ("staff", "number"), ("staff", "no"),
    ("personnel", "number"),
    ("person", "id"), ("payroll", "number"), ("payroll", "id"), ("badge", "id"), ("badge", "number"), ("badge", "no"),
    ("card", "number"), ("card", "id"), ("card", "no"), ("swipe", "card"), ("swipe", "id"), ("swipe", "number"),
    ("access", "card"), ("cardholder", "id"), ("visitor", "id"), ("guest", "id"), ("member", "id"), ("owner", "id"),
    ("host", "id"), ("organiser", "id"), ("organizer", "id"), ("student", "id"), ("student", "number"),
))  # fmt: skip
#: Each of these keys holds one of these.
_KEY_PARTS: Final = (
    "user", "owner", "host", "organi", "oid", "sub", "upn", "attend", "person", "people", "member", "employ", "staff",
    "visit", "guest", "principal", "approv", "assign", "creat", "auth", "book", "occup", "by", "account", "profile",
    "contact", "manag", "request", "object", "google", "directory", "log", "badge", "swipe", "card", "payroll",
    "student",
)  # fmt: skip
_NOBODY: Final = frozenset(("true", "false", "yes", "no", "null", "none", "nil", "unknown", "n/a", "-", "0"))
_ZEROS: Final = "00000000-0000-0000-0000-000000000000"
_LONGEST_ID: Final = 256


class UserIdOptions(pydantic.BaseModel):
    """Ids of people."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    guids: bool = Field(False, description="Every GUID is one, whatever the key says.")
    keys: tuple[Annotated[str, Field(min_length=1, max_length=128)], ...] = Field(
        (), description="Further keys whose strings and numbers are ids; lockerOwner is also locker_owner."
    )
    patterns: tuple[Pattern, ...] = Field((), description="What ids look like here, in RE2's syntax.")


class UserId(Detector):
    """Ids of people."""

    Config: ClassVar[type[pydantic.BaseModel]] = UserIdOptions
    literals: tuple[str, ...] = ("user-", "s-1-", "\\", "cn=", "uid=", *_KEY_PARTS)
    numbers = True

    def __init__(self, config: UserIdOptions, *, name: str) -> None:
        super().__init__(config, name=name)
        self._guids = config.guids
        self._keys = frozenset(words(key) for key in config.keys)
        self._patterns = [compiled(pattern) for pattern in config.patterns]
        if config.patterns:
            self.literals = ()
        else:
            self.literals += ("-",) * config.guids + tuple(part for key in self._keys for part in key[:1])
        self._placeos, self._sid, self._dn = map(re2.compile, (_PLACEOS, _SID, _DN))
        self._accounts = Accounts()
        self._guid, self._google = re2.compile(_GUID), re2.compile(_GOOGLE)

    def find(self, text: str, key: str) -> Iterable[Found]:
        """Give the ids in ``text``; under a key that names one, all of it."""
        found = words(key)
        if found and self._names_id(found) and (whole := _whole(text)):
            return (whole,)
        is_person = not _PEOPLE.isdisjoint(found) or found[-2:] in _PEOPLE_PAIRS
        return in_order(list(self._formed(text, is_person=is_person)))

    def _names_id(self, found: tuple[str, ...]) -> bool:
        return found[-1:] in _IDS or found[-2:] in _IDS or (bool(self._keys) and found in self._keys)

    def _formed(self, text: str, *, is_person: bool) -> Iterator[Found]:
        if "user-" in text:
            # user-agent and user-defined are words.
            yield from (found for found in _spans(self._placeos, text) if not _is_word(text[found.start : found.end]))
        if "-1-" in text:
            yield from _alone(self._sid, text, str.upper)
        if "=" in text and "," in text:
            for match in self._dn.finditer(text):
                if not is_treated(match[1]):
                    yield Found(*match.span(1))
        if "\\" in text:
            yield from self._accounts.find(text, is_person=is_person)
        if (is_person or self._guids) and text.count("-") > 3:
            yield from (found for found in _alone(self._guid, text, str.lower) if found.canonical != _ZEROS)
        if is_person and len(text) > 20:
            yield from _alone(self._google, text, None)
        for pattern in self._patterns:
            yield from _spans(pattern, text)


def _is_word(placeos: str) -> bool:
    first = placeos.split("-", 2)[1]
    return first.isalpha() and first.islower()


def _whole(text: str) -> Found | None:
    """Return all of ``text`` as an id, unless it is plainly none."""
    value = text.strip()
    if is_treated(value) or len(value) > _LONGEST_ID or value.lower() in _NOBODY:
        return None
    start = text.index(value)
    return Found(start, start + len(value))


def _spans(pattern: Any, text: str) -> Iterator[Found]:
    for match in pattern.finditer(text):
        if not is_treated(match[0]):
            yield Found(*match.span())


def _alone(pattern: Any, text: str, form: Any) -> Iterator[Found]:
    """Give the matches that are no part of a longer word."""
    for match in pattern.finditer(text):
        start, end = match.span()
        before, after = text[start - 1 : start], text[end : end + 1]
        if not is_word(before) and before != "-" and not is_word(after) and after != "-":
            yield Found(start, end, form(match[0]) if form else None)
