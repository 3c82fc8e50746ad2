"""``northbound status`` and ``tail`` beside a running service."""

import json
import os
import signal
import ssl
import subprocess

import pytest
import trustme
from tests.support.scene import ORG, Scene, state
from tests.support.service import until
from websockets.sync.client import connect

from northbound import mqtt
from northbound.cli import tail

POWER = f"placeos/{ORG}/state/bld-harbour/lvl-2/area-west/sys-7/drv-display/Display/1/power"


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    with Scene(tmp_path_factory.mktemp("scene")) as made:
        until(lambda: told(made)["connectors"][0]["counters"]["acknowledged"] > 40, what="the values are delivered")
        yield made


def told(scene):
    return json.loads(scene.service.call("status", "--json").stdout)


def test_the_status_is_told_and_wrong_where_a_connector_is_away(scene):
    done = scene.service.call("status")
    assert done.returncode == 1, done.stderr
    rows = {line.split("\t")[0]: line.split("\t") for line in done.stdout.splitlines()}
    assert rows["aws"][2] == "online"
    assert rows["hive"][2] in ("retrying", "connecting")
    assert rows["aws"][8] == "4", "dead letters"
    assert rows["building"][:3] == ["building", "jsonl", "running"]


def test_json_is_the_whole_status(scene):
    found = told(scene)
    assert not found["healthy"]
    assert {c["name"] for c in found["connectors"]} == {"aws", "hive"}
    assert found["api"]["retained"] > 40


def test_watching_goes_on_until_it_is_interrupted(scene):
    process = subprocess.Popen(
        scene.service.command("status", "--watch", "--json"), stdout=subprocess.PIPE, cwd=scene.folder, text=True
    )
    with process:
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        process.send_signal(signal.SIGINT)
    assert second["uptime"] > first["uptime"]
    assert process.returncode == 130


def test_tail_gives_the_present(scene):
    done = scene.service.call("tail", POWER, "--count", "1")
    assert done.returncode == 0, done.stderr
    moment, topic, value = done.stdout.rstrip("\n").split("\t")
    assert (topic, value) == (POWER, "true")
    assert moment.count(":") == 2


def test_tail_gives_what_is_new(scene):
    process = subprocess.Popen(
        scene.service.command("tail", "+/+/state/#", "--new", "--count", "1", "--json"),
        stdout=subprocess.PIPE, cwd=scene.folder, text=True,
    )  # fmt: skip
    with process:
        until(lambda: told(scene)["api"]["streams"] == 1, what="the stream is open")
        scene.tell(state("sys-8", "drv-light", "Lights", "scene", "cinema"))
        event = json.loads(process.stdout.readline())
    assert event["topic"].endswith("/Lights/1/scene")
    assert event["payload"]["value"] == '"cinema"'
    assert process.returncode == 0


def test_elsewhere_a_token_is_needed_and_counts(scene):
    assert "set NORTHBOUND_TOKEN" in scene.service.call("status", "--url", scene.url).stderr

    def ask(token, *arguments):
        return subprocess.run(
            scene.service.command(*arguments, "--url", scene.url), capture_output=True, text=True, check=False,
            env={**os.environ, "NORTHBOUND_TOKEN": token},
        )  # fmt: skip

    assert json.loads(ask(scene.watcher, "status", "--json").stdout)["connectors"]
    assert "for the roles support and admin" in ask(scene.reader, "status").stderr
    assert ask(scene.reader, "tail", POWER, "--count", "1").stdout.endswith("true\n")
    assert "wholly outside" in ask(scene.stranger, "tail", POWER).stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status", "--store", "nothing.db"], "no service with an API runs on nothing.db"),
        (["tail", "a/#/b"], "'#' must be a whole level"),
        (["status", "--url", "http://127.0.0.1:1", "--store", "x.db"], "leave --config and --store out"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(scene, arguments, words):
    done = scene.service.call(*arguments)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_service_that_was_killed_is_said_to_be_gone(tmp_path):
    scene = Scene(tmp_path)
    with scene:
        scene.service.kill()
        done = scene.service.call("status")
    assert done.returncode == 1
    assert "is the service running?" in done.stderr


def test_over_tls_the_very_certificate_is_expected_and_websockets_work(tmp_path):
    ca, other = trustme.CA(), trustme.CA()

    def write(issuer):
        issued = issuer.issue_cert("building.example.com")  # not the address that the command goes to
        issued.private_key_pem.write_to_path(tmp_path / "key.pem")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")

    write(ca)
    with Scene(tmp_path, api='certificate = "cert.pem"\nprivate_key = "key.pem"') as scene:
        assert scene.url.startswith("https://")
        assert told(scene)["connectors"]
        trusting = ssl.create_default_context()
        ca.configure_trust(trusting)
        address = f"{scene.url.replace('https', 'wss')}/api/mqtt/"
        with connect(
            address, ssl=trusting, server_hostname="building.example.com", subprotocols=["mqtt"], proxy=None
        ) as socket:
            socket.send(mqtt.encode(mqtt.Connect(version=4, client_id="c", username=scene.reader), 4))
            assert socket.recv() == b"\x20\x02\x00\x00"  # MQTT 3.1.1, 3.2: accepted
        write(other)
        assert "certificate verify failed" in scene.service.call("status").stderr


@pytest.mark.parametrize(
    ("event", "value"),
    [
        ({"payload": None}, "(cleared)"),
        ({"payload": {"time": 1, "value": "true"}}, "true"),
        ({"payload": {"time": 1, "value": {"a": 1}}}, '{"a":1}'),
        ({"payload": {"name": "Boardroom 7"}}, '{"name":"Boardroom 7"}'),
        ({"payload_text": "plain"}, "plain"),
        ({"payload_base64": "//4="}, "//4="),
    ],
)
def test_a_value_is_shown_in_whichever_form_it_comes(event, value):
    assert tail.value_of(event) == value
