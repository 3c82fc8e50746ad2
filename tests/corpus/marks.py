"""Marked values: one tree that says both what an event holds and what must be left of it.

A text between ``⟦`` and ``⟧`` is labelled: it must go. :func:`plain` strips the marks, :func:`redacted` puts the
placeholder in their place. :class:`Number` is a labelled number, :class:`JsonText` a JSON document inside a string.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

PLACEHOLDER = "[x]"
_MARKED = re.compile("⟦(.*?)⟧", re.DOTALL)


class Number:
    """A number that must go; it becomes a string."""

    def __init__(self, value: float) -> None:
        self.value = value


class JsonText:
    """A JSON document as text. ``escape`` rewrites the characters of labelled texts as JSON escapes do.

    ``spaced`` writes the text with spaces; what is left of it is compact either way.
    """

    def __init__(self, tree: Any, *, escape: Callable[[str], str] | None = None, spaced: bool = False) -> None:
        self.tree = tree
        self.escape = escape
        self.spaced = spaced

    @property
    def text(self) -> str:
        """The document with its marks."""
        separators = (", ", ": ") if self.spaced else (",", ":")
        written = json.dumps(_marked(self.tree), separators=separators, ensure_ascii=False)
        escape = self.escape
        if escape is None:
            return written
        return _MARKED.sub(lambda match: mark(escape(json.loads(f'"{match[1]}"'))), written)


def mark(text: str) -> str:
    """Return ``text``, labelled."""
    return f"⟦{text}⟧"


def marked_parts(text: str) -> list[str]:
    """Return the labelled texts in ``text``."""
    return _MARKED.findall(text)


def strip(text: str) -> str:
    """Return ``text`` without its marks."""
    return _MARKED.sub(r"\1", text)


def inside(text: str, change: Callable[[str], str]) -> str:
    """Return ``text`` with ``change`` made to what is labelled, and the marks kept."""
    return _MARKED.sub(lambda match: mark(change(match[1])), text)


def throughout(text: str, change: Callable[[str], str]) -> str:
    """Return ``text`` with ``change`` made to every part, labelled or not, and the marks kept."""
    return "".join(
        mark(change(part)) if position % 2 else change(part) for position, part in enumerate(_MARKED.split(text))
    )


def plain(tree: Any) -> Any:
    """Return the tree as it comes in."""
    return _walk(tree, strip, lambda number: number.value, lambda document: strip(document.text))


def redacted(tree: Any) -> Any:
    """Return what must be left of the tree."""
    return _walk(
        tree,
        lambda text: _MARKED.sub(PLACEHOLDER, text),
        lambda _: PLACEHOLDER,
        lambda document: json.dumps(redacted(document.tree), separators=(",", ":"), ensure_ascii=False),
    )


def _marked(tree: Any) -> Any:
    """Return the tree with its marks and without objects of ours; a labelled number goes in bare."""
    return _walk(tree, lambda text: text, lambda number: number.value, lambda document: document.text)


def _walk(tree: Any, text: Callable[[str], Any], number: Callable[[Number], Any], document: Callable[[JsonText], Any]):
    if isinstance(tree, str):
        return text(tree)
    if isinstance(tree, Number):
        return number(tree)
    if isinstance(tree, JsonText):
        return document(tree)
    if isinstance(tree, dict):
        return {text(key): _walk(item, text, number, document) for key, item in tree.items()}
    if isinstance(tree, Sequence):
        return [_walk(item, text, number, document) for item in tree]
    return tree
