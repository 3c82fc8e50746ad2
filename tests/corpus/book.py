"""Collects the items of one detector and places values where a building has them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tests.corpus import disguises
from tests.corpus.marks import JsonText, Number, inside, marked_parts, plain, redacted, strip, throughout

MODULES = ("Bookings", "Calendar", "Display", "AreaManagement", "LocationServices", "VideoConference", "Lighting",
           "Lockers", "VisitorMailer", "StaffAPI", "WirelessLAN", "DeskManagement", "Signage", "AccessControl",
           "Camera", "VoIP")  # fmt: skip


def near(name: str) -> list[str]:
    """Return the near misses in ``near/<name>.txt``: one a line; a line that begins with a quote is a JSON string."""
    lines = Path(__file__).with_name("near").joinpath(f"{name}.txt").read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) if line.startswith('"') else line for line in lines]


class Scene(NamedTuple):
    """Where one detector's values stand: status keys, object keys, sentences with ``{}``."""

    states: Sequence[str]
    keys: Sequence[str]
    sentences: Sequence[str]


class Book:
    """The items of one detector, in order; the same seed gives the same items."""

    def __init__(self, detector: str, scene: Scene, seed: int) -> None:
        self.detector = detector
        self.scene = scene
        self.rng = Random(f"{seed}:{detector}")
        self.items: list[dict[str, Any]] = []
        self._seen: set[str] = set()

    def state(self, value: Any, state: str | None = None, **address: Any) -> dict[str, Any]:
        """Return a state event, its address a likely one where not given."""
        rng = self.rng
        event = {
            "kind": "state",
            "org": "org-acme",
            "building": f"bld-{rng.randint(1, 4)}",
            "level": f"lvl-{rng.randint(1, 9)}",
            "area": rng.choice((None, "area-north", "area-south", "area-lobby")),
            "system": f"sys-{rng.randint(1, 60)}",
            "driver": f"dep-{rng.randint(100, 180)}",
            "module": rng.choice(MODULES),
            "index": rng.randint(1, 3),
            "state": state or rng.choice(self.scene.states),
            "value": value,
        }
        if rng.random() < 0.3:
            event["time"] = 1_700_000_000_000 + rng.randint(0, 10**9)
        return event | address

    def metadata(self, entity: Mapping[str, Any], id_: str | None = None) -> dict[str, Any]:
        """Return a metadata event."""
        rng = self.rng
        name = f"{rng.choice(('Boardroom', 'Level', 'Huddle', 'Lobby', 'Studio'))} {rng.randint(1, 30)}"
        return {
            "kind": "metadata",
            "org": "org-acme",
            "id": id_ or f"sys-{rng.randint(1, 60)}",
            "metadata": {"name": name, **entity},
        }

    def true(self, form: str, event: Mapping[str, Any], note: str = "", **extra: Any) -> None:
        """Add an item in which something must go."""
        before, after = plain(event), redacted(event)
        if before == after:
            raise ValueError(f"nothing is labelled: {before}")
        self._add(form, before, after, note, extra)

    def miss(self, event: Any, note: str = "", **extra: Any) -> None:
        """Add a near miss: a value or an event in which nothing must change."""
        if not (isinstance(event, dict) and event.get("kind") in ("state", "metadata")):
            event = self.state(event)
        if plain(event) != redacted(event):
            raise ValueError(f"a near miss is labelled: {event}")
        self._add("near-miss", plain(event), None, note, extra)

    def misses(self, values: Iterable[Any], note: str = "", **extra: Any) -> None:
        """Add near misses, in turn alone, in a list, under a key, in a document, in metadata and in a status key."""
        rng = self.rng
        for position, value in enumerate(values):
            key = rng.choice(("label", "info", "text", "detail", "caption"))
            wrapped: list[Any] = [value, [value, "idle"], {key: value, "online": True}, value]
            if isinstance(value, str):
                wrapped.append(json.dumps({key: value, "n": 1}, ensure_ascii=False))
            if position % 7 == 5:
                self.miss(self.metadata({key: value}), note, **extra)
            elif position % 7 == 6 and isinstance(value, str) and 0 < len(value) < 60:
                self.miss(self.state("on", value), note, **extra)
            else:
                neutral = rng.choice(("status", "label", "info", "last_message", "summary", "display_text"))
                self.miss(self.state(wrapped[position % len(wrapped)], neutral), note, **extra)

    def spread(self, counts: Mapping[str, int], fragments: Sequence[str], **extra: Any) -> None:
        """Add ``counts[form]`` items of each form, taking marked ``fragments`` in turn."""
        pool = list(fragments)
        self.rng.shuffle(pool)
        source = cycle(pool)
        for form, count in counts.items():
            place = _PLACES[form]
            done = tried = 0
            while done < count:
                tried += 1
                if tried > 40 * count + 400:
                    raise ValueError(f"{self.detector}: too few values for {count} of {form}")
                event = place(self, next(source))
                if event is None or json.dumps(plain(event)) in self._seen:
                    continue
                self.true(form, event, **extra)
                done += 1

    def _add(self, form: str, before: Any, after: Any, note: str, extra: Mapping[str, Any]) -> None:
        written = json.dumps(before) + json.dumps(extra)
        if written in self._seen:
            raise ValueError(f"twice: {before}")
        self._seen |= {written, json.dumps(before)}
        item = {"id": f"{self.detector}-{len(self.items) + 1:04}", "event": before, "expected": after, "form": form}
        self.items.append(item | extra | ({"note": note} if note else {}))

    def sentence(self, fragment: str) -> str:
        """Return one of the scene's sentences around ``fragment``."""
        return self.rng.choice(self.scene.sentences).replace("{}", fragment)

    def tree(self, fragment: Any) -> dict[str, Any]:
        """Return a likely object that holds ``fragment`` somewhere."""
        rng = self.rng
        key = rng.choice(self.scene.keys)
        return rng.choice(
            (
                {key: fragment, "online": True},
                {"id": rng.randint(1, 900), "details": {key: fragment, "floor": 3}},
                {"items": [{"room": "4.12", key: fragment}], "total": 1},
                {"status": "ok", "data": {"rows": [[1, "lobby"], [2, fragment]]}},
                {"booking": {"start": 1700000000, "people": [{key: fragment, "checked_in": False}]}, "room": "West 2"},
            )
        )


