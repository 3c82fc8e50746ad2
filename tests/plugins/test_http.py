"""The http source, over real sockets."""

import asyncio
import gzip
import json
import socket
import ssl
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.support.intake import RecordingIntake, running, until

from northbound import NorthboundError, StoreFull
from northbound.hosting.server import _FULL
from northbound.loading import load_file
from northbound.registry import Registry
from northbound_http import HttpSource, Options
from northbound_http.bucket import Bucket

HERE = Path(__file__).parents[2] / "plugins" / "northbound_http"
TOKEN = "a-token-that-nobody-guesses"
LOCAL = "127.0.0.1:0"
IPV6 = socket.has_ipv6 and Path("/proc/net/if_inet6").exists()


def line(number, **changes):
    event = {"kind": "state", "building": "bld-1", "system": "sys-7", "driver": "dep-1", "module": "Sensor", "index": 1,
             "state": "temperature", "value": number} | changes  # fmt: skip
    return json.dumps(event).encode() + b"\n"


def lines(*numbers):
    return b"".join(map(line, numbers))


def values(messages):
    return [json.loads(json.loads(message.payload)["value"]) for message in messages]


@asynccontextmanager
async def serving(intake=None, *, listen=LOCAL, verify=True, scheme="http", **options):
    """Serve; gives a client, the intake and the port."""
    intake = intake or RecordingIntake()
    source = HttpSource(Options(listen=listen, **options), name="push")
    async with running(source, intake) as task:
        await until(lambda: source.addresses or task.done())
        if task.done():
            await task
        port = source.addresses[0].port
        async with httpx.AsyncClient(base_url=f"{scheme}://127.0.0.1:{port}", verify=verify, timeout=10) as client:
            client.intake, client.port, client.source = intake, port, source
            yield client


