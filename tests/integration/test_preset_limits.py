"""Presets against brokers that are as strict as their providers: who breaks a rule is cut off, and it is counted."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque

import pytest
import trustme
from tests.support.oracle import check_file
from tests.support.service import Service, until

from northbound import mqtt as m

ONE = {"kind": "state", "org": "o", "building": "b", "driver": "d", "module": "M", "index": 1}


class Strict:
    """A broker on TLS that hangs up on whoever breaks a rule, and remembers which.

    The rules are those of docs.emqx.com, "Quotas and limits" of Serverless: no anonymous access, ten messages in any
    second from one client, topics of ten levels, messages of 1 MB. Of HiveMQ Cloud: SNI.
    """

    def __init__(self, context, *, rate=None, levels=None, sni=None):
        self.rate, self.levels, self.sni = rate, levels, sni
        self.broken: list[str] = []
        self.published: list[m.Publish] = []
        self.connects = 0
        self._asked: list[str | None] = []
        context.sni_callback = lambda _socket, name, _context: self._asked.append(name)
        self._context = context
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc):
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.05)

    async def _serve(self, reader, writer):
        self._writers.add(writer)
        decoder, times = m.Decoder(), deque(maxlen=self.rate)
        try:
            while data := await reader.read(65_536):
                for packet in decoder.feed(data):
                    if (answer := self._answer(packet, times)) is None:
                        return
                    writer.write(m.encode(answer, 5))
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, packet, times):
        if isinstance(packet, m.Connect):
            self.connects += 1
            if self.sni is not None and self._asked[-1] != self.sni:
                return self._break("no SNI") or m.Connack(135)
            return m.Connack(0 if packet.username and packet.password else 134)
        if isinstance(packet, m.Publish):
            now = asyncio.get_running_loop().time()
            if self.levels is not None and packet.topic.count("/") >= self.levels:
                return self._break(f"{packet.topic} has too many levels")
            # a tenth of the second for a machine that is busy: what was late arrives close to what was not
            if self.rate is not None and len(times) == self.rate and now - times[0] < 0.9:
                return self._break(f"{self.rate + 1} messages in {now - times[0]:.3f} s")
            times.append(now)
            self.published.append(packet)
            return m.Puback(packet.packet_id)
        if isinstance(packet, m.Disconnect):
            return None
        return m.Pingresp() if isinstance(packet, m.Pingreq) else self._break(f"a {type(packet).__name__}")

    def _break(self, rule):
        self.broken.append(rule)


@pytest.fixture
def authority(tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca"))
    return ca


def context_for(authority, name):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


def lines(count):
    return "".join(json.dumps({**ONE, "system": f"s{n}", "state": "a.b/c", "value": n}) + "\n" for n in range(count))


async def delivered(tmp_path, count, table):
    (tmp_path / "events.jsonl").write_text(lines(count))
    configuration = f'[sources.in]\ntype = "jsonl"\npath = "events.jsonl"\n[connectors.cloud]\ntype = "mqtt"\n{table}'
    done = await asyncio.to_thread(Service(tmp_path, configuration).once, timeout=60)
    assert done.returncode == 0, done.stderr
    check_file(tmp_path / "northbound.db")
    return done.stderr.decode() + done.stdout.decode()


async def test_emqx_serverless_is_never_given_more_than_it_takes(tmp_path, authority):
    async with Strict(context_for(authority, "localhost"), rate=10, levels=10) as broker:
        told = await delivered(
            tmp_path,
            35,
            f'preset = "emqx-serverless"\nurl = "localhost:{broker.port}"\nca = "ca"\nusername = "u"\npassword = "p"\n',
        )
        assert broker.broken == []
        assert broker.connects == 1
        assert [json.loads(json.loads(p.payload)["value"]) for p in broker.published] == [*range(35)], told
        assert broker.published[0].topic == "placeos/o/state/b/_/_/s0/d.M.1/a.b%2Fc"
        assert not any(p.retain for p in broker.published)


async def test_without_the_preset_the_strict_broker_is_not_satisfied(tmp_path, authority):
    """The broker of these tests does find fault."""
    async with Strict(context_for(authority, "localhost"), rate=10, levels=10) as broker:
        (tmp_path / "events.jsonl").write_text(lines(3))
        service = Service(
            tmp_path,
            '[service]\ndrain = "100ms"\n'
            f'[sources.in]\ntype = "jsonl"\npath = "events.jsonl"\n[connectors.cloud]\ntype = "mqtt"\nversion = "5"\n'
            f'url = "mqtts://localhost:{broker.port}"\nca = "ca"\nusername = "u"\npassword = "p"\n'
            f'[connectors.cloud.retry]\ninitial = "50ms"\nmaximum = "100ms"\n',
        )
        with service:
            await asyncio.to_thread(until, lambda: broker.broken, what="it takes everything")
            assert "too many levels" in broker.broken[0]


async def test_hivemq_cloud_is_asked_for_by_name(tmp_path, authority):
    name = "abc123.s1.eu.hivemq.cloud"
    async with Strict(context_for(authority, name), sni=name) as broker:
        await delivered(
            tmp_path,
            50,
            f'preset = "hivemq-cloud"\nurl = "mqtts://127.0.0.1:{broker.port}"\nserver_name = "{name}"\nca = "ca"\n'
            'username = "u"\npassword = "p"\n',
        )
        assert broker.broken == []
        assert len(broker.published) == 50
