"""The policies of a running service: what their detectors learn, and the audit log."""

import asyncio
import json
import logging
import threading
from contextlib import asynccontextmanager

import pytest
from msgspec import structs
from tests.support.fakes import Destination, configuration, connector, source
from tests.support.intake import until

import northbound
from northbound import delivery, protection, runtime
from northbound.config import SourceOptions
from northbound.events import State
from northbound.fields import NoOptions
from northbound.loading import DetectorInstance, SourceInstance
from northbound.privacy.audit import AuditLog
from northbound.privacy.options import PrivacyOptions
from northbound.protection import Protection
from northbound.registry import Plugin
from northbound.runtime import Runtime
from northbound.topics import TopicScheme
from northbound_detectors.email import Email, EmailOptions

ANN = "Ann Example"
HANGS = object()


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(protection, "AUDIT_SECONDS", 0.02)
    monkeypatch.setattr(protection, "REFRESH_SECONDS", 0.05)
    monkeypatch.setattr(protection, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(delivery, "GUARD_SECONDS", 0.02)
    monkeypatch.setattr(runtime, "STOP_SECONDS", 1.0)


class Users(northbound.Source):
    """A source with a user table, which may not answer."""

    answers: list = []  # noqa: RUF012 - each test sets its own
    asked = 0

    async def people(self):
        type(self).asked += 1
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer is HANGS:
            await asyncio.Event().wait()
        return answer

    async def run(self, intake):
        await asyncio.Event().wait()


class Staff(northbound.Detector):
    """Finds those it has learnt of."""

    learns_from = "users"
    learnt = None
    refreshed = 0

    def find(self, text, key):
        if self.learnt is None:
            raise RuntimeError("not learnt yet")
        for name in self.learnt:
            at = text.find(name)
            if at >= 0:
                yield northbound.Found(at, at + len(name))

    def learn(self, people):
        if any(not isinstance(name, str) for name in people):
            raise ValueError(f"no name: {people}")
        self.learnt = list(people)

    def refresh(self):
        self.refreshed += 1
        if self.refreshed == 1:
            raise OSError(2, "No such file", "staff.txt")
        if self.refreshed == 2:
            raise RuntimeError(f"a defect that tells {ANN}")


def plugin(kind, implementation):
    return Plugin(kind, "fake", package="tests", version="0", implementation=implementation)


def users(*answers):
    Users.answers = list(answers)
    Users.asked = 0
    return SourceInstance("users", plugin("source", Users), SourceOptions())


def privacy(**options):
    rules = [
        {"name": "staff", "detect": ["staff"], "action": "redact"},
        {"name": "mails", "detect": ["email"], "action": "mask"},
    ]
    return PrivacyOptions.model_validate({"default": False, "rules": rules} | options)


# One registry hands out the same plugins at every reload.
DETECTORS = (
    DetectorInstance("staff", plugin("detector", Staff), NoOptions()),
    DetectorInstance("email", plugin("detector", Email), EmailOptions()),
)


def configured(folder, *, sources=(), connectors=(), drain="1s", **options):
    made = configuration(folder, sources=sources, connectors=connectors, drain=drain)
    chosen = privacy(**options)
    used = {name for rule in chosen.all_rules for name in rule.detect}
    return structs.replace(made, privacy=chosen, detectors=tuple(d for d in DETECTORS if d.name in used))


def event(value, state="power"):
    return State("org", (None, None, None), "sys", "drv", "Mod", 1, state, value, 1)


def process(guard, *values):
    return northbound.engine.Engine(guard.site._scheme, policy=guard.site).process(
        [event(value) for value in values], 1
    )


async def test_until_it_has_learnt_nothing_goes_through(tmp_path):
    guard = Protection(configured(tmp_path, sources=[users([ANN])]))
    done = process(guard, f"to {ANN}", "x")
    assert done.messages == []
    assert len(done.refused) == 2
    assert all(ANN not in reason for _, reason in done.refused)
    await guard.learn()
    assert b"[redacted]" in process(guard, f"to {ANN}").messages[0].payload
    await guard.close()


async def test_a_source_that_fails_is_asked_until_it_answers_and_its_words_are_not_told(tmp_path, caplog):
    failures = [OSError(111, ANN), RuntimeError(ANN), NotImplementedError(ANN), [5], None]
    guard = Protection(configured(tmp_path, sources=[users(*failures, [ANN])]))
    with caplog.at_level(logging.DEBUG):
        await asyncio.wait_for(guard.learn(), 20)
    assert Users.asked == 6
    assert ANN not in caplog.text
    assert "RuntimeError" in caplog.text
    assert ANN.encode() not in process(guard, ANN).messages[0].payload
    await guard.close()


async def test_a_source_that_hangs_is_asked_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(protection, "PEOPLE_SECONDS", 0.01)
    guard = Protection(configured(tmp_path, sources=[users(HANGS, [ANN])]))
    await asyncio.wait_for(guard.learn(), 20)
    assert "TimeoutError" in caplog.text
    await guard.close()


async def test_the_audit_log_is_written_while_a_source_hangs(tmp_path):
    guard = Protection(configured(tmp_path, sources=[users([ANN], HANGS)]))
    await guard.learn()
    task = asyncio.create_task(guard.run())
    await until(lambda: Users.asked == 2)
    process(guard, ANN)
    await until((tmp_path / "store.db.audit.jsonl").exists)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await guard.close()


async def test_a_refresh_that_fails_leaves_what_was_known(tmp_path, caplog):
    guard = Protection(configured(tmp_path, sources=[users([ANN], RuntimeError(ANN), ["Bob Example"])]))
    staff = guard._policies.detectors["staff"]
    await guard.learn()
    with caplog.at_level(logging.DEBUG):
        task = asyncio.create_task(guard.run())
        await until(lambda: staff.refreshed >= 3 and staff.learnt == ["Bob Example"])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert "staff.txt: No such file" in caplog.text
    assert ANN not in caplog.text
    assert process(guard, "Bob Example").messages[0].payload.count(b"redacted") == 1
    await guard.close()


async def test_a_name_that_is_learnt_later_stands_in_no_topic_from_then_on(tmp_path):
    where = [{"name": "staff", "detect": ["staff"], "action": "redact"}]
    for kept in ({}, {"connectors": ["out"]}):
        rules = [rule | kept for rule in where]
        sources, connectors = [users(["Bob Example"], [ANN])], [connector("out", Destination())]
        guard = Protection(configured(tmp_path, sources=sources, connectors=connectors, rules=rules))
        site = northbound.engine.Engine(TopicScheme(), org="org", policy=guard.site)
        behind = guard.of_connector("out")

        def topics(site=site, behind=behind):
            done = site.process([event(1, ANN), event(1, "Bob Example")], 1)
            sent = [message if behind is None else behind.apply(message) for message in done.messages]
            return [message.topic.rpartition("/")[2] for message in sent]

        await guard.learn()
        assert topics() == [ANN, "[redacted]"]
        await guard._refresh()
        assert topics() == ["[redacted]", "Bob Example"]
        await guard.close()


async def test_a_file_that_a_detector_reads_again_counts_for_topics_too(tmp_path):
    class Listed(Staff):
        learns_from = None
        learnt = ()

        def refresh(self):
            self.learnt = [ANN]

    detectors = (DetectorInstance("listed", plugin("detector", Listed), NoOptions()),)
    chosen = privacy(rules=[{"name": "staff", "detect": ["listed"], "action": "redact"}])
    guard = Protection(structs.replace(configuration(tmp_path), privacy=chosen, detectors=detectors))
    site = northbound.engine.Engine(TopicScheme(), policy=guard.site)
    before = [message.topic.rpartition("/")[2] for message in site.process([event(1, ANN)], 1).messages]
    await guard._refresh()
    after = [message.topic.rpartition("/")[2] for message in site.process([event(1, ANN)], 1).messages]
    assert (before, after) == ([ANN], ["[redacted]"])
    await guard.close()


async def test_what_the_rules_did_is_written_and_counted(tmp_path):
    guard = Protection(configured(tmp_path, sources=[users([ANN])]))
    await guard.learn()
    task = asyncio.create_task(guard.run())
    process(guard, f"{ANN} bob@example.com", "nothing")
    path = tmp_path / "store.db.audit.jsonl"
    await until(path.exists)
    process(guard, f"{ANN}")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await guard.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert sum(row["count"] for row in rows if row["rule"] == "staff") == 2
    assert sum(row["count"] for row in rows if row["rule"] == "mails") == 1
    assert {row["topic"] for row in rows} == {"placeos/org/state/_/_/_/sys/drv/Mod/1/power"}
    assert ANN not in path.read_text()
    assert {status.name: (status.action, status.connector, status.acted) for status in guard.status()} == {
        "staff": ("redact", None, 2),
        "mails": ("mask", None, 1),
    }


async def test_closing_waits_for_lines_that_are_being_written(tmp_path, monkeypatch):
    """A thread cannot be cancelled: it would open the file again behind the one that has closed it."""
    begun, go_on = threading.Event(), threading.Event()
    write = AuditLog.write

    def slow(self, now, acts):
        first = not begun.is_set()
        begun.set()
        if first:
            assert go_on.wait(10)
        write(self, now, acts)

    monkeypatch.setattr(AuditLog, "write", slow)
    guard = Protection(configured(tmp_path, sources=[users([ANN])]))
    await guard.learn()
    task = asyncio.create_task(guard.run())
    process(guard, ANN)
    await until(begun.is_set)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    process(guard, ANN, f"again {ANN}")
    closing = asyncio.create_task(guard.close())
    await asyncio.sleep(0.05)
    assert not closing.done()
    go_on.set()
    await closing
    rows = [json.loads(line) for line in (tmp_path / "store.db.audit.jsonl").read_text().splitlines()]
    assert sum(row["count"] for row in rows) == 3
    assert guard._audit._handler.stream is None


async def test_an_audit_log_goes_where_it_is_told_or_nowhere(tmp_path):
    for options, expected in (({"audit_path": tmp_path / "own.jsonl"}, ["own.jsonl"]), ({"audit": False}, [])):
        guard = Protection(configured(tmp_path, sources=[users([ANN])], **options))
        await guard.learn()
        process(guard, ANN)
        await guard.close()
        assert [path.name for path in tmp_path.glob("*.jsonl")] == expected
        for path in tmp_path.glob("*.jsonl"):
            path.unlink()


async def test_without_rules_there_is_nothing_to_protect_and_no_file(tmp_path):
    guard = Protection(configured(tmp_path, rules=[]))
    assert guard.site is None
    assert guard.of_connector("a") is None
    assert guard.status() == []
    await guard.learn()
    await guard.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_made_secret_is_said(tmp_path, caplog):
    options = {"rules": [{"name": "r", "detect": ["email"], "action": "hash"}]}
    first = Protection(configured(tmp_path, **options))
    assert "keep a copy" in caplog.text
    secret = (tmp_path / "store.db.privacy-secret").read_text().strip()
    assert secret not in caplog.text
    caplog.clear()
    second = Protection(configured(tmp_path, **options))
    assert caplog.text == ""
    assert process(first, "bob@example.com").messages == process(second, "bob@example.com").messages
    await first.close()
    await second.close()


# in a running service


@asynccontextmanager
async def running(settings):
    """A service that is stopped however the test ends."""
    service = Runtime(settings)
    started = asyncio.Event()
    task = asyncio.create_task(service.run(started=started))
    try:
        await started.wait()
        yield service
    finally:
        service.stop()
        await task


def feeder(queue, seen=None):
    async def feed(intake):
        while True:
            value = await queue.get()
            if seen is not None:
                seen.append(Users.asked)
            await (await intake.submit([event(value)])).committed()

    return source("feed", feed, finite=False)


async def test_no_source_runs_before_the_detectors_have_learnt(tmp_path):
    destination, queue, seen = Destination(), asyncio.Queue(), []
    queue.put_nowait(f"to {ANN}")
    sources = [users(OSError(111, "refused"), OSError(111, "refused"), [ANN]), feeder(queue, seen)]
    async with running(configured(tmp_path, sources=sources, connectors=[connector("out", destination)])):
        await until(lambda: destination.acknowledged)
    assert seen[0] >= 3
    assert all(ANN.encode() not in row.payload for row in destination.acknowledged)


async def test_a_connector_that_is_enabled_later_has_its_rules_from_the_beginning(tmp_path):
    """On a reload where only the connectors change, the rules that name a new one take effect."""
    rules = [{"name": "mails", "detect": ["email"], "action": "redact", "connectors": ["late"]}]
    early, late, queue = Destination(), Destination(), asyncio.Queue()
    first, second = connector("early", early), connector("late", late)
    where = {"sources": [feeder(queue)], "rules": rules}
    async with running(configured(tmp_path, connectors=[first], **where)) as service:
        queue.put_nowait("bob@example.com")
        await until(lambda: early.acknowledged)
        await service.reload(configured(tmp_path, connectors=[first, second], **where))
        queue.put_nowait("ann@example.com")
        await until(lambda: late.acknowledged)
        await until(lambda: len(early.acknowledged) == 2)
    assert all(b"@example.com" not in row.payload for row in late.acknowledged)
    assert b"ann@example.com" in early.acknowledged[1].payload


async def test_a_changed_secret_of_a_connector_takes_effect_on_a_reload(tmp_path):
    rules = [{"name": "mails", "detect": ["email"], "action": "hash", "connectors": ["out"]}]
    destination, queue = Destination(), asyncio.Queue()
    one, two = (connector("out", destination, privacy_secret=secret) for secret in ("one", "two"))
    where = {"sources": [feeder(queue)], "rules": rules}
    async with running(configured(tmp_path, connectors=[one], **where)) as service:
        queue.put_nowait("bob@example.com")
        await until(lambda: len(destination.acknowledged) == 1)
        await service.reload(configured(tmp_path, connectors=[two], **where))
        queue.put_nowait("bob@example.com")
        await until(lambda: len(destination.acknowledged) == 2)
    payloads = [row.payload.partition(b"value")[2] for row in destination.acknowledged]
    assert payloads[0] != payloads[1]


async def test_what_waits_for_a_connector_waits_until_it_is_known_whom_to_look_for(tmp_path):
    rules = [{"name": "staff", "detect": ["staff"], "action": "redact", "connectors": ["out"]}]
    down, up, queue = Destination(), Destination(), asyncio.Queue()

    def refuse():
        raise northbound.Unavailable("not yet")

    down.on_open = refuse
    queue.put_nowait(f"to {ANN}")
    first = configured(
        tmp_path, sources=[users([ANN]), feeder(queue)], rules=rules, connectors=[connector("out", down)], drain="10ms"
    )
    async with running(first) as service:
        await until(lambda: any(status.committed for status in service.status().sources))
    slow = users(*[OSError(111, "refused")] * 4, [ANN])
    second = configured(tmp_path, sources=[slow], rules=rules, connectors=[connector("out", up)])
    async with running(second):
        await until(lambda: Users.asked >= 5)
        await until(lambda: up.acknowledged)
    assert b"[redacted]" in up.acknowledged[0].payload


async def test_a_reload_loses_no_event_while_a_source_is_asked_again(tmp_path):
    destination, queue = Destination(), asyncio.Queue()
    people = users([ANN], *[OSError(111, "refused")] * 3, [ANN])
    where = {"sources": [people, feeder(queue)], "connectors": [connector("out", destination)]}
    async with running(configured(tmp_path, **where)) as service:
        queue.put_nowait(f"1 {ANN}")
        await until(lambda: len(destination.acknowledged) == 1)
        await service.reload(configured(tmp_path, audit=False, **where))
        queue.put_nowait(f"2 {ANN}")
        await until(lambda: len(destination.acknowledged) == 2)
    assert all(ANN.encode() not in row.payload for row in destination.acknowledged)


@pytest.mark.parametrize("narrow", [{}, {"connectors": ["out"]}])
async def test_what_rules_do_while_a_reload_writes_the_audit_log_is_written_too(tmp_path, monkeypatch, narrow):
    begun, go_on = threading.Event(), threading.Event()
    write = AuditLog.write

    def slow(self, now, acts):
        begun.set()
        assert go_on.wait(10)
        write(self, now, acts)

    monkeypatch.setattr(AuditLog, "write", slow)
    monkeypatch.setattr(protection, "AUDIT_SECONDS", 3600)
    destination, queue = Destination(), asyncio.Queue()
    rules = [{"name": "mails", "detect": ["email"], "action": "mask", **narrow}]
    settings = configured(tmp_path, sources=[feeder(queue)], connectors=[connector("out", destination)], rules=rules)
    async with running(settings) as service:
        queue.put_nowait("bob@example.com")
        await until(lambda: destination.acknowledged)
        reloading = asyncio.create_task(service.reload(settings))
        await until(begun.is_set)
        queue.put_nowait("ann@example.com")
        await until(lambda: len(destination.acknowledged) == 2)
        go_on.set()
        await reloading
        assert [rule.acted for rule in service.status().rules] == [2]
    rows = [json.loads(line) for line in (tmp_path / "store.db.audit.jsonl").read_text().splitlines()]
    assert [row["count"] for row in rows] == [1, 1]


@pytest.mark.parametrize("narrow", [{}, {"connectors": ["out"]}])
async def test_a_rule_that_a_reload_adds_waits_for_its_detector_to_learn(tmp_path, narrow):
    """Neither refused before the store nor a dead letter behind it: what comes meanwhile waits."""
    destination, queue, mails = Destination(), asyncio.Queue(), {"name": "m", "detect": ["email"], "action": "mask"}
    staff = {"name": "staff", "detect": ["staff"], "action": "redact", **narrow}
    people = users(*[OSError(111, "refused")] * 3, [ANN])
    where = {"sources": [people, feeder(queue)], "connectors": [connector("out", destination)]}
    async with running(configured(tmp_path, rules=[mails], **where)) as service:
        queue.put_nowait(f"1 {ANN}")
        await until(lambda: len(destination.acknowledged) == 1)
        await service.reload(configured(tmp_path, rules=[mails, staff], **where))
        queue.put_nowait(f"2 {ANN}")
        await until(lambda: len(destination.acknowledged) == 2)
        status = service.status()
    assert Users.asked >= 4
    assert b"[redacted]" in destination.acknowledged[1].payload
    assert [source.refused for source in status.sources] == [0, 0]
    assert [connector.counters.dead for connector in status.connectors] == [0]


async def test_a_connector_that_waits_for_rules_goes_on_when_a_reload_takes_them_away(tmp_path):
    destination, queue = Destination(), asyncio.Queue()
    rule = {"name": "staff", "detect": ["staff"], "action": "redact", "connectors": ["out"]}
    plain = {"name": "m", "detect": ["email"], "action": "mask"}
    where = {"sources": [users(OSError(111, "refused")), feeder(queue)], "connectors": [connector("out", destination)]}
    async with running(configured(tmp_path, rules=[rule], **where)) as service:
        await until(lambda: Users.asked)
        await service.reload(configured(tmp_path, rules=[plain], **where))
        queue.put_nowait("x")
        await until(lambda: destination.acknowledged)
