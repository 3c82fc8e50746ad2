"""Signing in, by MQTT and by HTTP, and that it ends."""

import asyncio
import json
import logging
import secrets
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.tokens import key, token, write_key

from northbound.admission import AuthOptions
from northbound.api import keyfile, sourcekeys
from northbound.api.identity import SignInRefused
from northbound.api.keyfile import KeyFile, path_beside
from northbound.api.signin import SignIn
from northbound.apikeys import ApiKey, hash_secret

HERE = "192.0.2.1"


@pytest.fixture(autouse=True)
def _looks_at_once(monkeypatch):
    monkeypatch.setattr(keyfile, "_LOOK_SECONDS", 0.0)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "northbound.db"


@pytest.fixture
def keys(store):
    return KeyFile(path_beside(store))


def options(folder, **more):
    issuer = {"mapping": "placeos", "audience": ["place.acme.com"], "keys": [str(write_key(folder))], "org": "acme"}
    throttle = {"attempts": 10_000, "delay": "0s"}
    return AuthOptions.model_validate({"issuers": {"placeos": issuer}, "throttle": throttle} | more)


@pytest.fixture
def signin(store):
    return SignIn(options(store.parent), store=store, site_org="acme")


async def refusal(awaitable):
    with pytest.raises(SignInRefused) as caught:
        await awaitable
    return caught.value


async def test_a_token_is_user_name_password_or_both(signin):
    text = token()
    for username, password in (
        (text, None), (text, b""), (None, text.encode()), ("", text.encode()), (text, text.encode()),
        ("jane", text.encode()), ("token", text.encode()), (text, b"unused"), ("john.doe@acme.com", text.encode()),
        ("a.b.c", text.encode()), (text, b"\xff\xfe"),
    ):  # fmt: skip
        assert (await signin.sign_in(username, password, address=HERE)).subject == "user-jane"


async def test_two_different_tokens_are_refused(signin, keys):
    _, api_key = keys.create("lobby", org="acme")
    for first, second in ((token(), token(sub="user-john")), (token(), api_key), (api_key, token())):
        error = await refusal(signin.sign_in(first, second.encode(), address=HERE))
        assert "two different" in error.words


@pytest.mark.parametrize(
    ("username", "password"),
    [
        (None, None),
        ("", b""),
        ("jane", b"secret"),
        ("jane", None),
        (None, b"secret"),
        ("a.b", b"c.d"),
        ("x" * 99, b"\xff"),
        ("Bearer x", b""),
        ("a.b.c", b"d.e.f"),
    ],
)
async def test_without_a_token_nobody_is_signed_in(signin, username, password):
    error = await refusal(signin.sign_in(username, password, address=HERE))
    assert (error.reason, "no token" in error.words) == ("bad_credentials", True)


async def test_an_api_key_signs_in(signin, keys):
    made, text = keys.create("lobby", org="acme", role="support", scopes=("mqtt",), user="screens")
    id_, _, secret = text.partition(".")
    for username, password in ((text, None), (None, text.encode()), (text, text.encode()), (id_, secret.encode())):
        who = await signin.sign_in(username, password, address=HERE)
        assert (who.subject, who.name, who.org, who.role) == ("screens", "lobby", "acme", "support")
        assert (who.key_id, who.expires, who.writes) == (made.id, None, True)


async def test_an_api_key_that_does_not_hold_is_refused(signin, keys):
    _, revoked = keys.create("revoked", org="acme")
    keys.revoke("revoked")
    _, expired = keys.create("expired", org="acme", expires=int(time.time() * 1000) - 1)
    _, writer = keys.create("writer", org="acme", scopes=("mqtt.write",))
    _, good = keys.create("good", org="acme")
    for text, reason in (
        (revoked, "not_authorised"),
        (expired, "expired"),
        (writer, "not_authorised"),
        (good[:-1] + "!", "bad_credentials"),
        (good.replace(good[0], "0" if good[0] != "0" else "1", 1), "bad_credentials"),
        (good[:-1], "bad_credentials"),
        (f"{secrets.token_hex(16)}.{good.partition('.')[2]}", "bad_credentials"),
    ):
        assert (await refusal(signin.sign_in(text, None, address=HERE))).reason == reason
    assert await signin.sign_in(good, None, address=HERE)


