"""What is allowed in privacy rules and yet does less, or more, than it seems."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import Final

import pydantic

from northbound.cli.words import when
from northbound.loading import Configuration
from northbound.privacy.options import DEFAULT_NAME, RuleOptions

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_SHORTEST_SECRET: Final = 16
#: Actions that may make one of different texts.
_MERGING: Final = ("redact", "mask", "generalise")
_NARROWING: Final = ("topics", "states", "kinds", "paths", "levels")

Caveat = tuple[str, str, str]


def caveats(configuration: Configuration) -> Iterator[Caveat]:
    """Give key, message and remedy of each."""
    options = configuration.privacy
    if not options.all_rules:
        yield (
            "privacy.default",
            "is false and there are no rules: everything leaves as it is",
            "remove it, or write [[privacy.rules]]",
        )
    yield from _secrets(configuration)
    now = int(time.time() * 1000)
    if options.overlap_ms and options.overlap_ms <= now:
        yield (
            "privacy.overlap_until",
            f"the overlap is over since {when(options.overlap_ms)}",
            "remove it and previous_secret: hashes under that one are no longer written",
        )
    for stage in _stages(configuration):
        yield from _order(stage)
    for rule in options.rules:
        yield from _topics(rule)
        yield from _again(rule, configuration)


def _key(rule: RuleOptions) -> str:
    return f"privacy.rules.{rule.name if _BARE.fullmatch(rule.name) else ascii(rule.name)}"


def _secrets(configuration: Configuration) -> Iterator[Caveat]:
    options = configuration.privacy
    found: list[tuple[str, pydantic.SecretStr | None]] = [("privacy.secret", options.secret)]
    found += [(f"{_key(rule)}.secret", rule.secret) for rule in options.rules]
    found += [(f"connectors.{c.name}.privacy_secret", c.options.privacy_secret) for c in configuration.connectors]
    for key, secret in found:
        if secret is not None and len(secret.get_secret_value()) < _SHORTEST_SECRET:
            yield (
                key,
                f"is shorter than {_SHORTEST_SECRET} characters: whoever guesses it can tell whose a hash is",
                "make one: openssl rand -hex 32",
            )


def _stages(configuration: Configuration) -> Iterator[Sequence[RuleOptions]]:
    """Give the rules that act on the same texts: those before the store, and those of each connector."""
    rules = configuration.privacy.all_rules
    yield [rule for rule in rules if rule.connectors is None]
    for connector in configuration.connectors:
        yield [rule for rule in rules if rule.connectors is not None and connector.name in rule.connectors]


def _order(rules: Sequence[RuleOptions]) -> Iterator[Caveat]:
    """Find rules that cannot act where they stand."""
    if rules and rules[-1].action == "allow":
        yield (
            _key(rules[-1]),
            "allows what no rule behind it would touch: rules act in their order",
            "move it before the rules it is an exception to",
        )
    for at, rule in enumerate(rules):
        if not rule.detect or rule.name == DEFAULT_NAME:
            continue
        for earlier in rules[:at]:
            narrowed = any(getattr(earlier, name) is not None for name in _NARROWING)
            if not narrowed and set(rule.detect) <= set(earlier.detect):
                yield (
                    _key(rule),
                    f"can never act: {earlier.name!r} before it takes all that it would find",
                    "move it before that rule, or narrow that one",
                )
                break


def _topics(rule: RuleOptions) -> Iterator[Caveat]:
    """Find rules by which different values may come to share a topic."""
    at_levels = rule.levels is not None or (rule.paths is None and bool(rule.detect))
    explicit = rule.levels is not None or rule.action == "redact"
    if rule.action in _MERGING and at_levels and explicit and rule.scope == "text":
        yield (
            _key(rule),
            f"may {rule.action} a level of the topic: different values may then share a topic",
            "hash there, or look at values only: paths = ['$']",
        )


def _again(rule: RuleOptions, configuration: Configuration) -> Iterator[Caveat]:
    """Find placeholders that are what the rule looks for."""
    if rule.action != "redact":
        return
    for instance in configuration.detectors:
        if instance.name not in rule.detect:
            continue
        try:
            again = any(found.start < found.end for found in instance.create().find(rule.placeholder, ""))
        except Exception:  # noqa: BLE001, S112 - one that must learn first, or a third party's: nothing to say
            continue
        if again:
            yield (
                f"{_key(rule)}.placeholder",
                f"is itself what detector {instance.name!r} finds: it will be found again where it is read again",
                "choose a placeholder that does not match",
            )
