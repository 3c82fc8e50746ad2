"""The twin of IoT Hub forgives nothing: each rule has a device that breaks it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import quote

import pytest
from tests.support.intake import until

from northbound import NotConnected, Unauthorised
from northbound.mqtt import Client, ClientOptions, ClosedUnanswered, Publish, VersionRefused, Will
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.azure_iot import WEBSOCKET_PATH, AzureHubTwin, HubLimits

HUB = "acme.azure-devices.net"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


@pytest.fixture
async def hub(authority):
    async with AzureHubTwin(authority) as hub:
        hub.register("dev1")
        yield hub


def token(key, resource, *, lifetime=600.0, now=None, extra=""):
    """As Microsoft's page makes it (iot-hub-dev-guide-sas)."""
    expiry = int((time.time() if now is None else now) + lifetime)
    signed = f"{quote(resource, safe='')}\n{expiry}".encode()
    signature = base64.b64encode(hmac.digest(base64.b64decode(key), signed, hashlib.sha256)).decode()
    return f"SharedAccessSignature sr={quote(resource, safe='')}&sig={quote(signature, safe='')}&se={expiry}{extra}"


def options(hub, authority, **changes):
    client_id = changes.get("client_id", "dev1")
    fields = {
        "host": hub.host,
        "port": hub.port,
        "ssl": authority.client_context(),
        "client_id": client_id,
        "username": f"{HUB}/{client_id}/?api-version=2021-04-12",
        "version": 4,
        "ack_timeout": 5.0,
    }
    identity = hub.identities.get(client_id)
    if identity is not None and identity.keys:
        fields["password"] = token(identity.keys[0], f"{HUB}/{identity.resource}")
    return ClientOptions(**(fields | changes))


@asynccontextmanager
async def signed_in(hub, authority, *, on_messages=None, **changes):
    client = Client(options(hub, authority, **changes), on_messages=on_messages)
    try:
        await client.connect()
        yield client
    finally:
        await client.disconnect()


async def refused(hub, authority, why, error=Unauthorised, **changes):
    with pytest.raises(error):
        async with signed_in(hub, authority, **changes):
            pass
    assert why in hub.record.reasons[-1]
    assert not hub.record.connects


# -- signing in -------------------------------------------------------------------------------------------------


async def test_either_key_and_the_name_of_the_hub(hub, authority):
    for key in hub.identities["dev1"].keys:
        async with signed_in(hub, authority, password=token(key, f"{HUB}/devices/dev1")) as client:
            await client.publish([Publish("devices/dev1/messages/events/a=b", b"{}", 1)])
    assert [message.user for message in hub.record.messages] == [{"a": "b"}] * 2


@pytest.mark.parametrize(
    ("why", "made"),
    [
        ("signature", lambda key: token(base64.b64encode(b"another key, sixteen+").decode(), f"{HUB}/devices/dev1")),
        ("expired", lambda key: token(key, f"{HUB}/devices/dev1", lifetime=-1)),
        ("is for", lambda key: token(key, f"{HUB}/devices/dev2")),
        ("is for", lambda key: token(key, "other.azure-devices.net/devices/dev1")),
        ("policy", lambda key: token(key, f"{HUB}/devices/dev1", extra="&skn=iothubowner")),
        ("fields", lambda key: token(key, f"{HUB}/devices/dev1", extra="&x=1")),
        ("fields", lambda key: token(key, f"{HUB}/devices/dev1", extra="&se=99999999999")),
        ("no SharedAccessSignature", lambda key: "secret"),
        ("no SharedAccessSignature", lambda key: None),
    ],
)
async def test_tokens(hub, authority, why, made):
    await refused(hub, authority, why, password=made(hub.identities["dev1"].keys[0]))


async def test_a_token_is_measured_by_the_hubs_clock(hub, authority):
    hub.clock = lambda: time.time() + 3600
    await refused(hub, authority, "expired")


@pytest.mark.parametrize(
    "username",
    [
        None,
        "dev1",
        f"{HUB}/dev1",
        f"{HUB}/dev1/api-version=2021-04-12",
        f"{HUB}/dev2/?api-version=2021-04-12",
        "other.azure-devices.net/dev1/?api-version=2021-04-12",
        f"{HUB}/dev1/?api-version=2099-01-01",
        f"{HUB}/dev1/?2021-04-12",
    ],
)
async def test_user_names(hub, authority, username):
    password = None if username is None else options(hub, authority).password
    await refused(hub, authority, "api-version", username=username, password=password)


async def test_unknown_and_disabled_devices(hub, authority):
    hub.identities["dev1"].enabled = False
    await refused(hub, authority, "disabled")
    await refused(hub, authority, "no device", client_id="dev2")


