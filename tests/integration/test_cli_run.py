"""``northbound run`` as a process: signals, reload, logs, exit status, and ``northbound demo``."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from datetime import datetime
from pathlib import Path

import pytest
from tests.core.cli.conftest import CONFIGURATION, event, run_northbound
from tests.support.mosquitto import free_port
from tests.support.npm import MQTT_JS, modules
from tests.support.service import Service, until

FOLLOWED = CONFIGURATION.replace('path = "events.jsonl"', 'path = "events.jsonl"\nfollow = true')


def sent(folder: Path, name: str = "sent.jsonl") -> list[str]:
    path = folder / name
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["topic"].rpartition("/")[2] for line in lines]


def add(folder: Path, *states: str) -> None:
    with (folder / "events.jsonl").open("a") as file:
        file.writelines(event(state) + "\n" for state in states)


def configured(folder: Path, text: str = CONFIGURATION) -> Path:
    (folder / "northbound.toml").write_text(text)
    return folder


def test_once_reads_delivers_and_sums_up(tmp_path):
    configured(tmp_path)
    add(tmp_path, "a", "b")
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write("nonsense\n")
    done = run_northbound(tmp_path, "run", "--once")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("accepted 2 messages in ")
    assert done.stdout.splitlines()[1].startswith("in: 1 event refused, the last: line 3: ")
    assert done.stdout.splitlines()[2] == "out: 2 acknowledged, 0 dead letters, 0 undelivered"
    assert sent(tmp_path) == ["a", "b"]
    for line in done.stderr.splitlines():
        moment, level, words = re.fullmatch(r"(\S+) (INFO|WARNING) +(.+)", line).groups()
        assert datetime.fromisoformat(moment).tzinfo is not None
        assert level
        assert words
    assert "reading in (jsonl: events.jsonl)" in done.stderr
    assert "delivering to out (file: sent.jsonl), 0 waiting" in done.stderr


def test_a_second_run_tells_only_what_is_new(tmp_path):
    configured(tmp_path)
    add(tmp_path, "a", "b")
    assert run_northbound(tmp_path, "run", "--once").returncode == 0
    add(tmp_path, "c")
    told = json.loads(run_northbound(tmp_path, "run", "--once", "--json").stdout)
    assert told["accepted"] == 1
    assert told["connectors"][0]["acknowledged"] == 1
    assert sent(tmp_path) == ["a", "b", "c"]


def test_a_strict_source_that_stops_is_1(tmp_path):
    configured(tmp_path, CONFIGURATION.replace('path = "events.jsonl"', 'path = "events.jsonl"\nstrict = true'))
    (tmp_path / "events.jsonl").write_text(f"{event('a')}\nnonsense\n{event('b')}\n")
    done = run_northbound(tmp_path, "run", "--once")
    assert done.returncode == 1
    assert sent(tmp_path) == ["a"]
    assert done.stderr.splitlines()[-1].startswith("northbound: in: events.jsonl, line 2: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[connectors.out]\ntype = "fil"\n', "did you mean 'file'?"),
        (FOLLOWED, "run it without --once"),
        ("[", "is not TOML"),
    ],
)
def test_what_cannot_run_is_1_with_the_remedy_and_makes_no_store(tmp_path, text, words):
    configured(tmp_path, text)
    done = run_northbound(tmp_path, "run", "--once")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "northbound.db").exists()


def test_a_store_that_is_none_is_refused(tmp_path):
    configured(tmp_path)
    (tmp_path / "northbound.db").write_text("mine")
    done = run_northbound(tmp_path, "run", "--once")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("northbound: northbound.db is not a northbound store")
    assert (tmp_path / "northbound.db").read_text() == "mine"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_stops_with_0(tmp_path, number):
    add(tmp_path, *(f"s{n}" for n in range(500)))
    with Service(tmp_path, FOLLOWED + "rate.messages = 400\n") as service:
        until(lambda: sent(tmp_path), what="begins")
        service.process.send_signal(number)
        assert service.process.wait(20) == 0
        log = service.log()
    assert sent(tmp_path) == [f"s{n}" for n in range(500)]
    assert f"{number.name}: no more is taken in; delivering for up to 10 s" in log
    assert "out: 500 acknowledged, 0 dead letters, 0 undelivered" in log


def test_what_cannot_be_delivered_in_time_stays_and_is_told(tmp_path):
    add(tmp_path, "a")
    text = FOLLOWED.replace('path = "sent.jsonl"', 'path = "none/sent.jsonl"') + '[service]\ndrain = "300ms"\n'
    with Service(tmp_path, text) as service:
        until(lambda: "retrying" in service.log(), what="tries")
        assert service.stop() == 0
        log = service.log()
    assert "out: 0 acknowledged, 0 dead letters, 1 undelivered (the folder " in log
    (tmp_path / "none").mkdir()
    (tmp_path / "northbound.toml").write_text(text.replace("follow = true", ""))
    assert run_northbound(tmp_path, "run", "--once").returncode == 0
    assert sent(tmp_path, "none/sent.jsonl") == ["a"]


def test_a_second_signal_stops_at_once(tmp_path):
    add(tmp_path, "a")
    text = FOLLOWED.replace('path = "sent.jsonl"', 'path = "none/sent.jsonl"') + '[service]\ndrain = "1h"\n'
    with Service(tmp_path, text) as service:
        until(lambda: "retrying" in service.log(), what="tries")
        service.process.send_signal(signal.SIGINT)
        until(lambda: "no more is taken in" in service.log(), what="drains")
        began = time.monotonic()
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(10) == 130
        assert time.monotonic() - began < 3
        assert "stopping at once" in service.log()
        assert "Traceback" not in service.log()


def test_silent_standard_input_does_not_hold_the_process(tmp_path):
    configured(tmp_path, CONFIGURATION.replace('"events.jsonl"', '"-"'))
    with subprocess.Popen(
        [sys.executable, "-m", "northbound", "run"], cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert b"northbound 0.1.0 runs" in process.stderr.readline() + process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(10) == 0


def test_hangup_reloads_what_changed_and_keeps_the_old_where_the_new_is_wrong(tmp_path):
    add(tmp_path, "a")
    with Service(tmp_path, FOLLOWED) as service:
        until(lambda: sent(tmp_path) == ["a"], what="first")
        config = service.config

        config.write_text("[connectors.out]\ntype = 'fil'\n")
        service.process.send_signal(signal.SIGHUP)
        until(lambda: "the old one goes on" in service.log(), what="refused")
        assert "did you mean 'file'?" in service.log()
        add(tmp_path, "b")
        until(lambda: sent(tmp_path) == ["a", "b"], what="goes on")

        more = '[connectors.more]\ntype = "file"\npath = "more.jsonl"\n[service]\nlog_format = "json"\n'
        config.write_text(FOLLOWED + more)
        service.process.send_signal(signal.SIGHUP)
        until(lambda: sent(tmp_path, "more.jsonl") == ["a", "b"], what="a new connector gets what there is")
        add(tmp_path, "c")
        until(lambda: sent(tmp_path, "more.jsonl")[-1:] == ["c"] and sent(tmp_path)[-1:] == ["c"], what="both")

        config.write_text(FOLLOWED + '[store]\npath = "elsewhere.db"\n')
        service.process.send_signal(signal.SIGHUP)
        until(lambda: "restart the service" in service.log(), what="refused")
        assert service.stop() == 0
        log = service.log()
    assert log.count("out: online") == 1
    assert sent(tmp_path) == ["a", "b", "c"]
    records = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {"time", "level", "logger", "message"} == set(records[0])


def test_many_signals_do_not_confuse_it(tmp_path):
    add(tmp_path, "a")
    with Service(tmp_path, FOLLOWED) as service:
        until(lambda: sent(tmp_path) == ["a"], what="first")
        for _ in range(20):
            service.process.send_signal(signal.SIGHUP)
            time.sleep(0.01)
        assert service.stop() == 0
        assert "Traceback" not in service.log()


def test_a_log_that_nobody_reads_does_not_end_it(tmp_path):
    configured(tmp_path)
    add(tmp_path, "a")
    with subprocess.Popen(
        [sys.executable, "-m", "northbound", "run", "--once"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stderr.close()
        assert b"accepted 1 message " in process.stdout.read()
        assert process.wait(20) == 0
    assert sent(tmp_path) == ["a"]


# the demo


def test_the_demo_proves_itself(tmp_path):
    done = run_northbound(tmp_path, "demo", "--duration", "1.5", "--rate", "500", "--dir", "here", "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    told = json.loads(done.stdout)
    assert told["ok"]
    assert told["accepted"] > 1500
    assert [c["name"] for c in told["connectors"]] == ["file", "mosquitto"]
    assert {c["acknowledged"] for c in told["connectors"]} == {told["accepted"]}
    assert len(told["checks"]) == 5
    assert "retained topics from the broker: each the newest value" in told["checks"][4]["words"]
    assert "mosquitto_sub" in done.stderr
    keys = {json.loads(line)["key"] for line in (tmp_path / "here" / "sent.jsonl").read_text().splitlines()}
    assert len(keys) == told["accepted"]
    again = run_northbound(tmp_path, "demo", "--duration", "1", "--dir", "here")
    assert again.returncode == 1
    assert "of an earlier demo" in again.stderr


def test_the_demo_goes_without_a_broker_and_leaves_nothing(tmp_path):
    code = "import northbound.cli.broker as b, northbound.cli as c; b.find = lambda: None; c.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--duration", "500ms"],
        capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Mosquitto is not installed" in done.stderr
    assert "Nothing was lost: the sums agree." in done.stdout
    assert "mosquitto:" not in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_demo_leaves_no_broker_behind(tmp_path, number):
    process = subprocess.Popen(
        [sys.executable, "-m", "northbound", "demo", "--duration", "60", "--dir", str(tmp_path / "d")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert "/#token=" in process.stdout.readline()
        assert any("accepted" in line for line in iter(process.stdout.readline, ""))
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert process.returncode == (0 if number != signal.SIGKILL else -9), err
    if number != signal.SIGKILL:
        assert "the sums agree" in out
    until(lambda: not brokers(tmp_path), what="the broker ends")


def test_the_demos_commands_and_tokens_work_as_they_are_printed(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "northbound", "demo", "--duration", "100"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    with process:
        printed: dict[str, str] = {}
        while "with northbound" not in printed:
            line = process.stdout.readline().rstrip("\n")
            assert line, printed
            printed[line[:21].strip()] = line[21:]
        for role in ("reader", "admin"):
            address, _, token = printed[f"dashboard, as {role}"].partition("/#token=")
            asked = urllib.request.Request(f"{address}/api/me", headers={"X-API-Key": token})
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(asked, timeout=20) as answer:
                assert json.load(answer)["identity"]["role"] == {"reader": "user", "admin": "admin"}[role]
        assert printed["a reader's token"] in printed["with Mosquitto"]
        mqttjs = printed["with MQTT.js"].replace("npx mqtt", str(modules("mqtt", MQTT_JS) / ".bin" / "mqtt"))
        northbound = printed["with northbound"].replace("northbound", f"{sys.executable} -m northbound", 1)
        for command in (printed["with Mosquitto"], mqttjs, northbound):
            look = subprocess.Popen(["/bin/bash", "-c", f"exec {command}"], stdout=subprocess.PIPE, text=True)
            with look:
                assert "placeos/org-campus/" in look.stdout.readline(), command
                look.kill()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def brokers(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if b"mosquitto.conf" in command and str(folder).encode() in command:
            found.append(entry.name)
    return found


def test_the_demo_draws_on_a_terminal(tmp_path):
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "northbound", "demo", "--duration", "1"],
        stdout=secondary, stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "NO_COLOR": "1"},
    )  # fmt: skip
    os.close(secondary)
    drawn = b""
    with process:
        while select.select([primary], [], [], 20)[0]:
            try:
                data = os.read(primary, 65_536)
            except OSError:
                break
            drawn += data
        process.communicate(timeout=20)
    os.close(primary)
    assert process.returncode == 0
    text = drawn.decode()
    assert "northbound demo" in text
    assert "Nothing was lost: the sums agree." in text
    assert not re.search(r"\x1b\[[0-9;]*3[0-9](;[0-9]+)*m", text), "colour in spite of NO_COLOR"


def test_the_demo_shows_what_it_runs(tmp_path):
    configuration = run_northbound(tmp_path, "demo", "--show-config", "--rate", "50").stdout
    (tmp_path / "northbound.toml").write_text(configuration)
    done = run_northbound(tmp_path, "check", "--json")
    assert done.returncode == 0, done.stdout
    assert free_port()
