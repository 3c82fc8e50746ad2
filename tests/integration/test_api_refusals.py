"""A running service, a real WebSocket, real HTTP: who is not let in, what is not given, and that it ends.

Every refusal is followed by somebody who is served, so that a service that refuses everybody, or no longer answers,
does not pass.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
import time
from contextlib import suppress
from types import SimpleNamespace

import httpx
import pytest
import websockets
from paho.mqtt import client as paho
from tests.support.service import Service, until
from tests.support.tokens import claims, key, public_pem, raw, token, write_key
from tests.support.webmqtt import web_client

from northbound import mqtt
from northbound.api import local
from northbound.api.keyfile import KeyFile, path_beside

CONFIGURATION = """
[site]
org = "org-acme"
[api]
listen = "127.0.0.1:0"
requests_per_second = 10000
[api.mqtt]
recheck_interval = "200ms"
[api.auth]
leeway = "0s"
throttle.attempts = 10000
throttle.delay = "0s"
[api.auth.issuers.placeos]
mapping = "placeos"
audience = ["place.acme.com", "place.other.com"]
keys = ["es.pem", "rs.pem"]
orgs = { "place.acme.com" = "org-acme", "place.other.com" = "org-other" }
[sources.in]
type = "jsonl"
path = "events.jsonl"
[connectors.out]
type = "file"
path = "sent.jsonl"
"""
TOPIC = "placeos/{}/state/bld-1/_/_/sys-7/dep-1/Display/1/{}"
STATES = ("power", "input", "volume")
BAD, NOT_AUTHORISED, MAXIMUM_CONNECT_TIME = 134, 135, 160  # MQTT 5.0, 3.2.2.2 and 3.14.2.1
NOT_AUTHORISED_3 = 5  # MQTT 3.1.1, 3.2.2.3
#: What a client is told that shows nothing that counts: by version.
BAD_CODES = {5: {BAD}, 4: {4, NOT_AUTHORISED_3}, 3: {4, NOT_AUTHORISED_3}}
REFUSED_CODES = {5: {BAD, NOT_AUTHORISED}, 4: {4, NOT_AUTHORISED_3}, 3: {4, NOT_AUTHORISED_3}}


def event(org, state):
    return json.dumps({
        "kind": "state", "org": org, "building": "bld-1", "system": "sys-7", "driver": "dep-1", "module": "Display",
        "index": 1, "state": state, "value": state,
    })  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    write_key(folder, key("ES256"), "es.pem")
    write_key(folder, key("RS256"), "rs.pem")
    (folder / "events.jsonl").write_text("\n".join(event(o, s) for o in ("org-acme", "org-other") for s in STATES))
    store = folder / "northbound.db"
    running = Service(folder, CONFIGURATION)
    with running.start():
        until(lambda: local.entrance_path(store).exists() or not running.running, what="the API")
        url = local.read(store).url
        found = SimpleNamespace(
            service=running,
            folder=folder,
            store=store,
            keys=KeyFile(path_beside(store)),
            url=url,
            mqtt=url.replace("http", "ws") + "/api/mqtt/",
            http=httpx.Client(base_url=url, trust_env=False, timeout=20),
        )
        until(lambda: values(found, token()) == set(STATES), what="the values")
        yield found
        found.http.close()
        assert running.running, running.log()
    assert "Traceback" not in running.log(), running.log()


def get(service, path, headers):
    return service.http.get(path, headers=headers)


def values(service, shown, topic_filter="placeos/%23"):
    answer = get(service, f"/api/state?filter={topic_filter}", {"Authorization": f"Bearer {shown}"})
    assert answer.status_code == 200, answer.text
    rows = answer.json()["values"]
    assert all(row["topic"].startswith("placeos/org-acme/") for row in rows)
    return {row["topic"].rpartition("/")[2] for row in rows}


async def served(service):
    """Show that the service goes on."""
    async with web_client(service.mqtt) as client:
        assert (await client.connect(username=token())).reason == 0


# signing in


def confused(pem):
    body = raw({"alg": "HS256", "typ": "JWT"}, claims()).rpartition(".")[0]
    signature = base64.urlsafe_b64encode(hmac.digest(pem, body.encode(), "sha256")).rstrip(b"=").decode()
    return f"{body}.{signature}"


def flipped(text):
    return text[:-10] + ("A" if text[-10] != "A" else "B") + text[-9:]


SHOWN = {
    "nothing": lambda: "",
    "a password of somebody": lambda: "open sesame",
    "an expired token": lambda: token(exp=int(time.time()) - 1),
    "one that does not hold yet": lambda: token(nbf=int(time.time()) + 3600),
    "another audience": lambda: token(aud="place.evil.com"),
    "another issuer": lambda: token(iss="EVIL"),
    "a wrong signature": lambda: flipped(token()),
    "a signature of a stranger": lambda: token(key("ES256", 99)),
    "alg none": lambda: raw({"alg": "none", "typ": "JWT"}, claims()),
    "alg none with a signature": lambda: raw({"alg": "None"}, claims(), b"x" * 64),
    "key confusion with RSA": lambda: confused(public_pem(key("RS256"))),
    "key confusion with P-256": lambda: confused(public_pem(key("ES256"))),
    "a truncated token": lambda: token()[:-20],
    "the first half of a token": lambda: token().rpartition(".")[0],
    "a token for nothing here": lambda: token(scope=["users"]),
    "a token that may only write": lambda: token(scope=["mqtt.write"]),
    "an unknown role": lambda: token(u={"n": "x", "p": 9}),
    "an unknown key": lambda: f"{'0' * 32}.{'x' * 43}",
}


@pytest.mark.parametrize("version", [5, 4, 3])
@pytest.mark.parametrize("shown", SHOWN)
async def test_who_shows_nothing_that_counts_is_refused_by_mqtt(service, version, shown):
    text = SHOWN[shown]()
    for username, password in ((text, None), ("jane", text.encode()), (text, text.encode())):
        if version < 5 and not username and password:
            continue  # MQTT 3.1.1, 3.1.2.9: no password without a user name
        async with web_client(service.mqtt, version) as client:
            answer = await client.connect(username=username or None, password=password or None)
            assert answer.reason in REFUSED_CODES[version]
            assert not answer.session_present
            assert await client.read() is None  # closed, and nothing more was said
    await served(service)


@pytest.mark.parametrize("shown", SHOWN)
def test_who_shows_nothing_that_counts_is_refused_by_http(service, shown):
    text = SHOWN[shown]()
    for headers in ({"Authorization": f"Bearer {text}".strip()}, {"X-API-Key": text}):
        for path in ("/api/state", "/api/me", "/api/connectors", "/metrics"):
            answer = get(service, path, headers)
            assert answer.status_code in (401, 403), (path, answer.text)
            assert answer.status_code == 403 or answer.headers["www-authenticate"].startswith("Bearer")
            assert "acme" not in answer.text
    assert get(service, "/api/me", {"Authorization": f"Bearer {token()}"}).status_code == 200


@pytest.mark.parametrize("version", [5, 4, 3])
async def test_without_a_user_name_nobody_is_let_in(service, version):
    async with web_client(service.mqtt, version) as client:
        assert (await client.connect()).reason in BAD_CODES[version]
        assert await client.read() is None
    assert get(service, "/api/state", {}).status_code == 401


async def test_a_megabyte_is_refused_before_it_is_read(service):
    """MQTT's own strings end at 64 KiB, and before somebody is known less than that is taken."""
    for username, password in (("x" * 65_535, None), ("jane", b"x" * 65_535), (token() + "x" * 60_000, None)):
        async with web_client(service.mqtt) as client:
            await client.send(mqtt.Connect(version=5, client_id="big", username=username, password=password))
            answer = await client.read()
            assert answer is None or isinstance(answer, mqtt.Connack | mqtt.Disconnect)
            assert answer is None or answer.reason >= 128
    async with web_client(service.mqtt) as client:
        with suppress(websockets.ConnectionClosed, OSError):
            for _ in range(8):
                await client.raw(b"\x10\xff\xff\xff\x7f" + b"x" * 1_000_000)
        while (answer := await client.read()) is not None:
            assert isinstance(answer, mqtt.Connack | mqtt.Disconnect)
            assert answer.reason >= 128
    for name in ("Authorization", "X-API-Key"):
        try:
            status = get(service, "/api/state", {name: "Bearer " + "x" * 1_000_000}).status_code
        except httpx.TransportError:  # hung up on before the end
            continue
        assert status in (400, 401, 431)
    await served(service)


