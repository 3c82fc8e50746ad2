"""The API as the runtime sees it: begun, fed, told of a reload, stopped.

Begun before the sources run, so that the tree is whole when the first client comes; stopped after them, so that clients
see what the sources brought last.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import structs

from northbound.api import local
from northbound.api.access import Rules
from northbound.api.app import Served, build
from northbound.api.broker import Broker
from northbound.api.identity import Identity
from northbound.api.mqtt_socket import MqttListener, mqtt_endpoint
from northbound.api.pages import App
from northbound.api.server import HttpServer
from northbound.api.signin import SignIn
from northbound.api.stream import Streams
from northbound.config import SiteOptions
from northbound.errors import NorthboundError
from northbound.message import Message
from northbound.serving import ApiOptions, ListenAddress
from northbound.status import Status
from northbound.store.present import present

log = logging.getLogger(__name__)
