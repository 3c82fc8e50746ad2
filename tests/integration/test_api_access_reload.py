"""What a reload of ``[api.auth]`` and ``[api.access]`` does to people who are there."""

from __future__ import annotations

import asyncio
import signal

from tests.support.service import Service, until
from tests.support.tokens import key, token, write_key
from tests.support.webmqtt import web_client

from northbound import mqtt
from northbound.api import local

BASE = """
[site]
org = "org-acme"
[api]
listen = "127.0.0.1:0"
[api.mqtt]
recheck_interval = "200ms"
[api.auth]
throttle.delay = "0s"
[sources.in]
type = "jsonl"
path = "events.jsonl"
[connectors.out]
type = "file"
path = "sent.jsonl"
[api.auth.issuers.stays]
issuer = "STAYS"
audience = ["a"]
keys = ["stays.pem"]
default_scopes = ["mqtt"]
"""
GOES = """
[api.auth.issuers.goes]
issuer = "GOES"
audience = ["a"]
keys = ["goes.pem"]
default_scopes = ["mqtt"]
"""
NARROW = """
[api.access]
default = false
[[api.access.rules]]
read = ["{root}/{org}/open/#"]
[[api.access.rules]]
roles = ["admin"]
publish = ["{root}/{org}/#"]
"""
SHUT, OPEN = "placeos/org-acme/shut/x", "placeos/org-acme/open/x"


def of(issuer, number, **more):
    return token(key("ES256", number), iss=issuer, aud="a", scope=None, u=None, **more)


async def test_who_lost_their_issuer_goes_and_who_lost_their_right_sees_no_more(tmp_path):
    write_key(tmp_path, key("ES256", 1), "stays.pem")
    write_key(tmp_path, key("ES256", 2), "goes.pem")
    (tmp_path / "events.jsonl").write_text("")
    store = tmp_path / "northbound.db"
    with Service(tmp_path, BASE + GOES).start() as service:
        await asyncio.to_thread(until, lambda: local.entrance_path(store).exists(), what="the API")
        url = local.read(store).url.replace("http", "ws") + "/api/mqtt/"
        admin = of("STAYS", 1, sub="admin", roles=["northbound-admin"])
        async with web_client(url) as stays, web_client(url) as goes, web_client(url) as writer:
            # Two issuers may call two people alike, and two clients call themselves alike: nobody is taken over.
            assert (await stays.connect(username=of("STAYS", 1), client_id="same")).reason == 0
            assert (await goes.connect(username=of("GOES", 2), client_id="same")).reason == 0
            assert (await writer.connect(username=admin, client_id="w")).reason == 0
            assert await stays.subscribe("placeos/org-acme/#") == (0,)
            assert await writer.publish(SHUT) < 128
            assert (await stays.until(SHUT))[-1].payload == b"x"

            service.config.write_text(BASE + NARROW)
            service.process.send_signal(signal.SIGHUP)
            last = await goes.read()
            assert isinstance(last, mqtt.Disconnect)
            assert last.reason == 135
            assert await goes.read() is None

            assert await writer.publish(SHUT) < 128
            assert await writer.publish(OPEN) < 128
            assert [message.topic for message in await stays.until(OPEN)] == [OPEN]
            assert await stays.subscribe(SHUT) == (135,)
        async with web_client(url) as again:
            assert (await again.connect(username=of("GOES", 2))).reason == 134
        assert service.running
    assert "Traceback" not in service.log()
