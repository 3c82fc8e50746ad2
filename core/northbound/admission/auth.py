"""The tables ``[api.auth]``: whose tokens are taken, how they are read, and what failing costs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

import pydantic
from pydantic import ByteSize, Field, SecretStr

from northbound.admission.mappings import MAPPINGS, ClaimMapping, ClaimPath, MappingName
from northbound.admission.publickeys import Algorithm, read_pem
from northbound.apikeys import Role, Scope
from northbound.fields import ConfigPath, Duration, Size

_STRICT = pydantic.ConfigDict(extra="forbid", frozen=True)
_SHORTEST_SECRET: Final = 32  # RFC 7518, 3.2: as long as the hash
_LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))


def _claim_path(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


#: ``"roles"``, ``"u.n"``, or ``["resource_access", "my.app", "roles"]``.
Claim = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=256)], ...],
    pydantic.BeforeValidator(_claim_path),
    Field(min_length=1, max_length=8),
]


class ClaimOptions(pydantic.BaseModel):
    """Where a token says what: a claim, a path with dots, or a list of names. Default: as the mapping has it."""

    model_config = _STRICT

    subject: Claim | None = Field(None, description="Who it is, for ever; {user} in rules of access.")
    name: Claim | None = Field(None, description="What to call them in the audit log.")
    org: Claim | None = Field(None, description="Their organisation.")
    role: Claim | None = Field(None, description="Their role, or a list of groups of which some are one.")
    scope: Claim | None = Field(None, description="What the token is for: a list, or words with spaces between.")


class IssuerOptions(pydantic.BaseModel):
    """Whose tokens are taken, and what stands in them."""

    model_config = _STRICT

    mapping: MappingName = Field("standard", description="How its tokens are read; 'standard' is RFC 9068.")
    issuer: str | None = Field(
        None, min_length=1, max_length=2048, description="The claim 'iss', exactly. Needed, unless the mapping has one."
    )
    audience: tuple[Annotated[str, Field(min_length=1, max_length=2048)], ...] = Field(
        min_length=1, max_length=64, description="The claim 'aud' must be, or hold, one of these."
    )
    keys: tuple[ConfigPath, ...] = Field(
        (), max_length=16, description="PEM files of public keys or certificates. Of a rotation both, old and new."
    )
    jwks: str | None = Field(
        None, max_length=2048, description="Where the issuer publishes its keys. Default: as the mapping has it."
    )
    jwks_ca: ConfigPath | None = Field(
        None, description="PEM file of authorities to trust there. Default: the system's."
    )
    jwks_refresh: Duration = Field(
        timedelta(minutes=15), ge=timedelta(seconds=10), description="How often the keys are fetched again."
    )
    jwks_maximum_age: Duration = Field(
        timedelta(hours=24), description="For how long fetched keys hold while they cannot be fetched again."
    )
    secret: SecretStr | None = Field(
        None, description="Secret of HS256. Whoever has it can make tokens; prefer public keys."
    )
    algorithms: tuple[Algorithm, ...] = Field(
        ("RS256", "ES256", "EdDSA"), min_length=1, description="Which public-key algorithms are taken."
    )
    claims: ClaimOptions = ClaimOptions()
    org: str | None = Field(None, min_length=1, description="The organisation of everybody this issuer knows.")
    orgs: Mapping[str, str] | None = Field(
        None, description="Organisation by what the claim says. What is not in it is refused."
    )
    every_org: tuple[Role, ...] = Field((), description="Roles that are not bound to one organisation.")
    roles: Mapping[str, Role] | None = Field(None, description="Role by what the claim says; the highest one counts.")
    scopes: Mapping[str, Scope] | None = Field(None, description="Scope by what the claim says, beside the mapping's.")
    default_scopes: tuple[Scope, ...] = Field(
        (), description="What every token of this issuer is for, whatever it says."
    )

    @pydantic.field_validator("keys")
    @classmethod
    def _readable(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        for path in paths:
            try:
                read_pem(path)
            except OSError as error:
                raise ValueError(f"{path}: {error.strerror}") from None
            except ValueError as error:
                raise ValueError(f"{path} {error}") from None
        return paths

    @pydantic.field_validator("jwks")
    @classmethod
    def _safe_url(cls, url: str | None) -> str | None:
        if url is not None:
            _check_url(url)
        return url

    @pydantic.field_validator("secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            text = secret.get_secret_value()
            if len(text.encode()) < _SHORTEST_SECRET:
                raise ValueError(f"a secret of HS256 has at least {_SHORTEST_SECRET} bytes (RFC 7518, 3.2)")
            if "-----BEGIN" in text:
                raise ValueError("this is a PEM file; name a public key under 'keys'")
        return secret

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Self:
        mapping = MAPPINGS[self.mapping]
        if self.issuer is None and mapping.issuer is None:
            raise ValueError(f"name the issuer, as the claim 'iss' of a {self.mapping} token has it")
        if self.jwks is None and mapping.jwks is not None and not self.keys and self.secret is None:
            _check_url(self.issuer or "")
            if not (self.issuer or "").endswith(mapping.jwks_instead_of):
                raise ValueError(f"the issuer of a {self.mapping} token ends with {mapping.jwks_instead_of!r}")
        if not (self.keys or self.jwks_url or self.secret):
            raise ValueError("say how its tokens are verified: keys, jwks or secret")
        if self.org is not None and self.orgs is not None:
            raise ValueError("give 'org' for everybody, or 'orgs' by claim")
        if self.mapping == "placeos" and len(self.audience) > 1 and self.org is None and self.orgs is None:
            raise ValueError("several domains: say with 'orgs' which organisation each is of")
        return self

    @property
    def jwks_url(self) -> str | None:
        """Where the issuer publishes its keys; ``None`` where only ``keys`` and ``secret`` count."""
        mapping = MAPPINGS[self.mapping]
        if self.jwks is not None or mapping.jwks is None or self.keys or self.secret is not None:
            return self.jwks
        base = (self.issuer or "").removesuffix(mapping.jwks_instead_of).rstrip("/")
        return f"{base}{mapping.jwks}"

    @property
    def claim_mapping(self) -> ClaimMapping:
        """The mapping, with what is set here in place of its own."""
        base = MAPPINGS[self.mapping]
        named = {
            name: (path,)
            for name in ("subject", "name", "org", "role", "scope")
            if (path := self._claim(name)) is not None
        }
        org = named.get("org", base.org if self.mapping != "placeos" or self.orgs is not None else ())
        return ClaimMapping(
            subject=named.get("subject", base.subject),
            name=named.get("name", base.name),
            org=() if self.org is not None else org,
            role=named.get("role", base.role),
            scope=named.get("scope", base.scope),
            roles=base.roles if self.roles is None else self.roles,
            scopes={**base.scopes, **(self.scopes or {})},
            role_required=base.role_required and self.roles is None,
            issuer=self.issuer or base.issuer,
        )

    def _claim(self, name: str) -> ClaimPath | None:
        path: ClaimPath | None = getattr(self.claims, name)
        return path


class ThrottleOptions(pydantic.BaseModel):
    """What failing to sign in costs an address. A token that has only expired, or is not for here, is no failure."""

    model_config = _STRICT

    attempts: int = Field(20, ge=1, le=10_000, description="So many failures of one address are answered.")
    window: Duration = Field(
        timedelta(minutes=1), ge=timedelta(seconds=1), description="… within this time; then it is refused at once."
    )
    delay: Duration = Field(
        timedelta(milliseconds=100),
        le=timedelta(seconds=10),
        description="How long the first failure waits for its answer; each one more twice as long, up to 2 s.",
    )


class AuthOptions(pydantic.BaseModel):
    """Who is let in. API keys always are: `northbound keys` makes and revokes them."""

    model_config = _STRICT

    leeway: Duration = Field(
        timedelta(seconds=10),
        le=timedelta(minutes=5),
        description="How far the clock of who made a token may be from ours.",
    )
    issuers: Mapping[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")], IssuerOptions] = Field(
        default_factory=dict, description="Whose tokens are taken: [api.auth.issuers.NAME]."
    )
    api_keys_from: str | None = Field(
        None, min_length=1, description="Name of a source whose API keys are taken, too (PlaceOS's table api_key)."
    )
    throttle: ThrottleOptions = ThrottleOptions()
    audit: bool = Field(True, description="Whether signing in and what access decides is written to an audit log.")
    audit_path: ConfigPath | None = Field(None, description="Default: beside the store, <store>.access.jsonl.")
    audit_max_bytes: Size = Field(ByteSize(16 * 1024**2), ge=65_536, description="At this size a new file is begun.")
    audit_files: int = Field(8, ge=1, le=1000, description="So many full files are kept.")


def _check_url(url: str) -> None:
    """Raise ``ValueError`` unless ``url`` is one that keys may be fetched from: https, or this very machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise ValueError("is not a URL: write https://…") from None
    if (
        parts.scheme not in ("http", "https")
        or not host
        or parts.username is not None
        or not url.isprintable()
        or " " in url
    ):
        raise ValueError("is not such a URL: write https://…, without a user name")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise ValueError("keys that come unprotected protect nothing: write https://…")
