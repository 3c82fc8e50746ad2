"""Promise 5: secrets in every place of an event, through failures and crashes, and then there is none anywhere."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.support.canaries import CONTROL, DEFAULT_KINDS, STRICT_KINDS, Maker, Sent, canaries_in, events, searched
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.oracle import Ledger, check_file
from tests.support.service import Service, until
from tests.support.subscriber import Subscriber, retained

#: The topics of which the file connector is to get nothing.
WITHHELD = "placeos/+/state/+/+/+/+/+/Display/3/#"
LARGEST = 4096
CHUNK = 50

STRICT = f"""
[privacy]
secret = "what-nobody-else-knows-0123456789"
default = false
[privacy.detectors.badge]
type = "regex"
pattern = 'BDG-[A-Z0-9]{{16}}'
[privacy.detectors.staff]
type = "person"
names = "../given/people.txt"
[[privacy.rules]]
name = "cannot be evaluated"
detect = ["tripwire"]
action = "redact"
[[privacy.rules]]
name = "badges"
detect = ["badge"]
action = "drop"
[[privacy.rules]]
name = "people"
detect = ["staff"]
action = "redact"
placeholder = "somebody"
[[privacy.rules]]
name = "secrets"
detect = ["token"]
action = "redact"
scope = "value"
[[privacy.rules]]
name = "cameras"
detect = ["url_credentials"]
action = "redact"
[[privacy.rules]]
name = "devices"
detect = ["mac", "ip"]
action = "hash"
prefix = "dev-"
[[privacy.rules]]
name = "cards"
detect = ["card"]
action = "mask"
keep_last = 4
[[privacy.rules]]
name = "phones"
detect = ["phone"]
action = "redact"
[[privacy.rules]]
name = "users"
detect = ["user_id"]
action = "hash"
length = 16
secret = "another-secret-for-users-alone-xx"
[[privacy.rules]]
name = "addresses"
detect = ["email"]
action = "hash"
[[privacy.rules]]
name = "places"
detect = ["coordinates"]
action = "generalise"
decimals = 1
[[privacy.rules]]
name = "not for the file"
topics = ["{WITHHELD}"]
connectors = ["out"]
action = "drop"
"""

TRIPWIRE = '''
import northbound

class Tripwire(northbound.Detector):
    """Fails, and its words hold all there is to hide."""

    literals = ("tripwire",)

    def find(self, text, key):
        if "tripwire" in text:
            raise RuntimeError(f"cannot read {text!r} under {key!r}")
        return ()

@northbound.hookimpl
def northbound_detectors():
    return {"tripwire": Tripwire}
'''


class Site:
    """A service with a file and an HTTP source, a broker and a file as destinations; ``given`` may hold secrets."""

    def __init__(self, tmp_path: Path, policy: str, broker: Mosquitto) -> None:
        self.tmp_path = tmp_path
        self.policy = policy
        self.broker = broker
        self.http_port = free_port()
        self.api_port = free_port()
        self.given = tmp_path / "given"
        self.directory = tmp_path / "site"
        for folder in (self.given, self.directory, tmp_path / "plugins"):
            folder.mkdir()
        self._install_tripwire(tmp_path / "plugins")
        self.service = Service(self.directory, "", environment={"PYTHONPATH": str(tmp_path / "plugins")})
        self.store = self.directory / "northbound.db"
        self.repeated = 0
        self._calls = 0

    @staticmethod
    def _install_tripwire(folder: Path) -> None:
        (folder / "tripwire.py").write_text(TRIPWIRE)
        info = folder / "tripwire-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tripwire\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[northbound]\ntripwire = tripwire\n")

    def configure(self, sources: str, log_format: str = "text") -> None:
        self.service.config.write_text(f"""
        [service]
        log_level = "debug"
        log_format = "{log_format}"
        [api]
        listen = "127.0.0.1:{self.api_port}"
        {sources}
        [connectors.local]
        type = "mqtt"
        url = "mqtt://127.0.0.1:{self.broker.port}"
        [connectors.local.retry]
        initial = "50ms"
        maximum = "300ms"
        [connectors.local.limits]
        max_payload_bytes = {LARGEST}
        [connectors.out]
        type = "file"
        path = "out.jsonl"
        {self.policy}
        """)

    @property
    def endless(self) -> str:
        return f"""
        [sources.tail]
        type = "jsonl"
        path = "{self.given}/tail.jsonl"
        follow = true
        [sources.push]
        type = "http"
        listen = "127.0.0.1:{self.http_port}"
        """

    def read_once(self, sent: Sequence[Sent]) -> dict:
        """Run over a finite file, to the end; returns the summary."""
        self.write("first.jsonl", sent)
        self.configure(f'[sources.first]\ntype = "jsonl"\npath = "{self.given}/first.jsonl"')
        return json.loads(self.call("run", "--once", "--json", str(self.service.config)))

    def write(self, name: str, sent: Sequence[Sent]) -> None:
        with (self.given / name).open("ab") as file:
            file.writelines(each.line + b"\n" for each in sent)

    def post(self, sent: Sequence[Sent]) -> None:
        """Post all of ``sent``; a chunk without an answer is posted again."""
        for at in range(0, len(sent), CHUNK):
            chunk = sent[at : at + CHUNK]
            while not self._posted(b"\n".join(each.line for each in chunk)):
                time.sleep(0.05)

    def _posted(self, body: bytes) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        try:
            connection.connect()
        except OSError:
            return False
        try:
            connection.request("POST", "/api/events", body)
            return connection.getresponse().status in (200, 207, 400)
        except (OSError, http.client.HTTPException):
            self.repeated += CHUNK
            return False
        finally:
            connection.close()

    def knock(self, secret: str) -> None:
        """Ask for what is not there, with ``secret`` in the path, the query and a header, and then not in HTTP."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=30)
        connection.request("GET", f"/{secret}?who={secret}", headers={"Authorization": f"Bearer {secret}"})
        assert connection.getresponse().status == 404
        connection.close()
        with socket.create_connection(("127.0.0.1", self.http_port), timeout=30) as raw:
            raw.sendall(f"{secret} is no request\r\n\r\n".encode())
            raw.recv(4096)

    def call(self, *arguments: str) -> str:
        """Run a command of the program and keep what it says; returns its standard output."""
        done = self.service.call(*arguments, timeout=120)
        assert "Traceback" not in done.stderr, done.stderr
        self._calls += 1
        (self.directory / f"said-{self._calls}.txt").write_text(f"{arguments}\n{done.stdout}{done.stderr}")
        return done.stdout

    def letters(self) -> list[dict]:
        said = self.call("deadletters", "list", "--json", "--limit", "100000", "--config", str(self.service.config))
        return json.loads(said)["dead_letters"]

    def serve(self, path: str, key: str) -> bytes:
        """Return what the API answers, and keep it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=60)
        connection.request("GET", path, headers={"X-API-Key": key})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status in (200, 503), (path, answer.status, body)
        connection.close()
        self._calls += 1
        (self.directory / f"served-{self._calls}.txt").write_bytes(path.encode() + b"\n" + body)
        return body

    def left_behind(self) -> list[Path]:
        """Return every file there is now but what was given."""
        folders = (self.directory, *self.tmp_path.glob("mosquitto-*"))
        return [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]


def go_through(tmp_path: Path, policy: str, kinds: tuple[str, ...], count: int, *, crashes: int = 1) -> None:
    maker = Maker(seed=count)
    sent = events(maker, count, kinds, tripwire="tripwire" in policy)
    lines = ["log_type all", "autosave_interval 1", "max_queued_messages 0"]
    with Mosquitto(tmp_path, persistence=True, config_lines=lines) as broker:
        site = Site(tmp_path, policy, broker)
        (site.given / "people.txt").write_text("\n".join(["# staff", *maker.people]))
        first, rest = sent[: count // 10], sent[count // 10 :]
        with Subscriber(broker.port) as recorder:
            _check_summary(site.read_once(first), first)
            site.configure(site.endless)
            with site.service.start("--json"):
                for crash in range(crashes):
                    _feed(site, rest[crash::crashes], maker, log_format="text" if crash % 2 else "json")
                wanted = {each.control.encode() for each in sent if each.fate == "sent" and not each.large}
                until(
                    lambda: wanted <= controls(m.topic.encode() + m.payload for m in list(recorder.arrived)), timeout=90
                )
                large = {each.control for each in sent if each.fate == "sent" and each.large}
                until(lambda: len(_dead(site)) >= len(large), timeout=30, what="not every large one was set aside")
                _ask_about_letters(site)
                _look_at_the_api(site, wanted)
                assert site.service.stop() == 0, site.service.log()[-3000:]
            arrived = [(m.topic.encode(), m.payload) for m in recorder.arrived]
        (site.directory / "received").write_bytes(b"\n".join(map(b" ".join, arrived)))
        kept = retained(broker.port)
        (site.directory / "retained").write_bytes(b"\n".join(t.encode() + b" " + p for t, p in kept.items()))
        _preview(site, sent[: count // 4])
        _scan(site)
        letters = _dead(site)
        broker.stop()  # so that its database is on the disk
        _check_whole(site, sent, controls(map(b" ".join, arrived)), letters)
        files = site.left_behind()
        assert searched(files, maker.numbers) == {}
        _check_searched(files)


def _feed(site: Site, sent: Sequence[Sent], maker: Maker, *, log_format: str) -> None:
    """Give events both ways while the broker goes away and the service is killed and started again."""
    half = len(sent) // 2
    site.write("tail.jsonl", sent[: half // 2])
    site.post(sent[half : half + half // 2])
    site.knock(maker.make("email").text)
    site.broker.stop()
    poster = threading.Thread(target=site.post, args=(sent[half + half // 2 :],), daemon=True)
    poster.start()
    site.write("tail.jsonl", sent[half // 2 : half])
    time.sleep(0.05)
    site.service.kill()
    at_the_kill = site.left_behind()
    assert any(path.name.endswith("-wal") for path in at_the_kill), "no WAL to look at"
    found = searched(at_the_kill, maker.numbers)
    assert found == {}
    site.configure(site.endless, log_format)
    site.service.start("--json")
    site.broker.start()
    poster.join(60)
    assert not poster.is_alive(), "not all could be posted"


def controls(texts) -> set[bytes]:
    return {found for text in texts for found in CONTROL.findall(text)}


def _dead(site: Site) -> list[dict]:
    return [letter for letter in site.letters() if letter["connector"] == "local"]


def _ask_about_letters(site: Site) -> None:
    """List, show and replay the dead letters: they are as large as before, and become dead letters again."""
    config = ("--config", str(site.service.config))
    before = _dead(site)
    site.call("deadletters", "list", *config)
    shown = json.loads(site.call("deadletters", "show", str(before[0]["id"]), "--json", *config))
    assert CONTROL.search(shown["payload"].encode())
    site.call("deadletters", "show", str(before[-1]["id"]), *config)
    site.call("deadletters", "replay", *(str(letter["id"]) for letter in before[:5]), *config)
    replayed = "replay failed"
    until(lambda: sum(letter["state"] == replayed for letter in _dead(site)) == 5, timeout=60, what="not replayed")


def _look_at_the_api(site: Site, wanted: set[bytes]) -> None:
    """Read all that the dashboard reads, and the metrics."""
    made = json.loads(site.call("keys", "create", "auditor", "--role", "admin", "--every-org", "--json",
                                "--config", str(site.service.config)))  # fmt: skip
    key = made["token"]
    state = site.serve("/api/state?filter=%23&limit=100000", key)
    assert controls([state]) & wanted, "the API serves nothing of what was given"
    letters = site.serve("/api/dead-letters?limit=1000", key)
    assert controls([letters]), "the API shows no dead letter"
    first = json.loads(letters)["dead_letters"][0]["id"]
    site.serve(f"/api/dead-letters/{first}", key)
    for path in ("/api/status", "/api/connectors", "/api/me", "/healthz", "/api/openapi.json"):
        site.serve(path, key)
    assert b"northbound" in site.serve("/metrics", key)
    config = ("--config", str(site.service.config))
    site.call("status", "--json", *config)


def _preview(site: Site, sent: Sequence[Sent]) -> None:
    site.write("some.jsonl", sent)
    asked = ("preview", str(site.service.config), "--input", str(site.given / "some.jsonl"))
    assert len(controls([site.call(*asked).encode()])) > len(sent) / 2
    assert len(controls([site.call(*asked, "--json").encode()])) > len(sent) / 2


def _scan(site: Site) -> None:
    """Look for what is there with the program's own tool, in all it can look at: what it says is for everyone."""
    config = str(site.service.config)
    site.call("privacy", "scan", config, "--file", str(site.given / "some.jsonl"), "--limit", "10000")
    site.call("privacy", "scan", config, "--store", "--json")
    site.call("privacy", "scan", config, "--broker", f"mqtt://127.0.0.1:{site.broker.port}", "--duration", "1s")


