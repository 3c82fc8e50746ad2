"""A subscriber nobody here wrote: paho, recording every message it gets, over restarts of the broker too."""

from __future__ import annotations

import ssl
import threading
import time
from pathlib import Path
from typing import NamedTuple, Self

import paho.mqtt.client as mqtt


class Arrived(NamedTuple):
    topic: str
    payload: bytes
    retain: bool
    qos: int


class Subscriber:
    def __init__(
        self,
        port: int,
        topic_filter: str = "#",
        *,
        client_id: str = "recorder",
        qos: int = 1,
        username: str | None = None,
        password: str | None = None,
        tls: tuple[Path, Path, Path] | None = None,
    ) -> None:
        self.arrived: list[Arrived] = []
        self._subscribed = threading.Event()
        self._filter = (topic_filter, qos)
        self._port = port
        self._client = mqtt.Client(client_id, clean_session=False, protocol=mqtt.MQTTv311)
        if tls is not None:  # CA, certificate, key
            context = ssl.create_default_context(cafile=tls[0])
            context.load_cert_chain(*tls[1:])
            self._client.tls_set_context(context)
        if username is not None:
            self._client.username_pw_set(username, password)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(*self._filter)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _c, _u, m: self.arrived.append(
            Arrived(m.topic, m.payload, bool(m.retain), m.qos)
        )

    def __enter__(self) -> Self:
        self._client.connect("127.0.0.1", self._port, keepalive=10)
        self._client.loop_start()
        assert self._subscribed.wait(10), "the subscriber never got its SUBACK"
        return self

    def __exit__(self, *_exc: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def retained(port: int, topic_filter: str = "#", *, quiet: float = 0.5, **login: str) -> dict[str, bytes]:
    """Return what the broker keeps under ``topic_filter`` once nothing more comes for ``quiet`` seconds."""
    with Subscriber(port, topic_filter, client_id=f"late-{time.monotonic_ns()}", **login) as late:
        count = -1
        while count != len(late.arrived):
            count = len(late.arrived)
            time.sleep(quiet)
        return {message.topic: message.payload for message in late.arrived if message.retain}
