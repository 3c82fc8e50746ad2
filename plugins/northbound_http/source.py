"""The source itself; what serves is imported when it runs."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

import pydantic

import northbound
from northbound.hosting import ListenAddress
from northbound_http.options import Options

#: Where events are taken.
PATH: Final = "/api/events"


class HttpSource(northbound.Source):
    """Takes events as JSON Lines over HTTP."""

    Config: ClassVar[type[pydantic.BaseModel]] = Options
    config: Options

    #: Where it listens, with the ports that 0 became; empty while it does not.
    addresses: tuple[ListenAddress, ...] = ()

    @property
    def origin(self) -> str:
        """The addresses clients post to."""
        if self.config.on_api:
            return PATH
        scheme = "https" if self.config.certificate else "http"
        return ", ".join(f"{scheme}://{where}{PATH}" for where in self.config.listen)

    async def run(self, intake: northbound.Intake) -> None:
        """Serve until cancelled, then finish the requests under way."""
        from northbound.hosting.server import HttpServer  # noqa: PLC0415 - uvicorn, only where it is configured
        from northbound_http.app import build  # noqa: PLC0415 - starlette, likewise

        app = build(intake, self.config)
        if self.config.on_api:
            with intake.mounted(PATH, app):
                await asyncio.Event().wait()  # until cancelled
        server = HttpServer(app, self.config)
        await server.bind()

        def started() -> None:
            self.addresses = server.addresses

        try:
            await server.serve(started)
        finally:
            self.addresses = ()
