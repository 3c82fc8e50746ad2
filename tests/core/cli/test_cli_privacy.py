"""``northbound privacy``: cases, scans of a file, a store and a broker, hashes; and that nothing personal is told."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import pty
import re
import subprocess
import sys
import threading

import pytest
from tests.core.cli.conftest import event, run_northbound
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.service import Service, until
from tests.support.websocket_front import WebSocketFront

from northbound.mqtt import Client, ClientOptions, Publish

CONFIGURATION = """
[site]
org = "org-acme"
[sources.in]
type = "jsonl"
path = "events.jsonl"
[connectors.out]
type = "file"
path = "sent.jsonl"
[connectors.small]
type = "file"
path = "small.jsonl"
limits.max_payload_bytes = 60
[privacy]
secret = "${SECRET:a secret of more than sixteen}"
[[privacy.rules]]
name = "nothing secret"
states = ["secret*"]
action = "drop"
"""
MAIL, MAC = "canary.bob@example.com", "00:1b:44:11:3a:b7"
HASH = re.compile(r"[0-9a-f]{4}-[0-9a-f]{32}")
EVENTS = [
    event("bookings", {"organiser": MAIL, "desk": MAC}),
    event(f"of {MAIL}", 1),
    event("secret", MAIL),
    event("plain", "%63anary.bob%40example.com"),
]


@pytest.fixture
def acme(tmp_path, monkeypatch):
    (tmp_path / "northbound.toml").write_text(CONFIGURATION)
    (tmp_path / "northbound.toml").chmod(0o600)
    (tmp_path / "events.jsonl").write_text("\n".join(EVENTS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def says_nothing(*texts: str) -> None:
    for text in texts:
        assert "canary" not in text.lower()
        assert "63anary" not in text
        assert MAC not in text


def on_a_terminal(*arguments: object) -> str:
    """Return what the command draws, and its errors, on a terminal of 100 columns."""
    owner, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "northbound", *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=environment,
    )  # fmt: skip
    os.close(terminal)
    drawn = b""
    try:
        while block := os.read(owner, 65_536):
            drawn += block
    except OSError:  # the other end is closed
        pass
    os.close(owner)
    process.wait(30)
    return drawn.decode()


# test

CASES = """
[[cases]]
name = "organiser is hashed"
event = { state = "bookings", value = { organiser = "bob@example.com" } }
expect = { value = { organiser = "{{hash:bob@example.com}}" }, absent = ["bob"] }
[[cases]]
name = "secret"
event = { state = "secret" }
expect = { dropped = true }
"""
WRONG = '[[cases]]\nname = "wrong"\nevent = { value = 1 }\nexpect = { value = 2, rules = ["default"] }\n'


def test_cases_pass(cli, acme):
    (acme / "privacy.cases.toml").write_text(CASES)
    told = cli("privacy", "test", "northbound.toml")
    assert (told.status, told.err) == (0, "")
    assert told.out == "pass\torganiser is hashed\npass\tsecret\n2 cases: 2 passed\n"


def test_a_case_that_fails_shows_both_and_is_1(cli, acme):
    (acme / "mine.toml").write_text(CASES + WRONG)
    told = cli("privacy", "test", "northbound.toml", "mine.toml")
    assert told.status == 1
    assert told.out.splitlines()[2:] == [
        "FAIL\twrong",
        "  value: expected  2", "         got       1",
        '  rules: expected  ["default"]', "         got       []",
        "3 cases: 2 passed, 1 failed",
    ]  # fmt: skip
    told = cli("privacy", "test", "northbound.toml", "mine.toml", "--json")
    assert told.status == 1
    assert (told.json["ok"], told.json["passed"], told.json["failed"]) == (False, 2, 1)
    assert told.json["cases"][2]["differences"][0] == {"what": "value", "expected": 2, "got": 1}


def test_cases_touch_nothing_and_need_no_secret(cli, acme):
    (acme / "northbound.toml").write_text(CONFIGURATION.replace("secret = ", "# "))
    (acme / "privacy.cases.toml").write_text(CASES)
    before = sorted(acme.iterdir())
    assert cli("privacy", "test", "northbound.toml").status == 0
    assert sorted(acme.iterdir()) == before


def test_without_cases_it_is_wrong_usage(cli, acme):
    told = cli("privacy", "test", "northbound.toml")
    assert told.status == 2
    assert "there is no privacy.cases.toml: write one" in told.err
    (acme / "privacy.cases.toml").write_text("")
    told = cli("privacy", "test", "northbound.toml")
    assert told.status == 2
    assert "write [[cases]]" in told.err


def test_all_problems_of_all_files_at_once(cli, acme):
    (acme / "one.toml").write_text('[[cases]]\nnaem = "x"\n')
    (acme / "two.toml").write_bytes(b"\xff")
    told = cli("privacy", "test", "northbound.toml", "one.toml", "two.toml")
    assert told.status == 1
    assert "one.toml: cases.0.naem: is not a known key (did you mean 'name'?)" in told.err
    assert "two.toml: is not UTF-8 at byte 0" in told.err


# scan


def scanned(told) -> dict[str, tuple[int, dict[str, int]]]:
    return {row["detector"]: (row["found"], row["rules"]) for row in told.json["detectors"] if row["found"]}


def test_scan_of_a_file_with_lines_of_every_form(cli, acme):
    payload = json.dumps({"time": 1, "value": json.dumps({"a": MAIL})})
    topic = "placeos/org-acme/state/bld-1/_/_/sys-7/dep-1/Meeting Room/1/x"
    written = {"topic": topic, "retain": True, "kind": "state", "time": 1, "key": "a-1"}
    lines = [
        *EVENTS,
        json.dumps({**written, "payload": payload}),
        json.dumps({**written, "payload_base64": base64.b64encode(payload.encode()).decode()}),
        f"{topic} {payload}",
        f"zigbee2mqtt/lamp {MAIL}",
        f"{topic} (null)",
        f"only {MAIL}",
        "{" + MAIL,
        "",
    ]
    (acme / "mixed.txt").write_text("\n".join(lines))
    told = cli("privacy", "scan", "northbound.toml", "--file", "mixed.txt", "--json")
    assert told.status == 0
    assert scanned(told) == {
        "email": (10, {"default": 9, "nothing secret": 1}), "mac": (1, {"none": 1}),
        "token": (1, {"nothing secret": 1}),
    }  # fmt: skip
    assert told.json["messages"] == 11
    assert told.json["unrecognised"] == 2
    assert told.json["unprotected"] == 1
    assert {"rule": "default", "topic": topic, "count": 3} in told.json["rules"]
    says_nothing(told.out, told.err)
    told = cli("privacy", "scan", "northbound.toml", "--file", "mixed.txt", "--limit", "1")
    assert told.rows[:2] == [["email", "10", "7", "default (9), nothing secret (1)"], ["mac", "1", "1", "none"]]
    assert "2 lines of no known form" in told.err
    assert "on 1 find no rule would act" in told.err
    says_nothing(told.out, told.err)


def test_scan_fails_where_no_rule_would_act(cli, acme):
    assert cli("privacy", "scan", "northbound.toml", "--file", "events.jsonl", "--fail").status == 1
    (acme / "events.jsonl").write_text(event("x", MAIL))
    assert cli("privacy", "scan", "northbound.toml", "--file", "events.jsonl", "--fail").status == 0


def test_scan_of_standard_input(cli, acme, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(EVENTS[0].encode())))
    assert scanned(cli("privacy", "scan", "northbound.toml", "--file", "-", "--json"))["email"][0] == 1


@pytest.mark.parametrize(
    "line", ['{"a":' * 5000, "[" * 5000, '{"topic":"a\\ud800"}', '{"topic":"a","payload_base64":"%"}', "\xff"]
)
def test_scan_of_hostile_lines(cli, acme, line):
    (acme / "hostile.txt").write_bytes(f"{line} {MAIL}\n{EVENTS[1]}\n".encode("latin-1"))
    told = cli("privacy", "scan", "northbound.toml", "--file", "hostile.txt", "--json")
    assert told.status == 0
    assert scanned(told) == {"email": (2, {"default": 2})}
    assert told.json["unrecognised"] == 1
    says_nothing(told.out, told.err)


def test_scan_of_a_line_without_end_is_bounded(cli, acme, monkeypatch):
    monkeypatch.setattr("northbound.cli.captures.LONGEST_LINE", 1000)
    (acme / "long.txt").write_text(f"{'x' * 2500} {MAIL}\n{EVENTS[0]}\n")
    told = cli("privacy", "scan", "northbound.toml", "--file", "long.txt", "--json")
    assert told.status == 0
    assert told.json["messages"] == 4
    says_nothing(told.out, told.err)


def test_scan_of_the_store_with_its_dead_letters(cli, acme):
    text = CONFIGURATION.replace("[privacy]", "[privacy]\ndefault = false")
    (acme / "northbound.toml").write_text(text)
    assert run_northbound(acme, "run", "--once").returncode == 0
    before = (acme / "northbound.db").read_bytes()
    (acme / "northbound.toml").write_text(CONFIGURATION)
    told = cli("privacy", "scan", "northbound.toml", "--store", "--json")
    assert told.status == 0
    # Three messages are stored, two of which are dead letters of the small connector as well.
    assert told.json["messages"] == 5
    assert scanned(told) == {"email": (5, {"default": 5}), "mac": (2, {"none": 2})}
    assert (acme / "northbound.db").read_bytes() == before
    says_nothing(told.out, told.err)


def test_scan_of_the_store_beside_the_service(cli, acme):
    (acme / "events.jsonl").write_text("\n".join([EVENTS[0], *(event("n", n) for n in range(500))]))
    with Service(acme, CONFIGURATION):
        until(lambda: (acme / "sent.jsonl").exists() and (acme / "sent.jsonl").read_text().count("\n") >= 501)
        told = cli("privacy", "scan", "northbound.toml", "--store", "--json")
        assert told.status == 0
        assert scanned(told)["mac"][1] == {"none": told.json["unprotected"]}
        assert "email" not in scanned(told)


def test_scan_of_a_store_that_is_not_there(cli, acme):
    told = cli("privacy", "scan", "northbound.toml", "--store")
    assert told.status == 1
    assert "does not exist: the service makes it" in told.err


async def publish(port: int, messages: list[tuple[str, str]], **options) -> None:
    client = Client(ClientOptions(host="127.0.0.1", port=port, **options))
    await client.connect()
    await client.publish([Publish(topic, payload.encode(), 1, retain=True) for topic, payload in messages])
    await client.disconnect()


async def test_scan_of_a_broker(cli, acme, monkeypatch):
    users = {"good": "geheim"}
    with Mosquitto(acme, users=users) as broker:
        messages = [(f"zigbee2mqtt/lamp{number}", json.dumps({"by": MAIL})) for number in range(30)]
        await publish(broker.port, [*messages, ("else/where", MAC)], username="good", password="geheim")
        monkeypatch.setenv("PASSWORD", "geheim")
        url = f"mqtt://127.0.0.1:{broker.port}"
        arguments = ["privacy", "scan", "northbound.toml", "--broker", url, "--username", "good", "--json"]
        arguments += ["--password-env", "PASSWORD", "--duration", "1s"]
        told = in_a_thread(cli, *arguments)
        assert told.status == 0, told.err
        assert scanned(told) == {"email": (30, {"default": 30}), "mac": (1, {"none": 1})}
        says_nothing(told.out, told.err)
        told = in_a_thread(cli, *arguments, "--filter", "else/#")
        assert told.json["messages"] == 1
        monkeypatch.setenv("PASSWORD", "wrong")
        told = in_a_thread(cli, *arguments)
        assert told.status == 1
        assert "wrong" not in told.err


async def test_scan_of_a_broker_over_a_websocket(cli, acme):
    with Mosquitto(acme) as broker:
        await publish(broker.port, [("zigbee2mqtt/lamp", json.dumps({"by": MAIL}))])
        async with WebSocketFront(broker.port) as front:
            url = f"ws://127.0.0.1:{front.port}/mqtt"
            arguments = ["privacy", "scan", "northbound.toml", "--broker", url, "--duration", "1s", "--json"]
            told = await asyncio.to_thread(cli, *arguments)
            assert told.status == 0, told.err
            assert scanned(told) == {"email": (1, {"default": 1})}
            assert front.paths == ["/mqtt"]


def in_a_thread(cli, *arguments):
    """Call the command where no event loop runs."""
    ended = []
    thread = threading.Thread(target=lambda: ended.append(cli(*arguments)))
    thread.start()
    thread.join(60)
    return ended[0]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "--file FILE, --store or --broker URL"),
        (["--store", "--file", "x"], 2, "one of the three"),
        (["--broker", "http://x"], 2, "begins with mqtt://, mqtts://, ws:// or wss://"),
        (["--broker", "mqtt://x", "--filter", "a/#/b"], 2, "--filter"),
        (["--broker", "mqtt://x", "--password-env", "NOT_SET"], 2, "NOT_SET is not set"),
        (["--broker", f"mqtt://127.0.0.1:{free_port()}"], 1, "refuses the connection"),
        (["--file", "nothing.txt"], 1, "nothing.txt"),
    ],
)
def test_scan_of_what_cannot_be(cli, acme, arguments, status, words):
    told = cli("privacy", "scan", "northbound.toml", *arguments)
    assert told.status == status
    assert words in told.err


# hash


def test_hash_is_what_the_policy_writes(cli, acme):
    written = HASH.search(cli("preview", "--input", "events.jsonl").out).group()
    told = cli("privacy", "hash", "northbound.toml", MAIL.upper())
    assert told.rows == [["default", "-", written]]
    says_nothing(told.out, told.err)


def test_hash_of_lines_that_stay_out_of_the_history(cli, acme, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{MAIL}\n\nno match canary\n"))
    told = cli("privacy", "hash", "northbound.toml", "--json")
    assert [(row["text"], row["detector"]) for row in told.json] == [(1, "email"), (2, None)]
    assert "text 2, rule 'default': no detector finds it, so it is hashed as it is" in told.err
    says_nothing(told.out, told.err)


@pytest.mark.parametrize(
    ("errors", "words"), [("strict", "standard input is not UTF-8"), ("surrogateescape", "text 2 is not UTF-8")]
)
def test_no_hash_of_what_is_not_utf_8(cli, acme, monkeypatch, errors, words):
    lines = io.BytesIO("jane\njürgen canary\n".encode("latin-1"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(lines, encoding="utf-8", errors=errors))
    told = cli("privacy", "hash", "northbound.toml")
    assert (told.status, told.out) == (1, "")
    assert words in told.err
    assert "defect" not in told.err
    says_nothing(told.err)
    told = cli("privacy", "hash", "northbound.toml", "j\udcfcrgen")
    assert (told.status, told.out) == (1, "")
    assert "text 1 is not UTF-8" in told.err


def test_hash_by_rule_connector_and_detector(cli, acme):
    rules = '[[privacy.rules]]\nname = "calls"\ndetect = ["phone"]\naction = "hash"\nprefix = "tel."\nlength = 8\n'
    rules += 'connectors = ["out"]\n'
    (acme / "northbound.toml").write_text(CONFIGURATION + rules)
    spaced, joined = (
        cli("privacy", "hash", "northbound.toml", number, "--connector", "out").rows
        for number in ("+44 20 7946 0958", "+442079460958")
    )
    assert spaced == joined
    assert re.fullmatch(r"tel\.[0-9a-f]{4}-[0-9a-f]{8}", spaced[0][2])
    assert len(cli("privacy", "hash", "northbound.toml", "x").rows) == 2
    assert len(cli("privacy", "hash", "northbound.toml", "x", "--rule", "calls").rows) == 1
    told = cli("privacy", "hash", "northbound.toml", MAIL, "--detector", "phone")
    assert told.status == 1
    assert "'phone' does not find text 1" in told.err
    says_nothing(told.out, told.err)
    assert "one of" in cli("privacy", "hash", "northbound.toml", "x", "--detector", "phne").err
    assert "'calls' of out" in cli("privacy", "hash", "northbound.toml", "x", "--rule", "call").err


def test_there_is_no_hash_before_there_is_a_secret(cli, acme):
    (acme / "northbound.toml").write_text(CONFIGURATION.replace("secret = ", "# "))
    told = cli("privacy", "hash", "northbound.toml", MAIL)
    assert (told.status, told.out) == (1, "")
    assert "northbound.db.privacy-secret" in told.err
    assert not (acme / "northbound.db.privacy-secret").exists()


# preview


def test_piped_a_preview_is_for_sharing(cli, acme):
    (acme / "events.jsonl").write_text("\n".join([*EVENTS, '{"kind":"state","canary.bob@example.com":1}']))
    for arguments in ([], ["--json"]):
        told = cli("preview", "--input", "events.jsonl", *arguments)
        assert told.status == 0
        says_nothing(told.out.replace(MAC, ""), told.err)
        told = cli("preview", "--input", "events.jsonl", "--originals", *arguments)
        assert MAIL in told.out
    lines = [json.loads(line) for line in cli("preview", "--input", "events.jsonl", "--json").out.splitlines()]
    assert [line["rules"] for line in lines] == [["default"], ["default"], ["nothing secret"], ["default"], []]
    assert lines[2]["dropped"]
    assert "original" not in lines[0]
    row = next(row for row in cli("preview", "--input", "events.jsonl").rows if row[0] == "line 3")
    assert row == ["line 3", "-", "dropped", "by the privacy rule 'nothing secret'"]


def test_what_withholds_is_shown(cli, acme):
    rules = '[[privacy.rules]]\nname = "far"\nstates = ["far*"]\naction = "generalise"\nround = 10\n'
    (acme / "northbound.toml").write_text(
        CONFIGURATION + rules + rules.replace("far", "near") + 'connectors = ["out"]\n' + rules.replace(
            '"far"', '"not for out"', 1).replace("far*", "mine").replace("generalise", "drop").replace("round = 10", "")
        + 'connectors = ["out"]\n')  # fmt: skip
    many = "9" * 60
    (acme / "events.jsonl").write_text("\n".join([event("far", many), event("near", many), event("mine", 1)]))
    rows = cli("preview", "--input", "events.jsonl").rows
    assert rows[0][1:] == ["-", "withheld", "the privacy rule 'far' could not be evaluated: ValueError"]
    assert rows[1][1:] == ["out", "rejected", "the privacy rule 'near' could not be evaluated: ValueError"]
    assert [row[2] for row in rows if row[1] == "out"][-1] == "withheld"
    assert many not in cli("preview", "--input", "events.jsonl", "--json").out.replace(
        json.dumps(many)[1:-1], "", 1)  # fmt: skip


def test_on_a_terminal_the_change_is_in_colour(acme):
    drawn = on_a_terminal("preview", "--input", "events.jsonl")
    assert "\x1b[9;31mcanary.bob@example.com\x1b[0m\x1b[1;32m" in drawn
    assert "privacy: default" in drawn
    assert "dropped: " in drawn
    drawn = on_a_terminal("preview", "--input", "events.jsonl", "--no-originals")
    assert HASH.search(drawn)
    says_nothing(drawn.replace(MAC, ""))


def test_on_a_terminal_cases_and_scans_are_drawn(acme):
    (acme / "mine.toml").write_text(CASES + WRONG)
    drawn = on_a_terminal("privacy", "test", "northbound.toml", "mine.toml")
    assert {"\x1b[32m✓ ", "\x1b[1;31m✗ "} <= set(re.findall("\x1b\\[[0-9;]*m[✓✗] ", drawn))
    assert "✗ wrong" in re.sub("\x1b\\[[0-9;]*m", "", drawn)
    drawn = on_a_terminal("privacy", "scan", "northbound.toml", "--file", "events.jsonl")
    assert "rule that would act" in drawn
    assert "\x1b[1;31mnone" in drawn
    says_nothing(drawn)


# run


def test_a_run_tells_of_rules_and_logs_nothing_personal(acme):
    broken = f'{{"kind":"state","{MAIL}":1}}'
    (acme / "events.jsonl").write_text("\n".join([*EVENTS, broken]))
    text = CONFIGURATION.replace("[privacy]", '[service]\nlog_level = "debug"\n[privacy]')
    (acme / "northbound.toml").write_text(text)
    done = run_northbound(acme, "run", "--once")
    assert done.returncode == 0, done.stderr
    assert "privacy: 2 rules in force, the default policy among them" in done.stderr
    assert "audit log northbound.db.audit.jsonl" in done.stderr
    assert "in: 1 event dropped by privacy rules" in done.stdout
    assert "privacy: nothing secret (drop) acted 1 time" in done.stdout
    assert "privacy: default (hash) acted 3 times" in done.stdout
    says_nothing(done.stdout, done.stderr)
    told = json.loads(run_northbound(acme, "run", "--once", "--json").stdout)
    assert {rule["name"] for rule in told["rules"]} == {"nothing secret", "default"}
    assert told["sources"][0]["dropped"] == 0


def test_a_run_without_any_rule_says_so(acme):
    (acme / "northbound.toml").write_text(CONFIGURATION.partition("[privacy]")[0] + "[privacy]\ndefault = false\n")
    done = run_northbound(acme, "run", "--once")
    assert "WARNING privacy: no rule is in force" in done.stderr
