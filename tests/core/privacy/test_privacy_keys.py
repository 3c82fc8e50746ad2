"""Keyed hashes, their ids and their rotation."""

import hashlib
import hmac
import re

from hypothesis import assume, given
from hypothesis import strategies as st

from northbound.privacy.keys import Key, Keys, own_hashes

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
SECRETS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def test_the_digest_is_what_placeos_writes():
    assert Key("secret").digest("bob@example.com") == "19d2874a5656a44394f7a94c5fa00a19a04fd9114939a49ed875ff70385f0352"


@given(SECRETS, TEXTS)
def test_a_hash_is_the_key_s_id_and_the_beginning_of_the_hmac(secret, text):
    whole = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    key = Key(secret)
    assert re.fullmatch("[0-9a-f]{4}", key.id)
    assert key.hash(text) == f"{key.id}-{whole[:32]}"
    assert key.hash(text, 64) == f"{key.id}-{whole}"
    assert key.hash(text, 8) == f"{key.id}-{whole[:8]}"


@given(SECRETS, SECRETS, TEXTS)
def test_other_secrets_give_other_hashes(one, other, text):
    assume(one != other)
    assume(one.encode().rstrip(b"\0") != other.encode().rstrip(b"\0"))  # HMAC pads a key with zeros
    assert Key(one).digest(text) != Key(other).digest(text)


def test_a_key_shows_its_id_and_nothing_of_its_secret():
    assert repr(Key("hunter2-hunter2")) == f"<Key {Key('hunter2-hunter2').id}>"
    assert Key("hunter2-hunter2").id not in "hunter2-hunter2"


def test_the_previous_key_is_in_use_up_to_the_end_of_the_overlap():
    keys = Keys("new", "old", until=1000)
    assert keys.ids == [Key("new").id, Key("old").id]
    assert keys.overlapping(999) is keys.previous
    assert keys.overlapping(1000) is None
    assert Keys("new").overlapping(0) is None
    assert Keys("new", None, until=1000).overlapping(5) is None
    assert Keys("new").ids == [Key("new").id]


def test_without_a_hash_there_is_no_pattern_of_own_ones():
    assert own_hashes([]) is None


def test_own_hashes_are_known_in_every_form_and_nothing_else_is():
    key, old = Key("new"), Key("old")
    pattern = own_hashes([("", key.id, 32), ("", old.id, 32), ("", key.id, 8), ("user:", key.id, 32)])
    assert pattern is not None
    for own in (
        key.hash("a"),
        old.hash("a"),
        key.hash("a", 8),
        f"{key.hash('a')}~{old.hash('a')}",
        f"user:{key.hash('a')}",
    ):
        assert pattern.fullmatch(own)
        found = pattern.search(f"to {own}, and more")
        assert found is not None
        assert found[0] == own
    third, upper = Key("third").hash("a"), key.hash("a").upper()
    for foreign in (third, key.hash("a", 16), key.hash("a", 64), key.hash("a")[:-1], upper):
        assert not pattern.fullmatch(foreign)
