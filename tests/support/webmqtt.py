"""An MQTT client over a real WebSocket that says exactly what it is told, and shows exactly what comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import websockets
from websockets.asyncio.client import ClientConnection, connect

from northbound import mqtt

P = TypeVar("P")
_SECONDS = 20.0


class WebClient:
    def __init__(self, socket: ClientConnection, version: int) -> None:
        self._socket = socket
        self._version = version
        self._decoder = mqtt.Decoder(version)
        self._packets: list[mqtt.Packet] = []
        self._next = 0

    async def send(self, packet: mqtt.Packet) -> None:
        await self._socket.send(mqtt.encode(packet, self._version))

    async def raw(self, data: bytes | str) -> None:
        await self._socket.send(data)

    async def read(self) -> mqtt.Packet | None:
        """Return the next packet; ``None`` when the connection is closed."""
        while not self._packets:
            try:
                async with asyncio.timeout(_SECONDS):
                    data = await self._socket.recv()
            except websockets.ConnectionClosed:
                return None
            assert isinstance(data, bytes)
            self._packets += self._decoder.feed(data)
        return self._packets.pop(0)

    async def expect(self, kind: type[P], aside: list[mqtt.Publish] | None = None) -> P:
        """Return the next packet of a kind; what is published before goes ``aside``."""
        while True:
            packet = await self.read()
            if isinstance(packet, kind):
                return packet
            assert isinstance(packet, mqtt.Publish), f"{packet} where {kind.__name__} was expected"
            if aside is not None:
                aside.append(packet)

    async def connect(self, **fields: Any) -> mqtt.Connack:
        await self.send(mqtt.Connect(version=self._version, client_id=fields.pop("client_id", "c1"), **fields))
        return await self.expect(mqtt.Connack)

    async def subscribe(self, *filters: str, qos: int = 0, aside: list[mqtt.Publish] | None = None) -> tuple[int, ...]:
        wanted = tuple(mqtt.Subscription(text, qos) for text in filters)
        await self.send(mqtt.Subscribe(self._id(), wanted))
        return tuple((await self.expect(mqtt.Suback, aside)).reasons)

    async def publish(self, topic: str, payload: bytes = b"x", *, retain: bool = False) -> int:
        """Publish at QoS 1; returns the reason code."""
        await self.send(mqtt.Publish(topic, payload, qos=1, retain=retain, packet_id=self._id()))
        return (await self.expect(mqtt.Puback)).reason

    async def until(self, topic: str) -> list[mqtt.Publish]:
        """Return what is published to us, up to the first message at ``topic``."""
        found: list[mqtt.Publish] = []
        while not found or found[-1].topic != topic:
            found.append(await self.expect(mqtt.Publish))
        return found

    def _id(self) -> int:
        self._next += 1
        return self._next


@asynccontextmanager
async def web_client(url: str, version: int = 5) -> AsyncIterator[WebClient]:
    name = "mqttv3.1" if version == 3 else "mqtt"
    async with connect(url, subprotocols=[websockets.Subprotocol(name)], compression=None, proxy=None) as socket:
        yield WebClient(socket, version)
