"""The hash that a policy writes for a text: to look a person up in what has left, or to expect it in a test. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct

from northbound.policies import Policies
from northbound.privacy.actions import Form, Hash
from northbound.privacy.detector import Detector
from northbound.privacy.keys import own_hashes
from northbound.privacy.plain import plain
from northbound.privacy.policy import Policy
from northbound.privacy.rules import Rule

#: PlaceOS's form has no mark of its own.
_PLACEOS: Final = "[0-9a-f]{64}"


class HashRule(Struct, frozen=True):
    """A rule that hashes; ``connector`` where it is one of a connector."""

    rule: Rule
    action: Hash
    connector: str | None = None


class Hashed(Struct, frozen=True):
    """The hash of one text. ``detector`` is the one that found it, ``""`` for none; ``part``: it found a part of it."""

    text: str
    detector: str
    part: bool


def hash_rules(policies: Policies) -> list[HashRule]:
    """Return all the rules that hash, those before the store first."""
    stages: list[tuple[str | None, Policy]] = [] if policies.site is None else [(None, policies.site)]
    stages += policies.connectors.items()
    return [
        HashRule(rule, rule.action, connector)
        for connector, policy in stages
        for rule in policy.rules
        if isinstance(rule.action, Hash)
    ]


def hash_of(
    found: HashRule, text: str, detectors: Sequence[Detector], *, key: str = "", form: Form = "value"
) -> Hashed:
    """Return the hash of ``text`` under the rule's secret, in the canonical form of the first detector that finds it.

    What none of them finds is hashed as it is. ``key`` is the key it stands under; ``form`` says where it is written.
    """
    shown = plain(text)
    for seen in dict.fromkeys((text if shown is None else shown.text, text)):
        for detector in detectors:
            start, end, canonical = max(_found(detector, seen, key), key=_length, default=(0, 0, None))
            if start < end:
                written = found.action.text(seen[start:end], canonical, detector, form=form)
                return Hashed(written, detector.name, part=end - start < len(seen))
    return Hashed(found.action.text(text, None, None, form=form), "", part=False)


def pattern_of(found: HashRule) -> str:
    """Return the pattern of every hash that the rule may write."""
    own = own_hashes(found.action.forms)
    return _PLACEOS if own is None else own.pattern


def _found(detector: Detector, text: str, key: str) -> Iterator[tuple[int, int, str | None]]:
    try:
        yield from detector.find(text, key)
    except Exception:  # noqa: BLE001 - a third party's detector may raise anything; then it finds nothing here
        return


def _length(found: tuple[int, int, str | None]) -> int:
    return found[1] - found[0]