async def test_a_module_is_a_device_of_its_own(hub, authority):
    hub.register("dev1/bridge")
    async with signed_in(hub, authority, client_id="dev1/bridge") as client:
        await client.publish([Publish("devices/dev1/modules/bridge/messages/events/", b"", 1)])
        with pytest.raises(NotConnected):
            await client.publish([Publish("devices/dev1/messages/events/", b"", 1)])
    await asyncio.sleep(0)
    assert [message.client_id for message in hub.record.messages] == ["dev1/bridge"]


@pytest.mark.parametrize(("version", "error"), [(5, NotConnected), (3, VersionRefused)])
async def test_it_speaks_3_1_1_only(hub, authority, version, error):
    await refused(hub, authority, "3.1.1", error, version=version)


async def test_certificates(hub, authority):
    hub.register("signed", by_authority=True)
    listed = authority.client("whatever")
    hub.register("listed", thumbprints=[listed.thumbprint])
    own, expired = authority.client("signed"), authority.client("signed", valid=timedelta(seconds=-10))
    await refused(hub, authority, "no client certificate", client_id="signed")
    await refused(hub, authority, "no client certificate", client_id="signed", ssl=authority.client_context(listed))
    await refused(hub, authority, "no client certificate", client_id="listed", ssl=authority.client_context(own))
    await refused(hub, authority, "by certificate", client_id="signed", ssl=authority.client_context(own), password="x")
    with pytest.raises((NotConnected, Unauthorised)):
        async with signed_in(hub, authority, client_id="signed", ssl=authority.client_context(expired)):
            pass
    assert not hub.record.connects
    async with signed_in(hub, authority, client_id="signed", ssl=authority.client_context(own)):
        pass
    async with signed_in(hub, authority, client_id="listed", ssl=authority.client_context(listed)):
        pass
    assert hub.record.connects_by_client == {"signed": 1, "listed": 1}


async def test_nothing_without_tls(hub, authority):
    with pytest.raises(ClosedUnanswered):
        await Client(options(hub, authority, ssl=None)).connect()


async def test_over_websocket(hub, authority):
    socket = {"port": hub.websocket_port, "websocket": WEBSOCKET_PATH}
    async with signed_in(hub, authority, **socket) as client:
        await client.publish([Publish("devices/dev1/messages/events/", b"{}", 1)])
    with pytest.raises(NotConnected):
        await Client(options(hub, authority, **(socket | {"websocket": "/mqtt"}))).connect()
    assert len(hub.record.messages) == 1


async def test_too_many_connections_a_second(authority):
    async with AzureHubTwin(authority, limits=HubLimits(connects_per_second=3)) as hub:
        hub.register("dev1")
        for _ in range(3):
            async with signed_in(hub, authority):
                pass
        with pytest.raises(ClosedUnanswered):
            await Client(options(hub, authority)).connect()


# -- one connection, and for how long ---------------------------------------------------------------------------


async def test_a_newer_connection_ends_the_older(hub, authority):
    async with signed_in(hub, authority) as older, signed_in(hub, authority) as newer:
        with pytest.raises(NotConnected):
            await older.lost()
        await newer.publish([Publish("devices/dev1/messages/events/", b"{}", 1)])


async def test_a_token_ends_its_connection(hub, authority):
    hub.clock = lambda: time.time() + 598.5  # the token has a second and a half left
    async with signed_in(hub, authority) as client:
        await client.publish([Publish("devices/dev1/messages/events/", b"{}", 1)])
        with pytest.raises(NotConnected):
            async with asyncio.timeout(5):
                await client.lost()
    assert hub.record.reasons == ["401003: the token has expired"]


async def test_silence_is_bounded_whatever_the_client_asks(authority):
    async with AzureHubTwin(authority, limits=HubLimits(max_silence=0.3)) as hub:
        hub.register("dev1")
        for keep_alive in (0, 60_000):
            async with signed_in(hub, authority, keep_alive=keep_alive) as client:
                with pytest.raises(NotConnected):
                    await client.lost()
        assert all("silent" in reason for reason in hub.record.reasons)


async def test_a_will_is_sent_unless_it_left_tidily(hub, authority):
    will = Will("devices/dev1/messages/events/x=1", b"gone")
    async with signed_in(hub, authority, will=will):
        pass
    async with signed_in(hub, authority, will=will):
        hub.peers["dev1"].cut()
        await until(lambda: hub.record.messages)
    assert [message.user for message in hub.record.messages] == [{"iothub-MessageType": "Will"}]