def _plain(book: Book, fragment: str) -> Any:
    return book.state(fragment)


def _upper(book: Book, fragment: str) -> Any:
    changed = throughout(fragment, str.upper)
    return None if changed == fragment else book.state(changed)


def _embedded(book: Book, fragment: str) -> Any:
    return book.state(book.sentence(fragment), book.rng.choice(("last_error", "log", "message", "notes", "summary")))


def _nested(book: Book, fragment: str) -> Any:
    return book.state(book.tree(fragment))


def _array(book: Book, fragment: str) -> Any:
    rng = book.rng
    members: list[Any] = ["lobby", fragment, rng.randint(1, 90)]
    rng.shuffle(members)
    return book.state(rng.choice((members, [fragment], [[1, fragment], [2, "free"]], [{"at": fragment}, None])))


def _object_key(book: Book, fragment: str) -> Any:
    rng = book.rng
    return book.state(
        rng.choice(
            (
                {fragment: True},
                {fragment: {"desk": "D-14", "zone": "north"}, "count": 1},
                {"present": {fragment: 3}},
                {"a": 1, fragment: [1, 2], "b": 2},
            )
        )
    )


def _status_key(book: Book, fragment: str) -> Any:
    rng = book.rng
    around = rng.choice(("{}", "{}", "presence:{}", "{} online", "item/{}", "{}:status"))
    return book.state(rng.choice((True, "in", 4, {"count": 2})), around.replace("{}", fragment))


def _topic(book: Book, fragment: str) -> Any:
    rng = book.rng
    level = rng.choice(("module", "system", "driver", "area", "level", "building", "module", "area"))
    around = rng.choice(("{}", "{}", "Room {}", "{} (guest)"))
    return book.state(rng.choice((True, "ready", 21.5)), "power", **{level: around.replace("{}", fragment)})


