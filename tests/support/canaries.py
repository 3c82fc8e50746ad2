"""Secrets that must not get out, events that carry them, and a search for them in whatever is left behind.

Every secret is unique and holds a mark that nothing else holds, at its beginning and at its end, so that a search for
the marks also finds half of a secret. Numbers have no room for marks: of those, the numbers themselves are searched.
"""

from __future__ import annotations

import base64
import html
import json
import random
import re
import sqlite3
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

HEAD, TAIL = "qzxj", "jxzq"
#: What no output may hold in any spelling: the marks, the claims of a JWT, the hex part of an API key, and what the
#: MAC and IP addresses begin with.
_MARKS = (HEAD, TAIL, "eyjzdwii", "c4a7c4a7c4a7", "2001:db8:c4a7", "02:c4:fe", "02-c4-fe", "02c4.fe")
_PLACES = {
    "51.5": re.compile(r"(?<!\d)51\.5\d{6}(?!\d)"),
    "-0.77": re.compile(r"-0\.77\d{4}(?!\d)"),
    "10.2": re.compile(r"(?<!\d)10\.2[0-4]\d\.2[0-4]\d\.2[0-4]\d(?!\d)"),
}
#: Cards and phones, whatever stands between their digits.
_DIGITS = re.compile(r"[0-9][0-9 ().-]*[0-9]")
_NUMBERS = re.compile(r"(?=(49291718[0-9]{8}|7400[0-9]{6}))")
_NOTHING = re.compile(rb"\0{2,}")
_ESCAPE = re.compile(r"\\+u([0-9A-Fa-f]{4})")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_ALNUM = _LETTERS + "0123456789"

Json = dict[str, Any]


class Canary(NamedTuple):
    """``text`` is the secret, ``kind`` what it is, ``key`` the key that makes it one (where it needs one)."""

    kind: str
    text: str
    key: str = ""


class Sent(NamedTuple):
    """One line, and what must become of it: ``sent``, ``dropped`` by a rule or ``refused``; ``large``: no broker's."""

    line: bytes
    control: str
    fate: str
    kind: str
    place: str
    form: str
    large: bool = False


