"""The jsonl source on real files and pipes."""

import asyncio
import json
import os
import threading
import tracemalloc
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.support.intake import RecordingIntake, running, until

from northbound import EventRefused, NorthboundError, StoreFull
from northbound.loading import load_file, load_text
from northbound.registry import Registry
from northbound_jsonl import JsonlSource, Options, inputs

HERE = Path(__file__).parents[2] / "plugins" / "northbound_jsonl"


def line(number, **changes):
    event = {"kind": "state", "building": "bld-1", "system": "sys-7", "driver": "dep-1", "module": "Sensor", "index": 1,
             "state": "temperature", "value": number} | changes  # fmt: skip
    return json.dumps(event).encode() + b"\n"


def values(messages):
    return [json.loads(json.loads(message.payload)["value"]) for message in messages]


def source(path, **options):
    return JsonlSource(Options(path=path, poll_interval="10ms", **options), name="in")


async def read(path, intake=None, **options):
    intake = intake or RecordingIntake()
    await source(path, **options).run(intake)
    return intake


@pytest.fixture
def events(tmp_path):
    return tmp_path / "events.jsonl"


# what a file may hold


async def test_a_file_is_read_in_order_and_ends_when_all_is_committed(events):
    events.write_bytes(b"".join(map(line, range(5000))))
    intake = RecordingIntake(delay=0.002)
    await read(events, intake)
    assert values(intake.stored) == list(range(5000))
    assert 1 < len(intake.batches) < 20
    assert source(events).finite
    assert not source(events, follow=True).finite


async def test_malformed_lines_are_told_and_do_not_stop_the_rest(events):
    events.write_bytes(
        b"\xef\xbb\xbf" + line(1).rstrip() + b"\r\n"
        b"\n"
        b'{"kind":\n' + line(2) + b'{"kind":"state","a\x00b":1}\n' + b'"\xff\xfe"\n' + b"   \r\n" + b"\x00" * 50 + b"\n"
        + line(3, index=0) + line(4).rstrip()
    )  # fmt: skip
    intake = await read(events)
    assert values(intake.messages) == [1, 2, 4]
    assert [where for where, _ in intake.refusals] == ["line 3", "line 5", "line 6", "line 8"]
    assert all(reason for _, reason in intake.refusals)
    assert len(intake.engine_refused) == 1


async def test_an_empty_file_is_read(events):
    events.touch()
    assert (await read(events)).messages == []


async def test_strict_stops_at_the_first_malformed_line_with_what_came_before_committed(events):
    events.write_bytes(line(1) + line(2) + b"nonsense\n" + line(3))
    intake = RecordingIntake()
    for _ in range(2):  # the second run begins at the bad line and repeats nothing
        with pytest.raises(EventRefused, match=r"events\.jsonl, line 3: not an event"):
            await read(events, intake, strict=True)
        assert values(intake.stored) == [1, 2]
    events.write_bytes(line(1) + line(2) + line(3))
    await read(events, intake, strict=True)
    assert values(intake.stored) == [1, 2, 3]


async def test_strict_stops_at_what_the_engine_refuses_with_its_line(events):
    events.write_bytes(b"\n" + line(1) + b"\n" + line(2, index=0) + line(3))
    with pytest.raises(EventRefused, match=r"line 4: the index"):
        await read(events, strict=True)


async def test_a_line_too_long_is_refused_by_number(events):
    events.write_bytes(line(1) + line("x" * 5000) + line(2) + b"y" * 600_000)
    intake = await read(events, max_line=1000)
    assert values(intake.messages) == [1, 2]
    assert intake.refusals == [
        ("line 2", "longer than 1000 bytes (max_line)"),
        ("line 4", "longer than 1000 bytes (max_line)"),
    ]


async def test_a_line_of_a_hundred_megabytes_leaves_memory_flat(events):
    with events.open("wb") as file:
        file.write(line(1))
        file.seek(100_000_000, os.SEEK_CUR)  # sparse: NUL bytes without the disk
        file.write(b"\n" + line(2))
    tracemalloc.start()
    try:
        intake = await read(events, max_line="1MiB")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert values(intake.messages) == [1, 2]
    assert [where for where, _ in intake.refusals] == ["line 2"]
    assert peak < 6_000_000


