"""What a connector is: open, send, close. Queueing, order, retry, rate and dead letters are the engine's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pydantic

from northbound.credentials import Credential
from northbound.fields import NoOptions
from northbound.limits import Limits
from northbound.message import Kind, Outgoing


class Connector:
    """Delivers messages to one kind of destination.

    A subclass names its options as ``Config`` and its ``limits``; the instance may replace ``limits`` by narrower
    ones in ``open``. ``config`` is an instance of ``Config``; ``name`` is the connector's name in the configuration.
    Raise only the errors below :class:`northbound.DeliveryError`.
    """

    Config: ClassVar[type[pydantic.BaseModel]] = NoOptions
    limits: Limits = Limits()
    #: The topic template where the configuration names none; ``None`` keeps the normalised topic.
    default_topic: str | None = None
    default_metadata_topic: str | None = None
    #: What is sent as retained where the configuration does not say.
    retained_kinds: frozenset[Kind] = frozenset(("state", "metadata"))
    #: Whether the address travels beside the payload: then :attr:`Outgoing.properties` holds the normalised ``topic``,
    #: ``kind``, ``org``, the zones that are there, and ``system driver module index state`` or ``id``, in plain text.
    carries_address: ClassVar[bool] = False

    def __init__(self, config: Any, *, name: str) -> None:
        self.config = config
        self.name = name

    @property
    def destination(self) -> str:
        """Where it delivers, for people; without secrets."""
        return type(self).__name__

    async def open(self) -> None:
        """Connect and sign in; returns when messages may be sent. Called again after :class:`NotConnected`."""

    async def send(self, batch: Sequence[Outgoing]) -> None:
        """Deliver ``batch``; return when the destination has acknowledged all of it.

        With ``limits.batches_in_flight`` above 1 it is called again before earlier calls have returned; what is
        sent must keep the order of the calls.
        """
        raise NotImplementedError

    async def lost(self) -> None:
        """Wait until the open connection is lost and raise why. One that has no connection waits for ever."""
        import asyncio  # noqa: PLC0415 - a third of the time that "import northbound" took

        await asyncio.Event().wait()

    def credentials(self) -> Sequence[Credential]:
        """Return what it signs in with, as far as that expires or stands in a file.

        When one of the files is replaced, what is under way is finished and the connection opened again; whatever
        the connector waits for then ends. Asked again and again: it costs little and does not raise.
        """
        return ()

    def gauges(self) -> Mapping[str, float]:
        """Return numbers of its own for status and metrics, by names such as ``messages_today``."""
        return {}

    def tell(self, words: str) -> None:
        """Say, in ``open``, what is tried and what was answered; ``check --connect`` shows it. Never a secret."""

    def explain(self, error: Exception) -> str | None:  # noqa: ARG002 - for those that know more than its type tells
        """Return the likely cause of an error of ``open`` or ``probe``; ``None`` where its type says it all."""
        return None

    async def probe(self) -> None:
        """Find out whether messages would be taken, where that leaves no trace; raises as ``send`` does.

        Called by ``check --connect`` after ``open``.
        """

    async def close(self) -> None:
        """Let go of everything ``open`` took. May be called when not open, and twice."""
