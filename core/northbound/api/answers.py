"""How HTTP requests are answered: who asks, how often, with what; and every refusal a small JSON object."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from northbound.api.identity import Authenticator, Identity, Refusal, SignInRefused
from northbound.errors import NorthboundError
from northbound.serving import ApiOptions

T = TypeVar("T")
Handler = Callable[[Request, Identity], Awaitable[Response]]

_REALM: Final = 'Bearer realm="northbound"'
_STATUS: Final[Mapping[Refusal, int]] = {
    "bad_credentials": 401,
    "expired": 401,
    "not_authorised": 403,
    "banned": 403,
    "too_many": 429,
}
#: Addresses whose rate is remembered; the one longest unseen is forgotten first.
_REMEMBERED: Final = 10_000
#: What a sum of seconds may be off by.
_EXACT: Final = 1e-9


class Refused(Exception):
    """A request that is answered with nothing but the reason."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return ``content`` as JSON; it is nobody's to keep."""
    return Response(
        msgspec.json.encode(content),
        status,
        {"Cache-Control": "no-store", **(headers or {})},
        "application/json",
    )


def client(request: Request) -> str:
    """Return where the request comes from; a proxy that is trusted has been seen through already."""
    return request.client.host if request.client else ""


class Rate:
    """Requests a second of each client, two seconds' worth at once; an IPv6 client is its network of 64 bits."""

    def __init__(self, per_second: float) -> None:
        self._rate = per_second
        self._burst = max(1.0, 2 * per_second)
        self._full_at: OrderedDict[str, float] = OrderedDict()  # when each client's allowance is whole again

    def wait(self, address: str, now: float) -> float:
        """Take one request; returns the seconds to wait where there were too many."""
        key = _network(address)
        full_at = max(self._full_at.pop(key, now), now)
        wait = full_at - now - (self._burst - 1) / self._rate
        if wait <= _EXACT:
            wait = 0.0
            full_at += 1 / self._rate
        self._full_at[key] = full_at
        if len(self._full_at) > _REMEMBERED:
            self._full_at.popitem(last=False)
        return wait


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address


class Desk:
    """Admits requests: rate, sign-in, role; reads bodies within bounds."""

    def __init__(self, options: ApiOptions, authenticator: Authenticator) -> None:
        self._options = options
        self._authenticator = authenticator
        self._rate = Rate(options.requests_per_second)

    def limit(self, request: Request) -> None:
        """Count a request against its client's rate."""
        if wait := self._rate.wait(client(request), time.monotonic()):
            raise Refused(
                429,
                f"more than {self._options.requests_per_second:g} requests a second: slower",
                {"Retry-After": str(math.ceil(wait))},
            )

    async def identify(self, request: Request) -> Identity:
        """Return who asks."""
        try:
            return await self._authenticator.bearer(request.headers, address=client(request))
        except SignInRefused as error:
            headers = {}
            status = _STATUS[error.reason]
            if status == 401:
                headers["WWW-Authenticate"] = _REALM
            if error.retry_after is not None:
                headers["Retry-After"] = str(math.ceil(error.retry_after))
            raise Refused(status, error.words, headers) from None

    def open(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Return ``handler`` for everybody."""

        async def handle(request: Request) -> Response:
            try:
                self.limit(request)
                return await handler(request)
            except Refused as refused:
                return answer({"error": str(refused)}, refused.status, refused.headers)
            except NorthboundError as error:
                return answer({"error": str(error)}, 503)
            except ClientDisconnect:  # nobody is there to read it
                return answer({"error": "the request broke off"}, 400)

        return handle

    def signed_in(
        self, handler: Handler, *, operators: bool = False, writing: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return ``handler`` for who is signed in; with ``operators`` for support and admin, ``writing`` by scope."""

        async def handle(request: Request) -> Response:
            who = await self.identify(request)
            if operators and who.role == "user":
                raise Refused(403, "this is for the roles support and admin")
            if writing and not who.writes:
                raise Refused(403, "the scope of what you signed in with does not allow writing")
            return await handler(request, who)

        return self.open(handle)

    async def body(self, request: Request, model: type[T]) -> T:
        """Return the JSON body as ``model``."""
        most = self._options.max_body
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > most:
            raise Refused(413, f"a body has at most {most} bytes")
        content = bytearray()
        try:
            async with asyncio.timeout(self._options.request_timeout.total_seconds()):
                async for chunk in request.stream():
                    content += chunk
                    if len(content) > most:
                        raise Refused(413, f"a body has at most {most} bytes")
        except TimeoutError:
            raise Refused(408, "the body did not come in time", {"Connection": "close"}) from None
        try:
            return msgspec.json.decode(bytes(content) or b"{}", type=model)
        except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
            raise Refused(400, f"the body is not what is described: {error}") from None


def number(request: Request, name: str, default: int, lowest: int, highest: int) -> int:
    """Return a whole number of the query; raises :class:`Refused`."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and lowest <= int(text) <= highest):
        raise Refused(400, f"{name} is a whole number from {lowest} to {highest}")
    return int(text)


async def on_http_error(_: Request, error: Exception) -> Response:
    """Answer what starlette itself refuses."""
    assert isinstance(error, HTTPException)  # noqa: S101 - it is registered for these alone
    return answer({"error": error.detail}, error.status_code, error.headers)