@pytest.mark.parametrize("version", [5, 4, 3])
async def test_a_token_as_user_name_as_password_or_both(service, version):
    text, other = token(), token(sub="user-john")
    async with web_client(service.mqtt, version) as client:
        answer = await client.connect(username=text, password=other.encode())
        assert answer.reason in REFUSED_CODES[version]
    for username, password in ((text, None), ("jane", text.encode()), (text, text.encode())):
        async with web_client(service.mqtt, version) as client:
            assert (await client.connect(username=username, password=password)).reason == 0
            assert await client.subscribe("placeos/org-acme/#") == (0,)


# what is given


@pytest.mark.parametrize("version", [5, 4])
async def test_what_is_of_another_organisation_is_refused(service, version):
    refused = NOT_AUTHORISED if version == 5 else 128
    async with web_client(service.mqtt, version) as client:
        assert (await client.connect(username=token())).reason == 0
        codes = await client.subscribe(
            "placeos/org-other/#", TOPIC.format("org-other", "power"), "$share/g/placeos/org-other/#", "elsewhere/#",
            "$SYS/northbound/connectors/#", "placeos/org-acme/#",
        )  # fmt: skip
        assert codes == (refused, refused, refused, refused, refused, 0)
        topics = {(await client.expect(mqtt.Publish)).topic for _ in STATES}
        assert topics == {TOPIC.format("org-acme", state) for state in STATES}


