"""A rotation of keys: topics move once, and what the previous key made is cleared."""

from privacy_rules import EMAIL, NOW, engine, rule, state

from northbound.events import Cleared, Metadata
from northbound.privacy.keys import Key

BOB = "bob@example.com"
END = NOW + 1000


def rotating(**options):
    return engine(rule(EMAIL, secret="new", previous="old", until=END, **options))


def topic(secret, **options):
    (message,) = engine(rule(EMAIL, secret=secret, **options)).process([state(1, state=BOB)], NOW).messages
    return message.topic


def test_in_an_overlap_the_old_topic_is_cleared_once():
    site = rotating()
    done = site.process([state(1, state=BOB), state(2, state=BOB)], NOW).messages
    assert [(message.topic, bool(message.payload)) for message in done] == [
        (topic("old"), False),
        (topic("new"), True),
        (topic("new"), True),
    ]
    assert done[0].retain
    assert len(site.process([state(3, state=BOB)], NOW + 1).messages) == 1


def test_more_topics_than_are_kept_are_cleared_once_too(monkeypatch):
    monkeypatch.setattr("northbound.privacy.policy._CACHED_PLANS", 4)
    site = rotating()
    events = [state(1, state=f"u{number}@example.com") for number in range(9)]
    assert [len(site.process(events, NOW).messages) for _ in range(3)] == [18, 9, 9]


def test_what_is_gone_is_cleared_under_both_keys_each_time():
    site = rotating()
    gone = Cleared(None, ("bld-1", "lvl-2", None), "sys-7", "dep-123", "Display", 1, BOB)
    for _ in range(2):
        done = site.process([gone], NOW).messages
        assert [(message.topic, message.payload) for message in done] == [(topic("old"), b""), (topic("new"), b"")]
    done = rotating().process([Metadata(None, BOB, None)], NOW).messages
    assert [message.topic.rpartition("/")[2] for message in done] == [Key("old").hash(BOB), Key("new").hash(BOB)]
    assert not any(message.payload for message in done)


def test_a_topic_that_was_never_hashed_is_not_cleared():
    assert len(rotating().process([state(BOB), Metadata(None, "x", None)], NOW).messages) == 2


def test_topics_do_not_change_again_at_the_end_of_the_overlap():
    site = rotating()
    during = site.process([state(1, state=BOB)], NOW).messages[-1].topic
    after = site.process([state(1, state=BOB)], END).messages
    assert [message.topic for message in after] == [during]
    assert Key("old").id not in during


def test_values_hold_both_hashes_during_the_overlap_only():
    site = rotating()
    during = site.process([state(BOB)], NOW).messages[0].payload.decode()
    after = site.process([state(BOB)], END).messages[0].payload.decode()
    assert f"{Key('new').hash(BOB)}~{Key('old').hash(BOB)}" in during
    assert Key("new").hash(BOB) in after
    assert "~" not in after


def test_in_placeos_s_form_the_old_topic_is_cleared_too():
    site = rotating(format="placeos")
    done = site.process([state(BOB, state=BOB)], NOW).messages
    assert [message.topic for message in done] == [topic("old", format="placeos"), topic("new", format="placeos")]
    assert Key("new").digest(BOB) in done[1].payload.decode()
    assert Key("old").digest(BOB) not in done[1].payload.decode()


def test_a_value_that_is_dropped_or_refused_clears_nothing():
    site = engine(
        rule(EMAIL, secret="new", previous="old", until=END), rule(action="drop", name="drop", paths=("$.x",))
    )
    assert site.process([state({"x": 1}, state=BOB)], NOW).messages == []
    assert len(site.process([state({"y": 1}, state=BOB)], NOW).messages) == 2
