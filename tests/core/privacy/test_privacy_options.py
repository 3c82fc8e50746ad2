"""The tables of the configuration: what is wrong is said in words."""

from datetime import UTC, datetime

import pydantic
import pytest

from northbound.privacy.options import PrivacyOptions, RuleOptions


def problem(model, values):
    with pytest.raises(pydantic.ValidationError) as caught:
        model.model_validate(values)
    details = caught.value.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in details)


BARE = {"name": "r", "detect": ["email"], "action": "hash"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"action": "mask", "length": 8}, "'length' belongs to the action 'hash', and this is 'mask'"),
        ({"action": "mask", "secret": "x"}, "'secret' belongs to the action 'hash'"),
        ({"action": "redact", "keep_first": 1}, "'keep_first' belongs to the action 'mask', and this is 'redact'"),
        ({"action": "drop", "placeholder": "x"}, "'placeholder' belongs to the action 'redact', and this is 'drop'"),
        ({"action": "allow", "scope": "key"}, "'scope' belongs to the action 'redact', and this is 'allow'"),
        ({"round": 1}, "'round' belongs to the action 'generalise', and this is 'hash'"),
        ({"action": "generalise"}, "generalise needs one of"),
        ({"action": "generalise", "buckets": [2, 1]}, "rising order"),
        ({"action": "generalise", "buckets": [1, 1]}, "rising order"),
        ({"action": "generalise", "round": 1, "message_time": True}, "message_time needs time"),
        ({"action": "redact", "null": True}, "scope = 'value'"),
        ({"action": "redact", "null": True, "scope": "key"}, "scope = 'value'"),
        ({"detect": []}, "it would act on every value there is"),
        ({"detect": [], "kinds": ["state"]}, "it would act on every value there is"),
        ({"detect": [], "connectors": ["a"]}, "it would act on every value there is"),
        ({"action": "generalise", "round": 0}, "round"),
        ({"action": "generalise", "round": float("inf")}, "round"),
        ({"action": "generalise", "round": float("nan")}, "round"),
        ({"action": "generalise", "decimals": 13}, "decimals"),
        ({"action": "generalise", "decimals": -1}, "decimals"),
        ({"action": "generalise", "time": "week"}, "time"),
        ({"action": "generalise", "buckets": []}, "buckets"),
        ({"length": 7}, "length"),
        ({"length": 65}, "length"),
        ({"prefix": "a b"}, "prefix"),
        ({"prefix": "a/b"}, "prefix"),
        ({"prefix": "x" * 33}, "prefix"),
        ({"secret": ""}, "secret"),
        ({"action": "encrypt"}, "action"),
        ({"name": ""}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"topics": []}, "topics"),
        ({"topics": ["a/#/b"]}, "'#'"),
        ({"states": []}, "states"),
        ({"kinds": ["event"]}, "kinds"),
        ({"paths": ["organiser"]}, "write a path such as"),
        ({"paths": []}, "paths"),
        ({"levels": []}, "levels"),
        ({"connectors": []}, "connectors"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_wrong_rule_is_said_in_words(change, words):
    assert words in problem(RuleOptions, BARE | change)


def test_buckets_that_are_no_numbers_are_not_taken():
    for edge in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(pydantic.ValidationError):
            RuleOptions.model_validate(BARE | {"action": "generalise", "buckets": [0, edge]})


@pytest.mark.parametrize(
    "change", [{"previous_secret": "old"}, {"format": "placeos", "length": 16}, {"format": "placeos", "prefix": "u:"}]
)
def test_what_would_be_without_effect_is_refused(change):
    """A previous secret without a secret, and a length or prefix of a hash that is plain hex."""
    with pytest.raises(pydantic.ValidationError):
        RuleOptions.model_validate(BARE | change)


RULE = {"name": "r", "detect": ["email"], "action": "hash"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"rules": [RULE, RULE]}, "two rules are named 'r'"),
        ({"rules": [RULE | {"name": "default"}]}, "the rule that is always there"),
        ({"secret": "new", "previous_secret": "old"}, "needs overlap_until"),
        ({"rules": [RULE | {"secret": "new", "previous_secret": "old"}]}, "needs overlap_until"),
        ({"secret": "s", "previous_secret": "s", "overlap_until": "2027-01-01"}, "is the secret itself"),
        ({"rules": [RULE | {"secret": "s", "previous_secret": "s"}]}, "is the secret itself"),
        ({"overlap_until": "2027-01-01"}, "needs previous_secret"),
        ({"secret": ""}, "secret"),
        ({"audit_files": 0}, "audit_files"),
        ({"audit_max_bytes": 100}, "audit_max_bytes"),
        ({"rule": []}, "rule"),
    ],
)
def test_wrong_privacy_options_are_said_in_words(values, words):
    assert words in problem(PrivacyOptions, values)


def test_the_default_rule_stands_behind_all_others_unless_it_is_turned_off():
    options = PrivacyOptions.model_validate({"rules": [RULE]})
    assert [rule.name for rule in options.all_rules] == ["r", "default"]
    assert options.all_rules[-1].detect == ("url_credentials", "token", "email")
    assert options.all_rules[-1].action == "hash"
    assert [rule.name for rule in PrivacyOptions().all_rules] == ["default"]
    assert PrivacyOptions(default=False).all_rules == ()
    named = PrivacyOptions.model_validate({"default": False, "rules": [RULE | {"name": "default"}]})
    assert [rule.name for rule in named.all_rules] == ["default"]


@pytest.mark.parametrize(
    ("until", "moment"),
    [
        (datetime(2027, 1, 1).date(), datetime(2027, 1, 1, tzinfo=UTC)),  # noqa: DTZ001 - TOML's local date
        (datetime(2027, 1, 1, 12), datetime(2027, 1, 1, 12, tzinfo=UTC)),  # noqa: DTZ001 - TOML's local time
        (datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_the_end_of_an_overlap_is_a_moment_in_utc_unless_it_says_otherwise(until, moment):
    options = PrivacyOptions.model_validate({"secret": "b", "previous_secret": "a", "overlap_until": until})
    assert options.overlap_ms == int(moment.timestamp() * 1000)
    assert PrivacyOptions().overlap_ms == 0


def test_secrets_are_not_in_what_is_printed():
    options = PrivacyOptions.model_validate(
        {
            "secret": "hunter2",
            "previous_secret": "hunter1",
            "overlap_until": "2027-01-01",
            "rules": [RULE | {"secret": "hunter3"}],
        }
    )
    assert "hunter" not in repr(options) + str(options)
