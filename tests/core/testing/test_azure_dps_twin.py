"""The twin of the provisioning service, and both twins with the real SDK, unmodified, on the ports it forces."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager

import pytest
from azure.iot.device import X509, Message
from azure.iot.device.aio import IoTHubDeviceClient, IoTHubModuleClient, ProvisioningDeviceClient
from azure.iot.device.exceptions import CredentialError
from tests.core.testing.test_azure_hub_twin import token
from tests.support.intake import until
from tests.support.iot_hub import own_address

from northbound import NotConnected, Unauthorised
from northbound.mqtt import Client, ClientOptions, Publish
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.azure_dps import AzureDpsTwin
from northbound.testing.twins.azure_iot import AzureHubTwin
from northbound.testing.twins.azure_rules import derived_key

# The SDK asks for "TLS 1.2 and nothing else" in a way that Python 3.10 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:ssl:DeprecationWarning", "ignore:.*utcnow:DeprecationWarning")
SCOPE = "0ne00ABCDEF"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


@pytest.fixture
async def hub(authority):
    async with AzureHubTwin(authority, host=own_address(), port=8883) as hub:
        yield hub


@pytest.fixture
async def dps(authority):
    async with AzureDpsTwin(authority, host=own_address(), port=8883) as dps:
        yield dps


# -- the SDK ----------------------------------------------------------------------------------------------------


def device(hub, authority, name="dev1"):
    text = f"{hub.connection_string(name)};GatewayHostName={hub.host}"
    kind = IoTHubModuleClient if "/" in name else IoTHubDeviceClient
    return kind.create_from_connection_string(text, server_verification_cert=authority.ca.read_text())


@asynccontextmanager
async def connected(client):
    try:
        async with asyncio.timeout(20):
            await client.connect()
            yield client
            await client.shutdown()
    except BaseException:
        await client.shutdown()
        raise


async def test_the_sdk_sends_messages(hub, authority):
    hub.register("dev1")
    async with connected(device(hub, authority)) as client:
        message = Message(b'{"value":1}', message_id="m-1", content_type="application/json", content_encoding="utf-8")
        message.custom_properties["sp ace"] = "a&b=c/+"
        await client.send_message(message)
    (taken,) = hub.record.messages
    assert taken.payload == b'{"value":1}'
    assert taken.user == {"$.mid": "m-1", "$.ct": "application/json", "$.ce": "utf-8", "sp ace": "a&b=c/+"}
    assert hub.record.reasons == []


async def test_the_sdk_reports_properties(hub, authority):
    hub.register("dev1")
    async with connected(device(hub, authority)) as client:
        await client.patch_twin_reported_properties({"northbound": {"sys-7": {"name": "Boardroom"}}})
        twin = await client.get_twin()
    assert twin["reported"]["northbound"] == {"sys-7": {"name": "Boardroom"}}


async def test_the_sdk_signs_in_as_a_module_and_by_certificate(hub, authority):
    hub.register("dev1/bridge")
    async with connected(device(hub, authority, "dev1/bridge")) as client:
        await client.send_message(Message("1"))
    pair = authority.client("dev2")
    hub.register("dev2", thumbprints=[pair.thumbprint])
    by_certificate = IoTHubDeviceClient.create_from_x509_certificate(
        X509(str(pair.certificate), str(pair.private_key)), hub.hub, "dev2",
        gateway_hostname=hub.host, server_verification_cert=authority.ca.read_text(),
    )  # fmt: skip
    async with connected(by_certificate) as client:
        await client.send_message(Message("2"))
    assert [message.client_id for message in hub.record.messages] == ["dev1/bridge", "dev2"]


async def test_the_sdk_hears_of_a_wrong_key(hub, authority):
    hub.register("dev1")
    client = device(hub, authority)
    hub.identities["dev1"].keys = hub.identities["dev1"].keys[1:]
    with pytest.raises(CredentialError):
        await client.connect()
    await client.shutdown()


def provisioning(dps, authority, registration_id, key):
    return ProvisioningDeviceClient.create_from_symmetric_key(
        dps.host, registration_id, SCOPE, key, server_verification_cert=authority.ca.read_text()
    )


async def test_the_sdk_is_provisioned(authority, dps):
    async with AzureHubTwin(authority) as hub:
        group = dps.enrol_group(hub)
        result = await provisioning(dps, authority, "gw-7", derived_key(group, "gw-7")).register()
        assert (result.status, result.registration_state.assigned_hub) == ("assigned", hub.hub)
        assert result.registration_state.device_id == "gw-7"
        assert dps.registered == ["gw-7"]
        assert "gw-7" in hub.identities


# -- what the provisioning service refuses ----------------------------------------------------------------------


def options(dps, authority, **changes):
    fields = {
        "host": dps.host,
        "port": dps.port,
        "ssl": authority.client_context(),
        "client_id": "gw-1",
        "username": f"{SCOPE}/registrations/gw-1/api-version=2019-03-31",
        "version": 4,
    }
    return ClientOptions(**(fields | changes))


@asynccontextmanager
async def registering(authority, **more):
    """A service that has enrolled gw-1, a hub, and a client that is signed in, with its answers."""
    async with AzureDpsTwin(authority, retry_after=0) as dps, AzureHubTwin(authority) as hub:
        enrolment = dps.enrol("gw-1", hub, **more)
        answers: asyncio.Queue = asyncio.Queue()
        client = Client(
            options(dps, authority, password=token(enrolment.key, f"{SCOPE}/registrations/gw-1")),
            on_messages=lambda messages: [answers.put_nowait((m.topic, json.loads(m.payload))) for m in messages],
        )
        await client.connect()
        await client.subscribe(["$dps/registrations/res/#"])

        async def ask(topic, body=b" "):
            await client.publish([Publish(f"$dps/registrations/{topic}", body, 1)])
            async with asyncio.timeout(5):
                topic, answer = await answers.get()
            return int(topic.split("/")[3]), answer

        try:
            yield dps, client, ask
        finally:
            await client.disconnect()


REGISTER = "PUT/iotdps-register/?$rid=1"
BODY = b'{"registrationId":"gw-1"}'


async def test_assigning_takes_polls(authority):
    async with registering(authority, assigning=3) as (dps, _client, ask):
        status, answer = await ask(REGISTER, BODY)
        assert (status, answer["status"]) == (202, "assigning")
        query = f"GET/iotdps-get-operationstatus/?$rid=2&operationId={answer['operationId']}"
        assert [(await ask(query))[0] for _ in range(2)] == [202, 202]
        status, answer = await ask(query)
        assert (status, answer["registrationState"]["deviceId"]) == (200, "gw-1")
        assert dps.registered == ["gw-1"]


@pytest.mark.parametrize(
    ("topic", "body", "status"),
    [
        (REGISTER, b"no json", 400),
        (REGISTER, b'{"registrationId":"gw-2"}', 401),
        ("GET/iotdps-get-operationstatus/?$rid=1&operationId=5.none", b" ", 404),
    ],
)
async def test_requests_it_refuses(authority, topic, body, status):
    async with registering(authority) as (dps, _client, ask):
        assert (await ask(topic, body))[0] == status
        assert dps.registered == []


@pytest.mark.parametrize("topic", ["devices/gw-1/messages/events/", "$dps/registrations/PUT/iotdps-register/?x=1"])
async def test_topics_it_hangs_up_on(authority, topic):
    async with registering(authority) as (_dps, client, _ask):
        with pytest.raises(NotConnected):
            await client.publish([Publish(topic, BODY, 1)])


async def test_throttled(authority):
    async with registering(authority) as (dps, _client, ask):
        dps.throttled = 1
        assert [(await ask(REGISTER, BODY))[0] for _ in range(2)] == [429, 202]


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("signature", {"key": "d3JvbmcgYnV0IDE2IGJ5dGVzIGF0IGxlYXN0"}),
        ("is for", {"resource": f"{SCOPE}/registrations/gw-2"}),
        ("user name", {"username": f"{SCOPE}/registrations/gw-1/?api-version=2019-03-31"}),
        ("user name", {"username": "0neOTHER/registrations/gw-1/api-version=2019-03-31"}),
        ("no enrolment", {"client_id": "gw-9", "username": f"{SCOPE}/registrations/gw-9/api-version=2019-03-31"}),
        ("no registration id", {"client_id": "GW 1"}),
    ],
)
async def test_who_it_refuses(authority, why, changes):
    async with AzureDpsTwin(authority) as dps, AzureHubTwin(authority) as hub:
        enrolment = dps.enrol("gw-1", hub)
        key = changes.pop("key", enrolment.key)
        resource = changes.pop("resource", f"{SCOPE}/registrations/gw-1")
        with pytest.raises(Unauthorised):
            await Client(options(dps, authority, password=token(key, resource), **changes)).connect()
        assert why in dps.record.reasons[-1]


async def test_certificates_have_the_registration_id_as_their_name(authority):
    async with AzureDpsTwin(authority) as dps, AzureHubTwin(authority) as hub:
        dps.enrol("gw-1", hub, x509=True)
        other = authority.client_context(authority.client("gw-2"))
        with pytest.raises(Unauthorised):
            await Client(options(dps, authority, ssl=other)).connect()
        client = Client(options(dps, authority, ssl=authority.client_context(authority.client("gw-1"))))
        await client.connect()
        await client.disconnect()


async def test_a_token_ends_its_connection(authority):
    async with AzureDpsTwin(authority) as dps, AzureHubTwin(authority) as hub:
        enrolment = dps.enrol("gw-1", hub)
        dps.clock = lambda: time.time() + 599
        client = Client(
            options(
                dps, authority, password=token(enrolment.key, f"{SCOPE}/registrations/gw-1", extra="&skn=registration")
            )
        )
        await client.connect()
        await until(lambda: not client.connected, 5)
        await client.disconnect()
