"""Random histories of an installation: what its services, its people and its operators do, a step at a time."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from tests.support.placeos_installation import Installation

Step = tuple[Any, ...]
TAGS = ("org", "building", "level", "area", "desk")
NAMES = (None, None, "Left", "a/b", "Ünï#", " ")
KEYS = ("power", "volume", "connected", "zone-1:areas", "a/b")
VALUES = ("true", "false", "1", '"hdmi"', '{"a":[1,null]}', "null", "", "no json", '"ü"')


class Pools:
    """How many of each there may be."""

    def __init__(self, zones: int = 6, systems: int = 4, drivers: int = 2, modules: int = 6) -> None:
        self.zones = [f"zone-{n}" for n in range(zones)]
        self.systems = [f"sys-{n}" for n in range(systems)]
        self.drivers = [f"driver-{n}" for n in range(drivers)]
        self.modules = [f"mod-{n}" for n in range(modules)]


def step(rng: random.Random, pools: Pools) -> Step:
    """Return one thing that happens; some twelve of twenty are changes of statuses."""
    kind = rng.choices(
        ("set", "remove", "restart", "expire", "zone", "sys", "driver", "mod", "delete", "stop"),
        (9, 2, 1, 1, 2, 3, 1, 3, 2, 1),
    )[0]
    module = rng.choice(pools.modules)
    if kind == "set":
        return ("set", module, rng.choice(KEYS), rng.choice(VALUES))
    if kind in ("remove", "expire"):
        return (kind, module, rng.choice(KEYS))
    if kind == "restart":
        return ("restart", module, {key: rng.choice(VALUES[:5]) for key in rng.sample(KEYS, 2)})
    if kind == "zone":
        parent = rng.choice([None, *pools.zones])
        return (
            "put",
            "zone",
            rng.choice(pools.zones),
            {"tags": rng.sample(TAGS, rng.randint(0, 2)), "parent_id": parent},
        )
    if kind == "sys":
        zones = rng.sample(pools.zones, rng.randint(0, min(4, len(pools.zones))))
        modules = rng.sample(pools.modules, rng.randint(0, min(5, len(pools.modules))))
        return ("put", "sys", rng.choice(pools.systems), {"zones": zones, "modules": modules})
    if kind == "driver":
        return ("put", "driver", rng.choice(pools.drivers), {"module_name": rng.choice(("Display", "Lights"))})
    if kind == "mod":
        driver, name = rng.choice(pools.drivers), rng.choice(("Display", "Lights", ""))
        row = {"driver_id": driver, "name": name, "custom_name": rng.choice(NAMES), "running": True}
        return ("put", "mod", module, row)
    if kind == "stop":
        return ("put", "mod", module, {"running": rng.random() < 0.5})
    table, ids = rng.choice(
        [("zone", pools.zones), ("sys", pools.systems), ("driver", pools.drivers), ("mod", pools.modules)]
    )
    return ("delete", table, rng.choice(ids))


def furnish(installation: Installation, pools: Pools, rng: random.Random) -> None:
    """Give every id of the pools a row, so that most of what happens is seen."""
    put = installation.put
    for number, id_ in enumerate(pools.zones):
        parent = pools.zones[(number - 1) // 2] if number else None
        put("zone", id_, name=id_, tags=[TAGS[min(number, 3)]], parent_id=parent)
    for id_ in pools.drivers:
        put("driver", id_, name=id_, module_name="Display")
    for id_ in pools.modules:
        put("mod", id_, driver_id=rng.choice(pools.drivers), name="Display", running=True)
    for id_ in pools.systems:
        zones = [pools.zones[0], *rng.sample(pools.zones[1:], min(2, len(pools.zones) - 1))]
        put("sys", id_, name=id_, zones=zones, modules=rng.sample(pools.modules, min(4, len(pools.modules))))


def take(installation: Installation, what: Step) -> None:
    """Let it happen."""
    kind, *more = what
    actions: dict[str, Callable[..., object]] = {
        "set": lambda module, key, text: (
            installation.remove(module, key) if text in ("", "null") else installation.set(module, key, text)
        ),
        "remove": installation.remove,
        "restart": installation.restart_module,
        "expire": lambda module, key: installation.status.hdel(f"status/{module}", key),
        "put": lambda table, id_, columns: (
            installation.put(table, id_, name=f"{id_}", **columns)
            if table != "mod"
            else installation.put(table, id_, **columns)
        ),
        "delete": installation.delete,
    }
    actions[kind](*more)


def told(steps: list[Step]) -> str:
    """Return steps for people who have to look into a failure."""
    return "\n".join(json.dumps(each, ensure_ascii=False) for each in steps[-60:])
