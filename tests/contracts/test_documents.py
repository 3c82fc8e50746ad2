"""Documents that lie fail the build."""

from __future__ import annotations

import hmac
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from northbound.cli import main
from northbound.events import State
from northbound.loading import Configuration, load_text
from northbound.message import Address
from northbound.preview import Preview
from northbound.registry import Registry
from northbound.topics import TopicScheme

ROOT = Path(__file__).parent.parent.parent
SECRET = "an example"  # of every hash in the documents
SURROUNDINGS = {
    "site": '[site]\norg = "org-acme"\n',
    "sources": '[sources.in]\ntype = "jsonl"\npath = "-"\n',
    "connectors": '[connectors.out]\ntype = "file"\npath = "out.jsonl"\n',
}


def test_the_reference_is_what_the_models_say():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/reference.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def samples(path: str) -> list[tuple[str, str]]:
    """Return each configuration of a document, and the table that says what it does (empty where there is none)."""
    found = re.findall(
        r"^( *)```toml\n(.*?)^ *```\n(?:\s*((?:^\|[^\n]*\n)+))?(?:\s*((?:^\|[^\n]*\n)+))?",
        (ROOT / path).read_text(),
        re.DOTALL | re.MULTILINE,
    )
    return [(textwrap.dedent(indent + text), f"{first}\n{second}") for indent, text, first, second in found]


def completed(text: str) -> str:
    """Return a fragment of a configuration with what it leaves out."""
    tables = tomllib.loads(text)
    around = "".join(lines for table, lines in SURROUNDINGS.items() if table not in tables)
    if "secret" in tables.get("privacy", {}):
        return f"{text}\n{around}"
    if re.search(r"^\[privacy\]\n", text, re.MULTILINE):
        return re.sub(r"^\[privacy\]\n", f'[privacy]\nsecret = "{SECRET}"\n', text, flags=re.MULTILINE) + around
    return f'[privacy]\nsecret = "{SECRET}"\n{text}\n{around}'


def load(text: str, folder: Path) -> Configuration:
    (folder / "northbound.db.privacy-secret.old").write_text("0" * 64)
    (folder / "people.csv").write_text("name\nJane Doe\n")
    names = ("NORTHBOUND_PRIVACY_SECRET", "NEW_SECRET", "CLOUD_SECRET")
    environment = {**dict.fromkeys(names, SECRET), "OLD_SECRET": "another example"}
    return load_text(completed(text), Registry(), base=folder, environment=environment)


@pytest.mark.parametrize("path", ["docs/privacy.md", "docs/detectors.md", "docs/api.md", "docs/placeos.md"])
def test_configurations_in_documents_load(path, tmp_path):
    found = samples(path)
    assert found
    for text, _ in found:
        load(text, tmp_path)


def test_the_readmes_first_configuration_is_whole(tmp_path):
    text, _ = samples("README.md")[0]
    load_text(text, Registry(), base=tmp_path, environment={})


ROWS = [
    (path, text, cells)
    for path in ("README.md", "docs/privacy.md", "docs/detectors.md")
    for text, table in samples(path)
    for cells in re.findall(r"^\| `(.+?)` \|(?: `(.+)` \|)? (?:`(.+)`|(dropped)) \|$", table, re.MULTILINE)
]


@pytest.mark.parametrize(("path", "text", "cells"), ROWS, ids=lambda value: str(value)[:60])
def test_a_policy_does_what_its_table_says(path, text, cells, tmp_path):
    state, value, becomes, dropped = cells
    looking = Preview(load(text, tmp_path))
    if not value:  # a table of topics
        place = TopicScheme().parse(state)
        assert isinstance(place, Address)
        event = State(place.org, place.zones, place.system, place.driver, place.module, place.index, place.state, 1)
    else:
        event = State("org-acme", ("bld-1", None, None), "sys-7", "dep-1", "Bookings", 1, state, json.loads(value))
    seen = looking.event(event, 0)
    if dropped:
        assert seen.dropped
        return
    assert not seen.refused
    sent = seen.passages[-1].outgoing
    assert sent is not None
    if value:
        assert json.loads(json.loads(sent.payload)["value"]) == json.loads(becomes)
    else:
        assert sent.topic == becomes


def test_most_of_the_guide_is_tried():
    assert len([path for path, _, _ in ROWS if path == "docs/privacy.md"]) > 25


def test_the_readmes_command_prints_what_the_readme_says(tmp_path):
    readme = (ROOT / "README.md").read_text()
    event = re.search(r"\$ echo '(.*?)'", readme)
    topic = re.search(r"^`(placeos/\S+)`", readme, re.MULTILINE)
    assert event
    assert topic
    sample = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)[0]
    (tmp_path / "northbound.toml").write_text(
        sample.split("[connectors.local]")[0] + '[connectors.local]\ntype = "file"\npath = "out.jsonl"\n'
    )
    subprocess.run(
        [sys.executable, "-m", "northbound", "run", "--once", "northbound.toml"],
        input=event[1].encode(), cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    written = (tmp_path / "out.jsonl").read_text()
    assert topic[1] in written
    assert '\\"value\\":\\"true\\"' in written


def test_every_link_to_a_file_leads_somewhere():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document}: {link}"


