"""The connector itself: messages to lines, on a thread."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import pydantic

import northbound
from northbound import Limits, Outgoing
from northbound_file.options import Options
from northbound_file.rotated import RotatedFile

_encode = msgspec.json.Encoder().encode


class FileConnector(northbound.Connector):
    """Appends what would be sent to a file, as JSON Lines."""

    Config: ClassVar[type[pydantic.BaseModel]] = Options
    config: Options
    limits = Limits(retain="native", reserved_prefixes=(), batch_messages=1000, batches_in_flight=1)

    def __init__(self, config: Options, *, name: str) -> None:
        super().__init__(config, name=name)
        self._file = RotatedFile(
            config.path,
            max_bytes=config.max_bytes,
            keep=config.keep,
            fsync=config.fsync == "batch",
            mode=int(config.mode, 8),
        )

    @property
    def destination(self) -> str:
        """The path it appends to."""
        return str(self.config.path)

    async def open(self) -> None:
        """Open the file and repair its last line."""
        await asyncio.to_thread(self._file.open)

    async def send(self, batch: Sequence[Outgoing]) -> None:
        """Append ``batch``; return when it is written, and on disk unless ``fsync`` is ``never``."""
        await asyncio.to_thread(self._append, batch)

    async def close(self) -> None:
        """Close the file."""
        await asyncio.to_thread(self._file.close)

    def _append(self, batch: Sequence[Outgoing]) -> None:
        self._file.append([line(message) for message in batch])


def line(message: Outgoing) -> bytes:
    """Return the line that says ``message``."""
    written: dict[str, Any] = {"topic": message.topic}
    try:
        written["payload"] = message.payload.decode()
    except UnicodeDecodeError:
        written["payload_base64"] = b64encode(message.payload).decode()
    written["retain"] = message.retain
    written["kind"] = message.kind
    written["time"] = message.time
    written["key"] = message.key
    if message.properties:
        written["properties"] = dict(message.properties)
    return _encode(written) + b"\n"
