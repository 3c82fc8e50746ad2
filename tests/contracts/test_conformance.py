"""``docs/mqtt-conformance.md`` names a test that exists, or a reason, for every normative statement."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/mqtt-conformance.md").read_text()

# how many statements each section has, in appendix B of each specification; section 2.2.1 of MQTT 5 begins with 2
STATEMENTS = {
    "MQTT 5": {
        "1.5.4": 3, "1.5.5": 1, "1.5.7": 1, "2.1.3": 1, "2.2.1": 6, "2.2.2": 1, "3.1.0": 2, "3.1.2": 30, "3.1.3": 12,
        "3.1.4": 6, "3.2.0": 2, "3.2.2": 22, "3.3.1": 13, "3.3.2": 20, "3.3.4": 10, "3.4.2": 3, "3.5.2": 3, "3.6.1": 1,
        "3.6.2": 3, "3.7.2": 3, "3.8.1": 1, "3.8.3": 5, "3.8.4": 8, "3.9.2": 2, "3.9.3": 2, "3.10.1": 1, "3.10.3": 2,
        "3.10.4": 6, "3.11.2": 2, "3.11.3": 2, "3.12.4": 1, "3.14.0": 1, "3.14.1": 1, "3.14.2": 4, "3.14.4": 3,
        "3.15.1": 1, "3.15.2": 3, "4.1.0": 2, "4.2.0": 1, "4.3.1": 1, "4.3.2": 5, "4.3.3": 13, "4.4.0": 2, "4.5.0": 2,
        "4.6.0": 6, "4.7.0": 1, "4.7.1": 2, "4.7.2": 1, "4.7.3": 4, "4.8.2": 6, "4.9.0": 3, "4.12.0": 7, "4.12.1": 2,
        "4.13.1": 1, "4.13.2": 1, "6.0.0": 4,
    },
    "MQTT 3.1.1": {
        "1.5.3": 3, "2.2.2": 2, "2.3.1": 7, "3.1.0": 2, "3.1.2": 24, "3.1.3": 11, "3.1.4": 5, "3.2.0": 1, "3.2.2": 6,
        "3.3.1": 12, "3.3.2": 3, "3.3.4": 1, "3.3.5": 2, "3.6.1": 1, "3.8.1": 1, "3.8.3": 4, "3.8.4": 6, "3.9.3": 2,
        "3.10.1": 1, "3.10.3": 2, "3.10.4": 6, "3.12.4": 1, "3.14.1": 1, "3.14.4": 3, "4.1.0": 2, "4.2.0": 1,
        "4.3.1": 1, "4.3.2": 2, "4.3.3": 2, "4.4.0": 1, "4.5.0": 2, "4.6.0": 6, "4.7.1": 3, "4.7.2": 1, "4.7.3": 4,
        "4.8.0": 2, "6.0.0": 4, "7.0.0": 2, "7.1.1": 1, "7.1.2": 1,
    },
}  # fmt: skip


def rows(heading: str) -> list[tuple[str, str, str]]:
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert section is not None
    found = re.findall(r"^\| MQTT-(\S+) \| (.+?) \| (.+?) \|$", section[1], re.MULTILINE)
    return [(statement, asks, shown) for statement, asks, shown in found]


def names(file: str) -> set[str]:
    """Return the tests of a file."""
    (path,) = (ROOT / "tests").rglob(file)
    tree = ast.parse(path.read_text())
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assigned = {
        t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)
    }
    return {name for name in tests | assigned if name.startswith(("test_", "Test"))}


@pytest.mark.parametrize("specification", STATEMENTS)
def test_every_statement_has_a_row(specification):
    expected = [
        f"{section}-{number}"
        for section, count in STATEMENTS[specification].items()
        for number in range(2 if (specification, section) == ("MQTT 5", "2.2.1") else 1, count + 1)
    ]
    assert [statement for statement, _, _ in rows(specification)] == expected


@pytest.mark.parametrize("specification", STATEMENTS)
def test_every_row_names_a_test_that_exists_or_a_reason(specification):
    known: dict[str, set[str]] = {}
    for statement, asks, shown in rows(specification):
        assert asks
        tests = re.findall(r"`(test_\w+\.py)::(\w+)`", shown)
        assert tests or not shown.startswith("`"), statement
        assert len(shown) > 10, statement
        for file, name in tests:
            if file not in known:
                known[file] = names(file)
            assert name in known[file], f"{statement}: there is no {name} in {file}"
