"""Metadata as reported properties of the device twin, within its limits (iot-hub-devguide-device-twins).

Each entity is a property under ``northbound``, named by its id; keys that the twin does not allow are percent-encoded.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from northbound import NotConnected, Rejected, Unavailable
from northbound.mqtt import Client, Received
from northbound_azure_iot.asking import Asking
from northbound_azure_iot.metering import Meter

#: "a 32-KB size limit each on the value of properties/desired and properties/reported".
LARGEST_SECTION: Final = 32 * 1024
#: "String values are UTF-8 encoded and can have a maximum length of 4 KB"; kept for an entity as a whole too.
LARGEST_VALUE: Final = 4 * 1024
#: "All keys ... up-to 1 KB in length"; "Allowed characters exclude UNICODE control characters (segments C0 and C1), and
#: ., $, and SP".
_LONGEST_KEY: Final = 1024
_NOT_IN_KEYS = re.compile("[\x00-\x1f\x7f-\x9f.$ %]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
#: "The maximum depth of JSON objects ... is 10", and two of them are ours.
_DEEPEST: Final = 8
#: "Integers can have a minimum value of -4503599627370496 and a maximum value of 4503599627370495".
_INTEGERS: Final = range(-(1 << 52), 1 << 52)
ROOT: Final = "northbound"
_RESPONSES: Final = "$iothub/twin/res/"
_GET: Final = "$iothub/twin/GET/?$rid={rid}"
_PATCH: Final = "$iothub/twin/PATCH/properties/reported/?$rid={rid}"
_NO_CONTENT: Final = 204
_BAD_REQUEST: Final = 400
_THROTTLED: Final = 429
_SERVER_ERROR: Final = 500
_RETRY_AFTER: Final = 5.0


class ReportedProperties:
    """What one device reports. It knows what is there, so that nothing is sent that would be refused.

    ``seconds`` is how long an answer may take; ``bounded`` says whether what is reported must fit into the budget.
    """

    def __init__(self, seconds: float, meter: Meter, *, bounded: bool) -> None:
        self._seconds = seconds
        self._meter = meter
        self._bounded = bounded
        self._asking = Asking(_RESPONSES)
        self._other = 0  # the size of what others report there
        self._entities: dict[str, Any] = {}
        self._known = False  # whether what is written here is what the twin holds

    def take(self, messages: list[Received]) -> None:
        """Take what the hub published on the connection."""
        self._asking.take(messages)

    @property
    def size(self) -> int:
        """The size of the section, in bytes as the hub counts."""
        return self._other + size_of(self._entities)

    async def begin(self, client: Client) -> None:
        """Subscribe to answers and find out what is there already. Raises ``NotConnected``."""
        await client.subscribe([f"{_RESPONSES}#"], 0)
        answer = await self._asking.ask(client, _GET, b"", self._seconds)
        self._meter.add(len(answer.body), message=False)
        if answer.status != 200:
            raise NotConnected(f"the hub does not give the device's twin (status {answer.status})")
        try:
            reported = msgspec.json.decode(answer.body)["reported"]
            found = {key: value for key, value in reported.items() if not key.startswith("$")}
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            raise NotConnected("the hub's answer about the device's twin is not understood") from None
        ours = found.pop(ROOT, {})
        self._other = size_of(found) + len(ROOT)
        self._entities = ours if isinstance(ours, dict) else {}
        self._known = True

    async def report(self, client: Client, entity: str, payload: bytes) -> None:
        """Report an entity's metadata; an empty payload takes it away.

        One call at a time: each patch is made of what the one before it has left. Where one had no answer that is not
        known, and the connection has to be made anew.

        Raises ``Rejected`` where the twin has no room for it or would not take it, ``Unavailable`` where the hub is
        busy or the budget is used up, ``NotConnected`` where the connection has ended.
        """
        key = allowed_key(entity)
        value = allowed_value(msgspec.json.decode(payload)) if payload else None
        await self._patch(client, key, value)

    async def _patch(self, client: Client, key: str, value: Any) -> None:
        if not self._known:
            raise NotConnected("what the device's twin holds is not known: an earlier report had no answer")
        self._check_room(key, value)
        patch = msgspec.json.encode({ROOT: {key: difference(self._entities.get(key), value)}})
        if not self._bounded:
            self._meter.add(len(patch), message=False)
        elif not self._meter.take(len(patch), message=False):
            raise self._meter.used_up()
        self._known = False
        answer = await self._asking.ask(client, _PATCH, patch, self._seconds)
        self._known = answer.status < _SERVER_ERROR
        if answer.status in (200, _NO_CONTENT):
            self._entities.pop(key, None)
            if value is not None:
                self._entities[key] = value
        elif answer.status == _BAD_REQUEST:
            raise Rejected("the twin refuses the reported property (400)")
        else:
            what = "too many twin updates" if answer.status == _THROTTLED else "the twin is not available"
            raise Unavailable(f"{what} ({answer.status})", retry_after=_RETRY_AFTER)

    def _check_room(self, key: str, value: Any) -> None:
        if value is None:
            return
        size = size_of({key: value})
        if size > LARGEST_VALUE:
            raise Rejected(f"{size:,} bytes as a reported property: {LARGEST_VALUE:,} is the most")
        before = self._entities.get(key)
        whole = self.size - (0 if before is None else size_of({key: before})) + size
        if whole > LARGEST_SECTION:
            raise Rejected(
                f"the twin's reported properties would have {whole:,} bytes: {LARGEST_SECTION:,} is the most"
            )


def difference(old: Any, new: Any) -> Any:
    """Return the patch that makes ``new`` of ``old``: a patch is merged, so that what is gone has to be said."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    gone = {key: None for key in old if key not in new}
    return gone | {key: difference(old.get(key), value) for key, value in new.items() if old.get(key) != value}