async def test_a_wrong_secret_says_no_more_of_a_key_than_a_wrong_id(signin, keys):
    _, revoked = keys.create("revoked", org="acme")
    keys.revoke("revoked")
    wrong = f"{revoked.partition('.')[0]}.{'x' * 43}"
    unknown = f"{secrets.token_hex(16)}.{'x' * 43}"
    told = [await refusal(signin.sign_in(text, None, address=HERE)) for text in (wrong, unknown)]
    assert told[0].words == told[1].words
    assert told[0].reason == told[1].reason


async def test_http_takes_the_same(signin, keys):
    _, text = keys.create("lobby", org="acme")
    for headers in (
        {"authorization": f"Bearer {token()}"},
        {"authorization": f"bearer  {token()} "},
        {"authorization": f"Token {token()}"},
        {"authorization": f"Bearer {text}"},
        {"x-api-key": text},
        {"x-api-key": text, "authorization": f"Bearer {text}"},
        {"x-api-key": text, "authorization": "Basic amFuZTpz"},
    ):
        assert await signin.bearer(headers, address=HERE)
    for headers in (
        {}, {"authorization": ""}, {"authorization": "Bearer"}, {"authorization": "Basic amFuZTpz"}, {"x-api-key": " "},
        {"x-api-key": text, "authorization": f"Bearer {token()}"}, {"authorization": f"Bearer {'x' * 1_000_000}"},
        {"x-api-key": "x" * 1_000_000}, {"x-api-key": "é"}, {"authorization": "Bearer \x00"},
    ):  # fmt: skip
        assert (await refusal(signin.bearer(headers, address=HERE))).reason == "bad_credentials"


async def test_a_megabyte_is_refused_unread(signin, monkeypatch):
    monkeypatch.setattr(signin.tokens, "verify", lambda _: pytest.fail("it was read"))
    for username, password in (("x" * 1_000_000, None), (None, b"x" * 1_000_000), (token(), b"\xff" * 1_000_000)):
        assert "16384" in (await refusal(signin.sign_in(username, password, address=HERE))).words


@settings(max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.none() | st.text("ey.az09-_= \0é", max_size=80), st.none() | st.binary(max_size=80))
async def test_anything_is_answered(signin, username, password):
    with pytest.raises(SignInRefused):
        await signin.sign_in(username, password, address=HERE)
    if username is not None:
        with pytest.raises(SignInRefused):
            await signin.bearer({"authorization": f"Bearer {username}", "x-api-key": username}, address=HERE)


# how it ends


async def test_what_expired_no_longer_holds(store, keys):
    now = time.time()
    signin = SignIn(options(store.parent), store=store, clock=lambda: now)
    who = await signin.sign_in(token(exp=int(now) + 60), None, address=HERE)
    _, text = keys.create("lobby", org="acme", expires=int((now + 60) * 1000))
    by_key = await signin.sign_in(text, None, address=HERE)
    assert await signin.still_valid(who)
    assert await signin.still_valid(by_key)
    now += 61
    assert await signin.still_valid(who)  # within the leeway
    assert not await signin.still_valid(by_key)
    now += 10
    assert not await signin.still_valid(who)


async def test_a_revoked_or_changed_key_no_longer_holds(signin, keys):
    _, text = keys.create("lobby", org="acme")
    _, other = keys.create("other", org="acme")
    who, stays = [await signin.sign_in(each, None, address=HERE) for each in (text, other)]
    assert await signin.still_valid(who)
    keys.revoke("lobby")
    assert not await signin.still_valid(who)
    assert await signin.still_valid(stays)
    keys.path.write_text(keys.path.read_text().replace('"mqtt.read"', '"mqtt"'))
    assert not await signin.still_valid(stays)
    keys.path.write_text("damaged")
    assert not await signin.still_valid(stays)


