"""Identifiers of people: PlaceOS users, Windows, directories, and bare ids under a key that says whose."""

from __future__ import annotations

from random import Random
from string import ascii_letters, digits
from uuid import UUID

from tests.corpus.book import Book, Scene, near
from tests.corpus.marks import JsonText, Number, mark

SCENE = Scene(
    ("host", "current_user", "booked_by", "session", "last_login", "checked_in", "locker_holder"),
    ("user", "owner", "who", "account", "by", "principal", "login", "host"),
    (
        "released by {}",
        "access denied for {}",
        "{} opened locker 14",
        "booking moved from {} to desk D-14",
        "login {} failed",
        "actor={} action=unlock",
        "[{}] signed in",
        "approved by {}.",
        "session of {} expired",
        "owner ({}) not found",
    ),
)
COUNTS = {
    "plain": 24, "embedded": 34, "nested": 20, "array": 16, "object-key": 18, "status-key": 18, "topic": 18,
    "metadata": 16,
    "json-in-string": 18, "json-escape": 12, "percent": 6, "fullwidth": 6, "zero-width": 10, "html": 8,
    "unicode-dash": 8,
}  # fmt: skip
IDS = ascii_letters + digits
DOMAINS = ("ACME", "CORP", "EMEA", "acme", "AD-LON", "CONTOSO1")
LOGINS = ("jdoe", "jane.doe", "p.okafor", "svc_rooms", "a123456", "tanaka-h", "mohamed", "JDOE")


def _user(rng: Random) -> str:
    body = "".join(rng.choice(IDS) for _ in range(9))
    return (
        f"user-{rng.choice('DEFGH')}{body}" if rng.random() < 0.8 else f"user-{body[:4]}{rng.choice('~-_')}{body[4:]}"
    )


def _sid(rng: Random) -> str:
    return "S-1-5-21-" + "-".join(str(rng.randint(10**8, 4 * 10**9)) for _ in range(3)) + f"-{rng.randint(1001, 9999)}"


def _distinguished(rng: Random) -> str:
    name = rng.choice(("Jane Doe", "Priya Patel", "jdoe", "Okafor\\, Chidi", "Müller Jürgen"))
    unit = rng.choice(("OU=Staff", "OU=Visitors,OU=London", "CN=Users", "OU=Facilities"))
    number = rng.randint(1, 99)
    return rng.choice(
        (
            f"CN={mark(name)},{unit},DC=corp,DC=example",
            f"CN={mark(name)}, {unit}, DC=corp, DC=example",
            f"uid={mark(f'jdoe{number}')},ou=people,dc=example,dc=org",
        )
    )


