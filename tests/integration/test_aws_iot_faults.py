"""The aws-iot connector, from the source to the twin, while things go wrong: nothing lost, nothing reordered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.support.conservation import Pipeline

from northbound import Metadata, NotConnected, State, delivery
from northbound.mqtt import Client, ClientOptions
from northbound.shaping import STATE_NAMES, Template
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.aws_iot import AwsIotTwin
from northbound.testing.twins.aws_limits import AwsLimits
from northbound.topics import TopicScheme
from northbound_aws_iot import AwsIotConnector, connector

SCHEME = TopicScheme()
TEMPLATE = Template(AwsIotConnector.default_topic, (*STATE_NAMES, *SCHEME.hierarchy[1:]))
#: Faults come more often here than the service allows clients to connect.
QUICK = AwsLimits(connects_per_client=0, publishes=2000)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def pair(authority):
    return authority.client("acme-hq", file="acme-hq")


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(delivery, "GUARD_SECONDS", 0.05)


def options(twin, pair, **more):
    return {
        "endpoint": twin.endpoint,
        "port": twin.port,
        "ca": twin.authority.ca,
        "certificate": pair.certificate,
        "private_key": pair.private_key,
        "client_id": "acme-hq",
        "messages_per_second": 1000,
        "ack_timeout": "2s",
        **more,
    }


def state(n: int, topics: int = 20, value: object = None) -> State:
    return State(
        "org-acme", ("bld-1", None, "area.1"), "sys/7", "dep-1", "Display", 1 + n % topics, "power", value or n, n
    )


def source_topic(topic: str) -> str:
    """The normalised topic, from what a consumer sees."""
    plain = TEMPLATE.inverse(topic)
    if plain is None:
        return topic  # metadata travels as it is
    zones = tuple(plain[name] for name in SCHEME.hierarchy[1:])
    return SCHEME.state_topic(
        plain["org"], zones, plain["system"], plain["driver"], plain["module"], int(plain["index"]), plain["state"]
    )


def rows(twin: AwsIotTwin) -> Iterator[tuple[int, str, bytes]]:
    for message in twin.messages:
        if key := message.user.get("id"):
            yield int(key.rpartition("-")[2]), source_topic(message.topic), message.payload


async def feed(it: Pipeline, count: int, *, seconds: float = 0.0, begin: int = 0, batch: int = 20) -> None:
    for n in range(begin, begin + count, batch):
        await it.put(*(state(m) for m in range(n, min(n + batch, begin + count))))
        await asyncio.sleep(seconds * batch / count)


async def test_the_server_hangs_up_again_and_again(authority, pair, tmp_path):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        twin.delay = 0.01
        async with Pipeline(tmp_path, "aws-iot", options(twin, pair)) as it:
            for turn, how in enumerate((lambda: twin.hang_up(139), twin.cut)):
                await feed(it, 300, begin=300 * turn)
                await it.until(lambda turn=turn: len(twin.messages) > 300 * turn + 100, what="flowing")
                how()
            await it.delivered()
        result = it.check(rows(twin))
    assert result.distinct == 600
    assert len(twin.connects) == 3
    assert not it.letters()
    print(f"\n{len(twin.connects)} connections, {result.duplicates} of 600 sent again")


async def test_a_connection_that_stalls(authority, pair, tmp_path):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        async with Pipeline(tmp_path, "aws-iot", options(twin, pair, ack_timeout="1s")) as it:
            await feed(it, 100)
            await it.delivered()
            twin.stall(on=True)
            await feed(it, 200, begin=100)
            await it.delivered()
        result = it.check(rows(twin))
    assert result.distinct == 300
    assert 2 <= len(twin.connects) <= 3
    assert not it.letters()


async def test_a_certificate_that_ends_in_mid_flow_and_is_renewed_on_disk(authority, tmp_path):
    pair = authority.client("acme-hq", valid=timedelta(seconds=5), file="short")
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        async with Pipeline(tmp_path, "aws-iot", options(twin, pair)) as it:
            await it.until(lambda: it.status.credentials and it.status.credentials[0].expires, what="told")
            feeding = asyncio.ensure_future(feed(it, 600, seconds=6))
            await it.until(lambda: it.status.state == "unauthorised", what="refused")
            assert "certificate has expired" in it.status.error
            refused = len(twin.refused)
            authority.client("acme-hq", file="short")  # now it is a good one, at the same place
            await it.until(lambda: it.status.state == "online", within=10, what="back with the new certificate")
            await feeding
            await it.delivered()
        result = it.check(rows(twin))
    assert result.distinct == 600
    assert len(twin.connects) == 2
    assert refused <= 6, twin.reasons
    assert not it.letters()


async def test_a_certificate_replaced_on_disk_is_used_without_loss(authority, tmp_path):
    pair = authority.client("acme-hq", file="old")
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        twin.delay = 0.005
        async with Pipeline(tmp_path, "aws-iot", options(twin, pair)) as it:
            feeding = asyncio.ensure_future(feed(it, 600, seconds=1.5))
            await it.until(lambda: len(twin.messages) > 200, what="flowing")
            assert twin.peers["acme-hq"].wire.greeting.certificate.serial_number == pair.parsed.serial_number
            new = authority.client("acme-hq", file="old")
            await it.until(lambda: len(twin.connects) == 2, what="reconnected")
            assert twin.peers["acme-hq"].wire.greeting.certificate.serial_number == new.parsed.serial_number
            await feeding
            await it.delivered()
        result = it.check(rows(twin))
    assert result == (600, 0)  # what was under way was finished first


async def test_refused_and_oversize_messages_are_set_aside_with_the_reason(authority, pair, tmp_path):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        twin.refuse_publish = lambda packet: 135 if b"secret" in packet.payload else None
        async with Pipeline(tmp_path, "aws-iot", options(twin, pair)) as it:
            await it.put(*(state(n, value="secret" if n % 10 == 3 else n or None) for n in range(50)))
            await it.put(state(50, value="x" * 131_000), state(51), state(52, value="y" * 200_000), state(53))
            await it.put(State("org-acme", ("b" * 250, None, None), "s", "d", "M", 1, "power", 1, 1))
            await it.delivered()
        it.check(rows(twin))
    letters = it.letters()
    assert len(letters) == 8
    assert sum("135 not authorized" in letter.reason for letter in letters) == 5
    assert sum("bytes: the destination takes 13" in letter.reason for letter in letters) == 2
    assert sum("the destination takes 256" in letter.reason for letter in letters) == 1
    assert len(twin.connects) == 1
    assert all("135" in why or "as the test wants" in why for why in twin.reasons), "what is too large was sent"


@pytest.mark.parametrize("lanes", [1, 3])
async def test_a_message_the_service_hangs_up_on_is_set_aside_and_the_rest_goes_on(authority, pair, tmp_path, lanes):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        twin.hang_up_on = lambda packet: 144 if b"poison" in packet.payload else None
        async with Pipeline(tmp_path, "aws-iot", options(twin, pair, connections=lanes)) as it:
            await it.put(*(state(n, value="poison" if n == 57 else None) for n in range(200)))
            await it.delivered()
        result = it.check(rows(twin))
    (letter,) = it.letters()
    assert letter.sequence == 58
    assert "144 topic name invalid" in letter.reason
    assert result.distinct == 199
    most = max(twin.connects_by_client.values())
    assert most == 4 if lanes == 1 else most <= 6  # three hang-ups, and the connection that goes on


@pytest.mark.parametrize("answer", ["discard", "puback", "disconnect"])
async def test_throttling(authority, pair, tmp_path, answer):
    slower = AwsLimits(publishes=100, connects_per_client=0)
    async with AwsIotTwin(authority, limits=slower, over_rate=answer) as twin:
        async with Pipeline(tmp_path, "aws-iot", options(twin, pair, messages_per_second=400, ack_timeout="1s")) as it:
            await feed(it, 300)
            await it.delivered()
        result = it.check(rows(twin))
    assert any("more publishes a second" in why for why in twin.reasons), "it was never throttled"
    overtaken = 300 - result.distinct
    assert not it.letters()
    assert len(twin.connects) <= 6
    print(f"\n{answer}: {len(twin.refused)} refused, {overtaken} overtaken, {len(twin.connects)} connections")


async def test_a_second_client_with_the_same_id(authority, pair, tmp_path):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        rival = ClientOptions(
            host="localhost", port=twin.port, client_id="acme-hq", ssl=authority.client_context(pair), keep_alive=30
        )
        async with Pipeline(tmp_path, "aws-iot", options(twin, pair)) as it:
            feeding = asyncio.ensure_future(feed(it, 600, seconds=2))
            for _ in range(2):
                seen = len(twin.messages)
                await it.until(lambda seen=seen: len(twin.messages) > seen + 20, what="flowing")
                client = Client(rival)
                await client.connect()
                with pytest.raises(Exception, match="142 session taken over"):
                    await client.lost()
                await client.disconnect()
            await feeding
            await it.delivered()
            assert it.status.reconnects <= 2
        result = it.check(rows(twin))
    assert result.distinct == 600
    assert not it.letters()


@pytest.mark.parametrize("kind", ["aws-iot", "mqtt"])
async def test_a_second_client_that_always_comes_back_makes_no_storm(authority, pair, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(connector, "_BETWEEN_CONNECTS", 0.0)
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        given = options(twin, pair, retry={"initial": "10ms", "maximum": "60s"})
        if kind == "mqtt":
            for name in ("endpoint", "port", "messages_per_second"):
                del given[name]
            given |= {"url": f"mqtts://localhost:{twin.port}", "topic": AwsIotConnector.default_topic, "retain": False}
        rival = ClientOptions(
            host="localhost", port=twin.port, client_id="acme-hq", ssl=authority.client_context(pair), keep_alive=30
        )

        async def come_back() -> None:
            """Wait until ours carries something, each time, and end it."""
            while True:
                seen = len(twin.messages)
                await it.until(lambda seen=seen: len(twin.messages) > seen, what="flowing")
                client = Client(rival)
                await client.connect()
                with contextlib.suppress(NotConnected):
                    await client.lost()
                await client.disconnect()

        async with Pipeline(tmp_path, kind, given, drain="0s") as it:
            tasks = [asyncio.create_task(feed(it, 100_000, seconds=1000)), asyncio.create_task(come_back())]
            await it.until(lambda: "10 s apart" in str(it.status.error), what="slowed down")
            assert "session taken over" in it.status.error
            assert it.status.reconnects == 5
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    assert not it.letters()


async def test_metadata_is_retained_within_its_quota_and_state_is_not(authority, pair, tmp_path):
    quotas = AwsLimits(retained_per_topic=5, connects_per_client=0, publishes=2000)
    async with AwsIotTwin(authority, limits=quotas) as twin:
        async with Pipeline(tmp_path, "aws-iot", options(twin, pair, retained_per_topic=5)) as it:
            for n in range(4):
                await it.put(
                    *(Metadata("org-acme", f"sys-{m}", {"name": f"Room {m}", "turn": n}) for m in range(5)),
                    *(state(m) for m in range(20 * n, 20 * n + 20)),
                )
            await it.delivered()
        result = it.check(rows(twin))
    assert result == (100, 0)
    assert set(twin.retained) == {f"placeos/org-acme/metadata/sys-{m}" for m in range(5)}
    assert b'"turn":3' in twin.retained["placeos/org-acme/metadata/sys-0"]
    assert not twin.refused


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("NORTHBOUND_CHAOS", "3"))))
async def test_whatever_happens(authority, pair, tmp_path, seed):
    """Faults by chance over three lanes: every one that a test above tries alone."""
    rng = random.Random(seed)
    count = 6_000
    quotas = AwsLimits(connects_per_client=0, publishes=1500, retained_per_topic=0)
    async with AwsIotTwin(authority, limits=quotas) as twin:
        more = {"connections": 3, "messages_per_second": 500, "ack_timeout": "1s", "retained_per_topic": 0}
        async with Pipeline(tmp_path, "aws-iot", options(twin, pair, **more)) as it:
            feeding = asyncio.ensure_future(feed(it, count, seconds=12, batch=50))
            while not feeding.done():
                await asyncio.sleep(rng.uniform(0.1, 0.8))
                lane = f"acme-hq-{rng.randint(1, 3)}"
                fault = rng.choice(["cut", "hang up", "all", "stall", "slow", "fast", "quota", "discard", "good"])
                if fault == "cut":
                    twin.cut(client_id=lane)
                elif fault == "hang up":
                    twin.hang_up(rng.choice([139, 151, None]), client_id=lane)
                elif fault == "all":
                    twin.cut()
                elif fault == "stall":
                    twin.stall(on=True, client_id=lane)
                    await asyncio.sleep(rng.uniform(0.1, 1.5))
                    twin.stall(on=False, client_id=lane)
                elif fault in {"slow", "fast"}:
                    twin.delay = 0.05 if fault == "slow" else 0.0
                else:
                    share = 0.0 if fault == "good" else 0.05
                    code = 151 if fault == "quota" else 0
                    twin.refuse_publish = lambda _, share=share, code=code: code if rng.random() < share else None
            twin.refuse_publish = lambda _: None
            await feeding
            await it.delivered(within=60)
            reconnects = it.status.reconnects
        result = it.check(rows(twin))
    assert not it.letters()
    print(
        f"\nseed {seed}: {reconnects} reconnects, {result.duplicates} sent again, {count - result.distinct} overtaken"
    )


@pytest.mark.slow
async def test_ten_lanes_take_a_thousand_a_second_in_order(authority, pair, tmp_path):
    """The twin takes 100 a second and connection, as the service does."""
    count = int(os.environ.get("NORTHBOUND_LANES_COUNT", "15000"))
    async with AwsIotTwin(authority) as twin:
        twin.delay = 0.03
        lanes = options(twin, pair, connections=10, messages_per_second=100, ack_timeout="30s")
        async with Pipeline(tmp_path, "aws-iot", lanes) as it:
            began = time.monotonic()
            for n in range(0, count, 500):
                await it.put(*(state(m, topics=500) for m in range(n, n + 500)))
            await it.delivered(within=120)
            took = time.monotonic() - began
        result = it.check(rows(twin))
    assert result == (count, 0)
    assert not twin.refused
    by_lane = {client: sum(m.client_id == client for m in twin.messages) for client in twin.connects_by_client}
    times = [message.time for message in twin.messages]
    print(f"\n{count / took:,.0f} messages a second from start to end over {len(by_lane)} lanes, "
          f"{(count - 1) / (times[-1] - times[0]):,.0f} while they flow, {min(by_lane.values())} to "
          f"{max(by_lane.values())} a lane")  # fmt: skip
