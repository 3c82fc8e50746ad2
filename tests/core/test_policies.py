"""From a configuration to its policies: which rules act where, and with which secret."""

import types
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint

import pytest

import northbound
from northbound import policies
from northbound.engine import Engine
from northbound.errors import ConfigurationError, StoreError
from northbound.events import State
from northbound.loading import load_text
from northbound.privacy.keys import Key
from northbound.privacy.secretfile import path_beside, read_or_make
from northbound.registry import Registry
from northbound.topics import TopicScheme

BOB = "bob@example.com"


class Out(northbound.Connector):
    """A connector."""


class In(northbound.Source):
    """A source."""


class Point:
    extras: tuple = ()
    dist = None
    module = name = "fakes"

    def load(self):
        module = types.ModuleType("provider")
        module.northbound_connectors = northbound.hookimpl(specname="northbound_connectors")(lambda: {"out": Out})
        module.northbound_sources = northbound.hookimpl(specname="northbound_sources")(lambda: {"in": In})
        return module


REGISTRY = Registry([Point(), EntryPoint("detectors", "northbound_detectors", "northbound")])
HASH = 'detect = ["email"]\naction = "hash"\n'


@pytest.fixture
def load(tmp_path):
    def loaded(privacy, *, a="", b=""):
        text = f"""
[site]
org = "org-acme"
[store]
path = "store.db"
[sources.in]
type = "in"
[connectors.a]
type = "out"
{a}
[connectors.b]
type = "out"
{b}
[privacy]
{privacy}
"""
        return load_text(text, REGISTRY, base=tmp_path, environment={})

    return loaded


def rules(*tables):
    return "".join(f'[[privacy.rules]]\nname = "rule{number}"\n{table}\n' for number, table in enumerate(tables))


def hashed(policy, now=0):
    """Return what a policy makes of an address."""
    policy.begin(now)
    replaced = policy.texts.apply(BOB, "", policy.rules)
    return replaced.text if replaced else BOB


def test_rules_without_connectors_act_before_the_store_and_the_others_for_theirs(load):
    found, _ = policies.for_service(
        load(
            'secret = "s"\ndefault = false\n'
            + rules(HASH, HASH + 'connectors = ["a"]', HASH + 'connectors = ["a", "b"]', HASH)
        )
    )
    assert [rule.name for rule in found.site.rules] == ["rule0", "rule3"]
    assert {name: [rule.name for rule in policy.rules] for name, policy in found.connectors.items()} == {
        "a": ["rule1", "rule2"],
        "b": ["rule2"],
    }


def test_the_default_rule_is_the_site_s_and_its_last(load):
    found, _ = policies.for_service(load('secret = "s"\n' + rules(HASH, HASH + 'connectors = ["a"]')))
    assert [rule.name for rule in found.site.rules] == ["rule0", "default"]
    assert [rule.name for rule in found.connectors["a"].rules] == ["rule1"]


def test_without_rules_there_are_no_policies(load):
    found, words = policies.for_service(load("default = false\n"))
    assert (found.site, found.connectors, words) == (None, {}, "")


def test_rules_share_their_detectors(load):
    found, _ = policies.for_service(load('secret = "s"\n' + rules(HASH, HASH + 'connectors = ["a"]')))
    assert found.site.rules[0].detectors[0] is found.connectors["a"].rules[0].detectors[0] is found.detectors["email"]


def test_the_secret_is_the_rule_s_then_the_connector_s_then_the_site_s_then_the_file_s(load, tmp_path):
    both = HASH + 'connectors = ["a", "b"]'
    own = both + '\nsecret = "rule"'
    configuration = load('default = false\nsecret = "site"\n' + rules(both), a='privacy_secret = "connector"')
    found, _ = policies.for_service(configuration)
    assert hashed(found.connectors["a"]) == Key("connector").hash(BOB)
    assert hashed(found.connectors["b"]) == Key("site").hash(BOB)
    found, _ = policies.for_service(load('default = false\nsecret = "site"\n' + rules(own), a='privacy_secret = "c"'))
    assert hashed(found.connectors["a"]) == hashed(found.connectors["b"]) == Key("rule").hash(BOB)
    assert not path_beside(tmp_path / "store.db").exists()
    found, _ = policies.for_service(load("default = false\n" + rules(both, HASH), a='privacy_secret = "connector"'))
    secret, made = read_or_make(path_beside(tmp_path / "store.db"))
    assert not made
    assert hashed(found.connectors["a"]) == Key("connector").hash(BOB)
    assert hashed(found.connectors["b"]) == hashed(found.site) == Key(secret).hash(BOB)


def test_a_rule_s_own_secret_holds_before_the_store_too(load):
    found, _ = policies.for_service(load('secret = "site"\n' + rules(HASH + 'secret = "rule"')))
    assert hashed(found.site) == Key("rule").hash(BOB)


