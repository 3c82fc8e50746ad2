"""What can be set for a ``simulator`` source."""

from __future__ import annotations

from datetime import datetime, timedelta

import pydantic
from pydantic import ConfigDict, Field

from northbound import Duration


class Options(pydantic.BaseModel):
    """A believable campus: rooms, desks, sensors and people, the same for the same seed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    org: str = Field("org-campus", min_length=1, max_length=256, description="The organisation's id.")
    buildings: int = Field(1, ge=1, le=1000, description="How many buildings.")
    levels: int = Field(4, ge=1, le=200, description="Levels in each building.")
    areas: int = Field(3, ge=1, le=100, description="Areas on each level.")
    systems_per_area: int = Field(4, ge=1, le=1000, description="Systems (rooms, desk areas) in each area.")
    systems: int | None = Field(
        None, ge=1, le=20_000, description="Systems in total, spread over the areas, in place of systems_per_area."
    )
    rate: float = Field(
        10.0,
        ge=0,
        le=1_000_000,
        description="Changes a second; the simulated day passes as fast as that takes. 0: as fast as possible.",
    )
    seed: int = Field(1, description="The same seed gives the same sequence of events.")
    count: int | None = Field(None, ge=1, description="End after so many events, the initial ones included.")
    duration: Duration | None = Field(
        None, gt=timedelta(0), description="End after so long; with rate = 0, after so much simulated time."
    )
    start_time: datetime | None = Field(
        None,
        description="When the simulated day begins and what the first events are stamped with (UTC where no zone is"
        " named). Default: stamped with the present, and the day is a Monday, 08:00.",
    )

    @pydantic.model_validator(mode="after")
    def _bounded(self) -> Options:
        if self.total_systems > 20_000:
            raise ValueError("at most 20000 systems: lower buildings, levels, areas or systems_per_area")
        return self

    @property
    def total_systems(self) -> int:
        """How many systems the campus has."""
        return self.systems or self.buildings * self.levels * self.areas * self.systems_per_area
