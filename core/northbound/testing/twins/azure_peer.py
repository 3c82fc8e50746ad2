"""One device's connection to the twin of IoT Hub: who may sign in, what may be published and subscribed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from northbound.mqtt import Connack, Connect, Disconnect, ProtocolError, Publish, Suback, Subscribe, Unsubscribe
from northbound.testing.twins.azure_rules import (
    MAX_MESSAGE,
    Refused,
    check_token,
    decode_bag,
    message_size,
    patched,
)
from northbound.testing.twins.mqtt_listener import Wire
from northbound.testing.twins.mqtt_peer import MqttPeer

if TYPE_CHECKING:
    from northbound.testing.twins.azure_iot import AzureHubTwin, Identity

# Return codes of MQTT 3.1.1, section 3.2.2.3.
_VERSION: Final = 1
_NOT_AUTHORISED: Final = 5
#: Those that devices use (the SDKs, the MQTT page). "It's recommended to include api-version ... Otherwise it could
#: cause unexpected behaviors": here it is a must.
_API_VERSIONS: Final = frozenset(("2018-06-30", "2019-10-01", "2020-09-30", "2021-04-12"))
_TWIN_RESPONSES: Final = "$iothub/twin/res/#"
_GET: Final = "$iothub/twin/GET/?"
_PATCH: Final = "$iothub/twin/PATCH/properties/reported/?"


class HubPeer(MqttPeer):
    """See the module. ``hub`` is the twin it belongs to."""

    max_packet = MAX_MESSAGE + 70_000  # a body of the largest size, and a topic of the largest size

    def __init__(self, wire: Wire, hub: AzureHubTwin, *, websocket: bool) -> None:
        super().__init__(wire)
        self._hub = hub
        self._websocket = websocket
        self._identity: Identity
        self._filters: list[str] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self._left = False
        self._expiry: int | None = None

    def refuse(self, what: str, why: str) -> None:
        """Note a refusal and hang up."""
        self._hub.record.refuse(self.client_id, what, why)
        self._hub.hung_up[self.client_id] += 1
        self.hang_up()

    # -- signing in ---------------------------------------------------------------------------------------------

    def speaks_websocket(self) -> bool:
        """Each port speaks one thing."""
        return self._websocket

    def on_connect(self, packet: Connect) -> Connack | None:
        """Sign a device in."""
        hub = self._hub
        if hub.too_many_connects():
            hub.record.refuse(packet.client_id, "connect", "more new connections than the hub takes in a second")
            return None
        if packet.version != 4:
            hub.record.refuse(packet.client_id, "connect", "the hub speaks MQTT 3.1.1 only")
            return Connack(_VERSION)
        try:
            self._identity = self._signed_in(packet)
        except Refused as error:
            hub.record.refuse(packet.client_id, "connect", str(error))
            return Connack(_NOT_AUTHORISED)
        if packet.clean_start:
            self._identity.subscriptions = []
        self._filters = self._identity.subscriptions
        return Connack(0, session_present=bool(self._filters))

    def _signed_in(self, packet: Connect) -> Identity:
        """Return who it is. An unknown device, a disabled one and a wrong key all get the same answer (401003)."""
        hub, client_id = self._hub, packet.client_id
        identity = hub.identities.get(client_id)
        if identity is None:
            raise Refused(f"no device {client_id!r}")
        if not identity.enabled:
            raise Refused("the device is disabled")
        # MQTT: "{iotHub-hostname}/{device-id}/?api-version=2021-04-12"; neither part is encoded.
        start = f"{hub.hub}/{client_id}/?"
        username = packet.username or ""
        if not username.startswith(start):
            raise Refused(f"the user name is not {start}api-version=…")
        query = dict(parse_qsl(username[len(start) :]))
        if query.get("api-version") not in _API_VERSIONS:
            raise Refused(f"the api-version {query.get('api-version')!r} is not one of the hub's")
        if identity.keys:
            self._expiry = check_token(packet.password, identity.keys, f"{hub.hub}/{identity.resource}", hub.clock())
        elif packet.password:
            raise Refused("a token, but the device signs in by certificate")
        elif not hub.shows_certificate(self.wire.greeting, identity):
            raise Refused("no client certificate that is this device's")
        return identity

    def on_connected(self) -> None:
        """Drop an older connection, and watch the token."""
        hub, client_id = self._hub, self.client_id
        older = hub.peers.get(client_id)
        if older is not None:  # 400027 ConnectionForcefullyClosedOnNewConnection
            older.refuse("takeover", "a newer connection of the same device")
        hub.peers[client_id] = self
        hub.record.connected(client_id)
        if hub.used_up() and not hub.limits.quota_holds:
            # "the connection is successfully opened (before being severed by the service)": azure-iot-sdk-java#377
            self.refuse("quota", "403002: the day's quota is used up")
        elif self._expiry is not None:
            # troubleshoot-error-codes: "IoT Hub notices the expiration, and disconnects the device with 401003"
            self._later(self._expiry - hub.clock(), self._expired)

    def _expired(self) -> None:
        self.refuse("token", "401003: the token has expired")

    # -- messages -----------------------------------------------------------------------------------------------

    def on_publish(self, packet: Publish) -> None:
        """Take a message, a twin request, or hang up."""
        if packet.qos == 2:  # MQTT: "IoT Hub doesn't support QoS 2 ... IoT Hub closes the network connection"
            self.refuse("publish", "QoS 2")
            return
        events = self._identity.events_topic
        try:
            if packet.topic == events[:-1] or packet.topic.startswith(events):
                self._take_event(packet, packet.topic[len(events) :])
            elif packet.topic.startswith((_GET, _PATCH)):
                self._twin(packet)
            else:
                self.refuse("publish", f"a topic that devices do not have: {packet.topic[:100]!r}")
        except Refused as error:
            self.refuse("publish", str(error))

    def _take_event(self, packet: Publish, bag: str) -> None:
        hub = self._hub
        properties = decode_bag(bag)
        if packet.retain:  # MQTT: "IoT Hub adds the mqtt-retain application property"
            properties["mqtt-retain"] = "true"
        size = message_size(properties, packet.payload)
        if size > MAX_MESSAGE:
            raise Refused(f"a message of {size} bytes")
        if hub.poison(properties, packet.payload):
            raise Refused("poison")
        if self._used_up():
            return
        delay = hub.send_delay()
        if delay is None:  # "once HUB return 429002, it will proactively disconnect the device": azure-docs#107838
            raise Refused("429002: more messages than the hub takes")
        hub.meter(size)
        if delay:
            self._later(delay, self._keep, packet, properties)
        else:
            self._keep(packet, properties)

    def _used_up(self) -> bool:
        """Whether the day's quota is used up and the hub holds the connection; raises where it ends it."""
        hub, why = self._hub, "403002: the day's quota is used up"
        if not hub.used_up():
            return False
        if not hub.limits.quota_holds:
            raise Refused(why)
        hub.record.refuse(self.client_id, "publish", why)
        return True

    def _keep(self, packet: Publish, properties: dict[str, str]) -> None:
        self._hub.take(self.client_id, packet.topic, packet.payload, properties, retain=packet.retain)
        self.acknowledge(packet)

    # -- twins --------------------------------------------------------------------------------------------------

    def _twin(self, packet: Publish) -> None:
        hub, identity = self._hub, self._identity
        if not hub.limits.twins:
            raise Refused("twins, which the basic tier has not")
        try:
            request = dict(parse_qsl(packet.topic.partition("?")[2], strict_parsing=True)).get("$rid")
        except ValueError:
            request = None
        if not request:
            raise Refused("a twin request without $rid")
        if self._used_up():
            return
        self.acknowledge(packet)
        now = asyncio.get_running_loop().time()
        if packet.topic.startswith(_GET):
            if hub.twin_reads.delay(now) is None:
                self._answer(429, request)
                return
            reported = identity.reported | {"$version": identity.reported_version}
            body = json.dumps({"desired": {"$version": 1}, "reported": reported}).encode()
            hub.meter(len(body))
            self._answer(200, request, body)
            return
        if hub.twin_updates.delay(now) is None:
            self._answer(429, request)
            return
        try:
            identity.reported = patched(identity.reported, packet.payload)
        except Refused as error:
            hub.record.refuse(self.client_id, "twin", str(error))
            self._answer(400, request)
            return
        identity.reported_version += 1
        hub.meter(len(packet.payload))
        self._answer(204, f"{request}&$version={identity.reported_version}")

    def _answer(self, status: int, request: str, body: bytes = b"") -> None:
        if _TWIN_RESPONSES in self._filters:  # MQTT: "A device must first subscribe to the $iothub/twin/res/# topic"
            self.send(Publish(f"$iothub/twin/res/{status}/?$rid={request}", body))

    # -- subscriptions ------------------------------------------------------------------------------------------

    def on_subscribe(self, packet: Subscribe) -> None:
        """Grant what there is. MQTT: "it only supports the documented topic names and topic filters"."""
        resource = self._identity.resource
        known = {
            f"devices/{self._identity.device_id}/messages/devicebound/#",
            _TWIN_RESPONSES,
            "$iothub/twin/PATCH/properties/desired/#",
            "$iothub/methods/POST/#",
        }
        if "/modules/" in resource:
            known |= {f"{resource}/#", f"{resource}/inputs/#"}
        wanted = [item.filter for item in packet.subscriptions]
        if not set(wanted) <= known:
            self.refuse("subscribe", f"filters that the hub does not have: {sorted(set(wanted) - known)}")
            return
        together = dict.fromkeys((*self._filters, *wanted))
        if len(together) > self._hub.limits.max_filters:
            self.refuse("subscribe", "more topics than a device may subscribe to")
            return
        self._keep_filters([*together])
        # the MQTT page: "When a device app subscribes to a topic with QoS 2, IoT Hub grants maximum QoS level 1"
        self.send(Suback(packet.packet_id, tuple(min(item.qos, 1) for item in packet.subscriptions)))

    def _keep_filters(self, filters: list[str]) -> None:
        """Subscribe to these from now on, and where the session goes on also on the next connection."""
        self._filters = filters
        self._identity.subscriptions = [] if self.connect is None or self.connect.clean_start else filters

    def on_unsubscribe(self, packet: Unsubscribe) -> None:
        """End subscriptions."""
        self._keep_filters([name for name in self._filters if name not in packet.filters])
        super().on_unsubscribe(packet)

    # -- the end ------------------------------------------------------------------------------------------------

    def on_violation(self, error: ProtocolError) -> None:
        """Hang up on what is not MQTT, or too large."""
        self.refuse("protocol", str(error))

    def on_disconnect(self, packet: Disconnect) -> None:  # noqa: ARG002 - a hook
        """Take note of a good-bye: the will is not sent."""
        self._left = True

    def on_gone(self) -> None:
        """Forget the connection; send its will (MQTT: "has the iothub-MessageType property with a value of Will")."""
        for timer in self._timers:
            timer.cancel()
        hub = self._hub
        if hub.peers.get(self.client_id) is self:
            del hub.peers[self.client_id]
        will = self.connect.will if self.connect is not None and self.connack is not None else None
        if will is not None and not self._left and will.topic.startswith(self._identity.events_topic):
            hub.take(self.client_id, will.topic, will.payload, {"iothub-MessageType": "Will"}, retain=False)

    def _watch(self) -> None:
        """Enforce the keep-alive; MQTT: 1.5 times the client's, at most 29.45 minutes."""
        if self.connect is None or self.closed:
            return
        asked = 1.5 * self.connect.keep_alive or self._hub.limits.max_silence
        loop = asyncio.get_running_loop()
        left = self._heard + min(asked, self._hub.limits.max_silence) - loop.time()
        if left <= 0:
            self.refuse("keep-alive", "404104: the device has been silent for too long")
        else:
            self._timer = loop.call_later(left, self._watch)

    def _later(self, delay: float, call: Callable[..., None], *arguments: Any) -> None:
        def run() -> None:
            self._timers.discard(timer)
            if not self.closed:
                call(*arguments)

        timer = asyncio.get_running_loop().call_later(max(0.0, delay), run)
        self._timers.add(timer)
