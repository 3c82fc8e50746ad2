"""API keys: made, seen by a service that runs, revoked."""

import json
import os
import stat
import subprocess
import sys
import time

import msgspec
import pytest

from northbound.api import keyfile
from northbound.api.keyfile import KeyFile, KeyRing, path_beside
from northbound.apikeys import ApiKey, hash_secret, is_id, is_secret, split
from northbound.errors import StoreError


@pytest.fixture
def path(tmp_path):
    return path_beside(tmp_path / "northbound.db")


class Clock:
    now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def test_a_key_is_shown_once_and_only_its_hash_is_kept(path):
    key, token = KeyFile(path).create("lobby", org="acme", scopes=("mqtt.read",), expires=2_000_000_000_000)
    id_, secret = split(token)
    assert (id_, len(id_), len(secret)) == (key.id, 32, 43)
    assert secret not in path.read_text()
    assert KeyFile(path).keys() == {key.id: key}
    assert key.is_of(secret)
    assert not key.is_of(secret[:-1])
    assert not key.is_of("")
    assert secret not in repr(key)
    assert key.hash not in repr(key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, f"{path.name}.lock"}


def test_the_hash_is_the_one_placeos_keeps():
    # printf 0123456789abcdef0123456789abcdef | openssl dgst -sha512 -hmac s3cr3t
    assert hash_secret("0123456789abcdef0123456789abcdef", "s3cr3t") == (
        "dbf6dca756753527affa4c947f5442a9668341864540277568b02d5ab28a3b346c57d8d718f82f9cf35820db0092f346c05140cde5b4ada6"
        "55be15191e31ba91"
    )


def test_a_name_is_used_once_at_a_time(path):
    file = KeyFile(path)
    first, _ = file.create("lobby")
    with pytest.raises(ValueError, match="in use"):
        file.create("lobby")
    assert [key.id for key in file.revoke("lobby")] == [first.id]
    assert file.revoke("lobby") == []
    second, _ = file.create("lobby")
    assert [key.id for key in file.revoke(second.id)] == [second.id]
    file.create("lobby", expires=1)
    file.create("lobby")  # the other has expired
    assert {key.id for key in file.prune()} >= {first.id, second.id}
    assert len(file.keys()) == 1


def test_there_are_not_more_than_so_many(path, monkeypatch):
    monkeypatch.setattr(keyfile, "_MOST_KEYS", 3)
    for number in range(3):
        KeyFile(path).create(f"k{number}")
    with pytest.raises(ValueError, match="prune"):
        KeyFile(path).create("one more")


def test_whether_a_key_holds():
    key = ApiKey(id="x" * 32, name="n", hash="")
    assert key.holds(1)
    assert not msgspec.structs.replace(key, revoked=5).holds(1)
    assert msgspec.structs.replace(key, expires=5).holds(4)
    assert not msgspec.structs.replace(key, expires=5).holds(5)


def test_a_running_service_sees_what_was_made_and_revoked(path):
    ring = KeyRing(path, clock=Clock())
    assert ring.look() == ([], [])
    assert ring.find("nobody") is None
    key, _ = KeyFile(path).create("lobby")
    assert ring.look() == ([key], [])
    assert ring.find(key.id) == key
    (revoked,) = KeyFile(path).revoke("lobby")
    assert ring.look() == ([], [key])
    assert ring.find(key.id) == revoked
    again, _ = KeyFile(path).create("again")
    assert ring.look() == ([again], [])
    path.unlink()
    assert ring.look() == ([], [again])
    assert ring.find(again.id) is None


def test_the_file_is_looked_at_now_and_then_and_not_at_each_use(path, monkeypatch):
    clock = Clock()
    ring = KeyRing(path, clock=lambda: clock.now)
    looks = []
    look = keyfile.fingerprint
    monkeypatch.setattr(keyfile, "fingerprint", lambda files: looks.append(1) or look(files))
    for _ in range(100):
        ring.look()
    assert len(looks) == 1
    clock.now += 0.6
    ring.look()
    assert len(looks) == 2
    ring.look(at_once=True)
    assert len(looks) == 3


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"keys":[{}]}', b'{"keys":[{"id":1,"name":"a","hash":"b"}]}', b"\xff",
                b'{"keys":[],"version":"1"}', b'{"keys":[{"id":"a","name":"a","hash":"b","role":"root"}]}',
                b'{"keys":[],"version":2}'],
)  # fmt: skip
def test_a_file_that_cannot_be_read_lets_nobody_in(path, content, caplog):
    ring = KeyRing(path, clock=Clock())
    key, _ = KeyFile(path).create("lobby")
    ring.look()
    assert ring.find(key.id)
    path.write_bytes(content)
    ring.look()
    assert ring.find(key.id) is None
    assert str(path) in ring.error
    assert "no API key is taken" in caplog.text
    for use in (KeyFile(path).keys, lambda: KeyFile(path).create("x"), lambda: KeyFile(path).revoke("x")):
        with pytest.raises(StoreError):
            use()
    assert path.read_bytes() == content  # never overwritten


def test_a_file_that_others_may_write_is_refused(path):
    KeyFile(path).create("lobby")
    path.chmod(0o666)
    with pytest.raises(StoreError, match="chmod 600"):
        KeyFile(path).keys()


def test_writers_at_the_same_time_lose_nothing(path):
    code = (
        "import sys, pathlib\nfrom northbound.api.keyfile import KeyFile\n"
        "for n in range(15): KeyFile(pathlib.Path(sys.argv[1])).create(f'{sys.argv[2]}-{n}')"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, path, str(number)]) for number in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert len(KeyFile(path).keys()) == 45


def test_a_kill_leaves_the_old_file_or_the_new_one(path):
    code = (
        "import sys, pathlib\nfrom northbound.api.keyfile import KeyFile\nfile = KeyFile(pathlib.Path(sys.argv[1]))\n"
        "print('begun', flush=True)\nfor n in range(10_000): file.create(f'k{n}')"
    )
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    assert process.stdout.readline()
    until = time.monotonic() + 30
    while (not path.exists() or len(KeyFile(path).keys()) < 20) and time.monotonic() < until:
        time.sleep(0.01)
    process.kill()
    process.wait()
    process.stdout.close()
    kept = KeyFile(path).keys()
    assert len(kept) >= 20
    assert {key.name for key in kept.values()} == {f"k{n}" for n in range(len(kept))}
    KeyFile(path).create("after")  # the lock is gone with its holder


def test_a_folder_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="name a store"):
        KeyFile(tmp_path / "file" / "x.json").create("lobby")

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        KeyFile(tmp_path / "x.json").create("lobby")
    assert [entry.name for entry in tmp_path.iterdir() if entry.suffix == ".new"] == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a" * 32 + "." + "b" * 43, True),
        ("john.doe", False),
        ("a.b", False),
        ("a" * 32 + "." + "b" * 43 + ".c", False),
        ("a" * 32 + "." + "b" * 43 + "\n", False),
        ("é" * 32 + "." + "b" * 43, False),
        ("", False),
        ("." * 80, False),
        ("a" * 100_000 + "." + "b" * 43, False),
    ],
)
def test_what_has_the_form_of_a_key(text, found):
    assert (split(text) is not None) == found
    assert not is_id(text)
    assert not is_secret("x y" * 20)


def test_the_file_can_be_read_by_people(path):
    KeyFile(path).create("lobby", org="acme")
    (row,) = json.loads(path.read_text())["keys"]
    assert (row["name"], row["org"], row["revoked"]) == ("lobby", "acme", None)