async def test_a_line_of_twenty_megabytes_is_taken_where_allowed(events):
    events.write_bytes(line("x" * 20_000_000) + line(2))
    intake = await read(events, max_line="32MiB")
    assert [len(message.payload) > 20_000_000 for message in intake.messages] == [True, False]


# what stands in the way


async def test_what_cannot_be_read_is_said_in_words(tmp_path, events):
    with pytest.raises(NorthboundError, match="does not exist"):
        await read(events)
    with pytest.raises(NorthboundError, match="is a folder"):
        await read(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NorthboundError, match="cannot be read: Not a directory"):
        await read(tmp_path / "file" / "events.jsonl")


async def test_a_store_that_fails_ends_the_source(events):
    events.write_bytes(line(1))
    with pytest.raises(StoreFull):
        await read(events, RecordingIntake(failure=StoreFull("no room")))


async def test_what_is_not_committed_is_bounded(events):
    events.write_bytes(b"".join(map(line, range(60_000))))
    intake = RecordingIntake(automatic=False)
    async with running(source(events), intake):
        await until(lambda: len(intake.batches) >= 17)
        await asyncio.sleep(0.05)
        assert intake.most_uncommitted == 17  # 16 and the one that waits for room
    assert len(intake.batches) == 17


async def test_it_waits_while_the_intake_is_full_and_stops_when_told(events):
    events.write_bytes(b"".join(map(line, range(20_000))))
    intake = RecordingIntake(automatic=False, capacity=2)
    async with running(source(events), intake):
        await until(lambda: len(intake.batches) == 2)
        intake.commit(1)
        await until(lambda: len(intake.batches) == 3)
    assert len(intake.batches) == 3


# resuming


async def test_a_kill_at_any_moment_neither_loses_nor_repeats(events, monkeypatch):
    monkeypatch.setattr(inputs, "BLOCK", 700)
    expected = list(range(60))
    events.write_bytes(b"\xef\xbb\xbf" + b"".join(map(line, expected))[:-1])
    batches = 100
    kill = 0
    while kill < batches:
        intake = RecordingIntake(automatic=False)
        async with running(source(events), intake) as task:
            for _ in range(kill):
                await until(lambda: intake._waiting or task.done())  # noqa: B023
                intake.commit(1)
            if task.done():
                batches = kill
        intake = intake.killed()
        await read(events, intake)
        assert values(intake.stored) == expected
        kill += 1
    assert batches > 12


async def test_a_checkpoint_at_every_byte_resumes_there(events):
    events.write_bytes(b"".join(map(line, range(12))) + b"bad\n" + line(12))
    whole = events.read_bytes()
    for length in range(0, len(whole) + 1, 7):
        events.write_bytes(whole[:length])
        intake = RecordingIntake()
        async with running(source(events, follow=True), intake):
            complete = sum(part.startswith(b"{") for part in whole[:length].split(b"\n")[:-1])
            await until(lambda: len(intake.messages) == complete)  # noqa: B023
        intake = intake.killed()
        events.write_bytes(whole)
        await read(events, intake)
        assert values(intake.stored) == list(range(13))
        assert [where for where, _ in intake.refusals] in (["line 13"], [])


async def test_what_is_appended_later_is_read_and_nothing_else(events):
    events.write_bytes(line(1) + line(2))
    intake = await read(events)
    with events.open("ab") as file:
        file.write(line(3) + b"bad\n")
    await read(events, intake)
    assert values(intake.stored) == [1, 2, 3]
    assert intake.refusals[0][0] == "line 4"
    await read(events, intake, resume=False)
    assert values(intake.stored) == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("stored", [b"", b"{}", b"garbage"])
async def test_a_checkpoint_that_cannot_be_read_means_the_beginning(events, stored):
    events.write_bytes(line(1))
    assert values((await read(events, RecordingIntake(checkpoint=stored))).stored) == [1]


