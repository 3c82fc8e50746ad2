"""What the privacy policy costs: for each message of the spine's benchmark, and for values made to hurt."""

from __future__ import annotations

import time
from pathlib import Path

from northbound.engine import Engine
from northbound.events import EventDecoder, State
from northbound.loading import load_text
from northbound.policies import Policies
from northbound.privacy.policy import Policy
from northbound.registry import Registry
from northbound.topics import TopicScheme

_TEXT = """
[sources.in]
type = "jsonl"
path = "-"
[connectors.out]
type = "file"
path = "out.jsonl"
"""
#: What a careful site writes: every detector that needs no options.
_STRICT = (
    "[[privacy.rules]]\nname = 'strict'\naction = 'hash'\n"
    "detect = ['phone', 'mac', 'ip', 'card', 'coordinates', 'user_id']\n"
)
#: What else a building sends all day, beside the small objects of the workload.
VALUES = {
    "21.5": 21.5,
    '{"temperature":21.5}': {"temperature": 21.5},
    "a sentence": "Meeting starts. Please wait outside.",
}
_BATCH = 1_000
_ROUNDS = 7
HOSTILE = {
    "a@a@a@…": "a@",
    "%41%41…": "%41",
    "eyJeyJ…": "eyJ",
    "a run of backslashes": "\\",
    "://://…": "://",
    "full-width 1@1@…": "\uff11\uff20",
}


def policy(rules: str = "") -> Policy:
    found = Policies(load_text(_TEXT + rules, Registry()), "benchmark").site
    assert found is not None
    return found


def _cpu(engine: Engine, events: list[State], rounds: int = _ROUNDS) -> float:
    """Return the CPU seconds of one pass, the best of some: what disturbs it only ever adds."""
    best = float("inf")
    for _ in range(rounds):
        begun = time.process_time()
        for start in range(0, len(events), _BATCH):
            engine.process(events[start : start + _BATCH], 0)
        best = min(best, time.process_time() - begun)
    return best


def per_message(path: Path) -> dict[str, float]:
    """Return microseconds of CPU a message in the engine: without a policy, with the default one, with a strict one."""
    with path.open("rb") as file:
        events = EventDecoder().decode_all(file)[0][:50_000]
    engine = Engine(TopicScheme())
    found = {}
    for name, rules in (("without", None), ("default", ""), ("strict", _STRICT)):
        engine.policy = None if rules is None else policy(rules)
        found[name] = _cpu(engine, events) / len(events) * 1e6
    return found


def per_value() -> dict[str, float]:
    """Return microseconds of CPU that the default policy adds to a message with each of :data:`VALUES`."""
    engine, ruled = Engine(TopicScheme()), Engine(TopicScheme(), policy=policy())
    added = {}
    for name, value in VALUES.items():
        place = ("org", ("b", "l", "a"), "sys", "driver", "Module", 1, "state")
        events = [State(*place, value) for _ in range(_BATCH * 10)]
        added[name] = (_cpu(ruled, events) - _cpu(engine, events)) / len(events) * 1e6
    return added


def hostile(megabytes: float) -> dict[str, float]:
    """Return the seconds that values of so many MB take which look like personal data all along."""
    engine = Engine(TopicScheme(), policy=policy())
    taken = {}
    for name, unit in HOSTILE.items():
        value = unit * int(megabytes * 1e6 / len(unit.encode()))
        event = State("org", ("b", "l", "a"), "sys", "driver", "Module", 1, "state", value)
        taken[name] = _cpu(engine, [event], 1)
    return taken
