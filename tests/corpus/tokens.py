"""Tokens and keys. All are made up here from parts; most say FAKE or EXAMPLE where their format has room."""

from __future__ import annotations

import base64
import json
from random import Random
from string import ascii_letters, digits

from tests.corpus.book import Book, Scene, near
from tests.corpus.marks import JsonText, Number, mark

SCENE = Scene(
    ("config", "settings", "session", "last_error", "startup_args", "integration", "debug"),
    ("value", "content", "header", "setting", "line", "argument", "payload", "text"),
    (
        "upstream refused {} (401)",
        "using {} for the calendar",
        "retry with {}",
        "config line 14: {}",
        "Authentication failed, sent {}",
        "[integration] {} expires in 3600 s",
        "curl -H 'X-Auth: {}' https://api.example.com/v1/rooms",
        "exported {} to panel 7",
        "({})",
        '"{}"',
    ),
)
HEX = "0123456789abcdef"
LETTERS_DIGITS = ascii_letters + digits
URL_SAFE = ascii_letters + digits + "-_"
UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

COUNTS = {
    "plain": 32, "embedded": 44, "nested": 26, "array": 22, "object-key": 18, "status-key": 16, "topic": 20,
    "metadata": 24,
    "json-in-string": 26, "json-escape": 18, "percent": 16, "percent-twice": 8, "fullwidth": 8, "zero-width": 14,
    "html": 12,
    "unicode-dash": 6,
}  # fmt: skip


def _some(rng: Random, alphabet: str, length: int) -> str:
    return "".join(rng.choice(alphabet) for _ in range(length))


def _b64(data: object) -> str:
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _jwt(rng: Random) -> str:
    head = {"alg": rng.choice(("RS256", "HS256", "ES256")), "typ": "JWT"}
    body = {
        "iss": "POS",
        "sub": f"fake-{rng.randint(1, 999)}",
        "scope": ["public"],
        "exp": 1_700_000_000 + rng.randint(0, 9999),
    }
    return f"{_b64(head)}.{_b64(body)}.FAKE{_some(rng, URL_SAFE, rng.choice((39, 82)))}"


def _jwe(rng: Random) -> str:
    parts = (_b64({"alg": "RSA-OAEP", "enc": "A256GCM"}), *(f"FAKE{_some(rng, URL_SAFE, n)}" for n in (60, 12, 40, 18)))
    return ".".join(parts)


def _sas_key(rng: Random, length: int = 32) -> str:
    return base64.b64encode(b"FAKE" + rng.randbytes(length - 4)).decode()


def _pem(rng: Random, kind: str) -> str:
    lines = "\n".join(f"FAKE{_some(rng, LETTERS_DIGITS + '+/', 60)}" for _ in range(3))
    edge = "-----"
    return f"{edge}BEGIN {kind}{edge}\n{lines}\n{edge}END {kind}{edge}"


def standing_alone(rng: Random) -> list[str]:
    """Return marked tokens that say by their own form what they are."""
    found = [_jwt(rng) for _ in range(26)] + [_jwe(rng) for _ in range(5)]
    found += [prefix + "IA" + _some(rng, UPPER, 9) + "EXAMPLE" for prefix in ("AK", "AS") for _ in range(4)]
    found += ["AI" + "za" + "FAKE" + _some(rng, URL_SAFE, 31) for _ in range(5)]
    found += ["ya" + "29." + "FAKE" + _some(rng, URL_SAFE, 60) for _ in range(3)]
    found += [f"gh{kind}_" + "FAKE" + _some(rng, LETTERS_DIGITS, 32) for kind in "posur"]
    found += ["github" + "_pat_" + "FAKE" + _some(rng, LETTERS_DIGITS, 18) + "_" + _some(rng, LETTERS_DIGITS, 59)]
    found += ["gl" + "pat-" + "FAKE" + _some(rng, URL_SAFE, 16) for _ in range(4)]
    found += [f"xox{kind}-" + "0000000000-000000000000-" + "FAKE" + _some(rng, LETTERS_DIGITS, 20) for kind in "bpa"]
    found += [
        f"{kind}_{mode}_" + "FAKE" + _some(rng, LETTERS_DIGITS, 20)
        for kind in ("sk", "rk")
        for mode in ("live", "test")
    ]
    found += [f"{_some(rng, HEX, 32)}.{_some(rng, URL_SAFE, 43)}" for _ in range(16)]
    return [mark(text) for text in found]


