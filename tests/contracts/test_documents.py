"""Documents that lie fail the build."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from northbound.loading import load_text
from northbound.registry import Registry

ROOT = Path(__file__).parent.parent.parent


def test_the_reference_is_what_the_models_say():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/reference.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", ["README.md"])
def test_configurations_in_documents_load(path, tmp_path):
    samples = re.findall(r"```toml\n(.*?)```", (ROOT / path).read_text(), re.DOTALL)
    assert samples
    for sample in samples:
        load_text(sample, Registry(), base=tmp_path, environment={})


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
