"""The store against a model, killed at any commit; and the files, disks and neighbours it must bear."""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.examples import examples
from tests.support.intake import until
from tests.support.oracle import check_file

from northbound.config import StoreOptions
from northbound.errors import StoreCorrupt, StoreError, StoreForeign, StoreFull, StoreLocked
from northbound.message import Message
from northbound.status import Counters
from northbound.store import Settlement, SqliteStore, schema, writer
from northbound.store.records import stored_size

TOPICS = [f"t/{n}" for n in range(6)]
ALL = 10**9


def message(topic="t/0", payload=b"x"):
    return Message(topic, payload, "state", 1, True)


def store_at(path, **options):
    return SqliteStore(StoreOptions(path=path, **options))


class Model:
    """What the store is to hold."""

    def __init__(self) -> None:
        self.log: list[tuple[str, bytes]] = []
        self.cursors: dict[str, int] = {}
        self.starts: dict[str, int] = {}
        self.counters: dict[str, Counters] = {}
        self.latest: dict[str, int] = {}
        self.dead: dict[str, list[int]] = {}
        self.checkpoint: bytes | None = None
        self.compacted = False

    def superseded(self, sequence):
        topic = self.log[sequence - 1][0]
        return any(other == topic for other, _ in self.log[sequence:])

    @property
    def current(self):
        return {topic: (n + 1, payload) for n, (topic, payload) in enumerate(self.log)}


