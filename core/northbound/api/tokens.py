"""Tokens (JWT): whose they are, if they are genuine.

Which keys and which algorithms count follows from the issuer's configuration and from the keys themselves, never from
the token (RFC 8725, 3.1 and 3.2): ``none`` is no algorithm, a public key is never taken for the secret of an HMAC, and
extensions that a token calls critical are not understood. Nothing of a token is in what is said about it.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

import jwt
import msgspec
from msgspec import Struct, structs

from northbound.admission import AuthOptions, IssuerOptions
from northbound.api.claims import ClaimReader
from northbound.api.identity import Identity, SignInRefused
from northbound.api.jwks import RemoteKeys
from northbound.api.verification import FileKeys, VerificationKey, chosen

#: A token is refused unread beyond this. Real ones have a few kilobytes; before somebody is known little is read.
MAX_TOKEN_BYTES: Final = 16_384
_LONGEST_KEY_ID: Final = 1024
_REQUIRED: Final = ("exp", "iss", "aud")

# What went wrong, in words of our own: those of the library may hold a piece of the token.
_WORDS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (jwt.InvalidAudienceError, "the token is for another audience"),
    (jwt.ImmatureSignatureError, "the token does not hold yet: do the clocks agree?"),
    (jwt.MissingRequiredClaimError, "the token lacks its end, issuer or audience"),
    (jwt.InvalidIssuedAtError, "the token's time of issue is not a time"),
)


class _Start(Struct, frozen=True, rename={"algorithm": "alg", "key_id": "kid", "critical": "crit"}):
    """The first part of a token, as far as it is looked at."""

    algorithm: str
    key_id: str | None = None
    critical: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    b64: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Claims(Struct, frozen=True):
    """The second part, as far as it is looked at before it is verified."""

    iss: str


class _Header(Struct, frozen=True):
    """What a token says of itself, before anything of it is believed."""

    issuer: str
    algorithm: str
    key_id: str | None


_START: Final = msgspec.json.Decoder(_Start)
_CLAIMS: Final = msgspec.json.Decoder(_Claims)


_TERMS: Final = count(1)


class Issuer:
    """One configured issuer: its keys, and how its tokens are read; ``terms`` is another number after each change."""

    def __init__(
        self, name: str, options: IssuerOptions, *, leeway: float, site_org: str | None, before: Issuer | None
    ) -> None:
        self.iss = options.claim_mapping.issuer
        self.configured = options, leeway, site_org
        same = before is not None and before.configured == self.configured
        self.terms: int = before.terms if before is not None and same else next(_TERMS)
        self._audience = options.audience
        self._leeway = leeway
        self._reader = ClaimReader(options, site_org=site_org, name=name)
        self._files = FileKeys(options.keys, options.algorithms)
        self._secrets: Sequence[VerificationKey] = ()
        if options.secret is not None:
            secret = options.secret.get_secret_value().encode()
            self._secrets = (VerificationKey(None, secret, frozenset(("HS256",))),)
        self.source = (
            options.jwks_url, options.jwks_ca, options.algorithms, options.jwks_refresh, options.jwks_maximum_age,
        )  # fmt: skip
        self.remote: RemoteKeys | None = (
            before.remote if before is not None and before.source == self.source else _remote(options)
        )

    async def verify(self, token: str, header: _Header) -> Identity:
        """Return whose ``token`` is; raises :class:`SignInRefused`."""
        known = False
        for candidates in (self._own, self._published):
            for key in await candidates(header):
                known = True
                claims = self._claims(token, key, header.algorithm)
                if claims is not None:
                    return structs.replace(self._reader.identity(claims, leeway=self._leeway), terms=self.terms)
        if known:
            raise SignInRefused("bad_credentials", "the token's signature is wrong")
        raise SignInRefused("bad_credentials", "the token is signed with a key or an algorithm not known here")

    async def _own(self, header: _Header) -> Sequence[VerificationKey]:
        return chosen((*self._files.keys(), *self._secrets), header.key_id, header.algorithm)

    async def _published(self, header: _Header) -> Sequence[VerificationKey]:
        return () if self.remote is None else await self.remote.find(header.key_id, header.algorithm)

    def _claims(self, token: str, key: VerificationKey, algorithm: str) -> Mapping[str, Any] | None:
        """Return the claims, or ``None`` where another key has signed them."""
        try:
            return jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self.iss,
                leeway=self._leeway,
                options={"require": list(_REQUIRED), "enforce_minimum_key_length": True},
            )
        except jwt.InvalidSignatureError:
            return None
        except jwt.ExpiredSignatureError:
            raise SignInRefused("expired", "the token has expired") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            words = next((words for kind, words in _WORDS if isinstance(error, kind)), "the token is damaged")
            raise SignInRefused("bad_credentials", words) from None


def _remote(options: IssuerOptions) -> RemoteKeys | None:
    if options.jwks_url is None:
        return None
    return RemoteKeys(
        options.jwks_url,
        algorithms=options.algorithms,
        ca=options.jwks_ca,
        refresh=options.jwks_refresh.total_seconds(),
        maximum_age=options.jwks_maximum_age.total_seconds(),
    )


class Tokens:
    """All configured issuers.

    ``before`` is what this takes the place of after a reload: the keys it has fetched are not fetched again, for their
    issuer may not answer just now.
    """

    def __init__(self, options: AuthOptions, *, site_org: str | None, before: Tokens | None = None) -> None:
        leeway = options.leeway.total_seconds()
        known = {} if before is None else before.issuers
        self.issuers: dict[str, Issuer] = {
            name: Issuer(name, each, leeway=leeway, site_org=site_org, before=known.get(name))
            for name, each in options.issuers.items()
        }

    async def verify(self, token: str) -> Identity:
        """Return whose ``token`` is; raises :class:`SignInRefused`."""
        header = _header(token)
        refused: list[SignInRefused] = []
        for issuer in self.issuers.values():
            if issuer.iss == header.issuer:
                try:
                    return await issuer.verify(token, header)
                except SignInRefused as error:
                    refused.append(error)
        if not refused:
            raise SignInRefused("bad_credentials", "the token is of an issuer that is not known here")
        # Of several issuers of one name that which knew the signature has the most to say.
        raise max(refused, key=lambda error: error.reason != "bad_credentials")

    def problems(self) -> list[str]:
        """Return in words which keys could not be fetched."""
        remotes = [issuer.remote for issuer in self.issuers.values() if issuer.remote is not None]
        return [f"the keys at {remote.url}: {remote.error}" for remote in remotes if remote.error is not None]

    def holds(self, identity: Identity) -> bool:
        """Whether the token of somebody signed in would be read today as it was then."""
        issuer = self.issuers.get(identity.issuer or "")
        return issuer is not None and issuer.terms == identity.terms

    async def run(self) -> None:
        """Keep the keys of issuers fresh, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for issuer in self.issuers.values():
                if issuer.remote is not None:
                    group.create_task(issuer.remote.run(), name=f"keys of {issuer.remote.url}")


def _header(token: str) -> _Header:
    """Return what ``token`` says of itself; raises :class:`SignInRefused` where it is not a token."""
    if len(token) > MAX_TOKEN_BYTES:
        raise SignInRefused("bad_credentials", f"the token has more than {MAX_TOKEN_BYTES} bytes")
    parts = token.split(".")
    try:
        start = _START.decode(_decoded(parts[0]))
        claims = _CLAIMS.decode(_decoded(parts[1]))
    except (msgspec.DecodeError, ValueError, IndexError, RecursionError):
        raise SignInRefused("bad_credentials", "this is not a token that says who made it: is it whole?") from None
    if len(parts) != 3 or len(start.key_id or "") > _LONGEST_KEY_ID:
        raise SignInRefused("bad_credentials", "the token's header is damaged")
    if start.critical is not msgspec.UNSET or start.b64 is not msgspec.UNSET:
        raise SignInRefused("bad_credentials", "the token needs an extension that is not known here")
    return _Header(claims.iss, start.algorithm, start.key_id)


def _decoded(part: str) -> bytes:
    """Return the bytes of a part. Its form is not judged: what verifies it does that."""
    return base64.urlsafe_b64decode(f"{part}{'=' * (-len(part) % 4)}")
