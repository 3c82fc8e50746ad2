"""Rules and detectors the privacy tests are made of."""

import json
import re

from northbound import Detector, Found
from northbound.engine import Engine
from northbound.events import State
from northbound.fields import NoOptions
from northbound.payloads import to_json
from northbound.privacy.actions import action_of
from northbound.privacy.keys import Keys
from northbound.privacy.options import RuleOptions
from northbound.privacy.policy import Policy
from northbound.privacy.rules import Rule
from northbound.topics import TopicScheme
from northbound_detectors.email import Email, EmailOptions

SCHEME = TopicScheme()
NOW = 1_700_000_000_123
EMAIL = Email(EmailOptions(), name="email")
SECRET = "a secret of the tests"


class Pattern(Detector):
    """Finds what a pattern matches; ``canonical`` makes equal things equal."""

    def __init__(self, pattern, name="pattern", *, literals=(), numbers=False, canonical=None, flags=0):
        super().__init__(NoOptions(), name=name)
        self._pattern = re.compile(pattern, flags)
        self._canonical = canonical
        self.literals = literals
        self.numbers = numbers

    def find(self, text, key):
        for match in self._pattern.finditer(text):
            yield Found(*match.span(), self._canonical(match[0]) if self._canonical else None)


class Under(Detector):
    """Finds any whole text under a key, as a detector of passwords does."""

    def __init__(self, key, name="under"):
        super().__init__(NoOptions(), name=name)
        self._key = key
        self.literals = (key,)

    def find(self, text, key):
        if key.casefold() == self._key and text != "***" and not text.startswith("[redacted]"):
            yield Found(0, len(text))


class Spans(Detector):
    """Gives the spans it is told, whatever the text: a defective detector."""

    def __init__(self, spans, name="spans"):
        super().__init__(NoOptions(), name=name)
        self._spans = spans

    def find(self, text, key):
        return self._spans(text) if callable(self._spans) else self._spans


def rule(*detectors, action="hash", name="rule", secret=SECRET, previous=None, until=0, **options):
    """Return a rule made ready."""
    written = RuleOptions(name=name, detect=tuple(d.name for d in detectors), action=action, **options)
    keys = Keys(secret, previous, until) if action == "hash" else None
    return Rule(written, detectors, action_of(written, keys))


def policy(*rules, scheme=SCHEME):
    return Policy(rules, scheme)


def engine(*rules, org="org-acme", **options):
    return Engine(SCHEME, org=org, policy=policy(*rules), **options)


def state(
    value, *, state="power", system="sys-7", zones=("bld-1", "lvl-2", None), time=NOW, module="Display", org=None
):
    return State(org, zones, system, "dep-123", module, 1, state, value, time)


def written(value, *rules, **place):
    """Return the value as the rules leave it, as JSON; the event must become one message."""
    done = engine(*rules).process([state(value, **place)], NOW)
    assert done.refused == [], done.refused
    (message,) = done.messages
    return json.loads(message.payload)["value"]


def after(value, *rules, **place):
    """Return the value as the rules leave it."""
    return json.loads(written(value, *rules, **place))


def refusal(value, *rules, **place):
    """Return why the event goes no further."""
    done = engine(*rules).process([state(value, **place)], NOW)
    assert done.messages == []
    ((_, reason),) = done.refused
    return reason


def json_of(value):
    return to_json(value).decode()