def test_what_documents_quote_from_a_file_stands_in_it():
    quoted = 0
    for document in ROOT.glob("docs/*.md"):
        for name, text in re.findall(r"<!-- from (\S+) -->\n```\w+\n(.*?)```", document.read_text(), re.DOTALL):
            assert text in (document.parent / name).read_text(), f"{document}: {name}"
            quoted += 1
    assert quoted >= 2


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return how to install an example as a user does: the environment of programs that see it, and it alone."""

    def install(name: str) -> dict[str, str]:
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(ROOT / "docs/examples" / name, folder / "source")
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation",
             "--disable-pip-version-check", "--target", folder / "site", folder / "source"],
            check=True,
        )  # fmt: skip
        return {**os.environ, "PYTHONPATH": str(folder / "site")}

    return install


def northbound(*arguments: str | Path, environment: dict[str, str], **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "northbound", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, **options)


def test_the_example_of_a_detector_works(installed, tmp_path):
    environment = installed("detector_badge")
    example = ROOT / "docs/examples/detector_badge"
    shutil.copy(example / "test_badge.py", tmp_path)
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tmp_path], env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert " passed" in tests.stdout, tests.stdout
    assert tests.returncode == 0, tests.stdout

    readme = (example / "README.md").read_text()
    (rule,) = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    first, second = re.findall(r'turns `(".*?")` into.*?and `(".*?")` into the same hash', readme, re.DOTALL)[0]
    (tmp_path / "northbound.toml").write_text(completed(rule))
    event = {"kind": "state", "system": "s", "driver": "d", "module": "M", "index": 1, "state": "note"}
    lines = "".join(json.dumps({**event, "value": json.loads(value)}) + "\n" for value in (first, second))
    shown = northbound(
        "preview", tmp_path / "northbound.toml", "--input", "-", "--json", environment=environment, input=lines
    )
    assert shown.returncode == 0, shown.stderr
    one, other = [
        json.loads(json.loads(json.loads(line)["connectors"][0]["payload"])["value"])
        for line in shown.stdout.splitlines()
    ]
    assert re.fullmatch("[0-9a-f]{4}-[0-9a-f]{32}", other)
    assert one == f"door 4: {other}"


def test_the_presidio_example_says_what_it_lacks(installed):
    """Presidio itself is too large to be installed here: what is tried is everything up to its import."""
    environment = installed("detector_presidio")
    folder = ROOT / "docs/examples/detector_presidio"
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert any(need.startswith("presidio-analyzer") for need in project["dependencies"])
    module = folder / project["entry-points"]["northbound"]["presidio"] / "__init__.py"
    compile(module.read_text(), str(module), "exec")
    if importlib.util.find_spec("presidio_analyzer") is not None:
        pytest.skip("presidio-analyzer is installed")

    checked = northbound("check", folder / "northbound.toml", environment=environment)
    assert checked.returncode != 0
    assert "'presidio' is installed but does not load: No module named 'presidio_analyzer'" in checked.stdout
    assert "pip install presidio_analyzer" in checked.stdout
    listed = json.loads(northbound("privacy", "detectors", "--json", environment=environment).stdout)
    (row,) = [row for row in listed if row["package"] == project["name"]]
    assert (row["state"], row["hint"]) == ("does not load", "pip install presidio_analyzer")
    assert sum(row["state"] == "ok" for row in listed) > 10


def test_the_presidio_example_is_told_alike_everywhere():
    folder = ROOT / "docs/examples/detector_presidio"
    guide, readme = (ROOT / "docs/detectors.md").read_text(), (folder / "README.md").read_text()
    (rule,) = re.findall(r"```toml presidio\n(.*?)```", guide, re.DOTALL)
    assert rule in (folder / "northbound.toml").read_text()
    output = re.findall(r"^line \d\tout\tsent\t.*$", guide, re.MULTILINE)
    assert len(output) == len((folder / "events.jsonl").read_text().splitlines())
    assert all(line in readme for line in output)


def test_the_guide_shows_the_audit_log_and_the_secret_as_they_are(tmp_path):
    guide = (ROOT / "docs/privacy.md").read_text()
    (sample,) = re.findall(r"```json\n(.*?)```", guide, re.DOTALL)
    told = json.loads(sample)
    event = {"kind": "state", "building": "bld-1", "level": "lvl-2", "system": "sys-7", "driver": "dep-1",
             "module": "Bookings", "index": 1, "state": "note", "value": "a@b.com, c@d.com, e@f.com"}  # fmt: skip
    (tmp_path / "northbound.toml").write_text("".join(SURROUNDINGS.values()))

    def run() -> str:
        done = northbound(
            "run", "--once", tmp_path / "northbound.toml", environment=dict(os.environ), cwd=tmp_path,
            input=json.dumps(event) + "\n",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert "northbound.db.privacy-secret" in run()
    line = json.loads((tmp_path / "northbound.db.audit.jsonl").read_text())
    assert list(line) == list(told)
    assert line == told | {"time": line["time"]}
    secret = tmp_path / "northbound.db.privacy-secret"
    assert re.fullmatch("[0-9a-f]{64}\n", secret.read_text())
    assert {oct(path.stat().st_mode)[-3:] for path in (secret, tmp_path / "northbound.db.audit.jsonl")} == {"600"}

    # The rotation of that secret, as the guide says it.
    (move,) = re.findall(r"^\$ (mv .*)$", guide, re.MULTILINE)
    subprocess.run(move.split(), cwd=tmp_path, check=True)
    (rotating,) = [text for text, _ in samples("docs/privacy.md") if ".privacy-secret.old}" in text]
    (tmp_path / "northbound.toml").write_text(rotating + "".join(SURROUNDINGS.values()))
    assert "northbound.db.privacy-secret" in run()
    first, second = [
        json.loads(json.loads(row)["payload"])["value"] for row in (tmp_path / "out.jsonl").read_text().splitlines()
    ]
    old, new = json.loads(first).split(", ")[0], json.loads(second).split(", ")[0]
    assert re.fullmatch("[0-9a-f]{4}-[0-9a-f]{32}~" + old, new)


@pytest.fixture
def policy(tmp_path):
    """Return a folder with a configuration of the default policy and the documents' secret."""
    (tmp_path / "northbound.toml").write_text(completed(""))
    return tmp_path


