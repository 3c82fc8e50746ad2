"""``make bench``: runs every contender and writes ``benchmarks/RESULTS.md``. ``--quick`` runs a tenth."""

from __future__ import annotations

import argparse
import asyncio
import json
import pickle
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.support.mosquitto import BINARY, Mosquitto, free_port

from benchmarks import bridge, fanout, privacy, workload

HERE = Path(__file__).parent
RUNS = 3
UNBOUNDED = ("max_queued_messages 0", "max_queued_bytes 0")


def child(
    name: str, directory: Path, port: int, argument: object = "", seconds: float = 0, *, extra: str = ""
) -> dict[str, float]:
    shutil.rmtree(directory / "store", ignore_errors=True)
    (directory / "store").mkdir()
    command = [sys.executable, "-m", "benchmarks.child", name, directory / "store", port, argument, seconds, extra]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def pipeline(directory: Path, events: Path, count: int, extra: str = "") -> dict[str, float]:
    with Mosquitto(directory / f"p{time.monotonic_ns()}", config_lines=UNBOUNDED) as broker:
        result = child("pipeline", directory, broker.port, events, extra=extra)
    return {"rate": count / result["seconds"], "cpu_us": result["cpu"] / count * 1e6}


def paho(directory: Path, events: Path, count: int) -> dict[str, float]:
    count = min(count, 30_000)
    batch = [(m.topic, m.payload) for m in workload.messages(events)[:count]]
    path = directory / "batch.pickle"
    path.write_bytes(pickle.dumps(batch))
    with Mosquitto(directory / "paho", config_lines=UNBOUNDED) as broker:
        python = HERE.parent / ".venv-peers/bin/python"
        command = [str(python), str(HERE / "paho_peer.py"), str(broker.port), str(path)]
        result = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert result["left"] == 0
    return {"rate": count / result["seconds"], "cpu_us": result["cpu"] / count * 1e6}


def backlog(directory: Path, count: int, seconds: float) -> dict[str, float]:
    shutil.rmtree(directory / "store", ignore_errors=True)
    (directory / "store").mkdir()
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.child", "backlog", directory / "store", port, count, seconds, ""]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "fed"
    with Mosquitto(directory / "outage", config_lines=UNBOUNDED, port=port):
        output = process.communicate(timeout=600)[0]
    return dict(json.loads(output.splitlines()[-1]))


def start_up(directory: Path, events: Path) -> dict[str, float]:
    """Import time (median of five), and from exec to the first acknowledged message."""
    script = "import time; t=time.perf_counter(); import northbound; print((time.perf_counter()-t)*1000)"
    imports = [
        float(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    ]
    first = directory / "first.jsonl"
    with events.open() as file:
        first.write_text(file.readline())
    times = []
    for attempt in range(5):
        with Mosquitto(directory / f"s{attempt}") as broker:
            config = directory / f"s{attempt}.toml"
            config.write_text(
                f'[store]\npath = "s{attempt}.db"\n[sources.in]\ntype = "jsonl"\npath = "first.jsonl"\n'
                f'[connectors.out]\ntype = "mqtt"\nurl = "mqtt://127.0.0.1:{broker.port}"\n'
            )
            started = time.perf_counter()
            command = [sys.executable, "-m", "northbound", "run", "--once", str(config)]
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - started)
    return {"import_ms": statistics.median(imports), "first_s": statistics.median(times)}


