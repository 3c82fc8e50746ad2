"""One measured northbound, in a process of its own. Prints what it measured as one line of JSON."""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import uvloop

from benchmarks.workload import event
from northbound import EventDecoder, Intake, Outgoing, Source
from northbound.loading import load_text
from northbound.registry import Plugin, Registry
from northbound.runtime import Runtime


def resident_mb(key: str = "VmRSS") -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    return 0.0


def configuration(directory: Path, port: int, source: str) -> str:
    return f"""
[site]
org = "org-acme"
[store]
path = "{directory}/bench.db"
[sources.in]
{source}
[connectors.out]
type = "mqtt"
url = "mqtt://127.0.0.1:{port}"
[connectors.out.retry]
initial = "200ms"
maximum = "500ms"
"""


class Ticker(Source):
    """Emits ``backlog`` events at once, says so, then ``rate`` a second until told to stop."""

    def __init__(self, backlog: int, rate: int, seconds: float, sent: dict[str, float], signal: asyncio.Event) -> None:
        super().__init__(None, name="in")
        self.backlog, self.rate, self.seconds, self.sent, self.fed = backlog, rate, seconds, sent, signal
        self.worst_commit = 0.0
        self.feed_seconds = 0.0

    @property
    def finite(self) -> bool:
        return True

    async def run(self, intake: Intake) -> None:
        decoder = EventDecoder(intake.hierarchy)
        number = 0
        begun = time.perf_counter()
        while number < self.backlog:
            lines = [json.dumps(event(n)).encode() for n in range(number, number + 1000)]
            ticket = await intake.submit(decoder.decode_all(lines)[0])
            number += 1000
        if number:
            await ticket.committed()
            self.feed_seconds = time.perf_counter() - begun
        self.fed.set()
        started = time.perf_counter()
        tickets = 0
        while time.perf_counter() - started < self.seconds:
            due = int((time.perf_counter() - started) * self.rate) - tickets
            if due > 0:
                lines = [json.dumps(event(number + n)).encode() for n in range(due)]
                events = decoder.decode_all(lines)[0]
                now = time.perf_counter()
                for e in events:
                    self.sent[e.system] = now
                number += due
                tickets += due
                ticket = await intake.submit(events)
                if tickets % 50 < due:  # a sample: waiting for each would measure the waiting
                    await ticket.committed()
                    self.worst_commit = max(self.worst_commit, time.perf_counter() - now)
            await asyncio.sleep(0.001)
        await ticket.committed()


async def pipeline(directory: Path, port: int, events: Path, extra: str) -> dict[str, object]:
    text = extra + configuration(directory, port, f'type = "jsonl"\npath = "{events}"')
    runtime = Runtime(load_text(text, Registry()))
    wall, cpu = time.perf_counter(), time.process_time()
    await runtime.run(once=True)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"seconds": wall, "cpu": cpu, "rss_mb": resident_mb("VmHWM")}


def _with_ticker(directory: Path, port: int, ticker: Ticker, latencies: list[float]) -> Runtime:
    registry = Registry()

    class Factory(Source):
        def __new__(cls, *_args: object, **_kwargs: object) -> Source:  # type: ignore[misc]
            return ticker

    registry.rows.append(Plugin("source", "ticker", package="bench", version="0", implementation=Factory))
    found = registry.find("connector", "mqtt")
    assert found is not None
    assert found.implementation is not None
    real = found.implementation

    class Timed(real):  # type: ignore[misc, valid-type]
        async def send(self, batch: list[Outgoing]) -> None:
            await super().send(batch)
            now = time.perf_counter()
            for m in batch:
                at = ticker.sent.pop(m.source_topic.split("/")[6], None)
                if at is not None:
                    latencies.append((now - at) * 1000)

    found.implementation = Timed
    return Runtime(load_text(configuration(directory, port, 'type = "ticker"'), registry))


async def latency(directory: Path, port: int, seconds: float) -> dict[str, object]:
    latencies: list[float] = []
    ticker = Ticker(0, 1000, seconds, {}, asyncio.Event())
    runtime = _with_ticker(directory, port, ticker, latencies)
    cpu = time.process_time()
    await runtime.run(once=True)
    cpu = time.process_time() - cpu
    cuts = statistics.quantiles(latencies, n=1000)
    share = cpu / seconds
    return {"count": len(latencies), "p50": cuts[499], "p99": cuts[989], "max": max(latencies), "cpu_share": share}


async def backlog(directory: Path, port: int, count: int, seconds: float) -> dict[str, object]:
    """Feed ``count`` while the broker is down, tell the parent, then go on at 1,000/s while it drains."""
    latencies: list[float] = []
    fed = asyncio.Event()
    ticker = Ticker(count, 1000, seconds, {}, fed)
    runtime = _with_ticker(directory, port, ticker, latencies)
    out: dict[str, object] = {}

    async def watch() -> None:
        await fed.wait()
        out["rss_mb"] = resident_mb()
        out["feed_rate"] = count / ticker.feed_seconds
        print("fed", flush=True)
        while runtime.status().connectors[0].counters.acknowledged == 0:
            await asyncio.sleep(0.005)
        started, first = time.perf_counter(), runtime.status().connectors[0].counters.acknowledged
        cpu = time.process_time()
        while (status := runtime.status().connectors[0]).backlog > 2000:
            await asyncio.sleep(0.05)
        taken = time.perf_counter() - started
        out["drain_rate"] = (status.counters.acknowledged - first) / taken
        out["drain_cpu_us"] = (time.process_time() - cpu) / (status.counters.acknowledged - first) * 1e6
        out["rss_after_mb"] = resident_mb()
        out["rss_peak_mb"] = resident_mb("VmHWM")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        await runtime.run(once=True)
    out["worst_commit_ms"] = ticker.worst_commit * 1000
    return out


def main() -> None:
    name, directory, port, argument, seconds, extra = sys.argv[1:7]
    sys.setswitchinterval(0.001)
    where = Path(directory)
    if name == "pipeline":
        work = pipeline(where, int(port), Path(argument), extra)
    elif name == "latency":
        work = latency(where, int(port), float(seconds))
    else:
        work = backlog(where, int(port), int(argument), float(seconds))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(work)
    result["max_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
