"""A local token endpoint: OAuth 2.0 for service accounts, STS and impersonation for workload identity.

It answers the paths and forms that google-auth uses; everything else is 404 or 400.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
import urllib.parse
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

from northbound.testing.twins.google_accounts import ACCESS_TOKEN, JWT_BEARER, TOKEN_EXCHANGE, GoogleAccounts, Refused

_LARGEST: Final = 65_536
_IMPERSONATE: Final = re.compile(r"/v1/projects/-/serviceAccounts/([^/:]+):generateAccessToken")
_SECONDS: Final = re.compile(r"([0-9]{1,5})s")


class TokenEndpoint:
    """Serves ``accounts`` over HTTP (or HTTPS) on a free loopback port, in threads of its own.

    ``failing`` answers so many requests with 503; every answer takes ``delay`` seconds; ``calls`` counts requests.
    """

    def __init__(self, accounts: GoogleAccounts, *, tls: ssl.SSLContext | None = None) -> None:
        self.accounts = accounts
        self.failing = 0
        self.delay = 0.0
        self.calls = 0
        endpoint = self

        class Handler(_Handler):
            twin = endpoint

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.base = f"{'http' if tls is None else 'https'}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=lambda: self._server.serve_forever(poll_interval=0.05), name="token endpoint", daemon=True
        )

    @property
    def token_uri(self) -> str:
        """Where service accounts exchange their assertions."""
        return f"{self.base}/token"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    twin: TokenEndpoint
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """Say nothing: what is asked for holds credentials."""

    def do_POST(self) -> None:
        """Answer one request."""
        twin = self.twin
        twin.calls += 1
        time.sleep(twin.delay)
        length = int(self.headers.get("content-length") or 0)
        if not 0 < length <= _LARGEST:
            self._answer(413, {"error": "invalid_request"})
            return
        body = self.rfile.read(length).decode("utf-8", "replace")
        if twin.failing > 0:
            twin.failing -= 1
            self._answer(503, {"error": "temporarily_unavailable"})
            return
        try:
            self._answer(200, self._granted(body))
        except Refused as refusal:
            status = 403 if refusal.error == "permission_denied" else 400
            self._answer(status, {"error": refusal.error, "error_description": refusal.words})

    def _granted(self, body: str) -> dict[str, Any]:
        twin = self.twin
        impersonated = _IMPERSONATE.fullmatch(self.path)
        if impersonated:
            return self._impersonated(impersonated[1], body)
        form = {name: values[0] for name, values in urllib.parse.parse_qs(body).items()}
        wanted = {"/token": JWT_BEARER, "/v1/token": TOKEN_EXCHANGE}.get(self.path)
        if wanted is None or form.get("grant_type") != wanted:
            raise Refused("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")
        if wanted == JWT_BEARER:
            token, seconds = twin.accounts.exchange_assertion(form.get("assertion", ""))
            return {"access_token": token, "expires_in": seconds, "token_type": "Bearer"}
        token, seconds = twin.accounts.exchange_subject(form)
        return {
            "access_token": token,
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "Bearer",
            "expires_in": seconds,
        }

    def _impersonated(self, email: str, body: str) -> dict[str, Any]:
        accounts = self.twin.accounts
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        try:
            asked = json.loads(body)
            scopes, lifetime = [str(scope) for scope in asked["scope"]], _SECONDS.fullmatch(str(asked["lifetime"]))
        except (ValueError, KeyError, TypeError):
            raise Refused("invalid_request", "Invalid JSON payload received.") from None
        # At most an hour, unless an organisation policy allows more: the reference of generateAccessToken, "lifetime".
        if scheme.lower() != "bearer" or lifetime is None or not 0 < int(lifetime[1]) <= 3600:
            raise Refused("permission_denied", "Permission 'iam.serviceAccounts.getAccessToken' denied.")
        token, seconds = accounts.impersonate(token, email, scopes)
        expires = datetime.fromtimestamp(accounts.clock() + seconds, UTC)
        return {"accessToken": token, "expireTime": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
