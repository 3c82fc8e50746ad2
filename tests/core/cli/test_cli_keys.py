"""``northbound keys``, without the service and beside it."""

from __future__ import annotations

import io
import time

import pytest
from tests.support.tokens import JwksServer, jwk, key, token, write_key

from northbound.api.keyfile import KeyFile, path_beside
from northbound.apikeys import split


def kept(site):
    return list(KeyFile(path_beside(site / "northbound.db")).keys().values())


def test_a_key_is_made_shown_once_listed_and_revoked(cli, site):
    made = cli("keys", "create", "lobby screen")
    assert (made.status, made.err) == (0, "")
    id_, secret = split(made.out.strip())
    (key,) = kept(site)
    assert (key.id, key.name, key.role, key.org, key.scopes) == (
        id_,
        "lobby screen",
        "user",
        "org-acme",
        ("mqtt.read",),
    )
    assert key.is_of(secret)
    year = 365 * 86_400_000
    assert abs(key.expires - time.time() * 1000 - year) < 60_000

    listed = cli("keys", "list")
    assert listed.rows[0][:5] == [id_, "lobby screen", "user", "org-acme", "mqtt.read"]
    assert listed.rows[0][-1] == "in use"
    assert secret not in listed.out
    assert key.hash not in listed.out

    revoked = cli("keys", "revoke", "lobby screen")
    assert (revoked.status, revoked.out) == (0, f"revoked lobby screen ({id_})\n")
    assert cli("keys", "list").out == ""
    assert cli("keys", "list").err == "no API keys in use\n"
    assert cli("keys", "list", "--all").rows[0][-1] == "revoked"
    assert cli("keys", "prune").out == "forgot 1 key\n"
    assert cli("keys", "list", "--all").err == "no API keys\n"


def test_every_option_of_a_key(cli, site):
    made = cli(
        "keys",
        "create",
        "integrator",
        "--role",
        "admin",
        "--every-org",
        "--scope",
        "mqtt.read",
        "--scope",
        "mqtt.write",
        "--user",
        "svc-1",
        "--expires",
        "90d",
        "--json",
    )
    assert made.status == 0
    assert made.json["token"].startswith(made.json["id"])
    (key,) = kept(site)
    assert (key.role, key.org, key.every_org, key.user) == ("admin", None, True, "svc-1")
    assert key.scopes == ("mqtt.read", "mqtt.write")
    (row,) = cli("keys", "list", "--json").json["keys"]
    assert row == {name: value for name, value in made.json.items() if name != "token"}
    assert "hash" not in row
    other = cli("keys", "create", "other", "--role", "support", "--org", "org-other", "--never-expires", "--json")
    assert (other.json["expires"], other.json["scopes"], other.json["org"]) == (None, ["mqtt"], "org-other")
    assert [row[5:] for row in cli("keys", "list").rows][1][1] == "never"


def test_expired_keys_are_listed_only_on_request(cli, site):
    KeyFile(path_beside(site / "northbound.db")).create("old", org="x", expires=1)
    assert cli("keys", "list").out == ""
    assert cli("keys", "list", "--all").rows[0][-1] == "expired"
    assert [row["name"] for row in cli("keys", "prune", "--json").json["forgotten"]] == ["old"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("create",), 2, "NAME"),
        (("create", ""), 2, "a name has"),
        (("create", "x" * 81), 2, "a name has"),
        (("create", "a\nb"), 2, "a name has"),
        (("create", "x", "--role", "root"), 2, "root"),
        (("create", "x", "--scope", "everything"), 2, "everything"),
        (("create", "x", "--org", "o", "--every-org"), 2, "exclude"),
        (("create", "x", "--expires", "1d", "--never-expires"), 2, "excludes"),
        (("create", "x", "--expires", "0"), 2, "takes a time"),
        (("create", "x", "--expires", "soon"), 2, "duration"),
        (("create", "x", "--store", "a.db", "--config", "b.toml"), 2, "give one of them"),
        (("create", "x", "--store", "a.db"), 2, "--org"),
        (("create", "x", "--config", "nowhere.toml"), 1, "nowhere.toml"),
        (("revoke", "nobody"), 1, "no key in use"),
        (("revoke",), 2, "ID|NAME"),
    ],
)
def test_what_is_wrong_is_said(cli, site, arguments, status, words):
    ended = cli("keys", *arguments)
    assert ended.status == status
    assert words in ended.err
    assert kept(site) == []


def test_a_name_in_use_is_said(cli, site):
    assert cli("keys", "create", "lobby").status == 0
    again = cli("keys", "create", "lobby")
    assert (again.status, again.out) == (1, "")
    assert "in use" in again.err


