"""``northbound check``: problems, warnings, and destinations that answer or do not."""

from __future__ import annotations

import datetime as dt
import socket
import threading

import pytest
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.tokens import JwksServer, jwk, key

from northbound import Credential, NotConnected, Unauthorised
from northbound_file import FileConnector


def write(site, text: str, mode: int = 0o600):
    path = site / "northbound.toml"
    path.write_text(text)
    path.chmod(mode)


SMALL = """
[site]
org = "org-acme"
[sources.in]
type = "jsonl"
path = "-"
"""


def test_a_good_file(cli, site):
    told = cli("check")
    assert (told.status, told.err) == (0, "")
    assert told.out.startswith("northbound.toml: no problems\n")
    told = cli("check", "--json")
    assert told.json == {
        "file": "northbound.toml", "ok": True, "problems": [], "warnings": [], "destinations": None,
        "privacy": {
            "rules": ["default"], "default": True, "secret": "northbound.db.privacy-secret",
            "audit": "northbound.db.audit.jsonl",
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "key", "remedy"),
    [
        ('[connectors.out]\ntype = "fil"', "connectors.out.type", "did you mean 'file'?"),
        ('[connectors.out]\ntype = "jsonl"', "connectors.out.type", "write [sources.NAME]"),
        ('[connectors.out]\ntype = "file"', "connectors.out.path", "The file to append to"),
        ('[connectors.out]\ntype = "file"\npaht = "x"', "connectors.out.paht", "did you mean 'path'?"),
        ('[site]\nprofile = "cloud"', "site.profile", "'documented', or 'placeos'"),
        ('[connectors.out]\ntype = "file"\npath = "${NOT_SET}"', "connectors.out.path", "set it"),
        ("", "connectors", "add a [connectors.NAME]"),
        ("[", "", "mend that line first"),
    ],
)
def test_a_broken_file_is_1_and_each_problem_has_key_and_remedy(cli, site, text, key, remedy):
    write(site, text)
    told = cli("check", "--json")
    assert told.status == 1
    assert not told.json["ok"]
    [problem] = [problem for problem in told.json["problems"] if problem["key"] == key]
    assert remedy in problem["remedy"]
    told = cli("check")
    assert told.status == 1
    assert f"({problem['remedy']})" in told.out
    assert f"error: northbound.toml: {key}" in told.out
    assert "problem" in told.out.splitlines()[-1]


def test_all_problems_at_once_on_one_line_each(cli, site):
    write(site, '[site]\nrot = 1\n[sources.a]\ntype = "x"\n[connectors.b]\ntype = "file"\nkeep = -1\n[stroe]\n')
    told = cli("check")
    assert len([line for line in told.out.splitlines() if line.startswith("error: ")]) == 5
    assert told.out.splitlines()[-1] == "northbound.toml: 5 problems"


def test_a_missing_file(cli, tmp_path):
    told = cli("check", tmp_path / "none.toml")
    assert told.status == 1
    assert "cannot be read: No such file or directory" in told.out


@pytest.mark.parametrize(
    ("table", "key", "words"),
    [
        ('url = "mqtt://a.test"\nusername = "u"\npassword = "geheim"', "connectors.out.password", "a secret stands"),
        ('url = "mqtt://u:geheim@a.test"', "connectors.out.url", "the URL holds a password"),
        ('url = "mqtts://a.test"\nca = "none.pem"', "connectors.out.ca", "there is no file"),
        ('url = "mqtts://a.test"\nca = "none/none.pem"', "connectors.out.ca", "does not exist"),
        ('url = "mqtt://a.test"\ntopic = "x/{system}/{state}"', "connectors.out.topic", "may share a topic"),
    ],
)
def test_warnings_do_not_change_the_status_and_tell_no_secret(cli, site, table, key, words):
    write(site, f'{SMALL}[connectors.out]\ntype = "mqtt"\n{table}\n')
    told = cli("check", "--json")
    assert told.status == (1 if "ca =" in table and told.json["problems"] else 0)
    found = [warning for warning in told.json["warnings"] + told.json["problems"] if warning["key"] == key]
    assert found, told.out
    if told.status == 0:
        assert words in found[0]["message"]
    assert "geheim" not in told.out


def test_a_default_topic_that_two_values_may_share_is_said(cli, site, monkeypatch):
    monkeypatch.setattr(FileConnector, "default_topic", "{root}/{org}/{building}/{system}/{state}")
    write(site, f'{SMALL}[connectors.out]\ntype = "file"\npath = "out.jsonl"\n')
    [warning] = cli("check", "--json").json["warnings"]
    assert warning["key"] == "connectors.out.topic"
    assert "the default '{root}" in warning["message"]
    assert "leaves out {driver}, {module}, {index}, {level}, {area}: different" in warning["message"]
    assert "set topic" in warning["remedy"]


