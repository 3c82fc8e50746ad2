"""The file connector on a real disk."""

import asyncio
import errno
import json
import os
import resource
import tempfile
from base64 import b64decode
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.support.examples import examples

from northbound import NotConnected, Outgoing, Unavailable
from northbound.loading import load_file
from northbound.registry import Registry
from northbound_file import FileConnector, Options, rotated
from northbound_file.connector import line

HERE = Path(__file__).parents[2] / "plugins" / "northbound_file"


def message(number, payload=None, **changes):
    fields = {"topic": f"placeos/org-acme/state/{number}", "payload": payload or b'{"value":%d}' % number,
              "kind": "state", "time": 1_700_000_000_000 + number, "retain": True,
              "source_topic": "t", "key": f"store-{number}"}  # fmt: skip
    return Outgoing(**(fields | changes))


def batch(*numbers):
    return [message(number) for number in numbers]


def lines(path):
    content = path.read_bytes()
    assert not content or content.endswith(b"\n")
    return [json.loads(text) for text in content.splitlines()]


def keys(path):
    return [int(item["key"].removeprefix("store-")) for item in lines(path)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sent.jsonl"


@pytest.fixture
async def opened(path):
    made = []

    async def make(**options):
        connector = FileConnector(Options(path=path, **options), name="out")
        made.append(connector)
        await connector.open()
        return connector

    yield make
    for connector in made:
        await connector.close()


# lines


async def test_messages_are_appended_in_order(opened, path):
    connector = await opened()
    await connector.send(batch(1, 2))
    await connector.send(batch(3))
    assert lines(path)[0] == {
        "topic": "placeos/org-acme/state/1",
        "payload": '{"value":1}',
        "retain": True,
        "kind": "state",
        "time": 1_700_000_000_001,
        "key": "store-1",
    }
    assert keys(path) == [1, 2, 3]
    await connector.close()
    await connector.close()
    with pytest.raises(NotConnected):
        await connector.send(batch(4))
    await connector.open()
    await connector.open()
    await connector.send(batch(4))
    assert keys(path) == [1, 2, 3, 4]


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary() | st.text().map(lambda text: text.encode(errors="replace")),
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]))
    ),
)
def test_any_message_is_one_line_that_says_all_of_it(topic, payload, properties):
    written = line(Outgoing(topic, payload, "metadata", 7, False, "s", "k-1", properties))
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1
    assert written.startswith(rotated.SIGNATURE)
    said = json.loads(written)
    text = said.pop("payload", None)
    assert payload == (b64decode(said.pop("payload_base64")) if text is None else text.encode())
    expected = {"topic": topic, "retain": False, "kind": "metadata", "time": 7, "key": "k-1"}
    assert said == (expected | {"properties": properties} if properties else expected)


async def test_twenty_megabytes_in_one_message(opened, path):
    connector = await opened(max_bytes="1MiB")
    await connector.send([message(1, b"x" * 20_000_000), message(2)])
    assert keys(path) == [2]
    assert keys(Path(f"{path}.1")) == [1]


# rotation


async def test_it_rotates_by_size_and_keeps_so_many(opened, path):
    connector = await opened(max_bytes=1024, keep=2)
    for start in range(0, 40, 4):
        await connector.send(batch(*range(start, start + 4)))
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["sent.jsonl", "sent.jsonl.1", "sent.jsonl.2"]
    assert all(file.stat().st_size <= 1024 for file in files)
    kept = [key for file in (files[2], files[1], files[0]) for key in keys(file)]
    assert kept == list(range(kept[0], 40))
    assert len(kept) > 12


async def test_keep_none_deletes(opened, path):
    connector = await opened(max_bytes=1024, keep=0)
    await connector.send(batch(*range(40)))
    assert [file.name for file in path.parent.iterdir()] == ["sent.jsonl"]
    assert keys(path)[-1] == 39


@settings(max_examples=examples(30))
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=30), st.integers(1, 6))
def test_no_file_is_larger_than_allowed_unless_it_is_one_line(sizes, per_batch):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "sent.jsonl")
        file = rotated.RotatedFile(path, max_bytes=1024, keep=100, fsync=False, mode=0o600)
        file.open()
        messages = [line(message(number, b"x" * size or b"-")) for number, size in enumerate(sizes)]
        for start in range(0, len(messages), per_batch):
            file.append(messages[start : start + per_batch])
        file.close()
        files = sorted(
            path.parent.iterdir(),
            key=lambda found: -int(found.name.removeprefix("sent.jsonl.") if found != path else 0),
        )
        assert b"".join(found.read_bytes() for found in files) == b"".join(messages)
        for found in files:
            assert found.stat().st_size <= 1024 or len(lines(found)) == 1


async def test_a_file_moved_or_deleted_by_others_is_made_anew(opened, path):
    connector = await opened()
    await connector.send(batch(1))
    path.rename(path.with_name("moved"))
    await connector.send(batch(2))
    path.unlink()
    await connector.send(batch(3))
    assert keys(path) == [3]
    assert keys(path.with_name("moved")) == [1]


# a crash


