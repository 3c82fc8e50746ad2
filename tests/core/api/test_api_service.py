"""The API's life beside the delivery: start, reload, failure, stop; its bounds, proxies, TLS; what clients publish."""

import asyncio
import json
import logging
import os
import socket
import ssl
import stat
from contextlib import asynccontextmanager

import httpx
import pytest
import trustme
from msgspec import structs
from tests.support.api import ORG, QUICK, running, topic, value
from tests.support.fakes import Destination, configuration, connector, source
from tests.support.intake import until
from tests.support.webmqtt import web_client
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from northbound import mqtt
from northbound.api import local, service
from northbound.api.answers import Rate
from northbound.api.identity import Identity
from northbound.config import SiteOptions
from northbound.errors import NorthboundError
from northbound.events import Cleared
from northbound.loading import load_text
from northbound.registry import Registry
from northbound.runtime import Runtime
from northbound.serving import ApiOptions

LEAST = """
[sources.in]
type = "jsonl"
path = "-"
[connectors.out]
type = "file"
path = "out.jsonl"
"""


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(service, "_FIRST_PAUSE_SECONDS", 0.01)


def options(**api) -> ApiOptions:
    return ApiOptions(**{**QUICK, **api})


async def reload(running, api: ApiOptions | None) -> None:
    await running.runtime.reload(structs.replace(running.runtime.configuration, api=api))


async def answers(url: str, path: str = "/healthz/live", **http) -> int | None:
    """Return the status of an answer, ``None`` where nobody answers."""
    async with httpx.AsyncClient(trust_env=False, **http) as client:
        try:
            return (await client.get(url + path)).status_code
        except httpx.TransportError:
            return None


# start and stop


async def test_this_machines_token_is_for_the_owner_alone_and_goes_with_the_service(tmp_path):
    async with running(tmp_path) as found:
        path = local.entrance_path(found.store)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        entrance = local.read(found.store)
        assert (entrance.url, entrance.pid) == (found.url, os.getpid())
        assert entrance.token not in repr(entrance)
        answer = await found.http.get("/api/me", headers={"Authorization": f"Bearer {entrance.token}"})
        assert answer.json()["identity"]["every_org"]
        answer = await found.http.get("/api/me", headers={"Authorization": f"Bearer {entrance.token[:-1]}x"})
        assert answer.status_code == 401
        async with web_client(found.ws) as client:
            assert (await client.connect(username=entrance.token)).reason == 0
            assert await client.subscribe("#", "$SYS/#") == (0, 0)
    assert not path.exists()
    with pytest.raises(NorthboundError, match="no service with an API runs"):
        local.read(found.store)


async def test_the_token_is_another_at_every_start(tmp_path):
    tokens = set()
    for _ in range(2):
        async with running(tmp_path) as found:
            tokens.add(local.read(found.store).token)
    assert len(tokens) == 2


def test_nobody_is_this_machine_by_being_called_so():
    bounds = local.Bounds(Nothing())
    namesake = Identity(**structs.asdict(local.LOCAL))
    assert namesake == local.LOCAL
    assert not bounds.receive(namesake, "a")
    assert bounds.receive(local.LOCAL, "a")
    assert bounds.rights(namesake) != bounds.rights(local.LOCAL)


class Nothing:
    def subscribe(self, who, filter):  # noqa: A002 - the contract's
        return "refused"

    def receive(self, who, topic):
        return False

    def publish(self, who, topic):
        return False


