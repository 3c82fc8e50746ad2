"""Whose tokens are taken, and every way in which they are not."""

import base64
import hmac
import json
import math
import string
import time

import jwt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.tokens import ALGORITHMS, claims, key, public_pem, raw, token, write_key

from northbound.admission import AuthOptions
from northbound.api import tokens as module
from northbound.api.identity import SignInRefused
from northbound.api.tokens import MAX_TOKEN_BYTES, Tokens


def placeos(folder, *privates, **more):
    paths = [str(write_key(folder, private, f"{number}.pem")) for number, private in enumerate(privates or (key(),))]
    return {"mapping": "placeos", "audience": ["place.acme.com"], "keys": paths, "org": "acme", **more}


def verifier(*issuers, site_org=None, **more):
    options = AuthOptions.model_validate({"issuers": {f"i{n}": each for n, each in enumerate(issuers)}, **more})
    return Tokens(options, site_org=site_org)


@pytest.fixture
def tokens(tmp_path):
    return verifier(placeos(tmp_path, *map(key, ALGORITHMS)))


async def refusal(tokens, text):
    with pytest.raises(SignInRefused) as caught:
        await tokens.verify(text)
    assert caught.value.__cause__ is None  # what the library says may hold a piece of the token
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_placeos_token_says_who_it_is_of(tokens, algorithm):
    end = int(time.time()) + 60
    who = await tokens.verify(token(algorithm=algorithm, exp=end, u={"n": "Jane Doe", "p": 2}, scope=["mqtt"]))
    assert (who.subject, who.name, who.org, who.role) == ("user-jane", "Jane Doe", "acme", "admin")
    assert who.scopes == {"mqtt"}
    assert who.reads
    assert who.writes
    assert who.expires == end + 10
    assert not who.every_org


@pytest.mark.parametrize(("bits", "role"), [(0, "user"), (1, "support"), (2, "admin"), (3, "admin")])
async def test_placeoss_permission_bits(tokens, bits, role):
    assert (await tokens.verify(token(u={"n": "J", "p": bits}))).role == role


@pytest.mark.parametrize("bits", [4, -1, True, "3x", None, 3.0, [3, {}], {"p": 3}])
async def test_other_bits_are_nobody(tokens, bits):
    text = token(u={"n": "J", "p": bits})
    if bits == [3, {}]:
        assert (await tokens.verify(text)).role == "admin"
    else:
        assert (await refusal(tokens, text)).reason == "not_authorised"


REFUSED = [
    ("expired", {"exp": int(time.time()) - 11}, "expired", "expired"),
    ("not yet", {"nbf": int(time.time()) + 86_400}, "bad_credentials", "clocks"),
    ("issued in the future", {"iat": int(time.time()) + 86_400}, "bad_credentials", "clocks"),
    ("no end", {"exp": None}, "bad_credentials", "lacks"),
    ("an end that is no time", {"exp": "tomorrow"}, "bad_credentials", "damaged"),
    ("an end written as text", {"exp": str(int(time.time()) + 86_400)}, "bad_credentials", "end"),
    ("true as its end", {"exp": True}, "expired", "expired"),
    ("an endless end", {"exp": float("inf")}, "bad_credentials", "whole"),
    ("another audience", {"aud": "place.other.com"}, "bad_credentials", "audience"),
    ("no audience", {"aud": None}, "bad_credentials", "lacks"),
    ("an empty audience", {"aud": []}, "bad_credentials", "lacks"),
    ("an audience that is no text", {"aud": {"place.acme.com": 1}}, "bad_credentials", "audience"),
    ("another issuer", {"iss": "PLACE"}, "bad_credentials", "issuer"),
    ("no subject", {"sub": None}, "bad_credentials", "whose"),
    ("an empty subject", {"sub": ""}, "bad_credentials", "whose"),
    ("a subject with a line break", {"sub": "a\nb"}, "bad_credentials", "whose"),
    ("a subject that is a number", {"sub": 7}, "bad_credentials", "damaged"),
    ("no scope", {"scope": None}, "not_authorised", "scope"),
    ("another scope", {"scope": ["users.read", "mqttx"]}, "not_authorised", "scope"),
    ("only writing", {"scope": ["mqtt.write"]}, "not_authorised", "scope"),
    ("a scope of three parts", {"scope": ["mqtt.read.x"]}, "not_authorised", "scope"),
]


