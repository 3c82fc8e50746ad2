"""Fan-out to WebSocket subscribers, ours beside Mosquitto's own listener, with the same load in the same run."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

from tests.support.mosquitto import Mosquitto

from benchmarks import fanout_load as load
from northbound import mqtt as m

LINES = ("max_queued_messages 0", "max_queued_bytes 0", "max_inflight_messages 1000", "set_tcp_nodelay true")


class Ours:
    """The child; fed by its own engine's hand."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.fanout_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = self._answer()["port"]
        self.give_up = False
        self.crowd: load.Crowd | None = None

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))

    def tell(self, **command: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def feed(self, count: int, qos: int) -> None:  # noqa: ARG002 - the engine's messages have the subscriber's QoS
        self.tell(do="feed", count=count, batch=100)

    def steadily(self, rate: int, seconds: float) -> None:
        self.tell(do="steadily", rate=rate, seconds=seconds)

    def load(self, count: int, qos: int) -> None:  # noqa: ARG002 - as above
        self.tell(do="load", count=count)

    def done(self) -> dict[str, float]:
        return self._answer()

    def resident(self) -> float:
        self.tell(do="nothing")
        return self._answer()["resident"]

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


class Theirs:
    """Mosquitto, fed by a client that writes what the subscribers take."""

    def __init__(self, directory: Path) -> None:
        self._broker = Mosquitto(directory, config_lines=LINES, websockets=True).start()
        self.port = self._broker.websocket_port or 0
        self._wait()
        self._thread: threading.Thread | None = None
        self._cpu = 0.0
        self.crowd: load.Crowd | None = None
        self.give_up = False

    def _wait(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                time.sleep(0.02)
            else:
                return
        raise SystemExit(f"Mosquitto's WebSocket listener does not answer:\n{self._broker.log()}")

    def _connect(self) -> socket.socket:
        feeder = socket.create_connection(("127.0.0.1", self._broker.port))
        feeder.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        feeder.sendall(m.encode(m.Connect(client_id="feeder", version=4, keep_alive=600), 4))
        assert feeder.recv(4) == b"\x20\2\0\0"
        return feeder

    def _run(self, work) -> None:
        self._cpu = self._times()
        self._thread = threading.Thread(target=work)
        self._thread.start()

    def feed(self, count: int, qos: int) -> None:
        feeder, crowd = self._connect(), self.crowd
        assert crowd is not None
        slowest = crowd.subscribers

        def work() -> None:
            drain = threading.Thread(target=_discard, args=(feeder,), daemon=True)
            drain.start()
            for first in range(0, count, 100):
                batch = b"".join(
                    m.encode(
                        m.Publish(
                            load.live_topic(n),
                            load.payload(time.monotonic_ns()),
                            qos,
                            packet_id=n % 60_000 + 1 if qos else 0,
                        ),
                        4,
                    )
                    for n in range(first, min(first + 100, count))
                )
                while first - min(item.count for item in slowest) > 1000 and not self.give_up:
                    time.sleep(0.0005)
                feeder.sendall(batch)

        self._run(work)

    def steadily(self, rate: int, seconds: float) -> None:
        feeder = self._connect()

        def work() -> None:
            start, sent = time.monotonic(), 0
            while (now := time.monotonic() - start) < seconds:
                due = int(now * rate)
                while sent < due:
                    feeder.sendall(m.encode(m.Publish(load.live_topic(sent), load.payload(time.monotonic_ns())), 4))
                    sent += 1
                time.sleep(0.002)

        self._run(work)

    def load(self, count: int, qos: int) -> None:
        feeder = self._connect()

        def work() -> None:
            for first in range(0, count, 1000):
                feeder.sendall(
                    b"".join(
                        m.encode(
                            m.Publish(
                                load.topic(n), load.payload(n), qos, retain=True, packet_id=n % 60_000 + 1 if qos else 0
                            ),
                            4,
                        )
                        for n in range(first, min(first + 1000, count))
                    )
                )
            feeder.sendall(b"\xc0\0")
            left = count * 4 * (qos > 0) + 2  # PUBACKs and PINGRESP
            while left > 0:
                left -= len(feeder.recv(65_536))

        self._run(work)

    def _times(self) -> float:
        fields = Path(f"/proc/{self._broker.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def done(self) -> dict[str, float]:
        assert self._thread is not None
        self._thread.join()
        return {"cpu": self._times() - self._cpu}

    def resident(self) -> float:
        return int(Path(f"/proc/{self._broker.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self) -> None:
        self._broker.stop()


def _discard(sock: socket.socket) -> None:
    try:
        while sock.recv(65_536):
            pass
    except OSError:
        pass


def throughput(server, subscribers: int, qos: int, count: int) -> dict[str, float]:
    crowd = load.Crowd(server.port, subscribers, qos)
    server.crowd = crowd
    time.sleep(0.3)
    server.feed(count, qos)
    seconds, came = crowd.read_until(subscribers * count)
    server.give_up = came < subscribers * count
    told = server.done()
    crowd.close()
    if server.give_up:
        print(f"  {type(server).__name__}: only {came:,} of {subscribers * count:,} came within {seconds:.0f} s")
    return {"rate": came / seconds, "cpu_us": told["cpu"] / came * 1e6}


def latency(server, subscribers: int, rate: int, seconds: float) -> list[float]:
    crowd = load.Crowd(server.port, subscribers)
    for item in crowd.subscribers:
        item.latencies = []
    server.steadily(rate, seconds)
    crowd.read_for(seconds + 0.5)
    server.done()
    found = sorted(value / 1e6 for item in crowd.subscribers for value in item.latencies or ())
    crowd.close()
    return [statistics.median(found), found[int(len(found) * 0.99)], len(found) / seconds]


def memory(server, connections: int) -> float:
    warm = load.Crowd(server.port, 50)
    before = server.resident()
    crowd = load.Crowd(server.port, connections, text="placeos/org-acme/state/zone-bld-1/#")
    time.sleep(0.5)
    after = server.resident()
    crowd.close()
    warm.close()
    return (after - before) / connections / 1024


def retained(server, count: int, qos: int) -> float:
    server.load(count, qos)
    server.done()
    started = time.perf_counter()
    crowd = load.Crowd(server.port, 1, qos)
    _, came = crowd.read_until(count)
    assert came == count, came
    seconds = time.perf_counter() - started
    crowd.close()
    return seconds


def both(directory: Path, measure):
    """Measure ours and theirs, each with a server of its own, one behind the other."""
    ours = Ours()
    try:
        mine = measure(ours)
    finally:
        ours.stop()
    theirs = Theirs(directory / f"fanout-{time.monotonic_ns()}")
    try:
        return mine, measure(theirs)
    finally:
        theirs.stop()


CROWDS = ((50, 0, 20_000, 2.0), (50, 1, 5_000, 1.3), (1000, 0, 1_000, None), (1000, 1, 200, None))


def report(row, directory: Path, scale: int = 1, runs: int = 3) -> None:
    """Give ``row`` what was measured; ``scale`` 10 does a tenth."""
    for subscribers, qos, count, budget in CROWDS:
        measure = partial(throughput, subscribers=subscribers, qos=qos, count=max(100, count // scale))
        pairs = [both(directory, measure) for _ in range(runs)]
        mine, theirs = (statistics.median(pair[side]["rate"] for pair in pairs) for side in (0, 1))
        cpu, other = (statistics.median(pair[side]["cpu_us"] for pair in pairs) for side in (0, 1))
        words = f"{mine:,.0f}, ratio {mine / theirs:.1f} (CPU {cpu:.1f} beside {other:.1f} µs)"
        met = None if budget is None else mine >= budget * theirs
        name = f"fan-out to {subscribers:,} WebSocket subscribers, QoS {qos}, deliveries/s"
        row(name, words, "" if budget is None else f"ratio {budget}", met=met)
    for subscribers in (50, 1000):
        measure = partial(latency, subscribers=subscribers, rate=10_000 // subscribers, seconds=10 / scale + 2)
        mine, theirs = both(directory, measure)
        words = f"{mine[0]:.1f} / {mine[1]:.1f} ms beside {theirs[0]:.1f} / {theirs[1]:.1f} ms"
        row(f"  p50 / p99 at 10,000 deliveries/s to {subscribers:,}", words)
    mine, theirs = both(directory, partial(memory, connections=1000))
    row("  memory per idle connection", f"{mine:.1f} KiB beside {theirs:.1f} KiB", "32 KiB", met=mine <= 32)
    for qos in (0, 1):
        mine, theirs = both(directory, partial(retained, count=100_000 // scale, qos=qos))
        row(f"  {100_000 // scale:,} retained values on one '#', QoS {qos}", f"{mine:.2f} s beside {theirs:.2f} s")


def _show(what: str, measured: str, budget: str = "", *, met: bool | None = None) -> None:
    print(f"{what:<66} {measured:<60} {budget:<10} {met}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        report(_show, Path(name), int(sys.argv[1]) if len(sys.argv) > 1 else 10, 1)
