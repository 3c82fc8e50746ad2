"""What can be set for a ``file`` connector."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import ByteSize, ConfigDict, Field

from northbound import ConfigPath


class Options(pydantic.BaseModel):
    """Appends what would be sent to a file, one JSON object a line, and rotates it by size."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: ConfigPath = Field(description="The file to append to. Its folder must exist.")
    max_bytes: ByteSize = Field(
        ByteSize(64 * 1024**2),
        ge=1024,
        le=2**63 - 1,
        description="At this size the file is rotated. A single line that is longer has a file of its own.",
    )
    keep: int = Field(
        5, ge=0, le=10_000, description="How many rotated files are kept, as path.1 (the newest), path.2, …"
    )
    fsync: Literal["batch", "never"] = Field(
        "batch",
        description="'batch': acknowledged when on disk. 'never': left to the system; a power cut may lose the last.",
    )
    mode: str = Field(
        "0600", pattern=r"^(0o?)?[0-7]{3}$", description="Permissions of a new file, in octal, such as '0640'."
    )
