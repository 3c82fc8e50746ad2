"""The dashboard's files, read once at the start, and the headers that every answer carries."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from importlib import resources
from typing import Any, Final

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}

#: Nothing from elsewhere, nothing inline, nowhere else to send anything. 'self' covers the WebSocket of one's own
#: origin, too (CSP 3, 6.7.2.8).
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Final = {
    "content-security-policy": POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_SECURE: Final = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
#: A year; only where the answer went over TLS (RFC 6797, 7.2).
_TLS_ONLY: Final = (b"strict-transport-security", b"max-age=31536000")


class SecurityHeaders:
    """Adds them to every HTTP answer of ``app``, whoever makes it."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        added = [*_SECURE, _TLS_ONLY] if scope["scheme"] == "https" else _SECURE

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, sending)


class _File(Struct, frozen=True):
    content: bytes
    packed: bytes
    kind: str
    tag: str


class Pages:
    """The files by their path; a browser asks each time, and gets one only where it has not the newest."""

    def __init__(self) -> None:
        self._files: Mapping[str, _File] = dict(_read())

    async def get(self, request: Request) -> Response:
        """Answer with a file."""
        file = self._files[request.url.path.removeprefix("/") or "index.html"]
        headers = {"Cache-Control": "no-cache", "ETag": file.tag, "Vary": "Accept-Encoding"}
        if file.tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(file.packed, headers={**headers, "Content-Encoding": "gzip"}, media_type=file.kind)
        return Response(file.content, headers=headers, media_type=file.kind)

    @property
    def paths(self) -> list[str]:
        """What there is, with ``/`` for the page itself."""
        return ["/", *(f"/{name}" for name in self._files)]


def _read() -> list[tuple[str, _File]]:
    found = []
    folder = resources.files("northbound.api") / "dashboard"
    for prefix, place in (("", folder), ("vendor/", folder / "vendor")):
        for entry in place.iterdir():
            kind = _TYPES.get("." + entry.name.rpartition(".")[2])
            if kind is not None:
                content = entry.read_bytes()
                tag = f'W/"{hashlib.sha256(content).hexdigest()[:24]}"'  # of either encoding
                found.append((prefix + entry.name, _File(content, gzip.compress(content, mtime=0), kind, tag)))
    return found
