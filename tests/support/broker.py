"""The API's broker with sockets around it: plain MQTT, and WebSocket by the server that serves it in earnest."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import uvicorn

from northbound.api.broker import Broker
from northbound.api.identity import Grant, Identity, SignInRefused
from northbound.api.mqtt_socket import MqttListener, mqtt_endpoint, strangers_message
from northbound.api.websocket import WebSocket
from northbound.message import Message
from northbound.mqtt_options import MqttOptions
from northbound.topics import TopicMatcher

PASSWORD = b"open sesame"


def identity(subject: str = "ann", org: str | None = "org-acme", **changes) -> Identity:
    fields = {"role": "admin", "scopes": frozenset({"public"}), "expires": None} | changes
    return Identity(subject=subject, name=subject.title(), org=org, **fields)


@dataclass
class People:
    """Signs in whoever knows the password; a user name of its own may be told to be somebody."""

    known: Mapping[str, Identity] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)

    async def sign_in(self, username, password, *, address):
        if password != PASSWORD:
            raise SignInRefused("bad_credentials", "the password is wrong")
        return self.known.get(username) or identity(username or "ann")

    async def bearer(self, headers, *, address):
        raise SignInRefused("bad_credentials", "no HTTP here")

    async def still_valid(self, who):
        return who.subject not in self.revoked


class Rules:
    """``read`` and ``write`` are filters for everybody whose role is user; the others may do everything."""

    def __init__(self, read=("#", "$SYS/#"), write=()):
        self.read, self.write = TopicMatcher(read), TopicMatcher(write)
        self.whole = frozenset(read)

    def subscribe(self, who, filter) -> Grant:  # noqa: A002 - Access's word for it
        if who.role != "user" or filter in self.whole:
            return "whole"
        if filter in {"#", "$SYS/#"} or "+" in filter or "#" in filter:
            return "narrowed"
        return "whole" if self.read.matches(filter) else "refused"

    def receive(self, who, topic) -> bool:
        return who.role != "user" or self.read.matches(topic)

    def publish(self, who, topic) -> bool:
        return who.writes and (who.role != "user" or self.write.matches(topic))


def value(topic: str, payload: bytes | str = b"1", *, retain: bool = True) -> Message:
    raw = payload.encode() if isinstance(payload, str) else payload
    return Message(topic, raw, "state", int(time.time() * 1000), retain)


@dataclass
class Served:
    """A broker and where it listens."""

    broker: Broker
    people: People
    port: int
    web_port: int
    loop: asyncio.AbstractEventLoop

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.web_port}/api/mqtt/"

    async def until(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come to pass"
            await asyncio.sleep(0.01)


@asynccontextmanager
async def served(*, options=None, access=None, people=None, origins=(), ssl=None, wrap=None):
    """Serve a broker over TCP (TLS with ``ssl``) and over WebSocket."""
    options = options or MqttOptions()
    access, people = access or Rules(), people or People()
    broker = Broker(access=access, authenticator=people, options=options)
    listener = MqttListener(broker, people, access, options, address=("127.0.0.1", 0), ssl=ssl)
    app = mqtt_endpoint(broker, people, access, options, origins=origins)
    server = uvicorn.Server(
        uvicorn.Config(
            wrap(app) if wrap else app,
            ws=WebSocket,
            ws_per_message_deflate=False,
            ws_max_size=strangers_message(options),
            lifespan="off",
            log_level="error",
            access_log=False,
        )
    )
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    web_port = sock.getsockname()[1]
    await listener.start()
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets=[sock]))
        running = tasks.create_task(broker.run())
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        try:
            yield Served(broker, people, listener.addresses[0][1], web_port, asyncio.get_running_loop())
        finally:
            await broker.close()
            running.cancel()
            await listener.stop()
            server.should_exit = True
            await serving
            sock.close()
