"""Where a broker or a proxy is, and which certificate it must show: URLs and pins as people write them, taken apart."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Final, Literal, cast
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

Scheme = Literal["mqtt", "mqtts", "ws", "wss"]
PORTS: Final[Mapping[Scheme, int]] = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_SYNONYMS: Final[Mapping[str, Scheme]] = {"tcp": "mqtt", "ssl": "mqtts", "tls": "mqtts"}
#: What most brokers that speak WebSocket call the place.
_WEBSOCKET_PATH: Final = "/mqtt"
_LONGEST_URL: Final = 8192
_PATH = re.compile(r"[!-~]*")

ProxyScheme = Literal["http", "socks5"]
_PROXY_PORTS: Final[Mapping[str, int]] = {"http": 3128, "socks5": 1080}
#: Of a user name or password of SOCKS5 (RFC 1929, section 2); an HTTP proxy gets no more.
_LONGEST_LOGIN: Final = 255

_PIN = re.compile(r"sha256(?::|//)(.+)", re.IGNORECASE)
_DIGEST_BYTES: Final = 32


class BrokerAddress(msgspec.Struct, frozen=True, gc=False):
    """A broker's URL, taken apart. ``path`` is that of its WebSocket, with the query; None is MQTT without one."""

    host: str
    port: int
    tls: bool
    username: str | None = None
    password: str | None = None
    path: str | None = None

    @property
    def scheme(self) -> Scheme:
        """The scheme, of the four that name a transport."""
        if self.path is None:
            return "mqtts" if self.tls else "mqtt"
        return "wss" if self.tls else "ws"

    @property
    def where(self) -> str:
        """The URL for people: without user, password and query."""
        return f"{self.scheme}://{_bracketed(self.host)}:{self.port}{(self.path or '').partition('?')[0]}"

    def __repr__(self) -> str:
        """Leave the password out."""
        return f"BrokerAddress({self.where!r})"


class ProxyAddress(msgspec.Struct, frozen=True, gc=False):
    """A proxy's URL, taken apart."""

    scheme: ProxyScheme
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @property
    def where(self) -> str:
        """The URL for people: without user and password."""
        return f"{self.scheme}://{_bracketed(self.host)}:{self.port}"

    def __repr__(self) -> str:
        """Leave the password out."""
        return f"ProxyAddress({self.where!r})"


def parse_url(url: str, ports: Mapping[Scheme, int] = PORTS) -> BrokerAddress:
    """Take ``mqtt://[user[:password]@]host[:port]`` apart; ``mqtts``, ``ssl`` mean TLS, ``tcp`` does not.

    ``ws://host[:port][/path]`` and ``wss://`` are MQTT over WebSocket, at ``/mqtt`` where the URL names no path.
    ``ports`` are those where it names none. The user info is percent-decoded. Raises ``ValueError`` in words that hold
    no password.
    """
    parts, port = _split(url, "broker")
    scheme = _SYNONYMS.get(parts.scheme, cast("Scheme", parts.scheme))
    if scheme not in PORTS:
        raise ValueError(
            f"a broker's URL begins with mqtt://, mqtts://, ws:// or wss://, not {parts.scheme or 'nothing'}://"
        )
    path = None
    if scheme in {"ws", "wss"}:
        path = (parts.path or _WEBSOCKET_PATH) + (f"?{parts.query}" if parts.query else "")
        if parts.fragment or not _PATH.fullmatch(path):
            raise ValueError(
                "the path of a WebSocket holds no space, no '#' and nothing beyond ASCII: percent-encode it"
            )
    elif parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("a broker's URL ends with the port; topics are a setting of their own")
    return BrokerAddress(
        parts.hostname or "",
        ports.get(scheme, PORTS[scheme]) if port is None else port,
        scheme in {"mqtts", "wss"},
        _decoded(parts.username),
        _decoded(parts.password),
        path,
    )


def parse_proxy(url: str) -> ProxyAddress:
    """Take ``http://[user:password@]host[:3128]`` or ``socks5://[user:password@]host[:1080]`` apart.

    ``socks5h`` is the same: the proxy resolves the broker's name either way. Raises ``ValueError`` in words that hold
    no password.
    """
    parts, port = _split(url, "proxy")
    scheme = "socks5" if parts.scheme == "socks5h" else parts.scheme
    if scheme not in _PROXY_PORTS:
        raise ValueError(f"a proxy's URL begins with http:// or socks5://, not {parts.scheme or 'nothing'}://")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("a proxy's URL ends with the port")
    username, password = _decoded(parts.username), _decoded(parts.password)
    if (username is None) != (password is None) or username == "":
        raise ValueError("a proxy takes a user name and a password, or neither")
    if any(len((text or "").encode()) > _LONGEST_LOGIN for text in (username, password)):
        raise ValueError(f"a proxy's user name and password have at most {_LONGEST_LOGIN} bytes")
    if scheme == "http" and ":" in (username or ""):  # RFC 7617, section 2
        raise ValueError("the user name of an HTTP proxy cannot hold a colon")
    host = parts.hostname or ""
    return ProxyAddress(cast("ProxyScheme", scheme), host, port or _PROXY_PORTS[scheme], username, password)


def parse_pin(text: str) -> bytes:
    """Return the SHA-256 that ``sha256:`` and 64 hexadecimal digits (colons allowed) or its Base64 stand for."""
    match = _PIN.fullmatch(text.strip())
    digest = match[1] if match else ""
    try:
        plain = digest.replace(":", "")
        found = bytes.fromhex(plain) if len(plain) == 2 * _DIGEST_BYTES else base64.b64decode(digest, validate=True)
    except (ValueError, binascii.Error):
        found = b""
    if len(found) != _DIGEST_BYTES:
        raise ValueError("a pin is 'sha256:' and the digest of the certificate or its public key, in hex or Base64")
    return found


def _split(url: str, whose: str) -> tuple[SplitResult, int | None]:
    if len(url) > _LONGEST_URL:
        raise ValueError(f"the {whose}'s URL is wrong: it is longer than {_LONGEST_URL} characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        problem = "the port is not a number" if "ort" in str(error) else "it is not a URL"
        raise ValueError(f"the {whose}'s URL is wrong: {problem}") from None
    if parts.scheme and not parts.hostname:
        raise ValueError(f"the {whose}'s URL names no host")
    try:
        (parts.hostname or "").encode("idna")  # what resolving it begins with
    except UnicodeError:
        raise ValueError(f"the {whose}'s URL names a host that cannot be one") from None
    return parts, port


def _decoded(text: str | None) -> str | None:
    return None if text is None else unquote(text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
