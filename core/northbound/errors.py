"""What can go wrong, as types.

    NorthboundError
    ├── ConfigurationError            the file is wrong; carries every problem found
    ├── PluginError                   a plugin could not be loaded or breaks the contract
    ├── EventRefused                  an event cannot become a message
    ├── StoreError
    │   ├── StoreCorrupt              the file is damaged
    │   ├── StoreForeign              the file is not one of ours, or of a newer version
    │   ├── StoreLocked               another process owns it
    │   └── StoreFull                 the disk refuses more
    └── DeliveryError                 said by a connector
        ├── Unavailable               try again here, later
        │   └── NotConnected          reopen, then try again
        ├── Unauthorised              credentials refused: try again, slowly
        ├── Rejected                  this message will never be taken: dead letter
        └── PartialDelivery           some of a batch; says which and why

A connector raises only a :class:`DeliveryError`; anything else it raises is treated as :class:`NotConnected`
and logged as a defect of the connector. Messages are sentences for people and hold no secret and no payload.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class NorthboundError(Exception):
    """Base of every error this package raises on purpose."""


class Problem(NamedTuple):
    """One thing that is wrong with a configuration: in which file, at which key, what, and what to do about it."""

    file: str
    key: str
    message: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        return f"{where}: {self.message}" + (f" ({self.remedy})" if self.remedy else "")


class ConfigurationError(NorthboundError):
    """The configuration is wrong. ``problems`` holds all that was found, not just the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class PluginError(NorthboundError):
    """A plugin could not be loaded, or what it registers breaks the contract."""


class EventRefused(NorthboundError):
    """An event cannot become a message; the text is the reason."""


class StoreError(NorthboundError):
    """The store cannot do what was asked."""


class StoreCorrupt(StoreError):
    """The store's file is damaged. It is never repaired or overwritten silently."""


class StoreForeign(StoreError):
    """The file is not a northbound store, or one of a newer version."""


class StoreLocked(StoreError):
    """Another process owns the store."""


class StoreFull(StoreError):
    """The disk refuses more; nothing of the refused batch was stored."""


class DeliveryError(NorthboundError):
    """Base of what a connector may say about a delivery."""


class Unavailable(DeliveryError):
    """The destination cannot take it now; try the same again on the same connection.

    ``retry_after`` is the destination's own wish in seconds, where it named one.
    """

    def __init__(self, message: str = "destination unavailable", *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class NotConnected(Unavailable):
    """The connection is gone or never stood: open it again, then try again."""

    def __init__(self, message: str = "not connected", *, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)


class Unauthorised(DeliveryError):
    """The destination refuses the credentials. Trying fast would not help and may lock an account."""


class Rejected(DeliveryError):
    """The destination will never take this message. ``reason`` is kept with the dead letter."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class PartialDelivery(DeliveryError):
    """Some messages of a batch were not acknowledged.

    ``failures`` maps the index within the batch to its error; every index it does not name was acknowledged.
    """

    def __init__(self, failures: Mapping[int, DeliveryError]) -> None:
        self.failures = dict(failures)
        super().__init__(f"{len(self.failures)} of a batch failed: {next(iter(self.failures.values()), '')}")