@asynccontextmanager
async def raw(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


HEAD = b"POST /api/events HTTP/1.1\r\nhost: x\r\n"


# what is accepted


async def test_events_are_accepted_when_they_are_on_disk():
    async with serving(RecordingIntake(automatic=False)) as client:
        posting = asyncio.create_task(client.post("/api/events", content=lines(1, 2, 3)))
        await until(lambda: client.intake.batches)
        await asyncio.sleep(0.05)
        assert not posting.done()
        client.intake.commit()
        answer = await posting
    assert (answer.status_code, answer.json()) == (200, {"accepted": 3})
    assert answer.headers["content-type"] == "application/json"
    assert "server" not in answer.headers
    assert values(client.intake.stored) == [1, 2, 3]


async def test_what_a_body_may_look_like():
    async with serving() as client:
        for content, accepted in [
            (b"", 0),
            (b"\n\r\n  \n", 0),
            (line(1).rstrip(), 1),
            (b"\xef\xbb\xbf" + lines(1, 2).replace(b"\n", b"\r\n\r\n"), 2),
        ]:
            answer = await client.post("/api/events", content=content)
            assert (answer.status_code, answer.json()) == (200, {"accepted": accepted})
        for kind in ("application/x-ndjson", "application/jsonl", "application/json; charset=utf-8", "text/plain"):
            answer = await client.post("/api/events", content=line(1), headers={"content-type": kind})
            assert answer.status_code == 200


async def test_a_large_body_is_handed_in_by_batches_in_order():
    async with serving() as client:
        answer = await client.post("/api/events", content=lines(*range(7001)))
        assert answer.json() == {"accepted": 7001}
        assert values(client.intake.stored) == list(range(7001))
        assert max(map(len, client.intake.batches)) == 2000


async def test_chunked_bodies_are_taken_whatever_the_chunks():
    async def chunks():
        whole = lines(*range(50))
        for start in range(0, len(whole), 37):
            yield whole[start : start + 37]

    async with serving() as client:
        answer = await client.post("/api/events", content=chunks())
        assert answer.json() == {"accepted": 50}


async def test_clients_run_at_the_same_time_and_each_keeps_its_order():
    async with serving(RecordingIntake(automatic=False)) as client:
        posting = [
            asyncio.create_task(client.post("/api/events", content=lines(*range(start, start + 3000))))
            for start in range(0, 24_000, 3000)
        ]
        await until(lambda: len(client.intake.events) == 24_000)
        client.intake.commit()
        assert [answer.json() for answer in await asyncio.gather(*posting)] == [{"accepted": 3000}] * 8
    stored = values(client.intake.stored)
    for start in range(0, 24_000, 3000):
        assert [value for value in stored if start <= value < start + 3000] == list(range(start, start + 3000))


async def test_lines_that_are_refused_are_told_and_the_rest_is_taken():
    body = line(1) + b"nonsense\n\n" + line(2, index=0) + line("x" * 2000) + line(3) + b"\xff"
    async with serving(max_line=1000) as client:
        answer = await client.post("/api/events", content=body)
        told = answer.json()
        assert answer.status_code == 207
        assert told["accepted"] == 2
        assert [item["line"] for item in told["refused"]] == [2, 4, 5, 7]
        assert told["refused_total"] == 4
        assert "longer than 1000 bytes" in told["refused"][2]["reason"]
        assert values(client.intake.stored) == [1, 3]
        # What the engine refused it has counted itself.
        assert [where for where, _ in client.intake.refusals] == [f"line {n} of a request" for n in (2, 5, 7)]
        assert len(client.intake.engine_refused) == 1

        answer = await client.post("/api/events", content=b"nonsense\n")
        assert answer.status_code == 400
        assert answer.json()["refused"][0]["line"] == 1


async def test_the_list_of_refused_lines_is_bounded():
    async with serving() as client:
        answer = await client.post("/api/events", content=b"x\n" * 4999 + line(1, index=0))
        told = answer.json()
        assert (answer.status_code, told["accepted"], told["refused_total"], len(told["refused"])) == (
            400,
            0,
            5000,
            1000,
        )


# what is not


@pytest.mark.parametrize(("headers", "status"), [
    ({"content-encoding": "gzip"}, 415), ({"content-type": "application/xml"}, 415),
    ({"content-type": "multipart/form-data; boundary=x"}, 415), ({"origin": "https://example.com"}, 403)])  # fmt: skip
async def test_requests_that_cannot_be_taken(headers, status):
    async with serving() as client:
        answer = await client.post("/api/events", content=gzip.compress(line(1)), headers=headers)
        assert answer.status_code == status
        assert answer.json()["error"]
        assert client.intake.messages == []


async def test_other_methods_and_paths():
    async with serving() as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        answer = await client.get("/api/events")
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert answer.json() == {"error": "Method Not Allowed"}
        assert (await client.put("/api/events", content=b"x")).status_code == 405
        assert (await client.post("/api/event", content=b"x")).status_code == 404


async def test_a_body_of_unknown_length_is_refused():
    async with serving() as client, raw(client.port) as (reader, writer):
        writer.write(HEAD + b"\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 411 ")


async def test_a_body_too_large_is_refused_declared_or_not():
    async def chunks():
        for _ in range(300):
            yield line("x" * 1000)

    async with serving(max_body=100_000) as client:
        for content in (line("x" * 1000) * 300, chunks()):
            answer = await client.post("/api/events", content=content)
            assert answer.status_code == 413
            assert "100000 bytes" in answer.json()["error"]
        assert client.intake.messages == []
        assert (await client.post("/api/events", content=line(1))).status_code == 200


async def test_twenty_megabytes_are_taken_where_allowed():
    async with serving(max_body="32MiB", max_line="32MiB") as client:
        assert (await client.post("/api/events", content=line("x" * 20_000_000))).json() == {"accepted": 1}


@pytest.mark.parametrize("framing", [b"content-length: 1000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n"])
@pytest.mark.parametrize("ending", ["close", "abort", "nonsense"])
async def test_a_body_that_breaks_off_is_not_taken_at_all(framing, ending):
    async with serving() as client:
        async with raw(client.port) as (reader, writer):
            body = lines(1, 2)
            chunked = b"chunked" in framing
            writer.write(HEAD + framing + (b"%x\r\n%b\r\n" % (len(body), body) if chunked else body))
            await writer.drain()
            await asyncio.sleep(0.02)
            if ending == "close":
                writer.close()
                await writer.wait_closed()
            elif ending == "nonsense" and chunked:
                writer.write(b"zz\r\n")
                await reader.read()
        await asyncio.sleep(0.02)
        assert (await client.post("/api/events", content=line(3))).status_code == 200
        assert values(client.intake.messages) == [3]


# who may


async def test_the_token_is_asked_for():
    async with serving(token=TOKEN) as client:
        for given in (None, "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", b"Bearer \xff\xfe"):
            headers = {} if given is None else {"authorization": given}
            answer = await client.post("/api/events", content=line(1), headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert TOKEN not in answer.text
        assert client.intake.messages == []
        for given in (f"Bearer {TOKEN}", f"bearer  {TOKEN}"):
            headers = {"authorization": given, "origin": "https://example.com"}
            assert (await client.post("/api/events", content=line(1), headers=headers)).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize("listen", ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "example.com:80", [LOCAL, "10.0.0.1:80"]])
def test_a_token_is_required_where_others_can_connect(listen):
    with pytest.raises(ValidationError, match="set a token"):
        Options(listen=listen)
    assert Options(listen=listen, token=TOKEN)
    assert TOKEN not in repr(Options(listen=listen, token=TOKEN))


@pytest.mark.parametrize("listen", ["127.0.0.1:80", "127.8.8.8:0", "[::1]:80", "localhost:80", [LOCAL, "[::1]:0"]])
def test_no_token_is_required_on_this_machine_alone(listen):
    assert Options(listen=listen).token is None


@pytest.mark.parametrize("options", [
    {"listen": "8080"}, {"listen": ":8080"}, {"listen": "127.0.0.1"}, {"listen": "127.0.0.1:99999"}, {"listen": []},
    {"listen": "[xyz]:1"}, {"listen": "::1:80"}, {"token": ""}, {"token": "short"}, {"token": " " * 20},
    {"certificate": "a.pem"}, {"private_key": "a.key"}, {"burst": 5}, {"max_body": 1}, {"lisen": LOCAL},
    {"listen": LOCAL, "commit_timeout": 0}])  # fmt: skip
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValidationError):
        Options(**options)


