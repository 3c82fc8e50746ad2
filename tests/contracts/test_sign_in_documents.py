"""The guide to signing in: its issuers let in whom it says, its rules answer what it says."""

from __future__ import annotations

import json
import re
import time
import tomllib
from pathlib import Path

import jwt
import pytest
from tests.support.tokens import JwksServer, jwk, key, write_key

from northbound.admission import AccessOptions, AuthOptions
from northbound.api.audit import AccessAudit, AuditedRules
from northbound.api.identity import Identity
from northbound.api.tokens import Tokens
from northbound.cli import main
from northbound.loading import load_text
from northbound.registry import Registry
from northbound.topics import TopicScheme

ROOT = Path(__file__).parent.parent.parent
GUIDE = (ROOT / "docs/api-sign-in.md").read_text()
SECRET = "a secret of the documents, of thirty-two bytes or more"
ISSUERS = re.findall(r"```toml\n(\[api\.auth.*?)```\n\n```json\n(.*?)```\n\n((?:\|[^\n]*\n)+)", GUIDE, re.DOTALL)
AROUND = '\n[sources.in]\ntype = "jsonl"\npath = "-"\n[connectors.out]\ntype = "file"\npath = "out.jsonl"\n'
CELL = re.compile(r"(?<!\\)\|")


@pytest.fixture(scope="module")
def server():
    made = JwksServer(jwk(key(), "k", "ES256"))
    yield made
    made.close()


def test_every_issuer_of_the_guide_is_tried():
    assert len(ISSUERS) == GUIDE.count("[api.auth.issuers.") == 7


@pytest.mark.parametrize(
    ("text", "claims", "table"), ISSUERS, ids=[re.findall(r"issuers\.(\w+)", i[0])[0] for i in ISSUERS]
)
async def test_an_issuer_lets_in_whom_the_guide_says(text, claims, table, tmp_path, server):
    (tmp_path / "certs").mkdir()
    write_key(tmp_path / "certs", name="placeos-jwt.pem")
    tree = tomllib.loads(text.replace("${REPORT_SECRET}", SECRET))["api"]["auth"]
    (issuer,) = AuthOptions.model_validate(tree, context={"base": tmp_path}).issuers.values()
    if issuer.jwks_url is not None:  # the provider's place is not there: its keys are here
        next(iter(tree["issuers"].values()))["jwks"] = server.url
    options = AuthOptions.model_validate(tree, context={"base": tmp_path})
    payload = {**json.loads(claims), "exp": int(time.time()) + 3600}
    signed = jwt.encode(payload, SECRET, "HS256") if issuer.secret is not None else jwt.encode(payload, key(), "ES256")
    who = await Tokens(options, site_org=None).verify(signed)
    cells = [cell.strip().strip("`").replace("\\|", "|") for cell in CELL.split(table.splitlines()[2])[1:-1]]
    assert [who.subject, who.name, who.org, who.role, "yes" if who.writes else "no"] == cells


@pytest.mark.parametrize("text", re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL))
def test_every_configuration_of_the_guide_loads(text, tmp_path):
    (tmp_path / "certs").mkdir()
    write_key(tmp_path / "certs", name="placeos-jwt.pem")
    found = load_text(f"[api]\n{text}{AROUND}", Registry(), base=tmp_path, environment={"REPORT_SECRET": SECRET})
    assert found.api is not None
    assert found.api.auth.issuers or found.api.access.rules
    assert SECRET not in repr(found)


def test_the_rules_answer_what_the_guide_says():
    ((text, table),) = re.findall(r"```toml\n(\[api\.access\].*?)```\n\n((?:\|[^\n]*\n)+)", GUIDE, re.DOTALL)
    rules = AuditedRules(AccessOptions.model_validate(tomllib.loads(text)["api"]["access"]), TopicScheme())
    rows = re.findall(r"^\| (\w+) `(\S+)` of `(\S+)` \| (subscribe|publish) `(\S+)` \| (\w+) \|$", table, re.MULTILINE)
    assert len(rows) == len(table.splitlines()) - 2
    for role, subject, org, verb, topic, answer in rows:
        who = Identity(
            subject=subject, name=subject, org=org, role=role, scopes=frozenset(("mqtt",)), expires=None
        )  # fmt: skip
        found = (
            rules.subscribe(who, topic) if verb == "subscribe" else "whole" if rules.publish(who, topic) else "refused"
        )
        assert found == answer, (role, verb, topic)


async def test_the_audit_log_is_as_the_guide_shows_it(tmp_path):
    told = json.loads(re.findall(r"```json\n(\{\"time\".*?)```", GUIDE, re.DOTALL)[0])
    audit = AccessAudit(tmp_path / "access.jsonl", max_bytes=65_536, files=1)
    rules = AuditedRules(AccessOptions(), TopicScheme())
    rules.audit = audit
    who = Identity(
        subject="user-jane", name="J", org="org-acme", role="user", scopes=frozenset(("public",)), expires=None
    )  # fmt: skip
    for _ in range(3):
        rules.publish(who, "placeos/org-acme/x")
    await audit.close()
    row = json.loads((tmp_path / "access.jsonl").read_text())
    assert list(row) == list(told)
    assert row == told | {"time": row["time"]}


def test_the_commands_of_the_guide_exist(capsys, monkeypatch):
    commands = set(re.findall(r"northbound keys (\w+)", GUIDE))
    assert commands == {"create", "list", "revoke", "prune", "check"}
    for command in commands:
        monkeypatch.setattr("sys.argv", ["northbound", "keys", command, "--help"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
    for option in set(re.findall(r"`(--[a-z-]+)", GUIDE)):
        monkeypatch.setattr("sys.argv", ["northbound", "keys", "create", "--help"])
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main()
        assert option in capsys.readouterr().out
