"""What a configuration's privacy policy is, in words: for ``check`` and for the log of ``run``. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from northbound.cli.words import plural
from northbound.loading import Configuration
from northbound.policies import audit_path, needs_secret
from northbound.privacy import secretfile

_CONFIGURED: Final = "configuration"


def told(configuration: Configuration) -> dict[str, Any]:
    """Return the policy for programs; ``secret`` is where the secret of the hashes comes from, ``None`` for none."""
    options = configuration.privacy
    source = None
    if needs_secret(configuration):
        source = str(secretfile.path_beside(configuration.store.path))
    elif any(rule.action == "hash" for rule in options.all_rules):
        source = _CONFIGURED
    audit = audit_path(configuration)
    return {
        "rules": [rule.name for rule in options.all_rules],
        "default": options.default,
        "secret": source,
        "audit": None if audit is None else str(audit),
    }


def sentence(configuration: Configuration) -> str:
    """Return the policy in words."""
    policy = told(configuration)
    words = f"{plural(len(policy['rules']), 'rule')} in force"
    words += ", the default policy among them" if policy["default"] else ", without the default policy"
    if policy["secret"] == _CONFIGURED:
        words += "; the secret of the hashes is configured"
    elif policy["secret"] is not None:
        path = Path(policy["secret"])
        words += f"; the secret of the hashes is in {path}" + ("" if path.exists() else ", made at the first start")
    return words + (f"; audit log {policy['audit']}" if policy["audit"] else "; no audit log")


def protects_nothing(configuration: Configuration) -> bool:
    """Whether everything leaves as it is."""
    return not configuration.privacy.all_rules
