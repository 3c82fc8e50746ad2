"""The state tree: rows, hashes and changes in, events out. Pure: no clock, no socket.

A value is published at every place of its module. What was published is remembered as a hash a key, so that only what
differs is published again, and so that the keys are known when their topics have to be cleared.

Values that are read are older than changes that arrive. While a module is being read its changes are kept aside, in
a window; :meth:`Tree.values` is called when every change that Redis published before it was read has arrived, and lays
the window over what was read. So no older value follows a newer one, and nothing in between is lost. A module with a
new place has its window from the moment that place is known: what is published there begins with its whole state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from sys import intern
from typing import Any, Final, Literal

import msgspec

from northbound import Cleared, Event, Metadata, State
from northbound.directory import Directory, Entity, Module, Place

Stopped = Literal["disconnected", "clear", "keep"]
Removed = Literal["clear", "null"]

_decode: Final = msgspec.json.Decoder().decode
#: How a status says that it has no value: drivers remove it, an edge stores the word (reference: storage).
_NOTHING: Final = (None, b"", b"null")
_NULL_DIGEST: Final = hash(b"null")
_FALSE: Final = b"false"
CONNECTED: Final = "connected"


class Tree:
    """What is published of one installation.

    ``hold`` (ms) is how long a status may be gone before that is published. ``refuse`` is called with where and why
    for what cannot be published.
    """

    def __init__(
        self,
        directory: Directory,
        refuse: Callable[[str, str], None],
        *,
        stopped: Stopped = "disconnected",
        removed: Removed = "clear",
        hold: int = 0,
        max_value_bytes: int = 1 << 20,
    ) -> None:
        self.directory = directory
        self._refuse = refuse
        self._stopped = stopped
        self._removed = removed
        self._hold = hold
        self._max_value_bytes = max_value_bytes
        self._known: dict[str, dict[str, int]] = {}
        self._refused: dict[str, dict[str, int]] = {}  # what was refused, so that it is not told again each time
        self._fresh: dict[str, set[Place]] = {}
        self._windows: dict[str, dict[str, tuple[bytes | None, int]]] = {}
        self._wanted: dict[str, None] = {}
        self._held: dict[tuple[str, str], int] = {}  # (module, key) → when it counts as gone, soonest first
        self._held_of: dict[str, set[str]] = {}  # module → its keys among them

    # what is to be read

    @property
    def complete(self) -> bool:
        """Whether everything that has a place has been read."""
        return not self._wanted and not self._windows

    @property
    def wanted(self) -> int:
        """How many modules wait to be read."""
        return len(self._wanted)

    @property
    def values_known(self) -> int:
        """How many values are published, counted once a module."""
        return sum(map(len, self._known.values()))

    def next_due(self, now: int) -> int | None:
        """Return in how many ms the first status that is gone counts as gone; never longer than one is held back."""
        moment = next(iter(self._held.values()), None)
        return None if moment is None else min(max(0, moment - now), self._hold)

    def want(self, modules: Iterable[str]) -> None:
        """Ask for modules to be read again."""
        self._wanted.update(dict.fromkeys(modules))

    def want_all(self) -> None:
        """Ask for everything: changes may have been missed. What was being read is asked for again."""
        for module in self._windows:
            self._windows[module] = {}
        self.want(self._windows)
        self.want(self.directory.placed())

    def begin(self, limit: int) -> list[str]:
        """Return which modules to read now: ask Redis for them, and then call :meth:`values` for each."""
        modules = list(self._wanted)[:limit]
        for module in modules:
            del self._wanted[module]
            self._windows.setdefault(module, {})
        return modules

    # in

    def rows(self, rows: Sequence[Entity], gone: Iterable[tuple[type[Entity], str]] = ()) -> list[Event]:
        """Take in changed rows; returns what that clears and describes. The values follow when they are read."""
        for row in rows:
            if isinstance(row, Module):
                old = self.directory.module(row.id)
                if old is not None and old.running != row.running:
                    self.want((row.id,))
        changes = self.directory.apply(rows, gone)
        events: list[Event] = []
        for moved in changes.moved:
            self._move(moved.module, moved.gone, moved.new, events)
        events += [
            Metadata(d.org, d.id, None if d.about is None else dict(d.about))
            for d in changes.described
            if d.about is None
        ]
        events += [Metadata(d.org, d.id, dict(d.about)) for d in changes.described if d.about is not None]
        return events

    def values(self, module: str, found: Mapping[bytes, bytes], time: int) -> list[Event]:
        """Take in what was read of a module at ``time``, after every change that was published before."""
        window = self._windows.pop(module, {})
        fresh = self._fresh.pop(module, set())
        places = self.directory.places(module)
        events: list[Event] = []
        if not places:
            self._forget(module)
            return events
        values: dict[str, tuple[bytes | None, int]] = {}
        for name, text in found.items():
            try:
                values[intern(name.decode())] = (text, time)
            except UnicodeDecodeError:
                self._refuse(f"status/{module}", "a key that is not UTF-8")
        values |= window
        known = self._known.get(module, {})
        for key in [key for key in self._refused.get(module, ()) if key not in values]:
            self._forgive(module, key)
        for key, (raw, when) in values.items():
            self._set(module, key, raw, when, places, fresh, events)
        for key in [key for key in known if key not in values]:
            self._gone(module, key, time, events, fresh)
        return events

    def changed(self, module: str, key: str, raw: bytes | None, time: int) -> list[Event]:
        """Take in a change that arrived at ``time``; ``None``: the status is gone."""
        window = self._windows.get(module)
        if window is not None:
            window[key] = (raw, time)
            return []
        events: list[Event] = []
        places = self.directory.places(module)
        if places:
            self._set(module, intern(key), raw, time, places, (), events)
        return events

    def due(self, now: int) -> list[Event]:
        """Return what follows from statuses that have been gone for long enough."""
        events: list[Event] = []
        while self._held:
            (module, key), moment = next(iter(self._held.items()))
            if now < moment <= now + self._hold:  # later than that, and the clock was put back: nobody waits for it
                break
            self._let_go(module, key)
            if module not in self._windows:  # else what is read will tell
                self._end(module, key, now, events)
        return events

    # the work

    def _move(self, module: str, gone: Sequence[Place], new: Sequence[Place], events: list[Event]) -> None:
        fresh = self._fresh.setdefault(module, set())
        for place in gone:
            if place in fresh:
                fresh.discard(place)  # nothing was published there yet
            else:
                events += [_cleared(place, key) for key in self._known.get(module, ())]
        fresh.update(new)
        if not self.directory.places(module):
            self._forget(module)
        elif fresh:
            self._windows.setdefault(module, {})
            self.want((module,))
        else:
            del self._fresh[module]

    def _forget(self, module: str) -> None:
        """Nothing of the module is published any more."""
        self._known.pop(module, None)
        self._refused.pop(module, None)
        for key in self._held_of.pop(module, ()):
            del self._held[module, key]
        self._fresh.pop(module, None)
        self._windows.pop(module, None)
        self._wanted.pop(module, None)

    def _set(
        self,
        module: str,
        key: str,
        raw: bytes | None,
        time: int,
        places: Sequence[Place],
        fresh: Iterable[Place],
        events: list[Event],
    ) -> None:
        """Publish a value where it differs, and at the ``fresh`` places in any case."""
        if self._stopped != "keep":
            raw = self._of_stopped(module, key, raw)
        if raw in _NOTHING:
            self._forgive(module, key)
            self._gone(module, key, time, events, fresh, said=raw is not None)
            return
        self._let_go(module, key)
        digest = hash(raw)
        known = self._known.get(module)
        same = known is not None and known.get(key) == digest
        if same and not fresh:
            return
        try:
            value = self._value(raw or b"")
        except ValueError as error:
            refused = self._refused.setdefault(module, {})
            if refused.get(key) != digest:
                refused[key] = digest
                self._refuse(f"status/{module}/{key}", str(error))
            if known is not None and key in known:
                self._end(module, key, time, events)
            return
        self._forgive(module, key)
        if known is None:
            known = self._known[module] = {}
        known[key] = digest
        events += [_state(place, key, value, time) for place in (fresh if same else places)]

    def _forgive(self, module: str, key: str) -> None:
        """Forget that a value was refused: another one is there, or none."""
        refused = self._refused.get(module)
        if refused is not None and refused.pop(key, None) is not None and not refused:
            del self._refused[module]

    def _of_stopped(self, module: str, key: str, raw: bytes | None) -> bytes | None:
        row = self.directory.module(module)
        if row is None or row.running:
            return raw
        if self._stopped == "clear":
            return None
        return _FALSE if key == CONNECTED and raw not in _NOTHING else raw

    def _value(self, raw: bytes) -> Any:
        if len(raw) > self._max_value_bytes:
            raise ValueError(f"a value of {len(raw)} bytes: the most is {self._max_value_bytes}")
        try:
            return _decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            raise ValueError("its value is not JSON") from None
        except RecursionError:
            raise ValueError("its value is nested too deeply") from None

    def _gone(
        self, module: str, key: str, time: int, events: list[Event], fresh: Iterable[Place] = (), *, said: bool = False
    ) -> None:
        """Take in that a status has no value. ``said``: Redis names it, so that there is a null to publish.

        With a fresh place it counts at once: a value that came back could not be told from one published everywhere.
        """
        digest = self._known.get(module, {}).get(key)
        if digest == _NULL_DIGEST:  # published already
            events += [_state(place, key, None, time) for place in fresh]
        elif digest is None and not (said and self._removed == "null"):
            return
        elif self._hold and not fresh:
            self._held.setdefault((module, key), time + self._hold)
            self._held_of.setdefault(module, set()).add(key)
        else:
            self._end(module, key, time, events)

    def _let_go(self, module: str, key: str) -> None:
        """Hold a status back no longer."""
        if self._held.pop((module, key), None) is not None:
            keys = self._held_of[module]
            keys.discard(key)
            if not keys:
                del self._held_of[module]

    def _end(self, module: str, key: str, time: int, events: list[Event]) -> None:
        """Publish that a status is gone."""
        self._let_go(module, key)
        fresh = self._fresh.get(module, ())
        places = [place for place in self.directory.places(module) if place not in fresh]
        known = self._known.setdefault(module, {})
        if self._removed == "null":
            known[key] = _NULL_DIGEST
            events += [_state(place, key, None, time) for place in places]
            return
        known.pop(key, None)
        if not known:
            del self._known[module]
        events += [_cleared(place, key) for place in places]


def _state(place: Place, key: str, value: Any, time: int) -> State:
    p = place
    return State(p.org, p.zones, p.system, p.driver, p.module, p.index, key, value, time)


def _cleared(place: Place, key: str) -> Cleared:
    p = place
    return Cleared(p.org, p.zones, p.system, p.driver, p.module, p.index, key)
