"""The Pub/Sub twin is as strict as the service, and Google's own clients connect to it unmodified."""

from __future__ import annotations

import asyncio
import time

import grpc
import pytest
from google.api_core import exceptions
from google.cloud import pubsub_v1
from google.oauth2 import service_account
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import pubsub
from hypothesis import given
from hypothesis import strategies as st
from tests.support.intake import until
from tests.support.pubsub import EMAIL, TOPIC, cloud

from northbound.testing.twins import pubsub_limits as limits
from northbound.testing.twins.pubsub import PubSubTwin
from northbound.testing.twins.pubsub_filters import parse_filter
from northbound.testing.twins.pubsub_topics import Bucket, Published, Subscription

Request, Message = pubsub.PublishRequest.pb(), pubsub.PubsubMessage.pb()
SUBSCRIPTION = "projects/acme/subscriptions/reader"


@pytest.fixture
async def gcp(tmp_path):
    async with cloud(tmp_path) as made:
        made.twin.grant(made.topic, EMAIL, "roles/pubsub.subscriber")
        yield made


class Clients:
    """Google's clients, the high-level publisher with its own batching included; closed at the end."""

    def __init__(self, gcp, *, self_signed: bool) -> None:
        scopes = None if self_signed else ["https://www.googleapis.com/auth/pubsub"]
        credentials = service_account.Credentials.from_service_account_info(gcp.key, scopes=scopes)
        settings = {
            "host": gcp.twin.endpoint,
            "credentials": credentials,
            "ssl_channel_credentials": grpc.ssl_channel_credentials(gcp.ca_file.read_bytes()),
            "always_use_jwt_access": self_signed,
        }
        options = pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
        self._transports = PublisherGrpcTransport(**settings), SubscriberGrpcTransport(**settings)
        self.publisher = pubsub_v1.PublisherClient(publisher_options=options, transport=self._transports[0])
        self.subscriber = pubsub_v1.SubscriberClient(transport=self._transports[1])

    def close(self) -> None:
        self.publisher.stop()
        for transport in self._transports:
            transport.close()


@pytest.mark.parametrize("self_signed", [True, False])
async def test_googles_clients_publish_and_read_in_order(gcp, self_signed):
    def work() -> list[bytes]:
        clients = Clients(gcp, self_signed=self_signed)
        try:
            clients.subscriber.create_subscription(
                request={
                    "name": SUBSCRIPTION,
                    "topic": TOPIC,
                    "enable_message_ordering": True,
                    "filter": 'attributes.building = "b1" AND NOT attributes:retain',
                }
            )
            futures = [
                clients.publisher.publish(
                    TOPIC, b"%d" % n, ordering_key="k", building="b1", **({"retain": "true"} if n % 3 == 0 else {})
                )
                for n in range(60)
            ]
            assert len({future.result(20) for future in futures}) == 60
            read = []
            while len(read) < 40:
                answer = clients.subscriber.pull(request={"subscription": SUBSCRIPTION, "max_messages": 7}, timeout=10)
                read += [received.message.data for received in answer.received_messages]
                ids = [received.ack_id for received in answer.received_messages]
                clients.subscriber.acknowledge(request={"subscription": SUBSCRIPTION, "ack_ids": ids})
        finally:
            clients.close()
        return read

    assert [int(data) for data in await asyncio.to_thread(work)] == [n for n in range(60) if n % 3]
    assert bool(gcp.tokens.calls) is not self_signed


async def test_googles_subscriber_reads_a_stream(gcp):
    def work() -> list[bytes]:
        clients, read = Clients(gcp, self_signed=True), []
        try:
            clients.subscriber.create_subscription(
                request={"name": SUBSCRIPTION, "topic": TOPIC, "enable_message_ordering": True}
            )

            def take(message) -> None:
                read.append(message.data)
                message.ack()

            pulling = clients.subscriber.subscribe(SUBSCRIPTION, take)
            for n in range(50):
                clients.publisher.publish(TOPIC, b"%d" % n, ordering_key="k")
            waited = time.monotonic() + 20
            while len(read) < 50 and time.monotonic() < waited:
                time.sleep(0.02)
            pulling.cancel()
            pulling.result()
        finally:
            clients.close()
        return read

    assert [int(data) for data in await asyncio.to_thread(work)] == list(range(50))
    await until(lambda: not gcp.twin.subscriptions[SUBSCRIPTION].pull(100, float("inf")))


