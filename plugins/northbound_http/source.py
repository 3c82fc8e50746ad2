"""The source itself; what serves is imported when it runs."""

from __future__ import annotations

from typing import ClassVar

import pydantic

import northbound
from northbound_http.options import Address, Options


class HttpSource(northbound.Source):
    """Takes events as JSON Lines over HTTP."""

    Config: ClassVar[type[pydantic.BaseModel]] = Options
    config: Options

    #: Where it listens, with the ports that 0 became; empty while it does not.
    addresses: tuple[Address, ...] = ()

    @property
    def origin(self) -> str:
        """The addresses clients post to."""
        scheme = "https" if self.config.certificate else "http"
        return ", ".join(f"{scheme}://{where}/api/events" for where in self.config.listen)

    async def run(self, intake: northbound.Intake) -> None:
        """Serve until cancelled, then finish the requests under way."""
        from northbound_http.app import build  # noqa: PLC0415 - starlette, only where it is configured
        from northbound_http.server import serve  # noqa: PLC0415 - uvicorn, only where it is configured

        try:
            await serve(build(intake, self.config), self.config, self._started)
        finally:
            self.addresses = ()

    def _started(self, addresses: tuple[Address, ...]) -> None:
        self.addresses = addresses