def in_context(rng: Random) -> list[str]:
    """Return texts with a marked value, which the words around it give away."""
    fake = "FAKE" + _some(rng, URL_SAFE, 24)
    basic = base64.b64encode(b"svc-rooms:fake-" + _some(rng, HEX, 8).encode()).decode()
    secret = _some(rng, ascii_letters + digits + "/+", 30) + "EXAMPLEKEY"
    signature = "FAKE" + _some(rng, ascii_letters, 36)
    host = "acme.azure-devices.example"
    return [
        f"Authorization: Bearer {mark(fake)}",
        f"authorization: bearer {mark(_some(rng, HEX, 40))}",
        f"Authorization: Basic {mark(basic)}",
        f"Bearer {mark(_some(rng, URL_SAFE, 48))}",
        f"aws_secret_access_key = {mark(secret)}",
        f"AWS_SECRET_ACCESS_KEY={mark(secret[::-1])}",
        f"HostName={host};SharedAccessKeyName=service;SharedAccessKey={mark(_sas_key(rng))}",
        f"HostName={host};DeviceId=gw-7;SharedAccessKey={mark(_sas_key(rng))}",
        f"Endpoint=sb://bus.example/;SharedAccessKeyName=send;SharedAccessKey={mark(_sas_key(rng))};EntityPath=x",
        f"DefaultEndpointsProtocol=https;AccountName=av;AccountKey={mark(_sas_key(rng, 64))};EndpointSuffix=x.example",
        f"SharedAccessSignature sr={host}&sig={mark(f'{signature}%2B%3D')}&se=1700000000&skn=service",
        f"sv=2022-11-02&ss=b&srt=co&sp=rl&se=2030-01-01&sig={mark(f'{signature}%3D')}",
        f"password={mark(rng.choice(('hunter2', 's3cret!', 'Tr0ub4dor&3', 'letmein-42')))}",
        f"--password {mark('hunter' + str(rng.randint(10, 99)))} --host db",
        f"PASSWORD={mark('hunter' + str(rng.randint(10, 99)))}",
        f"password: {mark('hunter' + str(rng.randint(10, 99)))}",
        f"passwd='{mark('open sesame ' + str(rng.randint(10, 99)))}'",
        f"client_secret={mark(fake)}&grant_type=client_credentials",
        f"api_key: {mark(_some(rng, HEX, 20))}",
        f"apikey={mark(_some(rng, LETTERS_DIGITS, 18))}",
        f"X-API-Key: {mark(_some(rng, LETTERS_DIGITS, 26))}",
        f"access_token={mark(_some(rng, LETTERS_DIGITS, 26))}",
        f"Server=db;User Id=place;Password={mark('pw' + _some(rng, LETTERS_DIGITS, 7))};Encrypt=true",
        f"host=db user=place password={mark('pw' + _some(rng, LETTERS_DIGITS, 7))} dbname=place",
        f"wifi_password={mark('guest-' + _some(rng, digits, 4))}",
        f'{{"password":"{mark("pw" + _some(rng, HEX, 6))}", broken',
        f"refresh_token={mark(_some(rng, LETTERS_DIGITS, 30))}",
        f"secret={mark(_some(rng, LETTERS_DIGITS, 12))}",
        f"pwd={mark('pw' + _some(rng, LETTERS_DIGITS, 6))}",
    ]


