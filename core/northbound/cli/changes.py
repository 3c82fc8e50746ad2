"""What privacy has changed in a text, drawn: removed in red, new in green. Pure.

Where a terminal shows no colours, brackets take their place, as ``wdiff`` writes them.
"""

from __future__ import annotations

import difflib
import re
from typing import Final

from rich.text import Text

from northbound.cli.words import clean

_TOKEN: Final = re.compile(r"\w+|\W")
#: Of a longer text only so much is compared, and shown.
_LONGEST: Final = 2_000
_REMOVED: Final = "red strike"
_NEW: Final = "bold green"


def changed(before: str, after: str, *, style: str = "", colours: bool = True) -> Text:
    """Return both texts as one; ``style`` is that of what stayed the same. Each is cut where it is very long."""
    old, new = _cut(clean(before)), _cut(clean(after))
    if old == new:
        return Text(new, style=style)
    olds, news = _TOKEN.findall(old), _TOKEN.findall(new)
    text = Text()
    # What recurs all over a long text says nothing of where it belongs; left in, comparing would take minutes.
    for tag, i, j, k, m in difflib.SequenceMatcher(None, olds, news, autojunk=True).get_opcodes():
        if tag == "equal":
            text.append("".join(news[k:m]), style=style)
            continue
        for piece, look, bracketed in (
            ("".join(olds[i:j]), _REMOVED, "[-{}-]"),
            ("".join(news[k:m]), _NEW, "{{+{}+}}"),
        ):
            if piece:
                text.append(piece if colours else bracketed.format(piece), style=look)
    return text


def removed(before: str, *, colours: bool = True) -> Text:
    """Return a text of which nothing is left."""
    return changed(before, "", colours=colours)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