def test_a_store_that_is_named_itself_needs_no_configuration(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("keys", "create", "x", "--store", "a/b.db", "--org", "o").status == 0
    assert (tmp_path / "a/b.db.api-keys.json").exists()
    assert cli("keys", "list", "--store", "a/b.db").rows[0][1] == "x"
    without = cli("keys", "list")
    assert (without.status, "northbound.toml" in without.err) == (2, True)


def test_the_secrets_of_connectors_need_not_be_at_hand(cli, site):
    with (site / "northbound.toml").open("a") as file:
        file.write('[connectors.cloud]\ntype = "mqtt"\nurl = "mqtts://x"\npassword = "${NOT_SET_HERE}"\n')
    assert cli("keys", "create", "x").status == 0


def test_an_organisation_from_the_environment_is_resolved(cli, site, monkeypatch):
    text = (site / "northbound.toml").read_text().replace('"org-acme"', '"${MY_ORG}"')
    (site / "northbound.toml").write_text(text)
    assert "MY_ORG" in cli("keys", "create", "x").err
    monkeypatch.setenv("MY_ORG", "org-env")
    assert cli("keys", "create", "x", "--json").json["org"] == "org-env"


def test_a_damaged_file_is_said_and_kept(cli, site):
    path = path_beside(site / "northbound.db")
    path.write_text("damaged")
    path.chmod(0o600)
    for arguments in (("create", "x"), ("list",), ("revoke", "x"), ("prune",)):
        ended = cli("keys", *arguments)
        assert (ended.status, "damaged" in ended.err) == (1, True)
    assert path.read_text() == "damaged"


# trying a token


ISSUER = """
[api]
[api.auth.issuers.placeos]
mapping = "placeos"
audience = ["place.acme.com"]
keys = ["key.pem"]
[[api.access.rules]]
read = ["apps/{user}/#"]
"""


@pytest.fixture
def shown(cli, site, monkeypatch):
    """Return how to try what is given on standard input."""
    write_key(site)

    def check(text, *arguments, more=ISSUER):
        configuration = (site / "northbound.toml").read_text().partition("[api]")[0]
        (site / "northbound.toml").write_text(configuration + more)
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        return cli("keys", "check", *arguments)

    return check


def test_a_token_is_told_who_it_is_of_and_what_it_opens(shown, site):
    told = shown(f"{token(u={'n': 'Jane Doe', 'p': 2})}\n")
    assert told.status == 0, told.err
    lines = dict(line.split(maxsplit=1) for line in told.out.splitlines() if " " in line.strip())
    assert (lines["subject"], lines["name"], lines["organisation"], lines["role"]) == (
        "user-jane",
        "Jane Doe",
        "org-acme",
        "admin",
    )
    assert lines["sees"] == "placeos/org-acme/#  $SYS/#  apps/user-jane/#"
    assert "publishes at   placeos/org-acme/#" in told.out
    row = shown(token(scope=["mqtt.read"]), "--json").json
    assert (row["issuer"], row["scopes"], row["publish"]) == ("placeos", ["mqtt.read"], [])
    assert not (site / "northbound.db.access.jsonl").exists()


def test_a_key_is_told_alike(cli, shown):
    made = cli("keys", "create", "lobby", "--json").json
    row = shown(made["token"], "--json").json
    assert (row["key_id"], row["subject"], row["org"]) == (made["id"], "lobby", "org-acme")
    assert "publishes at\n" in shown(made["token"]).out
    cli("keys", "revoke", "lobby")
    assert "revoked" in shown(made["token"]).err


def test_why_a_token_opens_nothing_is_told_without_it(shown):
    for text, words in (
        (token(exp=1), "expired"), (token(aud="x"), "another audience"), (token(key("ES256", 5)), "signature"),
        (token(scope=["x"]), "mqtt.read"), ("nonsense", "not a token"), ("", "there is no token"),
    ):  # fmt: skip
        told = shown(text)
        assert (told.status, told.out) == (1, "")
        assert words in told.err
        assert not text or text not in told.err
    assert shown(token(exp=1), "--json").json["refused"] == "expired"
    assert "no [api]" in shown(token(), more="").err


def test_keys_that_cannot_be_fetched_are_told(shown):
    server = JwksServer()
    server.status = 503
    try:
        issuer = ISSUER.replace('keys = ["key.pem"]', f'jwks = "{server.url}"')
        told = shown(token(), more=issuer)
        assert (told.status, "503" in told.err, server.url in told.err) == (1, True, True)
        server.status = 200
        server.publish(jwk(key(), "k", "ES256"))
        assert shown(token(), more=issuer).status == 0
    finally:
        server.close()