async def test_who_came_by_what_an_issuer_was_configured_to_say_goes_with_that(store):
    same, issuer = options(store.parent), options(store.parent).issuers["placeos"]
    first = SignIn(same, store=store)
    who = await first.sign_in(token(), None, address=HERE)
    again = SignIn(options(store.parent, throttle={"attempts": 3}), store=store, before=first)
    assert await again.still_valid(who)
    for changed in ({"audience": ("other.example.com",)}, {"every_org": ("admin",)}, {"org": "other"}):
        issuers = {"placeos": issuer.model_copy(update=changed)}
        after = SignIn(same.model_copy(update={"issuers": issuers}), store=store, before=again)
        assert not await after.still_valid(who)
    back = await after.sign_in(token(), None, address=HERE)
    assert back.org == "other"
    assert await after.still_valid(back)


async def test_who_came_with_an_issuer_that_is_no_longer_configured_goes(signin, store):
    who = await signin.sign_in(token(), None, address=HERE)
    assert who.issuer == "placeos"
    assert await signin.still_valid(who)
    assert not await SignIn(options(store.parent, issuers={}), store=store).still_valid(who)


async def test_a_key_is_taken_at_once_after_it_was_made(signin, keys, monkeypatch):
    monkeypatch.setattr(keyfile, "_LOOK_SECONDS", 1000.0)
    await refusal(signin.sign_in(f"{secrets.token_hex(16)}.{'x' * 43}", None, address=HERE))
    _, text = keys.create("lobby", org="acme")
    assert await signin.sign_in(text, None, address=HERE)


# failing


async def test_failures_are_slowed_and_limited_by_address(store, keys, monkeypatch):
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    signin = SignIn(options(store.parent, throttle={"attempts": 3, "delay": "100ms"}), store=store)
    monkeypatch.setattr("northbound.api.signin.asyncio.sleep", sleep)
    _, text = keys.create("lobby", org="acme")
    for _ in range(3):
        assert (await refusal(signin.sign_in("jane", b"x", address=HERE))).reason == "bad_credentials"
    assert waited == [0.1, 0.2, 0.4]
    error = await refusal(signin.sign_in(text, None, address=HERE))
    assert error.reason == "too_many"
    assert 0 < error.retry_after <= 60
    assert (await refusal(signin.bearer({"x-api-key": text}, address=HERE))).reason == "too_many"
    assert await signin.sign_in(text, None, address="192.0.2.2")


async def test_a_reload_does_not_forget_who_has_failed(store):
    throttle = {"attempts": 1, "delay": "0s"}
    first = SignIn(options(store.parent, throttle=throttle), store=store)
    assert (await refusal(first.sign_in("x", None, address=HERE))).reason == "bad_credentials"
    again = SignIn(options(store.parent, throttle=throttle, leeway="1s"), store=store, before=first)
    assert (await refusal(again.sign_in(token(), None, address=HERE))).reason == "too_many"
    milder = SignIn(options(store.parent, throttle={"attempts": 5}), store=store, before=first)
    assert await milder.sign_in(token(), None, address=HERE)


async def test_an_office_is_not_shut_out_for_a_screen_whose_token_has_expired(store, keys):
    signin = SignIn(options(store.parent, throttle={"attempts": 2, "delay": "0s"}), store=store)
    _, text = keys.create("lobby", org="acme")
    for _ in range(10):
        assert (await refusal(signin.sign_in(token(exp=1), None, address=HERE))).reason == "expired"
        assert (await refusal(signin.sign_in(token(scope=["x"]), None, address=HERE))).reason == "not_authorised"
    assert await signin.sign_in(text, None, address=HERE)


