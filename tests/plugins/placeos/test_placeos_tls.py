"""PostgreSQL over TLS with a password; Redis over TLS is in test_placeos_options.py."""

from __future__ import annotations

import asyncio

import pytest
from tests.plugins.placeos.conftest import Service, furnish, placeos_hierarchy
from tests.support.intake import until
from tests.support.placeos_installation import Installation
from tests.support.postgres_server import PostgresServer

from northbound.testing.twins.authority import Authority

PASSWORD = "a pass/word'"


@pytest.fixture
async def secured(redis, tmp_path):
    """A service beside a PostgreSQL that takes TLS and a password alone, and what must be published of it."""
    authority = Authority(tmp_path / "ca")
    pair = authority.server(("127.0.0.1", "localhost"))
    with PostgresServer() as postgres:
        installation = Installation(postgres, redis)
        furnish(installation)
        wanted = installation.tree(hierarchy=placeos_hierarchy())
        installation.close()
        postgres.secure(pair.certificate, pair.private_key, PASSWORD)
        async with Service(installation, tmp_path / "store.db", hierarchy=placeos_hierarchy()) as service:
            service.where = f"127.0.0.1:{postgres.port}/{installation.database}"
            service.ca, service.wanted = str(authority.ca), wanted
            yield service


async def test_the_tree_comes_over_tls_with_a_password(secured):
    url = f"postgresql://postgres:a%20pass%2Fword%27@{secured.where}"
    async with secured.running(postgres=url, postgres_ca=secured.ca):
        async with asyncio.timeout(20):
            while await secured.tree() != secured.wanted:  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.02)
        secured.installation.status = secured.installation.redis.client()
        secured.installation.set("mod-1", "volume", "77")
        await until(lambda: 77 in [value for _, value in secured.news()])
        secured.installation.status.close()


@pytest.mark.parametrize(
    ("login", "ca", "words"),
    [
        ("postgres:a%20pass%2Fword%27", "another", "certificate verify failed"),
        ("postgres:a%20pass%2Fword%27", None, "no encryption"),
        ("postgres:wrong-one", "own", "password authentication failed"),
    ],
)
async def test_what_is_not_to_be_trusted_is_said_and_no_password(secured, tmp_path, login, ca, words):
    other = Authority(tmp_path / "other")
    file = {"own": secured.ca, "another": str(other.ca), None: None}[ca]
    url = f"postgresql://{login}@{secured.where}"
    async with secured.running(postgres=url, postgres_ca=file) as source:
        await until(lambda: source.problem and words in source.problem)
        assert "pass" not in source.problem.replace("password authentication", "")
        assert "wrong-one" not in source.problem
        assert await secured.tree() == {}
