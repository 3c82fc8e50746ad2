"""Killed at any moment: nothing accepted is lost, order holds, duplicates are bounded, and every number agrees."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.support.oracle import check_file, check_received, read_ledger

from northbound.config import StoreOptions
from northbound.message import Message
from northbound.status import Counters
from northbound.store import Settlement, SqliteStore, schema, writer
from northbound.store.records import stored_size

ROOT = Path(__file__).parents[2]
COUNT, TOPICS = 20_000, 37

SERVICE = """
import asyncio, os, sys
from pathlib import Path
from northbound.runtime import Runtime
from tests.support.fakes import Destination, configuration, connector, event, source

folder, count, topics = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

async def read(intake):
    position = int(intake.checkpoint or b"0")
    while position < count:
        events = [event(n % topics, n) for n in range(position, min(position + 40, count))]
        position += len(events)
        await intake.submit(events, checkpoint=str(position).encode())
        await asyncio.sleep(0.001)

def destination(name, **limits):
    out = Destination(**limits)
    file = os.open(folder / name, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(file, b"\\n")  # a kill may have torn the last line
    def take(batch):
        lines = (f"{m.key.rpartition('-')[2]} {m.source_topic} {m.payload.decode()} .\\n" for m in batch)
        os.write(file, "".join(lines).encode())
        return asyncio.sleep(0.002)
    out.on_send = take
    return connector(name, out)

async def main():
    connectors = [destination("one", batch_messages=100), destination("four", batches_in_flight=4, batch_messages=50)]
    await Runtime(configuration(folder, connectors=connectors, sources=[source("in", read)])).run(once=True)

asyncio.run(main())
"""


def _size(path):
    with contextlib.suppress(OSError):
        return path.stat().st_size
    return 0


def _run(folder, kill_after):
    """Run the service; kill it so long after it has begun to deliver. Returns whether it came to its end."""
    before = _size(folder / "four") + 1  # the line end that it begins with
    with (folder / "stderr").open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVICE, str(folder), str(COUNT), str(TOPICS)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=stderr,
        )
        if kill_after is not None:
            deadline = time.monotonic() + 20
            while process.poll() is None and _size(folder / "four") <= before and time.monotonic() < deadline:
                time.sleep(0.002)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(kill_after)
            process.send_signal(signal.SIGKILL)
        return process.wait(60) == 0


def _received(path):
    for line in path.read_text().splitlines():
        if line.endswith(" ."):
            sequence, topic, payload = line.removesuffix(" .").split(" ", 2)
            yield int(sequence), topic, payload.encode()


def _accepted():
    topics = [f"placeos/org/state/_/_/_/sys/drv/Mod/1/{n}" for n in range(TOPICS)]
    return [(topics[n % TOPICS], b'{"time":1,"value":"%d"}' % n) for n in range(COUNT)]


def test_killed_again_and_again_it_loses_nothing(tmp_path, capsys):
    dice = random.Random(11)
    kills = 0
    while kills < 20 and not _run(tmp_path, dice.uniform(0.0, 0.12)):
        kills += 1
        check_file(tmp_path / "store.db")
    assert _run(tmp_path, None), (tmp_path / "stderr").read_text()
    assert (tmp_path / "stderr").read_text() == ""
    assert kills >= 5
    ledger = check_file(tmp_path / "store.db")
    assert ledger.head == COUNT
    assert ledger.checkpoints["in"] == str(COUNT).encode()
    for name, at_once in (("one", 100), ("four", 200)):
        got = check_received(_accepted(), _received(tmp_path / name))
        account = ledger.accounts[name]
        assert account.waiting == account.dead == []
        assert account.counters["acknowledged"] == COUNT
        with capsys.disabled():
            print(f"\n  {name}: {kills} kills, {got.duplicates} duplicates, {got.duplicates / kills:.0f} a kill")
        assert got.duplicates <= kills * 10 * at_once


def test_what_is_on_the_disk_at_any_commit_is_whole(tmp_path, monkeypatch):
    """The files as they are before and after every commit are what a kill there would leave."""
    monkeypatch.setattr(writer, "_FOLD_SECONDS", 0.0)
    monkeypatch.setattr(writer, "_DELETE_ROWS", 7)
    copies: list[tuple[Path, int, int]] = []
    told = {"accepted": 0, "settled": 0}
    original = schema.transaction

    def copy():
        folder = tmp_path / f"copy{len(copies)}"
        folder.mkdir()
        for suffix in ("", "-wal"):
            if (file := tmp_path / f"s.db{suffix}").exists():
                shutil.copy(file, folder)
        copies.append((folder, told["accepted"], told["settled"]))

    def transaction(connection, work):
        def worked():
            result = work()
            copy()
            return result

        copy()
        result = original(connection, worked)
        copy()
        return result

    monkeypatch.setattr(schema, "transaction", transaction)
    log = [(f"t/{n * n % 5}", b"%d" % n) for n in range(300)]

    async def run():
        dice = random.Random(3)
        store = SqliteStore(StoreOptions(path=tmp_path / "s.db"))
        await store.register("c", "beginning")
        while told["accepted"] < len(log) or store._progress["c"].cursor < len(log):
            done = told["accepted"]
            part = [Message(t, p, "state", 1, True) for t, p in log[done : done + dice.randint(1, 20)]]
            if part and dice.random() < 0.6:
                told["accepted"] = await store.append(part, "src", b"%d" % (done + len(part))).committed
            entries = store.read("c", store._progress["c"].cursor, dice.randint(1, 20), 10**9)
            if entries.through > store._progress["c"].cursor and dice.random() < 0.7:
                count = len(entries.messages)
                dead = [(s, m, "odd") for s, m in zip(entries.sequences[:1], entries.messages[:1], strict=True)]
                skipped = entries.through - store._progress["c"].cursor - count
                counters = Counters(acknowledged=count - len(dead), dead=len(dead), superseded=skipped)
                store.settle(Settlement("c", entries.through, counters, dead, count, stored_size(entries.messages)))
                told["settled"] = entries.through
            if dice.random() < 0.1:
                await store.supersede("c", store.head)
            if dice.random() < 0.1:
                await store.register(f"d{told['accepted']}", "snapshot")
                await store.retire(["c"])
        await store.flush()
        await store.close()

    asyncio.run(run())
    assert len(copies) > 100
    cursor = head = 0
    for folder, accepted, settled in copies:
        ledger = check_file(folder / "s.db", compacted=True)
        assert ledger.head >= max(accepted, head), "what was accepted is lost"
        assert int(ledger.checkpoints.get("src", b"0")) == ledger.head, "the checkpoint is apart from its batch"
        if "c" in ledger.accounts:
            account = ledger.accounts["c"]
            assert cursor <= account.cursor <= settled
            cursor = account.cursor
        head = ledger.head
        for sequence, row in ledger.log.items():
            assert row == log[sequence - 1]
        for topic, (sequence, payload) in ledger.current.items():
            assert log[sequence - 1] == (topic, payload)
    shutil.rmtree(tmp_path / "copy0")
    # And every one of them opens and goes on.
    monkeypatch.setattr(schema, "transaction", original)
    for folder, _, _ in copies[1 :: max(1, len(copies) // 20)]:
        asyncio.run(_go_on(folder / "s.db"))


async def _go_on(path):
    head = read_ledger(path).head
    store = SqliteStore(StoreOptions(path=path))
    await store.register("c", "now")
    assert await store.append([Message("t/new", b"", "state", 1, True)], None, None).committed == head + 1
    await store.close()
    check_file(path, compacted=True)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_new_store_is_whole_or_not_there(tmp_path, monkeypatch, when):
    """A kill while the file is made leaves none at its place, and the next start makes it."""
    original = Path.rename

    def rename(self, target):
        if when == "after":
            original(self, target)
        raise KeyboardInterrupt

    async def opening():
        store = SqliteStore(StoreOptions(path=tmp_path / "s.db"))
        await store.close()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(opening())
    assert (tmp_path / "s.db").exists() == (when == "after")
    asyncio.run(opening())
    check_file(tmp_path / "s.db")


async def test_a_bookmark_that_was_ahead_of_the_log_is_not_believed_when_the_log_has_grown(tmp_path):
    """The file comes from a backup, its bookmarks do not: what is accepted from then on are other messages."""

    async def service(messages, deliver):
        store = SqliteStore(StoreOptions(path=tmp_path / "s.db"))
        await store.register("c", "beginning")
        for n in range(messages):
            await store.append([Message(f"t/{n}", b"", "state", 1, True)], None, None).committed
        if deliver:
            store.settle(Settlement("c", store.head, Counters(acknowledged=store.head)))
        await store.close()

    await service(0, deliver=False)
    shutil.copy(tmp_path / "s.db", tmp_path / "backup")
    await service(50, deliver=True)
    shutil.copy(tmp_path / "backup", tmp_path / "s.db")
    await service(80, deliver=False)
    await service(0, deliver=False)
    account = check_file(tmp_path / "s.db").accounts["c"]
    assert account.cursor == 0
    assert len(account.waiting) == 80
