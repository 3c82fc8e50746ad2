"""Measures the privacy detectors by the labelled values in ``tests/corpus``.

    python -m tests.support.corpus [--detector NAME] [--json] [--misses N]

Recall: of the items in which something is labelled, the share in which no labelled text is left, as it stood or
decoded. Precision: of the items in which something was found, the share that has a label. Exact: of the labelled
items, the share that came out as expected to the byte. Partly: how many were found, with a part of a label left.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from msgspec import Struct

from northbound import EventDecoder, Message
from northbound.loading import load_text
from northbound.preview import Preview
from northbound.registry import Registry

FOLDER = Path(__file__).parents[1] / "corpus"
DETECTORS = (
    "email",
    "url_credentials",
    "token",
    "mac",
    "ip",
    "phone",
    "card",
    "coordinates",
    "user_id",
    "person",
    "regex",
)
NOW = 1_700_000_000_123
PLACEHOLDER = "[x]"
PART = 5  # a shorter run of characters is in many texts by chance
MUST_FIND = ("email", "token", "mac", "card")
RECALL_OF_THOSE, RECALL, PRECISION = 0.99, 0.95, 0.95

_ENDS = """
[sources.in]
type = "jsonl"
path = "-"
[connectors.out]
type = "file"
path = "out.jsonl"
[privacy]
default = false
"""


class Verdict(Struct, frozen=True):
    """What became of one item. ``came_out`` is the topic and the payload, or why there was no message.

    ``partly``: it was found, and a part of a labelled text is left.
    """

    id: str
    form: str
    labelled: bool
    found: bool
    exact: bool
    partly: bool
    came_out: str


class Score(Struct, frozen=True):
    """The measures of one detector, or of one form of its items."""

    items: int
    labelled: int
    found: int
    false_alarms: int
    exact: int
    partly: int

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> Score:
        """Count ``verdicts``."""
        labelled = [verdict for verdict in verdicts if verdict.labelled]
        alarms = sum(verdict.found for verdict in verdicts if not verdict.labelled)
        found = sum(verdict.found for verdict in labelled)
        exact = sum(verdict.exact for verdict in labelled)
        return cls(len(verdicts), len(labelled), found, alarms, exact, sum(verdict.partly for verdict in labelled))

    @property
    def recall(self) -> float:
        """Share of the labelled items that were found."""
        return self.found / self.labelled if self.labelled else 1.0

    @property
    def precision(self) -> float:
        """Share of what was found that is labelled."""
        return self.found / (self.found + self.false_alarms) if self.found + self.false_alarms else 1.0

    @property
    def exactness(self) -> float:
        """Share of the labelled items that came out as expected."""
        return self.exact / self.labelled if self.labelled else 1.0


def read(detector: str) -> list[dict[str, Any]]:
    """Return the items of one detector."""
    with (FOLDER / f"{detector}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def configuration(detector: str, region: str | None = None) -> str:
    """Return the configuration by which ``detector`` alone replaces what it finds."""
    own: dict[str, list[str]] = {}
    if detector == "person":
        own["people"] = ['type = "person"', f"names = {_toml(str(FOLDER / 'names.txt'))}"]
    elif detector == "regex":
        patterns = (FOLDER / "patterns.txt").read_text(encoding="utf-8").split("\n")[:-1]
        own["own_patterns"] = ['type = "regex"', f"patterns = [{', '.join(map(_toml, patterns))}]"]
    elif region is not None:
        own[f"{detector}_here"] = [f"type = {_toml(detector)}", f"region = {_toml(region)}"]
    lines = [
        'secret = "corpus secret, long enough"',
        "[[privacy.rules]]",
        f"name = {_toml(detector)}",
        f"detect = [{_toml(next(iter(own), detector))}]",
        'action = "redact"',
        f"placeholder = {_toml(PLACEHOLDER)}",
    ]
    for name, options in own.items():
        lines += [f"[privacy.detectors.{name}]", *options]
    return _ENDS + "\n".join(lines) + "\n"


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a TOML string


class Evaluator:
    """Runs items through the preview of a configuration and compares with one that removes nothing."""

    def __init__(self) -> None:
        self._registry = Registry()
        self._decode = EventDecoder().decode
        self._plain = Preview(load_text(_ENDS, self._registry))
        self._by_variant: dict[tuple[str, str | None], Preview] = {}

    def verdicts(self, detector: str) -> list[Verdict]:
        """Return what becomes of each item of ``detector``."""
        return [self._verdict(detector, item) for item in read(detector)]

    def _verdict(self, detector: str, item: Mapping[str, Any]) -> Verdict:
        event, expected = item["event"], item["expected"]
        labelled = expected is not None
        wanted = self._message(self._plain, expected if labelled else event)
        assert isinstance(wanted, Message), f"{item['id']}: {wanted}"
        got = self._message(self._preview(detector, item.get("region")), event)
        if isinstance(got, str):  # not sent: nothing leaked, yet nothing was recognised either
            return Verdict(item["id"], item["form"], labelled, not labelled, False, False, f"refused: {got}")
        exact = (got.topic, got.payload) == (wanted.topic, wanted.payload)
        if not labelled:
            return Verdict(item["id"], item["form"], False, not exact, False, False, _shown(got))
        texts = labels(event, expected)
        found = not any(stands_in(text, got) for text in texts)
        partly = found and any(is_left(text, got, wanted) for text in texts)
        return Verdict(item["id"], item["form"], True, found, exact, partly, _shown(got))

    def _preview(self, detector: str, region: str | None) -> Preview:
        variant = (detector, region)
        if variant not in self._by_variant:
            self._by_variant[variant] = Preview(load_text(configuration(*variant), self._registry))
        return self._by_variant[variant]

    def _message(self, preview: Preview, event: Mapping[str, Any]) -> Message | str:
        previewed = preview.event(self._decode(json.dumps(event)), NOW)
        return previewed.refused if previewed.message is None else previewed.message


def _shown(message: Message) -> str:
    return f"{message.topic} {message.payload.decode()}"


# labels: what stood where the placeholder is


def labels(before: Any, after: Any) -> list[str]:
    """Return the texts of ``before`` in whose place ``after`` has the placeholder."""
    return list(_labels(before, after))


def _labels(before: Any, after: Any) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, dict):
        for (key, value), (other_key, other_value) in zip(before.items(), after.items(), strict=True):
            yield from _labels(key, other_key)
            yield from _labels(value, other_value)
    elif isinstance(before, list):
        for value, other in zip(before, after, strict=True):
            yield from _labels(value, other)
    elif not isinstance(before, str):
        yield json.dumps(before)
    elif (inner := _document(before)) is not None:
        yield from _labels(inner, json.loads(after))
    else:
        parts = map(re.escape, after.split(PLACEHOLDER))
        match = re.fullmatch("(.+?)".join(parts), before, re.DOTALL)
        assert match is not None, f"{after!r} is not what is left of {before!r}"
        yield from match.groups()


def _document(text: str) -> Any:
    if text[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None


# what still stands in a message


def stands_in(label: str, message: Message) -> bool:
    """Return whether ``label`` can be read in ``message``, as it stands or decoded."""
    wanted = folded(label)
    return any(label in text or wanted in folded(text) for text in _readable(message))


def is_left(label: str, message: Message, expected: Message) -> bool:
    """Return whether five characters in a row of ``label`` can be read in ``message`` and not in the expected one."""
    wanted = folded(label)
    runs = {wanted[place : place + PART] for place in range(max(1, len(wanted) - PART + 1))}
    there, allowed = ("\0".join(map(folded, _readable(each))) for each in (message, expected))
    return any(run in there and run not in allowed for run in runs)


def _readable(message: Message) -> list[str]:
    """Return the texts of a message: topic levels, keys, strings, numbers."""
    payload = json.loads(message.payload) if message.payload else {}
    if message.kind == "state":
        payload = json.loads(payload.get("value", "null"))
    return [*(unquote(level) for level in message.topic.split("/")), *_texts(payload)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        inner = _document(value)
        if inner is None:
            yield value
        else:
            yield from _texts(inner)
    else:
        yield json.dumps(value)


def folded(text: str) -> str:
    """Return ``text`` without what only disguises it: escapes, invisible characters, other scripts' digits, case."""
    for _ in range(4):
        before = text
        text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), html.unescape(unquote(text)))
        if text == before:
            break
    text = unicodedata.normalize("NFKC", text)
    return "".join(_folded(char) for char in text).casefold()


