"""One connection to the twin of AWS IoT Core."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from northbound.mqtt import (
    Connack,
    Connect,
    Properties,
    ProtocolError,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    encode,
)
from northbound.mqtt.reasons import (
    CLIENT_ID_NOT_VALID,
    FAILURE,
    IMPLEMENTATION_SPECIFIC,
    NOT_AUTHORISED,
    PACKET_TOO_LARGE,
    QOS_NOT_SUPPORTED,
    QUOTA_EXCEEDED,
    SESSION_TAKEN_OVER,
    TOPIC_FILTER_INVALID,
    TOPIC_NAME_INVALID,
    UNSUPPORTED_VERSION,
)
from northbound.rate import TokenBucket
from northbound.testing.twins import aws_shadow
from northbound.testing.twins.aws_sign_in import Refused, authorise, verify_sigv4
from northbound.testing.twins.mqtt_listener import Greeting, Wire
from northbound.testing.twins.mqtt_peer import MqttPeer
from northbound.testing.twins.quota import Quota
from northbound.topics import TopicMatcher

if TYPE_CHECKING:
    from northbound.testing.twins.aws_iot import AwsIotTwin

#: The return code of 3.1.1 for a connection that is not authorised: 7, not 5. A3.
_NOT_AUTHORISED_311: Final = 7
#: Basic Ingest. Rule names: letters, digits and underscores ("Creating an AWS IoT rule"). A3 iot-basic-ingest.md.
_RULE: Final = re.compile(r"\$aws/rules/[A-Za-z0-9_]{1,128}/(.+)", re.DOTALL)


class AwsPeer(MqttPeer):
    """One client of the twin."""

    max_packet = 256 * 1024  # more than what is refused in its own way

    def __init__(self, wire: Wire, twin: AwsIotTwin) -> None:
        super().__init__(wire)
        self._twin = twin
        limits = twin.limits
        self._rate = Quota(limits.publishes)
        self._throughput = TokenBucket(limits.throughput, limits.throughput)
        self._filters: dict[str, int] = {}
        self._matcher = TopicMatcher(())
        self._next_id = 0
        self._principal: str | None = None
        self._ends: asyncio.TimerHandle | None = None

    # -- signing in ---------------------------------------------------------------------------------------------

    def speaks_websocket(self) -> bool:
        """Port 443 is MQTT with one of the two ALPN names, else HTTP. A3 protocols.md."""
        return self._twin.acts_as == 443 and self.wire.greeting.alpn not in {"x-amzn-mqtt-ca", "mqtt"}

    def on_upgrade(self, greeting: Greeting) -> tuple[HTTPStatus, str] | None:
        """Check the signature of a WebSocket; one without may still name a custom authoriser in CONNECT."""
        twin = self._twin
        if "X-Amz-Algorithm" not in (greeting.path or "") and twin.authorisers:
            return None
        try:
            self._principal = verify_sigv4(greeting, twin.access_keys, twin.region, now=twin.clock())
        except Refused as error:
            twin.refuse("", "connect", str(error))
            return HTTPStatus.FORBIDDEN, str(error)
        return None

    def on_connect(self, packet: Connect) -> Connack | None:
        """Sign a client in, or refuse it."""
        try:
            fault = self._fault(packet)
        except Refused as error:
            fault = (NOT_AUTHORISED, str(error))
        if fault is None:
            self._twin.note_connect(packet.client_id)
            return self._yes(packet)
        reason, why = fault
        self._twin.refuse(packet.client_id, "connect", why)
        if packet.version == 5:
            return Connack(reason, properties=Properties(reason_string=why))
        # Version 3.1.1 has a code only for this; everything else is a closed connection.
        return Connack(_NOT_AUTHORISED_311) if reason == NOT_AUTHORISED else None

    def _fault(self, packet: Connect) -> tuple[int, str] | None:
        """Return why a client is not let in; raises ``Refused`` where it is not believed."""
        limits = self._twin.limits
        if packet.version == 3:
            return UNSUPPORTED_VERSION, "MQTT 3.1 is not spoken"
        if not packet.client_id or len(packet.client_id.encode()) > limits.client_id:
            return CLIENT_ID_NOT_VALID, f"a client id has 1 to {limits.client_id} bytes"
        self._principal = self._principal or self._who(packet)
        asked = {"PersistentConnect"} if not packet.clean_start or packet.properties.session_expiry else set()
        if packet.will is not None:
            asked.add("LastWill")
        if not self._may("iot:Connect", f"client/{packet.client_id}", frozenset(asked)):
            return NOT_AUTHORISED, f"the policy does not allow iot:Connect as {packet.client_id}"
        rate, last = limits.connects_per_client, self._twin.last_connect.get(packet.client_id, -1e9)
        if rate and time.monotonic() - last < 1 / rate:
            return QUOTA_EXCEEDED, f"more than {rate:g} CONNECT a second of one client id"
        return None

    def _who(self, packet: Connect) -> str:
        """Return whom the certificate or the authoriser makes of the client."""
        twin, greeting = self._twin, self.wire.greeting
        wants_certificate = twin.acts_as == 8883 or greeting.alpn == "x-amzn-mqtt-ca"
        if not wants_certificate:
            return authorise(packet.username, packet.password, twin.authorisers, twin.default_authoriser)
        certificate = greeting.certificate
        if certificate is None:
            raise Refused("there is no client certificate")
        if certificate.serial_number in twin.inactive:
            raise Refused("the certificate is not active")
        left = (certificate.not_valid_after_utc - datetime.now(UTC)).total_seconds()
        # That a connection ends with its certificate is [inferred]: the hardest that can happen.
        self._ends = asyncio.get_running_loop().call_later(max(0.0, left), self._expired)
        return certificate.subject.rfc4514_string()

    def _expired(self) -> None:
        self._twin.refuse(self.client_id, "connect", "the certificate has expired")
        self.hang_up()

    def _yes(self, packet: Connect) -> Connack:
        twin, limits = self._twin, self._twin.limits
        low, high = limits.keep_alive
        keep_alive = high if packet.keep_alive == 0 else min(max(packet.keep_alive, low), high)
        kept = twin.sessions.pop(packet.client_id, None)
        present = kept is not None and not packet.clean_start and kept[0] > time.monotonic()
        if present and kept is not None:
            self._subscribe(kept[1])
        if packet.version == 4:
            return Connack(session_present=present)
        expiry = packet.properties.session_expiry or 0
        return Connack(
            session_present=present,
            properties=Properties(
                session_expiry=limits.session if expiry > limits.session else None,
                receive_maximum=limits.unacknowledged,
                maximum_qos=1,
                retain_available=True,
                maximum_packet_size=limits.packet,
                topic_alias_maximum=limits.topic_aliases,
                wildcard_subscription_available=True,
                subscription_ids_available=False,
                shared_subscription_available=True,
                server_keep_alive=keep_alive if keep_alive != packet.keep_alive else None,
            ),
        )

    def on_connected(self) -> None:
        """Take the place of an older connection with the same client id. A2."""
        twin = self._twin
        older = twin.peers.get(self.client_id)
        twin.peers[self.client_id] = self
        twin.connected(self.client_id)
        if older is not None:
            twin.refuse(self.client_id, "session", "taken over by a newer connection")
            older.hang_up(SESSION_TAKEN_OVER)

    def on_gone(self) -> None:
        """Keep the session where one was wanted."""
        twin, connect = self._twin, self.connect
        if self._ends is not None:
            self._ends.cancel()
        if connect is None or twin.peers.get(self.client_id) is not self:
            return
        del twin.peers[self.client_id]
        # Of 3.1.1 a persistent session lasts an hour, unless the account says otherwise. A2.
        expiry = connect.properties.session_expiry or 0
        lasts = (0 if connect.clean_start else 3600) if connect.version == 4 else min(expiry, twin.limits.session)
        if lasts:
            twin.keep_session(self.client_id, lasts, dict(self._filters))

    def _may(self, action: str, resource: str, attributes: frozenset[str] = frozenset()) -> bool:
        return self._twin.policy.allows(action, resource, client_id=self.client_id, attributes=attributes)

    # -- messages -----------------------------------------------------------------------------------------------

    def on_publish(self, packet: Publish) -> None:
        """Take a message, or do what the service does with one like it."""
        twin = self._twin
        hanging = twin.hang_up_on(packet)
        if hanging is not None:
            self._end_with(packet, hanging, "as the test wants")
            return
        self._slow_down(packet)
        if self._malformed(packet) or self._forbidden(packet):
            return
        if self.version == 4 and len(self.unacknowledged) > twin.limits.unacknowledged:
            twin.refuse(self.client_id, "publish", "too many unacknowledged")  # "not accepted": A1
            return
        if not self._rate.take():
            self._too_fast(packet)
            return
        refused = twin.refuse_publish(packet)
        if refused is not None:
            self._refuse(packet, refused, "as the test wants")
            return
        shadow = aws_shadow.TOPIC.fullmatch(packet.topic)
        if shadow is not None:
            self._shadow(packet, shadow[1], shadow[2], shadow[3])
        elif packet.retain and (full := twin.retain(packet.topic, packet.payload)) is not None:
            self._refuse(packet, QUOTA_EXCEEDED, full)  # "throttled response": A3
            return
        twin.after(twin.delay, lambda: self._taken(packet))

    def _taken(self, packet: Publish) -> None:
        if self.closed:
            return
        self._twin.took(
            self.client_id, packet.topic, packet.payload, retain=packet.retain, properties=packet.properties
        )
        self.acknowledge(packet)
        if not packet.topic.startswith("$aws/"):  # neither Basic Ingest nor a request has subscribers
            self._twin.distribute(packet)

    def _slow_down(self, packet: Publish) -> None:
        """Delay what is above the throughput: "Throughput per second per connection", A1."""
        self._throughput.take(len(packet.topic) + len(packet.payload))
        wait = self._throughput.wait(time.monotonic())
        if wait > 0:
            self.hold(on=True)
            asyncio.get_running_loop().call_later(wait, lambda: self.hold(on=False))

    def _malformed(self, packet: Publish) -> bool:
        """Hang up on what the protocol or the service forbids."""
        why = self._too_much(packet)
        if why is not None:
            return self._end_with(packet, *why)
        topic = packet.topic
        if aws_shadow.TOPIC.fullmatch(topic):
            return False
        if topic.startswith("$"):
            rule = _RULE.fullmatch(topic)
            if rule is None:  # "may close the connection": A3
                return self._end_with(packet, TOPIC_NAME_INVALID, f"{topic[:60]} is reserved")
            topic = rule[1]
        slashes, size = topic.count("/"), len(topic.encode())
        if slashes <= self._twin.limits.slashes and size <= self._twin.limits.topic_bytes:
            return False
        text = f"a topic of {slashes} slashes and {size} bytes"
        if self._twin.bad_topic == "puback" and self.version == 5:
            return self._refuse(packet, TOPIC_NAME_INVALID, text)
        return self._end_with(packet, TOPIC_NAME_INVALID, text)  # which of the two is not published: [inferred]

    def _too_much(self, packet: Publish) -> tuple[int, str] | None:
        limits = self._twin.limits
        if packet.qos == 2:  # A2
            return QOS_NOT_SUPPORTED, "QoS 2 is not supported"
        if len(packet.payload) > limits.payload:  # A1
            return PACKET_TOO_LARGE, f"a payload of {len(packet.payload)} bytes"
        if self.version == 5 and (size := _size(packet)) > limits.packet:  # A2
            return PACKET_TOO_LARGE, f"a packet of {size} bytes"
        return None

    def _forbidden(self, packet: Publish) -> bool:
        """Apply the policy; a retained message needs iot:RetainPublish too. A3."""
        resource = f"topic/{packet.topic}"
        for action in ("iot:Publish", "iot:RetainPublish") if packet.retain else ("iot:Publish",):
            if not self._may(action, resource):
                why = f"the policy does not allow {action} on {resource}"
                if self.version == 5 and self._twin.not_authorised == "puback" and packet.qos:
                    return self._refuse(packet, NOT_AUTHORISED, why)
                return self._end_with(packet, NOT_AUTHORISED, why)  # 3.1.1: A12
        if packet.retain and packet.topic.startswith("$"):  # "none on reserved topics": A3; the answer is [inferred]
            return self._refuse(packet, IMPLEMENTATION_SPECIFIC, "reserved topics keep no retained message")
        return False

    def _too_fast(self, packet: Publish) -> None:
        why = "more publishes a second than a connection may"
        if self._twin.over_rate == "disconnect":
            self._end_with(packet, QUOTA_EXCEEDED, why)
        elif self._twin.over_rate == "puback" and self.version == 5:
            self._refuse(packet, QUOTA_EXCEEDED, why)
        else:
            self._twin.refuse(self.client_id, "publish", why)  # discarded, without an answer: A1, A7

    def _refuse(self, packet: Publish, reason: int, why: str) -> bool:
        """Answer with a reason; before version 5 there is none, and no answer either."""
        self._twin.refuse(self.client_id, "publish", why)
        if self.version == 5 and reason:
            self.acknowledge(packet, reason, why)
        return True

    def _end_with(self, packet: Publish, reason: int, why: str) -> bool:
        self._twin.refuse(self.client_id, "publish", f"{why} ({packet.topic[:100]})")
        self.hang_up(reason, why)
        return True

    def on_violation(self, error: ProtocolError) -> None:
        """Note it, and hang up."""
        self._twin.refuse(self.client_id, "protocol", str(error))
        self.hang_up(error.code)

    # -- shadows ------------------------------------------------------------------------------------------------

    def _shadow(self, packet: Publish, thing: str, name: str | None, verb: str) -> None:
        shadows, twin = self._twin.shadows, self._twin
        why = shadows.too_many(thing)
        if why is not None:
            twin.refuse(self.client_id, "shadow", why)
            self._answer(packet.topic, aws_shadow.refusal(429, why, aws_shadow.token_of(packet.payload)))
            return
        shadows.in_flight[thing] += 1

        def answer() -> None:
            shadows.in_flight[thing] -= 1
            done = shadows.ask(thing, name, verb, packet.payload)
            if not done.accepted:
                twin.refuse(self.client_id, "shadow", done.body.decode())
            self._answer(packet.topic, done)

        twin.after(twin.delay, answer)

    def _answer(self, topic: str, answer: aws_shadow.Answer) -> None:
        verdict = "accepted" if answer.accepted else "rejected"
        self._twin.distribute(Publish(f"{topic}/{verdict}", answer.body, 1))
        if answer.documents is not None:
            self._twin.distribute(Publish(f"{topic}/documents", answer.documents, 1))

    # -- subscriptions ------------------------------------------------------------------------------------------

    def on_subscribe(self, packet: Subscribe) -> None:
        """Grant what the policy and the quotas allow."""
        limits = self._twin.limits
        if len(packet.subscriptions) > limits.filters_per_packet:
            self._twin.refuse(self.client_id, "subscribe", "too many filters in one packet")
            self.hang_up(QUOTA_EXCEEDED)
            return
        answers: list[int] = []
        granted: dict[str, int] = {}
        for subscription in packet.subscriptions:
            topic_filter = subscription.filter
            if topic_filter.count("/") > limits.slashes and not topic_filter.startswith("$aws/"):
                answers.append(TOPIC_FILTER_INVALID)
            elif len({**self._filters, **granted}) >= limits.filters:
                answers.append(QUOTA_EXCEEDED)
            elif not self._may("iot:Subscribe", f"topicfilter/{topic_filter}"):
                if self.version == 4:  # A12
                    self.hang_up()
                    return
                answers.append(NOT_AUTHORISED)
            else:
                granted[topic_filter] = min(subscription.qos, 1)
                answers.append(granted[topic_filter])
        for topic_filter, answer in zip((s.filter for s in packet.subscriptions), answers, strict=True):
            if answer >= FAILURE:
                self._twin.refuse(self.client_id, "subscribe", topic_filter)
        self._subscribe(granted)
        told = tuple(answers) if self.version == 5 else tuple(min(answer, FAILURE) for answer in answers)
        self.send(Suback(packet.packet_id, told))
        for topic_filter, qos in granted.items():  # by a wildcard retained messages are not delivered: A2
            kept = self._twin.retained.get(topic_filter)
            if kept is not None:
                self._send(Publish(topic_filter, kept, 1, True), qos)

    def on_unsubscribe(self, packet: Unsubscribe) -> None:
        """Forget filters."""
        known = [self._filters.pop(topic_filter, None) is not None for topic_filter in packet.filters]
        self._subscribe({})
        self.send(Unsuback(packet.packet_id, tuple(0 if it else 17 for it in known) if self.version == 5 else ()))

    def _subscribe(self, filters: dict[str, int]) -> None:
        self._filters.update(filters)
        self._matcher = TopicMatcher(self._filters)

    def deliver(self, packet: Publish) -> None:
        """Send a message here if it was subscribed to, and the policy allows to receive it."""
        if not self._filters or not self._matcher.matches(packet.topic):
            return
        if self._may("iot:Receive", f"topic/{packet.topic}"):
            self._send(Publish(packet.topic, packet.payload, packet.qos, False), max(self._filters.values()))

    def _send(self, packet: Publish, qos: int) -> None:
        if not self._rate.take():  # what is sent out counts too, and is discarded alike: A1
            self._twin.refuse(self.client_id, "deliver", "more publishes a second, in and out, than a connection may")
            return
        packet_id = 0
        if packet.qos and qos:
            self._next_id = packet_id = self._next_id % 65_535 + 1
        retain, user = packet.retain, packet.properties.user
        properties = Properties(user=user) if self.version == 5 else Properties()
        self.send(
            Publish(
                packet.topic, packet.payload, min(packet.qos, qos), retain, packet_id=packet_id, properties=properties
            )
        )


def _size(packet: Publish) -> int:
    """Return the size of the packet as version 5 writes it; exactly only where it may matter."""
    beside = sum(len(name) + len(text) for name, text in packet.properties.user)
    if len(packet.payload) + 4 * (len(packet.topic) + beside) < 65_536:
        return 0
    return len(encode(packet, 5))
