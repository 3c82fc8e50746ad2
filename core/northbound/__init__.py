"""Building state in, any cloud broker out.

This is the whole public surface; a plugin needs no second import (and :mod:`northbound.mqtt` where it speaks MQTT,
:mod:`northbound.directory` where it reads a building's own database).
"""

from northbound.apikeys import ApiKey
from northbound.connector import Connector
from northbound.credentials import Credential
from northbound.errors import (
    ConfigurationError,
    DeliveryError,
    EventRefused,
    NorthboundError,
    NotConnected,
    PartialDelivery,
    PluginError,
    Problem,
    Rejected,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreLocked,
    Unauthorised,
    Unavailable,
)
from northbound.events import Cleared, Event, EventDecoder, Metadata, State
from northbound.fields import ConfigPath, Duration, TopicFilter
from northbound.hookspecs import hookimpl
from northbound.lanes import Lanes
from northbound.limits import Limits
from northbound.message import Address, Message, Outgoing
from northbound.privacy.detector import Detector, Found
from northbound.source import Imported, Intake, Source, Synchronisation, Ticket
from northbound.topics import MetadataAddress

__version__ = "0.1.0"

__all__ = [
    "Address",
    "ApiKey",
    "Cleared",
    "ConfigPath",
    "ConfigurationError",
    "Connector",
    "Credential",
    "DeliveryError",
    "Detector",
    "Duration",
    "Event",
    "EventDecoder",
    "EventRefused",
    "Found",
    "Imported",
    "Intake",
    "Lanes",
    "Limits",
    "Message",
    "Metadata",
    "MetadataAddress",
    "NorthboundError",
    "NotConnected",
    "Outgoing",
    "PartialDelivery",
    "PluginError",
    "Problem",
    "Rejected",
    "Source",
    "State",
    "StoreCorrupt",
    "StoreError",
    "StoreForeign",
    "StoreFull",
    "StoreLocked",
    "Synchronisation",
    "Ticket",
    "TopicFilter",
    "Unauthorised",
    "Unavailable",
    "__version__",
    "hookimpl",
]
