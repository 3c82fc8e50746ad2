"""Numbers of payment cards, and long numbers that are none."""

from __future__ import annotations

from random import Random

from tests.corpus.book import Book, Scene, near
from tests.corpus.marks import JsonText, Number, mark

SCENE = Scene(
    ("payment", "last_swipe", "kiosk_input", "parking_payment", "receipt", "cafeteria", "scan"),
    ("card", "pan", "number", "account", "payment", "input", "reference", "scanned"),
    (
        "Payment with {} declined",
        "visitor paid parking: {} exp 04/27",
        "kiosk read {} instead of a badge",
        "card {}, CVC refused",
        "refund to {} failed: 51",
        "Note from guest: please charge {}.",
        "track2={} discarded",
        "[POS 4] {} approved",
        "cafeteria top-up ({})",
        "PAN {} in QR code",
    ),
)
#: Issuer: prefixes and lengths (ISO/IEC 7812 ranges as the schemes publish them).
ISSUERS = (
    (("4",), (16, 16, 16, 13, 19)),
    (("51", "52", "53", "54", "55", "2221", "2300", "2720"), (16,)),
    (("34", "37"), (15,)),
    (("6011", "65", "644", "649"), (16,)),
    (("300", "305", "36", "38"), (14,)),
    (("3528", "3589", "3550"), (16,)),
    (("62",), (16, 17, 18, 19)),
    (("6759", "5018", "6304"), (16, 18)),
)
KNOWN = (
    "4111111111111111", "4012888888881881", "4222222222222", "5555555555554444", "5105105105105100", "2223003122003222",
    "378282246310005", "371449635398431", "6011111111111117", "6011000990139424", "30569309025904", "38520000023237",
    "3530111333300000", "3566002020360505", "6200000000000005",
)  # fmt: skip
COUNTS = {
    "plain": 40, "embedded": 48, "nested": 30, "array": 22, "object-key": 24, "status-key": 22, "topic": 24,
    "metadata": 24,
    "json-in-string": 26, "json-escape": 20, "percent": 16, "percent-twice": 8, "fullwidth": 14, "zero-width": 14,
    "html": 12,
    "unicode-dash": 14, "unicode-digits": 14, "number": 40,
}  # fmt: skip


def luhn(digits: str) -> int:
    """Return the check digit that follows ``digits``."""
    total = 0
    for place, char in enumerate(reversed(digits)):
        value = int(char) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return -total % 10


def _card(rng: Random, prefix: str, length: int) -> str:
    body = prefix + "".join(str(rng.randint(0, 9)) for _ in range(length - len(prefix) - 1))
    return body + str(luhn(body))


def _written(rng: Random, digits: str) -> str:
    separator = rng.choice(("", "", " ", "-"))
    if not separator:
        return digits
    if len(digits) == 15:
        return separator.join((digits[:4], digits[4:10], digits[10:]))
    if len(digits) == 14:
        return separator.join((digits[:4], digits[4:10], digits[10:]))
    return separator.join(digits[place : place + 4] for place in range(0, len(digits), 4))


def fill(book: Book) -> None:
    """Add the items."""
    rng = book.rng
    numbers = list(KNOWN)
    for prefixes, lengths in ISSUERS:
        numbers += [_card(rng, rng.choice(prefixes), rng.choice(lengths)) for _ in range(24)]
    book.spread(COUNTS, [mark(_written(rng, digits)) for digits in numbers] + [mark(digits) for digits in numbers[:60]])
    _by_hand(book)
    _near(book)


def _by_hand(book: Book) -> None:
    one, two = mark("4111 1111 1111 1111"), mark("5555-5555-5555-4444")
    for text in (
        f"{one},{two}",
        f"{one}/{two}",
        f"card:{mark('4111111111111111')}",
        f"card#{mark('4111111111111111')}",
        f"({mark('378282246310005')})",
        f"{one}.",
        f"{mark('4111111111111111')}=2712",
        f"%B{mark('4111111111111111')}^DOE/JANE^2712",
        f"{one} 04/27 123",
        f"pan={mark('4012888888881881')}&cvc=***",
        f"カード番号{mark('4111111111111111')}です",
        f"Karte\uff1a{mark('5105105105105100')}。",
        f"amount 12.50 card {mark('4012888888881881')} ref 7",
        f"{mark('4111111111111111')}\n{mark('5555555555554444')}",
        f"'{mark('30569309025904')}'",
        one.replace(" ", "\u00a0") + " with no-break spaces",
        f"Visa {mark('4111111111111111')}",
    ):
        book.true("embedded", book.state(text, "receipt"))
    book.true("number", book.state({"orders": [{"pan": Number(4012888888881881), "total": 12.5}]}, "till"))
    book.true("number", book.state([[Number(5105105105105100)], [Number(378282246310005)]], "till"))
    book.true("number", book.metadata({"settlement": {"account": Number(4111111111111111)}}))
    book.true("number", book.state(JsonText({"x": JsonText({"n": Number(6011111111111117)})}), "till"))


def _near(book: Book) -> None:
    rng = book.rng
    wrong = []
    for prefixes, lengths in ISSUERS:
        for _ in range(4):
            digits = _card(rng, rng.choice(prefixes), rng.choice(lengths))
            wrong.append(_written(rng, digits[:-1] + str((int(digits[-1]) + rng.randint(1, 9)) % 10)))
    book.misses(sorted(set(wrong)), "the check digit is wrong")
    book.misses(near("card"))
    for prefix, length in (("1", 16), ("7", 16), ("80", 16), ("9", 16), ("0", 16), ("10", 15), ("99", 19), ("17", 13)):
        for _ in range(2):
            book.miss(book.state(_card(rng, prefix, length), "loyalty"), "no issuer has this prefix")
    for number in (
        1700000000123,
        1700000000123456,
        1705312245000,
        4111111111111112,
        5555555555554445,
        378282246310006,
        411111111111,
    ):
        book.miss(book.state({"value": number, "unit": "ms"}, "uptime"))
        book.miss(book.state(number, "counter"))
    for number in (4111111111.111111, 0.4012888888881881, 51.50740000000001, 4.111111111111111):
        book.miss(book.state({"reading": number}, "meter"))
