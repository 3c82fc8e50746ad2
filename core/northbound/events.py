"""What a source brings in, and the JSON Lines format that says it (DESIGN: the JSON Lines event format)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from northbound.errors import EventRefused
from northbound.message import Address

#: The last moment of the year 9999: a time beyond it is a mistake of unit, not a time.
LATEST_TIME = 253_402_300_799_999

DEFAULT_HIERARCHY = ("org", "building", "level", "area")


class State(Struct, frozen=True, gc=False):
    """A value has changed. ``value`` is any JSON value; ``time`` in ms since 1970, ``None`` where unknown."""

    org: str | None
    zones: tuple[str | None, ...]
    system: str
    driver: str
    module: str
    index: int
    state: str
    value: Any
    time: int | None = None


class Metadata(Struct, frozen=True, gc=False):
    """An entity (zone, system, driver) as it is now; ``None`` as ``metadata`` says that it is gone."""

    org: str | None
    id: str
    metadata: dict[str, Any] | None
    time: int | None = None


class Cleared(Struct, frozen=True, gc=False):
    """A value is gone: its topic is cleared."""

    org: str | None
    zones: tuple[str | None, ...]
    system: str
    driver: str
    module: str
    index: int
    state: str
    time: int | None = None


Event = State | Metadata | Cleared


def event_at(address: Address, value: Any, time: int | None = None) -> State:
    """Return the event that says that ``address`` now has ``value``."""
    a = address
    return State(a.org, a.zones, a.system, a.driver, a.module, a.index, a.state, value, time)


_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_LONGEST_KEY = 40
_LONGEST_REASON = 200
_REQUIRED = ("system", "driver", "module", "index", "state")


class EventDecoder:
    """Reads JSON Lines into events, for one hierarchy.

    Raises :class:`EventRefused` with the reason, never anything else, whatever the line holds. Of a key that
    comes twice the last one counts, as JSON readers commonly do (RFC 8259, section 4).
    """

    def __init__(self, hierarchy: Sequence[str] = DEFAULT_HIERARCHY) -> None:
        self.hierarchy = tuple(hierarchy)
        zones = self.hierarchy[1:]
        wire = msgspec.defstruct(
            "Line",
            [
                ("kind", str),
                ("org", str | None, None),
                *((zone, str | None, None) for zone in zones),
                ("system", str | None, None),
                ("driver", str | None, None),
                ("module", str | None, None),
                ("index", int | None, None),
                ("state", str | None, None),
                ("value", Any, UNSET),
                ("time", int | None, None),
                ("id", str | None, None),
                ("metadata", dict[str, Any] | None | UnsetType, UNSET),
            ],
            forbid_unknown_fields=True,
            gc=False,
        )
        self._decode: Callable[[bytes | str], Any] = msgspec.json.Decoder(wire).decode
        # One C call for the usual two and more levels; attrgetter gives no tuple for fewer.
        self._zones: Callable[[Any], tuple[str | None, ...]] = (
            attrgetter(*zones) if len(zones) > 1 else lambda line: tuple(getattr(line, zone) for zone in zones)
        )

    def decode(self, line: bytes | str) -> Event:
        """Return the event that one line holds."""
        try:
            wire = self._decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
            raise EventRefused(self._explain(error, line)) from None
        kind = wire.kind
        if kind == "state":
            if wire.value is UNSET:
                raise EventRefused("a state needs a 'value' (null is one)")
            self._require(wire)
            return State(
                wire.org,
                self._zones(wire),
                wire.system,
                wire.driver,
                wire.module,
                wire.index,
                wire.state,
                wire.value,
                wire.time,
            )
        if kind == "metadata":
            if not wire.id:
                raise EventRefused("metadata needs an 'id'")
            if wire.metadata is UNSET:
                raise EventRefused("metadata needs a 'metadata' object (or null where the entity is gone)")
            return Metadata(wire.org, wire.id, wire.metadata, wire.time)
        if kind == "cleared":
            self._require(wire)
            return Cleared(
                wire.org, self._zones(wire), wire.system, wire.driver, wire.module, wire.index, wire.state, wire.time
            )
        raise EventRefused("unknown 'kind': it is state, metadata or cleared")

    def decode_all(self, lines: Iterable[bytes | str]) -> tuple[list[Event], list[tuple[int, str]]]:
        """Return the events of ``lines`` and the refused ones as (position, reason); blank lines are passed over.

        A position counts from 0 over all lines given, so that the caller can add its own first line number.
        """
        events: list[Event] = []
        refused: list[tuple[int, str]] = []
        for position, line in enumerate(lines):
            try:
                events.append(self.decode(line))
            except EventRefused as error:
                if line.strip():
                    refused.append((position, str(error)))
        return events, refused

    @staticmethod
    def _require(wire: Any) -> None:
        if wire.system and wire.driver and wire.module and wire.index is not None and wire.state:
            return
        missing = [name for name in _REQUIRED if getattr(wire, name) in (None, "")]
        raise EventRefused(f"missing or empty: {', '.join(missing)}")

    def _explain(self, error: Exception, line: bytes | str) -> str:
        """Return the reason in words: where and what, never a value, and no key longer than a glance."""
        if isinstance(error, RecursionError):
            return "nested too deeply"
        if isinstance(error, UnicodeEncodeError):
            return f"not Unicode text: a lone surrogate at character {error.start}"
        if isinstance(error, UnicodeDecodeError):
            try:  # the decoder counts from the start of a string within the line
                bytes(line).decode()  # type: ignore[arg-type]
            except UnicodeDecodeError as whole:
                return f"not valid UTF-8 at byte {whole.start}"
        if line[:3] == b"\xef\xbb\xbf" or line[:1] == "\ufeff":
            return "begins with a byte order mark: save it as UTF-8 without one"
        text = str(error)
        if (unknown := _UNKNOWN.match(text)) is not None:
            key = unknown[1]
            # Never a part of it: whoever looks for personal data in a reason must see all of it or nothing.
            key = repr(key) if len(key) <= _LONGEST_KEY else f"of {len(key)} characters"
            return f"unknown key {key}: the hierarchy here is {', '.join(self.hierarchy)}"
        if "truncated" in text:
            text += ", or a \\u escape is half of a surrogate pair"
        return f"not an event: {text if len(text) <= _LONGEST_REASON else 'its keys are too long to tell'}"
