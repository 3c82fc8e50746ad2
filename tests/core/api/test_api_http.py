"""The HTTP API on a running service: the present, the numbers, dead letters, and who may ask for what."""

import asyncio
import json

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.support.api import ORG, running, topic, value
from tests.support.fakes import Destination
from tests.support.intake import until

from northbound.administration import DeadLetters
from northbound.api import app, health, openapi, pages, state
from northbound.api.identity import Identity
from northbound.api.stream import MAX_WAITING, Stream, event_of
from northbound.errors import NotConnected, PartialDelivery, Rejected
from northbound.events import Cleared, Metadata
from northbound.message import Message
from northbound.status import ConnectorStatus, Counters
from northbound.topics import TopicMatcher


@pytest.fixture
async def service(tmp_path):
    async with running(tmp_path) as found:
        yield found


async def values(service, query="", name="admin"):
    answer = await service.get(f"/api/state{query}", name)
    assert answer.status_code == 200, answer.text
    return {row["topic"]: row for row in answer.json()["values"]}


# the present


async def test_the_present_is_told_as_json(service):
    await service.put(
        value("power", True), Metadata(ORG, "sys", {"name": "Boardroom 7"}), value("power", False, time=2)
    )
    found = await values(service)
    assert found[topic("power")] == {
        "topic": topic("power"), "kind": "state", "time": 2, "payload": {"time": 2, "value": "false"},
    }  # fmt: skip
    assert found[f"placeos/{ORG}/metadata/sys"]["payload"]["name"] == "Boardroom 7"
    assert found[f"placeos/{ORG}/metadata/sys"]["kind"] == "metadata"
    assert set(await values(service, "?filter=placeos/%2B/state/%23")) == {topic("power")}


async def test_what_is_cleared_is_gone(service):
    await service.put(value("power", True))
    await service.put(Cleared(ORG, (None, None, None), "sys", "drv", "Mod", 1, "power"))
    assert await values(service) == {}


async def test_the_present_outlives_a_restart(tmp_path):
    async with running(tmp_path) as service:
        await service.put(*(value(str(n), n) for n in range(50)), Metadata(ORG, "sys", {"name": "A"}))
        await service.put(value("7", "newest", time=5))
        await service.put(Cleared(ORG, (None, None, None), "sys", "drv", "Mod", 1, "8"))
    async with running(tmp_path) as service:
        found = await values(service)
    assert len(found) == 50
    assert found[topic("7")]["payload"]["value"] == '"newest"'
    assert topic("8") not in found


async def test_a_part_is_told_and_that_there_is_more(service):
    await service.put(*(value(str(n), n) for n in range(30)))
    answer = (await service.get("/api/state?limit=20")).json()
    assert (len(answer["values"]), answer["more"]) == (20, True)
    answer = (await service.get("/api/state?limit=30")).json()
    assert (len(answer["values"]), answer["more"]) == (30, False)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("filter=a/%23/b", "whole level"),
        ("filter=" + "a/" * 128, "128 levels"),
        ("filter=", "is empty"),
        ("limit=0", "limit is a whole number"),
        ("limit=1e3", "limit is a whole number"),
        ("limit=99999999999999999999999", "limit is a whole number"),
        ("limit=%D9%A1", "limit is a whole number"),
    ],
)
async def test_what_is_not_understood_is_refused_in_words(service, query, words):
    answer = await service.get(f"/api/state?{query}")
    assert answer.status_code == 400
    assert words in answer.json()["error"]


async def test_payloads_that_are_no_json_are_told_as_they_are(service):
    kept = [
        Message("placeos/org/x", b"plain", "state", 1, True),
        Message("placeos/org/y", b"\xff\xfe", "state", 1, True),
    ]
    service.runtime.api._hear(kept)
    found = await values(service)
    assert found["placeos/org/x"]["payload_text"] == "plain"
    assert found["placeos/org/y"]["payload_base64"] == "//4="


