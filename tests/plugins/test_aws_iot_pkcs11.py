"""The private key stays in a hardware module: SoftHSM, loaded by the AWS SDK as any PKCS#11 library is."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from northbound import NotConnected, Outgoing, Unauthorised
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.aws_iot import AwsIotTwin
from northbound.testing.twins.aws_limits import AwsLimits
from northbound_aws_iot import AwsIotConnector, ConnectorOptions

PIN = "271828"


@pytest.fixture(scope="module")
def library() -> Path:
    found = next(Path("/usr/lib").glob("**/libsofthsm2.so"), None)
    assert found is not None, "SoftHSM is missing: scripts/services installs it"
    return found


@pytest.fixture(scope="module")
def token(tmp_path_factory):
    """Initialises a token; returns a function that imports a key. The library reads its configuration once."""
    tool = shutil.which("softhsm2-util")
    assert tool, "SoftHSM is missing: scripts/services installs it"
    folder = tmp_path_factory.mktemp("hsm")
    (folder / "tokens").mkdir()
    settings = folder / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {folder / 'tokens'}\nobjectstore.backend = file\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(settings))

        def run(*arguments: str) -> None:
            subprocess.run([tool, *arguments], check=True, capture_output=True)

        run("--init-token", "--free", "--label", "building", "--so-pin", "314159", "--pin", PIN)
        yield lambda path, label, number: run(
            "--import", str(path), "--token", "building", "--label", label, "--id", number, "--pin", PIN
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


def connector(twin, pair, library, **options) -> AwsIotConnector:
    options = {
        "endpoint": twin.endpoint,
        "port": twin.port,
        "ca": twin.authority.ca,
        "certificate": pair.certificate,
        "auth": "pkcs11",
        "pkcs11_library": library,
        "pkcs11_pin": PIN,
        "pkcs11_token": "building",
        **options,
    }
    return AwsIotConnector(ConnectorOptions(**options), name="aws")


@pytest.mark.parametrize(("kind", "number"), [("rsa", "01"), ("ec", "02")])
async def test_signs_in_with_a_key_in_a_module(authority, token, library, kind, number):
    pair = authority.client("acme-hq", key=kind)
    token(pair.private_key, f"key-{kind}", number)
    pair.private_key.unlink()
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair, library, pkcs11_key=f"key-{kind}")
        await it.open()
        await it.send([Outgoing("t", b"x", "state", 1, False, "t", "store-1")])
        await it.close()
        assert [message.topic for message in twin.messages] == ["t"]
    assert it.credentials()[0].expires == pair.parsed.not_valid_after_utc


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pkcs11_token": "other"}, "TOKEN_NOT_FOUND"),
        ({"pkcs11_key": "other"}, "KEY_NOT_FOUND"),
        ({"pkcs11_library": "/nowhere/libsofthsm2.so"}, "LIBRARY_LOAD_FAILURE"),
    ],
)
async def test_what_is_not_there_is_named(authority, token, library, change, words):
    pair = authority.client("acme-hq")
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair, **{"library": library, "pkcs11_key": "key", **change})
        with pytest.raises(NotConnected, match=words) as caught:
            await it.open()
        assert "pkcs11-tool" in it.explain(caught.value)
        await it.close()


async def test_a_wrong_pin_is_tried_once_since_a_token_locks_itself(authority, token, library):
    pair = authority.client("acme-hq")
    async with AwsIotTwin(authority, limits=AwsLimits(connects_per_client=0)) as twin:
        it = connector(twin, pair, library, pkcs11_pin="not-it")
        with pytest.raises(Unauthorised, match="PIN") as caught:
            await it.open()
        assert "not-it" not in str(caught.value)
        with pytest.raises(Unauthorised, match="not tried again"):
            await it.open()
        await it.close()