def _guid(rng: Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


def fill(book: Book) -> None:
    """Add the items."""
    rng = book.rng
    texts = [_user(rng) for _ in range(60)] + [_sid(rng) for _ in range(26)]
    texts += [f"{domain}\\{login}" for domain in DOMAINS for login in LOGINS[:5]]
    fragments = [mark(text) for text in sorted(set(texts))]
    book.spread(COUNTS, fragments)
    names = sorted({_distinguished(rng) for _ in range(80)})
    book.spread({"plain": 8, "nested": 10, "array": 5, "metadata": 6, "json-in-string": 6}, names)
    _keyed(book)
    _by_hand(book)
    _near(book)


def _keyed(book: Book) -> None:
    rng = book.rng
    for key in (
        "user_id", "userId", "owner", "owner_id", "host", "host_id", "organiser", "organizer", "organizer_id", "oid",
        "user", "booked_by_id",
        "attendee_id", "person_id", "creator_id", "UserID",
    ):  # fmt: skip
        if key in ("booked_by_id", "attendee_id", "person_id", "creator_id"):
            book.true("nested", book.state({key: mark(_guid(rng)), "room": "4.12"}, "booking"))
            continue
        book.true("nested", book.state({key: mark(_guid(rng)), "room": "4.12"}, "booking"))
        book.true(
            "nested", book.state({"bookings": [{"id": rng.randint(1, 99), key: mark(_guid(rng).upper())}]}, "bookings")
        )
        book.true("metadata", book.metadata({key: mark(_guid(rng))}))
        book.true(
            "json-in-string", book.state(JsonText({"event": {key: mark(_guid(rng)), "n": 1}}, spaced=True), "raw")
        )
    for key in ("user_id", "owner", "host", "organizer"):
        book.true("status-key", book.state(mark(_guid(rng)), key))
    for key in ("employee_id", "employeeId", "badge_id", "staff_id", "employee_number", "badge_number", "staff_number"):
        book.true("nested", book.state({key: mark(f"E{rng.randint(10000, 99999)}"), "door": 4}, "badge"))
        book.true("number", book.state({key: Number(rng.randint(10000, 9999999)), "door": 4}, "badge"))
        book.true("json-in-string", book.state(JsonText({key: mark(str(rng.randint(10**6, 10**7)))}), "badge"))
    for key in ("organizer", "owner", "host"):
        book.true(
            "nested",
            book.state({key: {"id": mark(_guid(rng)), "type": "staff"}}, "booking"),
            "the key above says whose",
        )
    book.true("number", book.state({"user_id": Number(48213), "door": 4}, "badge"))


def _by_hand(book: Book) -> None:
    one, two = mark("user-GdKlNp3XPz"), mark("user-EmWLJNm0i~")
    for text in (
        f"{one},{two}",
        f"{one} -> {two}",
        f"/api/staff/v1/people/{one}/calendar",
        f"https://place.example/users/{one}?q=1",
        f"user={one}",
        f"{one}:desk-14",
        f"presence/{one}",
        f"({mark('ACME' + chr(92) + 'jdoe')})",
        f"runas /user:{mark('ACME' + chr(92) + 'jdoe')}",
        f"member {mark('S-1-5-21-1004336348-1177238915-682003330-1512')} added",
        f"login {mark('corp.example' + chr(92) + 'jane.doe')} ok",
    ):
        book.true("embedded", book.state(text, "audit"))
    book.true("topic", book.state({"in": True}, one, module="Lockers"))
    book.true("array", book.state([mark(f"user-Gd0000{n:04}") for n in range(8)], "present"))


def _near(book: Book) -> None:
    rng = book.rng
    kinds = (
        "sys",
        "dep",
        "zone",
        "mod",
        "driver",
        "broker",
        "trigger",
        "repo",
        "edge",
        "authority",
        "setting",
        "asset",
    )
    book.misses(
        [
            f"{kind}-{rng.choice('DEFGH')}{''.join(rng.choice(IDS) for _ in range(9))}"
            for kind in kinds
            for _ in range(2)
        ]
    )
    book.misses(near("user_id"))
    for key in ("id", "event_id", "calendar_id", "room_id", "device", "asset_id", "correlation_id", "trace", "etag",
        "ical_uid", "request_id",
                "ghost", "template_id", "tenant_id", "location_id"):  # fmt: skip
        book.miss(book.state({key: _guid(rng), "state": "free"}, "booking"), "a neutral key")
    for key, value in (
        ("host", "display-7.example.com"), ("host", "signage-4"), ("user_agent", "Mozilla/5.0"), ("user_count", 5),
        ("users", 14),
        ("host_count", 3), ("badge_count", 12345), ("employee_count", 220), ("user", ""), ("user", None),
        ("owner", None), ("owner_id", ""),
        ("employee_id", ""), ("badge_id", None), ("user_interface", "dark"), ("hostname", "panel-4"), ("badge_printer",
        "ready"),
        ("staff_room", "4.12"), ("user_present", True), ("hosting", "on"), ("ownership", "leased"),
        ("has_owner", False),
    ):  # fmt: skip
        book.miss(book.state({key: value, "online": True}, "status"))
