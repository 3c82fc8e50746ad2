"""The source as northbound sees it. What needs the databases' libraries is imported when it is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pydantic

import northbound
from northbound import ApiKey, Imported, Intake
from northbound_placeos.brokers import imported
from northbound_placeos.options import Options
from northbound_placeos.tasks import first_of

if TYPE_CHECKING:
    from northbound_placeos.mirror import Mirror


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
        names: list[str] = await self._ask("people")
        return names

    async def api_key(self, key_id: str) -> ApiKey | None:
        """Return a key of PlaceOS's table ``api_key``."""
        from northbound_placeos.keys import find  # noqa: PLC0415 - slow to import

        return await find(self.config, key_id)

    async def destinations(self) -> Sequence[Imported]:
        """Return the brokers that PlaceOS's own service publishes to."""
        return [imported(row) for row in await self._ask("brokers")]

    async def _ask(self, what: Literal["people", "brokers"]) -> Any:
        from northbound_placeos.follow import ask  # noqa: PLC0415 - slow to import
        from northbound_placeos.models import Models  # noqa: PLC0415 - slow to import

        return await ask(self.config, getattr(Models, what))

    async def run(self, intake: Intake) -> None:
        """Read until cancelled."""
        from northbound_placeos.mirror import Mirror  # noqa: PLC0415 - slow to import

        self._mirror = Mirror(self.config, intake, self.name)
        try:
            await self._mirror.run()
        except BaseExceptionGroup as group:  # of the tasks; the first error stands for all
            raise first_of(group) from None
        finally:
            self._mirror = None
