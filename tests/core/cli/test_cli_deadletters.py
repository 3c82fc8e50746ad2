"""``northbound deadletters`` on a store that a real run made, without the service and beside it."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import sys

import pytest
from tests.core.cli.conftest import event, run_northbound
from tests.support.service import Service, until

from northbound import StoreError
from northbound.administration import DeadLetters, is_running
from northbound.config import StoreOptions
from northbound.store import SqliteStore

CONFIGURATION = """
[site]
org = "org-acme"
[sources.in]
type = "jsonl"
path = "events.jsonl"
[connectors.out]
type = "file"
path = "sent.jsonl"
limits.max_payload_bytes = 60
[connectors.other]
type = "file"
path = "other.jsonl"
topics = ["placeos/+/state/+/+/+/+/+/+/+/large"]
limits.max_payload_bytes = 60
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with three dead letters: two states for ``out``, one of them for ``other`` as well."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "northbound.toml").write_text(CONFIGURATION)
    lines = [event("small"), event("large", "x" * 100), event("wide", "y\x1b[31m" * 20), event("small", 2)]
    (folder / "events.jsonl").write_text("\n".join(lines))
    done = run_northbound(folder, "run", "--once", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(c["name"], c["acknowledged"], c["dead"]) for c in told["connectors"]] == [("out", 2, 2), ("other", 0, 1)]
    return folder


@pytest.fixture
def store(made, tmp_path, monkeypatch):
    folder = tmp_path / "site"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


def ids(cli, *arguments):
    return [letter["id"] for letter in cli("deadletters", "list", "--json", *arguments).json["dead_letters"]]


def test_list_is_bounded_filtered_and_shows_no_payload(cli, store):
    told = cli("deadletters", "list")
    assert (told.status, told.err) == (0, "")
    assert sorted((row[1], row[3].rpartition("/")[2], row[5]) for row in told.rows) == [
        ("other", "large", "waiting"), ("out", "large", "waiting"), ("out", "wide", "waiting"),
    ]  # fmt: skip
    assert "xxxx" not in told.out
    assert all("the destination takes 60" in row[6] for row in told.rows)
    assert len(ids(cli, "--connector", "out")) == 2
    assert len(ids(cli, "--topic", "placeos/+/state/+/+/+/+/+/+/+/large")) == 2
    assert ids(cli, "--connector", "nobody") == []
    told = cli("deadletters", "list", "--limit", "2", "--json")
    assert told.json["more"]
    assert len(told.json["dead_letters"]) == 2
    told = cli("deadletters", "list", "--limit", "1")
    assert len(told.rows) == 1
    assert told.err == "the oldest 1 of 3: --limit shows more\n"
    assert cli("deadletters", "list", "--connector", "nobody").err == "no dead letters that match\n"


def test_a_wrong_filter_is_wrong_usage(cli, store):
    told = cli("deadletters", "list", "--topic", "a/#/b")
    assert told.status == 2
    assert "--topic" in told.err


def test_show_shows_the_payload_and_obeys_none_of_it(cli, store):
    [wide] = ids(cli, "--topic", "placeos/+/state/+/+/+/+/+/+/+/wide")
    told = cli("deadletters", "show", wide)
    assert told.status == 0
    assert "\x1b" not in told.out
    assert "the destination takes 60" in told.out
    found = cli("deadletters", "show", wide, "--json").json
    assert found["connector"] == "out"
    assert json.loads(json.loads(found["payload"])["value"]) == "y\x1b[31m" * 20
    told = cli("deadletters", "show", 99)
    assert told.status == 1
    assert "no dead letter 99" in told.err


def test_a_payload_that_is_no_text_is_shown_as_base64(cli, store):
    with sqlite3.connect("northbound.db") as connection:
        connection.execute("UPDATE dead SET payload = ? WHERE id = 1", (b"\xff\x00",))
    assert cli("deadletters", "show", 1, "--json").json["payload_base64"] == "/wA="
    assert "/wA= (base64" in cli("deadletters", "show", 1).out


def test_replay_marks_for_the_next_run(cli, store):
    told = cli("deadletters", "replay", "--connector", "out")
    assert (told.status, told.out) == (0, "2 dead letters marked: they will be sent when the service runs\n")
    kept = cli("deadletters", "list", "--json").json["dead_letters"]
    states = {letter["connector"]: letter["state"] for letter in kept}
    assert states == {"out": "replay asked", "other": "waiting"}
    told = cli("deadletters", "replay", 1, 77, "--force", "--json")
    assert told.status == 1
    assert told.json == {"replay": [1], "running": False, "not_configured": []}
    assert "no dead letter 77" in told.err
    with DeadLetters(store / "northbound.db", read_only=True) as letters:
        assert letters.get(1).replay == 2


def test_a_connector_that_is_gone_is_told(cli, store):
    text = CONFIGURATION.partition("[connectors.other]")[0]
    (store / "northbound.toml").write_text(text)
    told = cli("deadletters", "replay", "--all")
    assert told.status == 0
    assert "other is not configured" in told.err


@pytest.mark.parametrize("arguments", [[], ["--all", "1"], ["--all", "--connector", "out"], ["0"], ["x"]])
def test_replay_and_drop_want_one_way_of_saying_which(cli, store, arguments):
    assert cli("deadletters", "replay", *arguments).status == 2
    assert cli("deadletters", "drop", "--yes", *arguments).status == 2
    assert len(ids(cli)) == 3