class StoreMachine(RuleBasedStateMachine):
    """Every commit is also a place where the process might have died: the files are copied there and looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(writer, "_FOLD_SECONDS", 3600)  # maintained when the machine says so
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="northbound-store-"))
        self.path = self.folder / "store.db"
        self.model = Model()
        self.open()

    def run(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def open(self):
        async def opened():
            return store_at(self.path)

        self.store = self.run(opened())
        assert self.store.head == len(self.model.log)
        for name in self.model.cursors:
            progress = self.run(self.store.register(name, "now"))
            assert progress.cursor == self.model.cursors[name]
            assert progress.counters == self.model.counters[name]

    def teardown(self):
        self.run(self.store.close())
        self.check_at_rest()
        self.loop.close()
        self.patch.undo()
        shutil.rmtree(self.folder)

    @rule(
        topics=st.one_of(
            st.lists(st.sampled_from(TOPICS), max_size=7),
            st.sampled_from([1001, 1110]).map(lambda n: [TOPICS[i % 5] for i in range(n)]),
        ),
        clears=st.booleans(),
        checkpoint=st.none() | st.binary(max_size=8),
    )
    def append(self, topics, clears, checkpoint):
        messages = [
            message(t, b"" if clears and n % 3 == 0 else f"{len(self.model.log) + n}".encode())
            for n, t in enumerate(topics)
        ]
        first = len(self.model.log) + 1
        last = self.run(self._append(messages, checkpoint))
        assert last == first + len(messages) - 1
        self.model.log += [(m.topic, m.payload) for m in messages]
        if checkpoint is not None:
            self.model.checkpoint = checkpoint

    async def _append(self, messages, checkpoint):
        return await self.store.append(messages, "src", checkpoint).committed

    @rule(name=st.sampled_from("abc"), start=st.sampled_from(["snapshot", "now", "beginning"]))
    def register(self, name, start):
        known = name in self.model.cursors
        progress = self.run(self.store.register(name, start))
        if known:
            assert progress.cursor == self.model.cursors[name]
            return
        head = len(self.model.log)
        if start == "beginning":
            assert progress.cursor <= min([head, *self.model.cursors.values()]) or self.model.compacted
        else:
            assert progress.cursor == head
        position = progress.snapshot
        if position is not None:
            found = []
            while isinstance(position, str):
                entries = self.store.read(name, position, 2, ALL)
                found += [(s, m.topic, m.payload) for s, m in zip(entries.sequences, entries.messages, strict=True)]
                counters = Counters(acknowledged=len(entries.messages), from_snapshot=len(entries.messages))
                position = entries.through
                self.store.settle(Settlement(name, position, counters))
            assert found == sorted(((s, t, p) for t, (s, p) in self.model.current.items() if p), key=lambda row: row[1])
            self.model.counters[name] = Counters(acknowledged=len(found), from_snapshot=len(found))
        else:
            self.model.counters[name] = Counters()
        self.model.cursors[name] = self.model.starts[name] = progress.cursor
        self.model.latest[name] = 0
        self.model.dead[name] = []

    @precondition(lambda self: self.model.cursors)
    @rule(data=st.data(), limit=st.sampled_from([1, 3, 500]), limit_bytes=st.sampled_from([1, 10, ALL]))
    def settle(self, data, limit, limit_bytes):
        name = data.draw(st.sampled_from(sorted(self.model.cursors)))
        before = self.model.cursors[name]
        entries = self.store.read(name, before, limit, limit_bytes)
        if entries.through == before:
            assert before == len(self.model.log)
            return
        self.check_entries(name, before, entries, limit, limit_bytes)
        count = len(entries.messages)
        counters = Counters(superseded=entries.through - before - count)
        dead = []
        if count and data.draw(st.booleans()):
            dead = [(entries.sequences[0], entries.messages[0], "odd")]
            self.model.dead[name].append(entries.sequences[0])
        counters.dead, counters.acknowledged = len(dead), count - len(dead)
        self.store.settle(Settlement(name, entries.through, counters, dead, count, stored_size(entries.messages)))
        self.model.cursors[name] = entries.through
        self.model.counters[name].add(counters)

    def check_entries(self, name, after, entries, limit, limit_bytes):
        assert len(entries.messages) <= limit
        assert len(entries.messages) <= 1 or sum(m.size for m in entries.messages) <= limit_bytes
        rows = dict(zip(entries.sequences, entries.messages, strict=True))
        for sequence in range(after + 1, entries.through + 1):
            if sequence in rows:
                assert (rows[sequence].topic, rows[sequence].payload) == self.model.log[sequence - 1]
            else:
                assert self.model.compacted, "a message was passed over"
                assert self.model.superseded(sequence)

    @precondition(lambda self: self.model.cursors and len(self.model.log) > 5)
    @rule(data=st.data())
    def supersede(self, data):
        name = data.draw(st.sampled_from(sorted(self.model.cursors)))
        through = data.draw(st.integers(0, len(self.model.log)))
        self.run(self.store.supersede(name, through))
        self.settle_down()
        self.model.compacted = True
        self.model.latest[name] = max(through, self.model.latest[name])

    @rule(keep=st.sets(st.sampled_from("abc")))
    def retire(self, keep):
        gone = self.run(self.store.retire(sorted(keep)))
        assert set(gone) == set(self.model.cursors) - keep
        for name in gone:
            del self.model.cursors[name], self.model.counters[name], self.model.latest[name], self.model.starts[name]
            self.store.unregister(name)
            self.store.settle(Settlement(name, 1, Counters(acknowledged=1)))  # one that comes too late

    @rule()
    def maintain(self):
        self.store._writer._fold_at = 0.0
        self.settle_down()

    def settle_down(self):
        self.run(self.store.flush())
        self.run(self.store.flush())  # what was to be maintained comes behind the first

    @rule()
    def forget_the_tail(self):
        self.store._tail = type(self.store._tail)(8 * 1024**2)

    @rule()
    def reopen(self):
        self.run(self.store.close())
        self.check_at_rest()
        self.open()

    @rule()
    def crash(self):
        """Go on with a copy of the files, taken while the service held them."""
        self.run(self.store.flush())
        copy = self.folder / f"copy{time.monotonic_ns()}"
        copy.mkdir()
        for suffix in ("", "-wal"):
            if (file := self.path.with_name(self.path.name + suffix)).exists():
                shutil.copy(file, copy)
        self.run(self.store.close())
        self.path = copy / "store.db"
        self.open()

    @invariant()
    def backlog_agrees(self):
        for name, cursor in self.model.cursors.items():
            progress = self.store._progress[name]
            expected = self.model.log[cursor:]
            if not self.model.compacted:
                assert progress.backlog == len(expected)
                assert progress.backlog_bytes == sum(len(t) + len(p) + 64 for t, p in expected)

    def check_at_rest(self):
        # A retired connector's dead letters stay.
        ledger = check_file(self.path, letters_kept=False, compacted=self.model.compacted)
        model = self.model
        assert ledger.head == len(model.log)
        for topic, (sequence, payload) in ledger.current.items():
            assert model.log[sequence - 1] == (topic, payload)
        newest = dict(ledger.current)
        newest.update({t: (s, p) for s, (t, p) in sorted(ledger.log.items()) if s > newest.get(t, (0,))[0]})
        # That a topic was cleared may be forgotten once every connector has passed it.
        passed = min(model.cursors.values(), default=ledger.head)
        forgotten = {t for t, (s, p) in model.current.items() if not p and s <= passed and t not in newest}
        assert newest == {t: at for t, at in model.current.items() if t not in forgotten}
        assert ledger.checkpoints == ({} if model.checkpoint is None else {"src": model.checkpoint})
        assert {name: a.cursor for name, a in ledger.accounts.items()} == model.cursors
        for name, account in ledger.accounts.items():
            assert account.counters["dead"] == model.counters[name].dead


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=examples(25), stateful_step_count=30)


# files that are not a sound store of ours


def a_store(path, messages=3):
    async def make():
        store = store_at(path)
        await store.register("c", "beginning")
        await store.append([message(f"t/{n}", b"payload" * 20) for n in range(messages)], None, None).committed
        await store.close()

    asyncio.run(make())


def refused(path, kind, words, **options):
    async def opening():
        store_at(path, **options)

    before = path.read_bytes() if path.is_file() else None
    neighbours = {file.name for file in path.parent.iterdir()} if path.parent.is_dir() else set()
    with pytest.raises(kind, match=words) as caught:
        asyncio.run(opening())
    assert type(caught.value) is kind
    if before is not None:
        assert path.read_bytes() == before
        made = {f.name for f in path.parent.iterdir()} - neighbours
        assert made <= {f"{path.name}.lock", f"{path.name}-shm", f"{path.name}-wal"}
        assert all(not f.stat().st_size for f in path.parent.iterdir() if f.name.endswith("-wal") and f.name in made)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "s.db").touch()
    refused(tmp_path / "s.db", StoreCorrupt, "is empty .* or remove it to start")


def test_a_text_file_is_refused(tmp_path):
    (tmp_path / "s.db").write_text("[site]\norg = 'acme'\n" * 20)
    refused(tmp_path / "s.db", StoreForeign, "not a northbound store: name another path")


def test_another_programs_database_is_refused(tmp_path):
    db = sqlite3.connect(tmp_path / "s.db")
    db.execute("CREATE TABLE t (x)")
    db.close()
    refused(tmp_path / "s.db", StoreForeign, "another program's SQLite file: name another path")


def test_another_programs_database_with_a_wal_is_refused_and_left_alone(tmp_path):
    db = sqlite3.connect(tmp_path / "s.db")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t (x)")
    db.commit()
    for suffix in ("", "-wal"):
        shutil.copy(tmp_path / f"s.db{suffix}", tmp_path / f"copy.db{suffix}")
    db.close()
    wal = (tmp_path / "copy.db-wal").read_bytes()
    refused(tmp_path / "copy.db", StoreForeign, "another program's SQLite file")
    assert (tmp_path / "copy.db-wal").read_bytes() == wal


def test_a_newer_schema_is_refused(tmp_path):
    a_store(tmp_path / "s.db")
    db = sqlite3.connect(tmp_path / "s.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    refused(tmp_path / "s.db", StoreForeign, "newer northbound .schema 99.*upgrade")


@pytest.mark.parametrize("size", [50, 100, 4096, 10_000])
def test_a_truncated_file_is_refused(tmp_path, size):
    a_store(tmp_path / "s.db", 300)
    with (tmp_path / "s.db").open("r+b") as file:
        file.truncate(size)
    refused(tmp_path / "s.db", StoreCorrupt, "is damaged .*left as it is.*recover")


def test_flipped_bytes_are_refused(tmp_path):
    a_store(tmp_path / "s.db", 300)
    content = bytearray((tmp_path / "s.db").read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 40] = os.urandom(40)
    (tmp_path / "s.db").write_bytes(content)
    refused(tmp_path / "s.db", StoreCorrupt, "is damaged")


def test_damage_in_a_file_too_large_to_check_is_found_where_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "_CHECKED_BYTES", 0)
    a_store(tmp_path / "s.db", 300)
    db = sqlite3.connect(tmp_path / "s.db")
    root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'log'").fetchone()[0]
    db.close()
    with (tmp_path / "s.db").open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)

    async def reading():
        store = store_at(tmp_path / "s.db")
        await store.register("c", "now")

    with pytest.raises(StoreCorrupt, match="is damaged"):
        asyncio.run(reading())


def test_a_directory_is_refused(tmp_path):
    (tmp_path / "s.db").mkdir()
    refused(tmp_path / "s.db", StoreError, "directory: the service needs")


def test_a_missing_folder_is_made(tmp_path):
    a_store(tmp_path / "a" / "b" / "s.db")
    assert check_file(tmp_path / "a" / "b" / "s.db").head == 3


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "a").touch()
    refused(tmp_path / "a" / "s.db", StoreError, "name a folder the service may write to")


TRY = """
import asyncio, sys
from northbound.config import StoreOptions
from northbound.store import SqliteStore
async def main():
    try:
        store = SqliteStore(StoreOptions(path=sys.argv[1]))
        await store.close()
    except Exception as error:
        print(type(error).__name__, error)