# -- messages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "publish"),
    [
        ("QoS 2", Publish("devices/dev1/messages/events/", b"", 2)),
        ("a topic", Publish("placeos/org/state/b/l/a/s/d/M/1/x", b"", 1)),
        ("a topic", Publish("devices/dev2/messages/events/", b"", 1)),
        ("a topic", Publish("devices/dev1/messages/devicebound/", b"", 1)),
        ("a topic", Publish("devices/dev1/messages/eventsmore/", b"", 1)),
        ("percent-encoded", Publish("devices/dev1/messages/events/a/b=1", b"", 1)),
        ("percent-encoded", Publish("devices/dev1/messages/events/a=b c", b"", 1)),
        ("percent-encoded", Publish("devices/dev1/messages/events/a=%zz", b"", 1)),
        ("percent-encoded", Publish("devices/dev1/messages/events/alone", b"", 1)),
        ("percent-encoded", Publish("devices/dev1/messages/events/a=1&&b=2", b"", 1)),
        ("twice", Publish("devices/dev1/messages/events/a=1&a=2", b"", 1)),
        ("not UTF-8", Publish("devices/dev1/messages/events/a=%FF", b"", 1)),
        ("not ASCII", Publish("devices/dev1/messages/events/a=%C3%A9", b"", 1)),
        ("no system property", Publish("devices/dev1/messages/events/$.xx=1", b"", 1)),
        ("message id", Publish("devices/dev1/messages/events/$.mid=" + "a" * 129, b"", 1)),
        ("message id", Publish("devices/dev1/messages/events/$.mid=a%20b", b"", 1)),
        ("262145 bytes", Publish("devices/dev1/messages/events/ab=cd&$.ct=xyz", b"x" * 262_138, 1)),
        ("without $rid", Publish("$iothub/twin/GET/?", b"", 1)),
    ],
)
async def test_what_it_hangs_up_on(hub, authority, why, publish):
    async with signed_in(hub, authority) as client:
        with pytest.raises(NotConnected):
            await client.publish([publish])
        with pytest.raises(NotConnected):
            await client.lost()
    assert why in hub.record.reasons[-1]
    assert not hub.record.messages


async def test_the_largest_message_and_the_property_of_a_retained_one(hub, authority):
    async with signed_in(hub, authority) as client:
        await client.publish([Publish("devices/dev1/messages/events/ab=cd&$.ct=xyz", b"x" * 262_137, 1)])
        await client.publish([Publish("devices/dev1/messages/events", b"{}", 1, True)])
    largest, retained = hub.record.messages
    assert largest.user == {"ab": "cd", "$.ct": "xyz"}
    assert retained.user == {"mqtt-retain": "true"}
    assert hub.used_today == 64 + 1


async def test_the_quota_ends_every_connection_until_the_next_day(authority):
    async with AzureHubTwin(authority, limits=HubLimits(quota=3, chunk=10)) as hub:
        hub.register("dev1")
        hub.register("dev2")
        async with signed_in(hub, authority) as client:
            await client.publish([Publish("devices/dev1/messages/events/", b"x" * 21, 1)])  # three chunks
            with pytest.raises(NotConnected):
                await client.publish([Publish("devices/dev1/messages/events/", b"x", 1)])
        for device in ("dev1", "dev2"):  # accepted, then severed
            async with signed_in(hub, authority, client_id=device) as client:
                with pytest.raises(NotConnected):
                    await client.lost()
        hub.clock = lambda: time.time() + 86_400
        key = hub.identities["dev1"].keys[0]
        password = token(key, f"{HUB}/devices/dev1", lifetime=200_000)
        async with signed_in(hub, authority, password=password) as client:
            await client.publish([Publish("devices/dev1/messages/events/", b"x", 1)])


async def test_the_rate_is_shaped_then_refused(authority):
    limits = HubLimits(sends_per_second=20, burst_seconds=0.5, queue=10)
    async with AzureHubTwin(authority, limits=limits) as hub:
        hub.register("dev1")
        async with signed_in(hub, authority) as client:
            began = time.monotonic()
            await client.publish([Publish("devices/dev1/messages/events/", b"", 1)] * 18)
            assert time.monotonic() - began > 0.3  # eight of them had to wait, at 20 a second
            with pytest.raises(NotConnected):
                await client.publish([Publish("devices/dev1/messages/events/", b"", 1)] * 30)
        assert "429002" in hub.record.reasons[-1]


# -- subscriptions and the device twin --------------------------------------------------------------------------


