"""What personal data some messages hold, and which rule would act on it. Pure; counts, and never the text.

Every message is looked at twice: by each detector alone, as it came and again after the policy, and by the policy's
rules. Here these take out what they act on, for what they write in its place may be found again: a coarser place is
one, too. What a detector finds no more after a rule is what that rule acts on. What still is found goes on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from northbound.engine import Engine
from northbound.errors import Rejected
from northbound.events import Cleared, Event, Metadata, State
from northbound.loading import Configuration, DetectorInstance
from northbound.message import Address, Kind, Message
from northbound.policies import Policies
from northbound.privacy.actions import Action, Form, Hash, action_of
from northbound.privacy.detector import Detector
from northbound.privacy.keys import own_hashes
from northbound.privacy.messages import MessagePolicy
from northbound.privacy.options import RuleOptions
from northbound.privacy.policy import Act, Policy
from northbound.privacy.rules import Rule
from northbound.registry import Registry
from northbound.topics import MetadataAddress

#: So many different topics are told apart, for each detector, and for the rules in all.
MOST_TOPICS: Final = 100_000
OTHER_TOPICS: Final = "(other topics)"
NO_RULE: Final = "none"
WITHHELD: Final = "(withheld)"
NO_TOPIC: Final = "(no topic)"
#: Stands for the parts of an address where a topic is not of this site's scheme.
_ELSEWHERE: Final = "elsewhere"


class Finding(Struct):
    """What one detector found: pieces, in how many topics, and the pieces by the rule that would act on them."""

    detector: str
    count: int = 0
    rules: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    seen: set[int] = field(default_factory=set)

    @property
    def topics(self) -> int:
        """In how many different topics it was found; no more than :data:`MOST_TOPICS` are told apart."""
        return len(self.seen)

    @property
    def unprotected(self) -> int:
        """How many pieces no rule would act on."""
        return self.rules.get(NO_RULE, 0)


class Survey:
    """Counts over any number of messages, in bounded memory.

    ``detectors`` are what is looked for, by name. ``findings`` and ``acts`` ((rule, topic as it is afterwards) → how
    often) are the result.
    """

    def __init__(self, configuration: Configuration, policies: Policies, detectors: Mapping[str, Detector]) -> None:
        site = configuration.site
        self._scheme, self._payloads = site.scheme, site.payloads
        self._plain = Engine(site.scheme, site.payloads, org=site.org or "org-sample")
        self._no_zones = (None,) * (len(site.scheme.hierarchy) - 1)
        stages = (policies.site, *policies.connectors.values())
        rules = [rule for policy in stages if policy is not None for rule in policy.rules]
        self._own = own_hashes(form for rule in rules if isinstance(rule.action, Hash) for form in rule.action.forms)
        self._site = None if policies.site is None else self._stage(policies.site)
        self._connectors = {name: self._stage(policy) for name, policy in policies.connectors.items()}
        self._probes = {name: self._probe([detector]) for name, detector in detectors.items()}
        self._all = self._probe([*detectors.values()])
        self.findings = {name: Finding(name) for name in detectors}
        self.acts: dict[tuple[str, str], int] = {}
        self.messages = 0
        self.refused = 0

    @property
    def unprotected(self) -> int:
        """How many pieces were found on which no rule would act."""
        return sum(finding.unprotected for finding in self.findings.values())

    def event(self, event: Event, now: int) -> None:
        """Look at an event; ``now`` in ms since 1970."""
        for stage in (self._site, *self._connectors.values()):
            if stage is not None:
                stage.policy.begin(now)
        found = self._plain.process([event], now).messages
        if found:
            self._look(found[0])
        else:
            self.refused += 1

    def message(self, topic: str, payload: bytes, now: int) -> None:
        """Look at a message as a broker or a file has it. One that is not of this site's form is looked at, too."""
        self.event(self._event(topic, payload), now)

    def text(self, text: str, now: int) -> None:
        """Look at a text without a topic."""
        self.event(self._elsewhere("", text), now)

    # from what was captured to events

    def _event(self, topic: str, payload: bytes) -> Event:
        place = self._scheme.parse(topic)
        if place is None or _repeats(payload):
            return self._elsewhere(topic, _value(payload))
        try:
            if isinstance(place, MetadataAddress):
                entity = self._payloads.read_metadata(payload)[0] if payload else None
                if entity is None or isinstance(entity, dict):
                    return Metadata(place.org, place.id, entity)
                return self._elsewhere(topic, entity)
            address = (place.org, place.zones, place.system, place.driver, place.module, place.index, place.state)
            return State(*address, self._payloads.read_state(payload)[0]) if payload else Cleared(*address)
        except (msgspec.DecodeError, ValueError, TypeError, LookupError, RecursionError):
            return self._elsewhere(topic, _value(payload))

    def _elsewhere(self, topic: str, value: Any) -> State:
        """Return the event of a topic that this site would not write: all of it stands in one level."""
        return State(None, self._no_zones, _ELSEWHERE, _ELSEWHERE, _ELSEWHERE, 1, topic or NO_TOPIC, value)

    # looking

    def _stage(self, policy: Policy) -> _Stage:
        return _Stage(policy, MessagePolicy(policy, self._scheme, self._payloads))

    def _probe(self, detectors: Iterable[Detector]) -> _Stage:
        """Return a stage that only finds, and not in the hashes that the rules have written."""
        rules = []
        for detector in detectors:
            options = RuleOptions(
                name=detector.name, detect=(detector.name,), action="redact", placeholder=f"[{detector.name}]"
            )
            rules.append(Rule(options, [detector], action_of(options, None)))
        return self._stage(Policy(rules, self._scheme, self._own))

    def _taking(self, stage: _Stage, rule: Rule | None = None) -> _Stage:
        """Return the stage whose rules, up to this one, take out what they act on."""
        taking = stage.taking.get(rule)
        if taking is None:
            rules = stage.policy.rules if rule is None else stage.policy.rules[: stage.policy.rules.index(rule) + 1]
            taking = self._stage(Policy([*map(_taker, rules)], self._scheme, self._own))
            stage.taking[rule] = taking
        return taking

    def _look(self, message: Message) -> None:
        self.messages += 1
        found = self._counts(message, None)
        for name, count in found.items():
            finding = self.findings[name]
            finding.count += count
            if len(finding.seen) < MOST_TOPICS:
                finding.seen.add(hash(message.topic))
        after: Message | None = message
        rest, left = message, found
        if self._site is not None:
            after, acts = self._site.apply(message)
            rest, left = self._attribute(self._site, "", rest, found, acts)
            self._record("", acts)
        if after is None:
            return
        least = dict(left)
        for name, stage in self._connectors.items():
            _, acts = stage.apply(after)
            _, sent = self._attribute(stage, f" ({name})", rest, left, acts)
            least = {key: min(count, sent.get(key, 0)) for key, count in least.items()}
            self._record(f" ({name})", acts)
        for name, count in least.items():
            if count:
                _add(self.findings[name].rules, NO_RULE, count)
                self._act(NO_RULE, after.topic, count)

    def _counts(self, message: Message, names: Iterable[str] | None) -> dict[str, int]:
        """Return how many pieces each detector finds; ``names`` are those that may find any, ``None`` for all."""
        if self._all.apply(message)[0] is message:
            return {}
        counts: dict[str, int] = {}
        for name in self._probes if names is None else names:
            after, acts = self._probes[name].apply(message)
            count = sum(act.count for act in acts) if after is not None else 0
            if after is None and names is None:
                self.findings[name].failed += 1
            if count:
                counts[name] = count
        return counts

    def _attribute(
        self, stage: _Stage, where: str, message: Message, found: Mapping[str, int], acts: Sequence[Act]
    ) -> tuple[Message, dict[str, int]]:
        """Count what was ``found`` in ``message`` for the rules that act on it.

        Returns the message without that, and how much is left in it.
        """
        left = dict(found)
        if not left:
            return message, left
        after: Message | None = None
        acted: list[Rule | None] = [None]
        if not any(act.rule == WITHHELD for act in acts):
            after, acts = self._taking(stage).apply(message)
            acted = [rule for rule in stage.policy.rules if any(act.rule == rule.name for act in acts)]
        for rule in acted:
            then = after if rule is acted[-1] else self._taking(stage, rule).apply(message)[0]
            now = {} if then is None else self._counts(then, left)
            name = WITHHELD if rule is None else f"{rule.name}{where}"
            for detector, count in left.items():
                left[detector] = min(count, now.get(detector, 0))
                if left[detector] < count:
                    _add(self.findings[detector].rules, name, count - left[detector])
        return message if after is None else after, left

    def _record(self, where: str, acts: Iterable[Act]) -> None:
        for act in acts:
            self._act(f"{act.rule}{where}", act.topic, act.count)

    def _act(self, rule: str, topic: str, count: int) -> None:
        key = (rule, self._shareable(topic))
        if key not in self.acts and len(self.acts) >= MOST_TOPICS:
            key = (rule, OTHER_TOPICS)
        _add(self.acts, key, count)

    def _shareable(self, topic: str) -> str:
        """Return a topic without anything that a detector finds in it, also where no rule would act."""
        place = self._scheme.parse(topic)
        if place is None:
            return topic  # words of the policy's own
        kind: Kind = "metadata" if isinstance(place, MetadataAddress) else "state"
        after = self._all.apply(Message(topic, b"", kind, 0, True))[0]
        if after is None:
            return OTHER_TOPICS
        place = self._scheme.parse(after.topic)
        if isinstance(place, Address) and place.module == _ELSEWHERE:
            return place.state
        return after.topic


