"""The source as northbound sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pydantic

import northbound
from northbound import Imported, Intake
from northbound_placeos.brokers import imported
from northbound_placeos.follow import ask
from northbound_placeos.mirror import Mirror
from northbound_placeos.models import Models
from northbound_placeos.options import Options
from northbound_placeos.tasks import first_of


class PlaceosSource(northbound.Source):
    """Reads a PlaceOS installation: its state tree, live, from Redis and PostgreSQL."""

    Config: ClassVar[type[pydantic.BaseModel]] = Options
    config: Options

    def __init__(self, config: Options, *, name: str) -> None:
        super().__init__(config, name=name)
        self._mirror: Mirror | None = None

    @property
    def origin(self) -> str:
        """Both databases' addresses."""
        return f"Redis at {self.config.redis_address.where}, PostgreSQL at {self.config.postgres_where}"

    @property
    def problem(self) -> str | None:
        """Which database is away."""
        return None if self._mirror is None else self._mirror.problem

    @property
    def synchronised(self) -> bool:
        """Whether everything there is has been handed in once, since it runs."""
        return self._mirror is not None and self._mirror.synchronised

    async def people(self) -> Sequence[str]:
        """Return the names in the user table."""
        return await ask(self.config, Models.people)

    async def destinations(self) -> Sequence[Imported]:
        """Return the brokers that PlaceOS's own service publishes to."""
        return [imported(row) for row in await ask(self.config, Models.brokers)]

    async def run(self, intake: Intake) -> None:
        """Read until cancelled."""
        self._mirror = Mirror(self.config, intake, self.name)
        try:
            await self._mirror.run()
        except BaseExceptionGroup as group:  # of the tasks; the first error stands for all
            raise first_of(group) from None
        finally:
            self._mirror = None
