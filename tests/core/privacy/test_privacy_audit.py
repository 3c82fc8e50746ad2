"""The audit log: what, where and how often, and never the text."""

import json
import os
import resource
import signal
import stat
import subprocess
import sys

import pytest
from privacy_rules import EMAIL, NOW, engine, rule, state

from northbound import journal
from northbound.privacy.audit import AuditLog
from northbound.privacy.policy import Act

ACT = Act("mails", "hash", "state", "placeos/org/state/x", 3)


def lines(*paths):
    return [json.loads(line) for path in paths for line in path.read_text().split("\n") if line]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


@pytest.fixture
def log(path):
    made = AuditLog(path, max_bytes=65_536, files=2)
    yield made
    made.close()


def test_a_line_says_rule_action_kind_topic_count_and_connector(log, path):
    log.write(NOW, [(None, ACT), ("cloud", ACT)])
    row = {"time": NOW, "rule": "mails", "action": "hash", "kind": "state", "topic": "placeos/org/state/x", "count": 3}
    assert lines(path) == [row, row | {"connector": "cloud"}]
    log.write(NOW + 1, [(None, ACT)])
    assert lines(path)[2] == row | {"time": NOW + 1}
    assert log.error is None


def test_without_acts_there_is_no_file(log, path):
    log.write(NOW, [])
    assert not path.exists()


def test_only_its_owner_may_read_it_also_after_a_rotation(path):
    before = os.umask(0)
    try:
        log = AuditLog(path, max_bytes=65_536, files=2)
        for _ in range(3):
            log.write(NOW, [(None, ACT)] * 700)
        log.close()
    finally:
        os.umask(before)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_it_is_appended_to_and_rotated_in_whole_lines(path):
    for number in range(4):
        log = AuditLog(path, max_bytes=65_536, files=100)
        log.write(number, [(None, ACT)] * 400)
        log.close()
    files = sorted(
        path.parent.iterdir(), key=lambda file: int(file.suffix[1:]) if file.suffix != ".jsonl" else 0, reverse=True
    )
    assert len(files) > 2
    assert all(file.stat().st_size <= 65_536 for file in files)
    assert [row["time"] for row in lines(*files)] == [number for number in range(4) for _ in range(400)]


def test_of_full_files_so_many_are_kept(path):
    log = AuditLog(path, max_bytes=65_536, files=2)
    for number in range(20):
        log.write(number, [(None, ACT)] * 600)
    log.close()
    assert len(list(path.parent.iterdir())) == 3
    assert lines(path)[-1]["time"] == 19


def test_any_topic_is_one_line(log, path):
    strange = 'a\nb\r\u2028"\\\0é\U0001f600%s{}'
    log.write(NOW, [(None, Act("r\n", "hash", "state", strange, 1))])
    assert path.read_bytes().count(b"\n") == 1
    assert lines(path)[0]["topic"] == strange


def test_the_text_that_was_found_is_not_in_it(log, path):
    found = "bob@example.com"
    site = engine(rule(EMAIL), rule(EMAIL, action="drop", name="drop", paths=("$.x",)))
    site.process(
        [state({"a": found, found: 1}, state=found, org=found, module=f"of {found}"), state({"x": found})], NOW
    )
    log.write(NOW, [(None, act) for act in site.policy.take_acts()])
    assert "bob" not in path.read_text()
    assert "example" not in path.read_text()
    assert sum(row["count"] for row in lines(path)) == sum(site.policy.counts.values()) > 4


def test_what_cannot_be_written_is_kept_and_said_once(tmp_path, caplog):
    folder = tmp_path / "folder"
    log = AuditLog(folder / "audit.jsonl", max_bytes=65_536, files=2)
    for number in range(3):
        log.write(number, [(None, ACT)])
    assert "cannot be written" in log.error
    assert len([record for record in caplog.records if record.levelname == "ERROR"]) == 1
    folder.mkdir()
    log.write(3, [])
    log.close()
    assert log.error is None
    assert [row["time"] for row in lines(folder / "audit.jsonl")] == [0, 1, 2]


def test_beyond_a_bound_the_oldest_are_lost_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "MOST_WAITING", 10)
    folder = tmp_path / "folder"
    log = AuditLog(folder / "audit.jsonl", max_bytes=65_536, files=2)
    for number in range(25):
        log.write(number, [(None, ACT)])
    folder.mkdir()
    log.write(25, [(None, ACT)])
    log.close()
    rows = lines(folder / "audit.jsonl")
    lost = sum(row.get("lost_lines", 0) for row in rows)
    times = [row["time"] for row in rows if "rule" in row]
    assert times == list(range(26 - len(times), 26))
    assert lost + len(times) == 26


FULL = """
import pathlib, resource, signal, sys
from northbound.privacy.audit import AuditLog
from northbound.privacy.policy import Act
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
log = AuditLog(pathlib.Path(sys.argv[1]), max_bytes=65_536, files=2)
for number in range(30):
    log.write(number, [(None, Act("mails", "hash", "state", "placeos/org/state/x", number))])
assert log.error, "the disk was not full"
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.write(30, [])
assert log.error is None, log.error
log.close()
"""


def test_a_full_disk_loses_no_line_and_tears_none(path):
    assert resource.RLIM_INFINITY  # the limit is that of the child
    assert signal.SIGXFSZ
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = []
    for line in path.read_text().split("\n"):
        try:
            rows.append(json.loads(line)["count"])
        except ValueError:
            continue  # what was written of it when the disk became full; it follows whole
    assert rows == list(range(30))


TORN = FULL.partition("assert log.error,")[0]


def test_a_line_torn_by_a_full_disk_does_not_take_the_first_of_the_next_start_with_it(path):
    done = subprocess.run(
        [sys.executable, "-c", TORN, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not path.read_bytes().endswith(b"\n")
    log = AuditLog(path, max_bytes=65_536, files=2)
    log.write(NOW, [(None, ACT)])
    log.close()
    assert json.loads(path.read_text().strip().split("\n")[-1])["time"] == NOW