async def test_an_address_that_is_taken_is_said_at_the_start(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for key in ("listen", "mqtt_listen"):
            with pytest.raises(NorthboundError, match=rf"\[api\] cannot listen .*{address}"):
                async with running(tmp_path, **{key: address}):
                    pass


async def test_with_once_nobody_listens(tmp_path):
    async def read(intake):
        await (await intake.submit([value("power", True)])).committed()

    out = Destination()
    config = configuration(tmp_path, connectors=[connector("out", out)], sources=[source("in", read)])
    runtime = Runtime(structs.replace(config, api=options()))
    await runtime.run(once=True)
    assert len(out.acknowledged) == 1
    assert not local.entrance_path(config.store.path).exists()


async def test_clients_are_told_that_the_service_stops(tmp_path):
    async with running(tmp_path, mqtt_listen="127.0.0.1:0") as found:
        async with web_client(found.ws) as client:
            await client.connect(username=found.tokens["user"])
            found.runtime.stop()
            assert (await client.expect(mqtt.Disconnect)).reason == 139  # MQTT 5.0, 3.14.2.1: server shutting down
            assert await client.read() is None
        await found.task


# reload


async def test_a_reload_that_changes_nothing_touches_no_connection(tmp_path):
    async with running(tmp_path) as found, web_client(found.ws) as client:
        await client.connect(username=found.tokens["user"])
        await client.subscribe("#")
        await reload(found, found.runtime.configuration.api)
        await found.put(value("power", True))
        assert (await client.until(topic("power")))[-1].topic == topic("power")


async def test_a_reload_of_rules_counts_for_who_is_connected(tmp_path):
    async with running(tmp_path) as found, web_client(found.ws) as client:
        await client.connect(username=found.tokens["user"])
        await client.subscribe("#")
        await found.put(value("power", True))
        await client.until(topic("power"))
        address = found.runtime.api.addresses
        rules = [{"roles": ["user"], "read": ["{root}/{org}/state/+/+/+/+/+/+/+/volume"]}]
        await reload(found, options(access={"default": False, "rules": rules}))
        await until(lambda: not found.runtime.api._changed.is_set())
        await found.put(value("power", False), value("volume", 3))
        assert [message.topic for message in await client.until(topic("volume"))] == [topic("volume")]
        assert found.runtime.api.addresses == address
        assert (await found.get("/api/state?filter=placeos/org/metadata/%23", "user")).status_code == 403


async def test_a_reload_of_rules_counts_for_a_stream_that_is_open(tmp_path):
    headers = {"Accept": "text/event-stream"}
    async with running(tmp_path) as found:
        url = "/api/state?filter=placeos/org/%23"
        async with found.http.stream("GET", url, headers={**headers, **found.headers("user")}) as response:
            lines = response.aiter_lines()
            await until(lambda: len(found.runtime.api._streams) == 1)
            rules = [{"roles": ["user"], "read": ["{root}/{org}/state/+/+/+/+/+/+/+/volume"]}]
            await reload(found, options(access={"default": False, "rules": rules}))
            await until(lambda: not found.runtime.api._changed.is_set())
            await found.put(value("power", False), value("volume", 3))
            async for line in lines:
                if line.startswith("data: "):
                    assert json.loads(line[6:])["topic"] == topic("volume")
                    break


async def test_a_reload_may_move_close_and_open_the_api(tmp_path):
    async with running(tmp_path) as found:
        await found.put(value("power", True))
        await reload(found, options(max_streams=7))
        moved = found.runtime.api.url
        assert moved != found.url
        assert await answers(found.url) is None
        assert await answers(moved) == 200
        await reload(found, None)
        assert await answers(moved) is None
        assert not local.entrance_path(found.store).exists()
        await found.put(value("volume", 3))
        await reload(found, options())
        async with httpx.AsyncClient(base_url=found.runtime.api.url, trust_env=False) as client:
            rows = (await client.get("/api/state", headers=found.headers("user"))).json()["values"]
        assert {row["topic"] for row in rows} == {topic("power"), topic("volume")}
        assert len(found.out.acknowledged) == 2, "delivery went on"


async def test_a_reload_that_cannot_listen_ends_no_delivery(tmp_path, caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with running(tmp_path) as found:
            await reload(found, options(listen=f"127.0.0.1:{taken.getsockname()[1]}"))
            assert found.runtime.api is None
            assert "[api] cannot listen" in caplog.text
            await found.put(value("power", True))
            await until(lambda: found.out.acknowledged)
            await reload(found, options())
            assert await answers(found.runtime.api.url) == 200


# failure


async def test_an_api_that_fails_begins_again_and_ends_no_delivery(tmp_path, monkeypatch, caplog):
    failed = []
    true = service.Broker.run

    async def failing(self):
        if not failed:
            failed.append(1)
            raise RuntimeError("a defect")
        await true(self)

    monkeypatch.setattr(service.Broker, "run", failing)
    with caplog.at_level(logging.ERROR):
        async with running(tmp_path) as found:
            await until(lambda: "the API failed" in caplog.text and found.runtime.api.error is None)
            await found.put(value("power", True))
            await until(lambda: found.out.acknowledged)
            assert local.read(found.store).url == found.runtime.api.url
            assert await answers(found.runtime.api.url) == 200
    assert "the API failed" in caplog.text


async def test_an_api_that_cannot_take_in_what_is_committed_begins_again_and_is_whole(tmp_path, monkeypatch, caplog):
    true = service.Broker.publish
    failing = True

    def publish(self, messages):
        if failing:
            raise ZeroDivisionError
        true(self, messages)

    async with running(tmp_path) as found:
        await found.put(value("power", True))
        monkeypatch.setattr(service.Broker, "publish", publish)
        await found.put(value("volume", 3))
        failing = False
        await until(
            lambda: "the API failed" in caplog.text and found.runtime.api.addresses and not found.runtime.api.error
        )
        await found.put(value("input", "hdmi"))
        async with httpx.AsyncClient(base_url=found.runtime.api.url, trust_env=False) as client:
            rows = (await client.get("/api/state", headers=found.headers("user"))).json()["values"]
        assert {row["topic"] for row in rows} == {topic("power"), topic("volume"), topic("input")}
        await until(lambda: len(found.out.acknowledged) == 3)


async def test_what_is_committed_while_the_present_is_loaded_is_never_overtaken_by_it(tmp_path, monkeypatch):
    true = service.present
    async with running(tmp_path) as found:
        await found.put(*(value(str(n), "old") for n in range(5)))

        async def slow(path):
            async for messages in true(path):
                await found.put(
                    value("3", "new", time=2), Cleared(ORG, (None, None, None), "sys", "drv", "Mod", 1, "4")
                )
                yield messages

        monkeypatch.setattr(service, "present", slow)
        await reload(found, options(max_streams=7))
        async with httpx.AsyncClient(base_url=found.runtime.api.url, trust_env=False) as client:
            rows = (await client.get("/api/state", headers=found.headers("user"))).json()["values"]
        assert {row["topic"]: row["payload"]["value"] for row in rows} == {
            **{topic(str(n)): '"old"' for n in range(3)},
            topic("3"): '"new"',
        }


# bounds


def test_a_rate_gives_two_seconds_at_once_and_then_what_it_says():
    rate = Rate(10)
    assert [rate.wait("a", 0.0) for _ in range(20)] == [0.0] * 20
    assert rate.wait("a", 0.0) == pytest.approx(0.1)
    assert rate.wait("b", 0.0) == 0
    assert rate.wait("a", 0.1) == pytest.approx(0.0, abs=1e-9)
    assert rate.wait("a", 0.1) > 0


def test_an_ipv6_client_is_its_network():
    rate = Rate(0.5)
    assert rate.wait("2001:db8::1", 0.0) == 0
    assert rate.wait("2001:db8::2", 0.0) > 0
    assert rate.wait("2001:db8:0:1::1", 0.0) == 0
    assert rate.wait("fe80::1%eth0", 0.0) == 0


def test_whose_rate_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr("northbound.api.answers._REMEMBERED", 10)
    rate = Rate(1)
    for n in range(100):
        rate.wait(str(n), 0.0)
    assert len(rate._full_at) == 10


async def test_too_many_requests_are_refused_with_the_time_to_wait(tmp_path):
    async with running(tmp_path, requests_per_second=0.5) as found:
        assert (await found.get("/api/me")).status_code == 200
        answer = await found.get("/api/me")
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        await found.put(value("power", True))
        await until(lambda: found.out.acknowledged)


@asynccontextmanager
async def opened(url):
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def test_who_opens_and_says_nothing_is_hung_up_on_and_who_speaks_mqtt_is_not(tmp_path):
    async with (
        running(tmp_path, request_timeout="300ms") as found,
        opened(found.url) as (reader, writer),
        web_client(found.ws) as client,
    ):
        await client.connect(username=found.tokens["user"])
        writer.write(b"GET /api/me HTTP/1.1\r\nhost: x\r\n")
        try:
            async with asyncio.timeout(20):
                assert await reader.read() == b""
        except ConnectionResetError:
            pass
        await client.send(mqtt.Pingreq())
        await client.expect(mqtt.Pingresp)


async def test_connections_are_bounded(tmp_path):
    async with running(tmp_path, max_connections=1) as found, web_client(found.ws) as client:
        await client.connect(username=found.tokens["user"])
        async with opened(found.url) as (reader, _):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        await client.send(mqtt.Pingreq())
        await client.expect(mqtt.Pingresp)


async def test_a_websocket_elsewhere_is_refused(tmp_path):
    async with running(tmp_path) as found:
        with pytest.raises(Exception, match="HTTP 403"):
            async with web_client(found.ws.replace("/api/mqtt/", "/api/state")):
                pass


# other origins, and proxies


async def test_pages_of_configured_origins_may_ask(tmp_path):
    async with running(tmp_path, origins=["https://apps.example.com"]) as found:
        asking = {"origin": "https://apps.example.com", "access-control-request-method": "GET"}
        answer = await found.http.options(
            "/api/state", headers={**asking, "access-control-request-headers": "authorization"}
        )
        assert answer.headers["access-control-allow-origin"] == "https://apps.example.com"
        answer = await found.http.options("/api/state", headers={**asking, "origin": "https://evil.example.com"})
        assert "access-control-allow-origin" not in answer.headers
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("trusted", [True, False])
async def test_only_a_known_proxy_says_who_asks(tmp_path, trusted):
    proxies = ["127.0.0.0/8"] if trusted else []
    async with running(tmp_path, requests_per_second=0.5, trusted_proxies=proxies) as found:
        answers = [await found.get("/healthz/live", **{"x-forwarded-for": f"192.0.2.{n}"}) for n in range(4)]
        assert [answer.status_code for answer in answers] == ([200] * 4 if trusted else [200, 429, 429, 429])


async def test_a_known_proxy_says_that_tls_ended_there(tmp_path):
    async with running(tmp_path, trusted_proxies=["127.0.0.1"]) as found:
        answer = await found.get("/healthz/live", **{"x-forwarded-proto": "https"})
        assert "strict-transport-security" in answer.headers


# TLS


def issued(ca: trustme.CA, folder) -> dict[str, object]:
    certificate = ca.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    return {"certificate": folder / "cert.pem", "private_key": folder / "key.pem"}


async def test_tls_and_a_certificate_that_is_renewed_by_a_reload(tmp_path):
    old, new = trustme.CA(), trustme.CA()
    files = issued(old, tmp_path)
    async with running(tmp_path, mqtt_listen="127.0.0.1:0", **files) as found:
        assert found.url.startswith("https://")
        trusting = {}
        for name, ca in (("old", old), ("new", new)):
            trusting[name] = ssl.create_default_context()
            ca.configure_trust(trusting[name])
        assert await answers(found.url, verify=trusting["old"]) == 200
        assert await answers(found.url, verify=trusting["new"]) is None
        host, port = found.runtime.api.mqtt_addresses[0]
        _, writer = await asyncio.open_connection(host, port, ssl=trusting["old"])
        writer.close()
        issued(new, tmp_path)
        await reload(found, found.runtime.configuration.api)
        assert await answers(found.url, verify=trusting["new"]) == 200
        (tmp_path / "cert.pem").write_text("damaged")
        await reload(found, found.runtime.configuration.api)
        assert await answers(found.url, verify=trusting["new"]) == 200, "the one in use goes on"


async def test_a_certificate_that_cannot_be_used_is_said_at_the_start(tmp_path):
    (tmp_path / "cert.pem").write_text("x")
    with pytest.raises(NorthboundError, match=r"\[api\] certificate and private_key cannot be used"):
        async with running(tmp_path, certificate=tmp_path / "cert.pem", private_key=tmp_path / "cert.pem"):
            pass


# what clients publish


async def publish(found, name: str, state: str, payload: bytes) -> int:
    async with web_client(found.ws) as client:
        await client.connect(username=found.tokens[name])
        return await client.publish(topic(state), payload, retain=True)


async def test_what_an_admin_publishes_joins_the_live_tree_and_stays_here(tmp_path):
    async with (
        running(tmp_path) as found,
        found.http.stream("GET", "/api/state", headers={"Accept": "text/event-stream"}) as response,
    ):
        await until(lambda: len(found.runtime.api._streams) == 1)
        assert await publish(found, "admin", "power", b'{"time":1,"value":"true"}') < 128
        rows = (await found.get("/api/state")).json()["values"]
        assert [row["topic"] for row in rows] == [topic("power")]
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                assert json.loads(line[6:])["topic"] == topic("power")
                break
        await found.put(value("volume", 1))
        await until(lambda: found.out.acknowledged)
        assert [message.source_topic for message in found.out.acknowledged] == [topic("volume")]


async def test_what_an_admin_publishes_may_go_north(tmp_path):
    async with running(tmp_path, publish="north") as found:
        assert await publish(found, "admin", "power", b'{"time":1,"value":"true"}') == 0
        await until(lambda: found.out.acknowledged)
        sent = found.out.acknowledged[0]
        assert (sent.source_topic, sent.payload) == (topic("power"), b'{"time":1,"value":"true"}')
        assert [row["topic"] for row in (await found.get("/api/state")).json()["values"]] == [topic("power")]
        assert await publish(found, "user", "volume", b"1") == 135  # MQTT 5.0, 3.4.2.1: not authorised


async def test_what_goes_north_passes_the_privacy_rules(tmp_path):
    async with running(tmp_path, publish="north") as found:
        privacy = load_text(f'[privacy]\nsecret = "{"s" * 32}"\n{LEAST}', Registry(), base=tmp_path)
        assert privacy.privacy.all_rules
        mixed = structs.replace(
            found.runtime.configuration, privacy=privacy.privacy, detectors=privacy.detectors, site=SiteOptions()
        )
        await found.runtime.reload(mixed)
        assert await publish(found, "admin", "organiser", b'{"time":1,"value":"\\"bob@example.com\\""}') == 0
        await until(lambda: found.out.acknowledged)
        assert b"bob@" not in found.out.acknowledged[0].payload
        assert await publish(found, "admin", "odd", b"what no rule can read") == 131  # implementation specific error
        more = b'{"time":1,"value":"1","note":"bob@example.com"}'
        assert await publish(found, "admin", "odd", more) == 131
        twice = rb'{"value": "{\"a\":\"bob@example.com\",\"a\":1}", "time": 1}'
        assert await publish(found, "admin", "twice", twice) == 0
        await until(lambda: len(found.out.acknowledged) == 2)
        assert found.out.acknowledged[1].payload == rb'{"time":1,"value":"{\"a\":1}"}'


# options


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ('listen = "8080"', "api.listen", "write host:port"),
        ('listen = "::1:8080"', "api.listen", "write host:port"),
        ("listen = []", "api.listen", "name at least one"),
        ('certificate = "a.pem"', "api", "go together"),
        ('origins = ["https://a.example.com/"]', "api.origins.0", "write an origin"),
        ('trusted_proxies = ["proxy"]', "api.trusted_proxies.0", "does not appear to be"),
        ('access = { rules = [{ issuers = ["x"], read = ["a"] }] }', "api", "there is no [api.auth.issuers.x]"),
        ('publish = "south"', "api.publish", "'live' or 'north'"),
        ('lisen = "127.0.0.1:1"', "api.lisen", "did you mean 'listen'"),
        ('auth = { api_keys_from = "nobody" }', "api.auth.api_keys_from", "no source is named 'nobody'"),
        ('auth = { api_keys_from = "in" }', "api.auth.api_keys_from", "knows no API keys"),
    ],
)
def test_what_is_wrong_with_the_options_is_said(tmp_path, text, key, words):
    with pytest.raises(NorthboundError) as caught:
        load_text(f"[api]\n{text}\n{LEAST}", Registry(), base=tmp_path)
    assert any(problem.key == key and words in str(problem) for problem in caught.value.problems), caught.value.problems


