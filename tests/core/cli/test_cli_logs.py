"""What is logged, after the privacy rules."""

from __future__ import annotations

import io
import json
import logging

import pytest

from northbound.cli import logs
from northbound.config import ServiceOptions


@pytest.fixture
def lines():
    """Configure the log, and return what it writes."""
    root = logging.getLogger()
    before, level, raising = root.handlers[:], root.level, logging.raiseExceptions

    def configured(shareable, **options):
        logs.configure(ServiceOptions(**options), shareable)
        stream = io.StringIO()
        root.handlers[0].setStream(stream)
        return stream

    yield configured
    root.handlers[:] = before
    root.setLevel(level)
    logging.raiseExceptions = raising


def without(text: str) -> str:
    return text.replace("canary", "[gone]")


def speak():
    log = logging.getLogger("northbound.test")
    log.warning("of %s", "canary")
    try:
        int("canary")
    except ValueError:
        log.exception("it failed")


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("log_level", ["info", "debug"])
def test_messages_and_exceptions_are_scrubbed(lines, log_format, log_level):
    stream = lines(without, log_format=log_format, log_level=log_level)
    speak()
    written = stream.getvalue()
    assert "canary" not in written
    assert written.count("[gone]") >= 2
    assert len(written.splitlines()) == 2
    if log_format == "json":
        assert json.loads(written.splitlines()[0])["message"] == "of [gone]"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_cannot_be_scrubbed_is_withheld(lines, log_format):
    def broken(text):
        raise RuntimeError(text)

    stream = lines(broken, log_format=log_format)
    speak()
    written = stream.getvalue()
    assert "canary" not in written
    assert len(written.splitlines()) == 2
    assert "[withheld]" in written
