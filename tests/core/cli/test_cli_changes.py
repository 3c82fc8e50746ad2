"""How a change is drawn."""

from __future__ import annotations

import pytest

from northbound.cli.changes import changed, removed


def spans(text) -> list[tuple[str, str]]:
    return [(text.plain[span.start : span.end], str(span.style)) for span in text.spans]


def test_what_went_and_what_came_stand_beside_each_other():
    text = changed("by bob@example.com, late", "by 12ab-34, late", style="cyan")
    assert text.plain.startswith("by bob")
    assert {style for _, style in spans(text)} == {"cyan", "red strike", "bold green"}
    assert "".join(piece for piece, style in spans(text) if style != "red strike") == "by 12ab-34, late"
    assert "".join(piece for piece, style in spans(text) if style != "bold green") == "by bob@example.com, late"


def test_without_colours_there_are_brackets():
    assert changed("a bob c", "a eve c", colours=False).plain == "a [-bob-]{+eve+} c"
    assert removed("bob", colours=False).plain == "[-bob-]"


@pytest.mark.parametrize("length", [3_000, 1_000_000])
def test_a_long_text_is_cut_before_it_is_compared(length):
    text = changed("a@" * length, "b@" * length)
    assert len(text.plain) < 10_000


def test_control_characters_are_shown():
    assert "\x1b" not in changed("\x1b[31m", "\x1b[32m").plain