async def test_whatever_a_crash_left_the_file_holds_whole_lines_again(opened, path):
    connector = await opened()
    await connector.send(batch(1, 2))
    await connector.close()
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        await connector.open()
        await connector.send(batch(3))
        expected = [key for key, end in ((1, first - 1), (2, len(whole) - 1)) if length >= end]
        assert keys(path) == [*expected, 3]
        await connector.close()


@pytest.mark.parametrize("tail", [b"\0" * 5000, b'{"topic":"' + b"x" * 200_000, b"7", b"[" * 100_000])
async def test_a_torn_tail_of_any_kind_is_cut_off(opened, path, tail):
    connector = await opened()
    await connector.send(batch(1))
    await connector.close()
    with path.open("ab") as file:
        file.write(tail)
    await connector.open()
    assert keys(path) == [1]


@pytest.mark.parametrize("content", [b"root:x:0:0\n", b"{}\n", b"\0\0", b'{"topics"'])
async def test_a_file_of_others_is_left_alone(opened, path, content):
    path.write_bytes(content)
    with pytest.raises(NotConnected, match="not written by this connector"):
        await opened()
    assert path.read_bytes() == content


# what stands in the way


async def test_two_cannot_write_one_file(opened, path):
    await opened()
    with pytest.raises(NotConnected, match="being written by another"):
        await opened()


async def test_a_missing_folder_a_folder_and_a_pipe_are_said_in_words(opened, path):
    path.mkdir()
    with pytest.raises(NotConnected, match="cannot be written: Is a directory"):
        await opened()
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(NotConnected, match="not a regular file"):
        await opened()
    with pytest.raises(NotConnected, match=r"folder .* does not exist: create it"):
        connector = FileConnector(Options(path=path.parent / "missing" / "sent.jsonl"), name="out")
        await connector.open()


async def test_no_permission_is_said_in_words(opened, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(rotated.os, "open", refuse)
    with pytest.raises(NotConnected, match="Permission denied; check the path and its permissions"):
        await opened()


async def test_a_full_disk_leaves_whole_lines_and_is_tried_again(opened, path, monkeypatch):
    connector = await opened()
    await connector.send(batch(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50, hard))
    try:
        for _ in range(2):
            with pytest.raises(Unavailable, match=r"cannot grow: .*make room") as caught:
                await connector.send(batch(2, 3))
            assert not isinstance(caught.value, NotConnected)
            assert keys(path) == [1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await connector.send(batch(2, 3))
    assert keys(path) == [1, 2, 3]


async def test_after_a_failed_fsync_the_file_is_opened_anew(opened, path, monkeypatch):
    connector = await opened()

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(rotated.os, "fdatasync", fail)
        with pytest.raises(NotConnected, match="Input/output error"):
            await connector.send(batch(1))
    with pytest.raises(NotConnected, match="not open"):
        await connector.send(batch(1))
    await connector.open()
    await connector.send(batch(1))
    assert keys(path)[-1] == 1


async def test_acknowledged_means_synced(opened, monkeypatch):
    synced = []
    monkeypatch.setattr(rotated.os, "fdatasync", synced.append)
    await (await opened()).send(batch(1, 2))
    assert len(synced) == 1


async def test_never_means_never(path, opened, monkeypatch):
    def fail(_):
        raise AssertionError

    monkeypatch.setattr(rotated.os, "fdatasync", fail)
    monkeypatch.setattr(rotated.os, "fsync", fail)
    connector = await opened(fsync="never", max_bytes=1024)
    await connector.send(batch(*range(40)))


async def test_closing_waits_for_a_send_that_was_cancelled(opened, path):
    connector = await opened()
    for number in range(50):
        sending = asyncio.create_task(connector.send(batch(*[number] * 200)))
        await asyncio.sleep(0)
        sending.cancel()
        await connector.close()
        await connector.open()
        lines(path)


# configuration


@pytest.mark.parametrize(("mode", "bits"), [("0600", 0o600), ("640", 0o640), ("0o644", 0o644)])
async def test_permissions_are_those_asked_for_whatever_the_umask(opened, path, mode, bits):
    before = os.umask(0o077)
    try:
        await opened(mode=mode)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == bits


@pytest.mark.parametrize(
    "options", [{}, {"path": "x", "mode": "999"}, {"path": "x", "mode": 400}, {"path": "x", "keep": -1},
                {"path": "x", "max_bytes": 10}, {"path": "x", "fsync": "sometimes"}, {"path": "x", "colour": 1}]
)  # fmt: skip
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValidationError):
        Options(**options)


def test_the_limits_are_those_of_a_file():
    limits = FileConnector.limits
    assert (limits.retain, limits.batch_messages, limits.batches_in_flight) == ("native", 1000, 1)


def test_the_sample_is_a_whole_configuration(tmp_path):
    connector = load_file(HERE / "sample.toml", Registry()).connectors[0].create()
    assert connector.destination.endswith("sent.jsonl")


def test_every_option_is_described():
    assert all(field.description for field in Options.model_fields.values())
    readme = (HERE / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in Options.model_fields)
    assert Options.model_json_schema()["properties"]["mode"]["default"] == "0600"
