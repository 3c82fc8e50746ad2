"""What each connector would send for an event, or why not. Pure: nothing connects, nothing is stored.

It goes the way that messages go — engine, filters, shaping — with the same parts and in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from northbound import policies
from northbound.engine import Engine
from northbound.errors import Rejected
from northbound.events import Cleared, Event, Metadata, State
from northbound.loading import Configuration, ConnectorInstance
from northbound.message import Message, Outgoing
from northbound.privacy.messages import MessagePolicy
from northbound.privacy.policy import Policy
from northbound.shaping import Shaper
from northbound.topics import TopicMatcher

#: ``sent``; ``filtered``: outside the connector's topics; ``withheld``: a privacy rule of the connector drops it;
#: ``rejected``: it would become a dead letter.
Outcome = Literal["sent", "filtered", "withheld", "rejected"]


class Passage(Struct, frozen=True):
    """What one connector would do with one message. ``reason`` says why not, ``outgoing`` what it would send.

    ``rules`` are the privacy rules of this connector that acted, ``original`` is what it would send if there were no
    rule at all, and ``unevaluated`` says that it is rejected because they could not be evaluated. ``hides``: they keep
    the topic under which it is stored from this connector.
    """

    connector: str
    outcome: Outcome
    outgoing: Outgoing | None = None
    reason: str = ""
    rules: tuple[str, ...] = ()
    original: Outgoing | None = None
    unevaluated: bool = False
    hides: bool = False


class Previewed(Struct, frozen=True):
    """What would become of one event: refused by the engine, with the reason, or a message and where it goes.

    ``dropped``: a privacy rule lets it go no further. ``rules`` are the rules before the store that acted, ``original``
    is the message if there were no rule: not for sharing.
    """

    message: Message | None
    refused: str = ""
    dropped: bool = False
    passages: tuple[Passage, ...] = ()
    rules: tuple[str, ...] = ()
    original: Message | None = None

    @property
    def hidden(self) -> bool:
        """Whether the topic under which it is stored is not for sharing: rules keep it from a connector."""
        return any(passage.hides for passage in self.passages)

    @property
    def withheld(self) -> bool:
        """Whether it is refused because the privacy rules could not be evaluated."""
        return bool(self.refused) and self.original is not None


class Preview:
    """Answers for one configuration. Limits are those declared; a broker may narrow them on connecting.

    ``remark`` says where hashes are of a secret thrown away. ``unlearned`` names the detectors that a running service
    lets learn from a source; here they know nobody.
    """

    def __init__(self, configuration: Configuration) -> None:
        site = configuration.site
        self.policies, self.remark = policies.for_looking(configuration)
        self.unlearned = self.teach(())
        self._bare = Engine(site.scheme, site.payloads, org=site.org, retain_state=site.retain_state)
        self.engine = Engine(
            site.scheme, site.payloads, org=site.org, retain_state=site.retain_state, policy=self.policies.site
        )
        self._ways = [_Way(instance, configuration, self.policies) for instance in configuration.connectors]

    def teach(self, people: Sequence[str]) -> tuple[str, ...]:
        """Let the detectors that learn from a source know ``people``; returns which detectors these are."""
        learners = [detector for detector in self.policies.detectors.values() if detector.learns_from is not None]
        for detector in learners:
            detector.learn(people)
        return tuple(detector.name for detector in learners)

    def event(self, event: Event, now: int) -> Previewed:
        """Return what would become of ``event``; ``now`` (ms since 1970) is its time where it has none."""
        bare = self._bare.process([event], now).messages
        original = bare[0] if bare else None
        messages, refused, dropped = self.engine.process([event], now)
        rules = _acted(self.policies.site)
        if refused:
            return Previewed(None, refused[0][1], rules=rules, original=original)
        if dropped or original is None:
            return Previewed(None, dropped=True, rules=rules, original=original)
        message = messages[-1]  # before it, in an overlap of keys, the clearing of what the previous one made
        passages = tuple(way.passage(message, original, now) for way in self._ways)
        return Previewed(message, passages=passages, rules=rules, original=original)


def _acted(policy: Policy | None) -> tuple[str, ...]:
    """Return the names of the rules that have acted since this was last asked."""
    return () if policy is None else tuple(dict.fromkeys(act.rule for act in policy.take_acts()))


class _Way:
    """The way to one connector, as its worker goes it."""

    def __init__(self, instance: ConnectorInstance, configuration: Configuration, found: policies.Policies) -> None:
        options = instance.options
        site = configuration.site
        self._rules = found.connectors.get(instance.name)
        self._policy = None if self._rules is None else MessagePolicy(self._rules, site.scheme, site.payloads)
        connector = instance.create()
        self._name = instance.name
        self._matches = TopicMatcher(options.topics).matches
        self._filters = ", ".join(options.topics)
        self._shape = Shaper.of(connector, options, site.scheme, options.limits.narrow(connector.limits)).shape

    def passage(self, message: Message, original: Message, now: int) -> Passage:
        """Return what the connector would do with ``message``; ``original`` is it without any privacy rule."""
        if self._policy is not None:
            self._policy.policy.begin(now)
        protected, why = self._protected(message)
        rules = _acted(self._rules)
        hides = protected is None or protected.topic != message.topic
        if not self._matches(message.topic):
            return Passage(self._name, "filtered", reason=f"outside its topics: {self._filters}", hides=hides)
        before = self._shaped(original)
        if why:
            return Passage(self._name, "rejected", None, why, rules, before, unevaluated=True, hides=hides)
        if protected is None:
            reason = "a privacy rule of this connector drops it"
            return Passage(self._name, "withheld", None, reason, rules, before, hides=hides)
        try:
            return Passage(self._name, "sent", self._shape(protected, 0), "", rules, before, hides=hides)
        except Rejected as error:
            return Passage(self._name, "rejected", None, error.reason, rules, before, hides=hides)

    def _protected(self, message: Message) -> tuple[Message | None, str]:
        """Return what the rules of the connector let through, and why they could not be evaluated."""
        try:
            return (message if self._policy is None else self._policy.apply(message)), ""
        except Rejected as error:
            return None, error.reason

    def _shaped(self, message: Message) -> Outgoing | None:
        try:
            return self._shape(message, 0)
        except Rejected:
            return None


def sample_events(hierarchy: Sequence[str], org: str | None) -> list[Event]:
    """Return a few events as this site could have them: plain, structured, awkward, described and gone."""
    org = org or "org-sample"
    zones = tuple(f"{level}-1" for level in hierarchy[1:])
    shallow = (*zones[:-1], None) if zones else ()
    room = "sys-boardroom"
    return [
        State(org, zones, room, "dep-display", "Display", 1, "power", True),
        State(org, shallow, room, "dep-sensor", "Environment", 2, "climate", {"temperature": 21.5, "humidity": 44}),
        State(org, zones, room, "dep-areas", "AreaManagement", 1, "zone-1:areas/north #1", ["desk-1", "desk-2"]),
        Metadata(org, room, {"name": "Boardroom", "capacity": 12}),
        Cleared(org, zones, room, "dep-display", "Display", 1, "power"),
    ]
