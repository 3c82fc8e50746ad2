"""What gRPC and Pub/Sub answer, in our types; and what likely stands behind it."""

from __future__ import annotations

import re
from typing import Any, Final

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.rpc import error_details_pb2

from northbound import DeliveryError, NotConnected, Unauthorised, Unavailable
from northbound_gcp_pubsub.batcher import RequestRefused

Code = grpc.StatusCode
#: What only a person can mend is tried again after so long.
SLOWLY: Final = 30.0
_LONGEST_WORDS: Final = 500
_SIGN_IN: Final = frozenset((Code.UNAUTHENTICATED, Code.PERMISSION_DENIED))
_FOR_A_PERSON: Final = frozenset((Code.NOT_FOUND, Code.UNIMPLEMENTED, Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION))
_SAID: Final = {
    Code.UNAUTHENTICATED: "Pub/Sub refuses the token of {principal}: {words}",
    Code.PERMISSION_DENIED: "{principal} may not publish to {topic}: {words} (grant it roles/pubsub.publisher there)",
    Code.NOT_FOUND: "there is no {topic}: {words} (create it, or mend pubsub_topic)",
    Code.UNIMPLEMENTED: "what answers is not Pub/Sub: {words} (mend endpoint)",
    Code.INVALID_ARGUMENT: "{topic}: {words}",
    Code.FAILED_PRECONDITION: "{topic}: {words}",
    Code.DEADLINE_EXCEEDED: "Pub/Sub has not acknowledged in time",
}
#: INVALID_ARGUMENT that is about the topic and not about a message.
_OF_THE_TOPIC = re.compile(r"resource name|topic name|\[topics\] name", re.IGNORECASE)


def in_our_types(error: GoogleAPICallError, topic: str, principal: str, *, connected: bool) -> DeliveryError:
    """Return what a failed call means. ``connected``: the connection stands, so the service itself has said it."""
    code, words = error.grpc_status_code, _words(error)
    if code == Code.INVALID_ARGUMENT and not _OF_THE_TOPIC.search(words):
        return RequestRefused(words)
    if code == Code.UNAVAILABLE and not connected:
        return NotConnected(f"the connection is gone: {words}")
    said = _SAID.get(code, "Pub/Sub: {words}").format(words=words, topic=topic, principal=principal)
    if code in _SIGN_IN:
        return Unauthorised(said)
    return Unavailable(said, retry_after=SLOWLY if code in _FOR_A_PERSON else _wish(error))


def _words(error: GoogleAPICallError) -> str:
    text = " ".join(str(error.message or type(error).__name__).split())
    return text if len(text) <= _LONGEST_WORDS else f"{text[: _LONGEST_WORDS - 1]}…"


def _wish(error: GoogleAPICallError) -> float | None:
    """Return how long the service asks to wait (google.rpc.RetryInfo)."""
    details: list[Any] = error.details or []
    for detail in details:
        if isinstance(detail, error_details_pb2.RetryInfo):
            return float(detail.retry_delay.ToMilliseconds()) / 1000
    return None


#: Words of an error and what likely stands behind them.
_CAUSES: Final[tuple[tuple[re.Pattern[str], str], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), cause)
    for pattern, cause in {
        "reasonable timeframe|used too early|iat and exp": (
            "this machine's clock is wrong by more than a few minutes: set it by NTP"
        ),
        "no credentials": (
            "no credentials_file is configured, and this machine has no application default credentials"
        ),
        "jwt signature|invalid_grant": "the key was deleted or disabled, or is another account's: make a new one",
        "proxy": "the proxy refuses: its user and password, or what it allows; it must allow CONNECT to the endpoint",
        "token endpoint cannot be reached": (
            "a firewall or proxy blocks oauth2.googleapis.com or sts.googleapis.com; with a service account's key and "
            "self_signed = true they are not needed"
        ),
        "invalid_target|subject_token|credential source": (
            "the workload identity pool does not know this site's identity provider, or its token is missing or old"
        ),
        "refuses the token": (
            "the key was deleted or disabled, or this machine's clock is wrong by more than a few minutes"
        ),
        "may not publish": "the role is missing on this topic, was granted on another, or is not yet in force",
        "there is no projects/": "pubsub_topic or project is misspelt, or the topic was deleted",
        "not pub/sub|unimplemented|http2|wrong_version": "endpoint is not the address of Pub/Sub: host or host:port",
        "certificate|handshake": (
            "the endpoint's certificate is not from a CA trusted here; where a proxy inspects TLS, name its CA as ca"
        ),
        "dns|resolve|resolution": "the endpoint's name cannot be resolved: mend endpoint, or this machine's DNS",
        "refused|unreachable|failed to connect|timed out|no answer": (
            "nothing listens at the endpoint, or a firewall stands before it"
        ),
    }.items()
)


def likely_cause(error: Exception) -> str | None:
    """Return what likely stands behind an error of ours; ``None`` where nothing is known."""
    words = str(error)
    return next((cause for pattern, cause in _CAUSES if pattern.search(words)), None)
