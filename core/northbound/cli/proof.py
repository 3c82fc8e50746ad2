"""Whether a demo's numbers agree: what was accepted, what every destination acknowledged, and what is really there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from northbound import DeliveryError
from northbound.cli.words import plural
from northbound.mqtt import Client, ClientOptions, Received
from northbound.status import ConnectorStatus, Status

_QUIET_SECONDS: Final = 0.5
_LONGEST_SECONDS: Final = 10.0


class Check(Struct, frozen=True):
    """One thing that was compared."""

    ok: bool
    words: str


class _Line(Struct):
    topic: str
    key: str
    payload: str = ""
    retain: bool = False


class FileContent(Struct):
    """What the file holds: lines, different messages, and the newest value of each retained topic."""

    lines: int
    messages: int
    values: dict[str, bytes]


def compare_sums(final: Status) -> list[Check]:
    """Compare, for each connector, what was accepted with what became of it. For a store that began empty."""
    accepted = final.store.sequence
    checks = [
        Check(
            ok=sum(source.committed for source in final.sources) == accepted,
            words=f"{plural(accepted, 'message')} accepted: as many as the sources were told are on disk",
        )
    ]
    for connector in final.connectors:
        parts = _parts(connector)
        total = sum(parts.values())
        words = " + ".join(f"{count:,} {name}" for name, count in parts.items())
        sign = "=" if total == accepted else "is not"
        checks.append(Check(ok=total == accepted, words=f"{connector.name}: {accepted:,} accepted {sign} {words}"))
    return checks


def _parts(connector: ConnectorStatus) -> dict[str, int]:
    counters = connector.counters
    passed_over = counters.total - counters.from_snapshot - counters.acknowledged - counters.dead
    parts = {"acknowledged": counters.acknowledged, "passed over": passed_over}
    if not passed_over:
        del parts["passed over"]
    return {**parts, "backlog": connector.backlog, "dead letters": counters.dead}


def read_file(path: Path) -> FileContent | None:
    """Return what the ``file`` connector wrote; ``None`` where it was rotated, so that the first lines may be gone."""
    if path.with_name(path.name + ".1").exists() or not path.exists():
        return None
    decode = msgspec.json.Decoder(_Line).decode
    lines = 0
    keys: set[str] = set()
    values: dict[str, bytes] = {}
    with path.open("rb") as file:
        for text in file:
            line = decode(text)
            lines += 1
            keys.add(line.key)
            if line.payload and line.retain:
                values[line.topic] = line.payload.encode()
            else:
                values.pop(line.topic, None)
    return FileContent(lines, len(keys), values)


def compare_file(content: FileContent, acknowledged: int) -> Check:
    """Compare the file with what was acknowledged."""
    repeated = content.lines - content.messages
    words = f"the file holds {plural(content.messages, 'different message')}"
    if repeated:
        words += f", {repeated:,} of them twice"
    return Check(ok=content.messages == acknowledged, words=f"{words}: as many as were acknowledged")


async def retained_on(port: int, expected: int) -> dict[str, bytes]:
    """Return what a broker on this machine retains, as a new subscriber sees it; raises a ``DeliveryError``."""
    found: dict[str, bytes] = {}
    arrived = asyncio.Event()

    def take(messages: list[Received]) -> None:
        found.update((message.topic, message.payload) for message in messages if message.retain)
        arrived.set()

    client = Client(ClientOptions(host="127.0.0.1", port=port, client_id="northbound-demo-proof"), on_messages=take)
    try:
        await client.connect()
        await client.subscribe(["#"], qos=0)
        await _until_quiet(arrived, lambda: len(found) >= expected)
    finally:
        await client.disconnect()
    return found


async def _until_quiet(arrived: asyncio.Event, enough: Callable[[], bool]) -> None:
    """Wait until nothing has arrived for a while; a short one where there is enough."""
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            while True:
                arrived.clear()
                async with asyncio.timeout(_QUIET_SECONDS / 5 if enough() else _QUIET_SECONDS):
                    await arrived.wait()
    except TimeoutError:
        return


async def compare_broker(port: int, content: FileContent | None) -> Check:
    """Compare what the broker retains with the newest values in the file."""
    try:
        found = await retained_on(port, len(content.values) if content else 0)
    except DeliveryError as error:
        return Check(ok=False, words=f"the broker could not be asked: {error}")
    words = f"a new subscriber gets {plural(len(found), 'retained topic')} from the broker"
    if content is None:
        return Check(ok=True, words=words)
    if found == content.values:
        return Check(ok=True, words=f"{words}: each the newest value of its topic in the file, and none besides")
    wrong = sum(found.get(topic) != payload for topic, payload in content.values.items())
    more = len(found.keys() - content.values.keys())
    return Check(ok=False, words=f"{words}: {wrong:,} differ from the file, {more:,} are not in it")


def told(final: Status, checks: list[Check]) -> dict[str, Any]:
    """Return the result for programs."""
    return {
        "ok": all(check.ok for check in checks),
        "accepted": final.store.sequence,
        "connectors": [
            {
                "name": connector.name,
                "destination": connector.destination,
                "acknowledged": connector.counters.acknowledged,
                "backlog": connector.backlog,
                "dead_letters": connector.counters.dead,
            }
            for connector in final.connectors
        ],
        "checks": [{"ok": check.ok, "words": check.words} for check in checks],
    }
