"""Tests of the detector. Run ``pytest`` beside it, once the package is installed."""
# ruff: noqa: D103, INP001, S101 - tests say what they test by their names, and no package holds them

import pytest
from northbound_badge import Badge, Options

DETECTOR = Badge(Options(), name="badge")


@pytest.mark.parametrize("text", ["B-0012345-5", "badge b-00123455 at door 4", "(V-7000003-0)"])
def test_finds(text: str) -> None:
    (found,) = DETECTOR.find(text, "")
    assert any(literal in text for literal in DETECTOR.literals)
    assert found.canonical in {"B-0012345-5", "V-7000003-0"}


@pytest.mark.parametrize("text", ["", "B-0012345-6", "X-0012345-5", "AB-0012345-5", "B-0012345-55"])
def test_finds_nothing_else(text: str) -> None:
    assert not list(DETECTOR.find(text, ""))


def test_its_mask_is_not_found_again() -> None:
    assert DETECTOR.mask("B-0012345-5") == "B-***"
    assert not list(DETECTOR.find(DETECTOR.mask("B-0012345-5"), ""))
