"""The pure half of the jsonl source: splitting and checkpoints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from northbound_jsonl.checkpoint import Checkpoint, fingerprint
from northbound_jsonl.lines import WINDOW, LineSplitter, Place

CHUNKS = st.lists(st.binary(max_size=12).map(lambda raw: raw.replace(b"a", b"\n")), max_size=12)


def split(chunks, max_line=1_000_000, place=None):
    splitter = LineSplitter(max_line, place)
    blocks = [splitter.feed(chunk) for chunk in chunks] + [splitter.finish()]
    numbered = [(block.first + at, line) for block in blocks for at, line in enumerate(block.lines)]
    return numbered, [refusal for block in blocks for refusal in block.refused], splitter, blocks


@given(CHUNKS)
def test_however_the_bytes_come_the_lines_are_the_same(chunks):
    whole = b"".join(chunks)
    numbered, refused, splitter, _ = split(chunks)
    expected = whole.split(b"\n")
    if not expected[-1]:
        expected.pop()
    if expected:
        expected[0] = expected[0].removeprefix(b"\xef\xbb\xbf")
    assert [line for _, line in numbered] == expected or (numbered == [] and expected in ([], [b""]))
    assert [number for number, _ in numbered] == list(range(1, len(numbered) + 1))
    assert refused == []
    assert splitter.position == splitter.place.offset == len(whole)


@given(CHUNKS)
def test_every_block_ends_at_a_place_from_which_the_rest_is_read_alike(chunks):
    whole = b"".join(chunks)
    numbered, _, _, blocks = split(chunks)
    for block in blocks:
        place = block.end
        assert whole[: place.offset][-WINDOW:] == place.window
        assert whole[: place.offset].count(b"\n") == place.line
        rest, *_ = split([whole[place.offset :]], place=place)
        done = [item for b in blocks[: blocks.index(block) + 1] for item in enumerate(b.lines, b.first)]
        assert done + rest == numbered or rest == [(place.line + 1, b"")]
        for line in range(block.first, block.first + len(block.lines)):
            before = block.place_before(line)
            assert whole[: before.offset][-WINDOW:] == before.window
            assert whole[: before.offset].count(b"\n") == before.line == line - 1


@given(CHUNKS, st.integers(1, 8))
def test_a_line_too_long_is_refused_once_and_the_others_are_kept(chunks, max_line):
    whole = b"".join(chunks).replace(b"\xef\xbb\xbf", b"")
    numbered, refused, _, _ = split([whole[i : i + 3] for i in range(0, len(whole), 3)], max_line)
    lines = dict(enumerate(whole.split(b"\n"), 1))
    too_long = {number for number, line in lines.items() if len(line) > max_line}
    assert [number for number, _ in refused] == sorted(too_long)
    kept = {number: line for number, line in numbered if line}
    assert kept == {number: line for number, line in lines.items() if line and number not in too_long}


def test_a_long_line_is_not_held():
    splitter = LineSplitter(1000)
    for _ in range(10_000):
        splitter.feed(b"x" * 100)
        assert len(splitter._pending) <= 1000
    block = splitter.feed(b"\nnext\n")
    assert block.lines == [b"", b"next"]
    assert block.first == 1


def test_single_bytes_are_joined_without_piling_up_objects():
    splitter = LineSplitter(1000)
    for byte in b"hello\n"[:-1]:
        assert splitter.feed(bytes([byte])).lines == []
    assert splitter.feed(b"\n").lines == [b"hello"]


@given(st.binary(max_size=64))
def test_a_stored_checkpoint_of_any_bytes_is_one_or_none(stored):
    assert Checkpoint.decode(stored) is None or Checkpoint.decode(stored).encode()


def test_a_checkpoint_comes_back_and_fits_the_store():
    window = b"x" * WINDOW
    checkpoint = Checkpoint.of(Place(2**60, 2**40, window), 2**63, 2**63)
    assert Checkpoint.decode(checkpoint.encode()) == checkpoint
    assert checkpoint.fingerprint == fingerprint(window)
    assert len(checkpoint.encode()) < 512


@pytest.mark.parametrize(
    "stored",
    [None, b"", b"1", b"[]", b"{}", b"\xff",
     b'{"device":1,"inode":1,"offset":"9","line":1,"window":0,"fingerprint":""}',
     b'{"device":1,"inode":1,"offset":5,"line":1,"window":9,"fingerprint":""}',
     b'{"device":1,"inode":1,"offset":-5,"line":1,"window":0,"fingerprint":""}',
     b'{"device":true,"inode":1,"offset":5,"line":1,"window":0,"fingerprint":""}', b"[" * 4000],
)  # fmt: skip
def test_what_is_no_checkpoint_is_none(stored):
    assert Checkpoint.decode(stored) is None