class Maker:
    """Makes canaries, each once. ``kinds`` are those the policy knows."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._made: set[str] = set()
        self.people: list[str] = []
        self.numbers: set[str] = set()

    def make(self, kind: str) -> Canary:
        while True:
            canary: Canary = getattr(self, f"_{kind}")()
            if canary.text not in self._made:
                self._made.add(canary.text)
                return canary

    def core(self, alphabet: str = _ALNUM, length: int = 8) -> str:
        return HEAD + "".join(self.rng.choices(alphabet, k=length)) + TAIL

    def _digits(self, count: int) -> str:
        return "".join(self.rng.choices("0123456789", k=count))

    def _email(self) -> Canary:
        return Canary("email", f"{self.core()}@{self.core(_LETTERS)}.example.com")

    def _jwt(self) -> Canary:
        claims = base64.urlsafe_b64encode(json.dumps({"sub": self.core()}, separators=(",", ":")).encode()).decode()
        return Canary("jwt", f"eyJhbGciOiJIUzI1NiJ9.{claims.rstrip('=')}.{self.core(length=32)}")

    def _aws(self) -> Canary:
        return Canary("aws", f"AKIA{self.core().upper()}")

    def _github(self) -> Canary:
        return Canary("github", f"ghp_{self.core(length=28)}")

    def _api_key(self) -> Canary:
        return Canary("api_key", f"c4a7c4a7c4a7{self._digits(20)}.{self.core(length=35)}")

    def _password(self) -> Canary:
        keys = ("password", "api_key", "clientSecret", "DB_PASSWORD", "access-token", "pass\u200bword", "%70assword")
        return Canary("password", f"{self.core()}!", self.rng.choice(keys))

    def _assigned(self) -> Canary:
        return Canary("assigned", f"password={self.core()}")

    def _url(self) -> Canary:
        host = self.rng.choice(("camera.example.com:554/h264", "cam-7.example.com", "[2001:db8::9]/x"))
        return Canary("url", f"rtsp://{self.core()}:{self.core()}@{host}")

    def _mac(self) -> Canary:
        octets = ["02", "c4", "fe", *(f"{self.rng.randrange(256):02x}" for _ in range(3))]
        return Canary("mac", self.rng.choice((":", "-")).join(octets))

    def _card(self) -> Canary:
        digits = f"49291718{self._digits(7)}"
        doubled = sum(sum(divmod(int(d) * 2, 10)) for d in digits[::-2])
        digits += str(-(doubled + sum(int(d) for d in digits[-2::-2])) % 10)
        self.numbers.add(digits)
        between = self.rng.choice(("", " ", "-"))
        return Canary("card", between.join(digits[at : at + 4] for at in range(0, 16, 4)))

    def _phone(self) -> Canary:
        digits = self._digits(6)
        self.numbers.add(f"7400{digits}")
        return Canary("phone", self.rng.choice((f"+44 7400 {digits}", f"+447400{digits}", f"+44 (0)7400 {digits}")))

    def _ip(self) -> Canary:
        if self.rng.random() < 0.3:
            return Canary("ip", f"2001:db8:c4a7:{self.rng.randrange(4096, 65536):x}::{self.rng.randrange(1, 65536):x}")
        return Canary("ip", ".".join(("10", *(str(self.rng.randrange(200, 250)) for _ in range(3)))))

    def _user_id(self) -> Canary:
        return Canary("user_id", f"user-{self.core(length=2)[:-4]}{''.join(self.rng.choices(_ALNUM.upper(), k=4))}")

    def _person(self) -> Canary:
        name = f"{self.core(_LETTERS, 4).title()} {self.core(_LETTERS, 5).title()}"
        self.people.append(name)
        return Canary("person", name)

    def _coordinates(self) -> Canary:
        return Canary("coordinates", f"51.5{self._digits(5)}{self.rng.randrange(1, 10)}")

    def _badge(self) -> Canary:
        return Canary("badge", f"BDG-{self.core().upper()}")


#: What the default policy takes out.
DEFAULT_KINDS = ("email", "jwt", "aws", "github", "api_key", "password", "assigned", "url")
STRICT_KINDS = (*DEFAULT_KINDS, "mac", "card", "phone", "ip", "user_id", "person", "coordinates", "badge")


# how a text may be disguised


def _backslashes(text: str) -> str:
    return "".join(f"\\u{ord(c):04x}" for c in text)


def _zero_width(text: str) -> str:
    return "\u200b".join(text[at : at + 3] for at in range(0, len(text), 3))


def _full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def _percent(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "percent": _percent,
    "percent twice": lambda text: _percent(text).replace("%", "%25"),
    "some percent": lambda text: "".join(f"%{ord(c):02x}" if not c.isalnum() else c for c in text),
    "escaped": _backslashes,
    "references": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "full-width": _full_width,
    "zero-width": _zero_width,
    "both": lambda text: _percent(_zero_width(text)),
    "upper": str.upper,
    "wire": str,  # the line itself is written with the escapes of JSON
}
_CASELESS = {"email", "password", "mac", "person", "url"}


def forms(kind: str) -> list[str]:
    return [form for form in FORMS if form != "upper" or kind in _CASELESS]


# where a text may stand


def _line(canary: Canary, place: str, text: str, control: str, rng: random.Random) -> Json:
    """Return the event that carries ``text`` in ``place``."""
    event: Json = {
        "kind": "state", "org": "org-acme", "building": "bld-1", "level": "lvl-2", "area": None, "system": "sys-7",
        "driver": control, "module": "Display", "index": rng.randrange(1, 4), "state": f"of {control}",
        "value": {"control": control, "power": True},
    }  # fmt: skip
    within = {canary.key: text} if canary.key else {"note": f"room 7, {text} was here"}
    match place:
        case "value":
            event["value"] |= within
        case "alone":
            event["value"] = [text, control] if not canary.key else within
        case "deep":
            event["value"]["a"] = [{"b": {"c": [None, 1.5, [within]]}}]
        case "key":
            event["value"]["seen"] = {text: 3}
        case "json":
            event["value"]["raw"] = json.dumps(within)
        case "json in json":
            event["value"]["raw"] = json.dumps({"body": json.dumps([within])}, ensure_ascii=False)
        case "key of status":
            event |= {"state": canary.key, "value": text}
        case "metadata":
            metadata = {"name": "Boardroom", "control": control, "contact": {"list": [within]}}
            event = {"kind": "metadata", "org": "org-acme", "id": control, "metadata": metadata}
        case "id":
            event = {"kind": "metadata", "org": "org-acme", "id": text, "metadata": {"control": control}}
        case "cleared":
            del event["value"]
            event |= {"kind": "cleared", "module": text}
        case "location":
            event["value"]["location"] = {"lat": float(text), "lon": float(f"-0.77{text[-4:]}")}
        case "number":
            event["value"]["pan"] = int(text.replace(" ", "").replace("-", ""))
        case _:
            event[place] = text
            if place == "driver":
                event["system"] = control
    return event


_IN_VALUE = ("value", "alone", "deep", "json", "json in json", "metadata")
_IN_TOPIC = ("org", "building", "level", "area", "system", "driver", "module", "state", "id", "cleared")
_EVERYWHERE = (*_IN_VALUE, "key", *_IN_TOPIC)


def places(kind: str) -> tuple[str, ...]:
    if kind == "password":
        return (*_IN_VALUE, "key of status")
    if kind == "coordinates":
        return ("location",)
    return (*_EVERYWHERE, "number") if kind == "card" else _EVERYWHERE


def events(maker: Maker, count: int, kinds: tuple[str, ...], *, tripwire: bool = False) -> list[Sent]:
    """Return ``count`` lines, each with a canary of its own: kinds, places and forms in turn, all with each other.

    Some are malformed, and some too large for a destination that takes 4 KiB; with ``tripwire`` some hold the word that
    makes a detector of the tests fail.
    """
    every = [(kind, place, form) for kind in kinds for place in places(kind) for form in forms(kind)]
    for place in ("location", "number"):  # JSON numbers have one form only
        rows = [each for each in every if each[1] == place]
        every = [each for each in every if each[1] != place] + [(*each[:2], "plain") for each in rows] * 3
    maker.rng.shuffle(every)
    made = []
    for number in range(count):
        kind, place, form = every[number % len(every)]
        canary = maker.make(kind)
        if number % 23 == 11:
            # A password is none without its key.
            canary = maker.make("email") if kind in ("coordinates", "password") else canary
            made.append(_malformed(canary, number, maker))
        else:
            made.append(_sent(canary, place, form, number, maker.rng, tripwire=tripwire and number % 41 == 17))
    return made


def control_of(number: int) -> str:
    """Return a word that is nobody's: no digits, so that no detector of numbers takes it."""
    letters = ""
    for _ in range(5):
        number, digit = divmod(number, 20)
        letters += "bcdfghklmnprstvwaeiu"[digit]
    return f"ctl-{letters}"


