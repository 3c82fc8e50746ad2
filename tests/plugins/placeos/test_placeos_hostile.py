"""What people and drivers write: right, or refused with a reason; never a crash, never a wrong topic."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.intake import until

from northbound import Address, State
from northbound.directory import Directory, Driver, Module, System, Zone
from northbound.engine import Engine
from northbound.topics import TopicScheme
from northbound_placeos.live import Arrivals
from northbound_placeos.rows import TABLES, entity
from northbound_placeos.tree import Tree

ROOM = "placeos/zone-org/state/zone-b1/zone-l1/_/sys-1/driver-d"


async def test_odd_ids_names_keys_and_values(service):
    installation = service.installation
    installation.put("zone", "zone-EmWLJNm0i~6", name="Tilde ~", tags=["area"], parent_id="zone-l1")
    for number, name in enumerate(['M\'Odule "x"', "a/b#c+d", "😀 Käse", "100%", " padded "], 10):
        installation.put("mod", f"mod-{number}~", custom_name=name, driver_id="driver-d", running=True)
        for key in ("zone-FBkhCVwD3Af:areas", "a/b/c", "#", "+", "%2F", "with space", "emoji 😀", "x" * 200):
            installation.set(f"mod-{number}~", key, json.dumps({"of": key}))
        installation.set(f"mod-{number}~", "large", json.dumps("x" * 65_536))
    modules = [f"mod-{number}~" for number in range(10, 15)]
    installation.put("sys", "sys-~1", name="Odd", zones=["zone-org", "zone-b1", "zone-EmWLJNm0i~6"], modules=modules)
    async with service.running():
        tree = await service.settled()
        assert len(tree) > 45
        for topic in tree:
            assert service.options.scheme.parse(topic) is not None
        assert tree["placeos/zone-org/state/zone-b1/_/zone-EmWLJNm0i~6/sys-~1/driver-d/100%25/1/a%2Fb%2Fc"] == {
            "of": "a/b/c"
        }
        installation.set("mod-11~", "a/b/c", "1")  # live: the channel has slashes in it
        installation.set("mod-11~", "a", "2")
        await service.settled()
    assert service.intake.refused == 0


@pytest.mark.parametrize("text", ["{", "nul", "yes", "1e999", "\udcff", '"\\ud800"', "[" * 5_000 + "]" * 5_000, "NaN"])
async def test_a_value_that_is_no_json_is_refused_and_its_topic_cleared(service, text):
    raw = text.encode(errors="surrogateescape")
    installation = service.installation
    installation.set("mod-3", "early", raw)
    async with service.running() as source:
        await until(lambda: service.intake.refused > 0, within=10)
        assert "mod-3" in service.intake.last_refusal
        installation.set("mod-1", "power", raw)
        await until(lambda: "mod-1/power" in service.intake.last_refusal)
        tree = await service.tree()
        await until(lambda: source.synchronised)
        tree = await service.tree()
        assert f"{ROOM}/Display/1/power" not in tree
        assert tree[f"{ROOM}/Display/1/volume"] == 10
        installation.set("mod-1", "power", "true")
        installation.remove("mod-3", "early")
        await service.settled()


async def test_what_is_too_long_is_refused(service):
    async with service.running(max_value_bytes="1KiB"):
        await service.settled()
        service.installation.set("mod-1", "power", json.dumps("x" * 1023))
        await until(lambda: service.intake.refused == 1)
        assert "1025 bytes" in service.intake.last_refusal
        assert f"{ROOM}/Display/1/power" not in await service.tree()


async def test_keys_of_other_kinds_and_channels_of_no_status(service):
    installation = service.installation
    installation.status.delete("status/mod-1")
    installation.status.set("status/mod-1", "a string, no hash")
    installation.status.hset("status/mod-2", b"\xff\xfe", "1")
    async with service.running() as source:
        await until(lambda: source.synchronised)
        assert service.intake.refused == 2
        for channel in (b"status/mod-3", b"status/mod-3/", b"status/mod-\xff/power", b"status/mod-3/\xff"):
            installation.status.publish(channel, "true")
        await until(lambda: service.intake.refused == 6)
        installation.status.delete("status/mod-1")
        installation.status.hdel("status/mod-2", b"\xff\xfe")
        installation.set("mod-1", "power", "false")
        await service.settled()


async def test_rows_that_cannot_be_read_count_as_gone(service):
    installation = service.installation
    installation.db.execute("ALTER TABLE zone DROP COLUMN tags")
    installation.db.execute("ALTER TABLE zone ADD COLUMN tags jsonb")
    tags = {"zone-org": '["org"]', "zone-b1": '["building", null, 7]', "zone-b2": '{"no": "list"}', "zone-l1": "null"}
    for id_, text in tags.items():
        installation.db.execute("UPDATE zone SET tags = %s WHERE id = %s", (text, id_))
    async with service.running() as source:
        await until(lambda: source.synchronised)
        tree = await service.tree()
        assert "placeos/zone-org/state/zone-b1/_/_/sys-1/driver-d/Display/1/power" in tree
        assert "placeos/zone-org/state/_/_/_/sys-2/driver-d/Display/1/power" in tree
        assert "zone-b2" in service.intake.last_refusal
        installation.db.execute("UPDATE zone SET tags = '[\"building\"]' WHERE id = 'zone-b2'")
        moved = "placeos/zone-org/state/zone-b2/_/_/sys-2/driver-d/Display/1/power"
        await until(lambda: moved in dict(service.news()))


async def test_a_schema_without_the_columns_that_only_describe(service):
    for column in ("display_name", "description", "map_id", "timezone", "capacity"):
        service.installation.db.execute(f"ALTER TABLE sys DROP COLUMN {column}")
    async with service.running():
        await service.settled()


async def test_metadata_in_full_has_every_column_but_those_with_secrets(service):
    service.installation.db.execute("ALTER TABLE sys ADD COLUMN api_token text DEFAULT 'hush'")
    async with service.running(metadata="full") as source:
        await until(lambda: source.synchronised)
        await service.store.fold()
    body = service.store.current(["placeos/zone-org/metadata/sys-1"]).popitem()[1]
    told = json.loads(body)
    assert {"name", "email", "zones", "modules", "updated_at"} <= told.keys()
    assert "api_token" not in told
    assert next(iter(told)) == "name"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@given(data=st.data())
@settings(max_examples=examples(25))
def test_any_row_becomes_an_entity_or_a_reason(table, data):
    anything = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=4)
    columns = st.sampled_from([*table.needed, *table.essential, "more"])
    row = data.draw(st.dictionaries(columns, anything))
    for detail in ("essential", "full"):
        try:
            made = entity(table, row, detail)
        except ValueError:
            continue
        assert isinstance(made, table.kind)
        assert made.id == row["id"]


TEXT = st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable())


@given(
    names=st.lists(TEXT, min_size=1, max_size=3),
    keys=st.dictionaries(st.binary(min_size=1, max_size=8), st.binary(max_size=12)),
)
@settings(max_examples=examples(60))
def test_any_hash_becomes_right_topics_or_reasons(names, keys):
    refused: list[str] = []
    tree = Tree(Directory(("org", "building")), lambda where, why: refused.append(why))
    modules = [Module(f"mod-{n}", "d", "", name) for n, name in enumerate(names)]
    tree.rows([Zone("o", ("org",)), System("s", ("o",), tuple(m.id for m in modules)), Driver("d"), *modules])
    scheme = TopicScheme(hierarchy=("org", "building"))
    engine = Engine(scheme)
    tree.begin(10)
    for module in modules:
        events = tree.values(module.id, keys, 1)
        messages, not_sent, _ = engine.process(events, 1)
        for event, message in zip([e for e in events if isinstance(e, State)], messages, strict=bool(not not_sent)):
            address = scheme.parse(message.topic)
            assert isinstance(address, Address)
            if not not_sent:
                assert (address.module, address.state) == (event.module, event.state)
                assert keys[event.state.encode()]


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=5)), max_size=20), st.booleans())
@settings(max_examples=examples(50))
def test_any_channel_is_a_change_or_a_reason(messages, coalesce):
    arrivals = Arrivals(coalesce=coalesce)
    for channel, value in messages:
        arrivals.put(b"status/" + channel, value, 1)
    refused: list[tuple[str, str]] = []
    changes = arrivals.take(lambda *why: refused.append(why))
    waiting = dict(messages) if coalesce else messages
    assert len(changes) + len(refused) == len(waiting)
    for module, key, _, _ in changes:
        assert f"{module}/{key}".encode() in {channel for channel, _ in messages}
        assert "/" not in module
        assert key
