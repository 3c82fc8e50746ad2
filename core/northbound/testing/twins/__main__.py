"""Twins of the clouds in a process of their own: ``python -m northbound.testing.twins FOLDER [NAME …]``.

The names are those of connector types: ``aws-iot``, ``azure-iot``, ``gcp-pubsub``; none means all. When they listen,
one line of JSON on standard output gives for each the options of a connector that reaches it; certificates and keys
are in ``FOLDER``. When standard input ends, so do they, and what each took is in ``FOLDER/<name>.jsonl``: a line for
each message with its topic (where the cloud has any), properties and payload, in the order it came.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from northbound.testing.twins.authority import Authority
from northbound.testing.twins.record import Record

_LANES: Final = 10
_CERTIFICATE_HOLDS: Final = timedelta(days=30)
_ORDERING_KEYS: Final = 16


class Line(msgspec.Struct):
    """One message that a twin took."""

    topic: str
    properties: Mapping[str, str]
    payload: str
    retain: bool


class Stand(msgspec.Struct):
    """A twin that listens: the ``options`` of a connector that reaches it, and what it ``took`` so far."""

    options: Mapping[str, Any]
    took: Callable[[], Iterable[Line]]


async def aws_iot(stack: AsyncExitStack, folder: Path) -> Stand:
    """Start AWS IoT Core, with a certificate for one thing and its published limits."""
    from northbound.testing.twins.aws_iot import AwsIotTwin  # noqa: PLC0415 - each is imported when it is asked for

    authority = Authority(folder / "aws-iot")
    pair = authority.client("northbound", valid=_CERTIFICATE_HOLDS)
    twin = await stack.enter_async_context(AwsIotTwin(authority))
    options = {
        "endpoint": twin.endpoint,
        "port": twin.port,
        "ca": str(authority.ca),
        "certificate": str(pair.certificate),
        "private_key": str(pair.private_key),
        "client_id": "northbound",
        "connections": _LANES,  # 100 messages a second each
    }
    return Stand(options, lambda: _lines(twin))


async def azure_iot(stack: AsyncExitStack, folder: Path) -> Stand:
    """Start an IoT hub of tier S3, with one device."""
    from northbound.testing.twins.azure_iot import AzureHubTwin, HubLimits  # noqa: PLC0415 - see above

    authority = Authority(folder / "azure-iot")
    # Tier S3: 6,000 send operations a second and unit, 300,000,000 messages a day (the quotas page).
    limits = HubLimits(sends_per_second=6000.0, quota=300_000_000)
    twin = await stack.enter_async_context(AzureHubTwin(authority, limits=limits))
    twin.register("northbound")
    options = {
        "connection_string": twin.connection_string("northbound"),
        "gateway_host": twin.host,
        "port": twin.port,
        "ca": str(authority.ca),
        "tier": "S3",
    }
    return Stand(options, lambda: _lines(twin.record))


async def gcp_pubsub(stack: AsyncExitStack, folder: Path) -> Stand:
    """Start Pub/Sub with one topic, and a service account that may publish to it."""
    from northbound.testing.twins.google_cloud import GoogleCloud  # noqa: PLC0415 - see above

    authority = Authority(folder / "gcp-pubsub")
    pair = authority.server(("127.0.0.1",), valid=_CERTIFICATE_HOLDS)
    certificate = (pair.private_key.read_bytes(), pair.certificate.read_bytes())
    made = GoogleCloud(folder / "gcp-pubsub", certificate=certificate, ca=authority.ca)
    cloud = await stack.enter_async_context(made)
    options = {**cloud.settings(), "ordering_keys": _ORDERING_KEYS}
    return Stand(options, lambda: [Line("", m.attributes, m.data.decode(), retain=False) for m in cloud.topic.messages])


STANDS: Final = {"aws-iot": aws_iot, "azure-iot": azure_iot, "gcp-pubsub": gcp_pubsub}


def _lines(record: Record) -> Iterable[Line]:
    return [Line(taken.topic, taken.user, taken.payload.decode(), taken.retain) for taken in record.messages]


async def main(folder: Path, names: Iterable[str]) -> None:
    """Run the twins until standard input ends."""
    async with AsyncExitStack() as stack:
        stands = {name: await STANDS[name](stack, folder) for name in names}
        sys.stdout.write(json.dumps({name: stand.options for name, stand in stands.items()}) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)
        for name, stand in stands.items():
            lines = [msgspec.json.encode(line) + b"\n" for line in stand.took()]
            await asyncio.to_thread((folder / f"{name}.jsonl").write_bytes, b"".join(lines))


if __name__ == "__main__":
    if len(sys.argv) < 2 or not set(sys.argv[2:]) <= set(STANDS):
        sys.exit(f"usage: python -m northbound.testing.twins FOLDER [{' | '.join(STANDS)}] …")
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:] or [*STANDS]))