CONTROL = re.compile(rb"ctl-[a-z]{5}")


def _sent(canary: Canary, place: str, form: str, number: int, rng: random.Random, *, tripwire: bool) -> Sent:
    control = control_of(number)
    text = FORMS[form](canary.text)
    event = _line(canary, place, text, control, rng)
    fate = "dropped" if canary.kind == "badge" else "sent"
    large = False
    if tripwire and fate == "sent" and isinstance(event.get("value"), dict):
        event["value"]["hint"] = f"tripwire {text}"
        fate = "refused"
    elif number % 29 == 3 and isinstance(event.get("value"), dict):
        event["value"]["padding"] = "x" * 5000
        large = True
    line = json.dumps(event, ensure_ascii=bool(number % 2))
    if form == "wire":
        line = line.replace(json.dumps(text)[1:-1], _backslashes(text))
    return Sent(line.encode(), control, fate, canary.kind, place, form, large)


def _malformed(canary: Canary, number: int, maker: Maker) -> Sent:
    """Return a line that is no event, with the canary where a reason could quote it."""
    text = canary.text
    event = _line(canary, "value", text, control_of(number), maker.rng)
    where = number // 23 % 12
    if where == 0:
        event[text] = 1
    elif where == 1:
        event[f"the visitor of today is {text}"] = 1
    elif where == 2:
        event["index"] = text
    elif where == 3:
        event["kind"] = text
    elif where == 4:
        del event["value"]
        event["system"] = text
    elif where == 5:
        event |= {"index": 0, "module": text}
    elif where == 6:
        event |= {"time": -1, "state": text}
    elif where == 7:
        event["metadata"] = text
    elif where == 8:
        event = {"kind": "metadata", "org": "org-acme", "id": "", "metadata": {text: text}}
    elif where == 9:
        event["region"] = text
    line = json.dumps(event).encode()
    if where == 10:
        line = line[:-3]
    elif where == 11:
        line = line[:-1] + b', "' + text.encode() + b'": "\xff"}'
    return Sent(line, control_of(number), "refused", canary.kind, f"malformed {where}", "plain")


