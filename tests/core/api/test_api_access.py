"""Who may see and publish what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from northbound.admission import AccessOptions
from northbound.api.access import Rules
from northbound.api.identity import Identity
from northbound.topics import TopicMatcher, TopicScheme, escape

SCHEME = TopicScheme()
RULES = Rules(AccessOptions(), SCHEME)
STATE = "placeos/{}/state/bld-1/_/_/sys-1/drv-1/Display/1/power"


def somebody(role="user", org="acme", scopes=("public",), subject="jane", **more):
    return Identity(
        subject=subject, name=subject, org=org, role=role, scopes=frozenset(scopes), expires=None, **more
    )  # fmt: skip


def rules(*given_rules, default=False):
    return Rules(AccessOptions.model_validate({"default": default, "rules": given_rules}), SCHEME)


@pytest.mark.parametrize(
    ("topic_filter", "granted"),
    [
        ("placeos/acme/#", "whole"),
        ("placeos/acme/state/+/+/+/+/+/Display/+/power", "whole"),
        ("placeos/acme", "whole"),
        ("placeos/+/state/#", "narrowed"),
        ("+/acme/#", "narrowed"),
        ("#", "narrowed"),
        ("+/#", "narrowed"),
        ("$SYS/#", "narrowed"),
        ("$SYS/broker/uptime", "whole"),
        ("$SYS/broker/clients/#", "refused"),
        ("$SYS/northbound/connectors/aws/error", "refused"),
        ("placeos/other/#", "refused"),
        ("placeos/other/state/+/+/+/+/+/+/+/+", "refused"),
        ("placeos/+", "narrowed"),
        ("elsewhere/#", "refused"),
        ("$share/group/placeos/acme/#", "refused"),
        ("placeos/acme/#/more", "refused"),
        ("", "refused"),
    ],
)
def test_a_user_reads_what_is_of_their_organisation(topic_filter, granted):
    assert RULES.subscribe(somebody(), topic_filter) == granted


def test_what_a_user_receives_is_of_their_organisation_and_no_other():
    who = somebody()
    assert RULES.receive(who, STATE.format("acme"))
    assert RULES.receive(who, "placeos/acme/metadata/sys-1")
    for topic in (STATE.format("other"), STATE.format("acme2"), STATE.format("acm"), "placeos", "acme",
                  "elsewhere/acme/x", "$SYS/broker/clients/total", "$SYS/northbound/connectors/aws/state"):  # fmt: skip
        assert not RULES.receive(who, topic), topic


@pytest.mark.parametrize("role", ["support", "admin"])
def test_support_and_admin_see_the_services_own_topics_and_publish_in_their_organisation(role):
    who = somebody(role)
    assert RULES.subscribe(who, "$SYS/#") == "whole"
    assert RULES.receive(who, "$SYS/northbound/connectors/aws/state")
    assert RULES.publish(who, STATE.format("acme"))
    assert not RULES.publish(who, STATE.format("other"))
    assert RULES.subscribe(who, "placeos/other/#") == "refused"


@pytest.mark.parametrize("scopes", [("mqtt.read",), ("public.read",), ("mqtt.read", "users.write")])
def test_without_a_scope_for_writing_not_even_an_admin_publishes(scopes):
    assert not RULES.publish(somebody("admin", scopes=scopes), STATE.format("acme"))
    assert RULES.receive(somebody("admin", scopes=scopes), STATE.format("acme"))


@pytest.mark.parametrize("scopes", [("mqtt",), ("public",), ("public.write",), ("mqtt.write",)])
def test_a_user_never_publishes_whatever_the_scope(scopes):
    assert not RULES.publish(somebody(scopes=scopes), STATE.format("acme"))


def test_without_a_scope_for_reading_nothing_is_granted():
    who = somebody("admin", scopes=("mqtt.write",))
    assert RULES.subscribe(who, "#") == RULES.subscribe(who, "placeos/acme/#") == "refused"
    assert not RULES.receive(who, STATE.format("acme"))


@pytest.mark.parametrize("topic", ["$SYS/broker/uptime", "$share/g/placeos/acme/x", "$x", "placeos/acme/+", "#"])
def test_nobody_publishes_at_the_servers_own_topics_or_at_filters(topic):
    everything = rules({"publish": ["#", "$SYS/#", "+/+/#"], "read": ["#"]})
    assert not everything.publish(somebody("admin", every_org=True), topic)
    assert everything.publish(somebody("admin"), "anything/else")


def test_somebody_of_no_organisation_sees_none():
    who = somebody("admin", org=None)
    assert RULES.subscribe(who, "placeos/#") == "refused"
    assert RULES.subscribe(who, "#") == "narrowed"
    assert not RULES.receive(who, STATE.format("acme"))
    assert not RULES.receive(who, "placeos//x")
    assert not RULES.publish(who, STATE.format("acme"))


def test_somebody_bound_to_none_sees_all():
    who = somebody("admin", org=None, every_org=True)
    assert RULES.subscribe(who, "placeos/+/#") == "whole"
    assert RULES.receive(who, STATE.format("acme"))
    assert RULES.publish(who, STATE.format("other"))
    assert not RULES.receive(who, "elsewhere/acme/x")


def test_a_rule_may_be_for_the_people_of_one_issuer():
    ours = rules(
        {"users": ["jane"], "issuers": ["placeos"], "read": ["hers"]},
        {"issuers": ["placeos", "entra"], "read": ["both"]},
        {"users": ["jane"], "read": ["janes"]},
    )
    seen = {
        issuer: [topic for topic in ("hers", "both", "janes") if ours.receive(somebody(issuer=issuer), topic)]
        for issuer in ("placeos", "entra", "other", None)
    }
    assert seen == {
        "placeos": ["hers", "both", "janes"], "entra": ["both", "janes"], "other": ["janes"], None: ["janes"]
    }  # fmt: skip


def test_rules_of_ones_own_add_up_and_stand_for_users():
    own = rules(
        {"roles": ["user"], "read": ["apps/{user}/#"], "publish": ["apps/{user}/#"]},
        {"roles": ["user"], "users": ["jane"], "read": ["shared/+"]},
        {"roles": ["admin"], "read": ["#"]},
        default=True,
    )
    jane, john = somebody(), somebody(subject="john")
    assert own.publish(jane, "apps/jane/x")
    assert not own.publish(jane, "apps/john/x")
    assert own.receive(jane, "shared/x")
    assert not own.receive(john, "shared/x")
    assert own.receive(john, STATE.format("acme"))
    assert own.subscribe(somebody("admin"), "#") == "whole"
    assert own.subscribe(somebody("admin"), "$SYS/#") == "whole"  # by the default rule


def test_without_default_rules_there_is_only_what_rules_give():
    own = rules({"read": ["{root}/{org}/metadata/#"]})
    assert own.subscribe(somebody("admin"), "$SYS/broker/uptime") == "refused"
    assert own.receive(somebody(), "placeos/acme/metadata/x")
    assert not own.receive(somebody(), STATE.format("acme"))


@given(st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable()), st.text("ab/+#$%", max_size=6))
def test_no_name_opens_another_ones_branch(name, tail):
    """What stands in for {org} and {user} is one level, whatever it holds."""
    for who in (somebody(org=name), somebody(subject=name), somebody(org=name + tail), somebody(subject=name + tail)):
        own = rules({"read": ["{root}/{org}/#", "{user}/#", "{org}/private"], "publish": ["{user}/#"]})
        for topic in ("placeos/victim/x", "victim/x", "$SYS/x", "placeos/x", "x", "victim/private"):
            if not {who.org, who.subject} & {"victim", "x", "placeos"}:
                assert not own.receive(who, topic), topic
        assert who.org is None or own.receive(who, f"placeos/{escape(who.org)}/y")


def test_a_name_does_not_open_what_begins_with_a_dollar():
    own = rules({"read": ["{user}/#", "{org}/#"], "publish": ["{user}/#"]})
    who = somebody(subject="$SYS", org="$SYS")
    assert not own.receive(who, "$SYS/northbound/x")
    assert own.subscribe(who, "$SYS/northbound/x") == "refused"


TOPICS = st.lists(st.sampled_from(["placeos", "acme", "other", "state", "", "$SYS", "x"]), min_size=1, max_size=5).map(
    "/".join
)
FILTERS = st.lists(st.sampled_from(["placeos", "acme", "other", "+", "x", "$SYS"]), min_size=1, max_size=4).flatmap(
    lambda levels: st.sampled_from(["/".join(levels), "/".join([*levels, "#"]), "#"])
)


@given(st.lists(FILTERS, max_size=4), FILTERS, st.lists(TOPICS, max_size=30))
def test_a_grant_agrees_with_what_is_received(read, topic_filter, topics):
    own, who = rules({"read": read}), somebody()
    granted, wanted, given_to = own.subscribe(who, topic_filter), TopicMatcher([topic_filter]), TopicMatcher(read)
    for topic in filter(None, topics):
        assert own.receive(who, topic) == given_to.matches(topic)
        if wanted.matches(topic) and granted == "whole":
            assert own.receive(who, topic)
        if wanted.matches(topic) and granted == "refused":
            assert not own.receive(who, topic)


def test_people_of_equal_rights_are_told_apart_only_where_a_rule_names_them():
    jane, john = somebody(), somebody(subject="john")
    assert RULES.rights(jane) == RULES.rights(john)
    for rule in ({"read": ["{user}/#"]}, {"publish": ["x/{user}"]}, {"users": ["jane"], "read": ["x"]}):
        own = rules(rule, default=True)
        assert own.rights(jane) != own.rights(john)
    for other in (somebody("admin"), somebody(org="other"), somebody(every_org=True), somebody(scopes=("mqtt.read",))):
        assert RULES.rights(jane) != RULES.rights(other)


def test_what_is_remembered_of_people_is_bounded(monkeypatch):
    monkeypatch.setattr("northbound.api.access._MOST_REMEMBERED", 50)
    own = Rules(AccessOptions(), SCHEME)
    for number in range(500):
        assert own.receive(somebody(subject=f"user-{number}", org=f"org-{number}"), STATE.format(f"org-{number}"))
    assert len(own._rights) <= 50


@pytest.mark.parametrize("text", ["{root}/{other}/#", "{root}/x{org}/#", "{}/x", "a/{org", "a/#/b", "a/b+"])
def test_a_rule_that_cannot_be_meant_is_refused(text):
    with pytest.raises(ValueError, match=r"level|braces"):
        AccessOptions.model_validate({"rules": [{"read": [text]}]})
