"""What the documents of the gcp-pubsub connector say is so."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from google.pubsub_v1.types import pubsub
from hypothesis import given
from hypothesis import strategies as st
from tests.support.pubsub import outgoing

import northbound_gcp_pubsub
from northbound.events import Metadata, State
from northbound.loading import Configuration, load_file, load_text
from northbound.message import Address, Message
from northbound.preview import Preview
from northbound.registry import Registry
from northbound.shaping import Shaper
from northbound.testing.twins.pubsub import PubSubTwin
from northbound.testing.twins.pubsub_filters import parse_filter
from northbound.testing.twins.pubsub_limits import request_problem
from northbound.testing.twins.pubsub_topics import Subscription
from northbound.topics import TopicScheme
from northbound_gcp_pubsub import PubSubConnector, PubSubOptions
from northbound_gcp_pubsub.attributes import Attributes

HERE = Path(northbound_gcp_pubsub.__file__).parent
GUIDE = (HERE.parent.parent / "docs/providers/google-pubsub.md").read_text()
README = (HERE / "README.md").read_text()
AROUND = '[site]\norg = "org-acme"\n[sources.in]\ntype = "jsonl"\npath = "-"\n'
SAMPLES = re.findall(r"```toml\n(.*?)```", GUIDE + README, re.DOTALL)


def load(text: str, folder: Path) -> Configuration:
    return load_text(AROUND + text, Registry(), base=folder)


def attributes(text: str, folder: Path, event: State | Metadata) -> dict[str, str]:
    """Return the attributes an event gets from a connector that is configured so."""
    configuration = load(text, folder)
    connector = configuration.connectors[0].create()
    assert isinstance(connector, PubSubConnector)
    (passage,) = Preview(configuration).event(event, 0).passages
    assert passage.outgoing is not None, passage
    return Attributes(4, connector.config.idempotency_attribute, connector.config.attributes).of(passage.outgoing)


STATE = State("org-acme", ("bld-1", "lvl-2", None), "sys-7", "dep-1", "Display", 1, "power", True, 1_700_000_000_123)


@pytest.mark.parametrize("text", SAMPLES)
def test_every_configuration_loads(text, tmp_path):
    table = tomllib.loads(text)["connectors"]["google"]
    (connector,) = load(text, tmp_path).connectors
    made = connector.create()
    assert isinstance(made, PubSubConnector)
    assert made.config.topic_name == table["pubsub_topic"]


def test_the_sample_loads():
    (connector,) = load_file(HERE / "sample.toml", Registry()).connectors
    assert (
        connector.create().destination == "europe-west1-pubsub.googleapis.com/projects/acme-buildings/topics/building"
    )


def test_the_readme_names_every_option():
    for name, field in PubSubOptions.model_fields.items():
        assert f"| `{name}` |" in README
        assert field.description in README


def test_the_guide_names_every_attribute_and_no_other(tmp_path):
    rows = re.search(r"\| attribute \| \|\n\|---\|---\|\n(.*?)\n\n", GUIDE, re.DOTALL)
    assert rows is not None
    told = {name for line in rows[1].splitlines() for name in re.findall(r"`([a-z]+)`", line.split("|")[1])}
    area = State("org-acme", ("bld-1", "lvl-2", "a-3"), "sys-7", "dep-1", "Display", 1, "power", True, 1)
    state = attributes(SAMPLES[0], tmp_path, area)
    metadata = attributes(SAMPLES[0], tmp_path, Metadata("org-acme", "sys-7", {"name": "Boardroom"}))
    assert told == {*state, *metadata}
    assert metadata["id"] == "sys-7"
    assert state["time"] == "1"


PASSES = {
    "one building": (True, True), "states only": (True, False), "one level of it, states only": (True, False),
    "the displays": (True, False), "everything but one driver": (True, False), "what has an area": (False, False),
    "a branch of the topics": (True, False), "two systems": (True, False),
}  # fmt: skip


def test_each_filter_of_the_guide_passes_what_it_says(tmp_path):
    filters = dict(re.findall(r"^\| ([a-z ,]+) \| `(.+)` \|$", GUIDE, re.MULTILINE))
    filters = {wanted: text for wanted, text in filters.items() if "attributes" in text}
    assert set(filters) == set(PASSES)
    state = attributes(SAMPLES[0], tmp_path, STATE)
    metadata = attributes(SAMPLES[0], tmp_path, Metadata("org-acme", "bld-1", {"name": "Tower"}))
    for wanted, text in filters.items():
        passes = parse_filter(text)
        expected, of_metadata = PASSES[wanted]
        assert passes(state) is expected, wanted
        if wanted != "one building":  # metadata of a building is no message of that building
            assert passes(metadata) is of_metadata, wanted
    (inline,) = re.findall(r"--message-filter='(.+?)'", GUIDE)
    assert parse_filter(inline)(state)


NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
ADDRESSES = st.builds(
    Address, NAMES, st.tuples(*[st.none() | NAMES] * 3), NAMES, NAMES, NAMES, st.integers(1, 10_000), NAMES
)


@given(ADDRESSES)
def test_topic_and_address_come_back_exactly(address):
    scheme = TopicScheme()
    topic = scheme.state_topic(
        address.org, address.zones, address.system, address.driver, address.module, address.index, address.state
    )
    message = Message(topic, b"{}", "state", 5, True)
    outgoing = Shaper(scheme, PubSubConnector.limits, address=True).shape(message, 1)
    own = Attributes(16, "key")
    request = pubsub.PublishRequest.pb()()
    request.messages.add(data=outgoing.payload, attributes=own.of(outgoing))
    assert request_problem(request) is None
    received = type(request).FromString(request.SerializeToString()).messages[0].attributes
    assert received["topic"] == topic
    zones = tuple(received.get(level) for level in scheme.hierarchy[1:])
    names = (received[name] for name in ("system", "driver", "module"))
    assert Address(received["org"], zones, *names, int(received["index"]), received["state"]) == address


def test_what_attributes_cost_is_about_what_the_guide_says(tmp_path):
    def weight(text: str) -> int:
        # cloud.google.com/pubsub/pricing: names and values, 20 bytes of the time, the message id
        all_of_them = attributes(text, tmp_path, STATE) | {"key": f"{'0' * 16}-1234567"}
        return sum(len(name) + len(value) for name, value in all_of_them.items()) + 20 + 17

    payload = len('{"time":1700000000123,"value":"{\\"power\\":true}"}')
    all_of_it = weight(SAMPLES[0]) + payload
    few = next(text for text in SAMPLES if "attributes =" in text)
    assert 280 <= all_of_it <= 320
    assert 0.2 <= 1 - (weight(few) + payload) / all_of_it <= 0.3


async def test_the_guides_program_reads_what_the_connector_publishes(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    topic, name = "projects/acme-buildings/topics/building", "projects/acme-buildings/subscriptions/building-all"
    async with PubSubTwin() as twin:
        twin.subscriptions[name] = Subscription(twin.create_topic(topic).name, "", ordered=True, ack_seconds=10)
        reader = await asyncio.create_subprocess_exec(
            sys.executable, "-u", "-c", program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={**os.environ, "PUBSUB_EMULATOR_HOST": twin.endpoint},
        )  # fmt: skip
        connector = PubSubConnector(PubSubOptions(pubsub_topic=topic, emulator=twin.endpoint), name="gcp")
        await connector.open()
        await connector.send([outgoing(7, topic="placeos/o/state/b/_/_/s/d/M/1/x")])
        assert reader.stdout is not None
        async with asyncio.timeout(30):
            assert await reader.stdout.readline() == b"placeos/o/state/b/_/_/s/d/M/1/x b'7'\n"
        await connector.close()
        reader.kill()
        await reader.communicate()


def test_without_the_sdk_it_is_a_row_with_a_hint_and_the_rest_works(tmp_path):
    blocked = tmp_path / "google" / "__init__.py"
    blocked.parent.mkdir()
    blocked.write_text("")  # a google without pubsub_v1 in it
    done = subprocess.run(
        [sys.executable, "-m", "northbound", "connectors", "--json"],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    rows = {row["type"]: row for row in json.loads(done.stdout)}
    assert rows["gcp-pubsub"]["hint"] == "pip install 'northbound[gcp]'"
    assert rows["mqtt"]["state"] == "ok"


def test_the_sdk_is_not_imported_before_a_connector_is_opened():
    code = (
        "import sys, northbound_gcp_pubsub as plugin\n"
        "plugin.PubSubConnector(plugin.PubSubOptions(pubsub_topic='building', project='acme'), name='x')\n"
        "print([name for name in sys.modules if name.startswith(('google.', 'grpc'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [name for name in eval(done.stdout) if not name.startswith("google.re2")] == []
