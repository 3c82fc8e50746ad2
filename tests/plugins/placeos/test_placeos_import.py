"""``northbound import placeos``: brokers of a real table as a configuration that loads."""

from __future__ import annotations

import stat
import sys

import pytest

from northbound.cli import main
from northbound.loading import load_file
from northbound.registry import Registry
from northbound_placeos.brokers import imported

PASSWORD = "pa'ss\"\\w\x7förd"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NORTHBOUND_DEBUG", "")

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["northbound", "import", "placeos", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return call


def furnish(installation) -> None:
    put = installation.put
    put("broker", "broker-1", name='Cloud "MQTT"', host="cloud.example.com", port=8883, tls=True, username="acme",
        password=PASSWORD, secret="5ecr3t", filters=["bob@example.com", r"[\w.]+@\w+", "(?=x)y"])  # fmt: skip
    put("broker", "broker-2", name="cloud mqtt", host="::1", port=1883, auth_type=1, secret="x", username="u")
    put("broker", "broker-3", name="Certified", host="c.example.com", port=1883, tls=True, auth_type=0, secret="y",
        certificate="-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----")  # fmt: skip


def test_brokers_become_connectors(installation, run, tmp_path):
    furnish(installation)
    status, out, err = run("--postgres", installation.url, "--redis", "redis://:hush@127.0.0.1:6379")
    assert status == 0, err
    configuration = load_file(tmp_path / "northbound.toml", Registry())
    by_name = {connector.name: connector.options for connector in configuration.connectors}
    assert sorted(by_name) == ["certified", "cloud-mqtt", "cloud-mqtt-2"]
    cloud = by_name["cloud-mqtt"] if by_name["cloud-mqtt"].password else by_name["cloud-mqtt-2"]
    assert cloud.url == "mqtts://cloud.example.com:8883"
    assert cloud.password.get_secret_value() == PASSWORD
    (rule,) = configuration.privacy.rules
    assert (rule.action, rule.format, rule.secret.get_secret_value()) == ("hash", "placeos", "5ecr3t")
    assert configuration.site.profile == "placeos"
    assert configuration.sources[0].options.redis.get_secret_value() == "redis://:hush@127.0.0.1:6379"

    text = (tmp_path / "northbound.toml").read_text()
    assert not [secret for secret in ("hush", "5ecr3t", "ss\\") if secret in text + out + err]
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    for path in (tmp_path / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "never checked the broker's certificate" in out
    assert "accepted certificate authentication and never did it" in out
    assert "holds a private key" in out
    assert "took these filters for plain text" in out
    assert "(?=x)y" in out.partition("left out")[2]
    assert "(?=x)y" in text.partition("# left out")[2]


def test_the_password_of_an_address_is_put_aside_however_it_is_written(installation, run, tmp_path):
    port = installation.postgres.port
    address = f"host=127.0.0.1 port={port} dbname={installation.database} user=postgres password = hushhush"
    installation.put("broker", "broker-1", name="Cloud", host="cloud.example.com", secret="x")
    assert run("--postgres", address)[0] == 0
    assert "hush" not in (tmp_path / "northbound.toml").read_text()
    assert load_file(tmp_path / "northbound.toml", Registry()).sources[0].options.postgres.get_secret_value() == address


def test_what_looks_like_a_reference_is_none(installation, run, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_OURS", "never sent")
    filters = [r"^\d+${2}", "x${SECRET_OF_OURS}"]
    installation.put("broker", "broker-1", name="Cloud", host="h", username="${SECRET_OF_OURS}", secret="x",
        filters=filters)  # fmt: skip
    installation.put("broker", "broker-2", name="Other", host="h", username="a${b}c", secret="x")
    status, _, err = run("--postgres", installation.url)
    assert status == 0, err
    configuration = load_file(tmp_path / "northbound.toml", Registry())
    assert [c.options.username for c in configuration.connectors] == ["${SECRET_OF_OURS}", "a${b}c"]
    detector = next(d for d in configuration.detectors if d.name == "cloud_filters")
    assert list(detector.options.patterns) == filters


@pytest.mark.parametrize("columns", [{"host": "h:8883"}, {"host": "mqtt://h"}, {"host": "h", "port": 70_000}])
def test_a_broker_that_can_be_none_stands_in_the_file_as_a_comment(installation, run, tmp_path, columns):
    put = installation.put
    put("broker", "broker-1", name="Broken", secret="x", username="u", password="hush", filters=["bob"], **columns)
    put("broker", "broker-2", name="Cloud", host="cloud.example.com", secret="x")
    status, out, _ = run("--postgres", installation.url)
    assert status == 1
    assert "broken: it cannot be used as it is, and is written as a comment: " in " ".join(out.split())
    assert [c.name for c in load_file(tmp_path / "northbound.toml", Registry()).connectors] == ["cloud"]
    text = (tmp_path / "northbound.toml").read_text()
    assert "# [connectors.broken]" in text
    assert "hush" not in text + out
    assert run("--postgres", installation.url, "--force", "--json")[0] == 1


def test_it_writes_over_nothing_unless_told_to(installation, run, tmp_path):
    furnish(installation)
    (tmp_path / "northbound.toml").write_text("mine")
    status, _, err = run("--postgres", installation.url)
    assert status == 1
    assert "--force" in err
    assert (tmp_path / "northbound.toml").read_text() == "mine"
    assert not (tmp_path / "secrets").exists()
    assert run("--postgres", installation.url, "--force")[0] == 0
    assert run("--postgres", installation.url, "--force", "--json")[0] == 0


def test_an_installation_without_brokers(installation, run):
    status, _, err = run("--postgres", installation.url)
    assert status == 1
    assert "no connector is configured" in err


def test_what_does_not_answer_and_what_may_not_be_read(installation, run, postgres):
    status, _, err = run("--postgres", "postgresql://reader:hush@127.0.0.1:1/place")
    assert status == 1
    assert "127.0.0.1:1/place" in err
    assert "hush" not in err
    status, _, err = run("--postgres", "mysql://reader:hush@db/place")
    assert status == 2
    assert "hush" not in err
    installation.db.execute("DROP TABLE broker")
    status, _, err = run("--postgres", installation.url)
    assert status == 1
    assert "GRANTs" in err


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"host": "h", "tls": True, "port": 1883}, "8883"),
        ({"host": "h", "auth_type": 1, "password": "p"}, "no authentication"),
        ({"host": "h", "password": "p"}, "version 5"),
        ({"host": "h", "certificate": "x"}, "never used it"),
        ({"host": "h", "id": "broker-7"}, "broker-7"),
        ({"host": "h", "filters": ["plain"]}, "northbound preview"),
    ],
)
def test_what_a_person_should_know_is_said(row, words):
    assert words in " ".join(imported(row).remarks)


def test_a_filter_without_special_characters_meant_what_it_did():
    assert "plain text" not in " ".join(imported({"host": "h", "filters": ["bob"]}).remarks)
    assert imported({"host": "::1"}).options["url"] == "mqtt://[::1]:1883"