@pytest.mark.parametrize(
    "topic_filter", ["#", "placeos/#", "placeos/+/state/#", "+/+/state/+/+/+/+/+/+/+/+", "$share/g/#"]
)
async def test_a_wider_filter_is_granted_and_narrowed_at_every_delivery(service, topic_filter):
    """Live and retained; an admin of each organisation publishes, and each reader sees their own alone."""
    async with web_client(service.mqtt) as acme, web_client(service.mqtt) as other:
        writers = []
        for client, org, domain in ((acme, "org-acme", "place.acme.com"), (other, "org-other", "place.other.com")):
            shown = token(aud=domain, u={"n": "Admin", "p": 3}, sub=f"admin-{org}")
            assert (await client.connect(username=shown, client_id=f"w-{org}")).reason == 0
            writers.append((client, org))
        async with web_client(service.mqtt) as reader:
            assert (await reader.connect(username=token(), client_id="r")).reason == 0
            assert await reader.subscribe(topic_filter) == (0,)
            for client, org in reversed(writers):  # the other organisation first
                assert await client.publish(TOPIC.format(org, "live")) < 128
            seen = await reader.until(TOPIC.format("org-acme", "live"))
            assert all(message.topic.startswith("placeos/org-acme/") for message in seen)
            expected = set() if topic_filter.startswith("$share") else set(STATES)
            assert {message.topic.rpartition("/")[2] for message in seen} >= expected


async def test_explorers_subscribe_to_all_of_sys_and_see_their_part(service):
    async with web_client(service.mqtt) as reader, web_client(service.mqtt) as support:
        assert (await reader.connect(username=token(), client_id="r")).reason == 0
        assert await reader.subscribe("$SYS/#", "#") == (0, 0)
        seen = [await reader.expect(mqtt.Publish) for _ in range(5)]
        shown = {message.topic for message in seen if message.topic.startswith("$SYS/")}
        assert shown <= {"$SYS/broker/version", "$SYS/broker/uptime"}
        assert (await support.connect(username=token(u={"n": "S", "p": 1}), client_id="s")).reason == 0
        assert await support.subscribe("$SYS/#") == (0,)
        while (await support.expect(mqtt.Publish)).topic in {"$SYS/broker/version", "$SYS/broker/uptime"}:
            pass


