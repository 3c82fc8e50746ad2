"""Keys that an issuer publishes: fetched when needed and not oftener, and kept while it does not answer."""

import asyncio
import json
import ssl
import threading

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from tests.support.tokens import JwksServer, jwk, key, token

from northbound.admission import AuthOptions
from northbound.api import jwks
from northbound.api.identity import SignInRefused
from northbound.api.jwks import JwksError, RemoteKeys, parse
from northbound.api.tokens import Tokens

TAKEN = ("RS256", "ES256", "EdDSA")


@pytest.fixture
def server():
    made = JwksServer(jwk(key(), "first", "ES256"))
    yield made
    made.close()


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def remote(server, clock, **more):
    return RemoteKeys(server.url, algorithms=TAKEN, clock=clock, **more)


async def test_they_are_fetched_once_for_many_that_ask_at_once(server):
    keys = remote(server, Clock())
    found = await asyncio.gather(*(keys.find("first", "ES256") for _ in range(20)))
    assert all(len(each) == 1 for each in found)
    assert server.asked == 1
    assert keys.error is None


async def test_a_new_key_is_fetched_when_a_token_names_it_but_made_up_ones_do_not_knock(server):
    clock = Clock()
    keys = remote(server, clock, cooldown=30.0)
    assert await keys.find("first", "ES256")
    server.publish(jwk(key(), "first", "ES256"), jwk(key("ES256", 2), "second", "ES256"))
    clock.now += 29
    for number in range(50):
        assert not await keys.find(f"made-up-{number}", "ES256")
    assert server.asked == 1
    clock.now += 2
    assert await keys.find("second", "ES256")
    assert server.asked == 2
    for number in range(50):
        assert not await keys.find(f"made-up-{number}", "ES256")
    assert server.asked == 2


@pytest.mark.parametrize(
    "broken", [{"status": 500}, {"status": 404}, {"answer": b"<html>"}, {"answer": b"x" * 300_000}, {"answer": b"{}"}]
)
async def test_while_the_issuer_fails_what_is_known_goes_on_for_its_time(server, broken):
    clock = Clock()
    keys = remote(server, clock, maximum_age=3600.0)
    assert await keys.find("first", "ES256")
    for name, value in broken.items():
        setattr(server, name, value)
    clock.now += 3000
    assert not await keys.find("other", "ES256")  # which tries to fetch it
    assert keys.error
    assert await keys.find("first", "ES256")
    asked = server.asked
    assert not await keys.find("other", "ES256")
    assert server.asked == asked  # not again so soon after a failure
    clock.now += 700
    assert not await keys.find("first", "ES256")  # older than the maximum age: it may have been withdrawn
    server.status = 200
    server.publish(jwk(key(), "first", "ES256"))
    clock.now += 60
    assert await keys.find("first", "ES256")
    assert keys.error is None


async def found(keys, clock, *, first):
    while bool(await keys.find("first", "ES256")) != first:
        clock.now += 1
        await asyncio.sleep(0.01)


async def test_a_withdrawn_key_is_gone_after_a_refresh(server):
    clock = Clock()
    keys = remote(server, clock, refresh=0.05)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        task = group.create_task(keys.run())
        await found(keys, clock, first=True)
        server.publish(jwk(key("ES256", 2), "second", "ES256"))
        await found(keys, clock, first=False)
        assert await keys.find("second", "ES256")
        task.cancel()


async def test_an_issuer_that_is_not_there_is_said_in_words(server):
    server.close()
    keys = remote(server, Clock())
    assert not await keys.find("first", "ES256")
    assert "cannot be fetched" in keys.error
    server.close = lambda: None


async def test_redirects_are_not_followed(server):
    elsewhere = JwksServer(jwk(key(), "first", "ES256"))
    try:
        server.status, server.headers = 302, {"Location": elsewhere.url}
        keys = remote(server, Clock())
        assert not await keys.find("first", "ES256")
        assert "302" in keys.error
        assert elsewhere.asked == 0
    finally:
        elsewhere.close()


async def test_over_tls_only_a_trusted_server_is_believed(tmp_path):
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = JwksServer(jwk(key(), "first", "ES256"), ssl=context)
    try:
        strangers = remote(server, Clock())
        assert not await strangers.find("first", "ES256")
        assert "certificate verify failed" in strangers.error
        assert await remote(server, Clock(), ca=tmp_path / "ca.pem").find("first", "ES256")
        nowhere = remote(server, Clock(), ca=tmp_path / "nowhere.pem")
        assert not await nowhere.find("first", "ES256")
        assert nowhere.error
    finally:
        server.close()