def test_a_secret_in_a_file_that_others_read(cli, site):
    text = f'{SMALL}[connectors.out]\ntype = "mqtt"\nurl = "mqtts://u:geheim@a.test"\n'
    write(site, text, 0o644)
    [warning] = cli("check", "--json").json["warnings"]
    assert "others on this machine may read it (mode 644)" in warning["message"]
    assert "chmod 600" in warning["remedy"]


def test_a_secret_file_that_others_read(cli, site):
    (site / "password").write_text("geheim")
    (site / "password").chmod(0o644)
    reference = 'username = "u"\npassword = "${file:password}"'
    write(site, f'{SMALL}[connectors.out]\ntype = "mqtt"\nurl = "mqtts://a.test"\n{reference}\n')
    [warning] = cli("check", "--json").json["warnings"]
    assert "may read the secret in" in warning["message"]
    (site / "password").chmod(0o600)
    assert cli("check", "--json").json["warnings"] == []


def test_nothing_enabled(cli, site):
    write(site, f'{SMALL}[connectors.out]\ntype = "file"\npath = "x"\nenabled = false\n')
    [warning] = cli("check", "--json").json["warnings"]
    assert (warning["key"], warning["message"]) == ("connectors", "none is enabled")


def mqtt(port: int, more: str = "") -> str:
    return f'{SMALL}[connectors.out]\ntype = "mqtt"\nurl = "mqtt://127.0.0.1:{port}"\n{more}\n'


def test_connect_says_what_answers(cli, site):
    with Mosquitto(site, users={"good": "geheim"}) as broker:
        environment = 'username = "good"\npassword = "${file:password}"'
        (site / "password").write_text("geheim")
        (site / "password").chmod(0o600)
        write(site, mqtt(broker.port, environment) + '[connectors.audit]\ntype = "file"\npath = "sent.jsonl"\n')
        told = cli("check", "--connect", "--json")
        assert told.status == 0
        assert [(d["name"], d["ok"]) for d in told.json["destinations"]] == [("out", True), ("audit", True)]
        (site / "password").write_text("wrong")
        told = cli("check", "--connect")
        assert told.status == 1
        assert "likely cause: the login is wrong, or it may not connect" in told.out
        assert "audit: " in told.out
        assert "answers, after" in told.out


def test_connect_where_nobody_listens(cli, site):
    write(site, mqtt(free_port()))
    told = cli("check", "--connect")
    assert told.status == 1
    assert "nothing listens there" in told.out


def test_connect_where_nobody_answers(cli, site):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        write(site, mqtt(silent.getsockname()[1]))
        told = cli("check", "--connect", "--timeout", "300ms", "--json")
    assert told.status == 1
    [answer] = told.json["destinations"]
    assert answer["error"] == "no answer within 0.3 s"
    assert "firewall" in answer["cause"]
    assert 0.3 <= answer["seconds"] < 3


def test_connect_where_a_name_is_not_known(cli, site):
    write(site, mqtt(1).replace("127.0.0.1", "no-such-host.invalid"))
    told = cli("check", "--connect")
    assert "the name is not known" in told.out


def test_connect_where_something_else_answers(cli, site):
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer():
            connection, _ = other.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        write(site, mqtt(other.getsockname()[1], 'version = "5"'))
        told = cli("check", "--connect", "--json")
        thread.join()
    assert told.status == 1
    assert told.json["destinations"][0]["error"]


@pytest.mark.parametrize("running", [False, True])
def test_a_second_client_of_the_same_id_is_found_out(cli, site, monkeypatch, running):
    async def lost(self):
        raise NotConnected("session taken over")

    monkeypatch.setattr(FileConnector, "lost", lost)
    monkeypatch.setattr("northbound.cli.check.is_running", lambda path: running)
    write(site, f'{SMALL}[connectors.out]\ntype = "file"\npath = "sent.jsonl"\n')
    told = cli("check", "--connect", "--json")
    [answer] = told.json["destinations"]
    if running:
        assert told.status == 0
        assert answer["told"] == ["then hung up, since the service that runs signed in again: session taken over"]
    else:
        assert told.status == 1
        assert answer["error"] == "it answers, and ends the connection: session taken over"
        assert "another client signs in with the same id" in answer["cause"]


def test_a_connector_that_breaks_its_contract_is_an_answer(cli, site, monkeypatch):
    async def broken(_):
        raise KeyError("x")

    monkeypatch.setattr("northbound_file.connector.FileConnector.open", broken)
    told = cli("check", "--connect")
    assert told.status == 1
    assert "the connector failed: KeyError" in told.out
    assert "a defect of the connector" in told.out