def test_http_narrows_alike(service):
    assert values(service, token(), "%23") >= set(STATES)
    assert values(service, token(), "placeos/%2B/state/%23") >= set(STATES)
    for path in ("/api/state?filter=placeos/org-other/%23", "/api/connectors", "/api/status", "/api/dead-letters"):
        assert get(service, path, {"Authorization": f"Bearer {token()}"}).status_code == 403, path
    support = {"Authorization": f"Bearer {token(u={'n': 'S', 'p': 1}, scope=['mqtt.read'])}"}
    assert get(service, "/api/connectors", support).status_code == 200
    for path in ("/api/dead-letters/replay", "/api/dead-letters/drop"):
        answer = service.http.post(path, headers=support, json={"ids": [1]})
        assert answer.status_code == 403, path


# publishing


async def overheard(service):
    """Return an admin who hears everything of the organisation."""
    return token(u={"n": "Admin", "p": 2}, sub="admin")


@pytest.mark.parametrize("version", [5, 4, 3])
async def test_what_may_not_be_published_goes_nowhere(service, version):
    """Version 5 is told; to 3.x it is acknowledged and dropped, as hanging up would make it try for ever."""
    admin, mine = await overheard(service), TOPIC.format("org-acme", f"refused-{version}")
    reader = token(sub="reader")
    read_only = token(sub="ro", scope=["mqtt.read"], u={"n": "x", "p": 3})
    tries = [
        (reader, mine), (reader, "anything"), (read_only, mine), (admin, TOPIC.format("org-other", "x")),
        (admin, "$SYS/broker/uptime"), (admin, "$SYS/x"), (admin, "elsewhere"),
    ]  # fmt: skip
    async with web_client(service.mqtt) as listener, web_client(service.mqtt, version) as writer:
        assert (await listener.connect(username=admin, client_id="listener")).reason == 0
        assert await listener.subscribe("placeos/#") == (0,)
        for shown, topic in tries:
            async with web_client(service.mqtt, version) as client:
                assert (await client.connect(username=shown, client_id="p")).reason == 0
                for retain in (False, True):
                    assert await client.publish(topic, b"forbidden", retain=retain) == (
                        NOT_AUTHORISED if version == 5 else 0
                    )
        end = TOPIC.format("org-acme", f"end-{version}")
        assert (await writer.connect(username=admin, client_id="writer")).reason == 0
        assert await writer.publish(end) < 128
        assert all(message.payload != b"forbidden" for message in await listener.until(end))
    assert f"refused-{version}" not in values(service, admin)
    await served(service)


@pytest.mark.parametrize("version", [5, 4])
async def test_a_will_passes_the_same_rules(service, version):
    admin = await overheard(service)
    forbidden, allowed = TOPIC.format("org-acme", "forbidden-will"), TOPIC.format("org-acme", "will")
    async with web_client(service.mqtt) as listener:
        assert (await listener.connect(username=admin, client_id="listener")).reason == 0
        assert await listener.subscribe(forbidden, allowed) == (0, 0)
        for shown, topic in ((token(), forbidden), (admin, allowed)):
            async with web_client(service.mqtt, version) as dying:
                will = mqtt.Will(topic, b"gone")
                await dying.connect(username=shown, client_id="dying", will=will)
        assert [message.topic for message in await listener.until(allowed)] == [allowed]


# how it ends


