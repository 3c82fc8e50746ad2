"""What the tokens of known identity providers look like: where they say who, of which organisation, and what for.

A claim is named by its name, by a path with dots (``u.n``), or by a list where a name itself holds dots. Of several,
the first that a token has counts; for roles and scopes all of them do.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

from msgspec import Struct

from northbound.apikeys import Role, Scope

MappingName = Literal["placeos", "entra-id", "keycloak", "auth0", "standard"]
ClaimPath = tuple[str, ...]

_OWN_ROLES: Final[Mapping[str, Role]] = MappingProxyType({"northbound-support": "support", "northbound-admin": "admin"})
_OWN_SCOPES: Final[Mapping[str, Scope]] = MappingProxyType(
    {"mqtt": "mqtt", "mqtt.read": "mqtt.read", "mqtt.write": "mqtt.write"}
)


class ClaimMapping(Struct, frozen=True, kw_only=True):
    """How the tokens of one kind of issuer are read. ``jwks`` is added to the issuer, for where its keys are."""

    subject: tuple[ClaimPath, ...] = (("sub",),)
    name: tuple[ClaimPath, ...] = (("name",), ("preferred_username",))
    org: tuple[ClaimPath, ...] = ()
    role: tuple[ClaimPath, ...] = (("roles",),)
    scope: tuple[ClaimPath, ...] = (("scope",),)
    roles: Mapping[str, Role] = _OWN_ROLES
    scopes: Mapping[str, Scope] = _OWN_SCOPES
    #: Whether the token must say a role that is known; else somebody without one is a user.
    role_required: bool = False
    issuer: str | None = None
    jwks: str | None = None
    #: What the end of the issuer is, where ``jwks`` stands in its place and does not follow it.
    jwks_instead_of: str = ""


#: By the name that a configuration gives. Sources of the claims:
#: placeos: its auth service and models (``u.p``: 0 user, 1 support, 2 admin, 3 both);
#: entra-id: learn.microsoft.com/entra/identity-platform/access-token-claims-reference (version 2.0 tokens);
#: keycloak: Server Administration Guide, "OIDC token mappers", and since 26 the ``organization`` scope;
#: auth0: auth0.com/docs/secure/tokens/access-tokens/access-token-profiles, "Organizations";
#: standard: RFC 9068, 2.2.
MAPPINGS: Final[Mapping[MappingName, ClaimMapping]] = {
    "placeos": ClaimMapping(
        name=(("u", "n"),),
        org=(("aud",),),
        role=(("u", "p"),),
        roles={"0": "user", "1": "support", "2": "admin", "3": "admin"},
        scopes={
            **_OWN_SCOPES,
            "public": "public",
            "public.read": "public.read",
            "public.write": "public.write",
        },
        role_required=True,
        issuer="POS",
    ),
    "entra-id": ClaimMapping(
        subject=(("oid",), ("sub",)),
        scope=(("scp",), ("roles",)),
        jwks="/discovery/v2.0/keys",
        jwks_instead_of="/v2.0",
    ),
    "keycloak": ClaimMapping(
        name=(("preferred_username",), ("name",)),
        org=(("organization",),),
        role=(("realm_access", "roles"),),
        jwks="/protocol/openid-connect/certs",
    ),
    "auth0": ClaimMapping(
        org=(("org_id",),),
        role=(("roles",), ("permissions",)),
        scope=(("scope",), ("permissions",)),
        scopes={**_OWN_SCOPES, "read:mqtt": "mqtt.read", "write:mqtt": "mqtt.write"},
        jwks="/.well-known/jwks.json",
    ),
    "standard": ClaimMapping(scope=(("scope",), ("scp",))),
}