def joined(rng: Random) -> list[str]:
    """Return marked tokens that something else is joined to."""
    jwt = [f"{before}{mark(_jwt(rng))}" for before in ("session-", "id_", "0", "Auth", "sso--", "x.y_") for _ in "123"]
    keys = [
        "AK" + "IA" + _some(rng, UPPER, 9) + "EXAMPLE",
        "ghp" + "_" + "FAKE" + _some(rng, LETTERS_DIGITS, 32),
        "gl" + "pat-" + "FAKE" + _some(rng, URL_SAFE, 16),
        "sk" + "_live_" + "FAKE" + _some(rng, LETTERS_DIGITS, 20),
        f"{_some(rng, HEX, 32)}.{_some(rng, URL_SAFE, 43)}",
    ]
    behind = [f"AS{'IA'}{_some(rng, UPPER, 9)}EXAMPLE"]
    return [
        *jwt,
        *(f"{before}{mark(key)}" for key in keys for before in ("key_", "_", "panel-")),
        *(f"{mark(key)}{after}" for key in behind for after in ("_old", "_1")),
        f"jwt_{mark(_jwe(rng))}",
    ]


KEYS = (
    "password", "Password", "PASSWORD", "passwd", "pwd", "secret", "client_secret", "clientSecret", "api_key", "apiKey",
    "API_KEY",
    "access_token", "accessToken", "refresh_token", "auth_token", "private_key", "wifi_password", "admin_password",
    "db_password",
    "snmp_auth_password", "shared_secret", "webhook_secret", "passphrase", "shared_access_key", "aws_secret_access_key",
    "secret_key", "x-api-key", "api-key", "authToken", "id_token", "bearer_token", "user_password", "token",
)  # fmt: skip
SECRETS = (
    "hunter2", "s3cret", "correct horse battery", "pässwörd", "P@ss/w0rd!", "letmein", "0000-guest", "c4lvin",
    "FAKEexamplekey123",
    "Zm9vYmFyRkFLRQ==", "秘密の言葉", "пароль", "two words", "-dashed-", "{curly}", "100%", "1a2b3c4d5e6f",
)  # fmt: skip


def fill(book: Book) -> None:
    """Add the items."""
    rng = book.rng
    alone = standing_alone(rng)
    book.spread(COUNTS, alone)
    context = [text for _ in range(3) for text in in_context(rng)]
    book.spread({"plain": 24, "embedded": 28, "nested": 10, "metadata": 10, "json-in-string": 12, "array": 8}, context)
    for form, letter in (("upper", str.upper), ("upper", str.title)):
        for key in ("password", "client_secret", "api_key", "access_token", "secret", "pwd"):
            book.true(form, book.state(f"{letter(key)}={mark('FAKE' + _some(rng, HEX, 14))} set", "log"))
    for kind in ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY"):
        pem = mark(_pem(rng, kind))
        book.true("plain", book.state(pem, "certificate_bundle"))
        book.true("embedded", book.state(f"written:\n{pem}\nok", "log"))
        book.true("nested", book.state({"tls": {"pem": pem, "port": 8883}}, "broker"))
        book.true("json-in-string", book.state(JsonText({"pem": pem}), "config"))
    _keyed(book)
    _near(book)
    counts = {"plain": 12, "embedded": 12, "nested": 6, "array": 4, "object-key": 8, "status-key": 12, "topic": 8}
    book.spread(counts | {"percent": 4, "zero-width": 4, "json-in-string": 4}, joined(rng))
    book.misses(
        (
            "session-greyJay.local.lan", "survey_eyJ.done.ok", "id_eyJub3RoaW5nIjoxfQ.x.y", "task_live_0123456789ab",
            "monkey_AKIAIOSFODNN7", "xAKIAIOSFODNN7EXAMPLE7", "_npm_install_in_progress",
            "key_gitlab-runner.acme.example",
        )
    )  # fmt: skip


