"""What a connector is: open, send, close. Queueing, order, retry, rate and dead letters are the engine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pydantic

from northbound.fields import NoOptions
from northbound.limits import Limits
from northbound.message import Outgoing


class Connector:
    """Delivers messages to one kind of destination.

    A subclass names its options as ``Config`` and its ``limits``; the instance may replace ``limits`` by narrower
    ones in ``open``. ``config`` is an instance of ``Config``; ``name`` is the connector's name in the configuration.
    Raise only the errors below :class:`northbound.DeliveryError`.
    """

    Config: ClassVar[type[pydantic.BaseModel]] = NoOptions
    limits: Limits = Limits()
    #: The topic template where the configuration names none; ``None`` keeps the normalised topic.
    default_topic: ClassVar[str | None] = None
    default_metadata_topic: ClassVar[str | None] = None

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

    async def close(self) -> None:
        """Let go of everything ``open`` took. May be called when not open, and twice."""
