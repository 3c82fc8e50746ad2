"""Rules of one connector: each gets its own form of what is stored, and what fails or is dropped there stays there."""

from __future__ import annotations

import hmac
import json
from pathlib import Path

from tests.support.oracle import check_file
from tests.support.service import Service, lines, until

PERSON = "jane.doe@example.com"

FAILING = '''
import northbound

class Failing(northbound.Detector):
    """Fails over some texts, and its words hold them."""

    def find(self, text, key):
        if "stumble" in text:
            raise ValueError(f"cannot read {text!r}")
        return ()

@northbound.hookimpl
def northbound_detectors():
    return {"failing": Failing}
'''


def install(folder: Path) -> dict[str, str]:
    """Put a detector there that fails; returns the environment in which it is installed."""
    info = folder / "failing-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "failing_detector.py").write_text(FAILING)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: failing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[northbound]\nfailing = failing_detector\n")
    return {"PYTHONPATH": str(folder)}


def configuration(privacy: str, **connectors: str) -> str:
    tables = "".join(
        f'[connectors.{name}]\ntype = "file"\npath = "{name}.jsonl"\n{more}\n' for name, more in connectors.items()
    )
    return f'{privacy}\n[sources.in]\ntype = "jsonl"\npath = "in.jsonl"\n{tables}'


def event(state: str, value: object, module: str = "Desks") -> bytes:
    return json.dumps(
        {"kind": "state", "org": "o", "building": "b", "system": "s", "driver": "d", "module": module, "index": 1,
         "state": state, "value": value}
    ).encode()  # fmt: skip


def entity(name: str, mail: str) -> bytes:
    return json.dumps({"kind": "metadata", "org": "o", "id": name, "metadata": {"name": name, "mail": mail}}).encode()


def once(service: Service, *events: bytes) -> dict[str, dict]:
    """Run over ``events``; returns the summary's connectors by name."""
    (service.directory / "in.jsonl").write_bytes(lines(events))
    done = service.call("run", "--once", "--json", str(service.config))
    assert done.returncode == 0, done.stderr
    return {connector["name"]: connector for connector in json.loads(done.stdout)["connectors"]}


def sent(directory: Path, name: str) -> dict[str, str]:
    """Return what the connector ``name`` has written, payload by topic."""
    path = directory / f"{name}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {row["topic"]: row["payload"] for row in rows}


def hashed(secret: str, text: str = PERSON) -> str:
    key = hmac.digest(secret.encode(), b"northbound privacy key id", "sha256").hex()[:4]
    return f"{key}-{hmac.digest(secret.encode(), text.encode(), 'sha256').hex()[:32]}"


def test_every_connector_gets_its_own_form(tmp_path):
    rules = """
    [privacy]
    default = false
    secret = "secret-of-the-site"
    [[privacy.rules]]
    name = "hashed for some"
    detect = ["email"]
    action = "hash"
    connectors = ["analytics", "partner"]
    [[privacy.rules]]
    name = "masked for one"
    detect = ["email"]
    action = "mask"
    connectors = ["signage"]
    """
    secret = 'privacy_secret = "secret-of-the-partner"'
    service = Service(tmp_path, configuration(rules, analytics="", partner=secret, signage="", inside=""))
    connectors = once(service, event(PERSON, {"by": PERSON}), entity(PERSON, PERSON), event("power", True))
    assert {name: connector["acknowledged"] for name, connector in connectors.items()} == dict.fromkeys(connectors, 3)

    forms = {
        "analytics": hashed("secret-of-the-site"),
        "partner": hashed("secret-of-the-partner"),
        "signage": "j***@***.com",
        "inside": PERSON,
    }
    for name, form in forms.items():
        got = sent(tmp_path, name)
        topic = f"placeos/o/state/b/_/_/s/d/Desks/1/{form}"
        described = f"placeos/o/metadata/{form}"
        assert got.keys() == {topic, described, "placeos/o/state/b/_/_/s/d/Desks/1/power"}
        assert json.loads(json.loads(got[topic])["value"]) == {"by": form}
        assert json.loads(got[described]) == {"name": form, "mail": form}
    check_file(tmp_path / "northbound.db")
    audit = [json.loads(line) for line in (tmp_path / "northbound.db.audit.jsonl").read_text().splitlines()]
    assert PERSON not in json.dumps(audit)
    assert {(row["connector"], row["rule"]) for row in audit} == {
        ("analytics", "hashed for some"),
        ("partner", "hashed for some"),
        ("signage", "masked for one"),
    }