def machine() -> str:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in info if line.startswith("model name")]
    mosquitto = subprocess.run([BINARY, "-h"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    return (
        f"{len(models)} cores ({models[0]}), Linux {platform.release()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {mosquitto}"
    )


class Report:
    """The rows, printed as they come."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str, str]] = []

    def row(self, what: str, measured: str, budget: str = "", *, met: bool | None = None) -> None:
        verdict = "" if met is None else "met" if met else "MISSED"
        self.rows.append((what, measured, budget, verdict))
        print(f"{what:<56} {measured:<30} {budget:<26} {verdict}", flush=True)

    def write(self, count: int) -> None:
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in self.rows)
        (HERE / "RESULTS.md").write_text(
            f"# Results\n\nWritten by `make bench` on {datetime.now(UTC):%Y-%m-%d}. {machine()}.\n\n"
            f"Everyone carries the same {count:,} messages over {workload.TOPICS:,} topics, QoS 1 and retained, to a\n"
            f"Mosquitto of its own on the same machine; medians of {RUNS} runs taken in turn. The pipeline reads JSON\n"
            'Lines and commits every message to disk (`synchronous = "full"`) before it sends it; the peers store\n'
            "nothing. CPU is of all threads of the process, from its first event to its last acknowledgement.\n\n"
            f"| what | measured | budget | |\n| --- | --- | --- | --- |\n{table}\n"
        )


def throughput(report: Report, directory: Path, events: Path, count: int, *, peers: bool) -> float:
    ours, bridged = [], []
    for run in range(RUNS):
        ours.append(pipeline(directory, events, count))
        if peers:
            taken = asyncio.run(bridge.carry(directory / f"b{run}", workload.messages(events)))
            bridged.append(count / taken["seconds"])
    rate = statistics.median(result["rate"] for result in ours)
    if not peers:
        return rate
    cpu = statistics.median(result["cpu_us"] for result in ours)
    theirs, peer = statistics.median(bridged), paho(directory, events, count)
    report.row("pipeline, msg/s", f"{rate:,.0f}", "30,000; aim 50,000", met=rate >= 30_000)
    both = f"{theirs:,.0f}, ratio {rate / theirs:.2f}"
    report.row("  beside Mosquitto's own bridge, msg/s", both, "ratio 2", met=rate >= 2 * theirs)
    report.row("  beside paho 2 publishing alone, msg/s", f"{peer['rate']:,.0f}, ratio {rate / peer['rate']:.1f}")
    report.row("pipeline, CPU per message", f"{cpu:.1f} µs", "25 µs; aim 15", met=cpu <= 25)
    report.row("  paho 2 publishing alone", f"{peer['cpu_us']:.0f} µs")
    return rate


def latency(report: Report, directory: Path, seconds: float) -> None:
    with Mosquitto(directory / "latency", config_lines=["set_tcp_nodelay true"]) as broker:
        lag = child("latency", directory, broker.port, "", seconds)
    words = f"{lag['p50']:.1f} / {lag['p99']:.1f} / {lag['max']:.0f} ms"
    met = lag["p50"] <= 5 and lag["p99"] <= 25
    report.row("latency at 1,000 msg/s, p50 / p99 / max", words, "5 / 25 ms", met=met)
    report.row("  CPU at 1,000 msg/s", f"{lag['cpu_share'] * 100:.0f} % of a core")


def outage(report: Report, directory: Path, count: int, seconds: float, steady: float) -> None:
    held = backlog(directory, count, seconds)
    memory, peak, drain = held["rss_mb"], held["rss_peak_mb"], held["drain_rate"]
    report.row(f"memory with {count:,} messages of backlog", f"{memory:.0f} MB", "150 MB", met=memory <= 150)
    report.row("  while draining, at the most", f"{peak:.0f} MB", "150 MB", met=peak <= 150)
    words = f"steady rate, {steady:,.0f}"
    report.row("drain after the outage beside 1,000/s live, msg/s", f"{drain:,.0f}", words, met=drain >= steady)
    report.row("  CPU per message while draining", f"{held['drain_cpu_us']:.1f} µs")
    worst = held["worst_commit_ms"]
    report.row("  longest wait of a live value to be accepted", f"{worst:.0f} ms", "not starved", met=worst < 1000)


def protecting(report: Report, directory: Path, events: Path, count: int) -> None:
    cost = privacy.per_message(events)
    added = cost["default"] - cost["without"]
    words = f"{added:.2f} µs ({cost['without']:.2f} without, {cost['default']:.2f} with)"
    report.row("default privacy policy, no match, per message", words, "2 µs", met=added <= 2)
    for name, more in privacy.per_value().items():
        report.row(f"  the same of {name}", f"{more:.2f} µs", "2 µs", met=more <= 2)
    report.row("  six more detectors, no match, per message", f"{cost['strict'] - cost['without']:.2f} µs")
    rates = {"with": [], "without": []}
    for _ in range(RUNS):
        for name, rules in (("with", ""), ("without", "[privacy]\ndefault = false\n")):
            rates[name].append(pipeline(directory, events, count, rules))
    told = [f"{statistics.median(r['rate'] for r in rates[name]):,.0f}" for name in rates]
    cpu = [f"{statistics.median(r['cpu_us'] for r in rates[name]):.1f}" for name in rates]
    report.row("  pipeline with / without it, msg/s", " / ".join(told))
    report.row("  pipeline with / without it, CPU per message", f"{' / '.join(cpu)} µs")
    small, large = privacy.hostile(1), privacy.hostile(10)
    worst = max(large, key=large.__getitem__)
    growth = max(large[name] / small[name] for name in large)
    report.row("  value of 10 MB of 'a@a@a@…'", f"{large['a@a@a@…']:.2f} s", "linear")
    words = f"{large[worst]:.2f} s for {worst}; at most {growth:.1f} times that of 1 MB"
    report.row("  worst of the hostile values of 10 MB", words, "linear: about 10 times", met=growth < 20)


def starting(report: Report, directory: Path, events: Path) -> None:
    begun = start_up(directory, events)
    imported, first = begun["import_ms"], begun["first_s"]
    report.row("import northbound", f"{imported:.0f} ms", "150 ms", met=imported <= 150)
    report.row("start, deliver one message, stop", f"{first:.2f} s", "1 s to the first delivery", met=first <= 1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages; nothing is written")
    parts = ("pipeline", "latency", "backlog", "privacy", "fanout", "start")
    parser.add_argument("--only", choices=parts, help="one part; nothing is written")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    wanted = (options.only,) if options.only else parts
    count = 300_000 // scale
    report = Report()
    with tempfile.TemporaryDirectory(prefix="northbound-bench-") as name:
        directory = Path(name)
        events = directory / "events.jsonl"
        workload.write_events(events, count)
        steady = 0.0
        if "pipeline" in wanted or "backlog" in wanted:
            steady = throughput(report, directory, events, count, peers="pipeline" in wanted)
        if "latency" in wanted:
            latency(report, directory, 20 / scale + 2)
        if "backlog" in wanted:
            outage(report, directory, 1_000_000 // scale, 60 / scale, steady)
        if "privacy" in wanted:
            protecting(report, directory, events, count)
        if "fanout" in wanted:
            fanout.report(report.row, directory, scale, 1 if options.quick else RUNS)
        if "start" in wanted:
            starting(report, directory, events)
    if not options.quick and not options.only:
        report.write(count)


main()