async def test_filters(hub, authority):
    async with signed_in(hub, authority) as client:
        granted = await client.subscribe(
            ["devices/dev1/messages/devicebound/#", "$iothub/twin/res/#", "$iothub/methods/POST/#"], 2
        )
        assert granted == [1, 1, 1]
        with pytest.raises(NotConnected):
            await client.subscribe(["#"])
    hub.register("dev1/m")
    all_of_them = [
        "devices/dev1/messages/devicebound/#",
        "$iothub/twin/res/#",
        "$iothub/methods/POST/#",
        "$iothub/twin/PATCH/properties/desired/#",
        "devices/dev1/modules/m/#",
    ]
    async with signed_in(hub, authority, client_id="dev1/m") as client:
        await client.subscribe(all_of_them)
        with pytest.raises(NotConnected):
            await client.subscribe(["devices/dev1/modules/m/inputs/#"])
    assert "more topics" in hub.record.reasons[-1]


async def test_a_session_that_goes_on_keeps_what_was_not_unsubscribed(hub, authority):
    async with signed_in(hub, authority, clean_start=False) as client:
        await client.subscribe(["$iothub/twin/res/#", "$iothub/methods/POST/#"])
        await client.unsubscribe(["$iothub/methods/POST/#"])
    assert hub.identities["dev1"].subscriptions == ["$iothub/twin/res/#"]


@asynccontextmanager
async def asking(hub, authority):
    answers: asyncio.Queue = asyncio.Queue()

    def take(messages):
        for message in messages:
            answers.put_nowait((message.topic, message.payload))

    async with signed_in(hub, authority, on_messages=take) as client:

        async def ask(topic, body=b""):
            await client.publish([Publish(topic, body, 1)])
            async with asyncio.timeout(5):
                return await answers.get()

        yield client, ask


PATCH = "$iothub/twin/PATCH/properties/reported/?$rid=1"


async def test_reported_properties(hub, authority):
    async with asking(hub, authority) as (client, ask):
        await client.subscribe(["$iothub/twin/res/#"])
        topic, body = await ask("$iothub/twin/GET/?$rid=a1")
        assert topic == "$iothub/twin/res/200/?$rid=a1"
        assert json.loads(body) == {"desired": {"$version": 1}, "reported": {"$version": 1}}
        topic, _ = await ask(PATCH, b'{"a":{"b":1,"c":2},"d":"e"}')
        assert topic == "$iothub/twin/res/204/?$rid=1&$version=2"
        await ask(PATCH, b'{"a":{"c":null,"x":[1]},"d":null}')
        assert hub.identities["dev1"].reported == {"a": {"b": 1, "x": [1]}}


def deep(levels):
    return {"k": deep(levels - 1)} if levels else 1


@pytest.mark.parametrize(
    "body",
    [
        b"no json",
        b"[1]",
        json.dumps({"a.b": 1}),
        json.dumps({"$a": 1}),
        json.dumps({"a b": {"c": 1}}),
        json.dumps({"k" * 1025: 1}),
        json.dumps({"a": "x" * 4097}),
        json.dumps({"a": 1 << 52}),
        json.dumps(deep(12)),
        json.dumps({f"key{n}": "x" * 4000 for n in range(9)}),
    ],
)
async def test_patches_that_break_a_rule(hub, authority, body):
    async with asking(hub, authority) as (client, ask):
        await client.subscribe(["$iothub/twin/res/#"])
        topic, _ = await ask(PATCH, body if isinstance(body, bytes) else body.encode())
        assert topic == "$iothub/twin/res/400/?$rid=1"
        assert hub.identities["dev1"].reported == {}


async def test_too_many_twin_operations(authority):
    async with AzureHubTwin(authority, limits=HubLimits(twin_updates_per_second=2)) as hub:
        hub.register("dev1")
        async with asking(hub, authority) as (client, ask):
            await client.subscribe(["$iothub/twin/res/#"])
            found = [(await ask(PATCH, b'{"a":1}'))[0].split("/")[3] for _ in range(4)]
        assert found == ["204", "204", "429", "429"]


async def test_the_twin_is_metered_and_the_quota_ends_it_too(authority):
    async with AzureHubTwin(authority, limits=HubLimits(quota=2)) as hub:
        hub.register("dev1")
        async with asking(hub, authority) as (client, ask):
            await client.subscribe(["$iothub/twin/res/#"])
            await ask("$iothub/twin/GET/?$rid=0")
            await ask(PATCH, b'{"a":1}')
            assert hub.used_today == 2
            with pytest.raises(NotConnected):
                await client.publish([Publish(PATCH, b'{"a":2}', 1)])
        assert hub.identities["dev1"].reported == {"a": 1}
        assert "403002" in hub.record.reasons[-1]


async def test_the_basic_tier_has_no_twins(authority):
    async with AzureHubTwin(authority, limits=HubLimits(twins=False)) as hub:
        hub.register("dev1")
        async with signed_in(hub, authority) as client:
            with pytest.raises(NotConnected):
                await client.publish([Publish("$iothub/twin/GET/?$rid=1", b"", 1)])
