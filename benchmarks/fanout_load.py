"""Many subscribers over WebSocket, in one process with one ``epoll``: the same load for whoever serves it.

Every packet has the same length, so a subscriber counts instead of parsing, and is not what is measured.
"""

from __future__ import annotations

import base64
import os
import select
import socket
import time

from northbound import mqtt as m

TOPICS = 5_000
PAYLOAD = 64


def topic(number: int) -> str:
    place = number % 100_000 if number >= TOPICS else number
    return (
        f"placeos/org-acme/state/zone-bld-{place % 8}/zone-lvl-{place % 40:02d}/_/sys-{place:05d}/"
        "driver-display/Display/1/brightness"
    )


def live_topic(number: int) -> str:
    return topic(number % TOPICS)


def payload(stamp: int) -> bytes:
    return b'{"time":%019d,"value":"%s"}' % (stamp, b"x" * (PAYLOAD - 38))


HEAD = 3 + 2 + len(topic(0))  # up to the packet identifier, or the payload


class Subscriber:
    def __init__(self, port: int, number: int, qos: int, text: str | None) -> None:
        self.qos = qos
        self.count = 0
        self.latencies: list[int] | None = None
        self.size = HEAD + len(payload(0)) + (2 if qos else 0)
        self._buffer = b""
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._number, self._filter = number, text

    def ask_upgrade(self) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /api/mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n".encode()
        )

    def upgraded(self) -> None:
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(4096)
        assert b" 101 " in answer, answer
        self._buffer = answer.split(b"\r\n\r\n", 1)[1]

    def ask_connect(self) -> None:
        name = f"s{self._number}"
        self.send(
            m.encode(m.Connect(client_id=name, version=4, username="ann", password=b"open sesame", keep_alive=600), 4)
        )

    def connected(self) -> None:
        self._await(4)

    def ask_subscribe(self) -> None:
        if self._filter:
            self.send(m.encode(m.Subscribe(1, (m.Subscription(self._filter, self.qos),)), 4))

    def subscribed(self) -> None:
        if self._filter:
            self._await(5)
        self.socket.setblocking(False)

    def _await(self, size: int) -> None:
        """Read an answer of ``size`` bytes; what comes with it in one message is put back."""
        got = b""
        self.socket.setblocking(True)
        while len(got) < size:
            while len(self._buffer) < 4:
                self._buffer += self.socket.recv(4096)
            length, start = self._buffer[1], 2
            if length == 126:
                length, start = int.from_bytes(self._buffer[2:4], "big"), 4
            elif length == 127:
                length, start = int.from_bytes(self._buffer[2:10], "big"), 10
            while len(self._buffer) < start + length:
                self._buffer += self.socket.recv(65_536)
            got += self._buffer[start : start + length]
            self._buffer = self._buffer[start + length :]
        if rest := got[size:]:
            self._buffer = b"\x82\x7f" + len(rest).to_bytes(8, "big") + rest + self._buffer

    def send(self, data: bytes) -> None:
        """Send one message, masked with zeros."""
        size = len(data)
        if size < 126:
            head = bytes((0x82, 0x80 | size))
        elif size < 65_536:
            head = b"\x82\xfe" + size.to_bytes(2, "big")
        else:
            head = b"\x82\xff" + size.to_bytes(8, "big")
        self.socket.setblocking(True)
        self.socket.sendall(head + b"\0\0\0\0" + data)
        self.socket.setblocking(False)

    def readable(self) -> None:
        try:
            data = self.socket.recv(262_144)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("the server hung up")
        if self._buffer:
            data = self._buffer + data
        at, total, size = 0, len(data), self.size
        acks = bytearray()
        while total - at >= 4:
            length, start = data[at + 1], at + 2
            if length == 126:
                length, start = data[at + 2] << 8 | data[at + 3], at + 4
            elif length == 127:
                if total - at < 10:
                    break
                length, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            end = start + length
            if end > total:
                break
            opcode = data[at] & 15
            at = end
            if opcode not in {0, 2}:
                continue
            assert length % size == 0, (length, size)
            self.count += length // size
            if self.qos:
                for packet in range(start + HEAD, end, size):
                    acks += b"\x40\2"
                    acks += data[packet : packet + 2]
            if self.latencies is not None:
                now, stamp = time.monotonic_ns(), HEAD + (2 if self.qos else 0) + 8
                for packet in range(start + stamp, end, size):
                    self.latencies.append(now - int(data[packet : packet + 19]))
        self._buffer = data[at:]
        if acks:
            self.send(bytes(acks))


class Crowd:
    """Subscribers, read by one ``epoll``."""

    def __init__(self, port: int, count: int, qos: int = 0, text: str | None = "#") -> None:
        self.subscribers = [Subscriber(port, number, qos, text) for number in range(count)]
        # one step after the other for all of them: Mosquitto answers a lone newcomer only after 60 ms
        for step in ("ask_upgrade", "upgraded", "ask_connect", "connected", "ask_subscribe", "subscribed"):
            for item in self.subscribers:
                getattr(item, step)()
        self._epoll = select.epoll()
        self._by_fd = {item.socket.fileno(): item for item in self.subscribers}
        for fd in self._by_fd:
            self._epoll.register(fd, select.EPOLLIN)

    def read_until(self, total: int, seconds: float = 60) -> tuple[float, int]:
        """Read until ``total`` messages came in all, or it takes too long; return the seconds, and how many came."""
        started = time.perf_counter()
        by_fd = self._by_fd
        while True:
            for fd, _ in self._epoll.poll(1):
                by_fd[fd].readable()
            got = sum([item.count for item in self.subscribers])
            taken = time.perf_counter() - started
            if got >= total or taken > seconds:
                return taken, got

    def read_for(self, seconds: float) -> None:
        started = time.perf_counter()
        while time.perf_counter() - started < seconds:
            for fd, _ in self._epoll.poll(0.05):
                self._by_fd[fd].readable()

    def close(self) -> None:
        self._epoll.close()
        for item in self.subscribers:
            item.socket.close()
