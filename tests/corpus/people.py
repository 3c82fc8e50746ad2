"""Names from the list in ``names.txt``, however they are written, and what only shares a part with them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from tests.corpus.book import Book, Scene, near
from tests.corpus.marks import JsonText, mark

NAMES = Path(__file__).with_name("names.txt").read_text(encoding="utf-8").split("\n")[:-1]

SCENE = Scene(
    ("host", "next_meeting", "booked_by", "current_user", "visitor", "locker_holder", "desk_assignment"),
    ("name", "host", "displayName", "organizer", "guest", "full_name", "attendee", "owner"),
    (
        "Booked by {} until 17:30",
        "{} is waiting at reception",
        "Meeting with {} (external)",
        "Desk D-14: {}",
        "{}'s meeting was cancelled",
        "Attendees: {}, 4 others",
        "Badge for {} printed",
        "call from {} on line 3",
        "“{}” joined the call",
        "Locker 14 assigned to {}.",
        "host={} room=4.12",
        "1:1 {} / facilities",
        "CN={},OU=Staff",
    ),
)
COUNTS = {
    "plain": 24, "upper": 20, "embedded": 40, "nested": 22, "array": 16, "object-key": 18, "status-key": 18,
    "topic": 20, "metadata": 18,
    "json-in-string": 18, "json-escape": 14, "percent": 14, "percent-twice": 8, "fullwidth": 8, "zero-width": 12,
    "nfd": 12, "html": 10,
}  # fmt: skip


def _bare(text: str) -> str:
    """Return ``text`` without accents; letters that only look accented are left."""
    return "".join(char for char in unicodedata.normalize("NFD", text) if not unicodedata.combining(char))


#: Written family name first, so that the turned forms below would be wrong.
FAMILY_FIRST = ("Dvořák Antonín", "Li Na", "Kim Min-jun", "Park Ji-woo", "山田 太郎")


def _two_parts() -> list[tuple[str, str]]:
    return [(parts[0], parts[1]) for parts in map(str.split, NAMES) if len(parts) == 2]


def fill(book: Book) -> None:
    """Add the items."""
    book.spread(COUNTS, [mark(name) for name in NAMES])
    _spellings(book)
    _by_hand(book)
    _near(book)


def _spellings(book: Book) -> None:
    pairs = [pair for pair in _two_parts() if " ".join(pair) not in FAMILY_FIRST]
    turned = [mark(f"{last}, {first}") for first, last in pairs if first.isascii() or "À" <= first[0] <= "я"]
    book.spread({"plain": 10, "embedded": 10, "nested": 8, "metadata": 4}, turned[:45])
    book.spread({"plain": 8, "nested": 4}, [mark(f"{last.upper()}, {first.upper()}") for first, last in pairs[:30]])
    book.spread({"plain": 4}, [mark(f"{last.upper()}, {first}") for first, last in pairs[:12]])
    joined = [
        (first, last) for first, last in pairs if (first + last).replace("-", "").isalpha() and (first + last).isascii()
    ]
    for between in "._":
        logins = [mark(f"{first}{between}{last}".lower()) for first, last in joined]
        book.spread(
            {"plain": 6, "status-key": 6, "topic": 6, "object-key": 4, "json-in-string": 4, "embedded": 6}, logins
        )
    accented = [name for name in NAMES if _bare(name) != name and _bare(name).isascii()]
    book.spread({"plain": 8, "embedded": 8, "nested": 4}, [mark(_bare(name)) for name in accented])
    local = [f"{mark(f'{first}.{last}'.lower())}@example.com" for first, last in joined]
    book.spread({"embedded": 6, "array": 3, "object-key": 3}, local)


def _by_hand(book: Book) -> None:
    jane, ivan = mark("Jane Doe"), mark("Иван Петров")
    for text in (
        f"{jane}, {ivan}",
        f"{jane};{mark('Priya Patel')}",
        f"({jane})",
        f"{jane}'s desk",
        f"<b>{jane}</b>",
        f"{jane}\n{ivan}",
        f"{jane}/{mark('Li Na')}",
        f"Dr. {jane} PhD",
        f"Ms {mark('DOE, JANE')} (guest)",
        f"{mark('Jane  Doe')} twice spaced",
        mark("Jane\u00a0Doe"),
        f"{mark('jane doe')} in small letters",
        f"{mark('jAnE dOe')}",
        f"host:{mark('jane.doe')};room:4.12",
        f"/home/{mark('jane.doe')}/Desktop",
        f"ACME\\{mark('jane.doe')}",
        f"{mark('JANE_DOE')} laptop",
        f'"{mark("DOE, JANE")}" <facilities>',
        f"会議\uff1a{mark('山田 太郎')}",
        f"主催 {mark('王小明')}",
        f"اجتماع {mark('محمد الفاتح')}",
        f"Встреча: {mark('Ольга Шевченко')}, 4 этаж",
        f"Sitzung mit {mark('Jürgen Müller')}",
        f"réunion avec {mark('François Dupont')}",
        f"{jane} is in Doe Room",
    ):
        book.true("embedded", book.state(text, "notes"))
    guests = [{"name": mark(name), "company": "Acme"} for name in NAMES[20:32]]
    book.true("nested", book.state({"visitors": guests}, "visitors", module="VisitorMailer"))
    book.true("json-in-string", book.state(JsonText({"v": JsonText(guests)}), "visitors"))
    book.true("object-key", book.state([{mark(name): "in"} for name in NAMES[32:40]], "presence"))


def _near(book: Book) -> None:
    pairs = _two_parts()
    book.misses([first for first, _ in pairs[:24]], "one word of a name")
    book.misses([last for _, last in pairs[10:34] if last != "Na"], "one word of a name")
    crossed = [f"{pairs[place][0]} {pairs[place + 7][1]}" for place in range(30)]
    book.misses(crossed, "both parts from the list, but no name of it")
    book.misses([text.lower().replace(" ", ".") for text in crossed[:10] if text.isascii()], "no name of the list")
    book.misses(near("person"))
