"""Mutated tokens, keys, headers and key sets: answered in our own words, whatever they are.

``pytest -m slow`` runs 200,000 of them; the number of executions is asserted, so that it is what this page says.
"""

from __future__ import annotations

import base64
import json
import random

import pytest
from tests.support.tokens import ALGORITHMS, claims, jwk, key, raw, token, write_key

from northbound.admission import AuthOptions
from northbound.api.identity import SignInRefused
from northbound.api.jwks import JwksError, parse
from northbound.api.keyfile import KeyFile, path_beside
from northbound.api.signin import SignIn

CANARY = "canary"
PIECES = (
    b"", b".", b"..", b"=", b"\0", b"\xff", b"\n", b"ey", b"eyJ", b"{}", b'"alg"', b'"none"', b"null", b"1e999", b"-1",
    b"9" * 400, b"[" * 60, b'{"a":' * 20, b"\\u0000", b"\\ud800", "é".encode(), b"Bearer ", b" ", b"A" * 300,
)  # fmt: skip
OTHERS = (None, True, 0, -1, 2**64, 1e308, "", "x", [], {}, ["HS256"], {"kid": 1}, [[[[]]]], "none", "POS", 10**400)


def mutated(rng: random.Random, content: bytes) -> bytes:
    """Return ``content`` changed in one to four places."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(content) + 1)
        end = min(len(content), at + rng.choice((0, 0, 1, 1, 2, 8, 64)))
        new = rng.choice(PIECES) if rng.random() < 0.5 else bytes(rng.randrange(256) for _ in range(rng.randint(1, 3)))
        content = content[:at] + new + content[end:]
    return content


def reshaped(rng: random.Random, row: dict) -> dict:
    """Return ``row`` with a member changed, removed or added."""
    row = dict(row)
    for _ in range(rng.randint(1, 3)):
        name = rng.choice([*row, "crit", "b64", "jwk", "kid", "nbf", "x5c"])
        if rng.random() < 0.2:
            row.pop(name, None)
        else:
            row[name] = rng.choice(OTHERS)
    return row


def token_of(rng: random.Random) -> str:
    """Return something that has been a token, or was about to become one."""
    kind = rng.randrange(4)
    good = (
        token(algorithm=rng.choice(ALGORITHMS), sub=CANARY) if rng.random() < 0.02 else GOOD[rng.randrange(len(GOOD))]
    )
    if kind == 0:
        return mutated(rng, good.encode()).decode("latin-1")
    parts = good.split(".")
    if kind == 1:  # within a part, and put together again
        at = rng.randrange(3)
        content = base64.urlsafe_b64decode(parts[at] + "==")
        parts[at] = base64.urlsafe_b64encode(mutated(rng, content)).rstrip(b"=").decode()
        return ".".join(parts)
    header = reshaped(rng, {"alg": rng.choice(ALGORITHMS), "typ": "JWT"})
    payload = reshaped(rng, claims(sub=CANARY))
    if kind == 2:
        return raw(header, payload, rng.randbytes(rng.choice((0, 1, 64, 256))))
    rng.shuffle(parts)
    return ".".join(parts[: rng.randint(0, 3)])


GOOD = [token(algorithm=algorithm, sub=CANARY, u={"n": CANARY, "p": 3}) for algorithm in ALGORITHMS]


async def fuzz(folder, count: int, seed: int) -> tuple[int, int]:
    """Return how many executions there were, and how many let somebody in."""
    paths = [str(write_key(folder, key(algorithm), f"{algorithm}.pem")) for algorithm in ALGORITHMS]
    issuer = {"mapping": "placeos", "audience": ["place.acme.com"], "keys": paths, "org": "acme"}
    throttle = {"attempts": 10_000, "delay": "0s"}
    store = folder / "northbound.db"
    _, api_key = KeyFile(path_beside(store)).create("key", org="acme")
    signin = SignIn(AuthOptions.model_validate({"issuers": {"x": issuer}, "throttle": throttle}), store=store)
    key_set = json.dumps({"keys": [jwk(key(algorithm), algorithm, algorithm) for algorithm in ALGORITHMS]}).encode()
    rng = random.Random(seed)
    executions = let_in = 0
    while executions < count:
        executions += 1
        address = f"10.{executions >> 16 & 255}.{executions >> 8 & 255}.{executions & 255}"
        text = token_of(rng) if rng.random() < 0.8 else mutated(rng, api_key.encode()).decode("latin-1")
        way = rng.randrange(5)
        try:
            if way == 0:
                who = await signin.bearer(
                    {"authorization": f"{rng.choice(('Bearer', 'Token'))} {text}"}, address=address
                )
            elif way == 1:
                who = await signin.bearer({"x-api-key": text}, address=address)
            elif way == 2:
                who = await signin.sign_in(text, None, address=address)
            elif way == 3:
                who = await signin.sign_in("jane", text.encode("latin-1"), address=address)
            else:
                parse(mutated(rng, key_set), ALGORITHMS)
                continue
        except SignInRefused as error:
            told = f"{error!r}{error.words}"
        except JwksError as error:
            told = str(error)
        else:
            let_in += 1
            assert who.subject in {CANARY, "key"}, text
            assert who.org == "acme", text
            continue
        assert CANARY not in told, told
        assert len(told) < 300, told
    await signin.close()
    return executions, let_in


async def test_what_is_mutated_is_answered(tmp_path):
    executions, let_in = await fuzz(tmp_path, 3_000, 1)
    assert executions == 3_000
    assert let_in < executions / 10  # the same token, spelt alike: most are refused


@pytest.mark.slow
async def test_what_is_mutated_is_answered_for_long(tmp_path):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # shown where it fails
    executions, let_in = await fuzz(tmp_path, 200_000, seed)
    assert executions == 200_000
    assert let_in < executions / 10
