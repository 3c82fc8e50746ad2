"""Credentials inside URLs: before the host, and in the query."""

from __future__ import annotations

from tests.corpus.book import Book, Scene, near
from tests.corpus.marks import mark, strip

SCENE = Scene(
    ("stream_url", "source_url", "endpoint", "snapshot_url", "webhook", "broker_url", "last_request"),
    ("url", "stream", "endpoint", "snapshot", "uri", "href", "callback", "source"),
    (
        "could not open {}",
        "ERROR connecting to {} : connection refused",
        "stream lost ({}), retry in 5 s",
        "Fetching <{}> took 812 ms",
        "upstream={} status=502",
        "proxy {}, then direct",
        "see {}",
        'src="{}" width=640',
        "[camera] {} -> timeout",
        "{}",
    ),
)

LOGINS = (
    "admin:s3cret", "root:calvin-42", "svc-rooms:P%40ss%2Fw0rd", "jane.doe:hunter2", "guest:guest", ":hunter2",
    "api:0f1e2d3c4b5a",
    "viewer:view!er", "device-7:a.b-c_d~e", "user:pa$$word", "u:p", "operator:correct-horse", "acme%5Csvc:pw123",
    "onvif:1234",
    "x-token:FAKEtoken000example", "admin:a:b:c", "cam:9f$Kq*2", "jane%40example.com:letmein", "sa:Str0ng(Pass)",
    "админ:пароль",
)  # fmt: skip
HOSTS = (
    "rtsp://{}@camera-12.example.com:554/h264/ch1", "https://{}@signage.example.com/feed.xml",
    "redis://{}@cache.example.com:6379/0",
    "postgresql://{}@db.example.com:5432/place", "amqp://{}@mq.example.com/vhost", "mqtts://{}@broker.example.com:8883",
    "http://{}@192.0.2.14/axis-cgi/mjpg/video.cgi", "mongodb://{}@db1.example.com:27017,db2.example.com/app?w=1",
    "ftp://{}@files.example.com/pub/", "wss://{}@panel.example.com/api/mqtt/", "https://{}@[2001:db8::7]:8443/status",
    "HTTPS://{}@HOST.EXAMPLE.COM/X", "mysql://{}@sql.example.com/bms", "smtp://{}@mail.example.com:587",
    "http://{}@bms/points",
)  # fmt: skip
VALUES = (
    "9f8e7d6c5b4aFAKE00", "s3cret-value", "abcDEF123456ghi", "FAKE0example0token", "Zm9vYmFyRkFLRQ%3D%3D",
    "1234567890abcdef",
    "p%40ssw0rd", "hunter2", "k-4711-xyz", "a.b.c", "Qk9HVVM_-FAKE", "correct%20horse",
)  # fmt: skip
NAMES = (
    "sig", "access_token", "api_key", "apikey", "password", "X-Amz-Signature", "X-Amz-Security-Token", "auth_token",
    "client_secret",
    "token", "refresh_token", "passwd", "pwd", "secret", "Signature", "X-Goog-Signature", "api-key", "bearer_token",
    "id_token",
)  # fmt: skip
QUERIES = (
    "https://files.example.com/plan.png?se=2030-01-01&{n}={}", "https://api.example.com/v1/desks?{n}={}&limit=10",
    "https://hooks.example.com/in?room=4&{n}={}", "https://cdn.example.com/loop.mp4?{n}={}#t=10",
    "wss://panel.example.com/mqtt?{n}={}",
    "https://meet.example.com/j/99100?{n}={}&uname=x", "http://192.0.2.14/cgi?cmd=snap&{n}={}",
    "/api/engine/v2/systems?{n}={}&page=2",
)  # fmt: skip

COUNTS = {
    "plain": 34, "upper": 8, "embedded": 42, "nested": 30, "array": 16, "object-key": 16, "status-key": 14, "topic": 14,
    "metadata": 24, "json-in-string": 24, "percent": 14, "percent-twice": 8,
}  # fmt: skip


def fill(book: Book) -> None:
    """Add the items."""
    rng = book.rng
    fragments = {rng.choice(HOSTS).replace("{}", mark(login)) for login in LOGINS for _ in range(6)}
    for name in NAMES:
        for _ in range(5):
            url = rng.choice([form for form in QUERIES if name != "token" or form.startswith("http")])
            fragments.add(url.replace("{n}", name).replace("{}", mark(rng.choice(VALUES))))
    ordered = sorted(fragments)
    book.spread({form: count for form, count in COUNTS.items() if not form.startswith("percent")}, ordered)
    # Encoded as a whole, as the target of a redirection is.
    once = [text for text in ordered if "%" not in text and "://" in text and strip(text).isascii()]
    book.spread(
        {"percent": 14, "percent-twice": 8, "json-escape": 14, "html": 10, "zero-width": 10, "fullwidth": 5}, once
    )
    _by_hand(book)
    _near(book)


def _by_hand(book: Book) -> None:
    for text in (
        f"from https://{mark('u:p1')}@a.example/x to https://{mark('u:p2')}@b.example/y",
        f"https://{mark('jane:hunter2')}@host.example/?access_token={mark('FAKE0abc123')}",
        f"https://app.example/cb#access_token={mark('FAKE0abc123')}&token_type=bearer",
        f"https://files.example/c?sv=2022-11-02&sr=b&sig={mark('Zm9v%2BFAKE%2Fbar%3D')}&se=2030-01-01",
        f"https://bucket.example/plan.pdf?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={mark('0011aabb' * 8)}",
        f"jdbc:postgresql://{mark('svc:pw')}@db.example/place",
        f"git+https://{mark('oauth2:FAKE0example')}@git.example/acme/drivers.git",
        f"proxy=http://{mark('jane:hunter2')}@proxy.example:3128/",
        f"'rtsp://{mark('admin:admin')}@192.0.2.20:554/'",
        f"https://{mark('user:x')}@host.example",
        f"https://api.example/?password={mark('pä55')}&user=7",
        f"https://api.example/?PASSWORD={mark('S3CRET')}",
        f"https://api.example/?a=1;api_key={mark('abc123def')};b=2",
        f"curl -s 'https://api.example/?api_key={mark('abc123def')}' | jq",
        f"sip:{mark('4401:s3cret')}@pbx.example;transport=tls",
        f"https://{mark('FAKE0example0token000000:x-oauth-basic')}@git.example/a.git",
    ):  # fmt: skip
        book.true("embedded", book.state(text, "last_error"))
    cameras = [{"name": f"Cam {n}", "rtsp": f"rtsp://{mark(f'admin:cam{n}pw')}@192.0.2.{n}/s1"} for n in range(1, 5)]
    book.true("nested", book.state({"cameras": cameras}, "inventory"))


def _near(book: Book) -> None:
    book.misses(near("url_credentials"))
    for n in range(6):
        book.miss(book.state({"url": f"https://signage.example/{n}.html", "refresh": n}, "playlist"))
