"""The Device Provisioning Service (DPS): a device proves who it is and is told its hub and its name there.

By our own client, since the SDK's leaves a thread behind for every registration that fails, cannot be stopped, and
knows one port only (docs/adr, "Azure's messages by our own client"). The protocol: iot-mqtt-connect-to-iot-dps.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from northbound import NotConnected, Unauthorised
from northbound.mqtt import Client, ClientOptions
from northbound_azure_iot.asking import Answer, Asking

API_VERSION: Final = "2019-03-31"
_RESPONSES: Final = "$dps/registrations/res/"
_REGISTER: Final = "$dps/registrations/PUT/iotdps-register/?$rid={rid}"
_QUERY: Final = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid={rid}&operationId="
#: The SDK polls every two seconds where the service names no time (azure/iot/device/provisioning/pipeline/constant.py).
_POLL_SECONDS: Final = 2.0
_LONGEST_POLL: Final = 30.0
#: The whole registration; the engine gives a connector 90 seconds to open.
_WHOLE_SECONDS: Final = 70.0
_ANSWER_SECONDS: Final = 30.0
_ACCEPTED: Final = 202
_THROTTLED: Final = 429
_OPERATION_CHARACTERS: Final = frozenset("-._")


class Assignment(msgspec.Struct, frozen=True):
    """Where a device belongs."""

    hub: str
    device_id: str


class _State(msgspec.Struct):
    assignedHub: str | None = None  # noqa: N815 - the service's names
    deviceId: str | None = None  # noqa: N815
    errorMessage: str | None = None  # noqa: N815


class _Operation(msgspec.Struct):
    operationId: str | None = None  # noqa: N815
    status: str | None = None
    registrationState: _State | None = None  # noqa: N815


def username(id_scope: str, registration_id: str) -> str:
    """Return the user name of a registration."""
    return f"{id_scope}/registrations/{registration_id}/api-version={API_VERSION}"


def resource(id_scope: str, registration_id: str) -> str:
    """Return what a registration's token is for."""
    return f"{id_scope}/registrations/{registration_id}"


async def register(options: ClientOptions) -> Assignment:
    """Register and return the assignment.

    Raises ``Unauthorised`` where the service refuses the device or its registration fails, ``NotConnected`` where it
    cannot be reached, is busy or takes too long.
    """
    asking = Asking(_RESPONSES)
    client = Client(options, on_messages=asking.take)
    try:
        async with asyncio.timeout(_WHOLE_SECONDS):
            await client.connect()
            await client.subscribe([f"{_RESPONSES}#"])
            return await _registered(client, asking, options.client_id)
    except TimeoutError:
        raise NotConnected(f"provisioning was not finished within {_WHOLE_SECONDS:g} s") from None
    finally:
        await client.disconnect()


async def _registered(client: Client, asking: Asking, registration_id: str) -> Assignment:
    body = msgspec.json.encode({"registrationId": registration_id})
    topic, payload = _REGISTER, body
    while True:
        answer = await asking.ask(client, topic, payload, _ANSWER_SECONDS)
        _check_status(answer)
        operation = _operation(answer)
        state = operation.registrationState or _State()
        if operation.status == "assigned" and state.assignedHub and state.deviceId:
            return Assignment(state.assignedHub, state.deviceId)
        if operation.status in ("failed", "disabled"):
            words = (state.errorMessage or "no reason given")[:200]
            raise Unauthorised(f"provisioning says {operation.status}: {words}")
        name = operation.operationId or ""
        if operation.status not in ("assigning", "unassigned") or not _is_operation(name):
            raise NotConnected("the provisioning service's answer is not understood")
        await asyncio.sleep(_wait(answer))
        topic, payload = f"{_QUERY}{name}", b" "


def _check_status(answer: Answer) -> None:
    """Raise where a status means that the registration is over."""
    if answer.status in (200, _ACCEPTED):
        return
    if answer.status == _THROTTLED or answer.status >= 500:
        wait = max(_wait(answer), 10.0)
        raise NotConnected(f"the provisioning service is busy ({answer.status})", retry_after=wait)
    raise Unauthorised(f"the provisioning service refuses the registration ({answer.status}){_said(answer)}")


def _said(answer: Answer) -> str:
    try:
        body: Any = msgspec.json.decode(answer.body)
        return f": {str(body['message'])[:200]}"
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""


def _operation(answer: Answer) -> _Operation:
    try:
        return msgspec.json.decode(answer.body, type=_Operation)
    except msgspec.DecodeError:
        raise NotConnected("the provisioning service's answer is not understood") from None


def _is_operation(name: str) -> bool:
    return 0 < len(name) <= 200 and all(c.isascii() and (c.isalnum() or c in _OPERATION_CHARACTERS) for c in name)


def _wait(answer: Answer) -> float:
    stated = answer.fields.get("retry-after", "")
    return min(float(stated), _LONGEST_POLL) if stated.isascii() and stated.isdigit() else _POLL_SECONDS
