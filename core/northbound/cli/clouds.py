"""The demo's clouds: twins in a process of their own, and whether what they took is what was sent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from northbound import Connector, NorthboundError
from northbound.cli.proof import Check, FileContent
from northbound.cli.words import plural
from northbound.config import SiteOptions
from northbound.registry import Registry
from northbound.shaping import METADATA_NAMES, STATE_NAMES, Template
from northbound.topics import TopicScheme

#: Connector types that have a twin, and the name of the demo's connector.
_NAMES: Final[Mapping[str, str]] = {"aws-iot": "aws", "azure-iot": "azure", "gcp-pubsub": "google"}
_STOP_SECONDS: Final = 20.0


class _Line(msgspec.Struct):
    topic: str
    properties: Mapping[str, str]
    payload: str


class Clouds:
    """Runs the twins while the block runs: of those clouds whose SDK is installed; ``missing`` says what is not."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None
        self._options: dict[str, dict[str, Any]] = {}
        self._classes: dict[str, type[Connector]] = {}
        self.missing: list[str] = []
        for kind in _NAMES:
            row = registry.find("connector", kind)
            if row is not None and row.implementation is not None and issubclass(row.implementation, Connector):
                self._classes[kind] = row.implementation
            else:
                hint = f": {row.hint}" if row is not None and row.hint else ""
                self.missing.append(f"the {kind} connector does not load{hint}")

    def __enter__(self) -> Self:
        if not self._classes:
            return self
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter
            [sys.executable, "-m", "northbound.testing.twins", str(self._folder), *self._classes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the demo, which still has to deliver
        )
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        line = self._process.stdout.readline()
        if not line:
            assert self._process.stderr is not None  # noqa: S101 - asked for above
            words = self._process.stderr.read().strip().splitlines()
            self._end()
            raise NorthboundError(f"the twins of the clouds do not start: {words[-1] if words else 'they say nothing'}")
        self._options = json.loads(line)
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def names(self) -> list[str]:
        """The demo's connectors to them."""
        return [_NAMES[kind] for kind in self._options]

    @property
    def text(self) -> str:
        """Their tables of a configuration."""
        tables = []
        for kind, options in self._options.items():
            values = "".join(f"{key} = {json.dumps(value)}\n" for key, value in options.items())
            tables.append(f'\n[connectors.{_NAMES[kind]}]\ntype = "{kind}"\n{values}')
        return "".join(tables)

    def compare(self, site: SiteOptions, acknowledged: Mapping[str, int], content: FileContent | None) -> list[Check]:
        """End the twins, and compare what each took with what was acknowledged and with the newest values in the file.

        ``acknowledged`` is by connector. Blocks while the files are read.
        """
        self._end()
        return [
            _compare(_NAMES[kind], self._took(kind, site.scheme), acknowledged[_NAMES[kind]], content)
            for kind in self._options
        ]

    def _took(self, kind: str, scheme: TopicScheme) -> Iterator[tuple[str, str | None, bytes]]:
        """Yield (idempotency key, normalised topic, payload); the topic is ``None`` where no inverse gives it."""
        connector = self._classes[kind]
        names = (*STATE_NAMES, *scheme.hierarchy[1:])
        template = Template(connector.default_topic or "{topic}", names, most_levels=connector.limits.max_topic_levels)
        described = Template(connector.default_metadata_topic or "{root}/{org}/metadata/{id}", METADATA_NAMES)
        decode = msgspec.json.Decoder(_Line).decode
        with (self._folder / f"{kind}.jsonl").open("rb") as file:
            for text in file:
                line = decode(text)
                key = line.properties.get("key") or line.properties.get("$.mid") or line.properties["id"]
                topic: str | None = line.properties.get("topic")
                if topic is None:
                    topic = _undone(template, described, scheme, line.topic)
                yield key, topic, line.payload.encode()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()


def _undone(template: Template, described: Template, scheme: TopicScheme, topic: str) -> str | None:
    values = described.inverse(topic)
    if values is not None:
        return scheme.metadata_topic(str(values["org"]), str(values["id"]))
    values = template.inverse(topic)
    if values is None:
        return None
    if "topic" in values:
        return values["topic"]
    zones = tuple(values[level] for level in scheme.hierarchy[1:])
    org, system, driver, module, state = (str(values[n]) for n in ("org", "system", "driver", "module", "state"))
    return scheme.state_topic(org, zones, system, driver, module, int(values["index"] or 1), state)


def _compare(
    name: str, took: Iterator[tuple[str, str | None, bytes]], acknowledged: int, content: FileContent | None
) -> Check:
    keys: set[str] = set()
    newest: dict[str, bytes] = {}
    strange = 0
    for key, topic, payload in took:
        keys.add(key)
        if topic is None:
            strange += 1
        else:
            newest[topic] = payload
    words = f"{name} took {plural(len(keys), 'different message')}"
    if len(keys) != acknowledged:
        return Check(ok=False, words=f"{words}: {acknowledged:,} were acknowledged")
    if strange:
        return Check(ok=False, words=f"{words}: {strange:,} have a topic that cannot be undone")
    words += ": as many as were acknowledged"
    if content is None:
        return Check(ok=True, words=words)
    wrong = sum(newest.get(topic) != payload for topic, payload in content.values.items())
    if wrong:
        return Check(ok=False, words=f"{words}; {wrong:,} topics end with another value than in the file")
    return Check(ok=True, words=f"{words}, and the newest value of each topic is the file's")
