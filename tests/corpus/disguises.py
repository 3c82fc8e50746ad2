"""The same text as it is written elsewhere: in addresses, in markup, by word processors, by other keyboards."""

from __future__ import annotations

import unicodedata
from random import Random
from urllib.parse import quote

ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
DASHES = "\u2010\u2011\u2012\u2013\u2212"
DIGITS = ("\u0660", "\u06f0", "\u0966")  # Arabic-Indic, its Persian form, Devanagari


def percent(text: str) -> str:
    """Return ``text`` percent-encoded; something always is."""
    written = quote(text, safe="")
    if written == text and text:
        written = "".join(char if char.isalnum() else f"%{ord(char):02X}" for char in text)
    return written if written != text or not text else f"%{ord(text[0]):02X}{text[1:]}"


def percent_twice(text: str) -> str:
    """Return ``text`` percent-encoded, and once more."""
    return percent(text).replace("%", "%25")


def fullwidth(text: str) -> str:
    """Return the full-width forms that East Asian keyboards write."""
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


def zero_width(text: str, rng: Random) -> str:
    """Return ``text`` with one to three invisible characters inside."""
    for _ in range(rng.randint(1, min(3, len(text) - 1))):
        place = rng.randint(1, len(text) - 1)
        text = text[:place] + rng.choice(ZERO_WIDTH) + text[place:]
    return text


def nfd(text: str) -> str:
    """Return ``text`` with its accents apart from the letters."""
    return unicodedata.normalize("NFD", text)


def unicode_dash(text: str, rng: Random) -> str:
    """Return ``text`` with a word processor's dashes."""
    dash = rng.choice(DASHES)
    return text.replace("-", dash)


def unicode_digits(text: str, rng: Random) -> str:
    """Return ``text`` with the digits of another script."""
    zero = ord(rng.choice(DIGITS))
    return "".join(chr(zero + int(char)) if "0" <= char <= "9" else char for char in text)


def html(text: str, rng: Random) -> str:
    """Return ``text`` with one or more characters as references of HTML; those HTML demands always."""
    odd = sorted({char for char in text if not char.isalnum()}) or [text[0]]
    chosen = {rng.choice(odd)} | ({"@"} & set(text))
    named = {"@": "&commat;", ".": "&period;", ":": "&colon;"}
    written = []
    for char in text:
        if char in "&<>\"'":
            written.append({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}[char])
        elif char in chosen:
            forms = [f"&#{ord(char)};", f"&#x{ord(char):x};"] + ([named[char]] if char in named else [])
            written.append(rng.choice(forms))
        else:
            written.append(char)
    return "".join(written)


def json_escape(text: str, rng: Random) -> str:
    """Return ``text`` as inside a JSON string, with one to three characters written ``\\uXXXX``."""
    odd = [place for place, char in enumerate(text) if not char.isalnum() and char.isascii()]
    chosen = {rng.choice(odd or range(len(text)))}
    chosen |= {rng.randrange(len(text)) for _ in range(rng.randint(0, 2))}
    written = []
    for place, char in enumerate(text):
        if place in chosen and ord(char) <= 0xFFFF:
            written.append(f"\\u{ord(char):04x}")
        else:
            written.append({'"': '\\"', "\\": "\\\\", "\n": "\\n"}.get(char, char))
    return "".join(written)