@pytest.mark.parametrize("content", [b"", line(8), line(1)[:-1].replace(b"1", b"9") + b"\n" + line(2) + line(3)])
async def test_another_file_at_the_path_is_read_from_its_beginning(events, content):
    events.write_bytes(line(1) + line(2))
    intake = await read(events)
    events.unlink()
    events.write_bytes(content)
    await read(events, intake)
    assert len(intake.stored) == 2 + content.count(b"\n")


async def test_a_copy_of_the_file_is_the_same_file(events):
    events.write_bytes(line(1) + line(2))
    intake = await read(events)
    copy = events.with_name("copy")
    copy.write_bytes(events.read_bytes() + line(3))
    copy.replace(events)
    await read(events, intake)
    assert values(intake.stored) == [1, 2, 3]


# following


async def test_following_reads_what_comes_and_waits_for_the_newline(events):
    intake = RecordingIntake()
    async with running(source(events, follow=True), intake):
        await asyncio.sleep(0.03)  # the file is not there yet
        events.write_bytes(line(1))
        await until(lambda: values(intake.stored) == [1])
        with events.open("ab", buffering=0) as file:
            torn = line(2)
            file.write(torn[:20])
            await asyncio.sleep(0.05)
            assert values(intake.messages) == [1]
            file.write(torn[20:] + line(3))
            await until(lambda: values(intake.stored) == [1, 2, 3])
    assert intake.refusals == []


async def test_following_goes_through_rotation_by_rename(events):
    intake = RecordingIntake()
    events.write_bytes(line(0))
    async with running(source(events, follow=True), intake):
        await until(lambda: len(intake.messages) == 1)
        for rotation in range(1, 4):
            with events.open("ab") as old:
                events.rename(events.with_name(f"events.jsonl.{rotation}"))
                old.write(line(rotation * 10))  # the writer has not moved on yet
            await asyncio.sleep(0.02)
            events.write_bytes(line(rotation * 10 + 1))
            await until(lambda: len(intake.messages) == 1 + rotation * 2)  # noqa: B023
    assert values(intake.stored) == [0, 10, 11, 20, 21, 30, 31]


async def test_a_writer_that_stays_with_the_old_file_for_a_while_loses_nothing(events):
    intake = RecordingIntake()
    events.write_bytes(line(0))
    async with running(source(events, follow=True), intake):
        await until(lambda: len(intake.messages) == 1)
        with events.open("ab", buffering=0) as old:
            events.rename(events.with_name("events.jsonl.1"))
            events.touch()  # logrotate's create, before the writer was told
            await asyncio.sleep(0.03)
            old.write(line(1))
            await until(lambda: len(intake.messages) == 2)
        events.write_bytes(line(2))
        await until(lambda: len(intake.messages) == 3)
    assert values(intake.stored) == [0, 1, 2]


async def test_an_empty_successor_is_moved_to_in_the_end(events):
    intake = RecordingIntake()
    events.write_bytes(line(0))
    async with running(source(events, follow=True), intake):
        await until(lambda: len(intake.messages) == 1)
        events.rename(events.with_name("events.jsonl.1"))
        events.touch()
        await asyncio.sleep(0.25)
        with events.open("ab") as file:
            file.write(line(1))
        await until(lambda: len(intake.messages) == 2)


@pytest.mark.parametrize("rewritten", [1, 5])
async def test_following_goes_through_truncation(events, rewritten):
    intake = RecordingIntake()
    events.write_bytes(line(1) + line(2) + b'{"torn')
    async with running(source(events, follow=True), intake):
        await until(lambda: len(intake.messages) == 2)
        # Shorter than before, and longer: the size alone does not tell.
        events.write_bytes(b"".join(line(100 + number) for number in range(rewritten)))
        await until(lambda: len(intake.messages) == 2 + rewritten)
    assert values(intake.stored)[2:] == [100 + number for number in range(rewritten)]


async def test_what_was_rotated_away_while_nobody_read_is_read_first(events):
    events.write_bytes(line(1))
    intake = await read(events)
    with events.open("ab") as file:
        file.write(line(2) + line(3))
    events.rename(events.with_name("events.jsonl.1"))
    events.write_bytes(line(4))
    async with running(source(events, follow=True), intake):
        await until(lambda: len(intake.messages) == 4)
    assert values(intake.stored) == [1, 2, 3, 4]


