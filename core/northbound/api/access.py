"""What somebody may see and publish, by rules over topic filters. Pure.

A filter wider than somebody's rights is granted and narrowed: what is delivered is looked at one by one. ``#`` and
``$SYS/#`` are granted to everybody who is signed in, for explorers subscribe to both and give up otherwise; what they
show there is still only what the rules give.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Final

from northbound.admission import AccessOptions, AccessRuleOptions
from northbound.api.filters import covers, overlap, prefix_of
from northbound.api.identity import Grant, Identity
from northbound.topics import MAX_TOPIC_BYTES, TopicMatcher, TopicScheme, escape, filter_problem

#: What explorers subscribe to, whoever they are.
_EXPLORERS: Final = frozenset(("#", "$SYS/#"))
_MOST_REMEMBERED: Final = 10_000
_WILDCARD_LEVELS: Final = frozenset("+#")


class _Filters:
    """Some topic filters, and quick answers whether one of them matches."""

    def __init__(self, filters: Iterable[str]) -> None:
        self.filters = tuple(dict.fromkeys(filters))
        # Most rules give all below a point. A topic is below it if it begins so, which is looked up in one go.
        prefixes: list[str] = []
        others: list[str] = []
        for text in self.filters:
            begin = prefix_of(text)
            if begin is None and text.endswith("/#") and _WILDCARD_LEVELS.isdisjoint(text[:-2]):
                prefixes.append(text[:-1])
                others.append(text[:-2])  # the point itself
            elif begin is None:
                others.append(text)
            else:
                prefixes.append(begin)
        self._prefixes = tuple(prefixes)
        self._others = TopicMatcher(others)

    def matches(self, topic: str) -> bool:
        return topic.startswith(self._prefixes) or self._others.matches(topic)

    def covers(self, topic_filter: str) -> bool:
        return any(covers(ours, topic_filter) for ours in self.filters)

    def overlap(self, topic_filter: str) -> bool:
        return any(overlap(ours, topic_filter) for ours in self.filters)


class Rules:
    """Answers what somebody may do, as the broker and HTTP ask it. ``root`` is the first level of the site's topics."""

    def __init__(self, options: AccessOptions, scheme: TopicScheme) -> None:
        self._rules = options.all_rules
        self._root = scheme.root
        self._personal = any(map(_is_personal, self._rules))
        self._by_issuer = any(rule.issuers is not None for rule in self._rules)
        self._rights: dict[Hashable, tuple[_Filters, _Filters]] = {}

    def subscribe(self, who: Identity, filter: str) -> Grant:  # noqa: A002 - MQTT's word for it
        """Say how ``who`` is granted ``filter``: whole, narrowed at each delivery, or refused."""
        if not who.reads or filter_problem(filter) is not None:
            return "refused"
        read, _ = self._of(who)
        if read.covers(filter):
            return "whole"
        return "narrowed" if filter in _EXPLORERS or read.overlap(filter) else "refused"

    def receive(self, who: Identity, topic: str) -> bool:
        """Say whether a message at ``topic`` may go to ``who``."""
        return who.reads and self._of(who)[0].matches(topic)

    def publish(self, who: Identity, topic: str) -> bool:
        """Say whether ``who`` may publish at ``topic``. Nobody may at ``$`` topics: those are the server's own."""
        if not who.writes or topic.startswith("$") or not _WILDCARD_LEVELS.isdisjoint(topic):
            return False
        return self._of(who)[1].matches(topic)

    def given(self, who: Identity) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the topic filters that ``who`` may read, and those where they may publish."""
        read, publish = self._of(who)
        return read.filters if who.reads else (), publish.filters if who.writes else ()

    def rights(self, who: Identity) -> Hashable:
        """Return what is equal for people of whom every question here has the same answer."""
        subject = who.subject if self._personal else None
        issuer = who.issuer if self._by_issuer else None
        return (who.role, who.org, who.every_org, who.reads, who.writes, subject, issuer)

    def _of(self, who: Identity) -> tuple[_Filters, _Filters]:
        key = self.rights(who)
        found = self._rights.get(key)
        if found is None:
            if len(self._rights) >= _MOST_REMEMBERED:
                self._rights.clear()
            rules = [rule for rule in self._rules if _is_for(rule, who)]
            found = self._rights[key] = (
                _Filters(self._filled(who, [text for rule in rules for text in rule.read])),
                _Filters(self._filled(who, [text for rule in rules for text in rule.publish])),
            )
        return found

    def _filled(self, who: Identity, templates: Sequence[str]) -> Iterable[str]:
        values = {
            "{root}": self._root,
            "{org}": "+" if who.every_org else escape(who.org or ""),
            "{user}": escape(who.subject),
        }
        for template in templates:
            levels = [values.get(level, level) for level in template.split("/")]
            # Nothing stands for a value that is missing, and no value opens what begins with '$'.
            missing = any(not values[level] for level in template.split("/") if level in values)
            filled = "/".join(levels)
            opened = filled.startswith("$") and not template.startswith("$")
            if not missing and not opened and len(filled.encode(errors="replace")) <= MAX_TOPIC_BYTES:
                yield filled


def _is_personal(rule: AccessRuleOptions) -> bool:
    return rule.users is not None or any("{user}" in text.split("/") for text in (*rule.read, *rule.publish))


def _is_for(rule: AccessRuleOptions, who: Identity) -> bool:
    return (
        who.role in rule.roles
        and (rule.users is None or who.subject in rule.users)
        and (rule.issuers is None or who.issuer in rule.issuers)
    )
