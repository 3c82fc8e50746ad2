"""A twin of Azure's Device Provisioning Service: a device proves who it is and is told its hub.

The page: learn.microsoft.com/azure/iot/iot-mqtt-connect-to-iot-dps (copy MicrosoftDocs/azure-docs@001c6559); for the
bodies and times also the SDK (azure/iot/device/provisioning).
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import msgspec
from cryptography.x509.oid import NameOID

from northbound.mqtt import Connack, Connect, ProtocolError, Publish, Suback, Subscribe
from northbound.testing.twins.authority import LOOPBACK, Authority
from northbound.testing.twins.azure_iot import WEBSOCKET_PATH, AzureHubTwin, new_key
from northbound.testing.twins.azure_rules import Refused, check_token, derived_key
from northbound.testing.twins.mqtt_listener import MqttListener, Wire
from northbound.testing.twins.mqtt_peer import MqttPeer
from northbound.testing.twins.record import Record

_RESPONSES: Final = "$dps/registrations/res/#"
_REGISTER: Final = "$dps/registrations/PUT/iotdps-register/?"
_QUERY: Final = "$dps/registrations/GET/iotdps-get-operationstatus/?"
_API_VERSION: Final = "2019-03-31"
#: "alphanumeric, lowercase string and may contain hyphens": the SDK refuses anything else as well.
_REGISTRATION_ID = re.compile(r"[a-z0-9][a-z0-9\-._:]{0,127}")
_NOT_AUTHORISED: Final = 5
_VERSION: Final = 1


class Enrolment(msgspec.Struct, kw_only=True):
    """Who may register. ``hub`` is where it is sent; ``assigning`` is how many polls that takes."""

    hub: AzureHubTwin
    key: str = ""  # of an individual enrolment; empty: X.509, with the registration id as common name
    device_id: str = ""  # where it is another than the registration id
    enabled: bool = True
    assigning: int = 1
    fails: str = ""  # the service's words for a registration that fails


class _Operation(msgspec.Struct):
    registration_id: str
    polls: int


class AzureDpsTwin:
    """One provisioning service; see :class:`~northbound.testing.twins.azure_iot.AzureHubTwin` for the arguments."""

    def __init__(
        self,
        authority: Authority,
        *,
        id_scope: str = "0ne00ABCDEF",
        host: str = "127.0.0.1",
        port: int = 0,
        websocket_port: int = 0,
        retry_after: int = 1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.id_scope = id_scope
        self.host = host
        self.port = port
        self.websocket_port = websocket_port
        self.retry_after = retry_after
        self.clock = clock
        self.record = Record()
        self.enrolments: dict[str, Enrolment] = {}
        self.group: tuple[str, AzureHubTwin] | None = None
        self.registered: list[str] = []
        self.silent = False  # whether it takes requests and never answers
        self.throttled = 0  # so many requests are answered with 429
        self.operations: dict[str, _Operation] = {}
        self._authority = authority
        self._stack = AsyncExitStack()

    def enrol(self, registration_id: str, hub: AzureHubTwin, *, x509: bool = False, **more: Any) -> Enrolment:
        """Create an individual enrolment, by key or by certificate."""
        enrolment = Enrolment(hub=hub, key="" if x509 else new_key(), **more)
        self.enrolments[registration_id] = enrolment
        return enrolment

    def enrol_group(self, hub: AzureHubTwin) -> str:
        """Create an enrolment group and return its key; any device with a key derived from it may register."""
        key = new_key()
        self.group = key, hub
        return key

    def find(self, registration_id: str) -> Enrolment:
        """Return the enrolment of a device; one of the group is made when it first comes."""
        found = self.enrolments.get(registration_id)
        if found is None and self.group is not None:
            key, hub = self.group
            found = Enrolment(hub=hub, key=derived_key(key, registration_id))
            self.enrolments[registration_id] = found
        if found is None:
            raise Refused(f"no enrolment for {registration_id!r}")
        if not found.enabled:
            raise Refused("the enrolment is disabled")
        return found

    def assign(self, registration_id: str) -> dict[str, Any]:
        """Create the device in its hub, or find it there, and return its registration state."""
        enrolment = self.enrolments[registration_id]
        device_id = enrolment.device_id or registration_id
        hub = enrolment.hub
        identity = hub.identities.get(device_id) or hub.register(device_id, by_authority=not enrolment.key)
        if enrolment.key:
            identity.keys = [enrolment.key, enrolment.key]
        self.registered.append(registration_id)
        return {
            "registrationId": registration_id,
            "assignedHub": hub.hub,
            "deviceId": device_id,
            "status": "assigned",
            "substatus": "initialAssignment",
            "createdDateTimeUtc": datetime.fromtimestamp(self.clock(), UTC).isoformat(),
        }

    async def __aenter__(self) -> Self:
        pair = self._authority.server(tuple(dict.fromkeys((*LOOPBACK, self.host))))
        for over_websocket in (False, True):
            listener = MqttListener(
                lambda wire, socket=over_websocket: _DpsPeer(wire, self, websocket=socket),  # type: ignore[misc]
                host=self.host,
                port=self.websocket_port if over_websocket else self.port,
                context=self._authority.server_context(pair, clients="optional"),
                path=WEBSOCKET_PATH,
            )
            await self._stack.enter_async_context(listener)
            if over_websocket:
                self.websocket_port = listener.port
            else:
                self.port = listener.port
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._stack.aclose()


class _DpsPeer(MqttPeer):
    """One device's connection to the provisioning service."""

    max_packet = 64 * 1024

    def __init__(self, wire: Wire, dps: AzureDpsTwin, *, websocket: bool) -> None:
        super().__init__(wire)
        self._dps = dps
        self._websocket = websocket
        self._listens = False
        self._expiry: asyncio.TimerHandle | None = None

    def speaks_websocket(self) -> bool:
        """Each port speaks one thing."""
        return self._websocket

    def on_connect(self, packet: Connect) -> Connack | None:
        """Sign a device in."""
        try:
            if packet.version != 4:
                self._dps.record.refuse(packet.client_id, "connect", "the service speaks MQTT 3.1.1 only")
                return Connack(_VERSION)
            self._sign_in(packet)
        except Refused as error:
            self._dps.record.refuse(packet.client_id, "connect", str(error))
            return Connack(_NOT_AUTHORISED)
        return Connack()

    def _sign_in(self, packet: Connect) -> None:
        dps, registration_id = self._dps, packet.client_id
        if not _REGISTRATION_ID.fullmatch(registration_id):
            raise Refused("the client id is no registration id")
        resource = f"{dps.id_scope}/registrations/{registration_id}"
        # "{idScope}/registrations/{registration_id}/api-version=2019-03-31"; the SDKs add &ClientVersion=…
        start, _, query = (packet.username or "").rpartition("/")
        if start != resource or dict(parse_qsl(query)).get("api-version") != _API_VERSION:
            raise Refused(f"the user name is not {resource}/api-version={_API_VERSION}")
        enrolment = dps.find(registration_id)
        if enrolment.key:
            expiry = check_token(packet.password, [enrolment.key], resource, dps.clock(), policy="registration")
            self._expiry = asyncio.get_running_loop().call_later(expiry - dps.clock(), self.hang_up)
            return
        shown = self.wire.greeting.certificate
        names = [] if shown is None else shown.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        if packet.password or [name.value for name in names] != [registration_id]:
            # the page: "{registration_id} in the Username field must match the common name"
            raise Refused("no client certificate with the registration id as common name, or a token beside it")

    def on_connected(self) -> None:
        """Count it."""
        self._dps.record.connected(self.client_id)

    def on_subscribe(self, packet: Subscribe) -> None:
        """Grant the responses. "it only supports the documented topic names and topic filters"."""
        if [item.filter for item in packet.subscriptions] != [_RESPONSES]:
            self._refuse("a filter that the service does not have")
            return
        self._listens = True
        self.send(Suback(packet.packet_id, (min(packet.subscriptions[0].qos, 1),)))

    def on_publish(self, packet: Publish) -> None:
        """Answer a registration or a poll."""
        if packet.qos == 2:
            self._refuse("QoS 2")
            return
        kind, _, query = packet.topic.partition("?")
        fields = dict(parse_qsl(query))
        request = fields.get("$rid")
        if f"{kind}?" not in (_REGISTER, _QUERY) or not request:
            self._refuse(f"a topic that the service does not have: {packet.topic[:100]!r}")
            return
        self.acknowledge(packet)
        dps = self._dps
        if dps.silent:
            return
        if dps.throttled:
            dps.throttled -= 1
            self._answer(429, request, {"errorCode": 429001, "message": "Operations are being throttled."})
        elif f"{kind}?" == _REGISTER:
            self._register(packet, request)
        else:
            self._query(request, fields.get("operationId", ""))

    def _register(self, packet: Publish, request: str) -> None:
        try:
            body = json.loads(packet.payload)
            named = body["registrationId"]
        except (ValueError, KeyError, TypeError):
            self._answer(400, request, {"errorCode": 400004, "message": "The request is invalid."})
            return
        if named != self.client_id:
            self._answer(401, request, {"errorCode": 401002, "message": "Unauthorized"})
            return
        operation = f"5.{secrets.token_hex(8)}"
        self._dps.operations[operation] = _Operation(named, self._dps.find(named).assigning)
        self._answer(202, request, {"operationId": operation, "status": "assigning"})

    def _query(self, request: str, name: str) -> None:
        dps = self._dps
        operation = dps.operations.get(name)
        if operation is None or operation.registration_id != self.client_id:
            self._answer(404, request, {"errorCode": 404202, "message": "Operation not found."})
            return
        operation.polls -= 1
        if operation.polls > 0:
            self._answer(202, request, {"operationId": name, "status": "assigning"})
            return
        failure = dps.find(self.client_id).fails
        if failure:
            state = {"registrationId": self.client_id, "status": "failed", "errorCode": 400207, "errorMessage": failure}
            self._answer(200, request, {"operationId": name, "status": "failed", "registrationState": state})
            return
        state = dps.assign(self.client_id)
        self._answer(200, request, {"operationId": name, "status": "assigned", "registrationState": state})

    def _answer(self, status: int, request: str, body: dict[str, Any]) -> None:
        if self._listens:
            later = f"&retry-after={self._dps.retry_after}" if status in (202, 429) else ""
            self.send(Publish(f"$dps/registrations/res/{status}/?$rid={request}{later}", json.dumps(body).encode()))

    def _refuse(self, why: str) -> None:
        self._dps.record.refuse(self.client_id, "publish", why)
        self.hang_up()

    def on_violation(self, error: ProtocolError) -> None:
        """Hang up on what is not MQTT."""
        self._refuse(str(error))

    def on_gone(self) -> None:
        """Stop watching the token."""
        if self._expiry is not None:
            self._expiry.cancel()