@pytest.mark.parametrize("version", [5, 4])
async def test_a_revoked_key_ends_its_connections_and_is_refused(service, version):
    made, text = service.keys.create(f"screen-{version}", org="org-acme")
    _, stays = service.keys.create(f"stays-{version}", org="org-acme")
    async with web_client(service.mqtt, version) as client, web_client(service.mqtt, version) as other:
        id_, _, secret = text.partition(".")
        assert id_ == made.id
        assert (await client.connect(username=id_, password=secret.encode(), client_id="a")).reason == 0
        assert (await other.connect(username=stays, client_id="b")).reason == 0
        answer = await asyncio.to_thread(
            service.service.call, "keys", "revoke", f"screen-{version}", "--store", service.store
        )
        assert answer.returncode == 0, answer.stderr
        last = await client.read()
        assert (last.reason if version == 5 else last) == (NOT_AUTHORISED if version == 5 else None)
        assert await client.read() is None
        assert await other.subscribe("placeos/org-acme/#") == (0,)
    async with web_client(service.mqtt, version) as client:
        assert (await client.connect(username=text)).reason == (NOT_AUTHORISED if version == 5 else NOT_AUTHORISED_3)
    assert get(service, "/api/state", {"X-API-Key": text}).status_code == 403
    assert get(service, "/api/state", {"X-API-Key": stays}).status_code == 200


async def test_a_connection_ends_when_its_token_expires(service):
    async with web_client(service.mqtt) as new, web_client(service.mqtt, 4) as old:
        shown = token(exp=int(time.time()) + 5)
        assert (await new.connect(username=shown, client_id="new")).reason == 0
        assert (await old.connect(username=shown, client_id="old")).reason == 0
        last = await new.read()
        assert isinstance(last, mqtt.Disconnect)
        assert last.reason == MAXIMUM_CONNECT_TIME
        assert await new.read() is None
        assert await old.read() is None
    await served(service)


def test_a_stream_of_events_ends_when_its_key_is_revoked(service):
    _, text = service.keys.create("stream", org="org-acme")
    headers = {"X-API-Key": text, "Accept": "text/event-stream"}
    with service.http.stream("GET", "/api/state?filter=%23", headers=headers) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        service.keys.revoke("stream")
        assert "event: end" in list(lines)


# a client that nobody here wrote


def test_paho_is_refused_and_served_alike(service):
    """paho 1.6 over WebSocket, with user name and password."""
    port = int(service.url.rpartition(":")[2])
    for shown, code in ((token(), 0), (token(exp=1), 5), ("jane", 5)):
        codes, arrived = [], []
        client = paho.Client("paho", transport="websockets", protocol=paho.MQTTv311)
        client.ws_set_options("/api/mqtt/")
        client.username_pw_set(shown, shown)
        client.on_connect = lambda c, _u, _f, rc, codes=codes: (codes.append(rc), c.subscribe("#"))
        client.on_message = lambda _c, _u, m, arrived=arrived: arrived.append(m.topic)
        client.connect("127.0.0.1", port)
        client.loop_start()
        try:
            until(lambda codes=codes: codes, what="an answer")
            assert codes[0] in ({0} if code == 0 else {4, 5})
            if code == 0:
                until(lambda arrived=arrived: len(arrived) >= len(STATES), what="the values")
                assert all(topic.startswith(("placeos/org-acme/", "$SYS/broker/")) for topic in arrived)
        finally:
            client.disconnect()
            client.loop_stop()


# what remains


def test_decisions_are_audited_and_nothing_of_a_token_is_written_down(service):
    """Last in this file: what all of the above have left behind."""
    mark = "c4n4ry"
    shown = token(key("ES256", 99), sub=f"{mark}-subject", u={"n": mark, "p": 0})
    assert get(service, "/api/state", {"Authorization": f"Bearer {shown}"}).status_code == 401
    good = token(sub="user-audited", jti=mark)
    assert (
        get(service, "/api/state?filter=placeos/org-other/%23", {"Authorization": f"Bearer {good}"}).status_code == 403
    )
    path = service.store.with_name("northbound.db.access.jsonl")
    until(lambda: path.exists() and "user-audited" in path.read_text(), what="the audit log")
    until(lambda: "subscription refused" in path.read_text(), what="the refusal")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {"signed in", "sign-in refused", "subscription refused"} <= {row["happened"] for row in rows}
    everything = service.service.log() + "".join(
        file.read_text(errors="replace") for file in service.folder.iterdir() if "northbound.db" in file.name
    )
    assert mark not in everything
    for part in (*shown.split("."), *good.split(".")[1:]):
        assert part not in everything
    assert not re.search(r"ey[A-Za-z0-9_-]{20,}\.", everything)
