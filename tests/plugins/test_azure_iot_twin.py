"""Metadata as reported properties: what is sent is what the twin takes, and its size is what the hub counts."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from northbound import Rejected
from northbound.testing.twins import azure_rules
from northbound_azure_iot.device_twin import allowed_key, allowed_value, difference, plain_key, size_of

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
values = st.recursive(
    st.booleans() | st.integers(-(1 << 52), (1 << 52) - 1) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
)
objects = st.dictionaries(texts, values | st.none(), max_size=5)


def without_nulls(value):
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def plain(value):
    if isinstance(value, dict):
        return {plain_key(key): plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


@given(texts)
def test_keys_can_be_undone(text):
    assert plain_key(allowed_key(text)) == text


@given(objects)
def test_the_twin_takes_what_is_made_for_it(metadata):
    value = allowed_value(metadata)
    reported = azure_rules.patched({}, msgspec.json.encode({"northbound": {"x": value}}))
    assert plain(reported["northbound"]["x"]) == without_nulls(metadata)
    assert azure_rules._size(value) == size_of(value)


@given(objects, objects)
def test_a_patch_makes_the_new_of_the_old(old, new):
    old, new = allowed_value(old), allowed_value(new)
    patch = {"x": difference(old, new)}
    assert azure_rules.patched({"x": old}, msgspec.json.encode(patch))["x"] == new


def deep(levels):
    return {"k": deep(levels - 1)} if levels else 1


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"a": "x" * 4097}, "4,097 bytes"),
        ({"a": 1 << 52}, "52 bits"),
        ({"a": -(1 << 52) - 1}, "52 bits"),
        (deep(9), "deeper"),
        ({"k" * 1025: 1}, "1,025 bytes"),
    ],
)
def test_what_no_twin_takes(metadata, words):
    with pytest.raises(Rejected, match=words):
        allowed_value(metadata)
    if words != "deeper":  # two of the ten levels are ours
        with pytest.raises(azure_rules.Refused):
            azure_rules.patched({}, json.dumps(metadata).encode())


def test_as_deep_as_it_goes():
    azure_rules.patched({}, msgspec.json.encode({"northbound": {"x": allowed_value(deep(8))}}))
    with pytest.raises(azure_rules.Refused):
        azure_rules.patched({}, msgspec.json.encode({"northbound": {"x": deep(9)}}))
