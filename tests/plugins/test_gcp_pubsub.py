"""The gcp-pubsub connector against the twin: what is published, and what each refusal becomes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os

import grpc
import pytest
from tests.support.intake import until
from tests.support.pubsub import EMAIL, TOPIC, cloud, opened, outgoing

from northbound import NotConnected, PartialDelivery, Rejected, Unauthorised, Unavailable
from northbound.testing.twins.pubsub import PubSubTwin
from northbound_gcp_pubsub import PubSubConnector, PubSubOptions

Code = grpc.StatusCode


@pytest.fixture
async def gcp(tmp_path):
    async with cloud(tmp_path) as made:
        yield made


async def failures(connector: PubSubConnector, batch) -> dict[int, Exception]:
    with pytest.raises(PartialDelivery) as caught:
        await connector.send(batch)
    await asyncio.sleep(0)  # the engine waits, too, before it sends again
    return dict(caught.value.failures)


async def test_a_message_carries_its_address_key_and_time(gcp):
    async with opened(gcp.connector()) as connector:
        await connector.send([outgoing(1, retain="true"), outgoing(2, payload=b"")])
    first, second = gcp.topic.messages
    assert first.data == b"1"
    assert first.attributes == {
        "topic": "placeos/o/state/b/_/_/s/d/M/1/x", "kind": "state", "org": "o", "building": "b", "retain": "true",
        "time": "1001", "key": "store-1",
    }  # fmt: skip
    assert first.principal == EMAIL
    assert second.data == b""  # clears the topic
    assert first.ordering_key == second.ordering_key != ""
    assert gcp.tokens.calls == 0  # signed here


async def test_one_request_a_key_and_order_within_it(gcp):
    topics = [f"t{n}" for n in range(40)]
    batch = [outgoing(n, topics[n % 40]) for n in range(400)]
    async with opened(gcp.connector(ordering_keys=4)) as connector:
        await asyncio.gather(*(connector.send(batch[at : at + 100]) for at in range(0, 400, 100)))
        gauges = connector.gauges()
    # every key's first request leaves with what the first batch brought; the rest of all batches shares one
    assert len(gcp.topic.requests) <= 8
    assert gauges["requests"] == len(gcp.topic.requests)
    assert gauges["messages_per_request"] == 400 / len(gcp.topic.requests)
    assert {m.ordering_key for m in gcp.topic.messages} == {f"k-{n}" for n in range(4)}
    for topic in topics:
        mine = [int(m.data) for m in gcp.topic.messages if m.attributes["topic"] == topic]
        assert mine == sorted(mine)
        assert len(mine) == 10
        assert len({m.ordering_key for m in gcp.topic.messages if m.attributes["topic"] == topic}) == 1


async def test_requests_stay_within_count_and_bytes(gcp):
    async with opened(gcp.connector(ordering_keys=1, request_messages=7)) as connector:
        await connector.send([outgoing(n) for n in range(20)])
    assert gcp.topic.requests == [7, 7, 6]
    gcp.topic.requests.clear()
    async with opened(gcp.connector(ordering=False, ordering_keys=1, request_bytes=100_000)) as connector:
        await connector.send([outgoing(n, payload=b"x" * 40_000) for n in range(5)])
    assert gcp.topic.requests == [2, 2, 1]
    assert gcp.topic.messages[-1].ordering_key == ""


async def test_messages_wait_for_others_where_that_is_wanted(gcp):
    async with opened(gcp.connector(ordering_keys=1, collect="500ms")) as connector, asyncio.TaskGroup() as tasks:
        for n in range(5):
            tasks.create_task(connector.send([outgoing(n)]))
            await asyncio.sleep(0)
    assert gcp.topic.requests == [5]
    assert [int(m.data) for m in gcp.topic.messages] == [0, 1, 2, 3, 4]


async def test_only_the_parts_of_the_address_that_are_wanted_travel(gcp):
    async with opened(gcp.connector(attributes=["kind", "level"], idempotency_attribute="")) as connector:
        await connector.send([outgoing(1, level="lvl-2", area="a" * 2000)])  # what does not travel cannot be too long
    assert gcp.topic.messages[0].attributes == {
        "topic": "placeos/o/state/b/_/_/s/d/M/1/x", "kind": "state", "level": "lvl-2", "time": "1001",
    }  # fmt: skip


async def test_the_largest_message_that_limits_allow_is_taken(gcp):
    connector = gcp.connector(ordering=False)
    beside = {f"a{n:02}": "v" * 1024 for n in range(90)}
    message = outgoing(1, **beside)
    size = sum(len(name) + len(value) for name, value in message.properties.items())
    assert connector.limits.max_payload_bytes is not None
    largest = outgoing(1, payload=b"x" * (connector.limits.max_payload_bytes - size), **beside)
    async with opened(connector):
        await connector.send([largest])
    assert gcp.topic.requests == [1]


async def test_an_invalid_message_never_joins_a_request(gcp):
    batch = [
        outgoing(0), outgoing(1, "long", note="v" * 1025), outgoing(2, "many", **{f"a{n}": "" for n in range(100)}),
        outgoing(3, "name", **{"n" * 257: ""}), outgoing(4, "reserved", google="x"), outgoing(5),
        outgoing(6, "big", payload=b"x" * 10_000_000),
    ]  # fmt: skip
    async with opened(gcp.connector(ordering_keys=1)) as connector:
        failed = await failures(connector, batch)
    assert all(isinstance(error, Rejected) for error in failed.values())
    assert {index: str(error).split(":")[0] for index, error in failed.items()} == {
        1: "the attribute 'note' has 1025 bytes",
        2: "106 attributes",
        3: f"the attribute '{'n' * 40}' has a name of 257 bytes",
        4: "the attribute 'google' begins with 'goog', which Pub/Sub keeps for itself",
        6: "about 10,000,164 bytes",
    }
    assert [m.data for m in gcp.topic.messages] == [b"0", b"5"]
    assert gcp.twin.refusals == {}


async def test_what_the_service_refuses_is_found_among_its_neighbours(gcp, monkeypatch):
    connector = gcp.connector(ordering_keys=1)
    async with opened(connector):
        monkeypatch.setattr("northbound_gcp_pubsub.attributes._problem", lambda _: None)  # a rule we do not know of
        failed = await failures(
            connector, [outgoing(n, f"t{n}", **({"goog-x": "1"} if n == 5 else {})) for n in range(12)]
        )
    assert list(failed) == [5]
    assert isinstance(failed[5], Rejected)
    assert failed[5].reason == 'The attribute "goog-x" in the request is reserved: keys must not begin with "goog".'
    assert [int(m.data) for m in gcp.topic.messages] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]


async def test_what_follows_a_failed_request_of_its_key_is_held_back(gcp):
    async with opened(gcp.connector(ordering_keys=2, request_messages=2)) as connector:
        lanes = {topic: connector._attributes.place(outgoing(0, topic)).lane for topic in "abcdefgh"}
        one = next(topic for topic, lane in lanes.items() if lane == 0)
        other = next(topic for topic, lane in lanes.items() if lane == 1)
        gcp.twin.stall()
        first = asyncio.create_task(connector.send([outgoing(n, one) for n in range(4)]))
        await until(lambda: gcp.twin.calls["Publish"] == 1)
        gcp.twin.fail(retry_after=1.5)  # the first request; what was queued behind it meanwhile must not be sent
        second = asyncio.create_task(connector.send([outgoing(4, one), outgoing(5, other)]))
        await until(lambda: gcp.twin.calls["Publish"] == 2)
        gcp.twin.flow()
        with pytest.raises(PartialDelivery) as caught:
            await first
        with pytest.raises(PartialDelivery) as held:
            await second
        assert set(caught.value.failures) == {0, 1, 2, 3}
        assert set(held.value.failures) == {0}
        for error in (*caught.value.failures.values(), held.value.failures[0]):
            assert type(error) is Unavailable
            assert error.retry_after == 1.5
        assert [int(m.data) for m in gcp.topic.messages] == [5]
        await asyncio.sleep(0)
        await connector.send([outgoing(n, one) for n in range(5)])  # the engine sends again, and the key is free
    assert [int(m.data) for m in gcp.topic.messages] == [5, 0, 1, 2, 3, 4]


async def test_while_a_call_that_fails_is_under_way_nothing_newer_of_its_key_is_sent(gcp, monkeypatch):
    async with opened(gcp.connector(ordering_keys=2)) as connector:
        lanes = {topic: connector._attributes.place(outgoing(0, topic)).lane for topic in "abcdefgh"}
        one = next(topic for topic, lane in lanes.items() if lane == 0)
        other = next(topic for topic, lane in lanes.items() if lane == 1)
        publish, waiting = connector._batcher._publish, asyncio.Event()

        async def slowly(lane, messages):
            if lane == 1:
                await waiting.wait()
            await publish(lane, messages)

        monkeypatch.setattr(connector._batcher, "_publish", slowly)
        gcp.twin.fail(Code.INTERNAL, "oops")
        both = asyncio.create_task(connector.send([outgoing(1, one), outgoing(2, other)]))
        await until(lambda: gcp.twin.refusals["INTERNAL"] == 1)
        # The engine does not know yet that message 1 failed, and begins another call.
        assert list(await failures(connector, [outgoing(3, one)])) == [0]
        waiting.set()
        with pytest.raises(PartialDelivery):
            await both
        await asyncio.sleep(0)
        await connector.send([outgoing(1, one), outgoing(3, one)])
    assert [int(m.data) for m in gcp.topic.messages] == [2, 1, 3]


@pytest.mark.parametrize(
    ("code", "words", "kind", "said"),
    [
        (Code.UNAVAILABLE, "try again", Unavailable, "Pub/Sub: try again"),
        (Code.INTERNAL, "oops", Unavailable, "Pub/Sub: oops"),
        (Code.RESOURCE_EXHAUSTED, "Quota exceeded for quota metric", Unavailable, "Quota exceeded"),
        (Code.DEADLINE_EXCEEDED, "late", Unavailable, "has not acknowledged in time"),
        (Code.NOT_FOUND, "Resource not found (resource=building).", Unavailable, "mend pubsub_topic"),
        (Code.FAILED_PRECONDITION, "the key is disabled", Unavailable, "the key is disabled"),
        (Code.INVALID_ARGUMENT, "Invalid resource name given (name=x).", Unavailable, "Invalid resource name"),
        (Code.PERMISSION_DENIED, "User not authorized to perform this action.", Unauthorised, "roles/pubsub.publisher"),
        (Code.UNIMPLEMENTED, "unknown service", Unavailable, "mend endpoint"),
        (Code.INVALID_ARGUMENT, "Message failed schema validation", Rejected, "Message failed schema validation"),
    ],
)
async def test_each_answer_is_an_error_of_its_kind(gcp, code, words, kind, said):
    async with opened(gcp.connector()) as connector:
        gcp.twin.fail(code, words)
        (error,) = (await failures(connector, [outgoing(1)])).values()
        assert type(error) is kind
        assert said in str(error)
        waits_for_a_person = code in (Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.UNIMPLEMENTED)
        assert getattr(error, "retry_after", None) == (30 if waits_for_a_person or "resource name" in words else None)
        await connector.send([outgoing(1)])


async def test_no_topic_and_no_role(gcp):
    async with opened(gcp.connector(pubsub_topic="projects/acme/topics/other")) as connector:
        (error,) = (await failures(connector, [outgoing(1)])).values()
        assert "there is no projects/acme/topics/other: Resource not found (resource=other)." in str(error)
        with pytest.raises(Unauthorised, match=r"or there is no such topic \(create it, and grant"):
            await connector.probe()
    gcp.twin.deny(gcp.topic, EMAIL)
    async with opened(gcp.connector()) as connector:
        (error,) = (await failures(connector, [outgoing(1)])).values()
        assert isinstance(error, Unauthorised)
        assert EMAIL in str(error)
        assert "not yet in force" in str(connector.explain(error))
    assert gcp.twin.calls["GetTopic"] == gcp.twin.calls["CreateTopic"] == 0


async def test_a_lost_acknowledgement_is_sent_again_with_the_same_key(gcp):
    async with opened(gcp.connector()) as connector:
        gcp.twin.fail(after=True)
        assert set(await failures(connector, [outgoing(1)])) == {0}
        await connector.send([outgoing(1)])
    assert [m.attributes["key"] for m in gcp.topic.messages] == ["store-1", "store-1"]


async def test_a_request_that_is_not_answered_is_given_up_and_the_connection_kept(gcp):
    async with opened(gcp.connector(ack_timeout="200ms")) as connector:
        gcp.twin.stall()
        (error,) = (await failures(connector, [outgoing(1)])).values()
        assert type(error) is Unavailable
        gcp.twin.flow()
        await connector.send([outgoing(2)])


async def test_a_hang_up_is_a_lost_connection_and_a_new_one_works(gcp):
    connector = gcp.connector()
    async with opened(connector):
        gcp.twin.stall()
        sending = asyncio.create_task(connector.send([outgoing(1)]))
        await until(lambda: gcp.twin.calls["Publish"] == 1)
        await gcp.twin.hang_up()
        with pytest.raises(PartialDelivery) as caught:
            await sending
        assert type(caught.value.failures[0]) is NotConnected
        await connector.open()
        await connector.send([outgoing(1)])
    assert [m.data for m in gcp.topic.messages] == [b"1"]


async def test_an_idle_connection_that_dies_for_good_is_noticed(tmp_path):
    twin = PubSubTwin()
    async with twin:
        twin.create_topic(TOPIC)
        connector = PubSubConnector(PubSubOptions(pubsub_topic=TOPIC, emulator=twin.endpoint), name="gcp")
        await connector.open()
        lost = asyncio.create_task(connector.lost())
        await asyncio.sleep(0)
        await connector.send([outgoing(1)])
        assert not lost.done()
    with pytest.raises(NotConnected, match="the connection was lost"):
        await asyncio.wait_for(lost, 10)
    with pytest.raises(PartialDelivery):
        await connector.send([outgoing(2)])
    await connector.close()
    await connector.close()
    with pytest.raises(NotConnected):
        await connector.send([outgoing(2)])
    with pytest.raises(NotConnected, match="refused"):
        await connector.open()
    await connector.close()


async def test_a_connection_that_is_closed_in_good_order_is_no_loss():
    async with PubSubTwin(connection_seconds=0.2) as twin:
        topic = twin.create_topic(TOPIC)
        connector = PubSubConnector(PubSubOptions(pubsub_topic=TOPIC, emulator=twin.endpoint), name="gcp")
        async with opened(connector):
            lost = asyncio.create_task(connector.lost())
            for n in range(20):
                while True:
                    with contextlib.suppress(PartialDelivery):  # it may be sent at the very moment
                        await connector.send([outgoing(n)])
                        break
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.05)
            assert not lost.done()
            lost.cancel()
        assert [int(data) for data in dict.fromkeys(m.data for m in topic.messages)] == list(range(20))


async def test_closing_ends_what_is_under_way(gcp):
    connector = gcp.connector()
    async with opened(connector):
        gcp.twin.stall()
        sending = asyncio.create_task(connector.send([outgoing(1)]))
        await until(lambda: gcp.twin.calls["Publish"] == 1)
        await connector.close()
        with pytest.raises(PartialDelivery) as caught:
            await sending
        assert isinstance(caught.value.failures[0], NotConnected)


async def test_a_cancelled_send_leaves_nothing_behind(gcp):
    async with opened(gcp.connector(ordering_keys=1, request_messages=1)) as connector:
        gcp.twin.stall()
        first = asyncio.create_task(connector.send([outgoing(1), outgoing(2)]))
        await until(lambda: gcp.twin.calls["Publish"] == 1)
        second = asyncio.create_task(connector.send([outgoing(3)]))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(PartialDelivery):  # it stood behind what was cancelled
            await second
        gcp.twin.flow()
        await asyncio.sleep(0)
        await connector.send([outgoing(4)])
        assert connector.gauges()["requests_under_way"] == 0
    assert b"4" in [m.data for m in gcp.topic.messages]
    assert {b"2", b"3"}.isdisjoint(m.data for m in gcp.topic.messages)


async def test_the_debug_log_of_the_sdk_holds_neither_payload_nor_token(gcp, caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("google").propagate = True
    try:
        async with opened(gcp.connector()) as connector:
            await connector.send([outgoing(1, payload=b"canary-7341")])
    finally:
        logging.getLogger("google").propagate = False
    assert "canary-7341" not in caplog.text
    assert all(
        "canary-7341" not in str(vars(record)) and "Bearer ey" not in str(vars(record)) for record in caplog.records
    )
    assert "PRIVATE" not in repr(connector.config)


async def test_the_emulator_needs_no_sign_in_and_its_variable_is_not_followed(gcp, monkeypatch):
    told: list[str] = []
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")
    connector = gcp.connector()
    connector.tell = told.append
    async with opened(connector):
        await connector.send([outgoing(1)])
    assert any("PUBSUB_EMULATOR_HOST is set in the environment and not used" in words for words in told)
    async with PubSubTwin() as emulator:
        topic = emulator.create_topic(TOPIC)
        plain = PubSubConnector(PubSubOptions(pubsub_topic=TOPIC, emulator=emulator.endpoint), name="gcp")
        async with opened(plain):
            await plain.send([outgoing(1)])
            await plain.probe()
            assert plain.credentials() == []
        assert len(topic.messages) == 1


async def test_what_is_told_and_explained_when_it_works(gcp):
    told: list[str] = []
    connector = gcp.connector()
    connector.tell = told.append
    async with opened(connector):
        await connector.probe()
    assert told == [
        f"signing in as {EMAIL}: a service account's key, tokens signed here ({gcp.key_file})",
        f"connecting to {gcp.twin.endpoint}",
        "connected, the token is accepted",
        f"publishing to {TOPIC} is allowed",
    ]
    token, file, ca = connector.credentials()
    assert token.renewed
    assert token.expires is not None
    assert file.files == (gcp.key_file,)
    assert ca.files == (gcp.ca_file,)
    assert connector.destination == f"{gcp.twin.endpoint}/{TOPIC}"


async def test_a_certificate_of_nobody_is_refused_in_words(gcp):
    connector = gcp.connector(ca=None)
    with pytest.raises(NotConnected) as caught:
        await connector.open()
    await connector.close()
    assert "name its CA as ca" in str(connector.explain(caught.value))
    missing = gcp.connector(ca=str(gcp.folder / "none.pem"))
    with pytest.raises(NotConnected, match=r"the CA file .*none\.pem cannot be used"):
        await missing.open()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pubsub_topic": "goog-topic"}, "does not begin with 'goog'"),
        ({"pubsub_topic": "projects/acme/building"}, "projects/PROJECT/topics/ID"),
        ({"pubsub_topic": "x"}, "3 to 255"),
        ({"pubsub_topic": "building"}, "name the project"),
        ({"pubsub_topic": TOPIC, "project": "other"}, "another project"),
        ({"pubsub_topic": "building", "project": "My Project"}, "not its display name"),
        ({"pubsub_topic": TOPIC, "endpoint": "https://pubsub.googleapis.com"}, "without https://"),
        ({"pubsub_topic": TOPIC, "emulator": "pubsub.googleapis.com:443"}, "the real service"),
        (
            {"pubsub_topic": TOPIC, "emulator": "localhost:8085", "credentials_file": "k.json"},
            "takes no credentials_file",
        ),
        ({"pubsub_topic": TOPIC, "credentials_file": "k.json", "credentials_json": "{}"}, "one of them"),
        ({"pubsub_topic": TOPIC, "idempotency_attribute": "id"}, "part of the address"),
        ({"pubsub_topic": TOPIC, "idempotency_attribute": "googol"}, "not beginning with 'goog'"),
    ],
)
def test_options_that_cannot_work_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        PubSubOptions.model_validate(changes)


def test_names_and_targets():
    assert PubSubOptions(pubsub_topic="building", project="acme").topic_name == TOPIC
    assert PubSubOptions(pubsub_topic=TOPIC).target == "pubsub.googleapis.com:443"
    regional = PubSubOptions(pubsub_topic=TOPIC, endpoint="europe-west1-pubsub.googleapis.com")
    assert regional.target == "europe-west1-pubsub.googleapis.com:443"
    assert PubSubOptions(pubsub_topic=TOPIC, emulator="[::1]:8085").target == "[::1]:8085"
    assert json.loads(regional.model_dump_json())["pubsub_topic"] == TOPIC
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in os.environ
