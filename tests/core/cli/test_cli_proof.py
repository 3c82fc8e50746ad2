"""The demo's sums and its view, without a demo."""

from __future__ import annotations

import json
from collections import deque

import pytest
from tests.support.mosquitto import free_port

from northbound.cli.live import LiveView, Rates, bars, latest, progress_line
from northbound.cli.output import console
from northbound.cli.proof import compare_broker, compare_file, compare_sums, read_file, told
from northbound.status import ConnectorStatus, Counters, SourceStatus, Status, StoreStatus


def status(accepted: int = 10, *, backlog: int = 0, error: str | None = None, **counters: int) -> Status:
    connector = ConnectorStatus(
        name="out", type="file", destination="x", state="retrying" if error else "online", error=error,
        counters=Counters(**counters), backlog=backlog, dead_letters=counters.get("dead", 0),
    )  # fmt: skip
    source = SourceStatus(name="in", type="simulator", origin="campus", committed=accepted)
    store = StoreStatus(id="1", path="x", sequence=10)
    return Status(version="0", uptime=1.0, sources=[source], connectors=[connector], store=store)


@pytest.mark.parametrize(
    "final",
    [
        status(acknowledged=10),
        status(acknowledged=6, backlog=4),
        status(acknowledged=6, dead=1, overtaken=2, superseded=1),
        status(acknowledged=12, from_snapshot=2),
    ],
)
def test_sums_that_agree(final):
    assert all(check.ok for check in compare_sums(final))
    assert told(final, compare_sums(final))["ok"]


@pytest.mark.parametrize("final", [status(acknowledged=9), status(acknowledged=11), status(9, acknowledged=10)])
def test_sums_that_do_not(final):
    checks = compare_sums(final)
    assert [check.ok for check in checks].count(False) == 1
    assert not told(final, checks)["ok"]


def line(topic: str, key: str, payload: str = "1", **more: object) -> str:
    written = {"topic": topic, "payload": payload, "retain": True, "kind": "state", "time": 1, "key": key}
    return json.dumps({**written, **more})


def test_the_file_is_counted_by_key_and_the_newest_value_stays(tmp_path):
    path = tmp_path / "sent.jsonl"
    assert read_file(path) is None
    lines = [line("a", "1"), line("b", "2"), line("a", "3", "2"), line("b", "4", ""), line("a", "3", "2")]
    path.write_text("\n".join(lines) + "\n")
    content = read_file(path)
    assert (content.lines, content.messages, content.values) == (5, 4, {"a": b"2"})
    assert compare_file(content, 4).ok
    assert "1 of them twice" in compare_file(content, 4).words
    assert not compare_file(content, 5).ok
    path.with_name("sent.jsonl.1").touch()
    assert read_file(path) is None


async def test_a_broker_that_does_not_answer_proves_nothing():
    check = await compare_broker(free_port(), None)
    assert not check.ok
    assert "could not be asked" in check.words


def test_rates_are_over_the_last_seconds():
    rates = Rates()
    assert rates.of("accepted") == 0
    for second in range(10):
        rates.add(float(second), {"accepted": 100 * second if second < 5 else 500})
    assert rates.of("accepted") == 0
    rates.add(10.0, {"accepted": 800})
    assert rates.of("accepted") == 100
    assert list(rates.history) == [100, 100, 100, 100, 100, 0, 0, 0, 0, 300]


def test_bars():
    assert bars(deque()) == ""
    assert bars(deque([0.0])) == ""
    assert bars(deque([100.0, 50.0, 100.0, 100.0])) == "█▄██"


def test_a_line_of_progress_tells_trouble():
    rates = Rates()
    words = progress_line(status(acknowledged=4, backlog=5, dead=1, error="gone\nfor ever"), rates, 2.0)
    assert words == (
        "   2.0 s  accepted 10 (0/s)  out retrying: 4 acknowledged, 5 waiting, 1 dead letters (gone\\nfor ever)"
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_picture_fits(tmp_path, width, monkeypatch):
    sent = tmp_path / "sent.jsonl"
    topic = "placeos/o/state/b/l/a/system-with-a-long-name/driver/Module/1/" + "status" * 10
    metadata = line("placeos/o/metadata/b", "2", '{"name":"B"}', kind="metadata")
    sent.write_text("\n".join([line(topic, "1", '{"time":1,"value":"21.5"}'), metadata]))
    view = LiveView(duration=20.0, sent=sent, hint="look: mosquitto_sub " + "x" * 200)
    here = console()
    monkeypatch.setattr(here, "width", width)
    with here.capture() as captured:
        here.print(view.draw(status(acknowledged=4, backlog=5000, error="the broker is gone"), 3.2))
    drawn = captured.get().splitlines()
    assert {len(row) for row in drawn} == {width}
    assert "the broker is gone" in captured.get()
    assert "3 s of 20 s" in drawn[-1]


def test_the_newest_messages_of_a_file(tmp_path):
    sent = tmp_path / "sent.jsonl"
    assert latest(sent) == []
    lines = [line(f"p/o/state/b/l/a/s/d/M/1/v{n}", str(n), f'{{"time":1,"value":"{n}"}}') for n in range(500)]
    sent.write_text("\n".join([*lines, line("p/o/state/b/l/a/s/d/M/1/gone", "x", ""), "{half"]))
    assert latest(sent)[-2:] == [("s/d/M/1/v499", "499"), ("s/d/M/1/gone", "cleared")]
    assert len(latest(sent)) == 5