def test_proxies_are_those_of_the_networks_named():
    options = ApiOptions(trusted_proxies=["10.0.0.5/8", "192.0.2.1", "2001:db8::1/64"])
    trusted = ProxyHeadersMiddleware(None, list(options.trusted_proxies)).trusted_hosts
    assert all(host in trusted for host in ("10.0.0.5", "10.9.9.9", "192.0.2.1", "2001:db8::2"))
    assert not any(host in trusted for host in ("11.0.0.1", "192.0.2.2", "2001:db8:1::1"))


def test_without_a_table_there_is_no_api(tmp_path):
    assert load_text(LEAST, Registry(), base=tmp_path).api is None
    assert load_text(f"[api]\n{LEAST}", Registry(), base=tmp_path).api.listen == ("127.0.0.1:8080",)


# what sources serve here


def http_source(tmp_path, **keys) -> str:
    told = "".join(f"{name} = {json.dumps(text)}\n" for name, text in {"token": "t" * 32, **keys}.items())
    return f'[sources.push]\ntype = "http"\non_api = true\n{told}[connectors.out]\ntype = "file"\npath = "out.jsonl"\n'


async def test_an_http_source_is_served_where_the_api_listens(tmp_path):
    text = f'[api]\nlisten = "127.0.0.1:0"\n{http_source(tmp_path)}'
    runtime = Runtime(load_text(text, Registry(), base=tmp_path))
    started = asyncio.Event()
    task = asyncio.create_task(runtime.run(started=started))
    await started.wait()
    line = {
        "kind": "state",
        "org": ORG,
        "system": "sys",
        "driver": "drv",
        "module": "Mod",
        "index": 1,
        "state": "power",
        "value": True,
    }
    async with httpx.AsyncClient(base_url=runtime.api.url, trust_env=False) as client:
        await until(lambda: "/api/events" in runtime._mounted)
        answer = await client.post(
            "/api/events", content=json.dumps(line), headers={"Authorization": f"Bearer {'t' * 32}"}
        )
        assert (answer.status_code, answer.json()) == (200, {"accepted": 1})
        assert "content-security-policy" in answer.headers
        assert (await client.post("/api/events", content=b"{}")).status_code == 401
        token = local.read(tmp_path / "northbound.db").token
        rows = (await client.get("/api/state", headers={"Authorization": f"Bearer {token}"})).json()["values"]
        assert [row["topic"] for row in rows] == [topic("power")]
        await reload_runtime(runtime, sources=())
        assert (await client.post("/api/events", content=b"{}")).status_code == 404
    runtime.stop()
    await task


