"""Asking the running service: what is no answer of northbound's is said in words."""

import io

import pytest

from northbound.cli.caller import TOKEN_VARIABLE, Caller
from northbound.errors import NorthboundError


class Answer(io.BytesIO):
    status = 200


def test_an_event_that_is_no_json_is_said_in_words(monkeypatch):
    monkeypatch.setenv(TOKEN_VARIABLE, "token")
    answer = Answer(b'data: {"topic":"a"}\n\ndata: {"topic":\n\n')
    monkeypatch.setattr(Caller, "_ask", lambda *_: (answer, answer))
    events = Caller(None, None, "http://192.0.2.1:8080").events("/api/state")
    assert next(events) == {"topic": "a"}
    with pytest.raises(NorthboundError, match="does not answer as northbound does"):
        next(events)
