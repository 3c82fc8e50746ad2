"""The durable log of messages, one cursor per connector, the current value per topic, the dead letters."""

from northbound.store.records import Append, DeadLetter, Entries, Position, Progress, Settlement, Store
from northbound.store.sqlite import SqliteStore

__all__ = ["Append", "DeadLetter", "Entries", "Position", "Progress", "Settlement", "SqliteStore", "Store"]
