"""The dashboard's files: their pure parts in Node, what is vendored, and what may not stand in them."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import northbound.api

FOLDER = Path(northbound.api.__file__).parent / "dashboard"
OURS = [path for path in FOLDER.iterdir() if path.suffix in {".html", ".css", ".js", ".svg"}]


def test_the_pure_parts_do_what_they_say():
    node = shutil.which("node")
    assert node, "install Node: scripts/services does it"
    done = subprocess.run(
        [node, "--test", Path(__file__).parent / "dashboard.test.mjs"],
        capture_output=True, text=True, check=False, env={**os.environ, "DASHBOARD": str(FOLDER)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^# pass 11$", done.stdout, re.MULTILINE), done.stdout


def test_what_is_vendored_is_what_its_page_says():
    readme = (FOLDER / "vendor/README.md").read_text()
    rows = re.findall(r"^\| `(\S+)` \| .* \| (\S+) \| `([0-9a-f]{64})` \|$", readme, re.MULTILINE)
    assert {name for name, _, _ in rows} == {path.name for path in (FOLDER / "vendor").glob("*.js")}
    for name, version, digest in rows:
        content = (FOLDER / "vendor" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest
        assert version.encode() in content
    assert "MIT" in (FOLDER / "vendor/LICENSE.mqtt.md").read_text()


def test_nothing_of_ours_is_inline_or_from_elsewhere():
    assert len(OURS) > 10
    for path in OURS:
        text = path.read_text()
        found = re.findall(r"https?://[^\s\"')]+", text)
        assert set(found) <= {"http://www.w3.org/2000/svg"}, f"{path.name}: {found}"
        for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert forbidden not in text, f"{path.name} holds {forbidden}"
    page = (FOLDER / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\ssrc=)", page)
    assert not re.search(r"\s(on\w+|style)=", page)
