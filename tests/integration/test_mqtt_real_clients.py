"""Clients nobody here wrote, over WebSocket and TCP, with user name and password."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
from pathlib import Path

import pytest
import trustme
from tests.support import npm
from tests.support.broker import PASSWORD, served, value

CLIENTS = Path(__file__).parents[1] / "support/clients"
PEERS = Path(__file__).parents[2] / ".venv-peers/bin/python"
VERSIONS = ("3", "4", "5")
TOPIC = "placeos/org-acme/state/_/_/_/sys-1/drv/Display/1/power"
EVERYTHING = [["echo/0", "héllo 0", 0, False], ["echo/1", "héllo 1", 1, False], ["echo/2", "héllo 2", 2, False]]
KEPT = [TOPIC, "kept", 2, True]


async def run(*command, stdin=None, **environment):
    """Run a program to its end; return what it printed."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | environment,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(stdin), 60)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return process.returncode, out.decode(), errors.decode()


async def paho1(*arguments):
    return await run(sys.executable, CLIENTS / "paho_client.py", *arguments)


async def paho2(*arguments):
    return await run(PEERS, CLIENTS / "paho_client.py", *arguments)


async def aiomqtt(*arguments):
    return await run(PEERS, CLIENTS / "aiomqtt_client.py", *arguments)


async def mqttjs(*arguments):
    modules = await asyncio.to_thread(npm.modules, "mqtt", npm.MQTT_JS)
    return await run("node", CLIENTS / "mqttjs_client.js", *arguments, NODE_PATH=str(modules))


LIBRARIES = [paho1, paho2, aiomqtt, mqttjs]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
async def test_a_library_over_websocket(library, version):
    async with served() as site:
        site.broker.publish([value(TOPIC, "kept")])
        status, out, errors = await library(site.url, version, "ann", PASSWORD.decode())
        assert status == 0, errors
        assert json.loads(out) == {"refused": [], "messages": sorted([*EVERYTHING, KEPT])}
        status, out, errors = await library(site.url, version, "ann", "a guess")
        assert status == 0, errors
        # aiomqtt says all codes in the words of version 5
        assert json.loads(out) == {"refused": [134 if version == "5" or library is aiomqtt else 4], "messages": []}
        assert site.broker.counters.refused == 1


@pytest.mark.parametrize("library", [paho1, paho2], ids=lambda library: library.__name__)
async def test_a_library_over_tcp(library):
    async with served() as site:
        site.broker.publish([value(TOPIC, "kept")])
        _, out, errors = await library(f"mqtt://127.0.0.1:{site.port}", "5", "ann", PASSWORD.decode())
        assert json.loads(out) == {"refused": [], "messages": sorted([*EVERYTHING, KEPT])}, errors


@pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
async def test_mosquittos_clients_over_tcp_and_tls(version, tmp_path):
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for tls in (False, True):
        async with served(ssl=server if tls else None) as site:
            trust = ["--cafile", tmp_path / "ca.pem"] if tls else []
            there = ["-h", "127.0.0.1", "-p", site.port, *trust, "-V", version, "-u", "ann"]
            site.broker.publish([value(TOPIC, "kept")])
            listening = asyncio.ensure_future(
                run("mosquitto_sub", *there, "-P", PASSWORD.decode(), "-t", "#", "-q", 2, "-C", 3, "-F", "%t %q %r %p")
            )
            await site.until(lambda site=site: site.broker.numbers().subscriptions)
            for qos in (1, 2):
                status, _, errors = await run(
                    "mosquitto_pub", *there, "-P", PASSWORD.decode(), "-t", f"echo/{qos}", "-q", qos, "-m", "hello"
                )
                assert status == 0, errors
            status, out, errors = await listening
            assert status == 0, errors
            assert out.splitlines() == [f"{TOPIC} 2 1 kept", "echo/1 1 0 hello", "echo/2 2 0 hello"]
            status, _, errors = await run("mosquitto_pub", *there, "-P", "a guess", "-t", "x", "-m", "y")
            assert status != 0
            assert "refused" in errors.lower() or "not authori" in errors.lower() or "bad user" in errors.lower()


@pytest.mark.parametrize("version", ["31", "311", "5"])
async def test_eclipse_pahos_c_library_over_websocket(version):
    """It reads one packet of a message, and the next when something else comes: each must have a message of its own."""
    async with served() as site:
        there = ["-c", f"ws://127.0.0.1:{site.web_port}/api/mqtt", "-V", version, "-u", "ann", "-P", PASSWORD.decode()]
        listener = ["-t", "#", "-q", "2", "-i", "listener", *there]
        site.broker.load([value(f"{TOPIC}/{number}", f"kept {number}") for number in range(300)])
        process = await asyncio.create_subprocess_exec(
            "stdbuf", "-oL", "paho_c_sub", *listener, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None

        async def hears(*payloads):
            for payload in payloads:
                assert process.stdout is not None
                await asyncio.wait_for(process.stdout.readuntil(payload.encode() + b"\n"), 10)

        try:
            await hears(*(f"kept {number}" for number in range(300)))
            site.broker.publish([value(f"{TOPIC}/{number}", f"new {number}") for number in range(300)])
            await hears(*(f"new {number}" for number in range(300)))
            status, _, errors = await run("paho_c_pub", "-t", "echo", "-q", 1, "-m", "hello", "-i", "speaker", *there)
            assert status == 0, errors
            await hears("hello")
        finally:
            process.kill()
            await process.wait()


async def test_ten_thousand_values_reach_a_browsers_library():
    """All that is retained, by MQTT.js, which answers to every packet on its own."""
    modules = await asyncio.to_thread(npm.modules, "mqtt", npm.MQTT_JS)
    script = """
        const c = require("mqtt").connect(process.argv[1], {username: "u", password: process.argv[2]});
        let n = 0;
        c.on("connect", () => c.subscribe("#", {qos: 1}));
        c.on("message", () => { if (++n === 10000) { console.log(n); c.end(); } });
    """
    async with served() as site:
        site.broker.load([value(f"placeos/o/state/{number}", "x" * 60) for number in range(10_000)])
        status, out, errors = await run("node", "-e", script, site.url, PASSWORD.decode(), NODE_PATH=str(modules))
        assert (status, out) == (0, "10000\n"), errors