async def reload_runtime(runtime, **changes) -> None:
    await runtime.reload(structs.replace(runtime.configuration, **changes))


async def test_a_source_without_an_api_says_what_to_do(tmp_path):
    runtime = Runtime(load_text(http_source(tmp_path), Registry(), base=tmp_path))
    started = asyncio.Event()
    task = asyncio.create_task(runtime.run(started=started))
    await started.wait()
    await until(lambda: runtime.status().sources and runtime.status().sources[0].error)
    assert "add an [api] table" in runtime.status().sources[0].error
    runtime.stop()
    await task


def test_on_the_api_a_source_needs_a_token(tmp_path):
    text = '[api]\n[sources.push]\ntype = "http"\non_api = true\n[connectors.out]\ntype = "file"\npath = "out.jsonl"\n'
    with pytest.raises(NorthboundError) as caught:
        load_text(text, Registry(), base=tmp_path)
    assert "set a token" in str(caught.value.problems)


async def test_the_bridge_tells_of_itself_below_sys(tmp_path):
    async with running(tmp_path, mqtt={"system_interval": "50ms"}) as found, web_client(found.ws) as client:
        await client.connect(username=found.tokens["admin"])
        await client.subscribe("$SYS/bridge/#")
        messages = await client.until("$SYS/bridge/connectors/out/dead_letters")
        assert {message.topic.rpartition("/")[2] for message in messages} >= {"state", "backlog", "acknowledged"}


async def test_who_reads_nothing_of_a_stream_is_hung_up_on_and_harms_nobody(tmp_path):
    async with running(tmp_path, request_timeout="300ms") as found:
        host, port = found.url.removeprefix("http://").split(":")
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(deaf, (host, int(port)))
        lines = [
            "GET /api/state HTTP/1.1",
            "host: x",
            "accept: text/event-stream",
            f"x-api-key: {found.tokens['admin']}",
        ]
        await loop.sock_sendall(deaf, "\r\n".join([*lines, "", ""]).encode())
        await until(lambda: len(found.runtime.api._streams) == 1)
        for turn in range(200):
            await found.put(*(value(f"s{n}", "x" * 1000, time=turn) for n in range(100)))
            if not len(found.runtime.api._streams):
                break
        await until(lambda: len(found.runtime.api._streams) == 0)
        deaf.close()
        assert (await found.get("/api/me")).status_code == 200
        await until(lambda: found.status().backlog == 0)
