"""What may stand as a topic name and as a topic filter (section 4.7)."""

from __future__ import annotations

from typing import Final

from northbound.mqtt.errors import ProtocolError
from northbound.mqtt.reasons import PROTOCOL, TOPIC_FILTER_INVALID, TOPIC_NAME_INVALID

#: Levels of a topic or filter that the server takes. MQTT allows 65,536, each of which is an object where it is kept.
MAX_LEVELS: Final = 128


def too_deep(text: str) -> bool:
    """Say whether a topic or a filter has more levels than the server takes; ``$share/{name}/`` are none of them."""
    return text.count("/") - 2 * text.startswith("$share/") >= MAX_LEVELS


def check_name(topic: str) -> None:
    """Raise ``ProtocolError`` for a topic no message can be published to."""
    if not topic:
        raise ProtocolError(TOPIC_NAME_INVALID, "the topic is empty")
    if "+" in topic or "#" in topic:
        raise ProtocolError(TOPIC_NAME_INVALID, "the topic holds a wildcard, which only a filter may")


def check_filter(text: str, *, no_local: bool = False) -> None:
    """Raise ``ProtocolError`` for a filter that breaks the rules of wildcards or of shared subscriptions."""
    levels = text.split("/")
    if text.startswith("$share/"):
        if len(levels) < 3 or not levels[1] or "+" in levels[1] or "#" in levels[1]:
            raise ProtocolError(TOPIC_FILTER_INVALID, "a shared subscription is written $share/{name}/{filter}")
        if no_local:  # [MQTT-3.8.3-4]
            raise ProtocolError(PROTOCOL, "a shared subscription cannot be no_local")
        levels = levels[2:]
    if not any(levels) and len(levels) == 1:
        raise ProtocolError(TOPIC_FILTER_INVALID, "the topic filter is empty")
    if any("#" in level for level in levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        raise ProtocolError(TOPIC_FILTER_INVALID, "'#' stands alone as the last level of a topic filter")
    if any("+" in level and level != "+" for level in levels):
        raise ProtocolError(TOPIC_FILTER_INVALID, "'+' fills a whole level of a topic filter")
