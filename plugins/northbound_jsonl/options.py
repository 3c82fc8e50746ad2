"""What can be set for a ``jsonl`` source."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

import pydantic
from pydantic import ByteSize, ConfigDict, Field

from northbound import ConfigPath, Duration

STANDARD_INPUT = "-"


class Options(pydantic.BaseModel):
    """Events as JSON Lines from a file, a named pipe or standard input."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Annotated[Literal["-"] | ConfigPath, Field(union_mode="left_to_right")] = Field(
        description="The file to read, or '-' for standard input."
    )
    follow: bool = Field(
        False, description="Go on at the end of the file as 'tail -F' does, through rotation and truncation."
    )
    strict: bool = Field(False, description="Stop at the first malformed line instead of passing over it.")
    resume: bool = Field(
        True, description="Go on where the last run stopped. false: read the file from its beginning at every start."
    )
    max_line: ByteSize = Field(
        ByteSize(16 * 1024**2),
        ge=256,
        le=256 * 1024**2,
        description="A longer line is refused, and passed over without being held in memory.",
    )
    poll_interval: Duration = Field(
        timedelta(milliseconds=100),
        ge=timedelta(milliseconds=10),
        le=timedelta(minutes=1),
        description="How often a followed file is looked at when nothing has come.",
    )

    @pydantic.model_validator(mode="after")
    def _not_both(self) -> Options:
        if self.follow and self.path == STANDARD_INPUT:
            raise ValueError("standard input cannot be followed: it is read until whoever writes it closes it")
        return self