def test_drop(cli, store, monkeypatch):
    assert cli("deadletters", "drop", 2).out == "1 dead letter dropped\n"
    assert 2 not in ids(cli)
    told = cli("deadletters", "drop", "--all")
    assert told.status == 2
    assert "2 dead letters would be deleted: add --yes" in told.err
    monkeypatch.setattr(sys, "stdin", answers := io.StringIO("n\n"))
    monkeypatch.setattr(answers, "isatty", lambda: True, raising=False)
    assert cli("deadletters", "drop", "--all").status == 130
    assert len(ids(cli)) == 2
    assert cli("deadletters", "drop", "--all", "--yes", "--json").json == {"dropped": [1, 3]}
    assert cli("deadletters", "drop", "--all").out == "0 dead letters dropped\n"
    assert cli("deadletters", "drop", 1).status == 1
    assert cli("deadletters", "list").err == "no dead letters\n"


def test_the_store_alone_is_enough_and_the_secrets_are_not_needed(cli, store):
    assert len(ids(cli, "--store", "northbound.db")) == 3
    (store / "northbound.toml").write_text(
        CONFIGURATION + '[connectors.cloud]\ntype = "mqtt"\nurl = "mqtt://x.test"\npassword = "${NOT_HERE}"\n'
    )
    assert len(ids(cli)) == 3
    told = cli("deadletters", "list", "--store", "northbound.db", "--config", "northbound.toml")
    assert told.status == 2
    (store / "northbound.toml").unlink()
    told = cli("deadletters", "list")
    assert told.status == 2
    assert "name one with --config" in told.err


def test_a_path_from_the_environment(cli, store, monkeypatch):
    (store / "northbound.toml").write_text('[store]\npath = "${STORE}"\n' + CONFIGURATION)
    monkeypatch.setenv("STORE", "northbound.db")
    assert len(ids(cli)) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist: the service makes it when it first runs"),
        (b"", "is empty (0 bytes)"),
        (b"hello", "is not a northbound store"),
        (b"SQLite format 3\0" + b"x" * 200, "is damaged"),
    ],
)
def test_what_is_no_store_is_refused_and_left_alone(cli, tmp_path, content, words):
    path = tmp_path / "some.db"
    if content is not None:
        path.write_bytes(content)
    for arguments in (["list"], ["show", "1"], ["replay", "--all"], ["drop", "1"]):
        told = cli("deadletters", *arguments, "--store", path)
        assert told.status == 1
        assert words in told.err
        assert len(told.err.splitlines()) == 1
    assert (path.read_bytes() if path.exists() else None) == content


def test_other_peoples_databases_and_other_versions(cli, store, tmp_path):
    with sqlite3.connect(tmp_path / "theirs.db") as theirs:
        theirs.execute("CREATE TABLE t (x)")
    assert "another program's" in cli("deadletters", "list", "--store", tmp_path / "theirs.db").err
    for version, words in ((99, "written by a newer northbound"), (0, "written by an older northbound")):
        with sqlite3.connect(store / "northbound.db") as ours:
            ours.execute(f"PRAGMA user_version = {version}")
        assert words in cli("deadletters", "list").err


def test_a_damaged_page_is_told(store):
    path = store / "northbound.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\x5a" * (len(content) - 4096)
    path.write_bytes(content)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    with DeadLetters(path) as letters, pytest.raises(StoreError, match="damaged"):
        letters.count()


def test_many_are_read_and_changed_in_parts(store):
    path = store / "northbound.db"
    with sqlite3.connect(path) as ours:
        columns = "connector, sequence, at, reason, topic, kind, time, retain, payload"
        number = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"
        ours.execute(f"INSERT INTO dead ({columns}) {number} SELECT 'out', i, 0, '', 't/' || i, 0, 0, 0, '' FROM n")
    with DeadLetters(path) as letters:
        assert sum(1 for _ in letters.each()) == letters.count() == 1003
        assert [letter.message.topic for letter in letters.each(topics=["t/999"])] == ["t/999"]
        assert len(letters.replay(letters.ids())) == 1003
        assert len(letters.drop(letters.ids("out"))) == 1002
        assert letters.count() == 1


async def test_running_is_told_by_the_lock(tmp_path):
    path = tmp_path / "own.db"
    assert not is_running(path)
    opened = SqliteStore(StoreOptions(path=path))
    assert is_running(path)
    await opened.close()
    assert not is_running(path)


def test_beside_the_running_service(cli, store):
    (store / "events.jsonl").unlink()
    text = CONFIGURATION.replace('path = "events.jsonl"', 'path = "none.jsonl"\nfollow = true')
    with Service(store, text.replace("limits.max_payload_bytes = 60\n[", "["), environment={}) as service:
        until(lambda: is_running(store / "northbound.db") and "delivering to other" in service.log(), what="start")
        assert cli("deadletters", "replay", "--all").out.endswith("the service sends them within seconds\n")
        until(lambda: ids(cli) == ids(cli, "--connector", "other"), what="replayed")
        kept = cli("deadletters", "list", "--json").json["dead_letters"]
        assert [letter["state"] for letter in kept] == ["replay failed"]
        assert cli("deadletters", "drop", kept[0]["id"]).status == 0
        assert ids(cli) == []
        assert service.stop() == 0
    topics = [json.loads(line)["topic"].rpartition("/")[2] for line in (store / "sent.jsonl").read_text().splitlines()]
    assert sorted(topics) == ["large", "small", "small", "wide"]
