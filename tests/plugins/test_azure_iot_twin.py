"""Metadata as reported properties: what is sent is what the twin takes, and its size is what the hub counts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from northbound import NotConnected, Rejected, Unavailable
from northbound.testing.twins import azure_rules
from northbound_azure_iot.device_twin import (
    ReportedProperties,
    allowed_key,
    allowed_value,
    difference,
    plain_key,
    size_of,
)
from northbound_azure_iot.metering import Meter

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


class Hub:
    """A connection to a hub that applies every patch, and answers with a status or, as long as it is ``None``, not."""

    def __init__(self):
        self.properties = ReportedProperties(0.01, Meter(4096, None), bounded=False)
        self.reported = {}
        self.status = 204

    async def subscribe(self, _filters, _qos):
        pass

    async def lost(self):
        await asyncio.Event().wait()

    async def publish(self, batch):
        (question,) = batch
        status, body = 200, json.dumps({"reported": self.reported}).encode()
        if "/PATCH/" in question.topic:
            self.reported = azure_rules.patched(self.reported, question.payload)
            status, body = self.status, b""
        if status is not None:
            number = question.topic.rpartition("=")[2]
            self.properties.take([SimpleNamespace(topic=f"$iothub/twin/res/{status}/?$rid={number}", payload=body)])

    async def report(self, payload):
        await self.properties.report(self, "x", payload)


@pytest.mark.parametrize("trouble", ["no answer", "given up", "server error"])
async def test_after_a_report_of_unknown_outcome_the_twin_is_read_again(trouble):
    hub = Hub()
    await hub.properties.begin(hub)
    await hub.report(b'{"a":1}')
    if trouble == "server error":
        hub.status = 500
        with pytest.raises(Unavailable):
            await hub.report(b'{"a":1,"b":2}')
    else:
        hub.status = None
        reporting = asyncio.ensure_future(hub.report(b'{"a":1,"b":2}'))
        if trouble == "given up":
            while "b" not in hub.reported["northbound"]["x"]:  # noqa: ASYNC110 - simpler than an event, in a test
                await asyncio.sleep(0)
            reporting.cancel()
        with contextlib.suppress(NotConnected, asyncio.CancelledError):
            await reporting
    hub.status = 204
    with pytest.raises(NotConnected, match="not known"):
        await hub.report(b'{"a":3}')
    await hub.properties.begin(hub)
    await hub.report(b'{"a":3}')
    assert hub.reported == {"northbound": {"x": {"a": 3}}}  # without what the patch of unknown outcome has left there
