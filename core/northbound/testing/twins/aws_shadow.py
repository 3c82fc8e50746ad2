"""Device shadows of AWS IoT Core: documents that are merged, versioned, and bounded."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from typing import Any, Final, NamedTuple

from northbound.testing.twins.aws_limits import AwsLimits
from northbound.testing.twins.quota import Quota

#: $aws/things/<thing>/shadow[/name/<shadow>]/<update|get|delete>: A3, reserved-topics.md.
TOPIC: Final = re.compile(r"\$aws/things/([^/]{1,128})/shadow(?:/name/([^/]+))?/(update|get|delete)")


class Answer(NamedTuple):
    """What is published in answer: to ``…/accepted`` or ``…/rejected``, after an update to ``…/documents`` too."""

    accepted: bool
    body: bytes
    documents: bytes | None = None


class Shadows:
    """The shadows of one account. ``in_flight`` counts requests that are not answered yet, per thing."""

    def __init__(self, limits: AwsLimits) -> None:
        self._limits = limits
        self.documents: dict[tuple[str, str | None], dict[str, Any]] = {}
        self.versions: Counter[tuple[str, str | None]] = Counter()
        self.in_flight: Counter[str] = Counter()
        self._rates: dict[str, Quota] = {}

    def too_many(self, thing: str) -> str | None:
        """Return why one more request to a thing is refused, else ``None``."""
        limits = self._limits
        if self.in_flight[thing] >= limits.shadow_in_flight:
            return "too many requests in flight"
        if not self._rates.setdefault(thing, Quota(limits.shadow_per_second)).take():
            return "too many requests per second"
        return None

    def ask(self, thing: str, name: str | None, verb: str, payload: bytes) -> Answer:
        """Do what a request wants; codes as in "Device Shadow service documents", error responses."""
        if name is not None and len(name.encode()) > self._limits.shadow_name:
            return refusal(400, "the shadow's name is too long", None)
        key = (thing, name)
        if verb == "update":
            return self._update(key, payload)
        document = self.documents.get(key)
        if document is None:
            return refusal(404, f"No shadow exists with name: '{thing}'", None)
        told: dict[str, Any] = {"version": self.versions[key], "timestamp": int(time.time())}
        if verb == "delete":
            del self.documents[key]
            return Answer(True, _body(**told))
        return Answer(True, _body(state=document, **told))

    def _update(self, key: tuple[str, str | None], payload: bytes) -> Answer:
        try:
            request = json.loads(payload)
        except ValueError:
            return refusal(400, "Invalid JSON", None)
        token = request.get("clientToken") if isinstance(request, dict) else None
        wrong = self._wrong(request)
        if wrong is not None:
            return refusal(400, wrong, token)
        if "version" in request and request["version"] != self.versions[key]:
            return refusal(409, "Version conflict", token)
        before = self._state(key)
        merged = _merged(self.documents.get(key, {}), request["state"])
        if len(json.dumps(merged, separators=(",", ":")).encode()) > self._limits.shadow:
            return refusal(413, "The payload exceeds the maximum size allowed", token)
        self.documents[key] = merged
        self.versions[key] += 1
        told = {"state": request["state"], "version": self.versions[key], "timestamp": int(time.time())}
        ours = {"clientToken": token} if token is not None else {}
        documents = _body(previous=before, current=self._state(key), timestamp=told["timestamp"], **ours)
        return Answer(True, _body(**told, **ours), documents)

    def _state(self, key: tuple[str, str | None]) -> dict[str, Any]:
        return {"state": self.documents.get(key, {}), "version": self.versions[key]}

    def _wrong(self, request: Any) -> str | None:
        if not isinstance(request, dict) or not isinstance(request.get("state"), dict):
            return "Missing required node: state"
        if set(request) - {"state", "clientToken", "version"} or set(request["state"]) - {"desired", "reported"}:
            return "State contains an invalid node"
        token = request.get("clientToken", "")
        if not isinstance(token, str) or len(token.encode()) > 64:
            return "Invalid clientToken"
        if any(_depth(part) > self._limits.shadow_depth for part in request["state"].values()):
            return "JSON contains too many levels of nesting"
        return None


def refusal(code: int, words: str, token: Any) -> Answer:
    """Return the answer that refuses."""
    told = {"code": code, "message": words, "timestamp": int(time.time())}
    return Answer(False, _body(**told, **({"clientToken": token} if token is not None else {})))


def token_of(payload: bytes) -> Any:
    """Return the client token of a request, where it has one."""
    try:
        request = json.loads(payload)
    except ValueError:
        return None
    return request.get("clientToken") if isinstance(request, dict) else None


def _body(**told: Any) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode()


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(part) for part in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((_depth(part) for part in value), default=0)
    return 0


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return ``old`` with ``new`` merged in; ``null`` removes a key."""
    out = dict(old)
    for key, value in new.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict):
            before = out.get(key)
            out[key] = _merged(before if isinstance(before, dict) else {}, value)
        else:
            out[key] = value
    return out
