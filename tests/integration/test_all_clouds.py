"""One process delivers the simulated campus to three clouds, a broker and a file at once; each in its own shape."""

import json
import subprocess
import sys

import pytest

from northbound.loading import load_text
from northbound.registry import Registry
from northbound.topics import TopicScheme

CLOUDS = ("aws", "azure", "google")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """What a demo with twins says, and the folder it leaves."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "northbound", "demo", "--twins", "--duration", "5s", "--rate", "300", "--json",
         "--dir", str(folder)],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout), folder


def lines(folder, kind):
    return [json.loads(line) for line in (folder / "clouds" / f"{kind}.jsonl").read_text().splitlines()]


def test_each_gets_every_message_and_the_inverse_of_its_shape_is_the_original(demo):
    told, _ = demo
    assert told["ok"], told["checks"]
    assert told["accepted"] > 2_000
    got = {connector["name"]: connector["acknowledged"] for connector in told["connectors"]}
    assert got == dict.fromkeys(("file", "mosquitto", *CLOUDS), told["accepted"])
    words = [check["words"] for check in told["checks"]]
    for name in CLOUDS:
        assert any(w.startswith(f"{name} took") and "the newest value of each topic is the file's" in w for w in words)


def test_each_cloud_gets_it_in_its_own_shape(demo):
    _, folder = demo
    aws, azure, google = (lines(folder, kind) for kind in ("aws-iot", "azure-iot", "gcp-pubsub"))
    states = [line for line in aws if "/state/" in line["topic"]]
    assert len(states) > 1_000
    assert {line["topic"].count("/") for line in states} == {7}
    assert max(len(line["topic"].encode()) for line in aws) <= 256
    assert not any(line["retain"] for line in states)
    assert all(line["retain"] for line in aws if "/metadata/" in line["topic"])
    scheme = TopicScheme()
    for kind, taken in (("azure", azure), ("google", google)):
        for line in taken:
            address = scheme.parse(line["properties"]["topic"])
            assert address is not None, kind
            assert line["properties"]["org"] == address.org
            assert line["properties"]["kind"] == ("state" if "/state/" in line["properties"]["topic"] else "metadata")
    assert all(line["topic"].startswith("devices/northbound/messages/events/") for line in azure)
    assert all(line["properties"]["$.ct"] == "application/json" for line in azure)


def test_the_twins_by_themselves_give_what_a_configuration_needs(tmp_path):
    """Their options, put into a file, pass the check that connects."""
    twins = subprocess.Popen(
        [sys.executable, "-m", "northbound.testing.twins", str(tmp_path / "twins")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        options = json.loads(twins.stdout.readline())
        tables = "".join(
            f'[connectors.{kind}]\ntype = "{kind}"\n' + "".join(f"{k} = {json.dumps(v)}\n" for k, v in table.items())
            for kind, table in options.items()
        )
        text = f'[site]\norg = "o"\n[store]\npath = "s.db"\n[sources.in]\ntype = "jsonl"\npath = "-"\n{tables}'
        assert len(load_text(text, Registry(), name="x", base=tmp_path).connectors) == 3
        config = tmp_path / "northbound.toml"
        config.write_text(text)
        config.chmod(0o600)
        checked = subprocess.run(
            [sys.executable, "-m", "northbound", "check", str(config), "--connect", "--json"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        told = json.loads(checked.stdout)
        assert checked.returncode == 0, told
        assert all(answer["ok"] and answer["told"] for answer in told["destinations"])
        assert any(c["expires"] for answer in told["destinations"] for c in answer["credentials"])
    finally:
        twins.communicate(timeout=30)
    assert (tmp_path / "twins" / "aws-iot.jsonl").read_text() == ""


def test_an_unknown_twin_is_refused():
    done = subprocess.run(
        [sys.executable, "-m", "northbound.testing.twins", "x", "ibm"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "usage" in done.stderr
