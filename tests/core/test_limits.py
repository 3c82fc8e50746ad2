import pytest

from northbound.config import LimitsOptions
from northbound.limits import Limits


@pytest.mark.parametrize(
    ("name", "declared", "told", "result"),
    [
        ("max_topic_levels", None, 7, 7),
        ("max_topic_levels", 7, 11, 7),
        ("max_topic_levels", 7, 5, 5),
        ("max_topic_levels", 7, None, 7),
        ("max_topic_bytes", 65_535, 256, 256),
        ("max_payload_bytes", 131_072, 262_144, 131_072),
        ("max_qos", 1, 0, 0),
        ("max_qos", 0, 1, 0),
        ("messages_per_second", None, 0.5, 0.5),
        ("messages_per_second", 100, 1000.0, 100),
        ("retain", "native", "none", "none"),
        ("retain", "none", "native", "none"),
        ("retain", "property", "native", "property"),
        ("retain", "native", "property", "property"),
        ("payload_counts", "payload", "payload+topic", "payload+topic"),
        ("payload_counts", "payload+topic+properties", "payload", "payload+topic+properties"),
        ("keep_alive", (0, 65_535), (30, 1200), (30, 1200)),
        ("keep_alive", (30, 1200), (0, 600), (30, 600)),
        ("reserved_prefixes", ("$",), ("devices/",), ("$", "devices/")),
        ("reserved_prefixes", ("$",), ("$",), ("$",)),
    ],
)
def test_a_bound_only_becomes_stricter(name, declared, told, result):
    limits = Limits(**{name: declared})
    narrowed = limits.narrowed(**{name: told})
    assert getattr(narrowed, name) == result
    assert getattr(limits, name) == declared  # frozen: the declaration stays what it is
    assert narrowed.narrowed(**{name: told}) == narrowed


def test_several_at_once_and_nothing_else():
    assert Limits(max_qos=1).narrowed(max_qos=0, max_payload_bytes=10) == Limits(max_qos=0, max_payload_bytes=10)
    assert Limits().narrowed() == Limits()


def test_an_unknown_bound_is_a_mistake_of_the_caller():
    with pytest.raises(AttributeError):
        Limits().narrowed(max_colours=3)


def test_the_configuration_narrows_with_what_it_sets():
    options = LimitsOptions.model_validate({"max_payload_bytes": "1 KiB", "retain": "none", "batch_messages": 10})
    assert options.narrow(Limits(max_payload_bytes=500)) == Limits(
        max_payload_bytes=500, retain="none", batch_messages=10
    )
    assert LimitsOptions().narrow(Limits()) == Limits()