asyncio.run(main())
"""


def as_nobody(path):
    """Return what opening says to a user without rights; a fork, since the interpreter may be closed to them."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)

            async def opening():
                await store_at(path).close()

            asyncio.run(opening())
        except BaseException as error:  # noqa: BLE001 - it ends here whatever it is
            said = f"{type(error).__name__} {error}"
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def in_process(path):
    done = subprocess.run(
        [sys.executable, "-c", TRY, str(path)], check=True, capture_output=True, text=True, timeout=30
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("locked", [False, True])
def test_what_may_not_be_written_is_refused(locked):
    folder = Path(tempfile.mkdtemp(prefix="northbound-"))  # tmp_path is closed to others
    try:
        path = folder / "s.db"
        a_store(path)
        folder.chmod(0o777)
        path.chmod(0o644)
        if locked:
            (folder / "s.db.lock").chmod(0o666)
        before = path.read_bytes()
        said = as_nobody(path)
        assert said.startswith("StoreError")
        assert "write" in said
        assert path.read_bytes() == before
        folder.chmod(0o755)
        assert "a folder it may write to" in as_nobody(folder / "new.db")
    finally:
        shutil.rmtree(folder)


def test_two_processes_never_share_a_store(tmp_path):
    async def first():
        store = store_at(tmp_path / "s.db")
        said = await asyncio.to_thread(in_process, tmp_path / "s.db")
        assert said.startswith("StoreLocked")
        assert f"process {os.getpid()}" in said
        assert "its own path" in said
        with pytest.raises(StoreLocked):
            store_at(tmp_path / "s.db")
        await store.close()

    asyncio.run(first())
    assert in_process(tmp_path / "s.db") == ""


def test_what_is_left_of_a_removed_store_does_not_flow_into_a_new_one(tmp_path):
    async def leave():
        store = store_at(tmp_path / "old" / "s.db")
        await store.append([message("t/old", b"old")] * 50, None, None).committed
        (tmp_path / "new").mkdir()
        shutil.copy(tmp_path / "old" / "s.db-wal", tmp_path / "new" / "s.db-wal")
        await store.close()

    asyncio.run(leave())
    a_store(tmp_path / "new" / "s.db")
    ledger = check_file(tmp_path / "new" / "s.db")
    assert ledger.head == 3
    assert "t/old" not in {*ledger.current, *(t for t, _ in ledger.log.values())}
    assert len(list((tmp_path / "new").glob("s.db-wal.*"))) == 1  # nothing is thrown away


@pytest.mark.parametrize("crash", [False, True])
def test_migrations_are_a_chain_and_each_is_whole(tmp_path, monkeypatch, crash):
    a_store(tmp_path / "s.db")
    steps = (*schema.MIGRATIONS, "ALTER TABLE log ADD COLUMN a;", "ALTER TABLE log ADD COLUMN b; UPDATE meta SET x;")
    good = (*steps[:-1], "ALTER TABLE log ADD COLUMN b;")
    monkeypatch.setattr(schema, "MIGRATIONS", steps if crash else good)
    monkeypatch.setattr(schema, "VERSION", len(steps))

    def columns():
        db = sqlite3.connect(tmp_path / "s.db")
        try:
            names = [row[1] for row in db.execute("PRAGMA table_info(log)")]
            return names[-2:], db.execute("PRAGMA user_version").fetchone()[0]
        finally:
            db.close()

    if crash:
        with pytest.raises(StoreError):
            schema.open_checked(tmp_path / "s.db")
        assert columns() == (["payload", "a"], 2)
        monkeypatch.setattr(schema, "MIGRATIONS", good)
    schema.open_checked(tmp_path / "s.db").close()
    assert columns() == (["a", "b"], 3)


# the writer


async def test_many_small_appends_share_their_commits(tmp_path, monkeypatch):
    count = []
    original = schema.transaction

    def counted(connection, work):
        count.append(1)
        return original(connection, work)

    monkeypatch.setattr(schema, "transaction", counted)
    store = store_at(tmp_path / "s.db")
    appends = [store.append([message()], None, None) for _ in range(2000)]
    for append in appends:
        await append.committed
    assert len(count) < 200
    assert [append.first for append in appends] == list(range(1, 2001))
    await store.close()


async def test_a_dead_letter_counts_once_while_it_gets_to_the_disk(tmp_path):
    store = store_at(tmp_path / "s.db")
    await store.register("c", "now")
    await store.append([message()], None, None).committed
    store.settle(Settlement("c", 1, Counters(dead=1), [(1, message(), "why")], 1))
    with closing(sqlite3.connect(tmp_path / "s.db")) as db:
        deadline = time.monotonic() + 20
        while not (on_disk := db.execute("SELECT count(*) FROM dead").fetchone()[0]) and time.monotonic() < deadline:
            assert store.dead_count("c") == 1
    assert on_disk == store.dead_count("c") == 1  # the loop, which has not run, does not know it yet
    await store.flush()
    assert store.dead_count("c") == 1
    await store.close()


async def test_after_the_end_the_one_file_is_all_of_it(tmp_path):
    store = store_at(tmp_path / "s.db")
    await store.append([message()] * 5, None, None).committed
    await store.close()
    shutil.copy(tmp_path / "s.db", tmp_path / "copy.db")
    assert check_file(tmp_path / "copy.db").head == 5


ANOTHER_PROGRAM = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("UPDATE dead SET replay = 0")
db.commit()
db.close()  # the last one to close would checkpoint, and remove the WAL
"""


async def test_reading_beside_the_service_in_its_own_process_keeps_its_locks(tmp_path):
    """Whoever closes a descriptor of the file gives up the locks of the process, unless SQLite itself does it."""
    path = tmp_path / "store.db"
    store = store_at(path)
    try:
        await store.append([message("a")]).committed
        for read_only in (True, False):
            schema.open_existing(path, read_only=read_only).close()
        wal = path.with_name("store.db-wal")
        before = wal.stat().st_ino
        other = await asyncio.create_subprocess_exec(sys.executable, "-c", ANOTHER_PROGRAM, str(path))
        assert await other.wait() == 0
        assert wal.stat().st_ino == before, "the service writes to a file that is no longer there"
        await store.append([message("b")]).committed
        with closing(schema.open_existing(path, read_only=True)) as db:
            assert db.execute("SELECT count(*) FROM log").fetchone()[0] == 2
    finally:
        await store.close()


async def test_a_wait_that_is_cancelled_harms_nothing(tmp_path):
    store = store_at(tmp_path / "s.db")
    await store.register("c", "now")
    for _ in range(50):
        waiting = asyncio.ensure_future(store.supersede("c", 0))
        await asyncio.sleep(0)
        waiting.cancel()
    await store.append([message()], None, None).committed
    await store.flush()
    await store.close()


async def test_work_that_fails_leaves_no_note_of_what_it_did(tmp_path):
    store = store_at(tmp_path / "s.db")
    await store.register("c", "beginning")
    await store.append([message("t/1", b"1"), message("t/2", b"2")], None, None).committed

    def fail():
        store._writer._fold()
        store._writer.retire(frozenset())
        raise sqlite3.OperationalError("made up")

    with pytest.raises(StoreError, match="made up"):
        await store._ask(fail)
    store._writer._fold_at = 0.0
    await store.flush()
    await store.close()
    ledger = check_file(tmp_path / "s.db")
    assert ledger.current == {"t/1": (1, b"1"), "t/2": (2, b"2")}
    assert ledger.accounts["c"].waiting == [1, 2]


async def test_a_neighbour_that_holds_the_file_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_FULL_RETRY_SECONDS", 0.05)
    store = store_at(tmp_path / "s.db")
    store._writer._db.execute("PRAGMA busy_timeout = 20")
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    append = store.append([message()], None, None)
    await until(lambda: store.status().error)
    assert "another program holds the file" in store.status().error
    other.execute("ROLLBACK")
    other.close()
    assert await append.committed == 1
    await asyncio.sleep(0.1)
    assert store.status().error is None
    await store.close()


async def test_after_it_broke_everyone_is_told_and_nobody_waits(tmp_path):
    store = store_at(tmp_path / "s.db")
    await store.register("c", "beginning")
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("DROP TABLE checkpoint")
    other.execute("DROP TABLE progress")
    other.close()
    waiting = [asyncio.ensure_future(store.flush()) for _ in range(3)]
    append = store.append([message()], "src", b"x")
    with pytest.raises(StoreError):
        await append.committed
    done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
    assert all(result is None or isinstance(result, StoreError) for result in done)
    with pytest.raises(StoreError):
        await store.watch()
    await store.room()
    with pytest.raises(StoreError):
        await store.append([message()], None, None).committed
    with pytest.raises(StoreError):
        await store.register("d", "now")
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        store.oldest(0)


async def test_a_full_disk_is_waited_for_while_delivery_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_FULL_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(writer, "_FOLD_SECONDS", 0.01)
    store = store_at(tmp_path / "s.db")
    await store.register("c", "beginning")
    await store.append([message(f"t/{n % 3}", b"x" * 500) for n in range(2000)], None, None).committed
    pages = store._writer._db.execute("PRAGMA page_count").fetchone()[0]
    store._writer._db.execute(f"PRAGMA max_page_count = {pages + 10}")
    waiting = [store.append([message("t/0", b"y" * 5000)] * 20, "src", str(n).encode()) for n in range(50)]
    await until(lambda: store.status().error)
    assert "free space" in store.status().error
    with pytest.raises(StoreFull):
        await store._ask(lambda: store._writer._db.execute("CREATE TABLE large AS SELECT randomblob(9999999)"))
    await asyncio.wait_for(store.flush(), 5)
    position = 0
    while store._progress["c"].cursor < 2000:
        entries = store.read("c", position, 100, ALL)
        count = len(entries.messages)
        store.settle(Settlement("c", entries.through, Counters(acknowledged=count), [], count))
        position = entries.through
        await asyncio.sleep(0.005)
    await asyncio.wait_for(asyncio.gather(*(a.committed for a in waiting[:2])), 20)  # room of what was deleted
    store._writer._db.execute("PRAGMA max_page_count = 1000000")
    await asyncio.wait_for(asyncio.gather(*(a.committed for a in waiting)), 20)
    assert [a.first for a in waiting] == list(range(2001, 3001, 20))
    await asyncio.sleep(0.1)
    assert store.status().error is None
    await store.close()
    ledger = check_file(tmp_path / "s.db")
    account = ledger.accounts["c"]
    assert account.counters["acknowledged"] == account.cursor >= 2000
    assert ledger.head == 3000
    assert ledger.checkpoints["src"] == b"49"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_disk_that_is_really_full(monkeypatch):
    monkeypatch.setattr(writer, "_FULL_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(writer, "_FOLD_SECONDS", 0.01)
    disk = tempfile.mkdtemp(prefix="northbound-disk-")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting is not permitted")
    try:
        asyncio.run(_fill_the_disk(Path(disk)))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
        Path(disk).rmdir()


async def _fill_the_disk(disk):
    store = store_at(disk / "s.db")
    try:
        await _fill_and_deliver(store)
    finally:
        await store.close()
    account = check_file(disk / "s.db").accounts["c"]
    assert account.counters["acknowledged"] == account.cursor


async def _fill_and_deliver(store):
    await store.register("c", "beginning")
    appends = []
    # It may be the folding that finds the disk full; go on until an append waits, too.
    while store.status().error is None or all(a.committed.done() for a in appends):
        appends.append(store.append([message(f"t/{n}", os.urandom(900)) for n in range(100)], None, None))
        await asyncio.sleep(0.002)
    deadline = time.monotonic() + 30
    while not all(a.committed.done() for a in appends):  # what is delivered makes room: nobody else helps
        assert time.monotonic() < deadline, store.status()
        cursor = store._progress["c"].cursor
        entries = store.read("c", cursor, 500, ALL)
        count = len(entries.messages)
        if count:
            store.settle(Settlement("c", entries.through, Counters(acknowledged=count), [], count))
        await asyncio.sleep(0.002)


async def test_a_large_backlog_stays_on_the_disk(tmp_path):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    store = store_at(tmp_path / "s.db", synchronous="normal")
    await store.register("c", "beginning")
    await store.append([message(f"t/{n % 997}", b"x" * 100) for n in range(5000)], None, None).committed
    before = resident()
    for begin in range(0, 200_000, 5000):
        await store.append([message(f"t/{(begin + n) % 997}", b"x" * 100) for n in range(5000)], None, None).committed
    assert resident() - before < 60 * 1024**2
    assert store._progress["c"].backlog == 205_000
    await store.close()
