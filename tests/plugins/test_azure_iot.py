"""The azure-iot connector on the twins: every way to sign in, over every transport, and what it says when it cannot."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from tests.core.testing.test_azure_hub_twin import token
from tests.support.tunnels import HttpProxy, SocksProxy

from northbound import NotConnected, Outgoing, PartialDelivery, Unauthorised, Unavailable
from northbound.mqtt import Client, Publish
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.azure_dps import AzureDpsTwin
from northbound.testing.twins.azure_iot import AzureHubTwin, HubLimits
from northbound_azure_iot import AzureIotConnector, ConnectorOptions
from northbound_azure_iot.memory import Memory
from northbound_azure_iot.provisioning import Assignment


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


@pytest.fixture
async def hub(authority):
    async with AzureHubTwin(authority) as hub:
        hub.register("dev1")
        yield hub


def message(number, **changes):
    topic = f"placeos/org/state/_/_/_/s/d/M/1/x{number}"
    fields = {
        "topic": topic,
        "payload": b'{"value":%d}' % number,
        "kind": "state",
        "time": number,
        "retain": False,
        "source_topic": topic,
        "key": f"store-{number}",
        "properties": {"topic": topic, "kind": "state"},
    }
    return Outgoing(**(fields | changes))


def connector(hub, authority, **options):
    common = {"gateway_host": hub.host, "port": hub.port, "ca": authority.ca}
    if not {"device_id", "registration_id", "identities", "connection_string"} & options.keys():
        common["connection_string"] = hub.connection_string("dev1")
    return AzureIotConnector(ConnectorOptions(**(common | options)), name="out")


@asynccontextmanager
async def opened(hub, authority, **options):
    made = connector(hub, authority, **options)
    try:
        await made.open()
        yield made
    finally:
        await made.close()
        await made.close()


async def delivers(hub, authority, client_id="dev1", **options):
    before = len(hub.record.messages)
    async with opened(hub, authority, **options) as made:
        await made.send([message(1), message(2)])
    taken = [*hub.record.messages][before:]
    assert [(one.client_id, one.payload) for one in taken] == [(client_id, b'{"value":1}'), (client_id, b'{"value":2}')]
    return made


# -- signing in -------------------------------------------------------------------------------------------------


async def test_a_connection_string(hub, authority):
    made = await delivers(hub, authority)
    assert made.destination == "acme.azure-devices.net/dev1"
    credential = made.credentials()[0]
    assert credential.renewed
    assert timedelta(minutes=59) < credential.expires - datetime.now(UTC) < timedelta(minutes=61)


async def test_a_gateway_in_the_connection_string(hub, authority):
    text = f"{hub.connection_string('dev1')};GatewayHostName={hub.host}"
    await delivers(hub, authority, connection_string=text, gateway_host=None)


async def test_a_module(hub, authority):
    hub.register("dev1/bridge")
    await delivers(hub, authority, "dev1/bridge", connection_string=hub.connection_string("dev1/bridge"))


async def test_host_device_and_key(hub, authority):
    key = hub.identities["dev1"].keys[1]
    await delivers(hub, authority, host=hub.hub, device_id="dev1", symmetric_key=key)


async def test_a_ready_made_token(hub, authority):
    ready = token(hub.identities["dev1"].keys[0], f"{hub.hub}/devices/dev1", lifetime=3600)
    made = await delivers(hub, authority, host=hub.hub, device_id="dev1", shared_access_signature=ready)
    assert not made.credentials()[0].renewed
    assert made.credentials()[0].expires > datetime.now(UTC)


async def test_certificates(hub, authority):
    pair = authority.client("dev2")
    hub.register("dev2", thumbprints=[pair.thumbprint])
    files = {"certificate": pair.certificate, "private_key": pair.private_key}
    made = await delivers(hub, authority, "dev2", host=hub.hub, device_id="dev2", **files)
    credential = made.credentials()[0]
    assert credential.files == (pair.certificate, pair.private_key)
    assert credential.expires == pair.parsed.not_valid_after_utc


@pytest.mark.parametrize("way", ["key", "group", "certificate"])
async def test_provisioned(hub, authority, way):
    async with AzureDpsTwin(authority, retry_after=0) as dps:
        options = {
            "id_scope": dps.id_scope,
            "registration_id": "gw-1",
            "provisioning_host": "localhost",
            "provisioning_port": dps.port,
        }
        if way == "group":
            options["group_key"] = dps.enrol_group(hub)
        else:
            enrolment = dps.enrol("gw-1", hub, x509=way == "certificate", device_id="named-otherwise", assigning=2)
            pair = authority.client("gw-1")
            options |= (
                {"symmetric_key": enrolment.key}
                if way == "key"
                else {"certificate": pair.certificate, "private_key": pair.private_key}
            )
        if way == "certificate":
            hub.register("named-otherwise", thumbprints=[pair.thumbprint])
        name = "gw-1" if way == "group" else "named-otherwise"
        made = connector(hub, authority, **options)
        told: list[str] = []
        made.tell = told.append
        for _ in range(2):
            await made.open()
            await made.send([message(1)])
            await made.close()
        assert dps.registered == ["gw-1"]
        assert hub.record.messages[-1].client_id == name
        assert told[0] == "gw-1: asking localhost for the hub"
        assert told[-1] == f"{name}: acme.azure-devices.net accepted the connection"


@pytest.mark.parametrize(
    ("words", "error", "spoil"),
    [
        ("refuses the credentials|not authorised", Unauthorised, lambda dps: dps.enrolments.clear()),
        ("says failed: no hub", Unauthorised, lambda dps: setattr(dps.enrolments["gw-1"], "fails", "no hub for it")),
        ("busy", NotConnected, lambda dps: setattr(dps, "throttled", 1)),
        ("not answered", NotConnected, lambda dps: setattr(dps, "silent", True)),
    ],
)  # fmt: skip
async def test_provisioning_that_fails(hub, authority, words, error, spoil, monkeypatch):
    monkeypatch.setattr("northbound_azure_iot.provisioning._ANSWER_SECONDS", 0.3)
    async with AzureDpsTwin(authority, retry_after=0) as dps:
        enrolment = dps.enrol("gw-1", hub)
        spoil(dps)
        made = connector(
            hub, authority, id_scope=dps.id_scope, registration_id="gw-1", symmetric_key=enrolment.key,
            provisioning_host="localhost", provisioning_port=dps.port,
        )  # fmt: skip
        with pytest.raises(error, match=words) as caught:
            await made.open()
        if "failed" in words:
            assert "enrolment" in made.explain(caught.value)
    assert not hub.record.connects


@asynccontextmanager
async def moved_from(old_hub, authority, tmp_path):
    """A device that was assigned to ``old_hub`` before, and now belongs to one that is there."""
    remembered = tmp_path / "azure.json"
    Memory(remembered).assigned("gw-1", Assignment(old_hub, "gw-1"))
    async with AzureHubTwin(authority, hub="localhost") as hub, AzureDpsTwin(authority, retry_after=0) as dps:
        options = ConnectorOptions(
            id_scope=dps.id_scope,
            registration_id="gw-1",
            group_key=dps.enrol_group(hub),
            provisioning_host=dps.host,
            provisioning_port=dps.port,
            port=hub.port,
            ca=authority.ca,
            remember=remembered,
        )
        made = AzureIotConnector(options, name="out")
        try:
            yield made, hub, dps
        finally:
            await made.close()


async def test_a_hub_whose_name_is_gone_is_asked_for_anew(authority, tmp_path):
    async with moved_from("gone.invalid", authority, tmp_path) as (made, hub, dps):
        await made.open()
        await made.send([message(1)])
        assert dps.registered == ["gw-1"]
        assert len(hub.record.messages) == 1
        assert Memory(made.config.remember).assignment("gw-1") == Assignment("localhost", "gw-1")


async def test_a_hub_that_is_not_reached_again_and_again_is_asked_for_anew(authority, tmp_path):
    async with moved_from("127.0.0.2", authority, tmp_path) as (made, hub, dps):  # where nothing listens
        for _ in range(2):
            with pytest.raises(NotConnected, match="refuses the connection"):
                await made.open()
        assert not dps.record.connects
        await made.open()
        assert dps.registered == ["gw-1"]
        assert len(hub.record.connects) == 1


async def test_the_old_hub_is_kept_where_provisioning_names_no_other(authority, tmp_path, monkeypatch):
    async with moved_from("gone.invalid", authority, tmp_path) as (made, _, dps):
        dps.throttled = 1
        with pytest.raises(NotConnected, match=r"cannot be resolved.*asked for another hub: .*busy"):
            await made.open()
        with pytest.raises(NotConnected, match=r"cannot be resolved; check the address and DNS$"):
            await made.open()
        assert made.destination == "gone.invalid/gw-1"
        assert len(dps.record.connects) == 1  # it is not asked again at once
        assert Memory(made.config.remember).assignment("gw-1") == Assignment("gone.invalid", "gw-1")
        monkeypatch.setattr("northbound_azure_iot.lane._ASK_ANEW_SECONDS", 0.0)
        await made.open()
        assert made.destination == "localhost/gw-1"


# -- transports -------------------------------------------------------------------------------------------------


async def test_over_websocket(hub, authority):
    await delivers(hub, authority, transport="websocket", port=hub.websocket_port)


@pytest.mark.parametrize("tunnel", [HttpProxy, SocksProxy])
@pytest.mark.parametrize("transport", ["mqtt", "websocket"])
async def test_through_a_proxy(hub, authority, tunnel, transport):
    port = hub.port if transport == "mqtt" else hub.websocket_port
    async with tunnel(login=("user", "hunter2")) as proxy:
        await delivers(hub, authority, proxy=proxy.url, transport=transport, port=port)
        assert proxy.asked == [(hub.host, port)]


async def test_through_a_proxy_to_provisioning(hub, authority):
    async with AzureDpsTwin(authority, retry_after=0) as dps, HttpProxy() as proxy:
        key = dps.enrol_group(hub)
        options = {"id_scope": dps.id_scope, "registration_id": "gw-1", "group_key": key, "proxy": proxy.url}
        place = {"provisioning_host": dps.host, "provisioning_port": dps.port}
        await delivers(hub, authority, "gw-1", **options, **place)
        assert proxy.asked == [(dps.host, dps.port), (hub.host, hub.port)]


async def test_the_server_must_be_trusted(hub, authority, tmp_path):
    with pytest.raises(NotConnected, match="cannot be trusted"):
        await connector(hub, authority, ca=Authority(tmp_path / "other").ca).open()
    with pytest.raises(NotConnected, match="not a pinned one"):
        await connector(hub, authority, pins=["sha256:" + "0" * 64]).open()
    with pytest.raises(NotConnected, match="CA file"):
        await connector(hub, authority, ca=tmp_path / "none.pem").open()
    assert not hub.record.connects


def test_nothing_older_than_tls_1_2():
    text = "HostName=a;DeviceId=d;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg=="
    made = AzureIotConnector(ConnectorOptions(connection_string=text), name="out")
    options = made._lanes[0].identity.client_options()
    assert options.ssl.minimum_version == ssl.TLSVersion.TLSv1_2
    assert options.ssl.check_hostname
    assert options.version == 4
    assert options.clean_start


# -- what it says -----------------------------------------------------------------------------------------------


async def test_refusals_are_explained(hub, authority):
    wrong = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    for options, words in (
        ({"host": hub.hub, "device_id": "dev1", "symmetric_key": wrong}, "the key is another device's"),
        ({"host": hub.hub, "device_id": "unknown", "symmetric_key": wrong}, "unknown is not a device of acme"),
        ({"host": "other.azure-devices.net", "device_id": "dev1", "symmetric_key": wrong}, "another hub's name"),
        ({"host": hub.hub, "device_id": "dev1", "symmetric_key": wrong}, f"it says {datetime.now(UTC):%Y-%m-%d}"),
    ):
        made = connector(hub, authority, **options)
        with pytest.raises(Unauthorised) as caught:
            await made.open()
        assert words in made.explain(caught.value)
    expired = token(hub.identities["dev1"].keys[0], f"{hub.hub}/devices/dev1", lifetime=-1)
    alone = {"device_id": "dev1", "shared_access_signature": expired}
    for options in (alone, {"identities": [alone]}):
        made = connector(hub, authority, host=hub.hub, **options)
        with pytest.raises(Unauthorised) as caught:
            await made.open()
        assert "shared_access_signature has expired" in made.explain(caught.value)
        assert "certificate" not in made.explain(caught.value)
    both = [alone, {"device_id": "dev2", "symmetric_key": wrong}]
    words = connector(hub, authority, host=hub.hub, identities=both).explain(caught.value)
    assert "shared_access_signature has expired" in words
    assert "the key is another device's" in words


async def test_a_takeover_is_explained(hub, authority):
    async with opened(hub, authority) as made, opened(hub, authority):
        with pytest.raises(NotConnected) as caught:
            await made.lost()
        assert "in use elsewhere (dev1" in made.explain(caught.value)


async def test_names_and_certificates_are_explained(hub, authority):
    made = connector(hub, authority, gateway_host="no-such-host.invalid")
    with pytest.raises(NotConnected) as caught:
        await made.open()
    assert "DNS" in made.explain(caught.value)
    pair = authority.client("dev2")
    hub.register("dev2", thumbprints=["00"])
    made = connector(
        hub, authority, host=hub.hub, device_id="dev2", certificate=pair.certificate, private_key=pair.private_key
    )
    with pytest.raises(Unauthorised) as caught:
        await made.open()
    assert "thumbprint" in made.explain(caught.value)
    assert made.explain(NotConnected("some other trouble")) is None


# -- the connection ---------------------------------------------------------------------------------------------


async def test_a_token_is_renewed_between_messages_in_order(hub, authority):
    made = connector(hub, authority)
    made.config = made.config.model_copy(update={"token_lifetime": timedelta(seconds=2)})
    identity = made._lanes[0].identity
    identity._options = made.config
    await made.open()
    watching = asyncio.ensure_future(made.lost())
    number = 0
    async with asyncio.timeout(20):
        while made.gauges()["tokens_renewed"] < 2:
            sends = [asyncio.ensure_future(made.send([message(number + n)])) for n in range(4)]
            number += 4
            await asyncio.gather(*sends)
    watching.cancel()
    await made.close()
    assert [taken.user["$.mid"] for taken in hub.record.messages] == [f"store-{n}" for n in range(number)]
    assert len(hub.record.connects) == 3
    assert hub.record.reasons == []


async def test_a_drained_connection_waits_for_what_is_under_way(authority):
    limits = HubLimits(sends_per_second=10, burst_seconds=0, queue=100)  # an acknowledgement takes its time
    async with AzureHubTwin(authority, limits=limits) as hub:
        hub.register("dev1")
        async with opened(hub, authority) as made:
            lane = made._lanes[0]
            under_way = asyncio.ensure_future(made.send([message(n) for n in range(5)]))
            await asyncio.sleep(0.05)
            renewing = asyncio.ensure_future(lane._renew())
            await asyncio.sleep(0.05)
            later = asyncio.ensure_future(made.send([message(5)]))
            await asyncio.gather(under_way, renewing, later)
        assert [taken.user["$.mid"] for taken in hub.record.messages] == [f"store-{n}" for n in range(6)]
        assert len(hub.record.connects) == 2


async def test_a_hang_up_fails_what_is_under_way(hub, authority):
    hub.poison = lambda properties, _body: properties["$.mid"] == "store-2"
    async with opened(hub, authority) as made:
        with pytest.raises(PartialDelivery) as caught:
            await made.send([message(n) for n in range(4)])
        assert sorted(caught.value.failures) == [2, 3]
        assert all(isinstance(error, NotConnected) for error in caught.value.failures.values())
        with pytest.raises(NotConnected):
            await made.lost()


async def test_after_a_hang_up_without_an_acknowledgement_it_tries_a_message_of_its_own(hub, authority, monkeypatch):
    monkeypatch.setattr("northbound_azure_iot.pacing.SPACING", 0.0)  # ten connections in a minute would be spaced out
    hub.poison = lambda properties, _body: "$.mid" in properties
    async with opened(hub, authority) as made:
        with pytest.raises(PartialDelivery):
            await made.send([message(1)])
        await made.open()
        assert [taken.user["kind"] for taken in hub.record.messages] == ["trial"]
        with pytest.raises(PartialDelivery):
            await made.send([message(1)])
        hub.poison = lambda _properties, _body: True
        waits = []
        for _ in range(6):
            with pytest.raises(NotConnected, match="takes no message at all") as caught:
                await made.open()
            waits.append(caught.value.retry_after)
        assert waits == [None, 20.0, 20.0, 20.0, 60.0, 60.0]
        assert "metrics" in made.explain(caught.value)
        hub.poison = lambda _properties, _body: False
        await made.open()
        await made.send([message(1)])
        assert hub.record.messages[-1].user["$.mid"] == "store-1"
        await made.open()  # nothing was under way: no message of its own
        assert hub.record.messages[-1].user["$.mid"] == "store-1"


async def test_the_budget_is_kept_to_the_message(hub, authority):
    async with opened(hub, authority, daily_budget=3) as made:
        with pytest.raises(PartialDelivery) as caught:
            await made.send([message(n) for n in range(5)])
        assert sorted(caught.value.failures) == [3, 4]
        assert all(type(error) is Unavailable and error.retry_after > 0 for error in caught.value.failures.values())
        assert len(hub.record.messages) == 3
        assert made.gauges()["metered_today"] == 3


async def test_nothing_is_sent_that_is_not_open(hub, authority):
    made = connector(hub, authority)
    with pytest.raises(PartialDelivery) as caught:
        await made.send([message(1)])
    assert isinstance(caught.value.failures[0], NotConnected)
    with pytest.raises(NotConnected):
        await made.lost()


async def test_one_identity_that_is_refused_closes_the_others(hub, authority):
    hub.register("dev2")
    strings = [hub.connection_string(name) for name in ("dev1", "dev2")]
    hub.identities["dev2"].enabled = False
    made = connector(hub, authority, identities=[{"connection_string": text} for text in strings])
    with pytest.raises(Unauthorised):
        await made.open()
    assert made.gauges()["lanes_connected"] == 0
    async with asyncio.timeout(5):
        while hub.peers:  # noqa: ASYNC110 - simpler than an event, in a test
            await asyncio.sleep(0.005)


async def test_twins_that_are_not_there_are_said(authority):
    async with AzureHubTwin(authority, limits=HubLimits(twins=False)) as hub:
        hub.register("dev1")
        with pytest.raises(NotConnected):
            await connector(hub, authority, metadata="both").open()


async def test_what_others_report_stays(hub, authority):
    hub.identities["dev1"].reported = {"theirs": "x" * 3000}
    payload = b'{"name":"Boardroom"}'
    one = message(1, kind="metadata", payload=payload, properties={"topic": "t", "kind": "metadata", "id": "sys.1"})
    async with opened(hub, authority, metadata="both") as made:
        await made.send([one])
        assert hub.identities["dev1"].reported["northbound"] == {"sys%2E1": {"name": "Boardroom"}}
        await made.send([message(1, kind="metadata", payload=b"", properties=one.properties)])
    assert hub.identities["dev1"].reported == {"theirs": "x" * 3000, "northbound": {}}
    assert len(hub.record.messages) == 2


def entity(name, payload, number=1):
    return message(number, kind="metadata", payload=payload, properties={"topic": "t", "kind": "metadata", "id": name})


@pytest.mark.parametrize("metadata", ["twin", "both"])
async def test_what_was_reported_last_stays(hub, authority, metadata):
    earlier = [entity(name, b'{"turn":1}') for name in "abcdefghix"]
    async with opened(hub, authority, metadata=metadata) as made:
        await asyncio.gather(made.send(earlier), made.send([entity("x", b'{"turn":2}')]), made.send([message(1)]))
    assert hub.identities["dev1"].reported["northbound"]["x"] == {"turn": 2}
    assert len(hub.identities["dev1"].reported["northbound"]) == 10


async def test_a_report_that_is_given_up_lets_those_behind_it_go_on_and_none_overtake(hub, authority):
    async with opened(hub, authority, metadata="twin") as made:
        earlier = asyncio.ensure_future(made.send([entity(name, b'{"turn":1}') for name in "abcdefghix"]))
        given_up = asyncio.ensure_future(made.send([entity("y", b"{}")]))
        later = asyncio.ensure_future(made.send([entity("x", b'{"turn":2}')]))
        await asyncio.sleep(0)  # all have begun
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(earlier, later)
        assert hub.identities["dev1"].reported["northbound"]["x"] == {"turn": 2}
        assert "y" not in hub.identities["dev1"].reported["northbound"]


async def test_closing_ends_reports_and_those_that_wait_behind_them(hub, authority):
    made = connector(hub, authority, metadata="twin")
    await made.open()
    sends = [asyncio.ensure_future(made.send([entity(name, b"{}")])) for name in "abc"]
    await asyncio.sleep(0)
    await made.close()
    for outcome in await asyncio.gather(*sends, return_exceptions=True):
        assert isinstance(outcome, PartialDelivery)
        assert isinstance(outcome.failures[0], NotConnected)


@pytest.mark.parametrize("metadata", ["twin", "both"])
async def test_what_the_twin_costs_is_metered(hub, authority, metadata):
    hub.identities["dev1"].reported = {f"k{n}": "x" * 3000 for n in range(3)}
    async with opened(hub, authority, metadata=metadata) as made:
        await made.send([entity("x", b'{"a":"%s"}' % (b"x" * 3000)), entity("y", b"{}"), message(1)])
        messages = 1 if metadata == "twin" else 3
        assert made.gauges()["metered_today"] == hub.used_today == 3 + 2 + messages
        assert made.gauges()["messages_today"] == len(hub.record.messages) == messages


async def test_the_budget_is_kept_to_the_report(hub, authority):
    async with opened(hub, authority, metadata="twin", daily_budget=3) as made:
        with pytest.raises(PartialDelivery) as caught:
            await made.send([entity(name, b"{}") for name in "abcd"])
        assert sorted(caught.value.failures) == [2, 3]
        assert all(type(error) is Unavailable and error.retry_after > 0 for error in caught.value.failures.values())
        assert sorted(hub.identities["dev1"].reported["northbound"]) == ["a", "b"]
        assert hub.used_today == 3


async def test_a_report_follows_its_message_also_where_that_used_the_budget_up(hub, authority):
    async with opened(hub, authority, metadata="both", daily_budget=3) as made:
        with pytest.raises(PartialDelivery) as caught:
            await made.send([entity(name, b"{}") for name in "abc"])
        assert sorted(caught.value.failures) == [2]
        assert sorted(hub.identities["dev1"].reported["northbound"]) == ["a", "b"]


async def test_a_busy_twin_is_asked_again_and_a_full_one_is_not(authority):
    async with AzureHubTwin(authority, limits=HubLimits(twin_updates_per_second=2)) as hub:
        hub.register("dev1").reported = {f"k{n}": "x" * 3000 for n in range(10)}
        batch = [
            message(
                n, kind="metadata", payload=b'{"text":"%s"}' % (b"x" * size), properties={"topic": "t", "id": f"e{n}"}
            )
            for n, size in enumerate((10, 10, 10, 3000))
        ]
        async with opened(hub, authority, metadata="twin") as made:
            with pytest.raises(PartialDelivery) as caught:
                await made.send(batch)
        assert {index: type(error).__name__ for index, error in caught.value.failures.items()} == {
            2: "Unavailable",
            3: "Rejected",
        }
        assert not hub.record.messages


async def test_the_client_is_our_own(hub, authority):
    """What a message looks like does not depend on the SDK: our client, with the SDK's token."""
    made = connector(hub, authority)
    client = Client(made._lanes[0].identity.client_options())
    await client.connect()
    await client.publish([Publish("devices/dev1/messages/events/", b"{}", 1)])
    await client.disconnect()
    assert len(hub.record.messages) == 1
