"""Google's side of signing in, for twins: service accounts, workload identity, and the tokens they are given.

What is checked and what is answered follows AIP-4111 (self-signed JWT), AIP-4117 (external accounts) and "Using OAuth
2.0 for Server to Server Applications" (developers.google.com/identity/protocols/oauth2/service-account), where the
words of ``invalid_grant`` stand too.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - RFC 8693, section 2.1
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - RFC 8693, section 3
SUBJECT_JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
#: Either allows publishing: developers.google.com/identity/protocols/oauth2/scopes#pubsub
SCOPES: Final = frozenset(("https://www.googleapis.com/auth/pubsub", "https://www.googleapis.com/auth/cloud-platform"))
#: What a federated token is asked for when it only serves to impersonate an account (google-auth, external_account).
IAM_SCOPE: Final = "https://www.googleapis.com/auth/iam"
#: An assertion is good for at most an hour: the page above, "exp".
LONGEST_ASSERTION: Final = 3600
#: "When making an access token request this value is always …": the page above, "aud".
ASSERTION_AUDIENCE: Final = "https://oauth2.googleapis.com/token"
#: How far a clock may be off. Google names no number ("a reasonable timeframe"); ours is small, to be strict.
LEEWAY: Final = 60
_UNREASONABLE = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
    "Check your iat and exp values in the JWT claim."
)


class Refused(Exception):
    """Credentials are refused: ``error`` and ``words`` as the token endpoint answers them."""

    def __init__(self, error: str, words: str) -> None:
        self.error = error
        self.words = words
        super().__init__(f"{error}: {words}")


class Key(NamedTuple):
    """A key pair, as PEM, with the id it is named by."""

    id: str
    private: str
    public: bytes


def make_key() -> Key:
    """Return a new RSA key, as the console makes them for a service account."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Key(secrets.token_hex(20), private, public)