# streams


@pytest.fixture
def pipe():
    read_end, write_end = os.pipe()
    ends = {"write": write_end}
    yield read_end, ends
    os.close(read_end)
    if ends.get("write") is not None:
        os.close(ends["write"])


def standard_input(fd, **options):
    found = source("-", **options)
    found.standard_input = fd
    return found


async def test_standard_input_is_read_to_its_end(pipe):
    fd, ends = pipe

    def write():
        for number in range(5000):
            os.write(ends["write"], line(number))
        os.write(ends["write"], line(5000)[:-1])
        os.close(ends.pop("write"))

    writer = threading.Thread(target=write)
    writer.start()
    intake = RecordingIntake()
    await standard_input(fd).run(intake)
    writer.join()
    assert values(intake.stored) == list(range(5001))
    assert intake.checkpoint is None


async def test_silent_standard_input_does_not_hold_up_the_end(pipe):
    fd, ends = pipe
    intake = RecordingIntake()
    async with running(standard_input(fd), intake):
        os.write(ends["write"], line(1) + b"half")
        await until(lambda: intake.stored)
    os.write(ends["write"], b"for whoever reads next")
    assert os.read(fd, 100) == b"for whoever reads next"
    await until(lambda: not any(thread.name.startswith("jsonl-in") for thread in threading.enumerate()))


async def test_a_store_that_breaks_while_the_pipe_is_silent_is_noticed(pipe):
    fd, ends = pipe
    os.write(ends["write"], line(1))
    with pytest.raises(StoreFull):
        await asyncio.wait_for(standard_input(fd).run(RecordingIntake(failure=StoreFull("no room"))), 5)


async def test_a_file_redirected_to_standard_input_is_read(events):
    events.write_bytes(line(1))
    with events.open("rb") as file:
        intake = RecordingIntake()
        await standard_input(file.fileno()).run(intake)
    assert values(intake.stored) == [1]


async def test_a_closed_standard_input_is_said_in_words():
    with pytest.raises(NorthboundError, match="standard input cannot be read: Bad file descriptor"):
        await standard_input(9999).run(RecordingIntake())


@pytest.mark.parametrize("follow", [False, True])
async def test_a_named_pipe_is_read(events, follow):
    os.mkfifo(events)
    intake = RecordingIntake()
    async with running(source(events, follow=follow), intake) as task:
        await asyncio.sleep(0.02)
        for number in range(2 if follow else 1):
            await asyncio.to_thread(events.write_bytes, line(number))
            await until(lambda: len(intake.stored) == number + 1)  # noqa: B023
        if not follow:
            await until(task.done)
        assert task.done() is not follow


# configuration


def test_the_sample_is_a_whole_configuration():
    configuration = load_file(HERE / "sample.toml", Registry())
    assert [instance.plugin.type_name for instance in configuration.sources] == ["jsonl"]
    created = configuration.sources[0].create()
    assert created.origin.endswith("events.jsonl")


def test_a_relative_path_starts_beside_the_file_and_a_dash_is_standard_input(tmp_path):
    text = '[sources.in]\ntype="jsonl"\npath="{}"\n[connectors.out]\ntype="file"\npath="out"\n'
    relative = load_text(text.format("x/events.jsonl"), Registry(), base=tmp_path).sources[0].create()
    assert relative.config.path == tmp_path / "x" / "events.jsonl"
    dash = load_text(text.format("-"), Registry(), base=tmp_path).sources[0].create()
    assert dash.config.path == "-"
    assert dash.origin == "standard input"


@pytest.mark.parametrize(
    "options", [{}, {"path": "-", "follow": True}, {"path": "x", "folow": True}, {"path": "x", "max_line": "1 B"}]
)
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ValidationError):
        Options(**options)


def test_every_option_is_described():
    assert all(field.description for field in Options.model_fields.values())
    readme = (HERE / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in Options.model_fields)
