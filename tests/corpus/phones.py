"""Telephone numbers: with their country's code anywhere, without it only where a region is configured.

The numbers are those that regulators keep for drama where numbering plans count them as valid, else examples of plans.
"""

from __future__ import annotations

from tests.corpus.book import Book, Scene, near
from tests.corpus.marks import JsonText, mark

SCENE = Scene(
    ("caller", "last_call", "contact", "voip_line", "visitor_phone", "on_hold", "emergency_contact"),
    ("phone", "mobile", "caller", "number", "callback", "telephone", "from", "contact"),
    (
        "Incoming call from {}",
        "Call {} when the guest arrives",
        "SMS to {} failed: 30003",
        "visitor, mobile {}, badge 12",
        "dial-in {} PIN ****",
        "ring {} or ask at reception.",
        "Missed: {} (2)",
        "tel:{}",
        "caller={} line=3",
        "WhatsApp {}",
        "Tel. {}",
    ),
)
#: Written with the country's code. What a person's number looks like, in several hands.
INTERNATIONAL = (
    "+44 20 7946 0958", "+442079460123", "+44 7400 123123", "+447400123456", "+44 (0)20 7946 0321", "+44-161-496-0234",
    "+44 (0) 7400 123789", "0044 20 7946 0958", "00447400123321", "+44.1212.345123", "+44 121 234 5456",
    "+44 131 496 0012",
    "+1 212 555 0123", "+12125550187", "+1 (415) 555-0132", "+1-202-555-0143", "+1.303.555.0171", "001 212 555 0144",
    "+1 604 555 0110",
    "+61 2 5550 1234", "+61491570156", "+61 491 570 157", "+61 (0)3 7010 1234", "0061 491 570 158", "+61 8 7010 4321",
    "+353 22 12345", "+353 85 012 3456", "+49 30 23125 012", "+493023125345", "+49 (0)89 99998 123",
    "+49 1512 3456789",
    "0049 30 23125 678", "+33 1 99 00 12 34", "+33612345678", "+33 (0)6 12 34 56 79", "+34 612 34 56 78",
    "+34 910 123 456",
    "+39 06 1234 5678", "+39 312 345 6789", "+31 20 123 4567", "+31612345678", "+32 470 12 34 56", "+41 78 123 45 67",
    "+43 664 123456",
    "+45 32 12 34 56", "+46 70 174 06 05", "+46 8 465 004 12", "+47 406 12 345", "+48 512 345 678", "+351 912 345 678",
    "+30 691 234 5678",
    "+7 912 345-67-89", "+380 50 123 4567", "+90 501 234 56 78", "+972 50-234-5678", "+971 50 123 4567",
    "+966 51 234 5678",
    "+91 81234 56789", "+918123456780", "+86 131 2345 6789", "+81 90-1234-5678", "+81 3-1234-5678", "+82 10-2000-0000",
    "+65 8123 4567",
    "+852 5123 4567", "+60 12-345 6789", "+62 812-345-678", "+63 905 123 4567", "+64 21 123 4567", "+27 71 123 4567",
    "+234 802 123 4567",
    "+254 712 123456", "+20 100 123 4567", "+55 11 96123-4567", "+52 200 123 4567", "+54 9 11 2345-6789",
    "+56 9 8765 4321",
    "+57 321 1234567", "+370 612 34567", "+420 601 123 456", "+36 20 123 4567", "+358 41 2345678", "+66 81 234 5678",
    "+84 912 345 678",
)  # fmt: skip
NATIONAL = {
    "GB": (
        "020 7946 0958", "02079460123", "(020) 7946 0456", "07400 123123", "07400123456", "0161 496 0234",
        "0131-496-0012",
        "0121 234 5123", "(0121) 234 5456", "0117 496 0777", "07400 123 888", "020-7946-0111", "0113 496 0999",
        "028 9649 6012",
    ),
    "AU": (
        "(02) 5550 1234", "0255501235", "02 7010 4321", "0491 570 156", "0491570157", "0491-570-158", "(03) 7010 1234",
        "03 5550 4321",
        "07 5550 1234", "(08) 7010 1111", "0491 570 313", "08 5550 9876",
    ),
}  # fmt: skip
COUNTS = {
    "plain": 22, "embedded": 34, "nested": 20, "array": 14, "object-key": 14, "status-key": 14, "topic": 16,
    "metadata": 16,
    "json-in-string": 16, "json-escape": 12, "percent": 12, "percent-twice": 8, "fullwidth": 10, "zero-width": 10,
    "html": 10,
    "unicode-dash": 8, "unicode-digits": 10,
}  # fmt: skip


def fill(book: Book) -> None:
    """Add the items."""
    book.spread(COUNTS, [mark(text) for text in INTERNATIONAL])
    for region, numbers in NATIONAL.items():
        counts = {
            "plain": 8,
            "embedded": 12,
            "nested": 6,
            "topic": 3,
            "metadata": 4,
            "json-in-string": 4,
            "object-key": 3,
        }
        book.spread(counts, [mark(text) for text in numbers], region=region)
    _by_hand(book)
    _near(book)


def _by_hand(book: Book) -> None:
    one, two = mark("+44 20 7946 0958"), mark("+1 212 555 0123")
    for text in (
        f"{one}, {two}",
        f"{one}/{two}",
        f"{one};{two}",
        f"sip:{mark('+442079460958')}@pbx.example;user=phone",
        f"tel:{mark('+44-20-7946-0958')};ext=12",
        f"from={mark('+442079460958')}&to=4401",
        f"<{mark('+442079460958')}>",
        f"{one}\n{two}",
        f"M: {mark('+61 491 570 156')} | T: {mark('+61 2 5550 1234')}",
        f"電話{mark('+81 90-1234-5678')}まで",
        f"2024-01-15 12:30:45 {one} answered",
        f"call {mark('+33 6 12 34 56 70')}, room 4.12",
        f"'{mark('+442079460958')}'",
        f"{one}.",
        f"({one})",
        f"\u202a{mark('+442079460958')}\u202c",
    ):
        book.true("embedded", book.state(text, "call_log"))
    calls = [{"from": mark(f"+4420794601{n:02}"), "seconds": n * 7} for n in range(1, 8)]
    book.true("nested", book.state({"calls": calls}, "history", module="VoIP"))
    book.true("json-in-string", book.state(JsonText({"h": JsonText(calls)}), "history"))


def _near(book: Book) -> None:
    book.misses([text for numbers in NATIONAL.values() for text in numbers[:6]], "no region is configured")
    book.misses(near("phone"))
    for region in NATIONAL:
        book.misses(near("phone-region"), region=region)
    for number in (1700000000, 1700000000123, 20240115, 4401, 999):
        book.miss(book.state({"value": number, "unit": "s"}, "uptime"))