class GoogleAccounts:
    """Service accounts and one workload identity pool; issues access tokens and knows whose they are.

    ``token_seconds`` is how long a token lasts, ``clock`` Google's own clock (seconds since 1970). Safe to use from
    several threads: the token endpoint has its own.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.token_seconds = 3600
        self.issued = 0
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[str, bytes]] = {}
        self._tokens: dict[str, tuple[str, float, frozenset[str]]] = {}
        self.pool_audience = (
            "//iam.googleapis.com/projects/123456789/locations/global/workloadIdentityPools/site/providers/building"
        )

    @cached_property
    def _pool(self) -> Key:
        return make_key()  # that of the identity provider; most tests need none

    # what an administrator does

    def service_account(self, email: str, token_uri: str) -> dict[str, str]:
        """Return the contents of a new key file of a service account; earlier keys stay good until revoked."""
        key = make_key()
        with self._lock:
            self._keys[key.id] = (email, key.public)
        return {
            "type": "service_account",
            "project_id": email.partition("@")[2].partition(".")[0],
            "private_key_id": key.id,
            "private_key": key.private,
            "client_email": email,
            "client_id": "1",
            "token_uri": token_uri,
        }

    def external_account(self, token_file: str, base_uri: str, *, email: str | None = None) -> dict[str, Any]:
        """Return the contents of a workload identity configuration; with ``email`` that account is impersonated."""
        info: dict[str, Any] = {
            "type": "external_account",
            "audience": self.pool_audience,
            "subject_token_type": SUBJECT_JWT,
            "token_url": f"{base_uri}/v1/token",
            "credential_source": {"file": token_file},
        }
        if email is not None:
            info["service_account_impersonation_url"] = (
                f"{base_uri}/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
            )
        return info

    def subject_token(self, subject: str, *, seconds: int = 600) -> str:
        """Return a token of the building's own identity provider, for the file that workload identity reads."""
        now = int(self.clock())
        claims = {"sub": subject, "aud": self.pool_audience, "iat": now, "exp": now + seconds}
        return jwt.encode(claims, self._pool.private, "RS256", headers={"kid": self._pool.id})

    def revoke(self, key_id: str) -> None:
        """Delete a key: what it signs is refused from now on."""
        with self._lock:
            self._keys.pop(key_id, None)

    def expire_tokens(self) -> None:
        """End every access token issued so far."""
        with self._lock:
            self._tokens = dict.fromkeys(self._tokens, ("", 0.0, frozenset()))

    # what the endpoints do

    def exchange_assertion(self, assertion: str) -> tuple[str, int]:
        """Return an access token and its seconds for a service account's assertion; raises :class:`Refused`."""
        email, claims = self._signed_by_account(assertion)
        if claims.get("aud") != ASSERTION_AUDIENCE:
            raise Refused("invalid_grant", "Invalid JWT: aud is not the token endpoint.")
        return self.issue(email, _checked(str(claims.get("scope", "")).split()))

    def exchange_subject(self, form: Mapping[str, str]) -> tuple[str, int]:
        """Return a federated access token for a token of the identity provider (RFC 8693); raises :class:`Refused`."""
        if form.get("requested_token_type") != ACCESS_TOKEN or form.get("subject_token_type") != SUBJECT_JWT:
            raise Refused("invalid_request", "Invalid requested_token_type or subject_token_type.")
        if form.get("audience") != self.pool_audience:
            raise Refused("invalid_target", 'The target service indicated by the "audience" parameters is invalid.')
        scopes = _checked(form.get("scope", "").split(), IAM_SCOPE)
        claims = self._decode(form.get("subject_token", ""), self._pool.public, audience=self.pool_audience)
        return self.issue(f"principal:{claims['sub']}", scopes)

    def impersonate(self, token: str, email: str, scopes: Sequence[str]) -> tuple[str, int]:
        """Return an access token of ``email`` for a federated one, roles/iam.workloadIdentityUser granted."""
        principal, held = self.of_access_token(token)
        if not principal.startswith("principal:") or not held & {*SCOPES, IAM_SCOPE}:
            raise Refused("permission_denied", "Permission 'iam.serviceAccounts.getAccessToken' denied.")
        return self.issue(email, _checked(scopes))

    def issue(self, principal: str, scopes: frozenset[str] = SCOPES) -> tuple[str, int]:
        """Return a new access token and its seconds."""
        token = f"ya29.{secrets.token_urlsafe(32)}"
        with self._lock:
            self.issued += 1
            self._tokens[token] = (principal, self.clock() + self.token_seconds, scopes)
        return token, self.token_seconds

    # what a service does with a token

    def principal(self, token: str, audience: str) -> str:
        """Return whose ``token`` is: an access token or a self-signed JWT for ``audience``. Raises :class:`Refused`."""
        if token.count(".") == 2 and token.startswith("ey"):
            return self._of_self_signed(token, audience)
        principal, scopes = self.of_access_token(token)
        if not scopes & SCOPES:
            raise Refused("ACCESS_TOKEN_SCOPE_INSUFFICIENT", "Request had insufficient authentication scopes.")
        return principal

    def of_access_token(self, token: str) -> tuple[str, frozenset[str]]:
        """Return whose access token it is, and for what; raises :class:`Refused`."""
        nobody: tuple[str, float | None, frozenset[str]] = ("", None, frozenset())
        with self._lock:
            principal, expires, scopes = self._tokens.get(token, nobody)
        if expires is None:
            raise Refused("ACCESS_TOKEN_TYPE_UNSUPPORTED", "unknown token")
        if self.clock() >= expires:
            raise Refused("ACCESS_TOKEN_EXPIRED", "expired token")
        return principal, scopes

    def _of_self_signed(self, token: str, audience: str) -> str:
        email, claims = self._signed_by_account(token)
        # AIP-4111: the audience of the API, or a scope and no audience.
        if "scope" in claims:
            _checked(str(claims["scope"]).split())
        elif claims.get("aud") != audience or claims.get("sub") != email:
            raise Refused("ACCESS_TOKEN_TYPE_UNSUPPORTED", "a JWT for another service")
        return email

    def _signed_by_account(self, assertion: str) -> tuple[str, dict[str, Any]]:
        try:
            key_id = str(jwt.get_unverified_header(assertion).get("kid"))
        except jwt.InvalidTokenError:
            raise Refused("invalid_grant", "Invalid JWT.") from None
        with self._lock:
            known = self._keys.get(key_id)
        if known is None:
            raise Refused("invalid_grant", "Invalid JWT Signature.")
        email, public = known
        claims = self._decode(assertion, public)
        if claims.get("iss") != email:
            raise Refused("invalid_grant", "Invalid grant: account not found")
        return email, claims

    def _decode(self, token: str, public: bytes, *, audience: str | None = None) -> dict[str, Any]:
        try:
            # Times are checked below, by Google's clock and not by this machine's.
            unchecked = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
            options: Any = {**unchecked, "verify_aud": audience is not None, "require": ["iat", "exp"]}
            claims: dict[str, Any] = jwt.decode(token, public, ["RS256"], audience=audience, options=options)
            issued, expires = float(claims["iat"]), float(claims["exp"])
        except (jwt.InvalidTokenError, TypeError, ValueError):
            raise Refused("invalid_grant", "Invalid JWT Signature.") from None
        now = self.clock()
        if issued > now + LEEWAY or expires < now - LEEWAY or expires - issued > LONGEST_ASSERTION:
            raise Refused("invalid_grant", _UNREASONABLE)
        return claims


def _checked(scopes: Sequence[str], *others: str) -> frozenset[str]:
    if not {*SCOPES, *others}.intersection(scopes):
        raise Refused("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
    return frozenset(scopes)