# how much


async def test_so_many_events_a_second():
    async with serving(max_events_per_second=100, burst=10) as client:
        assert (await client.post("/api/events", content=lines(*range(10)))).status_code == 200
        answer = await client.post("/api/events", content=lines(*range(10)))
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        await asyncio.sleep(0.12)
        assert (await client.post("/api/events", content=lines(*range(10)))).status_code == 200
        assert len(client.intake.messages) == 20


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 40)), max_size=60), st.integers(1, 20), st.integers(1, 30))
def test_a_bucket_grants_its_rate_and_whoever_waits_is_served(asked, rate, burst):
    now, granted = 0.0, 0
    bucket = Bucket(rate, burst, now)
    for pause, amount in asked:
        now += pause
        wait = bucket.take(amount, now)
        if wait:
            now += wait * 1.000001
            assert bucket.wait(amount, now) == 0
        else:
            granted += amount
        assert granted <= burst + rate * now + 40 + 1e-6


async def test_so_many_requests_at_a_time():
    async with serving(RecordingIntake(automatic=False), max_concurrent=2) as client:
        posting = [asyncio.create_task(client.post("/api/events", content=line(n))) for n in range(2)]
        await until(lambda: len(client.intake.batches) == 2)
        answer = await client.post("/api/events", content=line(3))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        client.intake.commit()
        assert [answer.status_code for answer in await asyncio.gather(*posting)] == [200, 200]
        client.intake.automatic = True
        assert (await client.post("/api/events", content=line(3))).status_code == 200


async def test_so_many_connections():
    async with serving(max_connections=3) as client:
        held = [await asyncio.open_connection("127.0.0.1", client.port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
        assert await reader.read() == _FULL
        assert int(_FULL.split(b"content-length: ")[1].split(b"\r")[0]) == len(_FULL.split(b"\r\n\r\n")[1])
        for _, one in [*held, (reader, writer)]:
            one.close()
            await one.wait_closed()
        await asyncio.sleep(0.02)
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /api/ev",
        HEAD,
        HEAD + b"content-length: 100\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET",
        HEAD.replace(b"POST", b"PUT") + b"content-length: 99\r\n\r\n{",
    ],
)
async def test_a_slow_client_is_hung_up_on(sent):
    async with serving(request_timeout="150ms") as client, raw(client.port) as (reader, writer):
        writer.write(sent)

        async def drip():
            while sent:
                await asyncio.sleep(0.03)
                writer.write(b"x")

        dripping = asyncio.create_task(drip())
        try:
            answer = await asyncio.wait_for(reader.read(), 2)
        except ConnectionError:
            answer = None
        dripping.cancel()
        if b"length: 100" in sent:
            assert answer.startswith(b"HTTP/1.1 408 ")
        assert client.intake.messages == []


async def test_a_request_that_is_waiting_for_the_store_is_no_slow_client():
    async with serving(RecordingIntake(delay=0.4), request_timeout="150ms") as client:
        assert (await client.post("/api/events", content=line(1))).status_code == 200


# what the store says


async def test_a_store_that_takes_too_long():
    async with serving(RecordingIntake(automatic=False), commit_timeout="50ms") as client:
        answer = await client.post("/api/events", content=lines(1, 2))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "accepted" not in answer.json()


