"""Credentials that are replaced on disk, expire, or cannot be told."""

import asyncio
import datetime as dt
import logging
import os

import pytest
import trustme
from tests.core.test_protection import running
from tests.support import fakes
from tests.support.fakes import Destination, configuration, connector, event, source
from tests.support.intake import until

import northbound
from northbound import Credential, delivery, renewal
from northbound.renewal import Renewal
from northbound.runtime import Runtime

SOON = dt.datetime.now(dt.UTC) + dt.timedelta(days=3)


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(delivery, "GUARD_SECONDS", 0.02)
    monkeypatch.setattr(renewal, "ASK_SECONDS", 0.05)


class Holder(northbound.Connector):
    def __init__(self, *credentials):
        super().__init__(None, name="holder")
        self.answer = credentials

    def credentials(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def replace(path, text):
    """As careful programs do it: written beside, then moved into place."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


def test_a_replaced_file_is_noticed_once_it_is_at_rest(tmp_path):
    one, other = tmp_path / "cert.pem", tmp_path / "key.pem"
    one.write_text("a")
    found = Renewal(Holder(Credential("certificate", files=(one, other))))
    found.note()
    assert not found.replaced()
    replace(one, "b")
    assert not found.replaced()  # the key may follow
    replace(other, "c")
    assert not found.replaced()
    assert found.replaced()
    found.note()
    assert not found.replaced()
    other.unlink()
    assert [found.replaced(), found.replaced()] == [False, True]


def test_a_file_that_only_other_times_is_no_new_one(tmp_path):
    path = tmp_path / "cert.pem"
    path.write_text("a")
    found = Renewal(Holder(Credential("certificate", files=(path,))))
    found.note()
    path.read_text()
    os.utime(path, ns=(1, path.stat().st_mtime_ns))
    assert [found.replaced(), found.replaced()] == [False, False]


def test_what_expires_soon_is_said_once(tmp_path, caplog):
    holder = Holder(
        Credential("certificate", SOON), Credential("SAS token", SOON, renewed=True), Credential("key", None)
    )
    found = Renewal(holder)
    found.note()
    found.note()
    assert [record.message for record in caplog.records] == ["holder: the certificate expires in 3 days"]
    caplog.clear()
    holder.answer = (Credential("certificate", dt.datetime.now(dt.UTC)),)
    found.note()
    assert [record.message for record in caplog.records] == ["holder: the certificate has expired"]


def test_a_connector_that_cannot_tell_does_no_harm(caplog):
    holder = Holder()
    holder.answer = RuntimeError("a defect")
    with caplog.at_level(logging.ERROR):
        Renewal(holder).note()
    assert "does not say what it signs in with" in caplog.text


def test_the_end_of_a_certificate_is_read_from_file_and_text(tmp_path):
    end = dt.datetime(2030, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    authority = trustme.CA()
    leaf = authority.issue_cert("a", not_after=end)
    path, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    path.write_bytes(leaf.cert_chain_pems[0].bytes() + authority.cert_pem.bytes())
    assert Credential.of_certificate("certificate", path, key) == Credential("certificate", end, (path, key))
    assert Credential.of_certificate("certificate", leaf.cert_chain_pems[0].bytes()).expires == end
    assert Credential.of_certificate("certificate", tmp_path / "none").expires is None
    assert Credential.of_certificate("certificate", b"garbage").expires is None


# in a running service


class Signing(fakes.ScriptedConnector):
    """Signs in with a file."""

    path = None

    def credentials(self):
        return (Credential("certificate", SOON, (self.path,)),)

    def gauges(self):
        return {"messages_today": 5.0}


def service(tmp_path, destination, script, **options):
    path = tmp_path / "cert.pem"
    path.write_text("one")
    instance = connector("out", destination, **options)
    plugin = fakes.Plugin("connector", "signing", package="tests", version="0", implementation=Signing)
    Signing.path = path
    instance = fakes.ConnectorInstance("out", plugin, instance.options)
    return configuration(tmp_path, sources=[source("in", script, finite=False)], connectors=[instance]), path


def feed(queue):
    async def script(intake):
        while True:
            number = await queue.get()
            await (await intake.submit([event("t", number)])).committed()

    return script


async def test_a_replaced_file_opens_the_connection_anew_when_what_is_under_way_has_arrived(tmp_path):
    destination, queue, go_on = Destination(), asyncio.Queue(), asyncio.Event()
    destination.on_send = lambda batch: go_on.wait()
    settings, path = service(tmp_path, destination, feed(queue))
    async with running(settings) as runtime:
        queue.put_nowait(1)
        await until(lambda: destination.calls)
        replace(path, "two")
        await asyncio.sleep(0.2)
        assert destination.opened == 1
        go_on.set()
        await until(lambda: destination.opened == 2)
        queue.put_nowait(2)
        await until(lambda: len(destination.acknowledged) == 2)
        (status,) = runtime.status().connectors
    assert len(destination.calls) == 2  # nothing was sent twice
    assert status.state == "online"
    assert status.gauges == {"messages_today": 5.0}
    assert [(c.name, c.expires) for c in status.credentials] == [("certificate", int(SOON.timestamp() * 1000))]


async def test_what_is_wanted_does_not_slow_down_what_follows(tmp_path):
    destination, queue = Destination(), asyncio.Queue()
    settings, path = service(tmp_path, destination, feed(queue), retry={"initial": "1ms", "maximum": "60s"})
    async with running(settings) as it:
        for turn in range(1, 9):
            await until(lambda turn=turn: destination.opened == turn and it.status().connectors[0].state == "online")
            replace(path, f"turn {turn}")
        await until(lambda: destination.opened == 9 and it.status().connectors[0].state == "online")
        destination.lose(northbound.NotConnected("the wire was cut"))
        await until(lambda: destination.opened == 10 or "apart" in str(it.status().connectors[0].error))
        assert destination.opened == 10


@pytest.mark.parametrize("error", [northbound.Unauthorised("expired"), northbound.NotConnected("no")])
async def test_a_replaced_file_ends_a_wait(tmp_path, error):
    destination, queue = Destination(), asyncio.Queue()
    refuse = True

    def answer():
        if refuse:
            raise error

    destination.on_open = answer
    settings, path = service(tmp_path, destination, feed(queue), retry={"initial": "60s", "maximum": "60s"})
    async with running(settings):
        queue.put_nowait(1)
        await until(lambda: destination.opened == 1)
        refuse = False
        await asyncio.sleep(0.1)
        assert destination.opened == 1
        replace(path, "two")
        await until(lambda: destination.acknowledged)
    assert destination.opened == 2


async def test_a_wait_for_the_destination_ends_too(tmp_path):
    destination, queue = Destination(), asyncio.Queue()
    failures = [northbound.Unavailable("later", retry_after=60.0)]

    def answer(batch):
        if failures:
            raise failures.pop()

    destination.on_send = answer
    settings, path = service(tmp_path, destination, feed(queue))
    async with running(settings):
        queue.put_nowait(1)
        await until(lambda: not failures)
        await asyncio.sleep(0.1)
        replace(path, "two")
        await until(lambda: destination.acknowledged)
    assert destination.opened == 2


async def test_the_rate_of_a_connector_is_that_of_all_its_connections(tmp_path):
    destination = Destination(messages_per_second=50.0, connections=3)
    settings = configuration(tmp_path, connectors=[connector("out", destination)])
    async with running(settings) as runtime:
        worker, _ = runtime._workers["out"]
        assert [bucket.rate for bucket, _ in worker._buckets] == [150.0]
        assert isinstance(runtime, Runtime)


class Tokening(Signing):
    """Has a token only once it is connected."""

    signed_in = False

    async def open(self):
        await super().open()
        self.signed_in = True

    def credentials(self):
        return (Credential("SAS token", SOON if self.signed_in else None, renewed=True),)


async def test_a_token_that_connecting_made_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(renewal, "ASK_SECONDS", 3600.0)
    instance = connector("out", Destination())
    plugin = fakes.Plugin("connector", "tokening", package="tests", version="0", implementation=Tokening)
    settings = configuration(tmp_path, connectors=[fakes.ConnectorInstance("out", plugin, instance.options)])
    async with running(settings) as run:
        await until(lambda: run.status().connectors[0].state == "online")
        (credential,) = run.status().connectors[0].credentials
        assert credential.expires == int(SOON.timestamp() * 1000)
