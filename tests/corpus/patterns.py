"""An installation's own patterns, and texts that nearly match them."""

from __future__ import annotations

from random import Random

from tests.corpus.book import Book, Scene, near
from tests.corpus.marks import JsonText, mark

#: Badges, desk bookings, lockers, visitors' passes: as an administrator would write them.
PATTERNS = (r"\bB-\d{6}\b", r"\bdesk-\d{2}[A-Z]-\d{3}\b", r"\bLKR\d{4}-[A-F]\b", r"\bVIS/\d{4}/\d{5}\b")

SCENE = Scene(
    ("badge", "last_badge", "desk", "locker", "visitor_pass", "access", "scan"),
    ("badge", "desk", "locker", "pass", "ref", "scanned", "item"),
    (
        "{} opened door 4",
        "booked {} until 17:30",
        "{} not recognised",
        "swap {} with D-14",
        "[{}] denied: out of hours",
        "ref={} ok",
        "returned ({})",
        "scan: {}.",
        "lost {}; blocked",
    ),
)
COUNTS = {
    "plain": 20, "embedded": 30, "nested": 18, "array": 12, "object-key": 14, "status-key": 14, "topic": 14,
    "metadata": 12,
    "json-in-string": 14, "json-escape": 8, "percent": 6, "fullwidth": 4, "zero-width": 6, "html": 4, "unicode-dash": 6,
}  # fmt: skip


def _reference(rng: Random) -> str:
    number = rng.randint(0, 999_999)
    return rng.choice(
        (
            f"B-{number:06}",
            f"desk-{number % 100:02}{rng.choice('ABCDEFGH')}-{number % 1000:03}",
            f"LKR{number % 10_000:04}-{rng.choice('ABCDEF')}",
            f"VIS/20{number % 30:02}/{number % 100_000:05}",
        )
    )


def fill(book: Book) -> None:
    """Add the items."""
    rng = book.rng
    fragments = [mark(_reference(rng)) for _ in range(150)]
    book.spread({form: count for form, count in COUNTS.items() if form not in ("unicode-dash", "percent")}, fragments)
    book.spread({"unicode-dash": 6}, [text for text in fragments if "-" in text])
    book.spread({"percent": 6}, [text for text in fragments if "/" in text])
    one, two = mark("B-004213"), mark("desk-03A-114")
    for text in (
        f"{one},{two}",
        f"{one}/{two}",
        f"{one}\n{two}",
        f"badge={one};desk={two}",
        f"'{one}'",
        f"端末 {one} を確認",
    ):
        book.true("embedded", book.state(text, "log"))
    book.true("object-key", book.state([{mark(f"B-0042{n:02}"): "in"} for n in range(6)], "presence"))
    book.true("json-in-string", book.state(JsonText({"rows": JsonText([one, two])}), "raw"))
    book.misses(near("regex"))
