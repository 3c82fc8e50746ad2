"""A small building behind a running service with an API: one destination receives, one is away; and dead letters."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Self

from tests.support.mosquitto import Mosquitto
from tests.support.service import Service, until

from northbound.api import local
from northbound.api.keyfile import KeyFile, path_beside

ORG = "org-acme"
_NAMES = {
    ORG: "Acme", "bld-harbour": "Harbour House", "lvl-2": "Level 2", "lvl-3": "Level 3", "area-west": "West wing",
    "sys-7": "Boardroom 7", "sys-8": "Boardroom 8", "sys-70": "Boardroom 70", "sys-lobby": "Lobby",
    "drv-display": "LCD Display", "drv-light": "Lighting Zone", "drv-sensor": "Room Sensor",
    "drv-book": "Room Bookings",
}  # fmt: skip
_VALUES = {
    ("drv-display", "Display"): {"power": True, "input": "hdmi-1", "volume": 35},
    ("drv-light", "Lights"): {"scene": "meeting", "level": 70},
    ("drv-sensor", "Sensor"): {"temperature": 21.4, "co2": 512, "presence": True},
    ("drv-book", "Bookings"): {
        "status": "busy",
        "note": "board meeting, catering at noon, please keep the room until one",
    },
}
CONFIGURATION = """
[site]
org = "{org}"
[store]
path = "northbound.db"
[service]
log_level = "warning"
drain = "1s"
[api]
listen = "127.0.0.1:{http}"
mqtt_listen = "127.0.0.1:0"
requests_per_second = 1000
{api}
[sources.building]
type = "jsonl"
path = "events.jsonl"
follow = true
[connectors.aws]
type = "mqtt"
url = "mqtt://127.0.0.1:{port}"
limits = {{ max_payload_bytes = 80 }}
[connectors.hive]
type = "mqtt"
url = "mqtt://127.0.0.1:1"
retry = {{ initial = "10s", maximum = "10s" }}
"""


def state(system: str, driver: str, module: str, name: str, value: object, level: str = "lvl-2") -> dict[str, object]:
    """Return the event of one value."""
    return {
        "kind": "state", "org": ORG, "building": "bld-harbour", "level": level, "area": "area-west", "system": system,
        "driver": driver, "module": module, "index": 1, "state": name, "value": value,
        "time": time.time_ns() // 1_000_000,
    }  # fmt: skip


def events() -> list[dict[str, object]]:
    """Return what the building says at first."""
    found: list[dict[str, object]] = [
        {"kind": "metadata", "org": ORG, "id": id_, "metadata": {"name": name}} for id_, name in _NAMES.items()
    ]
    for system, level in (("sys-7", "lvl-2"), ("sys-8", "lvl-2"), ("sys-70", "lvl-3"), ("sys-lobby", "lvl-2")):
        for (driver, module), values in _VALUES.items():
            found += [state(system, driver, module, name, value, level) for name, value in values.items()]
    return found


class Scene:
    """The service in a process of its own. ``reader`` and ``admin`` are API keys, ``local`` this machine's token."""

    def __init__(self, folder: Path, *, api: str = "", http: int = 0) -> None:
        self.folder = folder
        self._events = folder / "events.jsonl"
        self._events.touch()
        self.tell(*events())
        self.broker = Mosquitto(folder)
        text = CONFIGURATION.format(org=ORG, api=api, port=self.broker.port, http=http)
        self.service = Service(folder, text)
        self.store = folder / "northbound.db"
        keys = KeyFile(path_beside(self.store))
        _, self.reader = keys.create("reader", role="user", org=ORG, scopes=("mqtt.read",))
        _, self.admin = keys.create("admin", role="admin", org=ORG, scopes=("mqtt",))
        _, self.watcher = keys.create("watcher", role="support", org=ORG, scopes=("mqtt.read",))
        _, self.stranger = keys.create("stranger", role="admin", org="org-other", scopes=("mqtt",))

    def tell(self, *rows: dict[str, object]) -> None:
        """Let the building say more."""
        with self._events.open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in rows))

    @property
    def entrance(self) -> local.Entrance:
        """Where the service is, and this machine's token."""
        return local.read(self.store)

    @property
    def url(self) -> str:
        return self.entrance.url

    def __enter__(self) -> Self:
        self.broker.start()
        self.start()
        return self

    def start(self) -> None:
        """Start the service, again where it has stopped."""
        self.service.start()
        until(
            lambda: local.entrance_path(self.store).exists() or not self.service.running,
            what=f"the API begins\n{self.service.log()}",
        )
        assert self.service.running, self.service.log()

    def __exit__(self, *_: object) -> None:
        self.service.stop(timeout=20)
        self.broker.stop()