class _Stage:
    """One policy over whole messages."""

    def __init__(self, policy: Policy, messages: MessagePolicy) -> None:
        self.policy = policy
        self._messages = messages
        self.taking: dict[Rule | None, _Stage] = {}

    def apply(self, message: Message) -> tuple[Message | None, list[Act]]:
        """Return the message after the rules, ``None`` where it goes no further, and what they did."""
        try:
            after = self._messages.apply(message)
        except (Rejected, RecursionError):
            self.policy.take_acts()
            return None, [Act(WITHHELD, "", message.kind, WITHHELD, 1)]
        return after, self.policy.take_acts()


class _Take(Action):
    """Takes out what was found. A line break joins nothing that then would be found as one."""

    def text(self, found: str, canonical: str | None, detector: Detector | None, *, form: Form = "value") -> str:  # noqa: ARG002
        return "\n"


def _taker(rule: Rule) -> Rule:
    """Return a rule that takes out what this one replaces."""
    if not rule.replaces:
        return rule
    taker = copy(rule)
    taker.kind, taker.action = "redact", _Take()
    return taker


def surveyed(configuration: Configuration, policies: Policies, registry: Registry) -> dict[str, Detector]:
    """Return what is looked for: the installed detectors that need no options, and those the configuration defines."""
    tables: dict[str, dict[str, Any]] = {name: {"type": name} for name in registry.types("detector")}
    tables |= configuration.privacy.detectors
    context = {"base": Path(configuration.path).parent}
    found: dict[str, Detector] = {}
    for name, options in tables.items():
        plugin = registry.find("detector", str(options.get("type")))
        if plugin is None or plugin.implementation is None:
            continue
        try:
            detector = DetectorInstance(name, plugin, plugin.model.model_validate(options, context=context)).create()
            list(detector.find("", ""))
        except Exception:  # noqa: BLE001, S112 - one that needs options, or a file that is not there; no rule uses it
            continue
        found[name] = detector
    return found | dict(policies.detectors)


def _add(counts: dict[Any, int], key: Any, count: int) -> None:
    counts[key] = counts.get(key, 0) + count


def _value(payload: bytes) -> Any:
    """Return what a payload says: JSON where it becomes a value without loss, else text."""
    with contextlib.suppress(msgspec.DecodeError, RecursionError):
        if not _repeats(payload):
            return msgspec.json.decode(payload)
    return payload.decode(errors="replace")


class _Twice(ValueError):
    """A member of an object stands there twice."""


def _repeats(payload: bytes) -> bool:
    """Return whether a JSON object, or one that its ``value`` holds as a string, has a member twice.

    Of these a value has the last one only; in a text all are looked at.
    """
    try:
        body = _members_of(payload.decode(errors="replace"))
        if isinstance(body, dict) and isinstance(body.get("value"), str):
            _members_of(body["value"])
    except (_Twice, RecursionError):
        return True
    except ValueError:
        pass
    return False


def _members_of(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once, parse_int=str, parse_float=str)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice
    return found
