"""A disk that is full for the audit log alone: delivery goes on, it is said, and the lines come when there is room."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from tests.support.service import Service, until

COUNT = 3000


def event(number: int) -> bytes:
    return json.dumps(
        {"kind": "state", "org": "o", "building": "b", "system": "s", "driver": "d", "module": "M", "index": 1,
         "state": f"s{number}", "value": [number, "jane.doe@example.com"]}
    ).encode()  # fmt: skip


def test_a_full_disk_of_the_audit_log_stops_no_delivery(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs needs root and a kernel that lets us")
    try:
        _fill_up(tmp_path, mount)
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def _fill_up(tmp_path: Path, mount: Path) -> None:
    filler = mount / "filler"
    filler.write_bytes(b"\0" * (1024**2 - 3 * 4096))  # room for some lines
    given = tmp_path / "events.jsonl"
    given.write_bytes(b"".join(event(n) + b"\n" for n in range(COUNT)))
    text = f"""
    [privacy]
    secret = "the-secret-of-the-test"
    audit_path = "{mount}/audit.jsonl"
    [sources.in]
    type = "jsonl"
    path = "events.jsonl"
    follow = true
    [connectors.out]
    type = "file"
    path = "out.jsonl"
    """

    def written() -> list[int]:
        path = tmp_path / "out.jsonl"
        whole = path.read_text().rpartition("\n")[0] if path.exists() else ""  # the last line may be under way
        return [json.loads(json.loads(json.loads(row)["payload"])["value"])[0] for row in whole.splitlines()]

    with Service(tmp_path, text) as service:
        words = f"the audit log {mount}/audit.jsonl cannot be written: No space left on device"
        until(lambda: words in service.log(), what="it is not said")
        until(lambda: len(written()) == COUNT, what="delivery stopped")
        with given.open("ab") as file:
            file.write(event(COUNT) + b"\n")
        until(lambda: len(written()) == COUNT + 1, what="delivery does not go on")
        assert service.log().count("cannot be written") == 1, "it is said again and again"

        filler.unlink()
        until(lambda: _audited(mount)[0] == COUNT + 1, what="what waited was not written")
        assert service.stop() == 0
        assert "Traceback" not in service.log()
    assert written() == list(range(COUNT + 1))
    count, topics = _audited(mount)
    assert count == COUNT + 1
    assert set(topics.values()) == {1}
    assert "jane.doe" not in (mount / "audit.jsonl").read_text()


def _audited(mount: Path) -> tuple[int, Counter[str]]:
    """Return how often rules have acted by the audit log, and on which topics; a torn line does not count."""
    topics: Counter[str] = Counter()
    for line in (mount / "audit.jsonl").read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        topics[row["topic"]] += row["count"]
    return topics.total(), topics