def _check_summary(told: dict, sent: Sequence[Sent]) -> None:
    (source,) = told["sources"]
    fates = [each.fate for each in sent]
    assert source["refused"] == fates.count("refused")
    assert source["dropped"] == fates.count("dropped")
    assert source["accepted"] == fates.count("sent")
    assert {c["name"]: c["undelivered"] for c in told["connectors"]} == {"local": 0, "out": 0}


def _check_whole(site: Site, sent: Sequence[Sent], arrived: set[bytes], letters: Sequence[dict]) -> None:
    """Nothing is lost, and nothing went on that should not: every event's control word is where it has to be."""
    gone_on = {each.control.encode() for each in sent if each.fate == "sent"}
    large = {each.control.encode() for each in sent if each.fate == "sent" and each.large}
    assert gone_on - large <= arrived <= gone_on
    assert controls(str(letter["topic"]).encode() for letter in letters) == large
    for letter in letters:
        assert re.fullmatch(r"payload of [\d,]+ bytes: the destination takes 4,096", letter["reason"]), letter["reason"]
    withheld = {each.control.encode() for each in sent if each.fate == "sent" and _is_withheld(each, site.policy)}
    outputs = b"\n".join(path.read_bytes() for path in site.directory.glob("out.jsonl*"))
    assert controls([outputs]) == gone_on - withheld
    ledger: Ledger = check_file(site.store)
    assert len(gone_on) <= ledger.head <= len(gone_on) + site.repeated
    local, out = ledger.accounts["local"], ledger.accounts["out"]
    assert local.waiting == out.waiting == []
    assert local.counters["acknowledged"] + local.counters["overtaken"] + local.counters["dead"] == ledger.head
    assert out.counters["acknowledged"] + out.counters["withheld"] == ledger.head
    assert out.counters["withheld"] >= len(withheld) >= (1 if "not for the file" in site.policy else 0)
    fates = [each.fate for each in sent]
    print(
        f"\n{len(sent):,} events: {len(gone_on):,} accepted ({ledger.head:,} messages, {site.repeated} posted again), "
        f"of these {len(large):,} dead letters of the broker and {len(withheld):,} withheld from the file; "
        f"{fates.count('dropped'):,} dropped, {fates.count('refused'):,} refused"
    )


