"""What names a credential, and what in such a place is plainly none."""

from __future__ import annotations

from functools import lru_cache

import re2

from northbound_detectors.keys import LONGEST, words
from northbound_detectors.matching import caseless, is_treated

#: Last words of a key that names a credential.
_LAST = frozenset((
    "password", "passwords", "passwd", "passphrase", "passcode", "passwort", "kennwort", "pwd", "secret", "secrets",
    "token", "apikey", "apikeys", "authorization", "credential", "credentials", "jwt", "bearer", "cookie", "otp", "sas",
))  # fmt: skip
#: Words without a gap that end in one of these.
_ENDINGS = (
    "password", "passwd", "passphrase", "passwort", "apikey", "secretkey", "privatekey", "accesskey", "accountkey",
    "sharedkey", "accesstoken", "authtoken", "refreshtoken", "idtoken", "sastoken", "clientsecret", "authorization",
)  # fmt: skip
#: A key of this kind is a credential.
_KINDS = (
    "api", "access", "account", "auth", "encryption", "master", "primary", "private", "secondary", "secret", "shared",
    "signing", "storage", "subscription", "symmetric",
)  # fmt: skip
#: What may stand behind the name without changing what is named.
_TRAILING = frozenset(("value", "raw", "plain", "plaintext", "base64", "b64", "pem", "text", "string", "hash"))
_KEY_KINDS = frozenset(_KINDS)
_CODE_KINDS = frozenset(("access", "pin", "door", "alarm", "entry"))
_TOKEN_KINDS = frozenset(("access", "auth", "refresh", "bearer", "api", "id"))

#: Each name of a credential holds one of these.
NAMES = (
    "pass", "pwd", "secret", "token", "key", "authorization", "credential", "jwt", "bearer", "cookie", "otp", "sas",
    "kennwort", "code",
)  # fmt: skip

#: A name of a credential as the end of a word in running text.
NAME_IN_TEXT = (
    caseless((
        "password", "passwd", "passphrase", "passcode", "passwort", "kennwort", "pwd", "secret", "token", "apikey",
        "authorization", "credential", "credentials", "jwt",
    ))
    + rf"|(?:{caseless(_KINDS)})[ _.-]?{caseless(['key'])}"
    + rf"|\b(?:{caseless(['pass', 'pw', 'sig'])})"
)  # fmt: skip

_PLAIN = frozenset((
    "true", "false", "yes", "no", "on", "off", "null", "none", "nil", "undefined", "unset", "set", "n/a", "na", "empty",
    "required", "optional", "hidden", "redacted", "masked", "removed", "enabled", "disabled", "valid", "invalid",
    "expired", "missing", "unknown", "ok",
))  # fmt: skip
_SCHEMES = (
    "bearer", "basic", "token", "digest", "negotiate", "ntlm", "apikey", "oauth", "jwt", "sharedkey",
    "sharedaccesssignature", "aws4-hmac-sha256",
)  # fmt: skip
#: A scheme in front of a credential, as in an Authorization header.
SCHEME = rf"(?:{caseless(_SCHEMES)})[ \t]+"
_SCHEME = re2.compile(SCHEME)
_SCHEME_ALONE = frozenset(_SCHEMES)
_REFERENCE = re2.compile(r"\$\{[^{}]*\}|\$\([^()]*\)|\{\{[^{}]*\}\}|%\([^()]*\)s|<[A-Za-z _.-]*>|\[[A-Za-z _.-]*\]")
_LONGEST_SCHEME = 32
_LONGEST_REFERENCE = 256
_SHORTEST_NUMBER = 4


def names_credential(key: str) -> bool:
    """Whether what stands under ``key`` is a credential: ``password``, ``db_password``, ``x-api-key``, ``idToken``."""
    return bool(key) and _names_credential(key[-LONGEST:])


@lru_cache(maxsize=4096)
def _names_credential(key: str) -> bool:
    found = words(key)
    while len(found) > 1 and (found[-1] in _TRAILING or found[-1].isdigit()):
        found = found[:-1]
    if not found:
        return False
    last, before = found[-1], found[-2] if len(found) > 1 else ""
    if last in _LAST or last.endswith(_ENDINGS) or found == ("pass",):
        return True
    if last in {"key", "keys"}:
        return before in _KEY_KINDS
    return (last == "tokens" and before in _TOKEN_KINDS) or (last == "code" and before in _CODE_KINDS)


def is_secret(value: str) -> bool:
    """Whether ``value``, in the place of a credential, may be one: no word such as ``none``, mask or reference."""
    value = value.strip()
    if is_treated(value) or not value.strip("*•●·.…-_ xX?"):
        return False
    if len(value) > _LONGEST_REFERENCE:
        return True
    if value.isdigit() and len(value) < _SHORTEST_NUMBER:
        return False
    return value.lower() not in _PLAIN and not (value[0] in "${%<[" and _REFERENCE.fullmatch(value))


def secret_in(value: str) -> tuple[int, int] | None:
    """Return where in ``value``, in the place of a credential, the secret is: without a scheme such as ``Bearer``."""
    start = len(value) - len(value.lstrip())
    end = len(value.rstrip())
    if value[start:end].lower() in _SCHEME_ALONE:
        return None
    scheme = _SCHEME.match(value[start : start + _LONGEST_SCHEME])
    if scheme:
        start += scheme.end()
        start += len(value[start:end]) - len(value[start:end].lstrip())
    return (start, end) if is_secret(value[start:end]) else None
