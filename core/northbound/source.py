"""What a source is: something that runs and hands events to the intake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol

import pydantic
from msgspec import Struct

from northbound.apikeys import ApiKey
from northbound.events import Event
from northbound.fields import NoOptions
from northbound.message import Address
from northbound.topics import MetadataAddress


class Ticket(Protocol):
    """What :meth:`Intake.submit` answers."""

    @property
    def refused(self) -> Sequence[tuple[int, str]]:
        """The events that cannot become messages, as (position in the batch, reason). Already counted."""

    async def committed(self) -> None:
        """Return when every other event of the batch is on disk.

        Raises :class:`northbound.StoreError` where it will not be (the service is stopping or the store broke).
        """


class Synchronisation(Protocol):
    """A whole tree handed in beside what the store already has of it; begun by :meth:`Intake.synchronise`.

    Until it is finished everything of this source goes through it, in the order of its making.
    """

    async def submit(self, events: Sequence[Event]) -> Ticket:
        """Hand in a batch, as :meth:`Intake.submit` does. What the store holds already is left out."""

    async def finish(self, *, checkpoint: bytes | None = None) -> Ticket:
        """Clear what the store holds of this source and no event of this synchronisation has named."""


class Intake(Protocol):
    """The way in. One for each source."""

    @property
    def hierarchy(self) -> tuple[str, ...]:
        """The zone levels of this site, the organisation first."""

    @property
    def org(self) -> str | None:
        """The organisation of events that name none; ``None`` where those are refused."""

    @property
    def checkpoint(self) -> bytes | None:
        """What this source last stored with a committed batch; ``None`` at first."""

    async def submit(self, events: Sequence[Event], *, checkpoint: bytes | None = None) -> Ticket:
        """Hand in a batch, in order. Waits while the intake is full (back-pressure).

        ``checkpoint`` (at most 4 KiB) is committed with the batch, so that a source can resume exactly behind it.
        """

    async def synchronise(self, owns: Callable[[Address | MetadataAddress], bool]) -> Synchronisation:
        """Begin to hand in everything there is, for a source that knows it all when it starts.

        ``owns`` says of a topic whether it is this source's, so that it may be cleared when it is gone. It is asked
        about topics as they are stored, behind the privacy rules; never about one that this site would not write.
        """

    def refuse(self, where: str, reason: str) -> None:
        """Count and report input that never became an event; ``where`` is a line number or a topic."""

    def mounted(self, path: str, app: Any) -> AbstractContextManager[None]:
        """Serve an ASGI application at exactly ``path`` of the service's own HTTP server, while the context lasts.

        Who may call it is the application's to check. Raises :class:`northbound.NorthboundError` where the service has
        no ``[api]``, or the path is taken.
        """


class Imported(Struct, frozen=True):
    """A destination that the system behind a source delivers to already, as a connector here.

    ``options`` are the keys of its table, ``secrets`` those whose values go into files of their own; ``filters`` are
    regular expressions of what that system was told to hash, ``filter_secret`` the key of those hashes. ``remarks``
    say what a person should know: what was configured there and never done, what is done here otherwise.
    """

    name: str
    type: str
    options: Mapping[str, Any]
    secrets: Mapping[str, str] = {}
    filters: tuple[str, ...] = ()
    filter_secret: str | None = None
    remarks: tuple[str, ...] = ()


class Source:
    """Brings state in. ``config`` is an instance of ``Config``, ``name`` its name in the configuration."""

    Config: ClassVar[type[pydantic.BaseModel]] = NoOptions

    def __init__(self, config: Any, *, name: str) -> None:
        self.config = config
        self.name = name

    @property
    def finite(self) -> bool:
        """Whether ``run`` ends by itself, so that ``--once`` can wait for it."""
        return False

    @property
    def origin(self) -> str:
        """Where it reads, for people; without secrets."""
        return type(self).__name__

    @property
    def problem(self) -> str | None:
        """What is wrong although it runs (a database that is away), for people; ``None`` where nothing is."""
        return None

    async def run(self, intake: Intake) -> None:
        """Read until there is no more, or until cancelled; cancelling means: stop taking in, tidily and soon.

        An exception ends the source; the runtime reports it and starts it again with growing pauses.
        """
        raise NotImplementedError

    async def people(self) -> Sequence[str]:
        """Return whom it knows: names as people write them, for the privacy rules that look for them.

        Called before :meth:`run`, on a connection of its own, and again now and then. Only a source with a user table
        has an answer.
        """
        raise NotImplementedError

    async def api_key(self, key_id: str) -> ApiKey | None:
        """Return the API key with this id that the source's own system has made; ``None`` where there is none.

        Called often, on a connection of its own, also before :meth:`run`: whenever somebody signs in to the API with a
        key that is not ours, and every few seconds while they are there. Raise where nobody can say. Only a source of
        a system with such keys (PlaceOS) has an answer.
        """
        raise NotImplementedError

    async def destinations(self) -> Sequence[Imported]:
        """Return where the system behind it delivers to already, for ``northbound import``.

        Only a source that reads such a system's configuration has an answer.
        """
        raise NotImplementedError
