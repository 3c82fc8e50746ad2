"""The secret beside the store."""

import os
import stat
import subprocess
import sys

import pytest

from northbound.errors import StoreError
from northbound.privacy.secretfile import path_beside, read, read_or_make


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def path(tmp_path):
    return path_beside(tmp_path / "northbound.db")


def test_it_is_named_after_the_store(tmp_path):
    assert path_beside(tmp_path / "a.db") == tmp_path / "a.db.privacy-secret"


def test_it_is_made_once_with_mode_600(path):
    before = os.umask(0)
    try:
        secret, made = read_or_make(path)
    finally:
        os.umask(before)
    assert made
    assert len(secret) == 64
    assert mode(path) == 0o600
    assert read_or_make(path) == (secret, False)
    assert read(path) == secret
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_two_stores_have_two_secrets(tmp_path):
    assert read_or_make(tmp_path / "a")[0] != read_or_make(tmp_path / "b")[0]


def test_where_there_is_none_none_is_read_and_none_is_made(path):
    assert read(path) is None
    assert not path.exists()


@pytest.mark.parametrize("wrong", [0o640, 0o604, 0o620, 0o610, 0o666, 0o777])
def test_it_is_refused_where_others_may_get_at_it(path, wrong):
    read_or_make(path)
    path.chmod(wrong)
    for reading in (read, read_or_make):
        with pytest.raises(StoreError, match="chmod 600"):
            reading(path)


@pytest.mark.parametrize("content", [b"", b"short", b"\n\n\n", b"x" * 31, "ü".encode() * 40, b"\xff" * 64])
def test_a_damaged_one_is_refused_and_not_replaced(path, content):
    path.write_bytes(content)
    path.chmod(0o600)
    for reading in (read, read_or_make):
        with pytest.raises(StoreError, match="damaged") as caught:
            reading(path)
        assert "short" not in str(caught.value)
    assert path.read_bytes() == content


def test_a_secret_is_not_in_the_words_of_an_error(path):
    secret, _ = read_or_make(path)
    path.chmod(0o644)
    with pytest.raises(StoreError) as caught:
        read(path)
    assert secret not in str(caught.value)


def test_a_folder_in_its_place_is_refused_in_words(path):
    path.mkdir(mode=0o700)
    for reading in (read, read_or_make):
        with pytest.raises(StoreError):
            reading(path)


def test_where_it_cannot_be_made_that_is_said(tmp_path):
    with pytest.raises(StoreError, match="no privacy secret could be made"):
        read_or_make(tmp_path / "missing" / "secret")


def test_what_a_kill_left_behind_does_not_stop_the_next_start(path):
    """In a container the process has the same id each time."""
    path.with_name(f"{path.name}.{os.getpid()}.new").write_text("half")
    secret, made = read_or_make(path)
    assert made
    assert read(path) == secret


def test_processes_that_start_at_once_have_the_same_secret(path):
    code = (
        "import sys, pathlib; from northbound.privacy.secretfile import read_or_make; "
        "sys.stdin.read(1); print(*read_or_make(pathlib.Path(sys.argv[1])))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in started:
        process.stdin.write("x")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].split() for process in started]
    assert len({secret for secret, _ in answers}) == 1
    assert answers[0][0] == read(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