def allowed_key(text: str) -> str:
    """Return ``text`` as a key of the twin, percent-encoded where it has to be; :func:`plain_key` undoes it."""
    key = _NOT_IN_KEYS.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text)
    if len(key.encode()) > _LONGEST_KEY:
        raise Rejected(f"a key of {len(key.encode()):,} bytes: a twin takes {_LONGEST_KEY:,}")
    return key


def plain_key(key: str) -> str:
    """Return what :func:`allowed_key` made a key of."""
    return unquote(key)


def allowed_value(value: Any, depth: int = 0) -> Any:
    """Return a value as a twin takes it: keys encoded, members that are null left out. Raises ``Rejected``."""
    if depth > _DEEPEST:
        raise Rejected(f"metadata deeper than {_DEEPEST} levels: a twin takes no more")
    if isinstance(value, dict):
        present = {key: inner for key, inner in value.items() if inner is not None}
        return {allowed_key(key): allowed_value(inner, depth + 1) for key, inner in present.items()}
    if isinstance(value, list):
        return [allowed_value(inner, depth + 1) for inner in value]
    if isinstance(value, str) and len(value.encode()) > LARGEST_VALUE:
        raise Rejected(f"a text of {len(value.encode()):,} bytes: a twin takes {LARGEST_VALUE:,}")
    if isinstance(value, int) and not isinstance(value, bool) and value not in _INTEGERS:
        raise Rejected("an integer of more than 52 bits: a twin takes none")
    return value


def size_of(value: Any) -> int:
    """Return the size of a value as the hub counts it (iot-hub-devguide-device-twins, "Device twin size").

    Keys and strings are their UTF-8 without control characters, numbers 8 bytes, booleans 4.
    """
    if isinstance(value, dict):
        return sum(_text_size(key) + size_of(inner) for key, inner in value.items())
    if isinstance(value, list):
        return sum(map(size_of, value))
    if isinstance(value, str):
        return _text_size(value)
    return 0 if value is None else 4 if isinstance(value, bool) else 8


def _text_size(text: str) -> int:
    return len(_CONTROL.sub("", text).encode())
