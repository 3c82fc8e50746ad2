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

from benchmarks import bridge, workload
from tests.support.mosquitto import BINARY, Mosquitto, free_port

HERE = Path(__file__).parent
UNBOUNDED = ("max_queued_messages 0", "max_queued_bytes 0")


def child(name: str, directory: Path, port: int, argument: object = "", seconds: float = 0) -> dict[str, float]:
    shutil.rmtree(directory / "store", ignore_errors=True)
    (directory / "store").mkdir()
    command = [sys.executable, "-m", "benchmarks.child", name, directory / "store", port, argument, seconds]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-4000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def pipeline(directory: Path, events: Path, count: int) -> dict[str, float]:
    with Mosquitto(directory / f"p{time.monotonic_ns()}", config_lines=UNBOUNDED) as broker:
        result = child("pipeline", directory, broker.port, events)
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
    command = [sys.executable, "-m", "benchmarks.child", "backlog", directory / "store", port, count, seconds]
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
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    cores = len([line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")])
    mosquitto = subprocess.run([BINARY, "-h"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    return (
        f"{cores} cores ({model}), Linux {platform.release()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {mosquitto}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the messages; nothing is written")
    parser.add_argument("--only", choices=("pipeline", "latency", "backlog", "start"), help="one part; nothing is written")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    count, runs = 300_000 // scale, 3
    rows: list[tuple[str, str, str, str]] = []

    def row(what: str, measured: str, budget: str, met: bool) -> None:  # noqa: FBT001
        rows.append((what, measured, budget, "met" if met else "MISSED"))
        print(f"{what:<58} {measured:<34} {budget:<28} {rows[-1][3]}", flush=True)

    with tempfile.TemporaryDirectory(prefix="northbound-bench-") as name:
        directory = Path(name)
        events = directory / "events.jsonl"
        workload.write_events(events, count)
        part = options.only
        steady = 0.0
        if part in (None, "pipeline", "backlog"):
            ours, theirs = [], []
            for run in range(runs):
                ours.append(pipeline(directory, events, count))
                if part != "backlog":
                    taken = asyncio.run(bridge.carry(directory / f"b{run}", workload.messages(events)))
                    theirs.append(count / taken["seconds"])
            steady = statistics.median(r["rate"] for r in ours)
            cpu = statistics.median(r["cpu_us"] for r in ours)
        if part in (None, "pipeline"):
            bridged = statistics.median(theirs)
            peer = paho(directory, events, count)
            row("pipeline, msg/s", f"{steady:,.0f}", "30,000; aim 50,000", steady >= 30_000)
            row("  beside Mosquitto's own bridge, msg/s", f"{bridged:,.0f}, ratio {steady / bridged:.2f}", "ratio 2", steady >= 2 * bridged)
            row("  beside paho 2 publishing alone, msg/s", f"{peer['rate']:,.0f}, ratio {steady / peer['rate']:.1f}", "", True)
            row("pipeline, CPU per message", f"{cpu:.1f} µs", "25 µs; aim 15", cpu <= 25)
            row("  paho 2 publishing alone", f"{peer['cpu_us']:.0f} µs", "", True)
        if part in (None, "latency"):
            with Mosquitto(directory / "latency") as broker:
                lag = child("latency", directory, broker.port, "", 20 / scale + 2)
            row("latency at 1,000 msg/s, p50 / p99 / max", f"{lag['p50']:.1f} / {lag['p99']:.1f} / {lag['max']:.0f} ms", "5 / 25 ms", lag["p50"] <= 5 and lag["p99"] <= 25)
            row("  CPU at 1,000 msg/s", f"{lag['cpu_share'] * 100:.0f} % of a core", "", True)
        if part in (None, "backlog"):
            held = backlog(directory, 1_000_000 // scale, 60 / scale)
            row(f"memory with {1_000_000 // scale:,} messages of backlog", f"{held['rss_mb']:.0f} MB", "150 MB", held["rss_mb"] <= 150)
            row("  while draining, at the most", f"{held['rss_peak_mb']:.0f} MB", "150 MB", held["rss_peak_mb"] <= 150)
            row("drain after the outage, msg/s, with 1,000/s live", f"{held['drain_rate']:,.0f}", f"steady {steady:,.0f}", held["drain_rate"] >= steady)
            row("  longest wait of a live batch to be taken in", f"{held['worst_commit_ms']:.0f} ms", "not starved", held["worst_commit_ms"] < 1000)
        if part in (None, "start"):
            begun = start_up(directory, events)
            row("import northbound", f"{begun['import_ms']:.0f} ms", "150 ms", begun["import_ms"] <= 150)
            row("start, deliver one message, stop", f"{begun['first_s']:.2f} s", "1 s to the first delivery", begun["first_s"] <= 1)
    if options.quick or options.only:
        return
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    (HERE / "RESULTS.md").write_text(
        f"# Results\n\nWritten by `make bench` on {datetime.now(UTC):%Y-%m-%d}. {machine()}.\n"
        f"Everyone carries the same {count:,} messages over {workload.TOPICS:,} topics, QoS 1, retained, to a Mosquitto of its\n"
        "own on the same machine; medians of three runs taken in turn. The pipeline reads JSON Lines, and commits every\n"
        "message to disk (`synchronous = \"full\"`) before it sends it; the peers store nothing.\n\n"
        "| what | measured | budget | |\n| --- | --- | --- | --- |\n" + table + "\n"
    )


main()
