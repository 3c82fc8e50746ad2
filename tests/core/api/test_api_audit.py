"""The audit log of access: what was decided, counted, bounded."""

import json

import pytest

from northbound.admission import AccessOptions
from northbound.api import audit as module
from northbound.api.audit import AccessAudit, AuditedRules
from northbound.api.identity import Identity, SignInRefused
from northbound.topics import TopicScheme

ADMIN = Identity(
    subject="root", name="Root", org="acme", role="admin", scopes=frozenset(("mqtt",)), expires=None, key_id="k" * 32
)  # fmt: skip
USER = Identity(subject="jane", name="Jane", org="acme", role="user", scopes=frozenset(("mqtt",)), expires=None)


@pytest.fixture
async def audit(tmp_path):
    made = AccessAudit(tmp_path / "access.jsonl", max_bytes=65_536, files=2)
    yield made
    await made.close()


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_what_access_decides_is_written_once_with_its_count(audit, tmp_path):
    rules = AuditedRules(AccessOptions(), TopicScheme())
    rules.audit = audit
    for _ in range(1000):
        assert not rules.publish(USER, "placeos/acme/x")
    assert rules.publish(ADMIN, "placeos/acme/x")
    assert rules.subscribe(USER, "placeos/acme/#") == "whole"
    assert rules.subscribe(USER, "#") == "narrowed"
    assert rules.subscribe(USER, "placeos/other/#") == "refused"
    for _ in range(1000):
        assert rules.receive(USER, "placeos/acme/x")
    await audit.write()
    found = rows(tmp_path / "access.jsonl")
    assert [(row["happened"], row["subject"], row["topic"], row["count"]) for row in found] == [
        ("publish refused", "jane", "placeos/acme/x", 1000),
        ("publish allowed", "root", "placeos/acme/x", 1),
        ("subscription granted", "jane", "placeos/acme/#", 1),
        ("subscription narrowed", "jane", "#", 1),
        ("subscription refused", "jane", "placeos/other/#", 1),
    ]
    assert found[1] == {
        "time": found[1]["time"], "happened": "publish allowed", "subject": "root", "role": "admin", "org": "acme",
        "key": "k" * 32, "topic": "placeos/acme/x", "count": 1,
    }  # fmt: skip


async def test_rules_without_an_audit_log_decide_the_same():
    rules = AuditedRules(AccessOptions(), TopicScheme())
    assert rules.publish(ADMIN, "placeos/acme/x")
    assert rules.subscribe(USER, "placeos/other/#") == "refused"


async def test_too_much_that_differs_is_counted_together(audit, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_DIFFERENT", 10)
    for number in range(100):
        audit.decided("publish refused", USER, f"topic/{number}")
    audit.decided("publish refused", USER, "topic/3")
    await audit.write()
    found = rows(tmp_path / "access.jsonl")
    assert len(found) == 11
    assert found[3]["count"] == 2
    assert (found[-1]["happened"], found[-1]["count"]) == ("others", 90)
    assert sum(row["count"] for row in found) == 101


async def test_a_long_topic_is_cut(audit, tmp_path):
    audit.decided("publish refused", USER, "x" * 65_000)
    await audit.write()
    (row,) = rows(tmp_path / "access.jsonl")
    assert len(row["topic"]) == 1024


async def test_what_cannot_be_written_is_kept_and_said(tmp_path, caplog):
    folder = tmp_path / "folder"
    audit = AccessAudit(folder / "access.jsonl", max_bytes=65_536, files=2)
    audit.refused(SignInRefused("bad_credentials", "no"), "192.0.2.1")
    await audit.write()
    assert "audit log of access" in audit.error
    folder.mkdir()
    await audit.close()
    assert audit.error is None
    (row,) = rows(folder / "access.jsonl")
    assert (row["why"], row["address"]) == ("bad_credentials: no", "192.0.2.1")
    assert caplog.text.count("cannot be written") == 1


async def test_nothing_happened_writes_nothing(audit, tmp_path):
    await audit.write()
    assert list(tmp_path.iterdir()) == []
