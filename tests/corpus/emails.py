"""Addresses of mail: RFC 5321, 6531, and what only looks like them."""

from __future__ import annotations

from tests.corpus.book import Book, Scene, near
from tests.corpus.marks import JsonText, mark

SCENE = Scene(
    ("host", "booked_by", "current_user", "organiser", "checked_in", "next_guest", "contact"),
    ("email", "host", "mail", "organizer", "owner", "attendee", "user", "who", "upn", "booked_by"),
    (
        "Booked by {} until 17:30",
        "could not deliver invitation to <{}>: 550 5.1.1 unknown user",
        "Attendees: {}, 4 others",
        "Desk D-14 released ({} did not check in)",
        "login failed for {}; 3 attempts left",
        "Please contact {}.",
        "mailto:{}",
        '"Facilities" <{}>',
        "ORGANIZER;CN=Host:mailto:{}",
        "GET https://graph.example/v1.0/users/{}/events 403",
        "visitor={} badge printed",
        "Host {}'s guest is waiting at reception",
        "[{}] joined the call",
        "forwarded {} -> reception",
    ),
)

LOCALS = (
    "jane.doe", "j.okafor", "priya", "facilities+lvl2", "room.4.12", "o'brien", "a", "x_1", "sven-erik", "1044321",
    "mary.o'hara-smith", "jane+visitor=vip", "svc_rooms", "k.l.m.n", "first.last.name.that.is.long", "bookings",
    "ann.marie", "tomasz", "wei.zhang", "fatima_zahra", "no-reply", "jdoe42", "PlaceOS", "hq!desk",
)  # fmt: skip
DOMAINS = (
    "example.com", "example.org", "corp.example.com", "mail.acme.example", "eu.acme-group.example.net", "acme.test",
    "sub.domain.example.co.uk", "x1.example.edu", "northgate.example.com.au", "example.museum", "3com.example.io",
    "acme.onmicrosoft.example.com",
)  # fmt: skip
INTERNATIONAL = (
    "josé@example.com", "zoë.müller@bücher.example", "дмитрий@почта.example", "用户@例え.テスト",
    "δοκιμή@παράδειγμα.δοκιμή",
    "håkan@företag.example.se", "jürgen.groß@straße.example.de", "andré@café.example.fr", "siobhán@example.ie",
    "jane@xn--bcher-kva.example", "अजय@डाटा.भारत", "łukasz@żółw.example.pl", "renée.françois@example.fr",
    "김철수@예시.테스트",
    "nuñez@año.example.es",
)  # fmt: skip
RARE = (
    '"jane doe"@example.com', '"a@b"@example.org', '"very.(),:;<>[]"@example.com', "jane@[192.0.2.17]",
    "jane@[IPv6:2001:db8::17]", "jane_acme.com#EXT#@partner.example.com", "!#$%&'*+/=?^_`{|}~-@example.org",
    "jane%rooms@example.org", "user-@example.org", '"jane\\"x"@example.com', "postmaster@[198.51.100.4]",
    "0@example.com",
    "jane.doe@a.b.c.d.example.com", "_@example.net", "jane@example.technology",
    "r&d@example.org", "team/av@example.com",
)  # fmt: skip

COUNTS = {
    "plain": 26, "upper": 22, "embedded": 50, "nested": 28, "array": 20, "object-key": 22, "status-key": 24,
    "topic": 24, "metadata": 26, "json-in-string": 26, "json-escape": 24, "percent": 24, "percent-twice": 16,
    "fullwidth": 14, "zero-width": 18, "html": 18,
}  # fmt: skip


def fill(book: Book) -> None:
    """Add the items."""
    rng = book.rng
    common = [mark(f"{rng.choice(LOCALS)}@{rng.choice(DOMAINS)}") for _ in range(150)]
    common += [mark(f"{local}@{rng.choice(DOMAINS)}") for local in LOCALS]
    book.spread(COUNTS, sorted(set(common)) + [mark(text) for text in INTERNATIONAL[:6]])
    accented = [mark(text) for text in INTERNATIONAL if not text.isascii()]
    book.spread({"nfd": 12, "embedded": 8, "metadata": 4, "upper": 4}, accented)
    book.spread({"unicode-dash": 6}, [mark("sven-erik@example.com"), mark("no-reply@corp.example.com")])
    book.spread({"plain": 12, "nested": 12, "object-key": 3}, [mark(text) for text in RARE])
    _by_hand(book)
    _near(book)


def _by_hand(book: Book) -> None:
    two = f"{mark('jane.doe@example.com')},{mark('bob@example.org')}"
    for text in (
        f"To: {two}",
        f"{mark('jane.doe@example.com')};{mark('li.na@example.cn')}",
        f"{mark('JANE.DOE@EXAMPLE.COM')}|{mark('Bob@Example.Org')}",
        f"sip:{mark('jane.doe@example.com')};transport=tls",
        f"xmpp:{mark('jane@chat.example.com')}/desk-4",
        f"user: {mark('jane@example.com')}\nroom: 4.12",
        f"…{mark('jane@example.com')}…",
        f"({mark('jane@example.com')})",
        f"'{mark('jane@example.com')}'",
        f"mail={mark('jane@example.com')},ou=staff",
        f"{mark('jane@example.com')}\t4.12\t09:00",
        f"#{4}: {mark('jane@example.com')}!",
        f"key={mark('jane@example.com')}&x=1",
        f"{mark('jane@example.com')}: mailbox full",
        f"会議の主催者は{mark('tanaka@example.jp')}です",
        f"Gast\uff1a{mark('gast@example.de')}。",
        f"«{mark('jane@example.com')}»",
        f"{mark('jane@example.com')}/{mark('bob@example.com')}",
    ):
        book.true("embedded", book.state(text, "last_error"))
    for text in (
        f"https://{mark('jane@example.com')}:hunter2@host.example/x",
        f"https://{mark('jane%40example.com')}:hunter2@host.example/x",
        f"https://calendar.example/{mark('jane%40example.com')}/public/basic.ics",
        f"https://rooms.example/?next=%2Fusers%2F{mark('jane%40example.com')}%2Fbookings",
        f"https://meet.example/j/991?email={mark('jane%2Bvip%40example.com')}",
    ):
        book.true("percent", book.state(text, "meeting_url"))
    people = [{"email": mark(f"guest{n}@example.com"), "name": f"Guest {n}"} for n in range(1, 5)]
    book.true("nested", book.state({"visitors": people, "count": 4}, "visitors"))
    book.true("array", book.state([mark(f"guest{n}@example.org") for n in range(12)], "attendees"))
    book.true("json-in-string", book.state(JsonText({"people": JsonText(people)}), "raw", module="VisitorMailer"))
    csv = "\n".join(f"{mark(f'p{n}@example.com')};Desk {n};in" for n in range(6))
    book.true("embedded", book.state(f"mail;desk;state\n{csv}", "export"))
    book.true("topic", book.state(1, mark("jane@example.com"), system=mark("bob@example.org"), module="Calendar"))


def _near(book: Book) -> None:
    book.misses(near("email"))
    book.miss(book.state({"@type": "Room", "@id": 7, "@context": "https://schema.example/"}, "linked"))
    book.miss(book.state({"email": "", "mail": None, "owner": "none"}, "booking"))
    book.miss(book.state({"email": "j***@***.com", "masked": True}, "booking"), "already masked")
    book.miss(book.state({"email_count": 4, "has_email": True}, "statistics"))
    book.miss(book.metadata({"email": "unset"}))
