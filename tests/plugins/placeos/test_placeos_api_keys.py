"""Keys that PlaceOS has made, in a real database, and what they open."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.types.json import Jsonb

from northbound import ApiKey, NorthboundError
from northbound.admission import AuthOptions
from northbound.api import sourcekeys
from northbound.api.identity import SignInRefused
from northbound.api.signin import SignIn
from northbound.apikeys import hash_secret
from northbound_placeos import Options, PlaceosSource
from northbound_placeos.keys import key_of

# The columns of PlaceOS's migrations, as far as they matter here.
TABLES = """
CREATE TABLE authority (id text PRIMARY KEY, name text NOT NULL, domain text NOT NULL, config jsonb NOT NULL);
CREATE TABLE api_key (
  id text PRIMARY KEY, name text NOT NULL, description text NOT NULL DEFAULT '', scopes jsonb NOT NULL,
  permissions integer, secret text NOT NULL, user_id text, authority_id text, expires_at timestamptz);
ALTER TABLE "user" ADD COLUMN deleted boolean DEFAULT false;
INSERT INTO authority VALUES ('authority-1', 'Acme', 'place.acme.com', '{"org_zone": "zone-org"}');
INSERT INTO "user" (id, name) VALUES ('user-1', 'Jane Doe');
"""
ID, SECRET = "0123456789abcdef0123456789abcdef", "q" * 43


@pytest.fixture
def db(installation):
    installation.db.execute(TABLES)
    return installation.db


@pytest.fixture
def source(installation, db):
    return PlaceosSource(Options(redis="redis://127.0.0.1:1", postgres=installation.url), name="building")


def put(db, **changed):
    row = {
        "id": ID, "name": "integration", "scopes": Jsonb(["public"]), "permissions": 1,
        "secret": hash_secret(ID, SECRET), "user_id": "user-1", "authority_id": "authority-1", "expires_at": None,
    } | changed  # fmt: skip
    db.execute("DELETE FROM api_key WHERE id = %s", (row["id"],))
    db.execute(
        f"INSERT INTO api_key ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})", tuple(row.values())
    )  # fmt: skip


async def test_a_key_is_read_as_placeos_keeps_it(source, db):
    put(db, expires_at=datetime(2100, 1, 1, tzinfo=UTC))
    assert await source.api_key(ID) == ApiKey(
        id=ID, name="integration", hash=hash_secret(ID, SECRET), role="support", org="zone-org", scopes=("public",),
        expires=4_102_444_800_000, user="user-1",
    )  # fmt: skip
    assert await source.api_key("unknown") is None
    assert await source.api_key("' OR 1=1 --") is None


@pytest.mark.parametrize(
    ("permissions", "role"), [(None, "user"), (0, "user"), (1, "support"), (2, "admin"), (3, "admin")]
)
async def test_its_permissions_are_its_own(source, db, permissions, role):
    put(db, permissions=permissions)
    assert (await source.api_key(ID)).role == role


async def test_a_key_of_nobody_is_none(source, db):
    put(db, user_id="user-gone")
    assert await source.api_key(ID) is None
    put(db)
    db.execute("""UPDATE "user" SET deleted = true""")
    assert await source.api_key(ID) is None


async def test_where_a_domain_names_no_organisation_the_key_has_none(source, db):
    put(db)
    for config in ({}, {"org_zone": ""}, {"org_zone": 7}, [], "x", None):
        db.execute("UPDATE authority SET config = %s", (Jsonb(config),))
        assert (await source.api_key(ID)).org is None
    db.execute("DROP TABLE authority")
    assert (await source.api_key(ID)).org is None


@pytest.mark.parametrize(
    "changed", [{"scopes": "public"}, {"scopes": None}, {"permissions": 4}, {"permissions": -1}, {"secret": None},
                {"expires_at": "tomorrow"}, {"expires_at": True}, {"expires_at": -5}],
)  # fmt: skip
def test_a_row_that_nobody_understands_lets_nobody_in(changed):
    row = {"id": ID, "scopes": ["public"], "permissions": 0, "secret": "00", "expires_at": 1_900_000_000}
    assert key_of(row, None).expires == 1_900_000_000_000
    assert key_of({**row, **changed}, None) is None


async def test_few_rights_are_enough_and_too_few_are_said(source, installation, db):
    put(db)
    db.execute("DROP ROLE IF EXISTS keyreader")
    db.execute("CREATE ROLE keyreader LOGIN PASSWORD 's3cret'")
    try:
        parts = psycopg.conninfo.conninfo_to_dict(installation.url)
        url = f"postgresql://keyreader:s3cret@{parts['host']}:{parts['port']}/{parts['dbname']}"
        few = PlaceosSource(Options(redis="redis://127.0.0.1:1", postgres=url), name="building")
        with pytest.raises(NorthboundError, match="GRANT"):
            await few.api_key(ID)
        db.execute("GRANT SELECT (id, name, scopes, permissions, secret, user_id, expires_at) ON api_key TO keyreader")
        found = await few.api_key(ID)
        assert (found.role, found.org, found.user) == ("support", None, "user-1")
    finally:
        db.execute("DROP OWNED BY keyreader")
        db.execute("DROP ROLE keyreader")


async def test_it_signs_in_until_it_expires_or_is_gone(source, db, tmp_path, monkeypatch):
    monkeypatch.setattr(sourcekeys, "_FRESH_SECONDS", 0.0)
    auth = AuthOptions.model_validate({"throttle": {"delay": "0s"}, "audit": False})
    signin = SignIn(auth, store=tmp_path / "northbound.db", lookup=source.api_key)
    put(db, expires_at=datetime.fromtimestamp(time.time() + 3600, UTC))
    who = await signin.sign_in(f"{ID}.{SECRET}", None, address="192.0.2.1")
    assert (who.subject, who.org, who.role, who.writes) == ("user-1", "zone-org", "support", True)
    assert await signin.still_valid(who)
    for shown in (f"{ID}.{'x' * 43}", f"{'f' * 32}.{SECRET}"):
        with pytest.raises(SignInRefused):
            await signin.sign_in(shown, None, address="192.0.2.1")
    put(db, expires_at=datetime.fromtimestamp(time.time() - 1, UTC))
    assert not await signin.still_valid(who)
    with pytest.raises(SignInRefused, match="expired"):
        await signin.sign_in(f"{ID}.{SECRET}", None, address="192.0.2.1")
    db.execute("DELETE FROM api_key")
    with pytest.raises(SignInRefused, match="not known"):
        await signin.sign_in(f"{ID}.{SECRET}", None, address="192.0.2.1")
