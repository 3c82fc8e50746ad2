"""What clients can ask: POST /api/events and GET /healthz. Every answer is a small JSON object."""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Mapping
from io import BytesIO
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from northbound import Intake, StoreError
from northbound_http.bucket import Bucket
from northbound_http.options import Options
from northbound_http.receiver import Outcome, Receiver

CONTENT_TYPES: Final = {
    "",
    "application/json",
    "application/jsonl",
    "application/ndjson",
    "application/x-ndjson",
    "text/plain",
}


class Refusal(Exception):
    """A request that is answered without taking anything of it."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.response = answer(status, {"error": reason}, {key.replace("_", "-"): headers[key] for key in headers})


def answer(status: int, content: object, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return the answer; it is nobody's to keep."""
    return JSONResponse(content, status, {"Cache-Control": "no-store", **(headers or {})})


class Events:
    """Takes events for one intake, within the bounds of ``options``."""

    def __init__(self, intake: Intake, options: Options) -> None:
        self._options = options
        self._receiver = Receiver(intake, options.max_line)
        self._token = options.token.get_secret_value().encode() if options.token else None
        self._under_way = 0
        self._bucket: Bucket | None = None
        if rate := options.max_events_per_second:
            self._bucket = Bucket(rate, options.burst or max(1.0, 2.0 * rate), time.monotonic())

    async def post(self, request: Request) -> Response:
        """Take the events of one request; answer when they are on disk."""
        try:
            self._admit(request)
            self._under_way += 1
            try:
                body = await self._body(request)
                return _told(await self._commit(body))
            finally:
                self._under_way -= 1
        except Refusal as refusal:
            return refusal.response
        except ClientDisconnect:
            # Nobody is there to read it. Nothing of a body that broke off was taken.
            return answer(400, {"error": "the request broke off"})
        except asyncio.CancelledError:
            # Only the server cancels, when the time to finish is over; this is the end of the task.
            return answer(503, {"error": "the service is stopping: send all of it again"}, {"Retry-After": "5"})

    def _admit(self, request: Request) -> None:
        """Refuse what can be refused before the body has come."""
        headers = request.headers
        self._check_caller(request)
        if headers.get("content-encoding", "identity") != "identity":
            raise Refusal(
                415, "send the body as it is: a content encoding is not supported", Accept_Encoding="identity"
            )
        if headers.get("content-type", "").partition(";")[0].strip().lower() not in CONTENT_TYPES:
            raise Refusal(415, "send JSON Lines, as application/x-ndjson", Accept="application/x-ndjson")
        length = headers.get("content-length")
        if length is None and "transfer-encoding" not in headers:
            raise Refusal(411, "name a Content-Length or send the body chunked")
        if length is not None and int(length) > self._options.max_body:
            raise self._too_large()
        if self._under_way >= self._options.max_concurrent:
            raise Refusal(503, f"{self._under_way} requests are under way: try again", Retry_After="1")
        self._check_rate(0)

    def _check_caller(self, request: Request) -> None:
        if self._token is None:
            # A page in a browser on this machine can post here without asking (a "simple request" of the fetch
            # standard), but not without saying where it comes from.
            if "origin" in request.headers:
                raise Refusal(403, "a page in a browser may post here only with a token: set one")
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # As bytes: a header may hold any, and text outside ASCII cannot be compared in constant time.
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), self._token):
            raise Refusal(
                401, "send the token as 'Authorization: Bearer …'", WWW_Authenticate='Bearer realm="northbound"'
            )

    def _check_rate(self, lines: int) -> None:
        if self._bucket is None:
            return
        now = time.monotonic()
        wait = self._bucket.take(lines, now) if lines else self._bucket.wait(1, now)
        if wait:
            reason = f"more than {self._bucket.rate:g} events a second: try again"
            raise Refusal(429, reason, Retry_After=str(math.ceil(wait)))

    def _too_large(self) -> Refusal:
        return Refusal(413, f"a body has at most {self._options.max_body} bytes: send fewer lines at a time")

    async def _body(self, request: Request) -> BytesIO:
        body = BytesIO()
        size = lines = 0
        last = b""
        try:
            async with asyncio.timeout(self._options.request_timeout.total_seconds()):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self._options.max_body:
                        raise self._too_large()
                    lines += chunk.count(b"\n")
                    last = chunk or last
                    body.write(chunk)
        except TimeoutError:
            raise Refusal(408, "the body did not come in time", Connection="close") from None
        if size and not last.endswith(b"\n"):
            lines += 1
        self._check_rate(lines)
        body.seek(0)
        return body

    async def _commit(self, body: BytesIO) -> Outcome:
        try:
            async with asyncio.timeout(self._options.commit_timeout.total_seconds()):
                return await self._receiver.take(body)
        except TimeoutError:
            reason = "the store did not take it in time; some of it may still be stored: send all of it again"
            raise Refusal(503, reason, Retry_After="5") from None
        except StoreError:
            # What the store says names files of this machine; it is in the log and the status.
            reason = "the store does not take it now; some of it may be stored: send all of it again"
            raise Refusal(503, reason, Retry_After="5") from None


def _told(outcome: Outcome) -> Response:
    if not outcome.refused_total:
        return answer(200, {"accepted": outcome.accepted})
    refused = [{"line": line, "reason": reason} for line, reason in outcome.refused]
    content = {"accepted": outcome.accepted, "refused": refused, "refused_total": outcome.refused_total}
    return answer(207 if outcome.accepted else 400, content)


async def _healthz(_: Request) -> Response:
    return answer(200, {"status": "ok"})


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these alone
    return answer(error.status_code, {"error": error.detail}, error.headers)


def build(intake: Intake, options: Options) -> Starlette:
    """Return the application."""
    return Starlette(
        routes=[
            Route("/api/events", Events(intake, options).post, methods=["POST"]),
            Route("/healthz", _healthz, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_error},
    )
