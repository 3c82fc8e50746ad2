"""How commands ask the running service: over HTTP, with the token beside its store, or at a URL with a token given."""

from __future__ import annotations

import http.client
import os
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import click
import msgspec

from northbound.api import local
from northbound.cli.place import Place, placed
from northbound.errors import NorthboundError

F = TypeVar("F", bound=Callable[..., Any])

TOKEN_VARIABLE: Final = "NORTHBOUND_TOKEN"  # noqa: S105 - its name
_TIMEOUT_SECONDS: Final = 20.0
_LARGEST_ANSWER: Final = 256 * 1024**2
_LONGEST_LINE: Final = 64 * 1024**2


def called(command: F) -> F:
    """Give a command the options that say which service is meant."""
    command = click.option(
        "--url",
        help=f"A service elsewhere: https://host:port, with a token in {TOKEN_VARIABLE}. Default: this machine's.",
    )(command)
    return placed(command)


class Caller:
    """Asks one service. Every method raises :class:`NorthboundError` with what to do about it."""

    def __init__(self, config: str | None, store: str | None, url: str | None) -> None:
        if url is not None:
            if config is not None or store is not None:
                raise click.UsageError("--url names the service: leave --config and --store out")
            token = os.environ.get(TOKEN_VARIABLE)
            if not token:
                raise click.UsageError(f"--url needs a token: set {TOKEN_VARIABLE} to a JWT or an API key")
            self._entrance = local.Entrance(url=url, token=token, pid=0)
        else:
            self._entrance = local.read(Place(config, store).path)
        self.url = self._entrance.url

    def get(self, path: str, **query: str) -> Any:
        """Return the answer to a request, decoded."""
        connection, response = self._ask(path, query, "application/json")
        try:
            content = response.read(_LARGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None
        finally:
            connection.close()
        return self._decoded(response.status, content)

    def events(self, path: str, **query: str) -> Iterator[Any]:
        """Give each server-sent event, decoded, until the service ends the stream."""
        connection, response = self._ask(path, query, "text/event-stream")
        try:
            if response.status != 200:
                self._decoded(response.status, response.read(_LARGEST_ANSWER))
            name = ""
            while line := response.readline(_LONGEST_LINE):
                if line.startswith(b"event: "):
                    name = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    told = self._decoded(response.status, line[6:])
                    if name == "end":
                        raise NorthboundError(f"the service ended it: {told['reason']}")
                    yield told
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None
        finally:
            connection.close()

    def _ask(
        self, path: str, query: dict[str, str], accept: str
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._connection()
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Authorization": f"Bearer {self._entrance.token}", "Accept": accept}
        try:
            connection.request("GET", target, headers=headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise self._broken(error) from None

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if parts.scheme not in ("http", "https") or not host:
            raise click.UsageError(f"--url {self.url!r}: write https://host:port")
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
        return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=self._context())

    def _context(self) -> ssl.SSLContext:
        certificate = self._entrance.certificate
        if certificate is None:
            return ssl.create_default_context()
        # The service on this machine, reached by its loopback address: what it shows must be that very certificate.
        try:
            context = ssl.create_default_context(cafile=certificate)
        except (OSError, ssl.SSLError) as error:
            raise NorthboundError(f"{certificate}: {error}: check the certificate of [api]") from None
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    def _decoded(self, status: int, content: bytes) -> Any:
        try:
            told = msgspec.json.decode(content)
        except msgspec.DecodeError:
            raise NorthboundError(f"{self.url} does not answer as northbound does ({status}): is that it?") from None
        if status != 200:
            words = told.get("error") if isinstance(told, dict) else None
            raise NorthboundError(f"{self.url}: {words or status}")
        return told

    def _broken(self, error: Exception) -> NorthboundError:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return NorthboundError(f"{self.url}: {words}: is the service running?")
