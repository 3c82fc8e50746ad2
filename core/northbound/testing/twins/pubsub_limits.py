"""What Pub/Sub refuses in a publish request, and its words. Pure.

The numbers stand on cloud.google.com/pubsub/quotas ("Resource limits"); the words are quoted from the reports named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

#: "The value for request_size is too large. You passed 10000558 in the request, but the maximum value is 10000000."
#: (GoogleCloudPlatform/pubsub#267; so MB is a million bytes)
MAX_REQUEST_BYTES: Final = 10_000_000
#: "The value for 1100 is too large. You passed message_count in the request, but the maximum value is 1000."
#: (googleapis/google-cloud-java#4757; the words' order was mended since)
MAX_REQUEST_MESSAGES: Final = 1000
#: "Attributes per message: 100" (the page)
MAX_ATTRIBUTES: Final = 100
#: "Attribute key size: 256 bytes" (the page; googleapis/java-pubsub#2312 has the words, and that bytes are counted)
MAX_KEY_BYTES: Final = 256
#: "Attribute value size: 1024 bytes" (the page; snowplow/enrich#485 has the words)
MAX_VALUE_BYTES: Final = 1024
#: "Maximum ordering key size: 1 KB" (the page), counted as 1024 bytes
MAX_ORDERING_KEY_BYTES: Final = 1024
#: "The maximum publisher throughput per ordering key is 1 MBps" (the page; what happens beyond it is not said there)
ORDERING_KEY_BYTES_PER_SECOND: Final = 1_000_000
#: The reference of ``Topic.name``: a letter, then 2 to 254 of these, and not "goog" first.
_ID = re.compile(r"(?!goog)[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}")
_NAME = re.compile(r"projects/([^/]+)/(topics|subscriptions)/([^/]+)")
_SEE = "Refer to https://cloud.google.com/pubsub/quotas for more information."


def name_problem(name: str, collection: str) -> str | None:
    """Return why ``name`` is no resource name of ``collection`` (``topics``, ``subscriptions``)."""
    match = _NAME.fullmatch(name)
    if match is None or match[2] != collection or not _ID.fullmatch(match[3]):
        return (
            f"Invalid resource name given (name={name}). {_SEE.replace('quotas', 'docs/pubsub-basics#resource_names')}"
        )
    return None


def request_problem(request: Any) -> str | None:
    """Return why a ``PublishRequest`` is refused, all of it; ``None`` where it is not."""
    size, count = request.ByteSize(), len(request.messages)
    if size > MAX_REQUEST_BYTES:
        return _too_large("request_size", size, MAX_REQUEST_BYTES)
    if count > MAX_REQUEST_MESSAGES:
        return _too_large("message_count", count, MAX_REQUEST_MESSAGES)
    if count == 0:
        return "The request contains no messages."
    if len({message.ordering_key for message in request.messages}) > 1:
        # the reference of PubsubMessage.ordering_key: all of a request must specify the same value
        return "In an ordered publish request, all messages must have the same ordering key."
    return next(filter(None, map(message_problem, request.messages)), None)


def message_problem(message: Any) -> str | None:
    """Return why a ``PubsubMessage`` is refused."""
    if message.message_id or message.HasField("publish_time"):
        # the reference of PubsubMessage: "It must not be populated by the publisher in a Publish call."
        return "message_id and publish_time must not be set by the publisher."
    if not message.data and not message.attributes:
        return (
            "One or more messages in the publish request is empty. Each message must contain either non-empty data, "
            "or at least one attribute."
        )
    return attribute_problem(message.attributes) or _key_problem(message.ordering_key)


def attribute_problem(attributes: Mapping[str, str]) -> str | None:
    """Return why a message's attributes are refused."""
    if len(attributes) > MAX_ATTRIBUTES:
        return _too_large("attribute_count", len(attributes), MAX_ATTRIBUTES)
    for key, value in attributes.items():
        key_bytes, value_bytes = len(key.encode()), len(value.encode())
        if not key:
            return "One of the attributes in the request has an empty key."
        if key_bytes > MAX_KEY_BYTES:
            return (
                f'The attribute "{key[:40]}" in the request has a key that is too long. The length is {key_bytes} '
                f"characters, but the maximum allowed is {MAX_KEY_BYTES}. {_SEE}"
            )
        if value_bytes > MAX_VALUE_BYTES:
            return (
                f'The attribute "{key}" in the request has a value that is too long. The length is {value_bytes} '
                f"characters, but the maximum allowed is {MAX_VALUE_BYTES}. {_SEE}"
            )
        if key.startswith("goog"):
            # cloud.google.com/pubsub/docs/publisher: attribute keys must not begin with "goog"
            return f'The attribute "{key}" in the request is reserved: keys must not begin with "goog".'
    return None


def _key_problem(ordering_key: str) -> str | None:
    size = len(ordering_key.encode())
    return _too_large("ordering_key", size, MAX_ORDERING_KEY_BYTES) if size > MAX_ORDERING_KEY_BYTES else None


def _too_large(what: str, passed: int, most: int) -> str:
    return f"The value for {what} is too large. You passed {passed} in the request, but the maximum value is {most}."