def _is_withheld(each: Sent, policy: str) -> bool:
    event = json.loads(each.line)
    place = (event["kind"] != "metadata", event.get("module"), event.get("index"))
    return "not for the file" in policy and place == (True, "Display", 3)


def _check_searched(files: Sequence[Path]) -> None:
    """The search saw what it was meant to see."""
    names = {path.name for path in files}
    wanted = {
        "northbound.db",
        "northbound.db.audit.jsonl",
        "northbound.log",
        "out.jsonl",
        "mosquitto.db",
        "log",
        "received",
    }
    assert wanted <= names
    assert any("bookmark" in name for name in names), names
    print(f"searched {len(files)} files, {sum(path.stat().st_size for path in files):,} bytes")


def test_no_canary_of_a_thousand_gets_past_the_default_policy(tmp_path):
    go_through(tmp_path, "", DEFAULT_KINDS, 1000)


def test_no_canary_of_a_thousand_gets_past_a_strict_policy(tmp_path):
    go_through(tmp_path, STRICT, STRICT_KINDS, 1000)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("policy", "kinds"), [("", DEFAULT_KINDS), (STRICT, STRICT_KINDS)], ids=["default", "strict"])
def test_no_canary_of_ten_thousand_gets_past(tmp_path, policy, kinds):
    go_through(tmp_path, policy, kinds, 10_000, crashes=4)


