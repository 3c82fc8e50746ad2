"""The twin of AWS IoT Core is strict: each limit has a test that fails where it forgives. Both versions of MQTT."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import awscrt.io
import awscrt.mqtt
import paho.mqtt.client as paho
import pytest
from tests.support.raw_mqtt import Raw

from northbound.mqtt import (
    Connack,
    Connect,
    Properties,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    Unsubscribe,
    Will,
)
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.aws_iot import AwsIotTwin
from northbound.testing.twins.aws_limits import AwsLimits
from northbound.testing.twins.aws_policy import Policy
from northbound.testing.twins.aws_shadow import Shadows
from northbound.testing.twins.aws_sign_in import AccessKey, Refused, verify_sigv4
from northbound.testing.twins.mqtt_listener import Greeting

QUICK = AwsLimits(connects_per_client=0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def context(authority):
    return authority.client_context(authority.client("device"))


async def published(twin, context, version, *packets, answers=None) -> tuple[list, int | str | None]:
    """What a client that publishes gets: the answers, and how the connection ended."""
    async with Raw(twin.port, context) as raw:
        connack = await raw.sign_in(Connect(client_id="device", version=version))
        assert isinstance(connack, Connack)
        assert connack.reason == 0
        await raw.say(*packets)
        await raw.until(lambda: len(raw.heard) >= (len(packets) if answers is None else answers) or raw.closed)
        await asyncio.sleep(0.05)
        pubacks = [(p.packet_id, p.reason) for p in raw.heard if isinstance(p, Puback)]
        if not raw.closed:
            return pubacks, "open"
        return pubacks, await raw.farewell()


def pub(topic="t", payload=b"x", *, qos=1, retain=False, n=1, **properties) -> Publish:
    return Publish(topic, payload, qos, retain, packet_id=n if qos else 0, properties=Properties(**properties))


SEVEN = "/".join("abcdefgh")


async def test_what_is_within_every_limit_is_taken(authority, context):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        for version in (4, 5):
            largest = 128 * 1024 if version == 4 else 128 * 1024 - 300
            packets = [
                pub(SEVEN, n=1),
                pub("t" * 256, n=2),
                pub("t" * 250, bytes(largest), n=3),
                pub(f"$aws/rules/a_rule/{SEVEN}", n=4),
                pub("$aws/rules/r/" + "t" * 256, n=5),
                pub("kept", retain=True, n=6),
            ]
            got = await published(twin, context, version, *packets)
            assert got == ([(n, 0) for n in range(1, 7)], "open")
            await asyncio.sleep(1.0)  # of the retained topic
        assert len(twin.messages) == 12
        assert not twin.refused
        assert twin.retained == {"kept": b"x"}


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (pub(SEVEN + "/i"), 144),
        (pub("t" * 257), 144),
        (pub("é" * 129), 144),
        (pub(f"$aws/rules/a_rule/{SEVEN}/i"), 144),
        (pub("$aws/rules/a-rule/t"), 144),
        (pub("$SYS/t"), 144),
        (pub("$aws/things/t/jobs/get"), 144),
        (pub(payload=bytes(128 * 1024 + 1)), 149),
        (pub(payload=bytes(300 * 1024)), 149),
        (pub(qos=2), 155),
    ],
)
async def test_what_is_beyond_hangs_up(authority, context, version, packet, code):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        assert await published(twin, context, version, packet) == ([], code if version == 5 else None)
        assert not twin.messages
        assert twin.refused


async def test_version_5_counts_topic_and_properties_in_the_packet(authority, context):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        assert await published(twin, context, 5, pub("t" * 200, bytes(128 * 1024 - 100))) == ([], 149)
        beside = (("name", "v" * 60_000), ("other", "v" * 60_000))
        assert await published(twin, context, 5, pub(payload=bytes(20_000), user=beside)) == ([], 149)


async def test_a_bad_topic_may_be_answered_instead(authority, context):
    async with AwsIotTwin(authority, limits=QUICK, bad_topic="puback") as twin:
        assert await published(twin, context, 5, pub(SEVEN + "/i"), pub(n=2)) == ([(1, 144), (2, 0)], "open")
        assert await published(twin, context, 4, pub(SEVEN + "/i")) == ([], None)


def allow(*actions_and_resources) -> dict:
    statements = [
        {"Effect": "Allow", "Action": action, "Resource": f"arn:aws:iot:eu-west-1:123456789012:{resource}"}
        for action, resource in actions_and_resources
    ]
    return {"Version": "2012-10-17", "Statement": statements}


CONNECT = ("iot:Connect", "client/${iot:ClientId}")


@pytest.mark.parametrize("reaction", ["puback", "disconnect"])
async def test_the_policy(authority, context, reaction):
    policy = allow(CONNECT, ("iot:Publish", "topic/placeos/*"), ("iot:RetainPublish", "topic/placeos/*/metadata/*"))
    async with AwsIotTwin(authority, limits=QUICK, policy=policy, not_authorised=reaction) as twin:
        good = [pub("placeos/o/state", n=1), pub("placeos/o/metadata/m", retain=True, n=2)]
        assert await published(twin, context, 5, *good) == ([(1, 0), (2, 0)], "open")
        for bad in (pub("other"), pub("placeos/o/state", retain=True)):
            wanted = ([(1, 135)], "open") if reaction == "puback" else ([], 135)
            assert await published(twin, context, 5, bad) == wanted
            assert await published(twin, context, 4, bad) == ([], None)
    assert len(twin.messages) == 2


async def connected(twin, context, connect) -> Connack | None:
    async with Raw(twin.port, context) as raw:
        return await raw.sign_in(connect)


async def test_who_may_connect(authority, context):
    policy = allow(("iot:Connect", "client/device*"))
    async with AwsIotTwin(authority, limits=QUICK, policy=policy) as twin:
        for version in (4, 5):
            assert (await connected(twin, context, Connect(client_id="device-1", version=version))).reason == 0
            other = await connected(twin, context, Connect(client_id="other", version=version))
            assert other.reason == (135 if version == 5 else 7)
        assert (await connected(twin, context, Connect(client_id="device" + "x" * 122))).reason == 0
        assert (await connected(twin, context, Connect(client_id="device" + "x" * 123))).reason == 133
        assert await connected(twin, context, Connect(client_id="device" + "x" * 123, version=4)) is None
        assert (await connected(twin, context, Connect(client_id=""))).reason == 133
        assert await connected(twin, context, Connect(client_id="device", version=3)) is None


async def test_connect_attributes(authority, context):
    policy = allow(("iot:Connect", "client/*"))
    policy["Statement"][0]["Condition"] = {"ForAllValues:StringEquals": {"iot:ConnectAttributes": ["LastWill"]}}
    async with AwsIotTwin(authority, limits=QUICK, policy=policy) as twin:
        assert (await connected(twin, context, Connect(client_id="d", will=Will("t")))).reason == 0
        assert (await connected(twin, context, Connect(client_id="d", clean_start=False))).reason == 135


async def test_one_connect_a_second(authority, context):
    async with AwsIotTwin(authority) as twin:
        assert (await connected(twin, context, Connect(client_id="d"))).reason == 0
        assert (await connected(twin, context, Connect(client_id="d"))).reason == 151
        assert await connected(twin, context, Connect(client_id="d", version=4)) is None
        assert (await connected(twin, context, Connect(client_id="e"))).reason == 0


@pytest.mark.parametrize("version", [4, 5])
async def test_the_newer_connection_takes_the_place(authority, context, version):
    async with AwsIotTwin(authority, limits=QUICK) as twin, Raw(twin.port, context) as older:
        await older.sign_in(Connect(client_id="d", version=version))
        assert (await connected(twin, context, Connect(client_id="d", version=version))).reason == 0
        assert await older.farewell() == (142 if version == 5 else None)


async def test_what_connack_says(authority, context):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        told = (await connected(twin, context, Connect(client_id="d", keep_alive=60))).properties
        assert told == Properties(
            receive_maximum=100,
            maximum_qos=1,
            retain_available=True,
            maximum_packet_size=131_072,
            topic_alias_maximum=8,
            wildcard_subscription_available=True,
            subscription_ids_available=False,
            shared_subscription_available=True,
        )
        for asked, granted in ((0, 1200), (10, 30), (2000, 1200), (30, None), (1200, None)):
            told = (await connected(twin, context, Connect(client_id="d", keep_alive=asked))).properties
            assert told.server_keep_alive == granted
        long = Connect(client_id="d", properties=Properties(session_expiry=30 * 86_400))
        assert (await connected(twin, context, long)).properties.session_expiry == 7 * 86_400


async def test_silence_is_ended_at_one_and_a_half_times_the_keep_alive(authority, context):
    limits = AwsLimits(keep_alive=(0, 1))
    async with AwsIotTwin(authority, limits=limits) as twin, Raw(twin.port, context) as raw:
        await raw.sign_in(Connect(client_id="d", keep_alive=1))
        assert await raw.farewell() == 141


async def test_a_session_is_kept_where_wanted(authority, context):
    keeping = Properties(session_expiry=60)
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        for connect in (
            Connect(client_id="five", clean_start=False, properties=keeping),
            Connect(client_id="four", clean_start=False, version=4),
        ):
            for present in (False, True):
                async with Raw(twin.port, context) as raw:
                    assert (await raw.sign_in(connect)).session_present is present
                await raw.until(lambda: not twin.peers)


@pytest.mark.parametrize("how", ["discard", "puback", "disconnect"])
async def test_the_rate(authority, context, how):
    limits = AwsLimits(connects_per_client=0, publishes=20)
    async with AwsIotTwin(authority, limits=limits, over_rate=how) as twin:
        packets = [pub(n=n) for n in range(1, 41)]
        answers, end = await published(twin, context, 5, *packets, answers=40 if how == "puback" else 20)
        taken = [n for n, reason in answers if reason == 0]
        assert 20 <= len(taken) < 30
        assert taken[:20] == list(range(1, 21))
        assert len(twin.messages) == len(taken)
        if how == "discard":
            assert end == "open"
            assert len(answers) == len(taken)
        elif how == "puback":
            assert end == "open"
            assert [reason for _, reason in answers[len(taken) :]].count(151) == 40 - len(taken)
        else:
            assert end == 151
        await asyncio.sleep(0.3)
        assert (await published(twin, context, 4, *packets, answers=20))[1] == (None if how == "disconnect" else "open")


async def test_what_is_sent_out_counts_towards_the_rate(authority, context):
    limits = AwsLimits(connects_per_client=0, publishes=20)
    async with AwsIotTwin(authority, limits=limits) as twin, Raw(twin.port, context) as raw:
        await raw.sign_in(Connect(client_id="device"))
        await raw.say(Subscribe(1, (Subscription("t", 0),)))
        await raw.say(*(pub(n=n) for n in range(1, 21)))
        await raw.until(lambda: len(twin.messages) + len(twin.refused) >= 20)
        taken = len(twin.messages)
        assert 10 <= taken < 15
        await raw.until(lambda: sum(isinstance(packet, Puback) for packet in raw.heard) == taken)
        assert not raw.closed
        assert sum(isinstance(packet, Publish) for packet in raw.heard) <= taken


async def test_the_throughput_is_slowed_down(authority, context):
    limits = AwsLimits(throughput=200_000)
    async with AwsIotTwin(authority, limits=limits) as twin:
        began = asyncio.get_running_loop().time()
        await published(twin, context, 5, *(pub(payload=bytes(50_000), n=n) for n in range(1, 9)))
        assert asyncio.get_running_loop().time() - began >= 0.7  # 350 kB before the last, of which 200 kB at once
        assert len(twin.messages) == 8


async def test_the_window(authority, context):
    async with AwsIotTwin(authority, limits=AwsLimits(unacknowledged=5, connects_per_client=0)) as twin:
        twin.delay = 0.2
        assert await published(twin, context, 5, *(pub(n=n) for n in range(1, 6))) == (
            [(n, 0) for n in range(1, 6)],
            "open",
        )
        assert (await published(twin, context, 5, *(pub(n=n) for n in range(1, 7))))[1] == 147
        twin.messages.clear()
        answers, end = await published(twin, context, 4, *(pub(n=n) for n in range(1, 8)), answers=5)
        assert (len(answers), end) == (5, "open")  # in 3.1.1 what is above is not taken, and nothing is said


async def test_the_quotas_of_retained_messages(authority, context):
    limits = AwsLimits(connects_per_client=0, retained=2, retained_per_topic=2)
    async with AwsIotTwin(authority, limits=limits) as twin:
        twice = [pub("a", retain=True, n=1), pub("a", retain=True, n=2), pub("a", n=3)]
        assert await published(twin, context, 5, *twice) == ([(1, 0), (2, 151), (3, 0)], "open")
        await asyncio.sleep(0.5)
        more = [pub("b", retain=True, n=1), pub("c", retain=True, n=2), pub("a", b"", retain=True, n=3)]
        assert await published(twin, context, 5, *more) == ([(1, 0), (2, 151), (3, 0)], "open")
        assert twin.retained == {"b": b"x"}
        assert await published(twin, context, 4, pub("c", retain=True), answers=1) == ([(1, 0)], "open")
        assert await published(twin, context, 5, pub("$aws/rules/r/t", retain=True)) == ([(1, 131)], "open")
    per_second = AwsLimits(connects_per_client=0, retained_per_second=3)
    async with AwsIotTwin(authority, limits=per_second) as twin:
        answers, _ = await published(twin, context, 5, *(pub(f"t/{n}", retain=True, n=n) for n in range(1, 7)))
        assert [reason for _, reason in answers] == [0, 0, 0, 151, 151, 151]


async def test_subscriptions(authority, context):
    policy = allow(
        CONNECT, ("iot:Publish", "topic/*"), ("iot:Subscribe", "topicfilter/a/*"), ("iot:Receive", "topic/a/b*")
    )
    async with AwsIotTwin(authority, limits=QUICK, policy=policy) as twin, Raw(twin.port, context) as raw:
        twin.retained["a/b"] = b"kept"
        await raw.sign_in(Connect(client_id="d"))
        wanted = ("a/+", "b/+", "a/b", "a/" + "/".join("x" * 9))
        await raw.say(Subscribe(1, tuple(Subscription(it, 2) for it in wanted)))
        suback, kept = (await raw.answers(2))[:2]
        assert suback == Suback(1, (1, 135, 1, 143))
        assert (kept.topic, kept.payload, kept.retain) == ("a/b", b"kept", True)
        raw.heard.clear()
        await raw.say(pub("a/b", b"new", n=1), pub("a/c", n=2), pub("b/b", n=3))
        heard = await raw.answers(4)
        assert [p.topic for p in heard if isinstance(p, Publish)] == ["a/b"]
        await raw.say(Unsubscribe(2, ("a/+", "never")))
        await raw.until(lambda: raw.heard[-1].packet_id == 2)
        assert raw.heard[-1].reasons == (0, 17)
        await raw.say(Subscribe(3, tuple(Subscription(f"a/{n}") for n in range(9))))
        assert await raw.farewell() == 151


async def test_a_subscription_that_is_not_allowed_ends_a_connection_of_3_1_1(authority, context):
    async with AwsIotTwin(authority, limits=QUICK, policy=allow(CONNECT)) as twin, Raw(twin.port, context) as raw:
        await raw.sign_in(Connect(client_id="d", version=4))
        await raw.say(Subscribe(1, (Subscription("a"),)))
        assert await raw.farewell() is None


async def tls_fails(twin, context, host="localhost") -> bool:
    """Whether the handshake fails, or the connection ends before CONNACK."""
    try:
        async with Raw(twin.port, context, host=host) as raw:
            return await raw.sign_in(Connect(client_id="d")) is None
    except (ssl.SSLError, ConnectionError):
        return True


async def test_certificates_and_server_names(authority, context, tmp_path):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        assert not await tls_fails(twin, context)
        assert await tls_fails(twin, authority.client_context())
        assert await tls_fails(twin, authority.client_context(authority.client("d", valid=timedelta(hours=-1))))
        foreign = Authority(tmp_path).client("d")
        assert await tls_fails(twin, authority.client_context(foreign))
        assert await tls_fails(twin, context, host="127.0.0.1")  # no server name
        assert "the server name is None" in str(twin.reasons)
        assert len(twin.connects) == 1


async def test_a_certificate_that_ends_or_is_deactivated_takes_its_connection_along(authority):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        short = authority.client_context(authority.client("d", valid=timedelta(seconds=1.5)))
        async with Raw(twin.port, short) as raw:
            assert (await raw.sign_in(Connect(client_id="d"))).reason == 0
            await raw.farewell()
        pair = authority.client("e")
        async with Raw(twin.port, authority.client_context(pair)) as raw:
            assert (await raw.sign_in(Connect(client_id="e"))).reason == 0
            twin.deactivate(pair.parsed.serial_number)
            await raw.farewell()
        assert (await connected(twin, authority.client_context(pair), Connect(client_id="e"))).reason == 135


async def test_port_443_goes_by_alpn(authority):
    pair = authority.client("d")

    def speaking(name: str | None, shown=pair) -> ssl.SSLContext:
        made = authority.client_context(shown)
        if name:
            made.set_alpn_protocols([name])
        return made

    async with AwsIotTwin(authority, limits=QUICK, acts_as=443) as twin:
        assert (await connected(twin, speaking("x-amzn-mqtt-ca"), Connect(client_id="d"))).reason == 0
        assert (await connected(twin, speaking("x-amzn-mqtt-ca", None), Connect(client_id="d"))).reason == 135
        assert (await connected(twin, speaking("mqtt"), Connect(client_id="d"))).reason == 135
        assert await connected(twin, speaking(None), Connect(client_id="d")) is None
        assert await connected(twin, speaking("http/1.1"), Connect(client_id="d")) is None


# -- signatures: the example of the AWS General Reference cannot be used, since its service is another one ---------


KEY = {"AKIDEXAMPLE": AccessKey("secret")}
NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


def signed(**change: str) -> Greeting:
    """A request as botocore would sign it, by an implementation of its own."""
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": "AKIDEXAMPLE/20261122/eu-west-1/iotdevicegateway/aws4_request",
        "X-Amz-Date": "20261122T120000Z",
        "X-Amz-SignedHeaders": "host",
    }
    encoded = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(query.items()))
    canonical = f"GET\n/mqtt\n{encoded}\nhost:localhost\n\nhost\n{hashlib.sha256(b'').hexdigest()}"
    text = "\n".join(
        ("AWS4-HMAC-SHA256", "20261122T120000Z", "20261122/eu-west-1/iotdevicegateway/aws4_request",
         hashlib.sha256(canonical.encode()).hexdigest())
    )  # fmt: skip
    key = b"AWS4secret"
    for part in ("20261122", "eu-west-1", "iotdevicegateway", "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    query["X-Amz-Signature"] = hmac.new(key, text.encode(), "sha256").hexdigest()
    query |= change
    path = "/mqtt?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    return Greeting(path=path, headers=(("Host", "localhost"),))


def test_a_right_signature():
    assert verify_sigv4(signed(), KEY, "eu-west-1", now=NOON) == "AKIDEXAMPLE"
    assert verify_sigv4(signed(), KEY, "eu-west-1", now=NOON + timedelta(minutes=4)) == "AKIDEXAMPLE"


@pytest.mark.parametrize(
    ("greeting", "now", "why"),
    [
        (signed(), NOON + timedelta(minutes=6), "expired"),
        (signed(), NOON - timedelta(minutes=6), "not yet current"),
        (signed(**{"X-Amz-Date": "20261122T120001Z"}), NOON, "SignatureDoesNotMatch"),
        (signed(**{"X-Amz-Signature": "0" * 64}), NOON, "SignatureDoesNotMatch"),
        (signed(**{"X-Amz-Algorithm": "none"}), NOON, "not signed"),
        (signed(**{"X-Amz-Security-Token": "t"}), NOON, "session token"),
        (signed(**{"X-Amz-SignedHeaders": ""}), NOON, "host"),
        (signed()._replace(headers=(("Host", "other"),)), NOON, "SignatureDoesNotMatch"),
        (Greeting(path="/mqtt"), NOON, "not signed"),
    ],
)
def test_a_wrong_signature(greeting, now, why):
    with pytest.raises(Refused, match=why):
        verify_sigv4(greeting, KEY, "eu-west-1", now=now)


# -- policies and shadows ------------------------------------------------------------------------------------------


def test_deny_wins_and_nothing_is_allowed_by_itself():
    policy = Policy(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": ["iot:Publish"], "Resource": "arn:aws:iot:*:*:topic/a/*"},
                {"Effect": "Deny", "Action": "iot:*", "Resource": "arn:aws:iot:*:*:topic/a/secret?"},
            ],
        }
    )
    assert policy.allows("iot:Publish", "topic/a/b/c", client_id="d")
    assert not policy.allows("iot:Publish", "topic/a/secret1", client_id="d")
    assert policy.allows("iot:Publish", "topic/a/secret12", client_id="d")
    assert not policy.allows("iot:Subscribe", "topicfilter/a/b", client_id="d")
    assert not policy.allows("iot:Publish", "topic/b", client_id="d")


@pytest.mark.parametrize(
    "document",
    [{}, {"Version": "2012-10-17"}, {"Version": "2012-10-17", "Statement": [{"Effect": "Maybe"}]},
     {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "a", "Resource": "*", "Conditions": {}}}],
)  # fmt: skip
def test_a_policy_that_is_none(document):
    with pytest.raises(ValueError):
        Policy(document)


def test_shadows_are_merged_and_bounded():
    shadows = Shadows(AwsLimits())

    def ask(verb, name=None, **request):
        answer = shadows.ask("t", name, verb, json.dumps(request).encode())
        return answer.accepted, json.loads(answer.body)

    assert ask("get") == (False, ask("get")[1])
    assert ask("get")[1]["code"] == 404
    assert ask("update", state={"reported": {"a": 1, "b": {"c": 2}}}, clientToken="x")[1]["clientToken"] == "x"
    assert ask("update", state={"reported": {"a": None, "b": {"d": 3}}})[1]["version"] == 2
    assert ask("get")[1]["state"] == {"reported": {"b": {"c": 2, "d": 3}}}
    assert ask("update", state={"reported": {"x": "x" * 8192}})[1]["code"] == 413
    deep: dict = {}
    for _ in range(8):
        deep = {"d": deep}
    assert ask("update", state={"reported": deep})[1]["code"] == 400
    assert ask("update", state={"other": 1})[1]["code"] == 400
    assert ask("update", version=1, state={"reported": {}})[1]["code"] == 409
    assert ask("update", name="n" * 65, state={"reported": {}})[1]["code"] == 400
    assert ask("delete")[0]
    assert ask("get")[1]["code"] == 404


async def test_requests_to_a_shadow_in_flight(authority, context):
    limits = AwsLimits(connects_per_client=0, shadow_in_flight=2)
    async with AwsIotTwin(authority, limits=limits) as twin, Raw(twin.port, context) as raw:
        twin.delay = 0.2
        await raw.sign_in(Connect(client_id="d"))
        await raw.say(Subscribe(9, (Subscription("$aws/things/t/shadow/update/+", 0),)))
        update = json.dumps({"state": {"reported": {"a": 1}}}).encode()
        await raw.say(*(pub("$aws/things/t/shadow/update", update, n=n) for n in (1, 2, 3)))
        heard = await raw.answers(9)
    told = [p.topic.rsplit("/", 1)[1] for p in heard if isinstance(p, Publish)]
    assert sorted(told) == ["accepted", "accepted", "documents", "documents", "rejected"]
    assert sum(isinstance(p, Puback) for p in heard) == 3
    assert "too many requests in flight" in twin.reasons


# -- clients that nobody here wrote --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [paho.MQTTv311, paho.MQTTv5])
async def test_paho(authority, protocol):
    pair = authority.client("paho")
    loop, got, connected = asyncio.get_running_loop(), asyncio.Queue(), asyncio.Event()
    client = paho.Client("paho", protocol=protocol)
    client.tls_set_context(authority.client_context(pair))
    client.on_connect = lambda *_: loop.call_soon_threadsafe(connected.set)
    client.on_message = lambda _c, _u, message: loop.call_soon_threadsafe(got.put_nowait, message)
    async with AwsIotTwin(authority, limits=QUICK) as twin, asyncio.timeout(20):
        client.connect_async("localhost", twin.port, keepalive=60)
        client.loop_start()
        try:
            await connected.wait()
            client.subscribe("t/+", 1)
            kept = client.publish("t/kept", b"x", 1, retain=True)
            for n in range(20):
                client.publish(f"t/{n}", b"%d" % n, 1)
            arrived = {(await got.get()).topic for _ in range(21)}
            await asyncio.to_thread(kept.wait_for_publish, 5)
        finally:
            await asyncio.to_thread(client.disconnect)
            await asyncio.to_thread(client.loop_stop)
    assert arrived == {"t/kept"} | {f"t/{n}" for n in range(20)}
    assert twin.retained == {"t/kept": b"x"}
    assert len(twin.messages) == 21


async def test_the_sdk_in_3_1_1(authority):
    pair = authority.client("old")
    async with AwsIotTwin(authority, limits=QUICK) as twin, asyncio.timeout(20):
        tls = awscrt.io.TlsContextOptions.create_client_with_mtls_from_path(
            str(pair.certificate), str(pair.private_key)
        )
        tls.override_default_trust_store_from_path(None, str(authority.ca))
        connection = awscrt.mqtt.Connection(
            client=awscrt.mqtt.Client(tls_ctx=awscrt.io.ClientTlsContext(tls)),
            host_name="localhost", port=twin.port, client_id="old", disable_metrics=True,
        )  # fmt: skip
        await asyncio.wrap_future(connection.connect())
        for n in range(5):
            done, _ = connection.publish(f"t/{n}", b"x", awscrt.mqtt.QoS.AT_LEAST_ONCE)
            await asyncio.wrap_future(done)
        assert twin.peers["old"].version == 4
        await asyncio.wrap_future(connection.disconnect())
    assert len(twin.messages) == 5