def test_the_guides_cases_pass_and_would_fail(policy):
    (cases,) = re.findall(r"```toml cases\n(.*?)```", (ROOT / "docs/privacy.md").read_text(), re.DOTALL)
    (policy / "privacy.cases.toml").write_text(cases)
    told = northbound("privacy", "test", policy / "northbound.toml", environment=dict(os.environ))
    assert told.returncode == 0, told.stdout + told.stderr
    assert "3 cases: 3 passed" in told.stdout
    (policy / "northbound.toml").write_text(completed("[privacy]\ndefault = false\n"))
    told = northbound("privacy", "test", policy / "northbound.toml", environment=dict(os.environ))
    assert told.returncode == 1, told.stdout + told.stderr


def test_a_person_is_looked_up_as_the_guide_says(policy):
    told = northbound(
        "privacy", "hash", policy / "northbound.toml", environment=dict(os.environ), input="Jane.Doe@Example.com\n"
    )
    assert "f5b6-279f2abd6c84d40d899fc0972d4f2582" in told.stdout, told.stderr
    assert "f5b6-279f2abd6c84d40d899fc0972d4f2582" in (ROOT / "docs/privacy.md").read_text()


def test_a_scan_fails_where_no_rule_would_act(policy):
    events = [{"kind": "state", "system": "s", "driver": "d", "module": "M", "index": 1, "state": "note",
               "value": value} for value in ("jane.doe@example.com", "4111 1111 1111 1111")]  # fmt: skip
    for kept, status in ((events[:1], 0), (events, 1)):
        (policy / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in kept))
        told = northbound(
            "privacy", "scan", policy / "northbound.toml", "--file", policy / "events.jsonl", "--fail",
            environment=dict(os.environ),
        )  # fmt: skip
        assert told.returncode == status, told.stdout + told.stderr
        assert "jane" not in told.stdout


def test_every_command_in_the_guides_exists(capsys, monkeypatch):
    for document in (ROOT / "docs/privacy.md", ROOT / "docs/detectors.md", ROOT / "README.md"):
        for command in set(re.findall(r"`northbound(?:\s+([a-z]+))(?:\s+([a-z]+)\b(?!\.))?", document.read_text())):
            words = [word for word in command if word]
            monkeypatch.setattr(sys, "argv", ["northbound", *words, "--help"])
            with pytest.raises(SystemExit):
                sys.exit(main())
            told = capsys.readouterr().out
            assert f"northbound {' '.join(words)} " in told, f"{document}: northbound {' '.join(words)}"


def test_the_vector_of_placeoss_form_is_anybodys_hmac():
    guide = (ROOT / "docs/privacy.md").read_text()
    (match,) = re.findall(r"`printf (\S+) \| openssl dgst -sha256 -hmac '(.*?)'`", guide)
    assert f'`"{hmac.digest(match[1].encode(), match[0].encode(), "sha256").hex()}"`' in guide