def _metadata(book: Book, fragment: str) -> Any:
    rng = book.rng
    key = rng.choice(book.scene.keys)
    if rng.random() < 0.15:
        return book.metadata({"capacity": 8}, id_=fragment)
    return book.metadata(
        rng.choice(
            (
                {"description": book.sentence(fragment)},
                {key: fragment, "capacity": 12},
                {"settings": {key: fragment, "timezone": "Europe/London"}},
                {"features": ["vc", fragment]},
                {"notes": fragment},
            )
        )
    )


def _json_in_string(book: Book, fragment: str) -> Any:
    rng = book.rng
    document: Any = JsonText(
        rng.choice((book.tree(fragment), [fragment], {"item": fragment})), spaced=rng.random() < 0.5
    )
    if rng.random() < 0.15:
        document = JsonText({"body": document, "code": 200})
    return book.state(document if rng.random() < 0.7 else {"raw": document, "seq": 7})


def _json_escape(book: Book, fragment: str) -> Any:
    rng = book.rng

    def escape(text: str) -> str:
        return disguises.json_escape(text, rng)

    if rng.random() < 0.6:
        return book.state(JsonText(book.tree(fragment), escape=escape))
    text = JsonText({rng.choice(book.scene.keys): fragment}, escape=escape).text
    return book.state(f"POST /hook body={text} failed", "last_error")


def _in_address(book: Book, fragment: str, change: Callable[[str], str]) -> Any:
    around = book.rng.choice(
        (
            "https://rooms.example/book?who={}&room=4",
            "https://rooms.example/p/{}/today",
            "GET /api/v2/find?q={} 404",
            "room=4&item={}&limit=10",
            "{}",
        )
    )
    return book.state(around.replace("{}", throughout(fragment, change)), book.rng.choice(("url", "last_request")))


def _percent(book: Book, fragment: str) -> Any:
    return _in_address(book, fragment, disguises.percent)


def _percent_twice(book: Book, fragment: str) -> Any:
    return _in_address(book, fragment, disguises.percent_twice)


def _disguised(change: Callable[[str, Random], str]) -> Callable[[Book, str], Any]:
    def place(book: Book, fragment: str) -> Any:
        changed = inside(fragment, lambda text: change(text, book.rng))
        if changed == fragment:
            return None
        return book.rng.choice((_plain, _embedded, _nested))(book, changed)

    return place


def _html(book: Book, fragment: str) -> Any:
    changed = inside(fragment, lambda text: disguises.html(text, book.rng))
    around = book.rng.choice(("<p>{}</p>", "<td>{}</td><td>4.12</td>", "&lt;{}&gt;", "Guest:&nbsp;{}<br>", "{}"))
    return book.state(around.replace("{}", changed), "page_text")


def _number(book: Book, fragment: str) -> Any:
    parts = marked_parts(fragment)
    if len(parts) != 1 or parts[0] != strip(fragment) or not parts[0].isdecimal() or parts[0][0] == "0":
        return None
    number = Number(int(parts[0]))
    rng = book.rng
    return book.state(rng.choice((number, book.tree(number), [number, "x"], JsonText({"n": number, "ok": True}))))


_PLACES: dict[str, Callable[[Book, str], Any]] = {
    "plain": _plain,
    "upper": _upper,
    "embedded": _embedded,
    "nested": _nested,
    "array": _array,
    "object-key": _object_key,
    "status-key": _status_key,
    "topic": _topic,
    "metadata": _metadata,
    "json-in-string": _json_in_string,
    "json-escape": _json_escape,
    "percent": _percent,
    "percent-twice": _percent_twice,
    "fullwidth": _disguised(lambda text, _: disguises.fullwidth(text)),
    "zero-width": _disguised(disguises.zero_width),
    "nfd": _disguised(lambda text, _: disguises.nfd(text)),
    "unicode-dash": _disguised(disguises.unicode_dash),
    "unicode-digits": _disguised(disguises.unicode_digits),
    "html": _html,
    "number": _number,
}