# the search


def spellings(text: str) -> Iterator[str]:
    """Give ``text`` in lower case, and after each round of undoing what could hide something in it."""
    yield text.lower()
    for _ in range(4):
        before = text
        if "%" in text:
            text = unquote(text, errors="replace")
        if "\\u" in text:
            text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
        if "&#" in text:
            text = html.unescape(text)
        if not text.isascii():
            text = unicodedata.normalize("NFKC", text)
            text = "".join(c for c in text if c.isascii() or unicodedata.category(c) != "Cf")
        if text == before:
            return
        yield text.lower()


def canaries_in(data: bytes, numbers: AbstractSet[str] = frozenset()) -> set[str]:
    """Return the canaries in ``data``, in whatever spelling, each with a little of what is around it."""
    found: set[str] = set()
    for text in spellings(data.decode("utf-8", "replace")):
        for mark in _MARKS:
            found |= {text[max(0, at - 20) : at + 40] for at in _each(mark, text)}
        for begin, pattern in _PLACES.items():
            found |= {m[0] for m in pattern.finditer(text)} if begin in text else set()
        for run in _DIGITS.finditer(text) if numbers else ():
            found |= numbers & {m[1] for m in _NUMBERS.finditer(re.sub(r"\D", "", run[0]))}
    return found


def _each(mark: str, text: str) -> Iterator[int]:
    at = text.find(mark)
    while at >= 0:
        yield at
        at = text.find(mark, at + 1)


def cells(path: Path) -> bytes:
    """Return every text and blob of an SQLite file one after the other: what pages have cut in two is whole here."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        parts = []
        for table in tables:
            for row in db.execute(f'SELECT * FROM "{table}"'):
                parts += [cell if isinstance(cell, bytes) else str(cell).encode() for cell in row]
        return b"\n".join(parts)
    finally:
        db.close()


def searched(files: Iterable[Path], numbers: AbstractSet[str] = frozenset()) -> dict[str, set[str]]:
    """Return what each of ``files`` holds that must be in none; free pages of SQLite files and WALs are bytes too."""
    found: dict[str, set[str]] = {}
    for path in files:
        data = _NOTHING.sub(b"\0", path.read_bytes())
        here = canaries_in(data, numbers)
        if data.startswith(b"SQLite format 3\0"):
            here |= canaries_in(cells(path), numbers)
        if here:
            found[path.name] = here
    return found