def test_the_overlap_is_of_the_secret_that_is_used(load):
    until = datetime(2030, 1, 1, tzinfo=UTC)
    now = int((until - timedelta(days=1)).timestamp() * 1000)
    found, _ = policies.for_service(
        load(
            'default = false\nsecret = "new"\nprevious_secret = "old"\noverlap_until = 2030-01-01\n'
            + rules(
                HASH + 'secret = "own"\nprevious_secret = "own before"\nconnectors = ["b"]',
                HASH,
                HASH + 'connectors = ["a"]',
            ),
            a='privacy_secret = "connector"',
        )
    )
    assert hashed(found.site, now) == f"{Key('new').hash(BOB)}~{Key('old').hash(BOB)}"
    assert hashed(found.connectors["b"], now) == f"{Key('own').hash(BOB)}~{Key('own before').hash(BOB)}"
    assert hashed(found.connectors["a"], now) == Key("connector").hash(BOB)  # the site's old one was never its
    assert hashed(found.site, now + 86_400_000) == Key("new").hash(BOB)


def test_a_rule_with_a_secret_of_its_own_has_not_the_site_s_previous_one(load):
    found, _ = policies.for_service(
        load(
            'default = false\nsecret = "new"\nprevious_secret = "old"\noverlap_until = 2030-01-01\n'
            + rules(HASH + 'secret = "own"')
        )
    )
    assert hashed(found.site, 0) == Key("own").hash(BOB)


def test_from_the_made_secret_one_can_rotate_to_a_named_one(load, tmp_path):
    policies.for_service(load(""))
    made, _ = read_or_make(path_beside(tmp_path / "store.db"))
    found, words = policies.for_service(
        load(f'secret = "new"\nprevious_secret = "{made}"\noverlap_until = 2030-01-01\n')
    )
    assert words == ""
    assert hashed(found.site, 0) == f"{Key('new').hash(BOB)}~{Key(made).hash(BOB)}"


def test_the_made_secret_is_not_the_one_before_itself(load, tmp_path):
    policies.for_service(load(""))
    made, _ = read_or_make(path_beside(tmp_path / "store.db"))
    copied = load(f'previous_secret = "{made}"\noverlap_until = 2030-01-01\n')
    for look in (policies.for_service, policies.for_looking):
        with pytest.raises(ConfigurationError, match="is the secret beside the store") as caught:
            look(copied)
        assert made not in str(caught.value)


@pytest.mark.parametrize(
    ("privacy", "a", "needed"),
    [
        ("", "", True),
        ('secret = "s"\n', "", False),
        ("default = false\n", "", False),
        ("default = false\n" + rules('detect = ["email"]\naction = "mask"'), "", False),
        ("default = false\n" + rules(HASH), "", True),
        ("default = false\n" + rules(HASH + 'secret = "s"'), "", False),
        ("default = false\n" + rules(HASH + 'connectors = ["a"]'), 'privacy_secret = "s"', False),
        ("default = false\n" + rules(HASH + 'connectors = ["a", "b"]'), 'privacy_secret = "s"', True),
        ("default = false\n" + rules(HASH + 'connectors = ["b"]'), 'privacy_secret = "s"', True),
        ("default = false\n" + rules(HASH + 'secret = "s"', HASH), "", True),
        ("default = false\n" + rules(HASH), 'privacy_secret = "s"', True),
    ],
)
def test_a_secret_is_made_only_where_one_is_needed(load, tmp_path, privacy, a, needed):
    configuration = load(privacy, a=a)
    assert policies.needs_secret(configuration) is needed
    _, words = policies.for_service(configuration)
    path = path_beside(tmp_path / "store.db")
    assert path.exists() is needed
    assert (str(path) in words) is needed
    assert policies.for_service(configuration)[1] == ""  # said once


def test_to_look_nothing_is_made(load, tmp_path):
    path = path_beside(tmp_path / "store.db")
    first, words = policies.for_looking(load(""))
    second, _ = policies.for_looking(load(""))
    assert str(path) in words
    assert not path.exists()
    assert hashed(first.site) != hashed(second.site)
    service, _ = policies.for_service(load(""))
    third, words = policies.for_looking(load(""))
    assert words == ""
    assert hashed(third.site) == hashed(service.site)
    assert policies.for_looking(load('secret = "s"\n'))[1] == ""


def test_a_secret_that_cannot_be_used_stops_both(load, tmp_path):
    path = path_beside(tmp_path / "store.db")
    path.write_text("x" * 64)
    path.chmod(0o644)
    for asked in (policies.for_service, policies.for_looking):
        with pytest.raises(StoreError, match="chmod 600"):
            asked(load(""))


def test_disabled_connectors_have_no_policy(load):
    found, _ = policies.for_service(load('secret = "s"\n' + rules(HASH + 'connectors = ["b"]'), b="enabled = false"))
    assert found.connectors == {}


def test_the_default_policy_takes_addresses_and_credentials(load):
    found, _ = policies.for_service(load('secret = "s"\n'))
    value = {
        "organiser": BOB,
        "stream": "rtsp://admin:hunter2@10.0.0.1/1",
        "token": "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    }
    event = State("o", ("b", None, None), "sys", "drv", "Mod", 1, "calendar", value, 5)
    engine = Engine(TopicScheme(), policy=found.site)
    (message,) = engine.process([event], 5).messages
    text = message.payload.decode()
    assert BOB not in text
    assert "hunter2" not in text
    assert "ghp_" not in text
    assert Key("s").hash(BOB) in text