async def test_what_happens_is_counted_and_a_reload_counts_on(signin, store, keys):
    keys.create("lobby", org="acme")
    await signin.sign_in(token(), None, address=HERE)
    for shown in ("x", "y", token(exp=1)):
        await refusal(signin.sign_in(shown, None, address=HERE))
    again = SignIn(options(store.parent, leeway="1s"), store=store, before=signin)
    await again.sign_in(token(), None, address=HERE)
    told = again.numbers()
    assert told["sign_ins"] == 2
    assert (told["sign_ins_refused_bad_credentials"], told["sign_ins_refused_expired"]) == (2, 1)
    assert (told["sign_ins_refused_too_many"], told["failing_addresses"]) == (0, 1)
    assert told["issuers_without_answer"] == 0
    assert signin.numbers()["api_keys"] == 0  # nobody has looked yet
    await refusal(signin.sign_in(f"{secrets.token_hex(16)}.{'x' * 43}", None, address=HERE))
    assert signin.numbers()["api_keys"] == 1


async def test_who_shows_nothing_has_not_guessed(store):
    signin = SignIn(options(store.parent, throttle={"attempts": 1, "delay": "0s"}), store=store)
    for _ in range(3):
        assert (await refusal(signin.bearer({}, address=HERE))).reason == "bad_credentials"
        assert (await refusal(signin.sign_in(None, None, address=HERE))).reason == "bad_credentials"
        assert (await refusal(signin.sign_in("", b"", address=HERE))).reason == "bad_credentials"
    assert len(signin.throttle) == 0
    assert (await refusal(signin.bearer({"authorization": "Basic YTpi"}, address=HERE))).reason == "bad_credentials"
    assert (await refusal(signin.bearer({}, address=HERE))).reason == "too_many"
    await refusal(signin.sign_in("guess", None, address="192.0.2.77"))
    await refusal(signin.sign_in(None, b"\xff", address="192.0.2.78"))
    assert len(signin.throttle) == 3


# keys of a source


class Source:
    def __init__(self, *keys):
        self.keys = {each.id: each for each in keys}
        self.asked = 0
        self.error = None

    async def api_key(self, id_):
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.keys.get(id_)


PLACEOS_ID = "0123456789abcdef0123456789abcdef"
PLACEOS_SECRET = "q" * 43


def placeos_key(**more):
    base = {"name": "integration", "role": "support", "scopes": ("public",), "org": "org-zone", "user": "user-1"}
    return ApiKey(id=PLACEOS_ID, hash=hash_secret(PLACEOS_ID, PLACEOS_SECRET), **base | more)


async def test_a_key_that_a_source_knows_signs_in(store, monkeypatch):
    monkeypatch.setattr(sourcekeys, "_FRESH_SECONDS", 0.0)
    monkeypatch.setattr(sourcekeys, "_FAILED_SECONDS", 0.0)
    source = Source(placeos_key())
    signin = SignIn(options(store.parent), store=store, lookup=source.api_key)
    shown = f"{PLACEOS_ID}.{PLACEOS_SECRET}"
    who = await signin.sign_in(shown, None, address=HERE)
    assert (who.subject, who.role, who.org, who.writes) == ("user-1", "support", "org-zone", True)
    source.error = ConnectionError("postgres://user:password@host")
    assert await signin.still_valid(who)  # what it last said counts while it does not answer
    source.error = None
    source.keys[PLACEOS_ID] = placeos_key(expires=1)
    assert (await refusal(signin.sign_in(shown, None, address=HERE))).reason == "expired"
    assert not await signin.still_valid(who)
    del source.keys[PLACEOS_ID]
    assert (await refusal(signin.sign_in(shown, None, address=HERE))).reason == "bad_credentials"


async def test_a_source_is_not_asked_over_and_over(store, monkeypatch):
    monkeypatch.setattr(sourcekeys, "_FRESH_SECONDS", 1000.0)
    monkeypatch.setattr(sourcekeys, "_MOST_REMEMBERED", 10)
    source = Source()
    signin = SignIn(options(store.parent), store=store, lookup=source.api_key)
    for _ in range(20):
        await refusal(signin.sign_in(f"{PLACEOS_ID}.{PLACEOS_SECRET}", None, address=HERE))
    assert source.asked == 1
    for _ in range(50):
        await refusal(signin.sign_in(f"{secrets.token_hex(16)}.{PLACEOS_SECRET}", None, address=HERE))
    assert len(signin._source._known) == 10