async def test_an_answer_that_trickles_is_given_up(server, monkeypatch):
    monkeypatch.setattr(jwks, "_FETCH_SECONDS", 0.4)
    server.pause = 0.05
    keys = remote(server, Clock())
    assert not await keys.find("first", "ES256")
    assert "slowly" in keys.error


async def test_an_issuer_that_hangs_is_asked_once_whoever_gives_up(monkeypatch):
    asked, answer = [], threading.Event()

    def get(url, ca):
        asked.append(url)
        answer.wait(10)
        raise JwksError("it hangs")

    monkeypatch.setattr(jwks, "_get", get)
    clock = Clock()
    keys = RemoteKeys("http://192.0.2.1/keys", algorithms=TAKEN, clock=clock)
    try:
        for number in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await keys.find(f"made-up-{number}", "ES256")
        waiting = asyncio.create_task(keys.find("first", "ES256"))
        await asyncio.sleep(0)
    finally:
        answer.set()
    assert await waiting == []
    assert keys.error == "it hangs"
    assert await keys.find("first", "ES256") == []
    assert len(asked) == 1
    assert asyncio.get_running_loop()._default_executor is None  # which others wait for


async def test_a_reload_does_not_forget_what_was_fetched(server):
    def made(**more):
        issuer = {"mapping": "placeos", "audience": ["place.acme.com"], "jwks": server.url, "org": "acme"}
        return AuthOptions.model_validate({"issuers": {"x": issuer | more}})

    first = Tokens(made(), site_org=None)
    await first.verify(token())
    server.status = 500
    assert (await Tokens(made(org="other"), site_org=None, before=first).verify(token())).org == "other"
    assert server.asked == 1
    elsewhere = Tokens(made(jwks=f"{server.url}?other"), site_org=None, before=first)
    with pytest.raises(SignInRefused):
        await elsewhere.verify(token())
    assert server.asked == 2


async def test_a_token_is_verified_with_published_keys(server, tmp_path):
    options = {"mapping": "placeos", "audience": ["place.acme.com"], "jwks": server.url, "org": "acme"}
    tokens = Tokens(AuthOptions.model_validate({"issuers": {"x": options}}), site_org=None)
    assert (await tokens.verify(token(headers={"kid": "first"}))).subject == "user-jane"
    assert await tokens.verify(token())  # a token need not name its key
    for forged in (token(key("ES256", 5), headers={"kid": "first"}), token(headers={"kid": "other"})):
        with pytest.raises(SignInRefused):
            await tokens.verify(forged)


def published(*rows):
    return parse(json.dumps({"keys": list(rows)}).encode(), TAKEN)


def test_only_keys_that_verify_signatures_are_taken():
    good = jwk(key(), "good", "ES256")
    secret = {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "good", "alg": "HS256"}
    private = {**good, "d": "AAAA", "kid": "private"}
    others = [
        secret,
        private,
        {**good, "use": "enc"},
        {**good, "key_ops": ["sign"]},
        {**good, "alg": "ES512"},
        {**good, "kty": "XX"},
        {**good, "crv": "P-999"},
        {**good, "x": "AAAA"},
        {**good, "x": 1},
        {**good, "kty": ["EC"]},
        jwk(key("RS256"), "r", "RS256", alg="RSA-OAEP"),
        jwk(key("RS256"), "r", "RS256", alg=7),
        {},
        [],
        7,
        None,
        "x",
    ]
    (found,) = published(*others, good)
    assert (found.id, found.algorithms) == ("good", {"ES256"})
    for row in others:
        with pytest.raises(JwksError):
            published(row)


def test_the_algorithm_of_a_published_key_narrows_what_it_is_for():
    (found,) = published(jwk(key("RS256"), "r", "RS256", alg="RS256"))
    assert found.algorithms == {"RS256"}
    (found,) = parse(json.dumps({"keys": [jwk(key("RS256"), "r", "RS256")]}).encode(), ("RS256", "PS256"))
    assert found.algorithms == {"RS256", "PS256"}


@given(
    st.binary(max_size=60)
    | st.sampled_from([b"[" * 100_000, b'{"keys":{}}', b'{"keys":[1e999]}', b'{"keys":[[]]}', b"null"])
)
def test_any_answer_is_answered(content):
    with pytest.raises(JwksError):
        parse(content, TAKEN)


def test_of_very_many_keys_so_many_are_taken():
    rows = [jwk(key(), f"k{number}", "ES256") for number in range(150)]
    assert len(published(*rows)) == 100
