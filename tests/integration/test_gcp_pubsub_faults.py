"""Pub/Sub through the whole pipeline, with a real store: what breaks on purpose loses nothing and reorders nothing."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from contextlib import asynccontextmanager, suppress

import grpc
import pytest
from tests.support.fakes import Destination, configuration, connector, event, source
from tests.support.intake import until
from tests.support.mosquitto import free_port
from tests.support.oracle import Received, check_file, check_received
from tests.support.proxy import Proxy
from tests.support.pubsub import EMAIL, TOPIC, cloud, instance
from tests.support.service import Service, lines

from northbound import delivery
from northbound.runtime import Runtime

TOPICS = 12


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(delivery, "GUARD_SECONDS", 0.05)


@pytest.fixture
async def gcp(tmp_path):
    async with cloud(tmp_path) as made:
        yield made


class Bridge:
    """A running service with one Pub/Sub connector, and a witness that gets everything in order."""

    def __init__(self, gcp, **settings) -> None:
        self.gcp = gcp
        self.witness = Destination(batches_in_flight=4)
        self._queue: asyncio.Queue = asyncio.Queue()
        common = {name: settings.pop(name) for name in ("limits", "retry") if name in settings}
        instances = [instance(gcp.options(**settings), **common), connector("witness", self.witness)]
        feed = source("in", self._read, finite=False)
        self.runtime = Runtime(configuration(gcp.folder, connectors=instances, sources=[feed], drain="20s"))
        self.put_in = 0

    async def _read(self, intake) -> None:
        while True:
            events, done = await self._queue.get()
            await (await intake.submit(events)).committed()
            done.set_result(None)

    async def put(self, *events) -> None:
        done = asyncio.get_running_loop().create_future()
        self.put_in += len(events)
        self._queue.put_nowait((list(events), done))
        await done

    async def numbers(self, count: int) -> None:
        await self.put(*(event(f"x{n % TOPICS}", n) for n in range(self.put_in, self.put_in + count)))

    @property
    def status(self):
        return next(found for found in self.runtime.status().connectors if found.name == "gcp")

    async def delivered(self, *, dead: int = 0, within: float = 30) -> None:
        """Wait until everything is accounted for."""
        await until(lambda: self.status.backlog == 0 and self.status.dead_letters == dead, within)

    def check(self, *, dead: int = 0, most_repeated: int | None = None) -> Received:
        """Compare what was accepted with what the service took, and the store with itself."""
        accepted = [row[1:] for row in sorted(self.witness.rows)]
        assert len(accepted) == self.put_in
        received = check_received(accepted, self.gcp.received, missing_allowed=dead)
        account = check_file(self.gcp.folder / "store.db").accounts["gcp"]
        assert account.counters["acknowledged"] == self.put_in - dead
        assert account.counters["dead"] == dead == len(account.dead)
        if most_repeated is not None:
            assert received.duplicates <= most_repeated
        return received

    def reasons(self) -> list[str]:
        with sqlite3.connect(self.gcp.folder / "store.db") as db:
            found = [row[0] for row in db.execute("SELECT reason FROM dead ORDER BY id")]
        db.close()
        return found


@asynccontextmanager
async def bridge(gcp, **settings):
    made = Bridge(gcp, **settings)
    started = asyncio.Event()
    task = asyncio.create_task(made.runtime.run(started=started))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        yield made
    finally:
        made.runtime.stop()
        await task


async def test_everything_arrives_with_its_address(gcp):
    async with bridge(gcp) as made:
        await made.numbers(3_000)
        await made.delivered()
        status = made.status
        assert status.state == "online"
        assert status.gauges["messages_per_request"] > 20
        assert [(credential.name, credential.renewed) for credential in status.credentials][-2:] == [
            ("credentials file", False), ("CA certificates", False),
        ]  # fmt: skip
    assert made.check(most_repeated=0).distinct == 3_000
    message = gcp.topic.messages[0]
    assert message.attributes == {
        "topic": "placeos/org/state/_/_/_/sys/drv/Mod/1/x0", "kind": "state", "org": "org", "system": "sys",
        "driver": "drv", "module": "Mod", "index": "1", "state": "x0", "retain": "true", "time": "1",
        "key": message.attributes["key"],
    }  # fmt: skip


async def test_tokens_that_end_in_mid_flow(gcp):
    gcp.accounts.token_seconds = 1
    async with bridge(gcp, self_signed=False) as made:
        for n in range(20):
            await made.numbers(100)
            await asyncio.sleep(0.1)
            if n == 10:
                gcp.accounts.expire_tokens()  # and one that is revoked before its time
        await made.delivered()
        status = made.status
        assert (status.retried, status.reconnects, status.error) == (0, 0, None)
    made.check(most_repeated=0)
    assert gcp.twin.refusals["UNAUTHENTICATED"] >= 1
    assert gcp.tokens.calls >= 3


async def test_hang_ups(gcp):
    async with bridge(gcp) as made:
        for _ in range(6):
            await made.numbers(600)
            await asyncio.sleep(0.05)
            await gcp.twin.hang_up()
        await made.numbers(100)
        await made.delivered()
        assert made.status.reconnects <= 30
    made.check(most_repeated=4_000)
    assert gcp.twin.hangups == 6


class Wire(Proxy):
    """The proxy without a look at what goes through."""

    def _count(self, decoder, data) -> None:
        pass


async def test_a_stalled_network(gcp):
    with Wire(free_port(), gcp.twin.port) as wire:
        changes = {"endpoint": f"127.0.0.1:{wire.port}", "keep_alive": "300ms", "connect_timeout": "1s"}
        async with bridge(gcp, **changes) as made:
            for turn in range(4):
                await made.numbers(300)
                await made.delivered()
                await until(lambda: made.status.error is None)
                before = wire.connections
                wire.stall() if turn % 2 else wire.cut()
                await made.numbers(300)
                if turn % 2:
                    # a ping is not answered, and the connection given up, whatever TCP believes
                    await until(
                        lambda: "connection" in str(made.status.error) or "answer" in str(made.status.error), 20
                    )
                wire.flow()
                await made.delivered()
                assert wire.connections > before
    made.check(most_repeated=4_000)


async def test_a_message_that_the_service_refuses_is_set_aside_and_its_neighbours_arrive(gcp):
    gcp.topic.schema = lambda data: json.loads(json.loads(data)["value"]) != 137
    async with bridge(gcp) as made:
        await made.numbers(400)
        await made.delivered(dead=1)
        assert made.status.state == "online"
        assert made.status.reconnects == 0
    made.check(dead=1, most_repeated=0)
    assert made.reasons() == ["Invalid data in message: Message failed schema validation."]


async def test_throttling_and_a_quota_that_is_reached(gcp):
    async with bridge(gcp) as made:
        gcp.twin.limit(1_000)
        await made.numbers(1_500)
        await until(lambda: gcp.twin.refusals["RESOURCE_EXHAUSTED"] > 0)
        await made.numbers(500)
        gcp.twin.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "Quota exceeded", times=5, retry_after=0.2)
        await made.delivered()
        assert made.status.reconnects == 0
        assert made.status.retried > 0
    made.check(most_repeated=0)


async def test_the_service_fails_now_and_then_and_acknowledgements_get_lost(gcp):
    async with bridge(gcp) as made:
        for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.DEADLINE_EXCEEDED):
            gcp.twin.fail(code, times=3)
            gcp.twin.fail(code, times=2, after=True)
            await made.numbers(500)
        await made.delivered()
        assert made.status.reconnects == 0
    assert made.check().duplicates > 0


async def test_an_overloaded_service_that_does_not_answer_poisons_nothing(gcp):
    async with bridge(gcp, ack_timeout="150ms") as made:
        gcp.twin.stall()
        await made.numbers(200)
        await until(lambda: made.status.retried >= 5 * 200, 20)
        gcp.twin.flow()
        await made.delivered()
    made.check()


async def test_oversize_payloads_and_topics(gcp):
    async with bridge(gcp) as made:
        await made.numbers(10)
        await made.put(event("large", "x" * 10_000_000), event("long-" + "y" * 1_000, 1))
        await made.numbers(10)
        await made.delivered(dead=2)
    made.check(dead=2, most_repeated=0)
    large, long = made.reasons()
    assert large.startswith("payload+properties of 10,000,")
    assert large.endswith("the destination takes 9,997,500")
    assert long == "the topic has 1043 bytes: the destination takes 1024"
    assert gcp.twin.refusals == {}


async def test_a_key_that_is_replaced_on_disk_is_used_without_a_restart(gcp):
    async with bridge(gcp) as made:
        await made.numbers(500)
        await made.delivered()
        old = gcp.key["private_key_id"]
        gcp.write_key()
        flowing = asyncio.create_task(_flow(made))
        await until(lambda: made.status.reconnects == 1, 10)
        gcp.accounts.revoke(old)
        await made.numbers(500)
        flowing.cancel()
        with suppress(asyncio.CancelledError):
            await flowing
        await made.delivered()
        assert made.status.retried == 0
        assert made.status.reconnects == 1
    made.check(most_repeated=0)
    assert gcp.twin.refusals == {}


async def _flow(made: Bridge) -> None:
    while True:
        await made.numbers(20)
        await asyncio.sleep(0.01)


async def test_a_role_that_is_missing_and_a_new_key_that_ends_the_wait(gcp):
    gcp.twin.deny(gcp.topic, EMAIL)
    async with bridge(gcp) as made:
        await made.numbers(50)
        await until(lambda: made.status.state == "unauthorised")
        assert "grant it roles/pubsub.publisher there" in str(made.status.error)
        assert made.status.backlog == 50
        gcp.twin.grant(gcp.topic, EMAIL, "roles/pubsub.publisher")
        gcp.write_key()
        await made.delivered()
    made.check(most_repeated=0)


async def test_a_topic_that_is_made_later(gcp, monkeypatch):
    monkeypatch.setattr("northbound_gcp_pubsub.answers.SLOWLY", 0.1)
    topic = gcp.twin.topics.pop(TOPIC)
    async with bridge(gcp) as made:
        await made.numbers(50)
        await until(lambda: "create it" in str(made.status.error))
        gcp.twin.topics[TOPIC] = topic
        await made.delivered()
    made.check(most_repeated=0)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
async def test_everything_at_once_for_a_long_time(gcp, seed):
    """Hang-ups, cuts, stalls, throttling, lost acknowledgements, tokens that end and keys that are replaced."""
    rng = random.Random(seed)
    gcp.accounts.token_seconds = 3
    gcp.topic.schema = lambda data: json.loads(json.loads(data)["value"]) % 1_000 != 137
    with Wire(free_port(), gcp.twin.port) as wire:
        changes = {"endpoint": f"127.0.0.1:{wire.port}", "keep_alive": "300ms", "connect_timeout": "1s",
                   "ack_timeout": "2s", "self_signed": bool(seed % 2), "request_messages": 50}  # fmt: skip
        async with bridge(gcp, **changes) as made:

            async def trouble() -> None:
                match rng.randrange(8):
                    case 0:
                        await gcp.twin.hang_up()
                    case 1:
                        wire.cut()
                    case 2:
                        wire.stall()
                        await asyncio.sleep(rng.uniform(0.1, 2))
                        wire.flow()
                    case 3:
                        gcp.twin.limit(rng.choice([2_000, None]))
                    case 4:
                        codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.ABORTED)
                        gcp.twin.fail(rng.choice(codes), times=rng.randrange(1, 6), after=rng.random() < 0.3)
                    case 5:
                        gcp.accounts.expire_tokens()
                    case 6:
                        old = gcp.key["private_key_id"]
                        gcp.write_key()
                        await asyncio.sleep(0.5)
                        gcp.accounts.revoke(old)
                    case 7:
                        gcp.twin.stall()
                        await asyncio.sleep(rng.uniform(0.1, 3))
                        gcp.twin.flow()

            for _ in range(60):
                await made.numbers(rng.randrange(1, 600))
                await asyncio.sleep(rng.uniform(0, 0.6))
                await trouble()
            gcp.twin.limit(None)
            bad = sum(n % 1_000 == 137 for n in range(made.put_in))
            await made.delivered(dead=bad, within=120)
            status = made.status
    received = made.check(dead=bad)
    assert set(made.reasons()) == {"Invalid data in message: Message failed schema validation."}
    print(f"\n{made.put_in:,} messages, {received.duplicates:,} repeated, {status.reconnects} reconnects, "
          f"{gcp.twin.hangups} hang-ups, {bad} set aside, {dict(gcp.twin.refusals)}")  # fmt: skip


CONFIGURATION = """
[site]
org = "org"
[privacy]
default = false
[sources.in]
type = "jsonl"
path = "{path}"
{follow}
[connectors.gcp]
type = "gcp-pubsub"
pubsub_topic = "projects/acme/topics/building"
endpoint = "{endpoint}"
credentials_file = "key.json"
ca = "ca.pem"
"""


def line(n: int) -> bytes:
    one = {"kind": "state", "building": "bld-1", "system": "s", "driver": "d", "module": "M", "index": 1}
    return json.dumps({**one, "state": f"x{n % TOPICS}", "value": n}).encode()


async def test_a_service_that_is_killed_in_mid_flow(gcp):
    count = 6_000
    (gcp.folder / "events.jsonl").write_bytes(lines([line(n) for n in range(count)]))
    text = CONFIGURATION.format(path="events.jsonl", follow="follow = true", endpoint=gcp.twin.endpoint)
    service = Service(gcp.folder, text + "[connectors.gcp.rate]\nmessages = 4000\n")
    await asyncio.to_thread(service.start)
    try:
        await until(lambda: len(gcp.topic.messages) > 800, 30)
        await asyncio.to_thread(service.kill)
        at_the_kill = len(gcp.topic.messages)
        assert at_the_kill < count
        await asyncio.to_thread(service.start)
        await until(lambda: len({m.data for m in gcp.topic.messages}) == count, 30)
        assert await asyncio.to_thread(service.stop) == 0
    finally:
        if service.running:
            service.kill()
    newest: dict[str, int] = {}
    numbers = dict.fromkeys(
        (m.attributes["topic"], int(json.loads(json.loads(m.data)["value"]))) for m in gcp.topic.messages
    )
    for topic, n in numbers:  # in the order of first arrival
        assert n > newest.get(topic, -1)
        newest[topic] = n
    assert len(numbers) == count
    assert len(gcp.topic.messages) - count <= 4_000
    keys = {m.attributes["key"] for m in gcp.topic.messages}
    assert len(keys) == count  # what came twice came with the same key


async def test_check_connect_says_what_answers_and_what_is_wrong(gcp):
    text = CONFIGURATION.format(path="-", follow="", endpoint=gcp.twin.endpoint)
    service = Service(gcp.folder, text)

    async def check() -> tuple[int, dict]:
        done = await asyncio.to_thread(service.call, "check", str(service.config), "--connect", "--json")
        (answer,) = json.loads(done.stdout)["destinations"]
        return done.returncode, answer

    status, answer = await check()
    assert (status, answer["ok"]) == (0, True)
    assert answer["told"][-1] == f"publishing to {TOPIC} is allowed"
    assert answer["credentials"][0]["name"] == "access token"
    assert answer["credentials"][0]["renewed"] is True

    gcp.twin.deny(gcp.topic, EMAIL)
    status, answer = await check()
    assert (status, answer["ok"]) == (1, False)
    assert "grant roles/pubsub.publisher on it" in answer["error"]
    assert answer["cause"] == "the role is missing on this topic, was granted on another, or is not yet in force"

    gcp.accounts.revoke(gcp.key["private_key_id"])
    status, answer = await check()
    assert status == 1
    assert answer["cause"].startswith("the key was deleted or disabled")
    assert gcp.key["private_key_id"] not in json.dumps(answer)
    assert gcp.topic.messages == []
