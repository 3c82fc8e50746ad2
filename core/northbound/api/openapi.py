"""The description of the HTTP API, OpenAPI 3.1. A test compares it with the routes there are."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec

from northbound import __version__
from northbound.api.letters import Choice
from northbound.status import ConnectorStatus, Status

Json = dict[str, Any]

_REFERENCE: Final = "#/components/schemas/{name}"
_OPERATORS: Final = "For the roles support and admin."
_WRITING: Final = "For the roles support and admin, with a scope that allows writing."

_VALUE: Final[Json] = {
    "type": "object",
    "description": "The newest message at a topic. One of payload, payload_text and payload_base64 is there.",
    "required": ["topic", "kind", "time"],
    "properties": {
        "topic": {"type": "string"},
        "kind": {"enum": ["state", "metadata"]},
        "time": {"type": "integer", "description": "Milliseconds since 1970: when the value changed."},
        "payload": {"description": "The payload, where it is JSON. null in a stream: the topic was cleared."},
        "payload_text": {"type": "string", "description": "The payload, where it is text and no JSON."},
        "payload_base64": {"type": "string", "contentEncoding": "base64"},
    },
}
_LETTER: Final[Json] = {
    "type": "object",
    "description": "A message set aside. Only one asked for by its id has its payload.",
    "required": ["id", "connector", "at", "topic", "size", "state", "reason"],
    "properties": {
        "id": {"type": "integer"},
        "connector": {"type": "string"},
        "at": {"type": "integer", "description": "Milliseconds since 1970: when it was set aside."},
        "topic": {"type": "string"},
        "size": {"type": "integer", "description": "Bytes of topic and payload."},
        "state": {"enum": ["waiting", "replay asked", "replay failed"]},
        "reason": {"type": "string", "description": "Why the destination will not take it."},
        "sequence": {"type": "integer"},
        "kind": {"enum": ["state", "metadata"]},
        "time": {"type": "integer"},
        "retain": {"type": "boolean"},
        "replays_failed": {"type": "integer"},
        "payload_text": {"type": "string"},
        "payload_base64": {"type": "string", "contentEncoding": "base64"},
    },
}


def _refers(name: str) -> Json:
    return {"$ref": _REFERENCE.format(name=name)}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _object(**properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}


def _query(name: str, schema: Json, words: str) -> Json:
    return {"name": name, "in": "query", "schema": schema, "description": words}


def _operation(
    summary: str,
    content: Json,
    *,
    words: str = "",
    parameters: list[Json] | None = None,
    body: Json | None = None,
    refusals: tuple[int, ...] = (401, 403, 429),
) -> Json:
    described: Json = {"summary": summary, "responses": {"200": {"description": "Done.", "content": content}}}
    if words:
        described["description"] = words
    if parameters:
        described["parameters"] = parameters
    if body is not None:
        described["requestBody"] = {"required": True, "content": _json(body)}
    for status in refusals:
        described["responses"][str(status)] = {"$ref": f"#/components/responses/{status}"}
    if 401 not in refusals:
        described["security"] = []
    return described


_ID: Final[Json] = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
_IDS: Final[Json] = {"type": "array", "items": {"type": "integer"}}


def _paths() -> Json:
    text: Json = {"text/plain": {"schema": {"type": "string"}}}
    anything = _json({"type": "object"})
    force = _query("force", {}, "Also where a newer value of the topic has been sent since.")
    listing = [
        _query("connector", {"type": "string"}, "Only those of this connector."),
        _query("topic", {"type": "string"}, "Only those whose topic matches this filter."),
        _query("after", {"type": "integer", "default": 0}, "Only those behind this id."),
        _query("limit", {"type": "integer", "default": 100, "maximum": 1000}, "At most so many."),
    ]
    letters = _object(dead_letters={"type": "array", "items": _refers("DeadLetter")}, more={"type": "boolean"})
    values = _object(values={"type": "array", "items": _refers("Value")}, more={"type": "boolean"})
    events: Json = {"text/event-stream": {"schema": {"type": "string", "description": "One Value a 'data:' line."}}}
    here = _operation("The service runs", anything, refusals=(429,))
    well = _operation(
        "Whether each destination gets what it should", anything, words="503 where one does not.", refusals=(429, 503)
    )
    return {
        "/healthz": {"get": well},
        "/healthz/live": {"get": here},
        "/metrics": {
            "get": _operation("Every number, for Prometheus", text, words="Support and admin; all with open_metrics.")
        },
        "/api/openapi.json": {"get": _operation("This description", anything, refusals=(429,))},
        "/api/me": {"get": _operation("Who is signed in, and how this site writes topics and payloads", anything)},
        "/api/state": {
            "get": _operation(
                "The current values",
                {**_json(values), **events},
                words="Only what who asks may see. With 'Accept: text/event-stream': the current values, then each "
                "change, until the client leaves.",
                parameters=[
                    _query("filter", {"type": "string", "default": "#"}, "An MQTT topic filter; '+' and '#' work."),
                    _query("limit", {"type": "integer", "default": 10_000}, "At most so many; not of a stream."),
                    _query("present", {"enum": ["yes", "no"]}, "Of a stream: whether the present comes first."),
                ],
                refusals=(400, 401, 403, 429, 503),
            )
        },
        "/api/status": {"get": _operation("The whole service at once", _json(_refers("Status")), words=_OPERATORS)},
        "/api/connectors": {
            "get": _operation(
                "Each connector's state and numbers",
                _json(_object(connectors={"type": "array", "items": _refers("ConnectorStatus")})),
                words=_OPERATORS,
            )
        },
        "/api/dead-letters": {
            "get": _operation(
                "What was set aside, oldest first",
                _json(letters),
                words=_OPERATORS,
                parameters=listing,
                refusals=(400, 401, 403, 429),
            )
        },
        "/api/dead-letters/replay": {
            "post": _operation(
                "Send some again", _json(_object(replay=_IDS)), words=_WRITING, body=_refers("Choice"),
                refusals=(400, 401, 403, 413, 429),
            )
        },
        "/api/dead-letters/drop": {
            "post": _operation(
                "Delete some for good", _json(_object(dropped=_IDS)), words=_WRITING, body=_refers("Choice"),
                refusals=(400, 401, 403, 413, 429),
            )
        },
        "/api/dead-letters/{id}": {
            "parameters": [_ID],
            "get": _operation(
                "One, its payload included", _json(_refers("DeadLetter")), words=_OPERATORS,
                refusals=(401, 403, 404, 429),
            ),
            "delete": _operation(
                "Delete it for good", _json(_object(dropped=_IDS)), words=_WRITING, refusals=(401, 403, 404, 429)
            ),
        },
        "/api/dead-letters/{id}/replay": {
            "parameters": [_ID],
            "post": _operation(
                "Send it again", _json(_object(replay=_IDS)), words=_WRITING, parameters=[force],
                refusals=(401, 403, 404, 429),
            ),
        },
    }  # fmt: skip


_REFUSALS: Final = {
    400: "What was asked is not understood.",
    401: "Not signed in.",
    403: "Signed in, and not allowed.",
    404: "There is none, or none that may be seen.",
    413: "The body is too large.",
    429: "Too many requests, or too many failed attempts to sign in: see Retry-After.",
    503: "Not now.",
}


@cache
def description() -> Json:
    """Return the description."""
    _, schemas = msgspec.json.schema_components((Status, ConnectorStatus, Choice), ref_template=_REFERENCE)
    error = _json(_object(error={"type": "string", "description": "The reason, in words."}))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "northbound",
            "version": __version__,
            "description": "The live tree of a building, and the service that carries it north. The same tree is "
            "served as MQTT over WebSocket at /api/mqtt/. Where an http source says on_api, it takes JSON Lines "
            "at POST /api/events, with a token of its own.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}, {"key": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "A JWT, or an API key."},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
            "schemas": {**schemas, "Value": _VALUE, "DeadLetter": _LETTER},
            "responses": {str(status): {"description": words, "content": error} for status, words in _REFUSALS.items()},
        },
    }
