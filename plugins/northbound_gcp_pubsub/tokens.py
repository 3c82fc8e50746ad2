"""Credentials and their tokens: loaded and renewed in a thread, so that the event loop never waits for a server.

gRPC can be given google-auth's credentials and then asks for a token in each call. It is not, since there a refused
sign-in comes back as UNAVAILABLE, which reads like a server that is away, and many calls fetch many tokens at once.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any, Final

import requests
from google.auth import exceptions

from northbound import NotConnected, Unauthorised, Unavailable
from northbound_gcp_pubsub.accounts import BoundedRequest, Unusable, kind, load, session
from northbound_gcp_pubsub.options import PubSubOptions

#: A token is renewed so long before it ends, or in the last fifth of its time. google-auth's own margin.
_EARLY_SECONDS: Final = 225.0
#: While an old token still holds, a renewal that fails is tried again after so long.
_AGAIN_SECONDS: Final = 5.0
_LONGEST_WORDS: Final = 300
#: Who signs in, where the credentials do not tell.
SOMEBODY: Final = "the account that signs in"


class Tokens:
    """The credentials of one connector and the token they give now."""

    def __init__(self, options: PubSubOptions) -> None:
        self._options = options
        self._session: requests.Session | None = None
        self._credentials: Any = None
        self._turn = asyncio.Lock()
        self._token = ""
        self._expires = 0.0  # by the clock of the wall, which is what tokens are dated by
        self._renew_at = 0.0

    @property
    def email(self) -> str | None:
        """The address of the account, where the credentials tell."""
        for name in ("signer_email", "service_account_email"):
            found = getattr(self._credentials, name, None)
            if isinstance(found, str) and found != "default":
                return found
        return None

    @property
    def principal(self) -> str:
        """Who signs in, in words."""
        return self.email or SOMEBODY

    @property
    def kind(self) -> str:
        """What kind of credentials they are, in words."""
        return kind(self._credentials)

    @property
    def expires(self) -> datetime | None:
        """When the present token ends."""
        return datetime.fromtimestamp(self._expires, UTC) if self._token else None

    async def load(self) -> None:
        """Read the credentials and get the first token. Raises :class:`Unauthorised` and :class:`NotConnected`."""
        self.close()
        try:
            self._session = session(self._options)
        except OSError as error:
            reason = error.strerror or "it holds no certificate"
            raise NotConnected(f"the CA file {self._options.ca} cannot be used: {reason}") from None
        try:
            self._credentials = await asyncio.to_thread(load, self._options, self._request())
        except Unusable as error:
            raise Unauthorised(str(error)) from None
        except exceptions.DefaultCredentialsError as error:
            raise Unauthorised(f"no credentials: {_words(error)}") from None
        except (exceptions.GoogleAuthError, OSError, ValueError) as error:  # of the default ones, from wherever
            raise Unauthorised(f"the default credentials cannot be used ({type(error).__name__})") from None
        await self.get()

    async def get(self, *, instead_of: str | None = None) -> str:
        """Return a token that holds, a newer one than ``instead_of``. Raises as :meth:`load`."""
        if self._fresh(instead_of):
            return self._token
        async with self._turn:
            if self._fresh(instead_of):
                return self._token
            try:
                await self._renew()
            except (Unavailable, Unauthorised):  # refused, too, by a file that is just being written
                if time.time() >= self._expires or instead_of == self._token:
                    raise
                self._renew_at = time.time() + _AGAIN_SECONDS
            return self._token

    def close(self) -> None:
        """Let go of connections to the token endpoint."""
        used, self._session = self._session, None
        if used is not None:
            used.close()

    def _fresh(self, instead_of: str | None) -> bool:
        return bool(self._token) and self._token != instead_of and time.time() < self._renew_at

    async def _renew(self) -> None:
        try:
            await asyncio.to_thread(self._credentials.refresh, self._request())
        except exceptions.TransportError as error:
            raise NotConnected(f"the token endpoint cannot be reached: {_words(error)}") from None
        except exceptions.GoogleAuthError as error:
            if error.retryable:
                raise NotConnected(f"the token endpoint fails: {_words(error)}") from None
            raise Unauthorised(f"no token for {self.principal}: {_words(error)}") from None
        except (ValueError, KeyError, TypeError, OSError) as error:
            # of the file that an external account reads, and of answers that are no JSON; they may quote a token
            raise Unauthorised(f"no token for {self.principal} ({type(error).__name__})") from None
        now = time.time()
        token: str | bytes = self._credentials.token
        self._token = token if isinstance(token, str) else token.decode()  # one that is signed here is bytes
        expiry: datetime | None = self._credentials.expiry  # UTC, without saying so
        self._expires = now + 3600 if expiry is None else expiry.replace(tzinfo=UTC).timestamp()
        left = self._expires - now
        self._renew_at = self._expires - min(_EARLY_SECONDS, left / 5)

    def _request(self) -> BoundedRequest:
        return BoundedRequest(self._session, self._options.connect_timeout.total_seconds())


def _words(error: exceptions.GoogleAuthError) -> str:
    """Return the first sentence of an error: behind it google-auth puts the whole answer."""
    text = " ".join(str(error.args[0] if error.args else error).split())
    return text if len(text) <= _LONGEST_WORDS else f"{text[: _LONGEST_WORDS - 1]}…"
