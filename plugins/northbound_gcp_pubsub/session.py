"""One connection to Pub/Sub: a gRPC channel, the SDK's client on it, and calls whose failures are in our types."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the C core writes every GOAWAY to stderr; what matters is raised

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.iam.v1 import iam_policy_pb2
from google.pubsub_v1.services.publisher import PublisherAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.types import pubsub

from northbound import NotConnected, Unauthorised, Unavailable
from northbound_gcp_pubsub.answers import in_our_types
from northbound_gcp_pubsub.attributes import Place
from northbound_gcp_pubsub.options import PubSubOptions
from northbound_gcp_pubsub.tokens import SOMEBODY, Tokens

PUBLISH: Final = "pubsub.topics.publish"
#: How long a connection that the service closed in good order may take to stand again, before it counts as lost.
_AGAIN_SECONDS: Final = 3.0
#: Answers to a question for permissions that still show that somebody is there: the emulator does not know the
#: question, and an organisation's policy may forbid it.
_ANSWERED: Final = frozenset((grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.PERMISSION_DENIED))
_State = grpc.ChannelConnectivity

# At the level debug the SDK's transport writes payloads and the token into a log.
for _name in ("grpc_asyncio", "grpc"):
    logging.getLogger(f"google.pubsub_v1.services.publisher.transports.{_name}").setLevel(logging.INFO)

PublishRequest, PubsubMessage = pubsub.PublishRequest.pb(), pubsub.PubsubMessage.pb()


class Session:
    """A connection. ``tokens`` is ``None`` for the emulator."""

    def __init__(self, options: PubSubOptions, tokens: Tokens | None) -> None:
        self._topic = options.topic_name
        self._tokens = tokens
        self._ack_seconds = options.ack_timeout.total_seconds()
        self._channel = _channel(options)
        self._client = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=self._channel))

    @property
    def _principal(self) -> str:
        return SOMEBODY if self._tokens is None else self._tokens.principal

    async def permitted(self, seconds: float) -> bool | None:
        """Ask whether we may publish; ``None`` where the destination does not say. So it is known that it answers.

        Every account may ask, for every topic, even one that is not there: the reference of TestIamPermissions.
        Raises :class:`NotConnected` and :class:`Unauthorised`.
        """
        request = iam_policy_pb2.TestIamPermissionsRequest(resource=self._topic, permissions=[PUBLISH])
        try:
            answer = await self._call(self._client.test_iam_permissions, request, seconds)
        except GoogleAPICallError as error:
            if error.grpc_status_code in _ANSWERED:
                return None
            known = in_our_types(error, self._topic, self._principal, connected=False)
            if isinstance(known, Unauthorised):
                raise known from None
            if error.grpc_status_code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise NotConnected(f"no answer within {seconds:g} s") from None
            raise NotConnected(str(known)) from None
        return PUBLISH in answer.permissions

    async def publish(self, messages: Sequence[tuple[Place, bytes, dict[str, str]]], ordering_key: str) -> None:
        """Publish one request, of (place, data, attributes beside the place's).

        Returns when all of it is acknowledged; raises as ``send``.
        """
        request = PublishRequest(topic=self._topic)
        add = request.messages.add
        for place, data, own in messages:
            if not place.encoded:
                place.encoded = PubsubMessage(attributes=place.attributes).SerializeToString()
            message = add(data=data, ordering_key=ordering_key)
            message.MergeFromString(place.encoded)
            attributes = message.attributes
            for name, value in own.items():
                attributes[name] = value
        # wrapped, not copied as the SDK does with what it is given otherwise
        wrapped = pubsub.PublishRequest.wrap(request)
        try:
            answer = await self._call(self._client.publish, wrapped, self._ack_seconds)
        except GoogleAPICallError as error:
            # of its own ping gRPC may say that it failed before it says that the connection is gone
            connected = self._channel.get_state() is _State.READY and "ping timeout" not in str(error)
            raise in_our_types(error, self._topic, self._principal, connected=connected) from None
        if len(answer.message_ids) != len(messages):
            raise Unavailable(f"Pub/Sub acknowledged {len(answer.message_ids)} of {len(messages)} messages")

    async def lost(self) -> None:
        """Wait until the connection is lost; raises :class:`NotConnected`.

        The service closes connections in good order, now and then: gRPC opens a new one, and that is no loss.
        """
        while True:
            state = self._channel.get_state(try_to_connect=True)
            if state is _State.READY:
                await self._channel.wait_for_state_change(state)
                continue
            try:
                async with asyncio.timeout(_AGAIN_SECONDS):
                    while (state := self._channel.get_state(try_to_connect=True)) is not _State.READY:
                        if state in (_State.TRANSIENT_FAILURE, _State.SHUTDOWN):
                            raise NotConnected("the connection was lost")
                        await self._channel.wait_for_state_change(state)
            except TimeoutError:
                raise NotConnected("the connection was lost, and a new one does not come about") from None

    async def close(self) -> None:
        """Close the connection; what is under way fails."""
        await self._channel.close()

    async def _call(self, method: Callable[..., Awaitable[Any]], request: Any, seconds: float) -> Any:
        """Call ``method``, once more with another token where the service refuses this one.

        A token that was good when it was fetched may be refused all the same: revoked, or by a clock that is ahead.
        """
        if self._tokens is None:
            return await self._once(method, request, seconds, ())
        token = await self._tokens.get()
        try:
            return await self._once(method, request, seconds, (("authorization", f"Bearer {token}"),))
        except GoogleAPICallError as error:
            if error.grpc_status_code != grpc.StatusCode.UNAUTHENTICATED:
                raise
        token = await self._tokens.get(instead_of=token)
        return await self._once(method, request, seconds, (("authorization", f"Bearer {token}"),))

    @staticmethod
    async def _once(
        method: Callable[..., Awaitable[Any]], request: Any, seconds: float, metadata: Sequence[tuple[str, str]]
    ) -> Any:
        try:
            # No retry of the SDK's: waiting and trying again is the engine's, which keeps order meanwhile.
            return await method(request=request, retry=None, timeout=seconds, metadata=metadata)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise NotConnected("the connection was closed") from None  # by us, while this was under way
        except grpc.aio.UsageError:
            raise NotConnected("the connection is closed") from None


def _channel(options: PubSubOptions) -> Any:
    keep_alive = int(options.keep_alive.total_seconds() * 1000)
    patience = max(100, min(10_000, keep_alive))
    settings: list[tuple[str, int | str]] = [
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 500),
        ("grpc.max_reconnect_backoff_ms", 5000),
        ("grpc.keepalive_time_ms", keep_alive),
        ("grpc.keepalive_timeout_ms", patience),
        # Not in gRPC's guide: without it a ping has a minute, whatever the line above says (seen with grpcio 1.85).
        ("grpc.http2.ping_timeout_ms", patience),
        ("grpc.max_send_message_length", -1),
        # Channels of one process share connections: a new one would get the old, stalled connection.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if options.emulator is not None:
        return grpc.aio.insecure_channel(options.target, options=settings)
    if options.proxy is not None:
        settings.append(("grpc.http_proxy", options.proxy.get_secret_value()))
    roots = None if options.ca is None else _read(options.ca)
    return grpc.aio.secure_channel(options.target, grpc.ssl_channel_credentials(roots), options=settings)


def _read(ca: Path) -> bytes:
    try:
        return ca.read_bytes()
    except OSError as error:
        raise NotConnected(f"the CA file {ca} cannot be read: {error.strerror}") from None