def _folded(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cf":
        return ""
    if category == "Pd" or char == "\u2212":
        return "-"
    return str(unicodedata.decimal(char)) if category == "Nd" else char


# the report


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the measures; 1 where one of the first four detectors finds too little."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.corpus", description=__doc__.split("\n")[0])
    parser.add_argument("--detector", choices=DETECTORS, action="append")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--misses", type=int, metavar="N", help="list at most N of each kind and detector")
    options = parser.parse_args(arguments)
    evaluator = Evaluator()
    found = {detector: evaluator.verdicts(detector) for detector in options.detector or DETECTORS}
    if options.json:
        report = {detector: _as_object(verdicts, options.misses) for detector, verdicts in found.items()}
        print(json.dumps(report, ensure_ascii=False, indent=1))
    else:
        _print(found, options.misses)
    return int(any(Score.of(v).recall < RECALL_OF_THOSE for detector, v in found.items() if detector in MUST_FIND))


def _misses(verdicts: Sequence[Verdict], most: int | None) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.labelled and not verdict.found][:most]


def _alarms(verdicts: Sequence[Verdict], most: int | None) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.found and not verdict.labelled][:most]


def _partly(verdicts: Sequence[Verdict], most: int | None) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.partly][:most]


_LISTS = {"missed": _misses, "false alarm": _alarms, "partly": _partly}


