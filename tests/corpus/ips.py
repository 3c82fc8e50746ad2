"""Internet addresses, and dotted or coloned numbers that are none."""

from __future__ import annotations

from random import Random

from tests.corpus.book import Book, Scene, near
from tests.corpus.marks import JsonText, mark

SCENE = Scene(
    ("address", "last_client", "peer", "panel", "remote", "gateway", "session"),
    ("ip", "address", "peer", "remote", "client", "host", "gateway", "source"),
    (
        "connection from {} refused",
        "panel at {} did not answer",
        "{} is unreachable",
        "ping {}: 4 packets, 0 lost",
        "status page of {} returned 503",
        "lease {} expired",
        "src={} dst=panel proto=tcp",
        "camera moved to {}.",
        "[{}] handshake failed",
        "peer ({}) left",
        "SIP/2.0 REGISTER via {}; retry",
    ),
)
COUNTS = {
    "plain": 24, "embedded": 32, "nested": 22, "array": 16, "object-key": 16, "status-key": 16, "topic": 16,
    "metadata": 16,
    "json-in-string": 16, "json-escape": 12, "percent": 8, "fullwidth": 6, "zero-width": 8, "html": 8,
    "unicode-digits": 6,
}  # fmt: skip


def _four(rng: Random) -> str:
    first = rng.choice(
        ("10.{}.{}.{}", "192.168.{}.{}", "172.16.{}.{}", "203.0.113.{}", "198.51.100.{}", "192.0.2.{}", "81.{}.{}.{}")
    )
    while "{}" in first:
        first = first.replace("{}", str(rng.randint(1, 254)), 1)
    return first


def _six(rng: Random) -> str:
    def group() -> str:
        return f"{rng.randint(1, 0xFFFF):x}"

    return rng.choice(
        (
            f"2001:db8::{group()}",
            f"2001:db8:{group()}:{group()}::{group()}",
            f"fe80::{group()}:{group()}:{group()}:{group()}",
            "2001:0db8:" + ":".join(f"{rng.randint(1, 0xFFFF):04x}" for _ in range(6)),
            f"fd12:3456:789a:{group()}::{rng.randint(1, 99)}",
            f"2A00:23C8:{group().upper()}:{group().upper()}:0:0:0:{rng.randint(1, 9)}",
            f"::ffff:192.0.2.{rng.randint(1, 254)}",
        )
    )


def fill(book: Book) -> None:
    """Add the items."""
    rng = book.rng
    fours = [mark(_four(rng)) for _ in range(110)]
    sixes = [mark(_six(rng)) for _ in range(60)]
    plainly = {form: count for form, count in COUNTS.items() if form not in ("percent", "fullwidth", "unicode-digits")}
    book.spread(plainly, fours + sixes)
    book.spread({"fullwidth": 6, "unicode-digits": 6, "percent": 4}, fours)
    book.spread({"percent": 6, "percent-twice": 6, "upper": 8}, sixes)
    _by_hand(book)
    _near(book)


def _by_hand(book: Book) -> None:
    for text in (
        f"{mark('10.4.2.17')}:8080",
        f"http://{mark('192.168.7.4')}/cgi-bin/status",
        f"rtsp://{mark('192.0.2.44')}:554/h264",
        f"https://[{mark('2001:db8::17')}]:8443/x",
        f"[{mark('2001:db8::18')}]:443",
        f"{mark('10.4.2.0')}/24",
        f"{mark('2001:db8:4::')}/48",
        f"{mark('10.4.2.1')}-{mark('10.4.2.9')}",
        f"{mark('10.4.2.1')},{mark('10.4.2.2')};{mark('10.4.2.3')}",
        f"X-Forwarded-For: {mark('203.0.113.9')}, {mark('10.0.0.4')}",
        f"inet {mark('10.1.2.3')} netmask /24",
        f"{mark('fe80::1a2b')}%eth0",
        f"ip={mark('10.1.2.3')}&port=1",
        f"user@{mark('10.1.2.3')}",
        f'{mark("198.51.100.7")} - - [15/Jan/2024:12:30:45 +0000] "GET / HTTP/1.1" 200',
        f"ssh: connect to host {mark('10.1.2.3')} port 22: timed out",
        f"{mark('10.1.2.3')}\n{mark('10.1.2.4')}",
        f"アドレス{mark('10.1.2.3')}です",
        f"version 1.2.3 from {mark('10.1.2.3')}",
        f"v2.1.0.4 at {mark('10.1.2.3')}",
        f"{mark('10.1.2.3')}.",
        f"tcp://{mark('10.1.2.3')}:1883",
        f"'{mark('2001:db8::5')}'",
        f"addr={mark('2001:db8::5')};",
    ):
        book.true("embedded", book.state(text, "last_error"))
    rows = [{"ip": mark(f"10.9.8.{n}"), "name": f"panel-{n}"} for n in range(1, 9)]
    book.true("nested", book.state({"panels": rows}, "inventory"))
    book.true("json-in-string", book.state(JsonText({"rows": JsonText(rows)}), "inventory"))
    book.true("object-key", book.state([{mark(f"10.9.7.{n}"): "up"} for n in range(1, 4)], "reachability"))


def _near(book: Book) -> None:
    book.misses(near("ip"))
    for key, value in (
        ("firmware_version", "v2.14.0.7"), ("app_version", "v1.2.3.4"), ("version", "v10.0.19.45"), ("version",
        "1.2.3.4"),
        ("uptime", "12:30:45"), ("ip", ""), ("ip", None), ("ip", "dhcp"), ("ip", "127.0.0.1"), ("ip", "unset"),
        ("ip_count", 4),
    ):  # fmt: skip
        book.miss(book.state({key: value, "online": True}, "device_info"))