def test_what_a_rule_drops_is_withheld_from_that_connector_alone(tmp_path):
    rules = """
    [[privacy.rules]]
    name = "no desks for the cloud"
    topics = ["placeos/+/state/+/+/+/+/+/Desks/#"]
    action = "drop"
    connectors = ["cloud"]
    """
    service = Service(tmp_path, configuration(rules, cloud="", inside=""))
    events = [event(f"s{n}", n, "Desks" if n % 3 else "Lights") for n in range(30)]
    connectors = once(service, *events)
    counts = {name: (c["acknowledged"], c["withheld"], c["dead"]) for name, c in connectors.items()}
    assert counts == {"cloud": (10, 20, 0), "inside": (30, 0, 0)}
    assert all("/Lights/" in topic for topic in sent(tmp_path, "cloud"))
    assert len(sent(tmp_path, "inside")) == 30
    accounts = check_file(tmp_path / "northbound.db").accounts
    assert accounts["cloud"].counters["withheld"] == 20
    assert accounts["inside"].counters["withheld"] == 0


def test_a_rule_that_fails_makes_dead_letters_of_that_connector_alone(tmp_path):
    rule = """
    [[privacy.rules]]
    name = "of a third party"
    detect = ["failing"]
    action = "redact"
    connectors = ["cloud"]
    """
    environment = install(tmp_path / "plugins")
    service = Service(tmp_path, configuration(rule, cloud="", inside=""), environment=environment)
    texts = ["stumble over plum-jam" if n % 5 == 2 else f"text {n}" for n in range(20)]
    connectors = once(service, *(event(f"s{n}", text) for n, text in enumerate(texts)))
    counts = {name: (c["acknowledged"], c["withheld"], c["dead"]) for name, c in connectors.items()}
    assert counts == {"cloud": (16, 0, 4), "inside": (20, 0, 0)}
    assert not any("stumble" in payload for payload in sent(tmp_path, "cloud").values())
    done = service.call("deadletters", "list", "--json")
    letters = json.loads(done.stdout)["dead_letters"]
    assert {letter["reason"] for letter in letters} == {
        "the privacy rule 'of a third party' could not be evaluated: ValueError"
    }
    check_file(tmp_path / "northbound.db")

    # Replayed under the same rule they fail again; without it they go out.
    with service:
        assert service.call("deadletters", "replay", "--all").returncode == 0
        until(lambda: _states(service) == ["replay failed"] * 4, what="not tried again")
        assert service.stop() == 0
    assert not any("stumble" in payload for payload in sent(tmp_path, "cloud").values())
    service.config.write_text(configuration("", cloud="", inside=""))
    service.process = None
    with service:
        assert service.call("deadletters", "replay", "--all").returncode == 0
        until(lambda: _states(service) == [], what="not sent")
        assert service.stop() == 0
    assert len(sent(tmp_path, "cloud")) == 20
    assert "plum-jam" not in service.log()


def _states(service: Service) -> list[str]:
    done = service.call("deadletters", "list", "--json")
    assert done.returncode == 0, done.stderr
    return [letter["state"] for letter in json.loads(done.stdout)["dead_letters"]]


def test_a_rule_that_fails_before_the_store_withholds_the_event_with_a_reason(tmp_path):
    rule = '[[privacy.rules]]\nname = "of a third party"\ndetect = ["failing"]\naction = "redact"\n'
    environment = install(tmp_path / "plugins")
    debug = '[service]\nlog_level = "debug"\n'
    service = Service(tmp_path, configuration(rule + debug, out=""), environment=environment)
    given = tmp_path / "in.jsonl"
    given.write_bytes(lines([event("a", 1), event("b", ["stumble over plum-jam"]), event("c", "fine")]))
    done = service.call("run", "--once", "--json", str(service.config))
    assert done.returncode == 0, done.stderr
    (source,) = json.loads(done.stdout)["sources"]
    assert (source["received"], source["refused"], source["accepted"]) == (3, 1, 2)
    assert "the privacy rule 'of a third party' could not be evaluated: ValueError" in source["last_refusal"]
    assert source["last_refusal"] in done.stderr
    assert "plum-jam" not in done.stderr + done.stdout
    assert {topic.rsplit("/", 1)[1] for topic in sent(tmp_path, "out")} == {"a", "c"}
    left = [path.name for path in tmp_path.iterdir() if path.is_file() and b"plum-jam" in path.read_bytes()]
    assert left == [given.name]