async def test_a_full_intake():
    async with serving(RecordingIntake(automatic=False, capacity=1), commit_timeout="100ms") as client:
        answer = await client.post("/api/events", content=lines(*range(5000)))
        assert answer.status_code == 503
        client.intake.commit()
        client.intake.automatic = True
        assert (await client.post("/api/events", content=lines(1))).status_code == 200


async def test_a_store_that_fails_is_told_without_its_paths():
    async with serving(RecordingIntake(failure=StoreFull("/var/lib/secret.db: no room"))) as client:
        answer = await client.post("/api/events", content=lines(1, 2))
        assert answer.status_code == 503
        assert "secret" not in answer.text


# beginning and end


async def test_requests_under_way_are_finished_when_it_stops():
    intake = RecordingIntake(automatic=False)
    source = HttpSource(Options(listen=LOCAL), name="push")
    task = asyncio.create_task(source.run(intake))
    await until(lambda: source.addresses)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{source.addresses[0].port}") as client:
        assert (await client.get("/healthz")).status_code == 200  # an idle connection holds nothing up
        posting = asyncio.create_task(client.post("/api/events", content=line(1)))
        await until(lambda: intake.batches)
        task.cancel()
        await asyncio.sleep(0.3)
        assert not task.done()
        intake.commit()
        assert (await posting).json() == {"accepted": 1}
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(httpx.ConnectError):
            await client.get("/healthz")
    assert source.addresses == ()


async def test_requests_that_do_not_finish_are_told_when_it_stops(monkeypatch, caplog):
    monkeypatch.setattr("northbound.hosting.server.GRACE", 0.2)
    async with serving(RecordingIntake(automatic=False)) as client:
        posting = asyncio.create_task(client.post("/api/events", content=line(1)))
        await until(lambda: client.intake.batches)
        async with raw(client.port) as (_, writer):
            writer.write(HEAD + b"content-length: 9\r\n\r\n{")
            await asyncio.sleep(0.05)
            for task in asyncio.all_tasks():
                if task.get_coro().__qualname__ == "HttpSource.run":
                    task.cancel()
            assert (await posting).status_code == 503
    assert "Exception in ASGI" not in caplog.text


async def test_it_can_be_started_again_on_the_same_port():
    async with serving() as client:
        port = client.port
        assert (await client.post("/api/events", content=line(1))).status_code == 200
    async with serving(listen=f"127.0.0.1:{port}") as client:
        assert client.port == port


async def test_a_port_that_is_taken_is_said_in_words():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NorthboundError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            await HttpSource(Options(listen=[LOCAL, f"127.0.0.1:{port}"]), name="push").run(RecordingIntake())
    with pytest.raises(NorthboundError, match=r"cannot listen on nowhere\.invalid:1: "):
        await HttpSource(Options(listen="nowhere.invalid:1", token=TOKEN), name="push").run(RecordingIntake())


async def test_it_listens_at_several_addresses():
    listen = [LOCAL, "127.0.0.2:0"] + (["[::1]:0"] if IPV6 else [])
    async with serving(listen=listen) as client:
        assert len(client.source.addresses) == len(listen)
        for host, port in client.source.addresses:
            name = f"[{host}]" if ":" in host else host
            assert (await client.get(f"http://{name}:{port}/healthz")).status_code == 200


async def test_tls(tmp_path):
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(tmp_path / "cert.pem", append=True)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    files = {"certificate": tmp_path / "cert.pem", "private_key": tmp_path / "key.pem"}
    async with serving(verify=trust, scheme="https", **files) as client:
        assert (await client.post("/api/events", content=line(1))).json() == {"accepted": 1}
        with pytest.raises(httpx.TransportError):
            async with httpx.AsyncClient() as plain:
                await plain.get(f"http://127.0.0.1:{client.port}/healthz")
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(NorthboundError, match="certificate and private_key cannot be used"):
        await HttpSource(Options(listen=LOCAL, **files), name="push").run(RecordingIntake())


def test_the_server_is_imported_only_where_it_runs():
    code = "import sys, northbound_http; assert not {'starlette', 'uvicorn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# configuration


def test_the_sample_is_a_whole_configuration():
    created = load_file(HERE / "sample.toml", Registry()).sources[0].create()
    assert created.origin == "http://127.0.0.1:8088/api/events"
    assert not created.finite


def test_every_option_is_described():
    assert all(field.description for field in Options.model_fields.values())
    readme = (HERE / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in Options.model_fields)
    assert Options.model_json_schema()["properties"]["listen"]["anyOf"]
