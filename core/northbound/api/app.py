"""The HTTP application: routes, and what stands before them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from northbound import __version__
from northbound.api import metrics, openapi
from northbound.api.answers import Desk, answer, on_http_error
from northbound.api.health import health
from northbound.api.identity import Access, Authenticator, Identity
from northbound.api.letters import Audit, Letters
from northbound.api.pages import App, Pages, Receive, Scope, SecurityHeaders, Send
from northbound.api.state import State, Tree
from northbound.api.stream import Streams
from northbound.serving import ApiOptions
from northbound.status import Status

#: Any path under the first is the endpoint, with and without the slash; the second is the other name clients try.
MQTT_PATHS: Final = ("/api/mqtt", "/mqtt")


class Served(Struct, kw_only=True):
    """What the application serves, and reads it from."""

    options: ApiOptions
    site: Mapping[str, Any]  # what a client needs to read topics and payloads
    store: Path
    tree: Tree
    streams: Streams
    authenticator: Authenticator
    access: Access
    audit: Audit
    status: Callable[[], Status]
    numbers: Callable[[], Mapping[str, float]]
    mqtt: App
    mounted: dict[str, App]  # by exact path: what sources take themselves


class _Numbers:
    def __init__(self, served: Served) -> None:
        self._served = served

    async def me(self, _: Request, who: Identity) -> Response:
        told = {
            "subject": who.subject,
            "name": who.name,
            "org": who.org,
            "every_org": who.every_org,
            "role": who.role,
            "writes": who.writes,
            "expires": who.expires,
        }
        return answer({"identity": told, "site": self._served.site, "version": __version__})

    async def status(self, _: Request, __: Identity) -> Response:
        status = self._served.status()
        told = msgspec.to_builtins(status)
        return answer({**told, "healthy": self._well(status), "api": self._served.numbers()})

    async def connectors(self, _: Request, __: Identity) -> Response:
        return answer({"connectors": self._served.status().connectors})

    async def metrics(self, request: Request, _: Identity | None = None) -> Response:
        content, kind = metrics.exposition(
            self._served.status(), self._served.numbers(), request.headers.get("accept", "")
        )
        return Response(content, headers={"Cache-Control": "no-store", "Content-Type": kind})

    async def healthz(self, _: Request) -> Response:
        well, told = health(self._served.status(), self._stalled_after)
        return answer(told, 200 if well else 503)

    async def live(self, _: Request) -> Response:
        return answer({"status": "ok"})

    @property
    def _stalled_after(self) -> float:
        return self._served.options.stalled_after.total_seconds()

    def _well(self, status: Status) -> bool:
        return health(status, self._stalled_after)[0]


def routes(served: Served, desk: Desk) -> list[Route]:
    """Return the routes; :mod:`openapi` describes each."""
    numbers = _Numbers(served)
    state = State(served.tree, served.access, served.authenticator, served.streams)
    letters = Letters(served.store, served.access, desk, served.audit)

    def operators(handler: Any, *, writing: bool = False) -> Any:
        return desk.signed_in(handler, operators=True, writing=writing)

    told = numbers.metrics
    one = "/api/dead-letters/{id:int}"
    return [
        Route("/healthz", desk.open(numbers.healthz), methods=["GET"]),
        Route("/healthz/live", desk.open(numbers.live), methods=["GET"]),
        Route("/metrics", desk.open(told) if served.options.open_metrics else operators(told), methods=["GET"]),
        Route("/api/openapi.json", desk.open(_described), methods=["GET"]),
        Route("/api/me", desk.signed_in(numbers.me), methods=["GET"]),
        Route("/api/state", desk.signed_in(state.get), methods=["GET"]),
        Route("/api/status", operators(numbers.status), methods=["GET"]),
        Route("/api/connectors", operators(numbers.connectors), methods=["GET"]),
        Route("/api/dead-letters", operators(letters.index), methods=["GET"]),
        Route("/api/dead-letters/replay", operators(letters.replay, writing=True), methods=["POST"]),
        Route("/api/dead-letters/drop", operators(letters.drop, writing=True), methods=["POST"]),
        Route(one, operators(letters.show), methods=["GET"]),
        Route(one, operators(letters.drop_one, writing=True), methods=["DELETE"]),
        Route(one + "/replay", operators(letters.replay_one, writing=True), methods=["POST"]),
    ]


async def _described(_: Request) -> Response:
    return answer(openapi.description())


class _Front:
    """Sends each request to the MQTT endpoint, to what a source has mounted, or to the routes."""

    def __init__(self, served: Served, app: App) -> None:
        self._mqtt = served.mqtt
        self._mounted = served.mounted
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        mqtt = any(path == root or path.startswith(root + "/") for root in MQTT_PATHS)
        if scope["type"] == "websocket":
            if mqtt:
                await self._mqtt(scope, receive, send)
            else:  # closed before it is accepted: the answer is 403
                await receive()
                await send({"type": "websocket.close", "code": 1008})
        elif mqtt:
            headers = {"Upgrade": "websocket", "Sec-WebSocket-Protocol": "mqtt, mqttv3.1"}
            refusal = answer({"error": "this is the endpoint for MQTT over WebSocket"}, 426, headers)
            await refusal(scope, receive, send)
        else:
            await self._mounted.get(path, self._app)(scope, receive, send)


def build(served: Served) -> App:
    """Return the application."""
    desk = Desk(served.options, served.authenticator)
    pages = Pages()
    app = Starlette(
        routes=[*routes(served, desk), *(Route(path, desk.open(pages.get), methods=["GET"]) for path in pages.paths)],
        middleware=_cross_origin(served.options.origins),
        exception_handlers={HTTPException: on_http_error},
    )
    app.router.redirect_slashes = False
    return SecurityHeaders(_Front(served, app))


def _cross_origin(origins: Sequence[str]) -> list[Middleware]:
    if not origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "X-API-Key", "Content-Type"],
            max_age=600,
        )
    ]
