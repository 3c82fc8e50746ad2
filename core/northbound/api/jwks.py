"""Keys that an issuer publishes at a URL (JWKS, RFC 7517): fetched, kept, and fetched again.

A token with a key that is not known makes them be fetched at once, but not more often than every half a minute, so
that made-up tokens cannot make us knock at the issuer's door. While it does not answer, what is known goes on.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import jwt
import msgspec

from northbound.admission.publickeys import algorithms_of
from northbound.api.verification import VerificationKey, chosen

log = logging.getLogger(__name__)

_LARGEST: Final = 262_144
_MOST_KEYS: Final = 100
_FETCH_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 5.0
#: Between two fetches for the sake of unknown keys, and after one that failed.
_COOLDOWN_SECONDS: Final = 30.0
_FIRST_RETRY_SECONDS: Final = 2.0


class JwksError(Exception):
    """The keys could not be had; the text says why."""


class RemoteKeys:
    """The keys at one URL. ``error`` says why the last fetch failed. Call :meth:`run` in a task of the service."""

    def __init__(
        self,
        url: str,
        *,
        algorithms: Iterable[str],
        ca: Path | None = None,
        refresh: float = 900.0,
        maximum_age: float = 86_400.0,
        cooldown: float = _COOLDOWN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self.error: str | None = None
        self._algorithms = frozenset(algorithms)
        self._ca = ca
        self._refresh = refresh
        self._maximum_age = maximum_age
        self._cooldown = cooldown
        self._clock = clock
        self._keys: list[VerificationKey] = []
        self._fetched: float | None = None
        self._not_before = 0.0
        self._retry = _FIRST_RETRY_SECONDS
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None, algorithm: str) -> list[VerificationKey]:
        """Return the keys a token may be signed with; fetches them where none is known and it is time."""
        found = chosen(self._known(), key_id, algorithm)
        if not found:
            if self._fetching is not None or self._clock() >= self._not_before:
                await self._fetch()
            found = chosen(self._known(), key_id, algorithm)
        return found

    async def run(self) -> None:
        """Keep the keys fresh, until cancelled."""
        while True:
            if self._due() <= 0:
                await self._fetch()
            await asyncio.sleep(max(self._due(), 0.1))

    def _known(self) -> list[VerificationKey]:
        if self._fetched is None or self._clock() - self._fetched > self._maximum_age:
            return []
        return self._keys

    def _due(self) -> float:
        """Return in how many seconds the next fetch is."""
        now = self._clock()
        fresh = 0.0 if self._fetched is None or self.error is not None else self._fetched + self._refresh
        return max(fresh, self._not_before if self.error is not None else 0.0) - now

    async def _fetch(self) -> None:
        """Fetch the keys, once for all who ask meanwhile.

        In a task of nobody's: a client who gives up must not end it, or the next one knocks again at once.
        """
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch_once(), name=f"fetch of {self.url}")
        await asyncio.shield(self._fetching)

    async def _fetch_once(self) -> None:
        try:
            keys = await fetch(self.url, self._ca, self._algorithms)
        except JwksError as error:
            words = str(error)
            if self.error != words:
                log.warning("the keys at %s: %s; what is known of them goes on", self.url, words)
            self.error = words
            self._not_before = self._clock() + self._retry
            self._retry = min(self._retry * 2, self._cooldown)
        else:
            if self.error is not None:
                log.info("the keys at %s were fetched again", self.url)
            self.error = None
            self._keys = keys
            self._fetched = self._clock()
            self._not_before = self._fetched + self._cooldown
            self._retry = _FIRST_RETRY_SECONDS
        finally:
            self._fetching = None


async def fetch(url: str, ca: Path | None, algorithms: Iterable[str]) -> list[VerificationKey]:
    """Return the keys that are published at ``url``; raises :class:`JwksError`."""
    executor = ThreadPoolExecutor(1)  # its own: those of the loop are for what does not hang
    try:
        content = await asyncio.get_running_loop().run_in_executor(executor, _get, url, ca)
    finally:
        executor.shutdown(wait=False)
    return parse(content, algorithms)


def parse(content: bytes, algorithms: Iterable[str]) -> list[VerificationKey]:
    """Return the keys in a JWKS that verify one of ``algorithms``; raises :class:`JwksError` where it has none."""
    try:
        rows = msgspec.json.decode(content)["keys"]
    except (msgspec.DecodeError, ValueError, TypeError, KeyError, RecursionError):
        raise JwksError("what stands there is not a JWKS") from None
    if not isinstance(rows, list):
        raise JwksError("what stands there is not a JWKS")
    taken = frozenset(algorithms)
    found = [key for row in rows[:_MOST_KEYS] if (key := _key(row, taken)) is not None]
    if not found:
        raise JwksError("there is no key that tokens may be signed with here")
    return found


def _key(row: Any, algorithms: frozenset[str]) -> VerificationKey | None:
    """Return one key; ``None`` where it is for something else. A shared secret (``oct``) is never published."""
    if not isinstance(row, dict) or row.get("kty") not in ("RSA", "EC", "OKP") or "d" in row:
        return None
    if row.get("use", "sig") != "sig" or "verify" not in _strings(row.get("key_ops", ["verify"])):
        return None
    key_id = row.get("kid")
    try:
        key = jwt.PyJWK(row).key
        allowed = frozenset(algorithms_of(key))
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError) as error:
        log.warning("a key of a JWKS is not taken: %s", error if type(error) is ValueError else type(error).__name__)
        return None
    if "alg" in row:
        allowed = allowed & frozenset(_strings(row["alg"]))
    allowed = allowed & algorithms
    return VerificationKey(key_id if isinstance(key_id, str) else None, key, allowed) if allowed else None


def _strings(value: Any) -> list[str]:
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _get(url: str, ca: Path | None) -> bytes:
    """Return what is at ``url``. Runs in a thread; never takes much longer than ten seconds."""
    until = time.monotonic() + _FETCH_SECONDS
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        opener = urllib.request.build_opener(_NoRedirect(), urllib.request.HTTPSHandler(context=context))
        request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310 - the options took http(s) only
        with opener.open(request, timeout=_SILENCE_SECONDS) as response:
            content = bytearray()
            while piece := response.read1(65_536):
                content += piece
                if len(content) > _LARGEST:
                    raise JwksError("it is larger than 256 KiB")
                if time.monotonic() > until:
                    raise JwksError("it comes too slowly")
            return bytes(content)
    except urllib.error.HTTPError as error:
        with error:
            raise JwksError(f"the answer is {error.code}") from None
    except urllib.error.URLError as error:
        raise JwksError(f"cannot be fetched: {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise JwksError(f"cannot be fetched: {error or type(error).__name__}") from None
