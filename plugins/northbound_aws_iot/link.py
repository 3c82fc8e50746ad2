"""One connection of the SDK: opened once, never reopened; the engine reconnects. Imports the SDK.

What the SDK does by itself is switched off: it keeps no queue across a disconnect (a message the server dislikes would
be sent for ever), tells no metrics in the user name, and is stopped before it tries to connect again. Its callbacks
come on threads of its own: they do nothing but post to the loop, so that no future of ours is ever touched from there
and none of the SDK's is ever cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, Final

from awscrt import io, mqtt5

from northbound import DeliveryError, NotConnected, Outgoing, PartialDelivery, Rejected, Unauthorised, Unavailable
from northbound_aws_iot import failures, signing_in
from northbound_aws_iot.options import ConnectorOptions

#: Longer than anything is waited for: the SDK is stopped before.
_NEVER_MS: Final = 24 * 3600 * 1000
#: How long the reason of a lost connection may take, once a message has failed for it.
_REASON_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 3.0
#: AWS IoT Core's own pace, which the SDK can keep by itself; ours is kept before it, this is the guard behind.
_SDK_PACE: Final = 100.0


#: Stands for whatever ended the connection, which has words of its own.
_LOST: Final = NotConnected("the connection is lost")


class _Batch:
    """One call of ``submit``: how many are unsettled, and which failed."""

    __slots__ = ("done", "failures", "left", "since")

    def __init__(self, count: int, done: asyncio.Future[None]) -> None:
        self.left = count
        self.done = done
        self.failures: dict[int, DeliveryError] = {}
        self.since = time.monotonic()

    def settle(self) -> None:
        """One more message is acknowledged, or has failed."""
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


class Link:
    """Open, submit, close, each connection anew. ``lost`` has a result, the reason, when it is over."""

    def __init__(
        self,
        options: ConnectorOptions,
        client_id: str,
        *,
        prefix: str = "",
        on_message: Callable[[str, bytes], None] | None = None,
    ) -> None:
        self.client_id = client_id
        self._options = options
        self._prefix = prefix
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._client: Any = None
        self._opened: asyncio.Future[Any] = self._loop.create_future()
        self._opened.add_done_callback(lambda done: done.cancelled() or done.exception())  # may be nobody else's
        self._stopped = asyncio.Event()
        self._signing: Exception | None = None
        self._heard = 0.0
        self._window = 100
        self._unanswered = 0
        self._followers: dict[str, deque[tuple[_Batch, int, Any]]] = {}  # of each topic that is under way
        self.lost: asyncio.Future[NotConnected] = self._loop.create_future()
        self.in_flight = 0
        self.expires: datetime | None = None  # of AWS credentials

    # -- opening and closing ------------------------------------------------------------------------------------

    async def open(self) -> Any:
        """Connect and sign in; returns what was negotiated, ``mqtt5.NegotiatedSettings``. Raises typed errors."""
        # Reading files, and a PKCS#11 module, may take its time.
        self._client = await asyncio.to_thread(self._make)
        self._client.start()
        self._heard = time.monotonic()
        return await self._opened

    async def close(self) -> None:
        """Say good-bye and stop the SDK's client; what is unsettled fails."""
        self._lose(NotConnected("the connection was closed"))
        client, self._client = self._client, None
        if client is None:
            return
        client.stop()
        # A peer that does not read delays the end; the SDK ends by itself then, with nobody listening.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._stopped.wait()

    def _make(self) -> Any:
        options = self._options
        expiry = int(options.session_expiry.total_seconds())
        password = options.password
        keep_alive = int(options.keep_alive.total_seconds())
        ack = max(1, int(options.ack_timeout.total_seconds()))
        milliseconds = int(options.connect_timeout.total_seconds() * 1000)
        behaviour, kept = mqtt5.ClientOperationQueueBehaviorType, mqtt5.ClientSessionBehaviorType
        pace = mqtt5.ExtendedValidationAndFlowControlOptions
        settings = mqtt5.ClientOptions(
            host_name=options.endpoint,
            port=options.port_in_use,
            tls_ctx=signing_in.tls_context(options),
            socket_options=_socket_options(milliseconds),
            http_proxy_options=signing_in.proxy(options),
            websocket_handshake_transform=signing_in.handshake(options, self._note_signing, self._note_expiry),
            connect_options=mqtt5.ConnectPacket(
                client_id=self.client_id,
                keep_alive_interval_sec=keep_alive,
                username=signing_in.user_name(options),
                password=password.get_secret_value() if password is not None else None,
                session_expiry_interval_sec=expiry or None,
            ),
            session_behavior=kept.REJOIN_ALWAYS if expiry else kept.CLEAN,
            offline_queue_behavior=behaviour.FAIL_ALL_ON_DISCONNECT,
            extended_validation_and_flow_control_options=(
                pace.AWS_IOT_CORE_DEFAULTS if options.messages_per_second <= _SDK_PACE else pace.NONE
            ),
            retry_jitter_mode=mqtt5.ExponentialBackoffJitterMode.NONE,
            min_reconnect_delay_ms=_NEVER_MS,
            max_reconnect_delay_ms=_NEVER_MS,
            connack_timeout_ms=milliseconds,
            ping_timeout_ms=min(ack, keep_alive - 1) * 1000,
            ack_timeout_sec=ack,
            on_publish_callback_fn=self._on_publish,
            on_lifecycle_event_stopped_fn=lambda _: self._post(self._stopped.set),
            on_lifecycle_event_connection_success_fn=lambda told: self._post(self._on_success, told),
            on_lifecycle_event_connection_failure_fn=self._failed_on_thread,
            on_lifecycle_event_disconnection_fn=self._disconnected_on_thread,
        )
        if any(field.name == "disable_metrics" for field in dataclasses.fields(mqtt5.ClientOptions)):
            settings.disable_metrics = True  # they are written into the user name; later versions may not have them
        return mqtt5.Client(settings)

    # -- on the SDK's threads -----------------------------------------------------------------------------------

    def _post(self, call: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(call, *arguments)

    def _note_signing(self, error: Exception) -> None:
        self._signing = error

    def _note_expiry(self, expires: datetime | None) -> None:
        self.expires = expires

    def _failed_on_thread(self, told: Any) -> None:
        self._post(self._on_failure, told)

    def _disconnected_on_thread(self, told: Any) -> None:
        self._post(self._on_disconnection, told)

    def _on_publish(self, told: Any) -> None:
        if self._on_message is not None:
            packet = told.publish_packet
            self._post(self._on_message, packet.topic, bytes(packet.payload or b""))

    # -- on the loop --------------------------------------------------------------------------------------------

    def _on_success(self, told: Any) -> None:
        self._heard = time.monotonic()
        if not self._opened.done():
            self._window = told.negotiated_settings.receive_maximum_from_server
            self._opened.set_result(told.negotiated_settings)

    def _on_failure(self, told: Any) -> None:
        error: DeliveryError
        if told.connack_packet is not None:
            error = failures.connack_error(told.connack_packet)
        else:
            cause = self._signing or told.exception
            error = SdkFailure(f"cannot connect: {failures.sdk_words(cause)}", getattr(cause, "name", ""))
        if not self._opened.done():
            self._opened.set_exception(error)
        self._lose(error if isinstance(error, NotConnected) else NotConnected(str(error)))
        self._stop()

    def _on_disconnection(self, told: Any) -> None:
        error = failures.disconnect_error(told.disconnect_packet, told.exception)
        if not self._opened.done():
            self._opened.set_exception(error)
        self._lose(error)
        self._stop()

    def _stop(self) -> None:
        if self._client is not None:
            self._client.stop()

    def _lose(self, error: NotConnected) -> None:
        if not self.lost.done():
            self.lost.set_result(error)
        if not self._opened.done():
            self._opened.set_exception(error)

    # -- messages -----------------------------------------------------------------------------------------------

    def submit(self, batch: Sequence[Outgoing]) -> Coroutine[Any, Any, None]:
        """Hand messages over, at once and in order; what it returns waits for their acknowledgements."""
        return self.publish([self._packet(message) for message in batch])

    def publish(self, packets: Sequence[Any]) -> Coroutine[Any, Any, None]:
        """Hand packets over, as :meth:`submit` does.

        Of one topic one is under way at a time: what IoT Core discards without a word, it would otherwise get behind a
        newer value of the same topic.
        """
        if self._client is None or self.lost.done():
            raise self.lost.result() if self.lost.done() else NotConnected("the connection is not open")
        pending = _Batch(len(packets), self._loop.create_future())
        self.in_flight += len(packets)
        for index, packet in enumerate(packets):
            followers = self._followers.get(packet.topic)
            if followers is None:
                self._followers[packet.topic] = deque()
                self._put(pending, index, packet)
            else:
                followers.append((pending, index, packet))
        return self._wait(pending)

    def _put(self, pending: _Batch, index: int, packet: Any) -> None:
        if self._client is None or self.lost.done():
            self._loop.call_soon(self._settle, pending, index, packet.topic, _LOST)
            return
        try:
            future = self._client.publish(packet)
        except Exception as error:  # noqa: BLE001 - raised for what the SDK will not send, by many types
            refused = Rejected(f"the SDK does not take the message: {error}")
            self._loop.call_soon(self._settle, pending, index, packet.topic, refused)
            return
        future.add_done_callback(self._settler(pending, index, packet.topic))

    async def publish_one(self, topic: str, payload: bytes) -> None:
        """Publish, and wait for the acknowledgement; raises the error of this one."""
        try:
            await self.publish([mqtt5.PublishPacket(topic=topic, payload=payload, qos=mqtt5.QoS.AT_LEAST_ONCE)])
        except PartialDelivery as error:
            raise error.failures[0] from None

    async def subscribe(self, topic_filters: Sequence[str]) -> None:
        """Subscribe; raises ``NotConnected`` or ``Unauthorised``."""
        done: asyncio.Future[Any] = self._loop.create_future()
        wanted = [mqtt5.Subscription(topic_filter=one, qos=mqtt5.QoS.AT_LEAST_ONCE) for one in topic_filters]

        def answered(future: Any) -> None:
            if not done.done():
                done.set_result(future)

        asked = self._client.subscribe(mqtt5.SubscribePacket(subscriptions=wanted))
        asked.add_done_callback(lambda future: self._post(answered, future))
        future = await done
        if (error := future.exception()) is not None:
            raise NotConnected(f"cannot subscribe to {topic_filters[0]}: {failures.sdk_words(error)}")
        for topic_filter, code in zip(topic_filters, future.result().reason_codes, strict=True):
            if code is None or code >= failures.REFUSED:
                named = "unknown reason" if code is None else code.name.lower().replace("_", " ")
                raise Unauthorised(f"IoT Core refuses the subscription to {topic_filter} ({named})")

    def _packet(self, message: Outgoing) -> Any:
        name = self._options.idempotency_property
        user = [mqtt5.UserProperty(name, message.key)] if name else []
        user += [mqtt5.UserProperty(key, value) for key, value in message.properties.items()]
        return mqtt5.PublishPacket(
            topic=self._prefix + message.topic,
            payload=message.payload,
            qos=mqtt5.QoS.AT_LEAST_ONCE,
            retain=message.retain,
            user_properties=user or None,
        )

    def _settler(self, pending: _Batch, index: int, topic: str) -> Callable[[Any], None]:
        def settle(future: Any) -> None:  # on a thread of the SDK
            error = future.exception()
            if error is None:
                self._post(self._answered, pending, index, topic, failures.puback_error(future.result().puback, topic))
            else:
                self._post(self._settle, pending, index, topic, failures.publish_error(error, topic) or _LOST)

        return settle

    def _answered(self, pending: _Batch, index: int, topic: str, failure: DeliveryError | None) -> None:
        self._heard = time.monotonic()
        self._settle(pending, index, topic, failure)

    def _settle(self, pending: _Batch, index: int, topic: str, failure: DeliveryError | None) -> None:
        if failure is not None:
            pending.failures[index] = failure
        self.in_flight -= 1
        pending.settle()
        followers = self._followers[topic]
        if not followers:
            del self._followers[topic]
        elif failure is None or isinstance(failure, Rejected):
            self._put(*followers.popleft())
        else:
            del self._followers[topic]
            for other, place, _ in followers:
                behind = _LOST if failure is _LOST else Unavailable("an older message of its topic was not taken")
                other.failures[place] = behind
                self.in_flight -= 1
                other.settle()

    async def _wait(self, pending: _Batch) -> None:
        if pending.left:
            await self._settled(pending)
        found = pending.failures
        if not found:
            return
        silent = [index for index, error in found.items() if isinstance(error, failures.Unacknowledged)]
        if silent and self._is_useless(pending, len(silent)):
            found = found | dict.fromkeys(silent, _LOST)
        if _LOST in found.values():
            reason = await self._reason()
            found = {index: reason if error is _LOST else error for index, error in found.items()}
        raise PartialDelivery(found)

    async def _settled(self, pending: _Batch) -> None:
        """Wait for the answers. The SDK has a time for each, but it begins when the message is written."""
        most = 2 * self._options.ack_timeout.total_seconds()
        while not pending.done.done():
            left = max(self._heard, pending.since) + most - time.monotonic()
            if left <= 0:
                self._lose(NotConnected("IoT Core takes no messages any more; the connection is given up"))
                raise self.lost.result()
            await asyncio.wait([pending.done], timeout=left)

    def _is_useless(self, pending: _Batch, silent: int) -> bool:
        """Give the connection up where nobody answers, or where what was never answered has filled the window.

        What the service discarded holds its place in the window for as long as the connection lasts, and the SDK then
        sends nothing more, without a word.
        """
        self._unanswered += silent
        if self._heard < pending.since:
            self._lose(NotConnected("IoT Core has acknowledged nothing in time; the connection is given up"))
        elif self._unanswered > self._window // 2:
            words = f"{self._unanswered} messages were never acknowledged; a new connection frees their places"
            self._lose(NotConnected(words))
        return self.lost.done()

    async def _reason(self) -> NotConnected:
        """Return why the connection is gone; the SDK may tell it after it has failed the messages."""
        try:
            async with asyncio.timeout(_REASON_SECONDS):
                return await asyncio.shield(self.lost)
        except TimeoutError:
            return NotConnected("the connection to IoT Core broke")


class SdkFailure(NotConnected):
    """The SDK could not connect; ``name`` is the name of its error."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


def _socket_options(milliseconds: int) -> Any:
    options = io.SocketOptions()
    options.connect_timeout_ms = milliseconds
    return options
