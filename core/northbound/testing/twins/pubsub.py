"""A twin of Google Cloud Pub/Sub: gRPC, its sign-in, its permissions, its limits. Needs ``northbound[gcp]``.

    accounts = GoogleAccounts()
    async with PubSubTwin(accounts) as twin:
        topic = twin.create_topic("projects/acme/topics/building")
        twin.grant(topic, "bridge@acme.iam.gserviceaccount.com", "roles/pubsub.publisher")

It listens on a free loopback port: with TLS where a certificate is given, in plain text otherwise, as the emulator
does. Without ``accounts`` it is an emulator: nobody signs in. Google's own clients connect to it unmodified. Faults are
put in with :meth:`fail`, :meth:`stall`, :meth:`hang_up` and :meth:`limit`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, deque
from typing import Any, Final, NamedTuple, NoReturn, Self

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the C core writes every GOAWAY to stderr

import grpc
from google.iam.v1 import iam_policy_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1 import types
from google.rpc import error_details_pb2, status_pb2

from northbound.testing.twins.google_accounts import GoogleAccounts, Refused
from northbound.testing.twins.pubsub_limits import MAX_REQUEST_BYTES, name_problem, request_problem
from northbound.testing.twins.pubsub_topics import PUBLISH, ROLES, Bucket, Published, Subscription, Topic

#: The audience of a self-signed JWT for this API, whatever endpoint it is sent to (AIP-4111).
AUDIENCE: Final = "https://pubsub.googleapis.com/"
#: How long a pull waits for the first message. The service says only "a bounded amount of time".
PULL_SECONDS: Final = 0.5
_EMULATED: Final = "anonymous"
#: The service's words for UNAUTHENTICATED (googleapis/java-pubsub#1438) …
_MISSING = (
    "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other valid "
    "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
)
_INVALID = _MISSING.replace("is missing required authentication credential", "had invalid authentication credentials")
#: … and a quota's (GoogleCloudPlatform/pubsub#245).
_QUOTA = (
    "Quota exceeded for quota metric 'Regional publisher throughput, kB' and limit 'Regional publisher throughput, kB "
    "per minute per region' of service 'pubsub.googleapis.com' for consumer 'project_number:123456789'."
)
Code = grpc.StatusCode


class Fault(NamedTuple):
    """What happens to a publish request instead of, or ``after``, being served."""

    code: Any
    words: str
    retry_after: float | None
    after: bool


class PubSubTwin:
    """The service on one loopback port.

    ``certificate`` is (private key, chain), PEM. With ``connection_seconds`` it closes connections of that age in good
    order, as Google's front ends do now and then. ``calls`` counts by method, ``refusals`` by code.
    """

    def __init__(
        self,
        accounts: GoogleAccounts | None = None,
        *,
        certificate: tuple[bytes, bytes] | None = None,
        port: int = 0,
        connection_seconds: float | None = None,
    ) -> None:
        self.accounts = accounts
        self.port = port
        self.topics: dict[str, Topic] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.calls: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.hangups = 0
        self._certificate = certificate
        self._connection_seconds = connection_seconds
        self._faults: deque[Fault] = deque()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._arrived = asyncio.Condition()
        self._quota: Bucket | None = None
        self._ids = 0
        self._server: Any = None

    @property
    def endpoint(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._flowing.set()
        await self._server.stop(0)

    async def _start(self) -> None:
        # One listener per port, so that what was hung up is really gone; requests up to a little over the limit are
        # read, so that the refusal is the service's and not the transport's.
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 2 * MAX_REQUEST_BYTES)]
        if self._connection_seconds is not None:
            options.append(("grpc.max_connection_age_ms", int(self._connection_seconds * 1000)))
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers(tuple(self._handlers()))
        if self._certificate is None:
            self.port = server.add_insecure_port(self.endpoint)
        else:
            self.port = server.add_secure_port(self.endpoint, grpc.ssl_server_credentials([self._certificate]))
        await server.start()
        self._server = server

    # what an administrator does

    def create_topic(self, name: str) -> Topic:
        """Make a topic, ``projects/…/topics/…``; raises ``ValueError`` where that is no name."""
        if problem := name_problem(name, "topics"):
            raise ValueError(problem)
        return self.topics.setdefault(name, Topic(name))

    def grant(self, topic: Topic, principal: str, role: str) -> None:
        """Give ``principal`` a role on one topic."""
        if role not in ROLES:
            raise ValueError(f"no such role here: {role}")
        topic.members.setdefault(principal, set()).add(role)

    def deny(self, topic: Topic, principal: str) -> None:
        """Take all roles from ``principal``."""
        topic.members.pop(principal, None)

    # faults

    def fail(
        self,
        code: Any = Code.UNAVAILABLE,
        words: str = "The service was unable to fulfill your request. Please try again. [code=8a75]",
        *,
        times: int = 1,
        retry_after: float | None = None,
        after: bool = False,
    ) -> None:
        """Answer the next publish requests with ``code``; ``after``: they were taken all the same."""
        self._faults.extend([Fault(code, words, retry_after, after)] * times)

    def stall(self) -> None:
        """Take requests and answer none."""
        self._flowing.clear()

    def flow(self) -> None:
        """Answer again."""
        self._flowing.set()

    def limit(self, messages_per_second: float | None) -> None:
        """Set the quota of the region, here in messages a second; what is over it is RESOURCE_EXHAUSTED."""
        self._quota = None if messages_per_second is None else Bucket(messages_per_second)

    async def hang_up(self) -> None:
        """Drop every connection and everything under way, as a failing front end does; then listen again."""
        self.hangups += 1
        await self._server.stop(0)
        self._flowing.set()
        await self._start()

    # the services

    def _handlers(self) -> list[Any]:
        t, iam = types, iam_policy_pb2
        publisher = {
            "Publish": (self._publish, t.PublishRequest.pb(), t.PublishResponse.pb()),
            "CreateTopic": (self._create_topic, t.Topic.pb(), t.Topic.pb()),
            "GetTopic": (self._get_topic, t.GetTopicRequest.pb(), t.Topic.pb()),
        }
        subscriber = {
            "CreateSubscription": (self._subscribe, t.Subscription.pb(), t.Subscription.pb()),
            "Pull": (self._pull, t.PullRequest.pb(), t.PullResponse.pb()),
            "Acknowledge": (self._acknowledge, t.AcknowledgeRequest.pb(), Empty),
            "ModifyAckDeadline": (self._lease, t.ModifyAckDeadlineRequest.pb(), Empty),
        }
        policy = {
            "TestIamPermissions": (self._test, iam.TestIamPermissionsRequest, iam.TestIamPermissionsResponse),
        }
        services: dict[str, dict[str, tuple[Any, Any, Any]]] = {
            "google.pubsub.v1.Publisher": publisher,
            "google.pubsub.v1.Subscriber": subscriber,
            "google.iam.v1.IAMPolicy": policy,
        }
        handlers = {
            service: {
                name: grpc.unary_unary_rpc_method_handler(
                    self._counted(name, function), request.FromString, response.SerializeToString
                )
                for name, (function, request, response) in methods.items()
            }
            for service, methods in services.items()
        }
        handlers["google.pubsub.v1.Subscriber"]["StreamingPull"] = grpc.stream_stream_rpc_method_handler(
            self._counted("StreamingPull", self._stream),
            t.StreamingPullRequest.pb().FromString,
            t.StreamingPullResponse.pb().SerializeToString,
        )
        return [grpc.method_handlers_generic_handler(service, methods) for service, methods in handlers.items()]

    def _counted(self, name: str, function: Any) -> Any:
        async def call(request: Any, context: Any) -> Any:
            self.calls[name] += 1
            return await function(request, context, await self._principal(context))

        return call

    async def _refuse(self, context: Any, code: Any, words: str, *details: Any) -> NoReturn:
        self.refusals[code.name] += 1
        trailers: tuple[tuple[str, bytes], ...] = ()
        if details:
            status = status_pb2.Status(code=code.value[0], message=words)
            for detail in details:
                status.details.add().Pack(detail)
            trailers = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(code, words, trailers)
        raise AssertionError("abort raises")

    async def _principal(self, context: Any) -> str:
        if self.accounts is None:
            return _EMULATED
        given = dict(context.invocation_metadata()).get("authorization", "")
        scheme, _, token = str(given).partition(" ")
        if scheme.lower() != "bearer" or not token:
            await self._refuse(context, Code.UNAUTHENTICATED, _MISSING)
        try:
            return self.accounts.principal(token, AUDIENCE)
        except Refused as refusal:
            reason = error_details_pb2.ErrorInfo(reason=refusal.error, domain="googleapis.com")
            if refusal.error == "ACCESS_TOKEN_SCOPE_INSUFFICIENT":
                await self._refuse(context, Code.PERMISSION_DENIED, refusal.words, reason)
            await self._refuse(context, Code.UNAUTHENTICATED, _INVALID, reason)

    async def _topic(self, context: Any, name: str, principal: str, permission: str) -> Topic:
        if problem := name_problem(name, "topics"):
            await self._refuse(context, Code.INVALID_ARGUMENT, problem)
        topic = self.topics.get(name)
        if topic is None:
            short = name.rpartition("/")[2]
            await self._refuse(context, Code.NOT_FOUND, f"Resource not found (resource={short}).")
        if self.accounts is not None and permission not in topic.permissions(principal):
            await self._refuse(context, Code.PERMISSION_DENIED, "User not authorized to perform this action.")
        return topic

    async def _publish(self, request: Any, context: Any, principal: str) -> Any:
        await self._flowing.wait()
        fault = self._faults.popleft() if self._faults else None
        if fault is not None and not fault.after:
            await self._fail_with(context, fault)
        topic = await self._topic(context, request.topic, principal, PUBLISH)
        problem = request_problem(request) or topic.schema_problem(request.messages)
        if problem:
            await self._refuse(context, Code.INVALID_ARGUMENT, problem)
        await self._check_rates(context, topic, request)
        response = types.PublishResponse.pb()()
        now = time.time()
        for message in request.messages:
            self._ids += 1
            stored = Published(
                str(self._ids), message.data, dict(message.attributes), message.ordering_key, now, principal
            )
            topic.messages.append(stored)
            response.message_ids.append(stored.message_id)
            for subscription in self.subscriptions.values():
                if subscription.topic == topic.name:
                    subscription.put(stored)
        topic.requests.append(len(request.messages))
        async with self._arrived:
            self._arrived.notify_all()
        if fault is not None:
            await self._fail_with(context, fault)
        return response

    async def _fail_with(self, context: Any, fault: Fault) -> NoReturn:
        details = [] if fault.retry_after is None else [_retry_info(fault.retry_after)]
        await self._refuse(context, fault.code, fault.words, *details)

    async def _check_rates(self, context: Any, topic: Topic, request: Any) -> None:
        pause = self._quota.take(len(request.messages)) if self._quota is not None else 0.0
        pause = pause or topic.key_pause(request.messages[0].ordering_key, request.ByteSize())
        if pause:
            reason = error_details_pb2.ErrorInfo(reason="RATE_LIMIT_EXCEEDED", domain="googleapis.com")
            await self._refuse(context, Code.RESOURCE_EXHAUSTED, _QUOTA, reason, _retry_info(pause))

    async def _create_topic(self, request: Any, context: Any, _principal: str) -> Any:
        if self.accounts is not None:  # here nobody has a role on the project, only on topics
            await self._refuse(context, Code.PERMISSION_DENIED, "User not authorized to perform this action.")
        if problem := name_problem(request.name, "topics"):
            await self._refuse(context, Code.INVALID_ARGUMENT, problem)
        self.create_topic(request.name)
        return request

    async def _get_topic(self, request: Any, context: Any, principal: str) -> Any:
        topic = await self._topic(context, request.topic, principal, "pubsub.topics.get")
        return types.Topic.pb()(name=topic.name)

    async def _test(self, request: Any, context: Any, principal: str) -> Any:
        if self.accounts is None:  # the emulator knows no permissions (seen with its version 0.8.20)
            await self._refuse(context, Code.UNIMPLEMENTED, "")
        # "If the resource does not exist, this will return an empty set of permissions, not a NOT_FOUND error": the
        # reference of TestIamPermissions
        topic = self.topics.get(request.resource)
        held = topic.permissions(principal) if topic is not None else frozenset()
        return iam_policy_pb2.TestIamPermissionsResponse(permissions=[p for p in request.permissions if p in held])

    async def _subscribe(self, request: Any, context: Any, principal: str) -> Any:
        if problem := name_problem(request.name, "subscriptions"):
            await self._refuse(context, Code.INVALID_ARGUMENT, problem)
        if request.name in self.subscriptions:
            short = request.name.rpartition("/")[2]
            await self._refuse(
                context, Code.ALREADY_EXISTS, f"Resource already exists in the project (resource={short})."
            )
        topic = await self._topic(context, request.topic, principal, "pubsub.topics.attachSubscription")
        # 10 to 600 seconds, 10 where none is given: the reference of Subscription.ack_deadline_seconds
        seconds = request.ack_deadline_seconds or 10
        if not 10 <= seconds <= 600:
            await self._refuse(context, Code.INVALID_ARGUMENT, "The value for ack_deadline_seconds is out of range.")
        try:
            made = Subscription(
                topic.name, request.filter, ordered=request.enable_message_ordering, ack_seconds=float(seconds)
            )
        except ValueError as error:
            await self._refuse(context, Code.INVALID_ARGUMENT, str(error))
        self.subscriptions[request.name] = made
        return request

    async def _subscription(self, context: Any, name: str, principal: str) -> Subscription:
        found = self.subscriptions.get(name)
        if found is None:
            short = name.rpartition("/")[2]
            await self._refuse(context, Code.NOT_FOUND, f"Resource not found (resource={short}).")
        await self._topic(context, found.topic, principal, "pubsub.subscriptions.consume")
        return found

    async def _pull(self, request: Any, context: Any, principal: str) -> Any:
        subscription = await self._subscription(context, request.subscription, principal)
        # "Must be a positive integer", and no more than 1,000 come at once: the reference of PullRequest.max_messages
        if request.max_messages <= 0:
            await self._refuse(context, Code.INVALID_ARGUMENT, "The value for max_messages is too small.")
        most = min(1000, request.max_messages)
        found = await self._wait_for(subscription, most)
        response = types.PullResponse.pb()()
        _hand_over(response.received_messages, found)
        return response

    async def _stream(self, requests: Any, context: Any, principal: str) -> None:
        """Serve a streaming pull, with which ``SubscriberClient.subscribe`` reads; it acknowledges by other calls."""
        first = await anext(aiter(requests))
        # 10 to 600 seconds: the reference of StreamingPullRequest.stream_ack_deadline_seconds
        if not 10 <= first.stream_ack_deadline_seconds <= 600:
            await self._refuse(context, Code.INVALID_ARGUMENT, "stream_ack_deadline_seconds is out of range.")
        subscription = await self._subscription(context, first.subscription, principal)
        # 0 means no bound: the reference of max_outstanding_messages; here the size of one response
        most = min(1000, first.max_outstanding_messages or 1000)
        while not context.done():
            found = await self._wait_for(subscription, most)
            response = types.StreamingPullResponse.pb()()
            response.subscription_properties.message_ordering_enabled = subscription.ordered
            _hand_over(response.received_messages, found)
            if found:
                await context.write(response)

    async def _wait_for(self, subscription: Subscription, most: int) -> list[Published]:
        """Return messages of a subscription, after a while none."""
        deadline = time.monotonic() + PULL_SECONDS
        found = subscription.pull(most, time.monotonic())
        while not found and (left := deadline - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left), self._arrived:
                    await self._arrived.wait()
            except TimeoutError:
                break
            found = subscription.pull(most, time.monotonic())
        return found

    async def _acknowledge(self, request: Any, context: Any, principal: str) -> Any:
        subscription = await self._subscription(context, request.subscription, principal)
        subscription.acknowledge(request.ack_ids)
        return Empty()

    async def _lease(self, request: Any, context: Any, principal: str) -> Any:
        subscription = await self._subscription(context, request.subscription, principal)
        subscription.lease(request.ack_ids, float(request.ack_deadline_seconds), time.monotonic())
        return Empty()


def _hand_over(received: Any, found: list[Published]) -> None:
    for stored in found:
        message = received.add(ack_id=stored.message_id).message
        message.message_id, message.data, message.ordering_key = stored.message_id, stored.data, stored.ordering_key
        message.attributes.update(stored.attributes)
        message.publish_time.FromNanoseconds(int(stored.published * 1e9))


def _retry_info(seconds: float) -> Any:
    delay = Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)
