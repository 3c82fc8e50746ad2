"""What PlaceOS's own tests state of signing in and access, case by case (numbers as in the reference, 7.1 and 7.2)."""

import pytest
from tests.support.tokens import key, token, write_key

from northbound.admission import AccessOptions, AuthOptions
from northbound.api.access import Rules
from northbound.api.identity import SignInRefused
from northbound.api.keyfile import KeyFile, path_beside
from northbound.api.signin import SignIn
from northbound.apikeys import hash_secret
from northbound.topics import TopicScheme

HERE = "192.0.2.1"
STATE = "placeos/acme/state/bld-1/_/_/sys-1/drv-1/Display/1/power"


@pytest.fixture
def signin(tmp_path):
    issuer = {"mapping": "placeos", "audience": ["protonmail.com"], "keys": [str(write_key(tmp_path))], "org": "acme"}
    options = AuthOptions.model_validate({"issuers": {"placeos": issuer}, "throttle": {"delay": "0s"}})
    return SignIn(options, store=tmp_path / "northbound.db", site_org="acme")


def person(permissions, scope):
    return token(
        key(), iss="POS", iat=1000, exp=2_147_483_647, aud="protonmail.com", sub="1234", scope=scope,
        u={"n": "abcde", "e": "abcde@protonmail.com", "p": permissions, "r": []},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("permissions", "scope", "reads", "writes"),
    [
        (0, ["public"], True, False),  # read → 200; write without support → 403
        (1, ["public.read"], True, False),
        (1, ["public"], True, True),  # write with support and the scope → 200
        (3, ["public"], True, True),
    ],
)
async def test_case_14_who_may_read_and_who_may_write(signin, permissions, scope, reads, writes):
    rules = Rules(AccessOptions(), TopicScheme())
    who = await signin.sign_in(person(permissions, scope), None, address=HERE)
    assert (rules.subscribe(who, "placeos/acme/#") != "refused", rules.receive(who, STATE)) == (reads, reads)
    assert rules.publish(who, STATE) is writes


async def test_case_14_no_scope_is_no_access(signin):
    with pytest.raises(SignInRefused) as refused:
        await signin.sign_in(person(0, ["users"]), None, address=HERE)
    assert refused.value.reason == "not_authorised"


async def test_case_15_a_token_with_placeos_claims_is_an_admins(signin):
    who = await signin.sign_in(person(3, ["public"]), None, address=HERE)
    assert (who.subject, who.name, who.role, who.scopes) == ("1234", "abcde", "admin", {"public"})
    assert who.expires == pytest.approx(2_147_483_647, abs=60)


async def test_case_16_a_key_with_a_wrong_secret_is_none_and_the_secret_is_kept_nowhere(signin, tmp_path):
    file = KeyFile(path_beside(tmp_path / "northbound.db"))
    made, text = file.create("integration", role="user", org="acme", scopes=("mqtt.read",), expires=None)
    with pytest.raises(SignInRefused) as refused:
        await signin.sign_in(f"{made.id}.notamatch", None, address=HERE)
    assert refused.value.reason == "bad_credentials"
    who = await signin.sign_in(text, None, address=HERE)
    assert (who.role, who.key_id) == ("user", made.id)
    secret = text.partition(".")[2]
    assert secret not in file.path.read_text()
    assert hash_secret(made.id, secret) in file.path.read_text()


def test_7_2_the_hash_of_a_key_is_placeos_own():
    """HMAC-SHA512 of the id with the secret as key."""
    assert hash_secret("0123456789abcdef0123456789abcdef", "s3cr3t") == (
        "dbf6dca756753527affa4c947f5442a9668341864540277568b02d5ab28a3b34"
        "6c57d8d718f82f9cf35820db0092f346c05140cde5b4ada655be15191e31ba91"
    )