def _by_form(verdicts: Sequence[Verdict]) -> dict[str, Score]:
    forms = Counter(verdict.form for verdict in verdicts)
    return {form: Score.of([verdict for verdict in verdicts if verdict.form == form]) for form in forms}


def _as_object(verdicts: Sequence[Verdict], most: int | None) -> dict[str, Any]:
    score = Score.of(verdicts)
    listed = {title: choose(verdicts, most) for title, choose in _LISTS.items()}
    return {
        **_numbers(score),
        "forms": {form: _numbers(score) for form, score in _by_form(verdicts).items()},
        **{
            kind: [{"id": verdict.id, "form": verdict.form, "came_out": verdict.came_out} for verdict in verdicts]
            for kind, verdicts in listed.items()
        },
    }


def _numbers(score: Score) -> dict[str, Any]:
    return {
        "items": score.items,
        "true": score.labelled,
        "near_misses": score.items - score.labelled,
        "found": score.found,
        "false_alarms": score.false_alarms,
        "precision": round(score.precision, 4),
        "recall": round(score.recall, 4),
        "exact": round(score.exactness, 4),
        "partly": score.partly,
    }


def _print(found: Mapping[str, Sequence[Verdict]], most: int | None) -> None:
    everything = [verdict for verdicts in found.values() for verdict in verdicts]
    print(f"{'detector':16}{'items':>7}{'true':>7}{'near':>7}{'precision':>11}{'recall':>9}{'exact':>9}{'partly':>8}")
    for detector, verdicts in found.items():
        _row(detector, Score.of(verdicts))
    _row("all", Score.of(everything))
    print(f"\n{'form':16}{'items':>7}{'found':>7}{'recall':>9}{'exact':>9}{'partly':>8}{'false alarms':>14}")
    for form, score in _by_form(everything).items():
        measures = f"{score.recall:9.3f}{score.exactness:9.3f}{score.partly:8}" if score.labelled else " " * 26
        print(f"{form:16}{score.items:7}{score.found:7}{measures}{score.false_alarms or '':>14}")
    for title, choose in _LISTS.items():
        for verdicts in found.values():
            for verdict in choose(verdicts, most):
                print(f"{title}: {verdict.id} ({verdict.form}) {_cut(verdict.came_out)}")


def _row(name: str, score: Score) -> None:
    near = score.items - score.labelled
    measures = f"{score.precision:11.3f}{score.recall:9.3f}{score.exactness:9.3f}{score.partly:8}"
    print(f"{name:16}{score.items:7}{score.labelled:7}{near:7}{measures}")


def _cut(text: str, longest: int = 160) -> str:
    text = text.replace("\n", "\\n")
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


if __name__ == "__main__":
    sys.exit(main())