@pytest.mark.parametrize(("changed", "reason", "word"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_a_token_is_refused(tokens, changed, reason, word):
    error = await refusal(tokens, token(**changed))
    assert error.reason == reason
    assert word in error.words


async def test_the_leeway_covers_clocks_that_differ(tokens, tmp_path):
    now = int(time.time())
    assert await tokens.verify(token(exp=now - 5, nbf=now + 5, iat=now + 5))
    strict = verifier(placeos(tmp_path), leeway="0s")
    assert (await refusal(strict, token(exp=now - 5))).reason == "expired"


async def test_a_wrong_signature_is_refused(tokens):
    assert "signature" in (await refusal(tokens, token(key("ES256", 1)))).words
    good = token(algorithm="RS256")
    body, _, signature = good.rpartition(".")
    other = token(algorithm="RS256", sub="user-john").rpartition(".")[0]
    for forged in (f"{other}.{signature}", f"{body}.{signature[:-8]}AAAAAAAA", f"{body}.", f"{body}.{'A' * 342}"):
        assert (await refusal(tokens, forged)).reason == "bad_credentials"


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", "HS256", "HS512", "RS1", "dir", "RSA-OAEP"])
async def test_no_algorithm_is_none_and_none_follows_from_the_token(tokens, name):
    for signature in (b"", b"x"):
        error = await refusal(tokens, raw({"alg": name, "typ": "JWT"}, claims(), signature))
        assert error.reason == "bad_credentials"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("digest", ["256", "384", "512"])
async def test_a_public_key_is_not_the_secret_of_an_hmac(tokens, algorithm, digest):
    pem = public_pem(key(algorithm))
    for secret in (pem, pem.strip(), b"\n".join(pem.split(b"\n")[1:-2])):
        body = raw({"alg": f"HS{digest}", "typ": "JWT"}, claims()).rpartition(".")[0]
        signature = hmac.digest(secret, body.encode(), f"sha{digest}")
        forged = f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
        assert "algorithm" in (await refusal(tokens, forged)).words


async def test_an_algorithm_that_fits_the_key_but_was_not_configured_is_refused(tokens):
    for algorithm in ("RS512", "PS256"):
        assert "algorithm" in (await refusal(tokens, token(key("RS256"), algorithm))).words


async def test_keys_that_a_token_brings_along_are_not_used(tokens):
    mine = key("ES256", 7)
    brought = {"jwk": jwt.get_algorithm_by_name("ES256").to_jwk(mine.public_key(), as_dict=True),
               "jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/", "kid": "../../etc/passwd"}  # fmt: skip
    assert (await refusal(tokens, token(mine, headers=brought))).reason == "bad_credentials"


@pytest.mark.parametrize("headers", [{"crit": ["exp"], "exp": 1}, {"b64": True, "crit": ["b64"]}, {"crit": []}])
async def test_extensions_that_a_token_calls_critical_are_refused(tokens, headers):
    signed = jwt.encode(claims(), key(), "ES256")
    body = raw({"alg": "ES256", **headers}, claims()).rpartition(".")[0]
    assert (await refusal(tokens, f"{body}.{signed.rpartition('.')[2]}")).reason == "bad_credentials"


async def test_every_truncation_is_refused(tokens):
    whole = token()
    for length in range(len(whole)):
        assert (await refusal(tokens, whole[:length])).reason == "bad_credentials"


@pytest.mark.parametrize("text", ["x" * 1_000_000, "eyJ." * 250_000, "ey" + "A" * 500_000 + "." + "A" * 500_000 + "."])
async def test_a_token_of_a_megabyte_is_refused_unread(tokens, text, monkeypatch):
    monkeypatch.setattr(module, "_decoded", lambda _: pytest.fail("it was read"))
    assert str(MAX_TOKEN_BYTES) in (await refusal(tokens, text)).words


async def test_a_token_of_several_kilobytes_is_taken(tokens):
    text = token(groups=[f"group-{number:04}-of-many" for number in range(400)])
    assert 8_000 < len(text) <= MAX_TOKEN_BYTES
    assert (await tokens.verify(text)).subject == "user-jane"


HOSTILE = [
    b"[]", b"null", b"1e999", b"{", b'{"alg":"ES256"', b"\xff", b"[" * 5000, b'{"a":' * 2000, b'{"alg":1}',
    b'{"alg":"ES256","kid":1}', b'{"alg":"ES256","kid":["x"]}', b'{"alg":null}',
    b'{"alg":"ES256","kid":"' + b"k" * 2000 + b'"}',
    b'{"alg":"ES256","typ":{}}', b'{"alg":["ES256"]}', b"9" * 5000, b'{"iss":' + b"9" * 5000 + b"}",
    b'"\\ud800"',
]  # fmt: skip


@pytest.mark.parametrize("part", HOSTILE, ids=lambda part: str(part[:24]))
async def test_hostile_json_is_not_a_token(tokens, part):
    for text in (raw(part, claims(), b"x" * 64), raw({"alg": "ES256"}, part, b"x" * 64), raw(part, part, part)):
        assert (await refusal(tokens, text)).reason == "bad_credentials"


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_a_token_that_was_changed_anywhere_is_refused_in_words_that_hold_nothing_of_it(tokens, data):
    whole = token(sub="user-canary", u={"n": "Canary Doe", "p": 3})
    position = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.one_of(st.sampled_from(string.ascii_letters + string.digits + "-_.=+/ \n\0é"), st.just("")))
    changed = whole[:position] + other + whole[position + data.draw(st.integers(0, 2)) :]
    try:
        who = await tokens.verify(changed)
    except SignInRefused as error:
        told = f"{error!r} {error} {error.words}"
    else:  # the same token, spelt alike
        assert who.subject == "user-canary"
        assert changed.rstrip("=") == whole
        return
    assert "anary" not in told
    assert not any(part in told for part in changed.split(".") if len(part) > 8)


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200) | st.text("ey.AZaz09-_=", max_size=400))
async def test_any_text_is_answered(tokens, text):
    with pytest.raises(SignInRefused):
        await tokens.verify(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "scope", "u", "jti"]), JSON, max_size=4)
)
async def test_whatever_an_issuer_signs_is_answered(tokens, changed):
    body = json.dumps({**claims(), **changed}).encode()
    signing = raw({"alg": "ES256", "typ": "JWT"}, body).rpartition(".")[0]
    signature = jwt.get_algorithm_by_name("ES256").sign(signing.encode(), key())
    try:
        who = await tokens.verify(f"{signing}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}")
    except SignInRefused:
        return
    assert who.org == "acme"
    assert who.subject.isprintable()
    assert math.isfinite(who.expires)


