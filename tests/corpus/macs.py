"""Hardware addresses, and what else is written in hexadecimal."""

from __future__ import annotations

from random import Random

from tests.corpus.book import Book, Scene, near
from tests.corpus.marks import JsonText, mark

SCENE = Scene(
    ("client", "last_seen_device", "wifi_client", "device", "neighbour", "lease", "beacon"),
    ("mac", "device", "address", "client", "station", "beacon", "hwaddr", "ap"),
    (
        "client {} joined AP-4",
        "deauth {} reason 7",
        "DHCPACK on lease-44 to {} via eth0",
        "locker 14 opened by beacon {}",
        "station={} rssi=-67",
        "VoIP phone {} registered",
        "duplicate address: {}",
        "[{}] roamed",
        "port 12 learned {}, vlan 30",
        "Wake-on-LAN sent to {}.",
    ),
)
HEX = "0123456789abcdef"
OUIS = (
    "001a2b",
    "f0b429",
    "3c22fb",
    "a4c3f0",
    "b827eb",
    "dca632",
    "8c1645",
    "02ff13",
    "5e7a91",
    "e8d8d1",
    "7483c2",
    "00037f",
)

COUNTS = {
    "plain": 32, "upper": 22, "embedded": 46, "nested": 32, "array": 24, "object-key": 26, "status-key": 26,
    "topic": 24,
    "metadata": 26, "json-in-string": 26, "json-escape": 22, "percent": 18, "percent-twice": 10, "fullwidth": 12,
    "zero-width": 16,
    "html": 14, "unicode-dash": 14, "unicode-digits": 8,
}  # fmt: skip


def _digits(rng: Random, octets: int = 6) -> str:
    tail = "".join(rng.choice(HEX) for _ in range(octets * 2 - 6))
    return rng.choice(OUIS) + tail


def _grouped(digits: str, size: int, separator: str) -> str:
    return separator.join(digits[place : place + size] for place in range(0, len(digits), size))


def fill(book: Book) -> None:
    """Add the items."""
    rng = book.rng
    fragments = []
    for size, separator, octets, count in (
        (2, ":", 6, 70), (2, "-", 6, 45), (4, ".", 6, 35), (2, ":", 8, 14), (2, "-", 8, 10), (4, ".", 8, 8),
    ):  # fmt: skip
        for _ in range(count):
            text = _grouped(_digits(rng, octets), size, separator)
            fragments.append(mark(text.upper() if rng.random() < 0.4 else text))
    book.spread(COUNTS, fragments)
    _bare(book)
    _by_hand(book)
    _near(book)


def _bare(book: Book) -> None:
    """Twelve digits without separators, where a key says what they are."""
    rng = book.rng
    keys = ("mac", "mac_address", "macAddress", "bssid", "BSSID", "MAC", "device_mac", "client_mac", "apMac",
    "wifi_mac", "clientMac",
            "ap_mac", "bluetooth_mac", "macaddr")  # fmt: skip
    for key in keys:
        bare = [_digits(rng) for _ in range(5)]
        book.true("nested", book.state({key: mark(bare[0]), "rssi": -61}, "client"))
        book.true("nested", book.state({"clients": [{key: mark(bare[1].upper()), "os": "iOS"}]}, "clients"))
        book.true("metadata", book.metadata({key: mark(bare[2]), "model": "AP-515"}))
        book.true("json-in-string", book.state(JsonText({"ap": {key: mark(bare[3])}}, spaced=True), "raw"))
    for key in ("mac", "bssid", "mac_address"):
        book.true("status-key", book.state(mark(_digits(rng)), key))
        book.true("array", book.state({key: [mark(_digits(rng)), mark(_digits(rng))]}, "clients"))
        book.true("embedded", book.state(f"{key}={mark(_digits(rng))} vlan=30", "log"))


def _by_hand(book: Book) -> None:
    one, two, three = mark("a4:c3:f0:00:11:2e"), mark("A4-C3-F0-00-11-2F"), mark("a4c3.f000.1130")
    for text in (
        f"{one},{two},{three}",
        f"{one} -> {two}",
        f"mac:{one}",
        f"MAC={two};VLAN=4",
        f"{one}/48",
        f"{one}@wlan0",
        f"hw_{one}",
        f"<{three}>",
        f"{one}\n{two}\n{three}",
        f"0: {one}",
        f"WLAN-Gerät {two} verbunden",
        f"端末{one}が接続",
        f"at 12:30:45 {one} joined",
        f"12:30:45 {two}",
        f"fe80::1 is at {one}",
        f"192.0.2.7 {three} C",
    ):
        book.true("embedded", book.state(text, "arp"))
    table = [{"mac": mark(f"b8:27:eb:10:20:{n:02x}"), "port": n} for n in range(1, 9)]
    book.true("nested", book.state(table, "mac_table", module="Switch"))
    book.true(
        "object-key", book.state([{mark(f"b8:27:eb:10:21:{n:02x}"): {"rssi": -60 - n}} for n in range(5)], "clients")
    )
    book.true("json-in-string", book.state({"raw": JsonText({"t": JsonText(table)})}, "mac_table"))


def _near(book: Book) -> None:
    rng = book.rng
    book.misses(near("mac"))
    for key in (
        "id",
        "hash",
        "build",
        "firmware",
        "serial",
        "revision",
        "machine_id",
        "macro",
        "stomach",
        "image_id",
        "commit",
    ):
        book.miss(book.state({key: _digits(rng), "online": True}, "device_info"), "twelve digits under another key")
    for key in ("mac", "bssid", "mac_address"):
        book.miss(book.state({key: "", "rssi": -61}, "client"))
        book.miss(book.state({key: None, "rssi": -60}, "client"))
        book.miss(book.state({key: "unknown"}, "client"))