async def test_a_source_that_fails_is_said_without_its_words(store, caplog):
    source = Source()
    source.error = ConnectionError("postgres://user:password@host")
    signin = SignIn(options(store.parent), store=store, lookup=source.api_key)
    await refusal(signin.sign_in(f"{PLACEOS_ID}.{PLACEOS_SECRET}", None, address=HERE))
    assert "ConnectionError" in caplog.text
    assert "password" not in caplog.text


async def test_a_source_that_fails_is_left_alone_for_a_moment(monkeypatch):
    source, now = Source(placeos_key()), 1000.0
    keys = sourcekeys.SourceKeys(source.api_key, clock=lambda: now)
    source.error = ConnectionError()
    for id_ in (PLACEOS_ID, "f" * 32, PLACEOS_ID):
        assert await keys.find(id_) is None
    assert source.asked == 1
    source.error = None
    now += 5.0
    assert await keys.find(PLACEOS_ID) == placeos_key()
    monkeypatch.setattr(sourcekeys, "_ANSWER_SECONDS", 0.0)
    now += 5.0

    async def silent(_):
        await asyncio.Event().wait()

    keys._lookup = silent
    assert await keys.find(PLACEOS_ID) == placeos_key()  # what it said last
    now += 300.0
    assert await keys.find(PLACEOS_ID) is None


# the audit log


def rows(store):
    return [json.loads(line) for line in store.with_name("northbound.db.access.jsonl").read_text().splitlines()]


async def test_signing_in_is_audited_and_nothing_of_a_token_is_written_anywhere(store, keys, caplog):
    caplog.set_level(logging.DEBUG)
    signin = SignIn(options(store.parent), store=store)
    made, text = keys.create("lobby", org="acme")
    good = token(jti="canary-jti", u={"n": "Jane", "p": 1, "e": "canary@acme.com"})
    forged = token(key("ES256", 9), sub="canary-subject", aud="place.acme.com")
    await signin.sign_in(good, None, address=HERE)
    await signin.sign_in(text, None, address=HERE)
    for _ in range(5):
        await refusal(signin.sign_in("canary-user", forged.encode(), address=HERE))
    await refusal(signin.sign_in(f"{made.id}.{'canary-' * 6}x", None, address=HERE))
    await refusal(signin.sign_in(token(exp=1), None, address="192.0.2.9"))
    keys.revoke("lobby")
    await refusal(signin.sign_in(text, None, address=HERE))
    await signin.close()
    found = rows(store)
    assert [(row["happened"], row.get("subject"), row["count"]) for row in found] == [
        ("signed in", "user-jane", 1),
        ("signed in", "lobby", 1),
        ("sign-in refused", None, 5),
        ("sign-in refused", None, 1),
        ("sign-in refused", None, 1),
        ("key revoked", "lobby", 1),
        ("sign-in refused", None, 1),
    ]
    assert found[0]["role"] == "support"
    assert found[1]["key"] == made.id
    assert found[4]["address"] == "192.0.2.9"
    written = caplog.text + store.with_name("northbound.db.access.jsonl").read_text()
    assert "canary" not in written
    for shown in (good, forged, text):
        for part in shown.split("."):
            assert part == made.id or part not in written


async def test_the_audit_log_can_be_left_out(store):
    signin = SignIn(options(store.parent, audit=False), store=store)
    await signin.sign_in(token(), None, address=HERE)
    await signin.close()
    assert [entry.name for entry in store.parent.iterdir()] == ["key.pem"]


async def test_while_it_runs_it_writes_and_watches(store, keys):
    signin = SignIn(options(store.parent), store=store)
    path = store.with_name("northbound.db.access.jsonl")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(signin.run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        keys.create("lobby", org="acme")
        while not path.exists() or "key made" not in path.read_text():
            keys.path.exists()
            await asyncio.sleep(0.02)
        task.cancel()
    await signin.close()
    assert rows(store)[0]["subject"] == "lobby"