# HS256


SECRET = "a secret of more than thirty-two bytes"


async def test_hs256_is_taken_only_where_it_is_configured(tmp_path):
    shared = verifier({"mapping": "placeos", "audience": ["place.acme.com"], "secret": SECRET, "org": "acme"})
    assert (await shared.verify(token(SECRET, "HS256"))).subject == "user-jane"
    assert "signature" in (await refusal(shared, token(SECRET + "x", "HS256"))).words
    for algorithm in ("HS384", "HS512"):
        with pytest.warns(jwt.InsecureKeyLengthWarning):
            text = token(SECRET, algorithm)
        assert "algorithm" in (await refusal(shared, text)).words
    assert "algorithm" in (await refusal(verifier(placeos(tmp_path)), token(SECRET, "HS256"))).words


async def test_beside_a_public_key_a_secret_does_not_make_it_one(tmp_path):
    both = verifier(placeos(tmp_path, secret=SECRET))
    assert await both.verify(token(SECRET, "HS256"))
    assert await both.verify(token())
    with pytest.raises(jwt.InvalidKeyError):  # the library does not even make such a token
        token(public_pem(key()), "HS256")


# several keys, several issuers


async def test_in_a_rotation_old_and_new_keys_are_taken(tmp_path):
    both = verifier(placeos(tmp_path, key("ES256", 1), key("ES256", 2)))
    assert await both.verify(token(key("ES256", 1)))
    assert await both.verify(token(key("ES256", 2)))
    assert await both.verify(token(key("ES256", 2), headers={"kid": "whatever"}))


async def test_a_key_file_that_is_replaced_counts_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("northbound.api.verification._LOOK_SECONDS", 0.0)
    issuer = verifier(placeos(tmp_path, key("ES256", 1)))
    new = token(key("ES256", 2))
    await refusal(issuer, new)
    write_key(tmp_path, key("ES256", 2), "0.pem")
    assert await issuer.verify(new)
    await refusal(issuer, token(key("ES256", 1)))
    (tmp_path / "0.pem").write_text("half a file")
    assert await issuer.verify(new)  # what was read before goes on


async def test_two_installations_of_one_issuer_name_are_told_apart(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    both = verifier(
        placeos(tmp_path / "a", key("ES256", 1)),
        placeos(tmp_path / "b", key("ES256", 2), audience=["place.other.com"], org="other"),
    )
    assert (await both.verify(token(key("ES256", 1)))).org == "acme"
    assert (await both.verify(token(key("ES256", 2), aud="place.other.com"))).org == "other"
    await refusal(both, token(key("ES256", 1), aud="place.other.com"))
    await refusal(both, token(key("ES256", 2)))
    assert (await refusal(both, token(key("ES256", 2), aud="place.other.com", exp=1))).reason == "expired"
    assert (await refusal(both, token(key("ES256", 1), exp=1))).reason == "expired"


def test_nothing_secret_is_shown_of_the_options():
    options = AuthOptions.model_validate(
        {"issuers": {"x": {"issuer": "me", "audience": ["a"], "secret": SECRET}}, "leeway": "3s"}
    )
    assert SECRET not in repr(options) + str(options) + options.model_dump_json()
