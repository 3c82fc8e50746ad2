"""From a configuration to its policies: one before the store, one for each connector that has rules of its own."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from northbound.errors import ConfigurationError, Problem
from northbound.loading import Configuration, ConnectorInstance
from northbound.privacy import secretfile
from northbound.privacy.actions import action_of
from northbound.privacy.detector import Detector
from northbound.privacy.keys import Keys
from northbound.privacy.options import RuleOptions
from northbound.privacy.policy import Policy
from northbound.privacy.rules import Rule


class Policies:
    """The policies of one configuration; ``site`` is ``None`` where nothing is to be done before the store.

    ``secret`` is the key of hashes for which the configuration names none. ``known`` are detectors that are used again:
    what they have learnt is not forgotten. Raises :class:`ConfigurationError` where the previous secret is no other.
    """

    def __init__(self, configuration: Configuration, secret: str, known: Mapping[str, Detector] | None = None) -> None:
        self._configuration = configuration
        self._secret = secret
        known = known or {}
        self.detectors: Mapping[str, Detector] = {
            d.name: known[d.name] if d.name in known else d.create() for d in configuration.detectors
        }
        rules = configuration.privacy.all_rules
        self.site = self._policy([rule for rule in rules if rule.connectors is None], None)
        self.connectors: dict[str, Policy] = {}
        for connector in configuration.connectors:
            own = [rule for rule in rules if rule.connectors is not None and connector.name in rule.connectors]
            policy = self._policy(own, connector)
            if policy is not None:
                self.connectors[connector.name] = policy

    def _policy(self, rules: Sequence[RuleOptions], connector: ConnectorInstance | None) -> Policy | None:
        if not rules:
            return None
        made = [
            Rule(
                rule,
                [self.detectors[name] for name in rule.detect],
                action_of(rule, self._keys(rule, connector) if rule.action == "hash" else None),
            )
            for rule in rules
        ]
        return Policy(made, self._configuration.site.scheme)

    def _keys(self, rule: RuleOptions, connector: ConnectorInstance | None) -> Keys:
        privacy = self._configuration.privacy
        secret, previous = privacy.secret, privacy.previous_secret
        if rule.secret is not None:
            secret, previous = rule.secret, rule.previous_secret
        elif connector is not None and connector.options.privacy_secret is not None:
            secret, previous = connector.options.privacy_secret, None
        current = self._secret if secret is None else secret.get_secret_value()
        before = None if previous is None else previous.get_secret_value()
        if before == current:  # the options have seen to those that are named
            words, remedy = "is the secret beside the store", "move that file away: a new one is made"
            raise ConfigurationError([Problem(self._configuration.path, "privacy.previous_secret", words, remedy)])
        return Keys(current, before, privacy.overlap_ms)


def audit_path(configuration: Configuration) -> Path | None:
    """Return where the audit log is; ``None`` where there is none."""
    options = configuration.privacy
    if not options.audit or not options.all_rules:
        return None
    store = configuration.store.path
    return options.audit_path or store.with_name(f"{store.name}.audit.jsonl")


def needs_secret(configuration: Configuration) -> bool:
    """Whether a rule hashes with a secret that the configuration does not name."""
    if configuration.privacy.secret is not None:
        return False
    own = {c.name for c in configuration.connectors if c.options.privacy_secret is not None}
    return any(
        rule.action == "hash"
        and rule.secret is None
        and (rule.connectors is None or not own.issuperset(rule.connectors))
        for rule in configuration.privacy.all_rules
    )


def for_service(configuration: Configuration, known: Mapping[str, Detector] | None = None) -> tuple[Policies, str]:
    """Return the policies of the service, and what a person should know of where their secret is (or nothing).

    ``known`` are detectors to use again. Makes a secret beside the store where one is needed. Raises
    :class:`northbound.StoreError`.
    """
    if not needs_secret(configuration):
        return Policies(configuration, "", known), ""
    path = secretfile.path_beside(configuration.store.path)
    secret, made = secretfile.read_or_make(path)
    words = f"a privacy secret was made at {path}: keep a copy, for hashes change with it" if made else ""
    return Policies(configuration, secret, known), words


def for_looking(configuration: Configuration) -> tuple[Policies, str]:
    """Return the policies as :func:`for_service` does, but make nothing: a secret that is not there is thrown away."""
    if not needs_secret(configuration):
        return Policies(configuration, ""), ""
    path = secretfile.path_beside(configuration.store.path)
    secret = secretfile.read(path)
    if secret is not None:
        return Policies(configuration, secret), ""
    words = f"the service will make its privacy secret at {path}; until then hashes here are of a secret thrown away"
    return Policies(configuration, secrets.token_hex(32)), words
