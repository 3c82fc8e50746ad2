"""Google's credentials, from the file or text that describes them; and how requests for tokens are made. Blocks."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any, Final

import google.auth
import requests
from google.auth import jwt
from google.auth.transport.requests import Request
from google.oauth2 import service_account

from northbound_gcp_pubsub.options import PubSubOptions

#: The audience of tokens that are signed here, whatever the endpoint (AIP-4111).
AUDIENCE: Final = "https://pubsub.googleapis.com/"
SCOPES: Final = ("https://www.googleapis.com/auth/pubsub",)
_LARGEST_FILE: Final = 1_048_576


class Unusable(Exception):
    """Credentials cannot be used; says why without quoting them."""


def load(options: PubSubOptions, request: Request) -> Any:
    """Return google-auth's credentials. Raises :class:`Unusable`, and google-auth's ``DefaultCredentialsError``."""
    path = options.credentials_path
    if options.credentials_json is not None:
        credentials = _parsed(options.credentials_json.get_secret_value(), "credentials_json")
    elif path is not None:
        what = f"the credentials file {path}"
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise Unusable(f"{what} is too large")
            text = path.read_text("utf-8")
        except OSError as error:
            raise Unusable(f"{what} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise Unusable(f"{what} is no JSON") from None
        credentials = _parsed(text, what)
    else:
        credentials, _ = google.auth.default(scopes=SCOPES, request=request)
    if options.self_signed and isinstance(credentials, service_account.Credentials):
        return jwt.Credentials.from_signing_credentials(credentials, AUDIENCE)
    return credentials


def kind(credentials: Any) -> str:
    """Return what kind of credentials they are, in words."""
    module = type(credentials).__module__
    return _KINDS.get(module, module)


def _parsed(text: str, what: str) -> Any:
    try:
        info = json.loads(text)
    except ValueError:
        raise Unusable(f"{what} is no JSON") from None
    if not isinstance(info, dict):
        raise Unusable(f"{what} is no JSON object")
    try:
        return _of_info(info)
    except (ValueError, KeyError, TypeError, AttributeError, google.auth.exceptions.GoogleAuthError) as error:
        # google-auth raises any of these for a file that is not what it should be, and may quote from it
        raise Unusable(f"{what} is not as Google writes it ({type(error).__name__})") from None


def _of_info(info: dict[str, Any]) -> Any:
    """Return the credentials that a file of Google's describes; only kinds that are known here are taken."""
    kind = info.get("type")
    if kind == "service_account":
        return service_account.Credentials.from_service_account_info(info, scopes=SCOPES)
    if kind == "external_account":
        return _external(info)
    if kind == "authorized_user":
        from google.oauth2 import credentials  # noqa: PLC0415 - few need it

        return credentials.Credentials.from_authorized_user_info(info, scopes=SCOPES)
    if kind == "impersonated_service_account":
        from google.auth import impersonated_credentials  # noqa: PLC0415 - few need it

        return impersonated_credentials.Credentials.from_impersonated_service_account_info(info, scopes=SCOPES)
    raise Unusable(
        f"credentials of the type {str(kind)[:40]!r} are not known here: service_account, external_account, "
        "authorized_user, impersonated_service_account"
    )


def _external(info: dict[str, Any]) -> Any:
    from google.auth import aws, identity_pool, pluggable  # noqa: PLC0415 - few need it

    source = info.get("credential_source")
    if info.get("subject_token_type") == "urn:ietf:params:aws:token-type:aws4_request":
        return aws.Credentials.from_info(info, scopes=SCOPES)
    if isinstance(source, dict) and source.get("executable") is not None:
        return pluggable.Credentials.from_info(info, scopes=SCOPES)
    return identity_pool.Credentials.from_info(info, scopes=SCOPES)


_KINDS: Final = {
    "google.auth.jwt": "a service account's key, tokens signed here",
    "google.oauth2.service_account": "a service account's key, tokens from its token endpoint",
    "google.auth.identity_pool": "workload identity",
    "google.auth.aws": "workload identity of AWS",
    "google.auth.pluggable": "workload identity by a program",
    "google.auth.impersonated_credentials": "an impersonated service account",
    "google.auth.compute_engine.credentials": "the metadata server",
    "google.oauth2.credentials": "a user's own credentials",
}


class BoundedRequest(Request):
    """google-auth's way to make requests, with a time of ours: its own is two minutes."""

    def __init__(self, session: requests.Session | None, seconds: float) -> None:
        super().__init__(session)
        self._seconds = seconds

    def __call__(
        self, url: str, method: str = "GET", body: Any = None, headers: Any = None, timeout: Any = None, **settings: Any
    ) -> Any:
        """Make a request; ``timeout`` is what google-auth would allow."""
        timeout = min(self._seconds, timeout or self._seconds)
        return super().__call__(url, method=method, body=body, headers=headers, timeout=timeout, **settings)

    def __del__(self) -> None:
        """Leave the session open: it is the connector's, and closed with it."""


class _TrustingAdapter(requests.adapters.HTTPAdapter):
    """Trusts certificates of ``ca`` beside the public ones."""

    def __init__(self, ca: Path) -> None:
        self._context = ssl.create_default_context()
        self._context.load_verify_locations(ca)
        super().__init__()

    def init_poolmanager(self, *args: Any, **settings: Any) -> None:
        """Give the pool a context of ours."""
        super().init_poolmanager(*args, ssl_context=self._context, **settings)

    def proxy_manager_for(self, proxy: Any, **settings: Any) -> Any:
        """Give the pool behind a proxy the same context."""
        return super().proxy_manager_for(proxy, ssl_context=self._context, **settings)


def session(options: PubSubOptions) -> requests.Session:
    """Return what requests for tokens are made with. Raises ``OSError`` where the CA file cannot be used."""
    made = requests.Session()
    if options.proxy is not None:
        proxy = options.proxy.get_secret_value()
        made.proxies = {"http": proxy, "https": proxy}
    if options.ca is not None:
        made.mount("https://", _TrustingAdapter(options.ca))
    return made