async def test_googles_publisher_pauses_a_key_whose_batch_is_refused(gcp):
    def work() -> list[type[BaseException] | None]:
        clients = Clients(gcp, self_signed=True)
        try:
            futures = [clients.publisher.publish(TOPIC, b"x", ordering_key="k", bad="v" * 2000) for _ in range(2)]
            return [type(future.exception(20)) for future in futures]
        finally:
            clients.close()

    assert await asyncio.to_thread(work) == [exceptions.InvalidArgument] * 2
    assert gcp.topic.messages == []


async def test_what_nobody_may(gcp):
    def work() -> list[str]:
        clients = Clients(gcp, self_signed=True)
        publisher, subscriber = clients.publisher, clients.subscriber
        found = []
        for call in (
            lambda: publisher.get_topic(topic=TOPIC, retry=None),
            lambda: publisher.create_topic(name="projects/acme/topics/new", retry=None),
            lambda: subscriber.pull(subscription=SUBSCRIPTION, max_messages=1, retry=None),
            lambda: subscriber.create_subscription(name=SUBSCRIPTION, topic="projects/acme/topics/none", retry=None),
            lambda: subscriber.create_subscription(name="projects/acme/subscriptions/x", topic=TOPIC, retry=None),
            lambda: subscriber.create_subscription(
                request={"name": SUBSCRIPTION, "topic": TOPIC, "filter": "building = 1"}, retry=None
            ),
        ):
            try:
                call()
                found.append("done")
            except exceptions.GoogleAPICallError as error:
                found.append(error.grpc_status_code.name)
        clients.close()
        return found

    assert await asyncio.to_thread(work) == [
        "PERMISSION_DENIED", "PERMISSION_DENIED", "NOT_FOUND", "NOT_FOUND", "INVALID_ARGUMENT", "INVALID_ARGUMENT",
    ]  # fmt: skip


async def test_no_token_and_a_token_of_nobody(gcp):
    ssl = grpc.ssl_channel_credentials(gcp.ca_file.read_bytes())
    async with grpc.aio.secure_channel(gcp.twin.endpoint, ssl) as channel:
        call = channel.unary_unary(
            "/google.pubsub.v1.Publisher/Publish", Request.SerializeToString, pubsub.PublishResponse.pb().FromString
        )
        request = Request(topic=TOPIC, messages=[Message(data=b"x")])
        said = []
        for metadata in ((), (("authorization", "Basic x"),), (("authorization", "Bearer ya29.guess"),)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(request, metadata=metadata)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            said.append(str(caught.value.details()).split(".")[0])
    assert said == ["Request is missing required authentication credential"] * 2 + [
        "Request had invalid authentication credentials"
    ]
    assert gcp.topic.messages == []


async def test_over_a_rate_it_says_how_long_to_wait():
    async with PubSubTwin() as twin, grpc.aio.insecure_channel(twin.endpoint) as channel:
        topic = twin.create_topic(TOPIC)
        call = channel.unary_unary(
            "/google.pubsub.v1.Publisher/Publish", Request.SerializeToString, pubsub.PublishResponse.pb().FromString
        )
        large = Request(topic=TOPIC, messages=[Message(data=b"x" * 3_000_000, ordering_key="k")])
        await call(large)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(large)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "google.rpc.RetryInfo" in str(dict(caught.value.trailing_metadata()))
        large.messages[0].ClearField("ordering_key")  # no key, no rate of a key
        await call(large)
        assert topic.requests == [1, 1]


def refused(messages=None, **changes) -> str | None:
    if messages is None:
        messages = [Message(**{"data": b"x", **changes})]
    return limits.request_problem(Request(topic=TOPIC, messages=messages))


def test_each_limit_holds_to_the_byte():
    assert refused() is None
    assert refused(attributes={"a": "v" * 1024}) is None
    assert "length is 1025" in str(refused(attributes={"a": "v" * 1025}))
    assert "length is 1026" in str(refused(attributes={"a": "é" * 513}))  # bytes, whatever the words say
    assert refused(attributes={"k" * 256: ""}) is None
    assert "length is 257" in str(refused(attributes={"k" * 257: ""}))
    assert refused(attributes={f"a{n}": "" for n in range(100)}) is None
    assert "attribute_count" in str(refused(attributes={f"a{n}": "" for n in range(101)}))
    assert "reserved" in str(refused(attributes={"googclient": ""}))
    assert "empty key" in str(refused(attributes={"": "x"}))
    assert refused(ordering_key="k" * 1024) is None
    assert "ordering_key" in str(refused(ordering_key="k" * 1025))
    assert "must not be set" in str(refused(message_id="1"))
    assert refused(messages=[Message(attributes={"a": ""})]) is None
    assert "is empty" in str(refused(messages=[Message()]))
    assert "no messages" in str(refused(messages=[]))
    assert "same ordering key" in str(refused(messages=[Message(data=b"x", ordering_key=key) for key in "ab"]))
    assert refused(messages=[Message(data=b"x")] * 1000) is None
    assert "You passed 1001" in str(refused(messages=[Message(data=b"x")] * 1001))
    overhead = Request(topic=TOPIC, messages=[Message(data=b"x" * 9_000_000)]).ByteSize() - 9_000_000
    assert refused(data=b"x" * (10_000_000 - overhead)) is None
    assert "You passed 10000001" in str(refused(data=b"x" * (10_000_001 - overhead)))


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("projects/p/topics/abc", True),
        ("projects/p/topics/" + "a" * 255, True),
        ("projects/p/topics/a-_.~+%1", True),
        ("projects/p/topics/ab", False),
        ("projects/p/topics/" + "a" * 256, False),
        ("projects/p/topics/1bc", False),
        ("projects/p/topics/google", False),
        ("projects/p/topics/a/b", False),
        ("projects/p/subscriptions/abc", False),
        ("abc", False),
    ],
)
def test_names(name, good):
    assert (limits.name_problem(name, "topics") is None) is good


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", True),
        ("attributes:topic", True),
        ("attributes:nothing", False),
        ("NOT attributes:nothing", True),
        ("-attributes:topic", False),
        ('attributes.building = "bld-1"', True),
        ('attributes.building="bld-2"', False),
        ('attributes.nothing != "x"', True),
        ('hasPrefix(attributes.topic, "placeos/")', True),
        ('hasPrefix(attributes.nothing, "")', False),
        ('attributes.kind = "state" AND attributes.building = "bld-1"', True),
        ('attributes.kind = "metadata" OR attributes.building = "bld-1"', True),
        ('attributes.kind = "metadata" OR (attributes.building = "bld-1" AND NOT attributes:retain)', True),
        (r'attributes."odd key" = "a\"b"', True),
    ],
)
def test_filters(text, passes):
    attributes = {"topic": "placeos/o/state", "building": "bld-1", "kind": "state", "odd key": 'a"b'}
    assert parse_filter(text)(attributes) is passes