def test_without_a_policy_the_canaries_are_everywhere(tmp_path):
    """The search finds what it looks for, in every kind of file."""
    maker = Maker(seed=1)
    sent = events(maker, 200, DEFAULT_KINDS)
    with Mosquitto(tmp_path, persistence=True, config_lines=["log_type all"]) as broker:
        site = Site(tmp_path, "[privacy]\ndefault = false", broker)
        with Subscriber(broker.port) as recorder:
            site.read_once(sent)
            until(lambda: len(recorder.arrived) > 150, what="it did not arrive")
        received = canaries_in(b"\n".join(m.topic.encode() + b" " + m.payload for m in recorder.arrived))
        broker.stop()
    found = searched(site.left_behind(), maker.numbers)
    assert {"northbound.db", "out.jsonl", "mosquitto.db", "log", "said-1.txt"} <= found.keys()
    assert min(map(len, (received, found["northbound.db"], found["out.jsonl"], found["mosquitto.db"]))) > 150


def test_the_search_finds_each_canary_in_each_place_and_form():
    maker = Maker(seed=5)
    sent = events(maker, 5000, STRICT_KINDS, tripwire=True)
    assert len({each.control for each in sent}) == len({each.line for each in sent}) == 5000
    assert [each for each in sent if not canaries_in(each.line, maker.numbers)] == []
