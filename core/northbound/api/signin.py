"""Signing in: from what somebody shows to who they are.

A token (JWT) or an API key, as MQTT's user name, as its password, or as both; an API key also with its id as the user
name and its secret as the password. By HTTP as ``Authorization: Bearer`` or ``X-API-Key``.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, get_args

from northbound import apikeys
from northbound.admission import AuthOptions
from northbound.api.audit import AccessAudit
from northbound.api.identity import Identity, Refusal, SignInRefused
from northbound.api.keyfile import KeyRing, path_beside
from northbound.api.sourcekeys import Lookup, SourceKeys
from northbound.api.throttle import Throttle
from northbound.api.tokens import MAX_TOKEN_BYTES, Tokens
from northbound.apikeys import ApiKey

log = logging.getLogger(__name__)

#: How often the file of keys is looked at although nobody asks, for the audit log.
_LOOK_SECONDS: Final = 1.0
# Three parts, the first of which is JSON in base64: what begins with a brace.
_TOKEN: Final = re.compile(r"ey[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*\.[A-Za-z0-9_=-]*")
_NOTHING: Final = "there is no token or API key in user name or password"
_UNKNOWN: Final = "the API key is not known here"
#: What a secret is compared with where there is no key of that id: the work is the same.
_NOBODY: Final = ApiKey(id="00000000", name="", hash=apikeys.hash_secret("00000000", "nobody"))


class _Unsaid(SignInRefused):
    """Nothing was shown at all: nobody has guessed, so it is no failure of their address."""


class SignIn:
    """Tells who somebody is. Call :meth:`run` in a task of the service.

    ``store`` is the path of the store, beside which the API keys and the audit log are; ``site_org`` the organisation
    of those whose token or key names none; ``lookup`` asks a source for an API key (``[api.auth] api_keys_from``).
    ``before`` is what this takes the place of after a reload: what was fetched, and who has failed, is not forgotten.
    """

    def __init__(
        self,
        options: AuthOptions,
        *,
        store: Path,
        site_org: str | None = None,
        lookup: Lookup | None = None,
        before: SignIn | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.audit: AccessAudit | None = None
        if options.audit:
            path = options.audit_path or store.with_name(f"{store.name}.access.jsonl")
            self.audit = AccessAudit(path, max_bytes=int(options.audit_max_bytes), files=options.audit_files)
        self._clock = clock
        self._site_org = site_org
        self._ring = KeyRing(path_beside(store))
        self._source = None if lookup is None else SourceKeys(lookup)
        self.options = options
        self.counts: Counter[str] = Counter() if before is None else before.counts
        same = before is not None and before.options.throttle == options.throttle
        self.throttle: Throttle = before.throttle if before is not None and same else Throttle(options.throttle)
        self.tokens: Tokens = Tokens(options, site_org=site_org, before=None if before is None else before.tokens)

    async def sign_in(self, username: str | None, password: bytes | None, *, address: str) -> Identity:
        """Say who connects by MQTT. Raises :class:`SignInRefused`; a failure is answered late on purpose."""
        return await self._signed_in(lambda: _shown(username, password), address)

    async def bearer(self, headers: Mapping[str, str], *, address: str) -> Identity:
        """Say who asks by HTTP. Raises :class:`SignInRefused`; a failure is answered late on purpose."""
        return await self._signed_in(lambda: _in_headers(headers), address)

    async def still_valid(self, identity: Identity) -> bool:
        """Say whether ``identity`` still holds: not expired, its issuer or its key as it was when it signed in."""
        now = self._clock()
        if identity.expires is not None and now >= identity.expires:
            return False
        if identity.key_id is None:
            return self.tokens.holds(identity)
        key = await self._key(identity.key_id)
        return key is not None and key.holds(int(now * 1000)) and self._identity(key) == identity

    def numbers(self) -> dict[str, float]:
        """Return what was counted since the start, and what is remembered."""
        refused = {f"sign_ins_refused_{reason}": self.counts[reason] for reason in get_args(Refusal)}
        return {
            "sign_ins": self.counts["signed_in"],
            **refused,
            "failing_addresses": len(self.throttle),
            "issuers_without_answer": len(self.tokens.problems()),
            "api_keys": len(self._ring),
        }

    async def run(self) -> None:
        """Keep keys fresh and the audit log written, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.tokens.run(), name="keys of issuers")
            group.create_task(self._watch(), name="API keys")
            if self.audit is not None:
                group.create_task(self.audit.run(), name="audit log of access")

    async def close(self) -> None:
        """Write the rest of the audit log and close it."""
        if self.audit is not None:
            await self.audit.close()

    async def _signed_in(self, show: Callable[[], str], address: str) -> Identity:
        try:
            self.throttle.check(address)
            shown = show()
            found = await (self._by_key(shown) if apikeys.split(shown) else self.tokens.verify(shown))
        except SignInRefused as error:
            self.counts[error.reason] += 1
            if self.audit is not None:
                self.audit.refused(error, address)
            log.log(
                logging.DEBUG if error.reason == "too_many" else logging.INFO,
                "sign-in from %s refused: %s",
                address,
                error.words,
            )
            if error.reason == "bad_credentials" and not isinstance(error, _Unsaid):
                await asyncio.sleep(self.throttle.failed(address))
            raise
        self.counts["signed_in"] += 1
        if self.audit is not None:
            self.audit.signed_in(found, address)
        return found

    async def _by_key(self, shown: str) -> Identity:
        parts = apikeys.split(shown)
        assert parts is not None  # noqa: S101 - whoever calls has looked
        key = await self._key(parts[0])
        if not (key or _NOBODY).is_of(parts[1]) or key is None:
            raise SignInRefused("bad_credentials", _UNKNOWN)
        if key.revoked is not None:
            raise SignInRefused("not_authorised", "the API key was revoked")
        if not key.holds(int(self._clock() * 1000)):
            raise SignInRefused("expired", "the API key has expired")
        found = self._identity(key)
        if not found.reads:
            raise SignInRefused("not_authorised", "the API key is not for reading here: it needs the scope mqtt.read")
        return found

    async def _key(self, id_: str) -> ApiKey | None:
        self._look()
        found = self._ring.find(id_)
        if found is None:  # it may have been made just now
            self._look(at_once=True)
            found = self._ring.find(id_)
        if found is None and self._source is not None:
            found = await self._source.find(id_)
        return found

    def _identity(self, key: ApiKey) -> Identity:
        return Identity(
            subject=key.user or key.name,
            name=key.name,
            org=key.org if key.org is not None or key.every_org else self._site_org,
            role=key.role,
            scopes=frozenset(scope.lower() for scope in key.scopes),
            expires=None if key.expires is None else key.expires / 1000,
            key_id=key.id,
            every_org=key.every_org,
        )

    def _look(self, *, at_once: bool = False) -> None:
        made, revoked = self._ring.look(at_once=at_once)
        if self.audit is not None:
            self.audit.keys(made, revoked)

    async def _watch(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(_LOOK_SECONDS)


def _shown(username: str | None, password: bytes | None) -> str:
    """Return the token or key in user name and password; raises :class:`SignInRefused`.

    What is neither is nobody's business: clients write anything into the field they do not need.
    """
    if len(username or "") > MAX_TOKEN_BYTES or len(password or b"") > MAX_TOKEN_BYTES:
        raise SignInRefused("bad_credentials", f"the token has more than {MAX_TOKEN_BYTES} bytes")
    try:
        second = (password or b"").decode("ascii")
    except UnicodeDecodeError:
        second = ""
    first = username or ""
    if apikeys.is_id(first) and apikeys.is_secret(second):
        return f"{first}.{second}"
    found = [text for text in (first, second) if _is_credential(text)]
    if not found:
        raise (SignInRefused if first or password else _Unsaid)("bad_credentials", _NOTHING)
    if len(found) == 2 and not hmac.compare_digest(found[0].encode(), found[1].encode()):
        raise SignInRefused("bad_credentials", "user name and password hold two different tokens")
    return found[0]


def _in_headers(headers: Mapping[str, str]) -> str:
    authorization, key = headers.get("authorization", ""), headers.get("x-api-key", "")
    if max(len(authorization), len(key)) > MAX_TOKEN_BYTES + 16:
        raise SignInRefused("bad_credentials", f"the token has more than {MAX_TOKEN_BYTES} bytes")
    kind, _, token = authorization.partition(" ")
    found = [text for text in (token.strip() if kind.lower() in ("bearer", "token") else "", key.strip()) if text]
    if not found:
        words = "there is no token: send Authorization: Bearer, or X-API-Key"
        raise (SignInRefused if authorization or key else _Unsaid)("bad_credentials", words)
    if len(found) == 2 and not hmac.compare_digest(found[0].encode(), found[1].encode()):
        raise SignInRefused("bad_credentials", "the two headers hold two different tokens")
    return found[0]


def _is_credential(text: str) -> bool:
    return apikeys.split(text) is not None or _TOKEN.fullmatch(text) is not None
