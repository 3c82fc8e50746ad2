"""The messages every contender carries: the same topics (about 90 bytes), the same payloads, in the same order."""

from __future__ import annotations

import json
from pathlib import Path

from northbound.engine import Engine
from northbound.events import EventDecoder
from northbound.message import Message
from northbound.topics import TopicScheme

TOPICS = 5_000


def event(number: int) -> dict[str, object]:
    place = number % TOPICS
    return {
        "kind": "state", "org": "org-acme", "building": f"zone-bld-{place % 8}", "level": f"zone-lvl-{place % 40}",
        "area": None, "system": f"sys-{place:05d}", "driver": "driver-display", "module": "Display", "index": 1,
        "state": "brightness", "value": {"level": number % 100}, "time": 1_700_000_000_000 + number,
    }  # fmt: skip


def write_events(path: Path, count: int) -> None:
    with path.open("w") as file:
        for number in range(count):
            file.write(json.dumps(event(number), separators=(",", ":")) + "\n")


def messages(path: Path) -> list[Message]:
    decoder, engine = EventDecoder(), Engine(TopicScheme())
    with path.open("rb") as file:
        events, refused = decoder.decode_all(file)
    assert not refused
    return engine.process(events, 0).messages