def _keyed(book: Book) -> None:
    """Values whose key says what they are, whatever they look like."""
    for position, key in enumerate(KEYS):
        first, second, third = (mark(SECRETS[(position * step + step) % len(SECRETS)]) for step in (1, 5, 7))
        book.true("nested", book.state({key: first, "username": "svc"}, f"connection_{position}"))
        book.true(
            "nested", book.state({"devices": [{"ip": "panel-7", "login": {"user": "av", key: second}}]}, "inventory")
        )
        if position % 2:
            book.true("metadata", book.metadata({"settings": {key: third, "port": 161}}))
            book.true(
                "json-in-string", book.state(JsonText({"auth": {key: second, "n": position}}, spaced=True), "config")
            )
        else:
            book.true("status-key", book.state(third, key, module=f"Panel{position}"))
            escaped = JsonText({key: first, "n": position}, escape=lambda text: f"\\u{ord(text[0]):04x}{text[1:]}")
            book.true("json-escape", book.state(escaped, "last_request"))
    for key, number in (
        ("password", 482913),
        ("passcode", 90210),
        ("secret", 99120034),
        ("api_key", 7700112233),
        ("pwd", 4.5),
    ):
        book.true("number", book.state({key: Number(number), "door": 4}, "access"))
        book.true("number", book.state(JsonText({key: Number(number)}), "access"))
    for key in ("password", "client_secret", "api_key"):
        book.true("array", book.state({key: [mark("first-one"), mark("second-one")], "n": 2}, "rotation"))
        book.true(
            "nested",
            book.state({key: {"value": mark("hunter2"), "set": True}}, "rotation"),
            "under the key, one deeper",
        )
        book.true("percent", book.state(f"https%3A%2F%2Fapp.example%2F%3F{key}%3D{mark('FAKEhunter2')}%26a%3D1", "url"))
    for text in ("pässwörd", "clé-secrète", "Ångström9"):
        book.true("nfd", book.state({"password": mark(text), "form": "NFC"}, "login"))
        book.true("nfd", book.state(f"password={mark(text)}", "log"))


def _near(book: Book) -> None:
    rng = book.rng
    book.misses(near("token"))
    for length in (32, 40, 64, 128):
        for key in ("etag", "checksum", "sha", "digest", "commit", "revision"):
            book.miss(book.state({key: _some(rng, HEX, length), "file": "loop.mp4"}, "asset"), "a hash")
        book.miss(book.state(_some(rng, HEX, length), "content_hash"), "a hash")
    for _ in range(10):
        own = f"{_some(rng, HEX, 4)}-{_some(rng, HEX, 32)}"
        book.miss(
            book.state(rng.choice((own, {"who": own}, [own, own[::-1].replace("-", "")])), "host"), "our own hash"
        )
    for key in ("image", "thumbnail", "icon", "body", "frame", "snapshot"):
        picture = base64.b64encode(rng.randbytes(90)).decode()
        book.miss(book.state({key: f"data:image/png;base64,{picture}"}, "preview"), "a picture")
        book.miss(book.state({key: picture}, "preview"), "a picture")
    for kind in ("CERTIFICATE", "PUBLIC KEY", "CERTIFICATE REQUEST"):
        book.miss(book.state(_pem(rng, kind), "certificate"), "public")
    for key, value in (
        ("token_count", 5), ("tokens", 12), ("max_tokens", 4096), ("token_type", "Bearer"), ("token_expires_in", 3600),
        ("password", ""), ("password", None), ("password", "****"), ("password", "[x]"), ("secret", "••••••••"),
        ("api_key", ""),
        ("access_token", None), ("client_secret", "***"), ("password_expired", False), ("has_password", True),
        ("password_length", 12), ("password_changed_at", 1700000000), ("secretary", "Front desk"),
        ("passwordless", True),
        ("password_policy_enabled", True), ("secret_rotation_days", 90), ("api_key_count", 3), ("bypass", "off"),
        ("compass", "NE"),
        ("passengers", 8), ("passes", 4), ("pass", True), ("session", "Board meeting"), ("keyboard", "uk"), ("monkey",
        "banana"),
        ("passive", True), ("passage", "north"), ("tokenizer", "words"), ("author", "Front desk"), ("secretariat",
        "lvl-2"),
    ):  # fmt: skip
        book.miss(book.state({key: value, "online": True}, "status"))
