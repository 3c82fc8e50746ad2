"""From the claims of a token that was verified to who somebody is. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from northbound.admission import IssuerOptions
from northbound.admission.mappings import ClaimPath
from northbound.api.identity import Identity, SignInRefused
from northbound.apikeys import ROLES, Role

_LONGEST: Final = 1024
_LONGEST_NAME: Final = 200
_MOST_VALUES: Final = 10_000


class ClaimReader:
    """Reads the tokens of one issuer. ``site_org`` is the organisation where nothing says of which they are.

    ``name`` is what the configuration calls the issuer.
    """

    def __init__(self, options: IssuerOptions, *, site_org: str | None, name: str | None = None) -> None:
        self._name = name
        self._mapping = options.claim_mapping
        self._org = options.org or (site_org if not self._mapping.org else None)
        self._orgs = options.orgs
        self._every_org = frozenset(options.every_org)
        self._roles: Mapping[str, Role] = self._mapping.roles
        self._scopes = {text.lower(): scope for text, scope in self._mapping.scopes.items()}
        self._default_scopes = options.default_scopes

    def identity(self, claims: Mapping[str, Any], *, leeway: float) -> Identity:
        """Return who ``claims`` are of; ``leeway`` (seconds) is added to their end.

        Raises :class:`SignInRefused` where they are of somebody who may not come here, or cannot be understood.
        """
        subject = _first_text(claims, self._mapping.subject)
        if subject is None:
            raise SignInRefused("bad_credentials", "the token does not say whose it is")
        scopes = self._scopes_of(claims)
        role = self._role_of(claims)
        every_org = role in self._every_org
        found = Identity(
            subject=subject,
            name=(_first_text(claims, self._mapping.name) or subject)[:_LONGEST_NAME],
            org=self._org_of(claims, required=not every_org),
            role=role,
            scopes=frozenset(scopes),
            expires=_end(claims) + leeway,
            issuer=self._name,
            every_org=every_org,
        )
        if not found.reads:
            raise SignInRefused("not_authorised", "the token is not for reading here: it needs the scope mqtt.read")
        return found

    def _scopes_of(self, claims: Mapping[str, Any]) -> set[str]:
        found: set[str] = set(self._default_scopes)
        for path in self._mapping.scope:
            for text in _texts(_at(claims, path)):
                found.update(self._scopes[word] for word in text.lower().split() if word in self._scopes)
        return found

    def _role_of(self, claims: Mapping[str, Any]) -> Role:
        found = {
            self._roles[text]
            for path in self._mapping.role
            for text in _texts(_at(claims, path), numbers=True)
            if text in self._roles
        }
        if not found and self._mapping.role_required:
            raise SignInRefused("not_authorised", "the token says no role that is known here")
        return max(found, key=ROLES.index, default="user")

    def _org_of(self, claims: Mapping[str, Any], *, required: bool) -> str | None:
        found: set[str] = set() if self._org is None else {self._org}
        if self._org is None:
            for path in self._mapping.org:
                values = set(_texts(_at(claims, path), keys=True))
                found = values if self._orgs is None else {self._orgs[text] for text in values if text in self._orgs}
                if found:
                    break
        if len(found) == 1:
            return found.pop()
        if not required:
            return None
        if found:
            raise SignInRefused("not_authorised", "the token names several organisations: ask for one of one")
        raise SignInRefused("not_authorised", "the token names no organisation that is known here")


def _end(claims: Mapping[str, Any]) -> float:
    end = claims.get("exp")
    if isinstance(end, int | float) and not isinstance(end, bool):
        try:
            seconds = float(end)
        except OverflowError:  # a whole number of hundreds of digits
            seconds = math.inf
        if math.isfinite(seconds):
            return seconds
    raise SignInRefused("bad_credentials", "the token's end is not a time")


def _at(claims: Mapping[str, Any], path: ClaimPath) -> Any:
    """Return what stands at ``path``: a claim of that very name, else one by a path with dots."""
    names: Sequence[str] = path
    if len(path) == 1:
        if path[0] in claims:
            return claims[path[0]]
        names = path[0].split(".")
    value: Any = claims
    for name in names:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value


def _texts(value: Any, *, numbers: bool = False, keys: bool = False) -> Iterator[str]:
    """Yield the texts of a claim: one, a list of them, or (``keys``) an object's names; ``numbers``: whole ones too."""
    if isinstance(value, Mapping):
        value = list(value) if keys else []
    for item in (value if isinstance(value, list) else [value])[:_MOST_VALUES]:
        if isinstance(item, str) and 0 < len(item) <= _LONGEST:
            yield item
        elif numbers and isinstance(item, int) and not isinstance(item, bool) and abs(item) < 1000:
            yield str(item)


def _first_text(claims: Mapping[str, Any], paths: Sequence[ClaimPath]) -> str | None:
    """Return the first that can be shown to people: it will stand in the audit log, and in topic filters."""
    for path in paths:
        value = _at(claims, path)
        if isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable():
            return value
    return None