@pytest.mark.parametrize(
    "text",
    [
        "building",
        "attributes.building",
        "attributes.building = bld",
        'attributes.a = "1" AND',
        "NOT",
        "(attributes:a",
        'attributes.a = "1" AND attributes.b = "2" OR attributes:c',
        "attributes:",
        "attributes.a > 1",
        'hasPrefix("a", "b")',
        "attributes:a attributes:b",
        f'attributes.a = "{"x" * 250}"',
        'attributes:"',
        "\0",
    ],
)
def test_what_is_no_filter(text):
    with pytest.raises(ValueError, match=r"\w"):
        parse_filter(text)


@given(st.text(alphabet='attributes.:=!"() ANDORNOThasPrefix,-x\\', max_size=60))
def test_any_text_is_a_filter_or_refused(text):
    try:
        predicate = parse_filter(text)
    except ValueError:
        return
    assert predicate({"x": "1"}) in (True, False)


def stored(n: int, key: str = "k") -> Published:
    return Published(str(n), b"", {}, key, 0.0, "")


def test_an_ordered_subscription_waits_for_what_is_leased():
    subscription = Subscription(TOPIC, "", ordered=True, ack_seconds=10)
    for n, key in enumerate("aabbc"):
        subscription.put(stored(n, key))
    assert [m.message_id for m in subscription.pull(1, 0.0)] == ["0"]
    assert [m.message_id for m in subscription.pull(10, 1.0)] == ["2", "3", "4"]  # "1" stands behind "0"
    subscription.acknowledge(["0", "2", "nobody"])
    assert [m.message_id for m in subscription.pull(10, 2.0)] == ["1"]
    assert subscription.pull(10, 3.0) == []
    subscription.lease(["4"], 0, 3.0)
    assert [m.message_id for m in subscription.pull(10, 3.1)] == ["4"]
    assert [m.message_id for m in subscription.pull(10, 20.0)] == ["1", "3", "4"]  # nobody acknowledged in time


def test_a_bucket_lets_through_until_it_is_in_debt():
    now = 0.0
    bucket = Bucket(100.0, clock=lambda: now)
    assert bucket.take(250) == 0
    assert bucket.take(1) == pytest.approx(1.5)
    now = 1.6
    assert bucket.take(1) == 0
