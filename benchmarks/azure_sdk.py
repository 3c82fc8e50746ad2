"""What azure-iot-device does when Azure IoT Hub misbehaves, beside our own client: python -m benchmarks.azure_sdk.

Against the strict twin, since no account is at hand. What came out is in docs/adr (Azure's messages by our own client).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from azure.iot.device import Message
from azure.iot.device.aio import IoTHubDeviceClient, ProvisioningDeviceClient

from northbound import Outgoing
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.azure_dps import AzureDpsTwin
from northbound.testing.twins.azure_iot import AzureHubTwin, HubLimits
from northbound_azure_iot import AzureIotConnector, ConnectorOptions

#: The SDK's ports cannot be changed, so the twin takes them on an address of its own.
HOST = f"127.0.{1 + os.getpid() % 200}.7"
PORT = 8883
WATCHED = 6.0


async def outcome(call: Awaitable[Any], seconds: float = WATCHED) -> str:
    """Return how a call of the SDK ended, and when."""
    began = time.monotonic()
    task = asyncio.ensure_future(call)
    done, _ = await asyncio.wait([task], timeout=seconds)
    if not done:
        task.cancel()
        return f"still waiting after {seconds:.0f} s"
    error = task.exception()
    return f"{type(error).__name__ if error else 'done'} after {time.monotonic() - began:.1f} s"


async def shut_down(client: Any, seconds: float = 15.0) -> str:
    return await outcome(client.shutdown(), seconds)


class Bench:
    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.trust = self.authority.ca.read_text()

    def hub(self, **limits: Any) -> AzureHubTwin:
        return AzureHubTwin(self.authority, host=HOST, port=PORT, limits=HubLimits(**limits))

    def device(self, twin: AzureHubTwin, **options: Any) -> Any:
        if "d" not in twin.identities:
            twin.register("d")
        text = f"{twin.connection_string('d')};GatewayHostName={HOST}"
        return IoTHubDeviceClient.create_from_connection_string(text, server_verification_cert=self.trust, **options)

    async def steady(self) -> None:
        async with self.hub(sends_per_second=1e6) as twin:
            client = self.device(twin)
            await client.connect()
            began, count = time.monotonic(), 2_000
            cpu = time.process_time()
            for _ in range(count // 20):
                await asyncio.gather(*(client.send_message(Message(b'{"value":1}')) for _ in range(20)))
            took = time.monotonic() - began
            used = (time.process_time() - cpu) / count * 1e6
            print(
                f"the SDK: {count / took:,.0f} msg/s, {used:.0f} us CPU each with the twin; "
                f"{threading.active_count()} threads"
            )
            print(f"  shutdown: {await shut_down(client)}")

    async def ours(self) -> None:
        async with self.hub(sends_per_second=1e6) as twin:
            twin.register("d")
            options = ConnectorOptions(
                connection_string=twin.connection_string("d"),
                gateway_host=HOST,
                ca=self.authority.ca,
                tier="S3",
                units=10,
            )
            connector = AzureIotConnector(options, name="out")
            await connector.open()
            began, count = time.monotonic(), 4_000
            cpu = time.process_time()
            for first in range(0, count, 400):
                calls = [
                    [
                        Outgoing(
                            "t", b'{"value":1}', "state", 1, False, "t", f"s-{n}", {"topic": f"t/{n}", "kind": "state"}
                        )
                        for n in range(start, start + 100)
                    ]
                    for start in range(first, first + 400, 100)
                ]
                await asyncio.gather(*map(connector.send, calls))
            took = time.monotonic() - began
            used = (time.process_time() - cpu) / count * 1e6
            print(f"ours: {count / took:,.0f} msg/s, {used:.0f} us CPU each with the twin", end="; ")
            print(f"shutdown: {await outcome(connector.close())}")

    async def poison(self) -> None:
        async with self.hub(connects_per_second=1e6) as twin:
            twin.poison = lambda _properties, body: b"poison" in body
            client = self.device(twin)
            await client.connect()
            first = len(twin.record.connects)
            print(f"poison: send {await outcome(client.send_message(Message(b'poison')))}", end="; ")
            print(f"{(len(twin.record.connects) - first) / WATCHED:.0f} connects a second", end="; ")
            print(f"the next message: {await outcome(client.send_message(Message(b'good')))}")
            print(f"  shutdown: {await shut_down(client)}")

    async def quota(self) -> None:
        async with self.hub(quota=1, connects_per_second=1e6) as twin:
            client = self.device(twin)
            await client.connect()
            await client.send_message(Message(b"the last one"))
            first = len(twin.record.connects)
            print(f"quota: send {await outcome(client.send_message(Message(b'one more')))}", end="; ")
            print(f"{(len(twin.record.connects) - first) / WATCHED:.0f} connects a second")
            print(f"  shutdown: {await shut_down(client)}")

    async def provisioning(self) -> None:
        def client(key: str) -> Any:
            return ProvisioningDeviceClient.create_from_symmetric_key(
                HOST, "gateway-1", "0ne00ABCDEF", key, server_verification_cert=self.trust
            )

        async with AzureHubTwin(self.authority) as hub, AzureDpsTwin(self.authority, host=HOST, port=PORT) as dps:
            enrolment = dps.enrol("gateway-1", hub)
            before = threading.active_count()
            print(f"DPS: register {await outcome(client(enrolment.key).register(), 20)}", end="; ")
            print(f"threads {before} before, {threading.active_count()} after")
            wrong = client("d3JvbmcgYnV0IDE2IGJ5dGVzIGF0IGxlYXN0")
            print(f"DPS: wrong key {await outcome(wrong.register(), 20)}, {threading.active_count()} threads")
            dps.silent = True
            silent = client(enrolment.key)
            print(f"DPS: no answer {await outcome(silent.register(), 40)}, {threading.active_count()} threads")
            dps.silent = False
            enrolment.fails = "no hub for it"
            failed = client(enrolment.key)
            print(f"DPS: failed {await outcome(failed.register(), 20)}, {threading.active_count()} threads")
        print(f"DPS: nobody there {await outcome(client(enrolment.key).register(), 20)}", end="; ")
        print(f"{threading.active_count()} threads")


async def main() -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for part in (bench.steady, bench.ours, bench.poison, bench.quota, bench.provisioning):
            with contextlib.suppress(asyncio.CancelledError):
                await part()


if __name__ == "__main__":
    asyncio.run(main())
    os._exit(0)  # what a client that hung has left behind would keep the process alive
