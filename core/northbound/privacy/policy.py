"""Rules over topic, payload and metadata. Pure: no clock, no disk, no socket.

What the rules make of a topic depends on the address alone, so that a value, its successors and its clearing share one
topic; it is worked out once for each topic and kept as a :class:`Plan`. A value is walked only where one search over
its JSON says that something may be found in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

import msgspec

from northbound.errors import EventRefused
from northbound.message import Kind
from northbound.payloads import to_json
from northbound.privacy.actions import Form, Generalise, Hash
from northbound.privacy.keys import own_hashes
from northbound.privacy.rules import Rule
from northbound.privacy.texts import Dropped, Texts
from northbound.privacy.walker import Walker, plain_key
from northbound.topics import TopicScheme

_CACHED_PLANS: Final = 50_000
#: When they are full, one in so many goes: without any order in it, or topics that come in turn would all go in turn.
_EVICTED: Final = 8
_MOST_SUPERSEDED: Final = 200_000
_MOST_ACTS: Final = 20_000
_SEARCHED_AT_ONCE: Final = 64
_OTHER_TOPICS: Final = "(other topics)"
_EMPTY_LEVEL: Final = "redacted"
_WITHHELD: Final = "[withheld]"
_DROPPED_TOPIC: Final = "(dropped)"


class Act(msgspec.Struct, frozen=True):
    """One rule has acted: on which topic (as it is afterwards), and how often."""

    rule: str
    action: str
    kind: Kind
    topic: str
    count: int


class Plan:
    """What a policy makes of one topic, and of the values there.

    ``topic`` is what stands in its place, ``None`` where it stays. In an overlap of keys ``previous`` is the topic
    under the previous one; ``superseded``, whether it has been cleared.
    """

    __slots__ = ("acts", "always", "dropped", "kind", "previous", "superseded", "time", "topic", "walker")

    def __init__(self, kind: Kind, walker: Walker | None = None) -> None:
        self.kind: Kind = kind
        self.walker = walker
        self.always = False
        self.topic: str | None = None
        self.dropped: Rule | None = None
        self.acts: Sequence[tuple[Rule, int]] = ()
        self.previous: str | None = None
        self.superseded = False
        self.time: Generalise | None = None


class Policy:
    """The rules of one stage: those before the store, or those of one connector.

    ``own`` is the pattern of hashes that are never looked into; without it, of those that these rules write.
    """

    def __init__(self, rules: Sequence[Rule], scheme: TopicScheme, own: re.Pattern[str] | None = None) -> None:
        self.rules = tuple(rules)
        self._scheme = scheme
        self._names = (*scheme.hierarchy, "system", "driver", "module", "state")
        self._hashes = [rule.action for rule in rules if isinstance(rule.action, Hash)]
        self.texts = Texts(rules, own or own_hashes(form for action in self._hashes for form in action.forms))
        # Such rules make the same of all topics in which they find nothing.
        self._uniform = all(rule.everywhere and rule.looks_at_values and not rule.whole for rule in rules)
        self._walkers: dict[tuple[Rule, ...], Walker] = {}
        self._plans: dict[str, Plan] = {}
        self._superseded: set[int] = set()  # hashes of topics that are cleared, where their plan is no longer kept
        self._untouched = {kind: Plan(kind, self._walker(self.rules) if rules else None) for kind in get_args(Kind)}
        self._acts: dict[tuple[Rule, Kind, str], int] = {}
        self.counts: dict[str, int] = dict.fromkeys((rule.name for rule in rules), 0)

    def begin(self, now: int) -> None:
        """Take in what time it is (ms since 1970) before a batch: an overlap of keys may have ended."""
        changed = False
        for action in self._hashes:
            changed |= action.begin(now)
        if changed:
            self._plans.clear()
            self._superseded.clear()

    def forget(self) -> None:
        """Work out anew what becomes of topics: a detector may have learnt what it finds in them."""
        self._evict([*self._plans])

    def plan(self, kind: Kind, topic: str, org: str, place: Any) -> Plan:
        """Return what becomes of ``topic``, and how to treat the values there.

        ``place`` has the address: an event, or an :class:`northbound.Address`. Raises :class:`Withheld`.
        """
        # Where PlaceOS is imitated, metadata topics of all organisations are alike.
        name = topic if self._scheme.metadata_org is None or kind == "state" else f"{org}\0{topic}"
        plan = self._plans.get(name)
        if plan is None:
            plan = self._new_plan(kind, topic, org, place)
            if len(self._plans) >= _CACHED_PLANS:
                self._evict([*self._plans][::_EVICTED])
            self._plans[name] = plan
        return plan

    def _evict(self, names: Sequence[str]) -> None:
        for name in names:
            plan = self._plans.pop(name)
            if plan.superseded:
                if len(self._superseded) >= _MOST_SUPERSEDED:
                    self._superseded.clear()  # at worst a topic is cleared again
                self._superseded.add(hash(plan.previous))

    def clean(self, texts: Sequence[bytes]) -> list[bool]:
        """Return of each of ``texts``, the JSON of values, whether one search over many found that nothing is in it.

        Every search lets go of the interpreter's lock, and beside a busy thread waits to have it back.
        """
        found: list[bool] = []
        for start in range(0, len(texts), _SEARCHED_AT_ONCE):
            some = texts[start : start + _SEARCHED_AT_ONCE]
            found += [not self.texts.literals.of(b"\n".join(some))] * len(some)
        return found

    def value(self, plan: Plan, topic: str, key: str, value: Any, text: bytes, *, clean: bool = False) -> bytes:
        """Return the JSON of ``value`` after the rules; ``text`` is its JSON before, ``clean`` what is known of it.

        ``topic`` is where it goes, after the rules; ``key`` the status key, as it was. Raises :class:`Dropped` and
        :class:`Withheld`.
        """
        walker = plan.walker
        suspected = walker is not None and (plan.always or (not clean and walker.suspects(value, text)))
        if not suspected and not plan.acts:
            return text  # as nearly every value goes
        acts = list(plan.acts)
        try:
            if plan.dropped is not None:
                raise Dropped(plan.dropped, ())  # noqa: TRY301 - the way of every rule that drops
            if suspected and walker is not None:
                before = value
                value = walker.walk(value, plain_key(key), acts)
                if value is not before:
                    text = to_json(value)
        except Dropped as dropped:
            self._record(plan.kind, topic, [*acts, *dropped.acts])
            raise
        self._record(plan.kind, topic, acts)
        return text

    def cleared(self, plan: Plan, topic: str) -> bytes:
        """Return the payload of a topic whose value is gone, an empty one. Raises :class:`Dropped`."""
        self._record(plan.kind, topic, plan.acts)
        if plan.dropped is not None:
            raise Dropped(plan.dropped, ())
        return b""

    def scrub(self, text: str) -> str:
        """Return a text that is no value (a reason, a line of a log) after all rules that detect something."""
        # What is excepted somewhere is not excepted here: nobody knows where the words come from.
        rules = [rule for rule in self.rules if rule.detects and (rule.kind != "allow" or rule.unbounded)]
        try:
            text.encode()
            replaced = self.texts.apply(text, "", rules)
        except (Dropped, EventRefused, UnicodeEncodeError):
            return _WITHHELD
        if replaced is None:
            return text
        return _WITHHELD if replaced.whole is not None else replaced.text

    def take_acts(self) -> list[Act]:
        """Return what the rules have done since this was last asked."""
        acts, self._acts = self._acts, {}
        return [Act(rule.name, rule.kind, kind, topic, count) for (rule, kind, topic), count in acts.items()]

    # topics

    def _new_plan(self, kind: Kind, topic: str, org: str, place: Any) -> Plan:
        state = place.state if kind == "state" else None
        if self._uniform:
            # Every level stands in the topic; what it hides, it shows as percent-encoded.
            if not self.texts.literals.of(topic.encode()):
                return self._untouched[kind]
            rules = self.rules
        else:
            rules = tuple(rule for rule in self.rules if rule.selects(kind, topic, state))
        plan = Plan(kind)
        levels = self._levels_of(kind, org, place)
        acts: list[tuple[Rule, int]] = []
        try:
            _drop_at_once(rules)
            changed = self._treated(levels, rules, acts, "topic")
            if changed != levels:
                plan.topic = self._topic(kind, changed, place)
                if any(action.overlap for action in self._hashes):
                    old = self._topic(kind, self._treated(levels, rules, [], "previous"), place)
                    plan.previous = old if old != plan.topic else None
                    plan.superseded = hash(old) in self._superseded
        except Dropped as dropped:
            plan.dropped = dropped.rule
            # The topic may be what it was dropped for, so it is not written anywhere either.
            plan.topic = _DROPPED_TOPIC
            acts += dropped.acts
        plan.acts = tuple(acts)
        value_rules = tuple(rule for rule in rules if rule.looks_at_values)
        if value_rules:
            plan.walker = self._walker(value_rules)
            plan.always = plan.walker.always or bool(state and plan.walker.suspects_under(state))
        plan.time = next((rule.message_time for rule in rules if rule.message_time is not None), None)
        return plan

    def _levels_of(self, kind: Kind, org: str, place: Any) -> dict[str, str | None]:
        if kind == "metadata":
            return {"org": org, "id": place.id}
        values = (org, *place.zones, place.system, place.driver, place.module, place.state)
        return dict(zip(self._names, values, strict=True))

    def _treated(
        self, levels: Mapping[str, str | None], rules: Sequence[Rule], acts: list[tuple[Rule, int]], form: Form
    ) -> dict[str, str | None]:
        changed = dict(levels)
        self.texts.form = form
        try:
            for name, text in levels.items():
                here = [rule for rule in rules if rule.looks_at_level(name)]
                if text and here:
                    changed[name] = self._level(text, here, acts)
        finally:
            self.texts.form = "value"
        return changed

    def _level(self, text: str, rules: Sequence[Rule], acts: list[tuple[Rule, int]]) -> str:
        replaced = self.texts.apply(text, "", rules)
        if replaced is None:
            return text
        acts += replaced.acts
        rule = replaced.whole
        if rule is None and replaced.text:
            return replaced.text
        # A level cannot be left out, and null has no place in a topic.
        return (rule or replaced.acts[-1][0]).placeholder or _EMPTY_LEVEL

    def _topic(self, kind: Kind, levels: Mapping[str, str | None], place: Any) -> str:
        if kind == "metadata":
            # Where PlaceOS is imitated, "org" stands there in place of the organisation.
            return self._scheme.metadata_topic(levels["org"] or "", levels["id"] or "")
        org, *zones, system, driver, module, state = levels.values()
        return self._scheme.state_topic(
            org or "", tuple(zones), system or "", driver or "", module or "", place.index, state or ""
        )

    # values

    def _walker(self, rules: tuple[Rule, ...]) -> Walker:
        walker = self._walkers.get(rules)
        if walker is None:
            walker = self._walkers[rules] = Walker(rules, self.texts)
        return walker

    def _record(self, kind: Kind, topic: str, acts: Sequence[tuple[Rule, int]]) -> None:
        for rule, count in acts:
            self.counts[rule.name] += count
            key = (rule, kind, topic)
            if key not in self._acts and len(self._acts) >= _MOST_ACTS:
                key = (rule, kind, _OTHER_TOPICS)
            self._acts[key] = self._acts.get(key, 0) + count


def _drop_at_once(rules: Sequence[Rule]) -> None:
    """Raise :class:`Dropped` where a rule drops whatever its topics carry."""
    for rule in rules:
        if rule.whole and rule.cursor() is None and rule.looks_at_values:
            if rule.kind == "allow":
                return
            if rule.kind == "drop":
                raise Dropped(rule, [(rule, 1)])