# as it changes


class Events:
    """A stream of events, as it is read."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()

    async def __aiter__(self):
        name = ""
        async for line in self._lines:
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                yield name, json.loads(line[6:])

    async def take(self, count):
        found = []
        async with asyncio.timeout(20):
            async for event in self:
                found.append(event)
                if len(found) == count:
                    break
        return found


def stream(service, query="", name="admin"):
    headers = {**service.headers(name), "Accept": "text/event-stream"}
    return service.http.stream("GET", f"/api/state{query}", headers=headers)


async def test_a_stream_gives_the_present_and_then_each_change(service):
    await service.put(value("power", True), value("volume", 3))
    async with stream(service) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = Events(response)
        first = await events.take(2)
        assert {event["topic"] for _, event in first} == {topic("power"), topic("volume")}
        await service.put(value("volume", 4, time=2))
        ((_, event),) = await events.take(1)
        assert event["payload"] == {"time": 2, "value": "4"}
        await service.put(Cleared(ORG, (None, None, None), "sys", "drv", "Mod", 1, "volume"))
        ((_, event),) = await events.take(1)
        assert (event["topic"], event["payload"]) == (topic("volume"), None)


async def test_a_stream_may_begin_with_what_is_new(service):
    await service.put(value("power", True), value("volume", 3))
    async with stream(service, "?present=no&filter=%2B/%2B/state/%23") as response:
        events = Events(response)
        await until(lambda: len(service.runtime.api._streams) == 1)
        await service.put(Metadata(ORG, "sys", {"name": "A"}), value("volume", 4, time=2))
        ((_, event),) = await events.take(1)
        assert event["payload"]["value"] == "4"


async def test_a_stream_ends_with_the_service_and_says_so(tmp_path):
    async with running(tmp_path) as service, stream(service) as response:
        service.runtime.stop()
        ((name, event),) = await Events(response).take(1)
        assert (name, event["reason"]) == ("end", "the service is stopping")


async def test_a_stream_ends_with_the_key(service):
    async with stream(service) as response:
        service.keys.revoke("admin")
        ((name, event),) = await Events(response).take(1)
        assert (name, event["reason"]) == ("end", "what you signed in with has expired or was revoked")


async def test_a_stream_ends_with_the_key_while_the_present_is_told(service, monkeypatch):
    monkeypatch.setattr(state, "_LOOK_SECONDS", 0.0)
    await service.put(*(value(f"v{number}", number) for number in range(3)))
    found = service.runtime.api
    who = Identity(
        subject="a", name="a", org=ORG, role="admin", scopes=frozenset({"mqtt"}), expires=None, key_id="0" * 32
    )
    answers = state.State(found._broker, found._bounds, found._door, found._streams)
    stream = Stream(TopicMatcher(["#"]), who, found._bounds, narrowed=True)
    told = [event async for event in answers._events(stream, "#")]
    assert len(told) == 3
    assert told[-1].startswith(b"event: end")


async def test_streams_are_bounded(tmp_path):
    async with running(tmp_path, max_streams=1) as service, stream(service):
        await until(lambda: len(service.runtime.api._streams) == 1)
        answer = await service.get("/api/state", accept="text/event-stream")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert (await service.get("/api/state")).status_code == 200
    assert MAX_WAITING >= 1000


@pytest.mark.parametrize("payload", [b'{"a":1,\n\n "b":[2,\r\n3]}', b'{"a":1,\r "b":[2, 3]}', b'\r{"a":1,"b":[2,3]}\n'])
def test_an_event_is_one_line_whatever_its_payload_is_written_like(payload):
    event = event_of(Message("t", payload, "state", 1, True))
    assert event.endswith(b"\n\n")
    assert len(event.splitlines()) == 2
    assert json.loads(event[6:])["payload"] == {"a": 1, "b": [2, 3]}


def test_an_event_of_what_is_no_json_is_one_line():
    event = event_of(Message("t", b'{"a":\n', "state", 1, True))
    assert json.loads(event[6:])["payload_text"] == '{"a":\n'
    assert len(event.splitlines()) == 2


async def test_a_stream_that_is_not_read_keeps_the_newest_of_each_topic():
    waiting = Stream(TopicMatcher(["#"]), None, None, narrowed=False)
    for n in range(1000):
        waiting.put(f"t/{n % 3}", str(n).encode())
    assert await waiting.take(1) == [b"997", b"998", b"999"]
    assert waiting.conflated == 997


async def test_a_stream_behind_by_too_many_topics_drops_the_oldest(monkeypatch):
    monkeypatch.setattr("northbound.api.stream.MAX_WAITING", 2)
    waiting = Stream(TopicMatcher(["#"]), None, None, narrowed=False)
    for n in range(5):
        waiting.put(f"t/{n}", str(n).encode())
    assert await waiting.take(1) == [b"3", b"4"]
    assert waiting.dropped == 3


# who may ask for what


OPERATORS = ["/api/status", "/api/connectors", "/api/dead-letters"]


@pytest.mark.parametrize("path", ["/api/state", "/api/me", "/metrics", *OPERATORS])
async def test_nobody_is_told_anything_without_a_token(service, path):
    answer = await service.http.get(path, headers={"Authorization": ""})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="northbound"'


@pytest.mark.parametrize("path", ["/metrics", *OPERATORS])
async def test_a_user_is_told_nothing_of_the_service(service, path):
    assert (await service.get(path, "user")).status_code == 403
    assert (await service.get(path, "support")).status_code == 200
    assert (await service.get(path, "watcher")).status_code == 200


async def test_who_one_is_is_told(service):
    told = (await service.get("/api/me", "watcher")).json()
    assert told["identity"] == {
        "subject": "watcher", "name": "watcher", "org": ORG, "every_org": False, "role": "admin", "writes": False,
        "expires": None,
    }  # fmt: skip
    assert told["site"]["root"] == "placeos"
    assert told["site"]["value"] == "string"


async def test_a_state_of_another_organisation_is_neither_told_nor_streamed(service):
    await service.put(value("power", True), value("power", True, org="other"))
    assert set(await values(service)) == {topic("power")}
    assert set(await values(service, name="other")) == {topic("power", org="other")}
    assert (await service.get("/api/state?filter=placeos/other/%23")).status_code == 403
    async with stream(service, name="other") as response:
        events = Events(response)
        await events.take(1)
        await service.put(value("volume", 1), value("volume", 2, org="other"))
        ((_, event),) = await events.take(1)
        assert event["topic"] == topic("volume", org="other")


async def test_an_api_key_is_taken_in_its_own_header_too(service):
    answer = await service.http.get("/api/me", headers={"Authorization": "", "X-API-Key": service.tokens["user"]})
    assert answer.json()["identity"]["role"] == "user"


# the numbers


async def test_the_status_is_told_whole(service):
    await service.put(value("power", True))
    await until(lambda: service.status().counters.acknowledged == 1)
    told = (await service.get("/api/status")).json()
    assert told["healthy"]
    assert told["connectors"][0]["counters"]["acknowledged"] == 1
    assert told["sources"][0]["committed"] == 1
    assert told["api"]["retained"] >= 1
    assert (await service.get("/api/connectors")).json()["connectors"][0]["name"] == "out"


async def metrics(service, **headers):
    answer = await service.get("/metrics", **headers)
    assert answer.status_code == 200
    return answer


async def test_prometheus_reads_the_metrics(tmp_path):
    out = Destination()
    out.on_send = refuse
    async with running(tmp_path, out) as service:
        await service.put(*(value(str(n), n) for n in range(3)), value("poison", 1))
        await until(lambda: service.status().dead_letters == 1)
        await until(lambda: service.status().counters.acknowledged == 3)
        answer = await metrics(service)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = {
        (sample.name, sample.labels.get("connector") or sample.labels.get("source")): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.labels.get("state", "online") == "online"
    }
    connector = {
        name.removeprefix("northbound_connector_"): number for (name, of), number in found.items() if of == "out"
    }
    assert connector["matched_total"] == 4
    assert connector["success_total"] == 3
    assert connector["failed_total"] == 1
    assert connector["dead_letters"] == 1
    assert connector["state"] == 1
    for word in ("dropped_expired_total", "dropped_queue_full_total", "retried_total", "inflight", "queuing"):
        assert connector[word] == 0
    assert connector["last_acknowledged_age_seconds"] < 60
    assert found["northbound_source_committed_total", "in"] == 4
    assert found["northbound_store_ok", None] == 1
    assert found["northbound_api_retained", None] >= 4, "those below $SYS are among them"


def refuse(batch):
    failures = {i: Rejected("too odd") for i, message in enumerate(batch) if message.topic.endswith("poison")}
    if failures:
        raise PartialDelivery(failures)


async def test_openmetrics_is_given_to_who_asks_for_it(service):
    answer = await metrics(service, accept="application/openmetrics-text; version=1.0.0")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


async def test_metrics_may_be_open(tmp_path):
    async with running(tmp_path, open_metrics=True) as service:
        assert (await service.http.get("/metrics", headers={"Authorization": ""})).status_code == 200
        assert (await service.http.get("/api/status", headers={"Authorization": ""})).status_code == 401


async def test_health_needs_no_token_and_tells_no_words(tmp_path):
    out = Destination()

    def away():
        raise NotConnected("secret-host.example.com is away")

    async with running(tmp_path, out) as service:
        anybody = httpx.AsyncClient(base_url=service.url, trust_env=False)
        async with anybody:
            await until(lambda: service.status().state == "online")
            answer = await anybody.get("/healthz")
            assert (answer.status_code, answer.json()["status"]) == (200, "ok")
            out.on_open = away
            out.lose(NotConnected("secret-host.example.com hung up"))
            await until(lambda: service.status().state == "retrying")
            await service.put(value("power", True))
            answer = await anybody.get("/healthz")
            told = answer.json()["connectors"]["out"]
            assert answer.status_code == 503
            assert (told["healthy"], told["state"], told["backlog"]) == (False, "retrying", 1)
            assert told["oldest_age"] >= 0
            assert "secret-host" not in answer.text
            assert (await anybody.get("/healthz/live")).status_code == 200


@pytest.mark.parametrize(
    ("oldest", "acknowledged", "problem"),
    [
        (None, 1000.0, None),  # idle
        (1000.0, 1.0, None),  # behind, and catching up
        (1000.0, 301.0, "stalled"),
        (1000.0, None, "stalled"),
        (10.0, None, None),
    ],
)
def test_who_is_online_and_moves_nothing_stalls(oldest, acknowledged, problem):
    connector = ConnectorStatus(
        name="out", type="t", destination="d", state="online", counters=Counters(), oldest_age=oldest,
        last_acknowledged_age=acknowledged,
    )  # fmt: skip
    assert health.problem(connector, 300.0) == problem


# dead letters


@pytest.fixture
async def set_aside(tmp_path):
    """Give a service that has set four messages aside: three of our organisation, one of another."""
    out = Destination()
    out.taken = False

    def judge(batch):
        if not out.taken:
            raise Rejected("it is Tuesday")

    out.on_send = judge
    async with running(tmp_path, out) as service:
        await service.put(*(value(str(n), n) for n in range(3)), value("0", 1, org="other"))
        await until(lambda: on_disk(service) == 4)
        yield service


def on_disk(service):
    with DeadLetters(service.store, read_only=True) as letters:
        return letters.count()


async def listed(service, query="", name="admin"):
    answer = await service.get(f"/api/dead-letters{query}", name)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_what_was_set_aside_is_listed_with_its_reason(set_aside):
    told = await listed(set_aside)
    assert [row["topic"] for row in told["dead_letters"]] == [topic(str(n)) for n in range(3)]
    assert {row["reason"] for row in told["dead_letters"]} == {"it is Tuesday"}
    assert {row["connector"] for row in told["dead_letters"]} == {"out"}
    assert not told["more"]
    page = await listed(set_aside, "?limit=2")
    assert (len(page["dead_letters"]), page["more"]) == (2, True)
    rest = await listed(set_aside, f"?limit=2&after={page['dead_letters'][-1]['id']}")
    assert [row["topic"] for row in rest["dead_letters"]] == [topic("2")]
    assert [
        row["topic"]
        for row in (await listed(set_aside, "?topic=%2B/%2B/%2B/%2B/%2B/%2B/%2B/%2B/%2B/%2B/1"))["dead_letters"]
    ] == [topic("1")]
    assert (await listed(set_aside, "?connector=nobody"))["dead_letters"] == []
    assert (await set_aside.get("/api/dead-letters?topic=a/%23/b")).status_code == 400


async def test_one_is_shown_with_its_payload(set_aside):
    first = (await listed(set_aside))["dead_letters"][0]
    shown = (await set_aside.get(f"/api/dead-letters/{first['id']}")).json()
    assert json.loads(shown["payload_text"]) == {"time": 1, "value": "0"}
    assert (shown["kind"], shown["replays_failed"]) == ("state", 0)


async def test_what_is_of_another_organisation_is_not_there(set_aside):
    (theirs,) = (await listed(set_aside, name="other"))["dead_letters"]
    assert theirs["topic"] == topic("0", org="other")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/replay")):
        answer = await set_aside.http.request(method, f"/api/dead-letters/{theirs['id']}{path}")
        assert answer.status_code == 404
    answer = await set_aside.http.post("/api/dead-letters/drop", json={"ids": [theirs["id"]]})
    assert answer.json() == {"dropped": []}
    answer = await set_aside.http.post("/api/dead-letters/drop", json={"all": True})
    assert len(answer.json()["dropped"]) == 3
    assert (await listed(set_aside, name="other"))["dead_letters"] == [theirs]


async def test_replay_sends_again(set_aside):
    set_aside.out.taken = True
    first, second, third = (row["id"] for row in (await listed(set_aside))["dead_letters"])
    assert (await set_aside.http.post(f"/api/dead-letters/{first}/replay")).json() == {"replay": [first]}
    assert (await set_aside.http.post("/api/dead-letters/replay", json={"ids": [second]})).json() == {
        "replay": [second]
    }
    await until(lambda: on_disk(set_aside) == 2)
    assert [row["id"] for row in (await listed(set_aside))["dead_letters"]] == [third]
    assert (await set_aside.http.delete(f"/api/dead-letters/{third}")).json() == {"dropped": [third]}
    assert (await set_aside.get(f"/api/dead-letters/{third}")).status_code == 404
    await set_aside.runtime.api._signin.audit.write()
    noted = [json.loads(line) for line in set_aside.store.with_name("store.db.access.jsonl").read_text().splitlines()]
    assert [(row["happened"], row["subject"], row["topic"]) for row in noted if "dead letters" in row["happened"]] == [
        ("dead letters replayed", "admin", str(first)),
        ("dead letters replayed", "admin", str(second)),
        ("dead letters dropped", "admin", str(third)),
    ]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/replay"), ("POST", "/drop"), ("POST", "/1/replay"), ("DELETE", "/1")],
)
async def test_who_may_not_write_changes_nothing(set_aside, method, path):
    for name in ("watcher", "user"):
        answer = await set_aside.http.request(
            method, f"/api/dead-letters{path}", headers=set_aside.headers(name), json={"all": True}
        )
        assert answer.status_code == 403
    assert len((await listed(set_aside))["dead_letters"]) == 3


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "say which"),
        (b"{}", "say which"),
        (b'{"all":true,"connector":"out"}', "say which"),
        (b'{"all":"yes"}', "Expected `bool`"),
        (b'{"every":true}', "unknown field"),
        (b"[", "not what is described"),
        (b"[" * 100_000, "not what is described"),
        (b'{"ids":[1.5]}', "Expected `int`"),
    ],
)
async def test_a_body_that_is_not_understood_changes_nothing(set_aside, body, words):
    answer = await set_aside.http.post("/api/dead-letters/drop", content=body)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert len((await listed(set_aside))["dead_letters"]) == 3


async def test_a_body_is_bounded(tmp_path):
    async with running(tmp_path, max_body=1024) as service:

        async def chunks():
            for _ in range(3):
                yield b" " * 512

        for content in (b" " * 1025, chunks()):
            answer = await service.http.post("/api/dead-letters/drop", content=content)
            assert answer.status_code == 413
            assert "at most 1024 bytes" in answer.json()["error"]


# the description


def test_each_route_is_described_and_nothing_else():
    paths = openapi.description()["paths"]
    described = {(path, method) for path, item in paths.items() for method in item if method != "parameters"}
    assert described == routes()


def routes():
    class Nothing:
        def __getattr__(self, name):
            return self

    found = app.routes(Nothing(), app.Desk(Options, None))
    return {
        (route.path.replace("{id:int}", "{id}"), method.lower())
        for route in found
        for method in route.methods - {"HEAD"}
    }


class Options:
    requests_per_second = 1


def test_every_reference_of_the_description_leads_somewhere():
    description = openapi.description()
    text = json.dumps(description)
    references = {part.partition('"')[0] for part in text.split('"$ref": "#/')[1:]}
    assert references
    for reference in references:
        at = description
        for name in reference.split("/"):
            at = at[name]


async def test_answers_are_what_the_description_says(set_aside):
    schemas = openapi.description()["components"]["schemas"]
    letter = (await listed(set_aside))["dead_letters"][0]
    shown = (await set_aside.get(f"/api/dead-letters/{letter['id']}")).json()
    for row in (letter, shown):
        assert set(schemas["DeadLetter"]["required"]) <= set(row) <= set(schemas["DeadLetter"]["properties"])
    status = (await set_aside.get("/api/connectors")).json()["connectors"][0]
    assert set(status) == set(schemas["ConnectorStatus"]["properties"])


async def test_the_description_needs_no_token(service):
    answer = await service.http.get("/api/openapi.json", headers={"Authorization": ""})
    assert answer.json()["openapi"] == "3.1.0"


# the pages


async def test_the_dashboard_is_given_with_a_policy_and_asked_for_once(service):
    answer = await service.http.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-encoding"] == "gzip"
    plain = await service.http.get("/", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == answer.content
    again = await service.http.get("/", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for path in pages.Pages().paths:
        assert (await service.http.get(path)).status_code == 200, path


@pytest.mark.parametrize(
    "path", ["/", "/api/me", "/api/nothing", "/healthz", "/api/mqtt/", "/../../etc/passwd", "/style.css"]
)
async def test_every_answer_carries_the_policy(service, path):
    answer = await service.http.get(path)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "strict-transport-security" not in answer.headers, "it counts over TLS only"


async def test_mqtt_without_a_websocket_is_told_what_to_do(service):
    for path in ("/api/mqtt", "/api/mqtt/", "/api/mqtt/x", "/mqtt"):
        answer = await service.http.get(path)
        assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert (await service.http.get("/api/mqttx")).status_code == 404


async def test_what_is_not_there_or_not_allowed_is_said_in_json(service):
    assert (await service.http.get("/api/nothing")).json() == {"error": "Not Found"}
    answer = await service.http.delete("/api/state")
    assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