def test_a_connectors_own_warnings_are_told(cli, site, monkeypatch):
    found = [("path", "leads to a tape", "name a disk"), ("", "is slow", "wait")]
    monkeypatch.setattr("northbound_file.FileConnector.warnings", lambda self: found)
    told = cli("check")
    assert told.status == 0
    assert "connectors.out.path: leads to a tape (name a disk)" in told.out
    assert "connectors.out: is slow (wait)" in told.out

    def defect(self):
        raise KeyError("hunter2")

    monkeypatch.setattr("northbound_file.FileConnector.warnings", defect)
    told = cli("check")
    assert told.status == 0
    assert "connectors.out: cannot be looked at: KeyError (a defect of the plugin: report it)" in told.out
    assert "hunter2" not in told.out


def test_connect_tells_what_the_connector_knows(cli, site, monkeypatch):
    now = dt.datetime.now(dt.UTC)
    ends = [now + dt.timedelta(days=12, hours=1), now + dt.timedelta(hours=1, minutes=1), now - dt.timedelta(days=1)]

    async def refused(self):
        self.tell("TLS to a.test:8883\x1b[2J")
        self.tell("CONNACK 135")
        raise Unauthorised("refused")

    file = "northbound_file.connector.FileConnector"
    monkeypatch.setattr(f"{file}.open", refused)
    monkeypatch.setattr(f"{file}.explain", lambda self, error: f"{error}: the clock is off", raising=False)
    found = [Credential("certificate", ends[0]), Credential("SAS token", ends[1], renewed=True)]
    found += [Credential("CA", ends[2]), Credential("key")]
    monkeypatch.setattr(f"{file}.credentials", lambda self: found, raising=False)
    write(site, f'{SMALL}[connectors.out]\ntype = "file"\npath = "x"\n')
    told = cli("check", "--connect")
    assert told.status == 1
    first, *rest = told.out.splitlines()[5:]
    assert first.endswith("refused")
    assert rest[:2] == ["  TLS to a.test:8883\\u001b[2J", "  CONNACK 135"]
    assert rest[2].startswith("  the certificate holds for 12 days more, until 20")
    assert rest[3].startswith("  the SAS token holds for 1.0 hours more")
    assert rest[3].endswith(", and is renewed by itself")
    assert rest[4].startswith("  the CA expired on ")
    assert rest[5] == "  likely cause: refused: the clock is off"
    (answer,) = cli("check", "--connect", "--json").json["destinations"]
    assert answer["told"][1] == "CONNACK 135"
    assert [c["name"] for c in answer["credentials"]] == ["certificate", "SAS token", "CA", "key"]


def test_connect_asks_whether_messages_would_be_taken(cli, site, monkeypatch):
    async def no(self):
        raise Unauthorised("the role does not allow to publish")

    def defect(self, error=None):
        raise KeyError

    file = "northbound_file.connector.FileConnector"
    monkeypatch.setattr(f"{file}.probe", no, raising=False)
    for name in ("credentials", "explain"):
        monkeypatch.setattr(f"{file}.{name}", defect, raising=False)
    write(site, f'{SMALL}[connectors.out]\ntype = "file"\npath = "x"\n')
    told = cli("check", "--connect")
    assert told.status == 1
    assert "the role does not allow to publish" in told.out
    assert "refuses the credentials" in told.out


def test_connect_needs_a_file_that_loads(cli, site):
    write(site, "")
    told = cli("check", "--connect")
    assert told.status == 1
    assert "must load first" in told.err


RULE = '[[privacy.rules]]\nname = "{}"\ndetect = ["email"]\naction = "{}"\n'
OUT = f'{SMALL}[connectors.out]\ntype = "file"\npath = "x"\n'


