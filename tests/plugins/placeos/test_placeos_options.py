"""Addresses and TLS: what is taken, what is refused, and that no secret is told."""

from __future__ import annotations

import subprocess
import sys

import pydantic
import pytest
import trustme
from psycopg.conninfo import conninfo_to_dict
from tests.plugins.placeos.conftest import Service, furnish
from tests.support.intake import until
from tests.support.mosquitto import free_port
from tests.support.placeos_installation import Installation
from tests.support.redis_server import RedisServer

from northbound_placeos import Options
from northbound_placeos.options import RedisAddress

REDIS, POSTGRES = "redis://cache", "postgresql://db/place"


def options(redis=REDIS, postgres=POSTGRES, **more) -> Options:
    return Options(redis=redis, postgres=postgres, **more)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://cache", RedisAddress("cache", 6379, None, False, None, None, 0)),
        ("redis://:p%40ss@cache:7000/3", RedisAddress("cache", 7000, None, False, None, "p@ss", 3)),
        ("rediss://user:pass@[::1]", RedisAddress("::1", 6379, None, True, "user", "pass", 0)),
        ("unix:///run/redis.sock?db=2", RedisAddress("", 6379, "/run/redis.sock", False, None, None, 2)),
    ],
)
def test_addresses_of_redis(url, address):
    assert options(redis=url).redis_address == address


@pytest.mark.parametrize(
    "url",
    [
        "http://hush@cache",
        "redis://",
        "redis://:hush@cache:port",
        "redis://:hush@cache/x",
        "unix://",
        "redis://:hush@c?ssl=no",
    ],
)
def test_an_address_of_redis_that_is_none_is_refused_without_being_quoted(url):
    with pytest.raises(pydantic.ValidationError) as refused:
        options(redis=url)
    assert "hush" not in str(refused.value.errors(include_input=False, include_url=False))


@pytest.mark.parametrize(
    ("url", "more", "mode"),
    [
        ("postgresql://db/place", {}, "disable"),
        ("postgresql://db/place", {"postgres_ca": "/ca.pem"}, "verify-full"),
        ("postgresql://db/place?sslmode=verify-full&sslrootcert=system", {}, "verify-full"),
        ("host=db dbname=place sslmode=disable", {}, "disable"),
    ],
)
def test_tls_with_postgresql_is_verified_or_off(url, more, mode):
    given = conninfo_to_dict(options(postgres=url, **more).conninfo)
    assert given["sslmode"] == mode
    assert given["application_name"] == "northbound"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"postgres": "postgresql://u:hush@db/place?sslmode=require"}, "without checking"),
        ({"postgres": "postgresql://u:hush@db/place?nonsense=1"}, "write postgresql://"),
        ({"postgres": "postgresql://u:p@hush@db/place"}, "%40"),
        ({"postgres": "postgresql://u:hush/p@db/place"}, "%2F"),
        ({"postgres": "postgresql://u:123/hush@db/place"}, "%2F"),
        ({"redis_ca": "/ca.pem"}, "rediss://"),
        ({"reread": "10ms"}, "1 second"),
    ],
)
def test_what_cannot_be_is_refused_with_the_remedy(more, words):
    with pytest.raises(pydantic.ValidationError) as refused:
        options(**more)
    told = str(refused.value.errors(include_input=False, include_url=False, include_context=False))
    assert words in told
    assert "hush" not in told


def test_no_secret_is_shown():
    shown = options(redis="redis://:hush@cache", postgres="postgresql://u:hush@db:5433/place")
    assert "hush" not in repr(shown) + str(shown) + shown.postgres_where + shown.redis_address.where
    assert shown.postgres_where == "db:5433/place"


def test_loading_the_plugin_imports_no_library_and_a_missing_one_is_named():
    code = (
        "import sys, northbound_placeos\n"
        "loaded = {'redis', 'psycopg', 'hiredis'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
        "for name in [n for n in sys.modules if n.startswith('northbound_placeos')]: del sys.modules[name]\n"
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'psycopg' else find(name, *more)\n"
        "try: import northbound_placeos\n"
        "except ModuleNotFoundError as error: assert error.name == 'psycopg'\n"
        "else: raise AssertionError('it loaded')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def certificates(tmp_path):
    authority, other = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    paths = {name: tmp_path / f"{name}.pem" for name in ("ca", "other", "chain", "key")}
    authority.cert_pem.write_to_path(paths["ca"])
    other.cert_pem.write_to_path(paths["other"])
    paths["chain"].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(paths["key"])
    return paths


async def test_redis_over_tls_and_a_socket(postgres, tmp_path, certificates):
    tls, path = free_port(), tmp_path / "redis.sock"
    arguments = [
        "--tls-port", str(tls), "--tls-auth-clients", "no", "--unixsocket", str(path),
        "--tls-cert-file", str(certificates["chain"]), "--tls-key-file", str(certificates["key"]),
        "--tls-ca-cert-file", str(certificates["ca"]),
    ]  # fmt: skip
    with RedisServer(tmp_path / "r", arguments=arguments) as server:
        installation = Installation(postgres, server)
        furnish(installation)
        hierarchy = ("org", "building", "level", "area")
        async with Service(installation, tmp_path / "store.db", hierarchy=hierarchy) as service:
            async with service.running(redis=f"rediss://127.0.0.1:{tls}", redis_ca=str(certificates["ca"])):
                await service.settled()
                installation.set("mod-1", "volume", "1")
                await service.settled()
            async with service.running(redis=f"unix://{path}"):
                await service.settled()
                installation.set("mod-1", "volume", "2")
                await service.settled()
            async with service.running(
                redis=f"rediss://127.0.0.1:{tls}", redis_ca=str(certificates["other"])
            ) as source:
                await until(lambda: source.problem is not None, within=10)
                assert "certificate" in source.problem.lower()
            missing = str(tmp_path / "missing.pem")
            async with service.running(redis=f"rediss://127.0.0.1:{tls}", redis_ca=missing) as source:
                await until(lambda: source.problem is not None, within=10)
                assert "redis_ca" in source.problem
        installation.drop()
