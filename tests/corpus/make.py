"""Writes the corpus: ``python -m tests.corpus.make``. The same seed gives the same files, byte for byte."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.corpus import cards, emails, ips, macs, patterns, people, phones, places, tokens, urls, users
from tests.corpus.book import Book, Scene

SEED = 20240115
FOLDER = Path(__file__).parent

_PARTS: Mapping[str, tuple[Scene, Callable[[Book], None]]] = {
    "email": (emails.SCENE, emails.fill),
    "url_credentials": (urls.SCENE, urls.fill),
    "token": (tokens.SCENE, tokens.fill),
    "mac": (macs.SCENE, macs.fill),
    "ip": (ips.SCENE, ips.fill),
    "phone": (phones.SCENE, phones.fill),
    "card": (cards.SCENE, cards.fill),
    "coordinates": (places.SCENE, places.fill),
    "user_id": (users.SCENE, users.fill),
    "person": (people.SCENE, people.fill),
    "regex": (patterns.SCENE, patterns.fill),
}


def items(detector: str) -> list[dict[str, Any]]:
    """Return the items of one detector."""
    scene, fill = _PARTS[detector]
    book = Book(detector, scene, SEED)
    fill(book)
    return book.items


def files() -> dict[str, str]:
    """Return the text of every generated file by its name."""
    written = {f"{detector}.jsonl": "".join(map(_line, items(detector))) for detector in _PARTS}
    return written | {"patterns.txt": "".join(f"{pattern}\n" for pattern in patterns.PATTERNS)}


def _line(item: Mapping[str, Any]) -> str:
    """Return one line. What a reader could not see is escaped: invisible characters, loose accents, odd spaces."""
    text = json.dumps(item, ensure_ascii=False)
    return "".join(_visible(char) for char in text) + "\n"


def _visible(char: str) -> str:
    if char.isascii() or unicodedata.category(char) not in ("Cf", "Mn", "Zs", "Zl", "Zp", "Cc"):
        return char
    return f"\\u{ord(char):04x}"


def main() -> int:
    """Write the files."""
    total = 0
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        total += text.count("\n") if name.endswith(".jsonl") else 0
        print(f"{name:24}{text.count(chr(10)):6}")
    print(f"{total} items")
    return 0


if __name__ == "__main__":
    sys.exit(main())