@pytest.mark.parametrize(
    ("table", "key", "words"),
    [
        ("[privacy]\ndefault = false", "privacy.default", "everything leaves as it is"),
        ('[privacy]\nsecret = "${SHORT:geheim}"', "privacy.secret", "shorter than 16"),
        ('[privacy]\nsecret = "geheim geheim geheim"', "privacy.secret", "a secret stands in the file"),
        (RULE.format("a", "hash") + 'secret = "geheim"', "privacy.rules.0.secret", "a secret stands in the file"),
        (RULE.format("a", "hash") + 'secret = "${S:geheim}"', "privacy.rules.a.secret", "shorter than 16"),
        ('[connectors.two]\ntype = "file"\npath = "y"\nprivacy_secret = "${S:geheim}"',
         "connectors.two.privacy_secret", "shorter than 16"),
        ('[privacy]\nprevious_secret = "${S:geheim}"\noverlap_until = 2020-01-01',
         "privacy.overlap_until", "the overlap is over since 2020-01-01"),
        ("[privacy]\ndefault = false\n" + RULE.format("ours", "allow"), "privacy.rules.ours", "move it before"),
        (RULE.format("a", "hash") + RULE.format("b c", "mask"), "privacy.rules.'b c'", "'a' before it takes all"),
        (RULE.format("a", "redact"), "privacy.rules.a", "may then share a topic"),
        (RULE.format("a", "mask") + 'levels = ["state"]', "privacy.rules.a", "may mask a level"),
        (RULE.format("a", "redact") + 'placeholder = "no@body.com"', "privacy.rules.a.placeholder", "found again"),
    ],
)  # fmt: skip
def test_what_privacy_rules_do_less_than_they_seem(cli, site, table, key, words):
    write(site, f"{OUT}{table}\n")
    told = cli("check", "--json")
    assert told.status == 0, told.out
    found = [warning for warning in told.json["warnings"] if warning["key"] == key]
    assert any(words in f"{warning['message']} {warning['remedy']}" for warning in found), told.out
    assert "geheim" not in told.out


@pytest.mark.parametrize(
    "table",
    [
        '[privacy]\nsecret = "${S:geheim geheim geheim}"',
        '[privacy]\nprevious_secret = "${S:geheim}"\noverlap_until = 2100-01-01',
        RULE.format("ours", "allow"),
        RULE.format("a", "hash") + 'states = ["x"]\n' + RULE.format("b", "mask"),
        RULE.format("a", "redact") + "paths = ['$']",
        RULE.format("a", "hash") + RULE.format("b", "hash") + 'connectors = ["out"]',
    ],
)
def test_rules_that_mean_what_they_say(cli, site, table):
    write(site, f"{OUT}{table}\n")
    assert cli("check", "--json").json["warnings"] == []


def test_check_says_what_privacy_there_is(cli, site):
    write(site, f'{OUT}[privacy]\nsecret = "${{S:geheim geheim geheim}}"\naudit = false\n')
    assert (
        "  privacy     1 rule in force, the default policy among them; the secret of the hashes is configured; no"
        in (cli("check").out)
    )


WRITTEN = '[connectors.out]\ntype = "file"\npath = "out.jsonl"\n'


@pytest.mark.parametrize(
    ("table", "key", "words"),
    [
        ('listen = "0.0.0.0:8080"', "api.listen", "tokens travel there in the open"),
        ('mqtt_listen = "0.0.0.0:1883"', "api.mqtt_listen", "tokens travel there in the open"),
        ('certificate = "a.pem"\nprivate_key = "b.pem"', "api.certificate", "the service will not start"),
        ("", "api.auth", "nobody can sign in yet"),
    ],
)
def test_what_an_api_exposes(cli, site, table, key, words):
    write(site, f"{SMALL}{WRITTEN}[api]\n{table}\n")
    told = cli("check", "--json")
    assert told.status == 0
    found = [warning for warning in told.json["warnings"] if warning["key"] == key]
    assert found, told.out
    assert words in found[0]["message"] + found[0]["remedy"]


def test_an_api_behind_a_proxy_with_a_key_asks_for_no_trouble(cli, site):
    write(site, f'{SMALL}{WRITTEN}[api]\nlisten = "0.0.0.0:8080"\ntrusted_proxies = ["192.0.2.1"]\n')
    (site / "northbound.db.api-keys.json").write_text("{}")
    assert cli("check", "--json").json["warnings"] == []
    told = cli("check")
    assert "API         http://0.0.0.0:8080" in told.out


def test_connect_fetches_the_keys_of_issuers(cli, site):
    server = JwksServer(jwk(key(), "first", "ES256"))
    try:
        with (site / "northbound.toml").open("a") as file:
            file.write(f'[api.auth.issuers.own]\nissuer = "x"\naudience = ["a"]\njwks = "{server.url}"\n')
        told = cli("check", "--connect")
        assert told.status == 0, told.out + told.err
        assert f"api.auth.issuers.own: {server.url} (keys of an issuer): answers" in told.out
        assert "key first: ES256" in told.out
        server.status = 404
        row = cli("check", "--connect", "--json").json["destinations"][-1]
        assert (row["ok"], row["error"]) == (False, "the answer is 404")
        server.status, server.pause = 200, 0.3
        told = cli("check", "--connect", "--timeout", "200ms")
        assert (told.status, "no answer within 0.2 s" in told.out) == (1, True)
    finally:
        server.pause = 0
        server.close()
