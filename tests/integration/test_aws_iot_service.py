"""The service as a process, with the AWS SDK in it: it runs, stops cleanly, checks, and does without the SDK."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys

import pytest

from northbound import NotConnected
from northbound.mqtt import Client, ClientOptions
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.aws_iot import AwsIotTwin
from northbound.testing.twins.aws_limits import AwsLimits


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


def configured(folder, twin, pair, more="") -> str:
    path = folder / "northbound.toml"
    path.write_text(
        f"""
        [site]
        org = "org-acme"
        [sources.in]
        type = "jsonl"
        path = "-"
        [connectors.aws]
        type = "aws-iot"
        endpoint = "{twin.endpoint}"
        port = {twin.port}
        ca = "{twin.authority.ca}"
        certificate = "{pair.certificate}"
        private_key = "{pair.private_key}"
        client_id = "acme-hq"
        {more}
        """
    )
    return str(path)


async def northbound(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "northbound", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        out, err = await process.communicate(stdin)
    return process.returncode, out.decode(), err.decode()


def events(count: int) -> bytes:
    one = {"kind": "state", "org": "org-acme", "building": "b", "system": "s", "driver": "d", "module": "M", "index": 1}
    return b"".join(json.dumps({**one, "state": f"x{n % 10}", "value": n}).encode() + b"\n" for n in range(count))


async def test_it_runs_to_the_end_and_leaves_nothing_on_stderr_but_the_log(authority, tmp_path):
    async with AwsIotTwin(authority) as twin:
        config = configured(tmp_path, twin, authority.client("acme-hq"))
        status, _, err = await northbound("run", "--once", config, stdin=events(150))
        assert status == 0, err
        assert len(twin.messages) == 150
        assert not twin.refused
    assert "Traceback" not in err
    assert "Error" not in err


async def test_check_connect_tells_what_it_tried_and_how_long_the_certificate_holds(authority, tmp_path):
    async with AwsIotTwin(authority) as twin:
        config = configured(tmp_path, twin, authority.client("acme-hq"), 'probe_topic = "placeos/probe"')
        status, out, err = await northbound("check", config, "--connect", "--json")
        told = json.loads(out)["destinations"][0]
        assert status == 0, err + out
        assert [m.topic for m in twin.messages] == ["placeos/probe"]
    assert any("CONNECT as acme-hq, by x509" in line for line in told["told"]), told
    assert any("131,072 bytes" in line for line in told["told"])
    assert told["credentials"][0]["expires"]


async def test_check_connect_finds_out_another_client_with_the_same_id(authority, tmp_path):
    pair = authority.client("acme-hq")
    async with AwsIotTwin(authority, limits=AwsLimits(connects_per_client=0)) as twin:
        rival = ClientOptions(
            host="localhost", port=twin.port, client_id="acme-hq", ssl=authority.client_context(pair), keep_alive=30
        )

        async def come_back() -> None:
            while True:
                client = Client(rival)
                await client.connect()
                with contextlib.suppress(NotConnected):
                    await client.lost()
                await client.disconnect()

        task = asyncio.create_task(come_back())
        config = configured(tmp_path, twin, pair)
        status, out, _ = await northbound("check", config, "--connect", "--json")
        task.cancel()
    told = json.loads(out)["destinations"][0]
    assert status == 1
    assert "142 session taken over" in told["error"]
    assert "another client is connected as acme-hq" in told["cause"]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("iot:Publish", "iot:Connect on client/acme-hq"),
        ("iot:Connect", "iot:Publish"),
    ],
)
async def test_check_connect_names_what_the_policy_lacks(authority, tmp_path, policy, words):
    only = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": policy, "Resource": "*"}]}
    async with AwsIotTwin(authority, policy=only, limits=AwsLimits(connects_per_client=0)) as twin:
        config = configured(tmp_path, twin, authority.client("acme-hq"), 'probe_topic = "placeos/probe"')
        status, out, _ = await northbound("check", config, "--connect", "--json")
    told = json.loads(out)["destinations"][0]
    assert status == 1
    assert words in told["cause"]


def test_without_the_sdk_it_is_a_row_with_a_hint_and_with_it_nothing_is_imported_early():
    look = """
import sys
{before}
from northbound.registry import Registry
rows = [row for row in Registry().rows if row.type_name == "aws-iot"]
print([(row.error, row.hint) for row in rows], "awscrt" in sys.modules and sys.modules["awscrt"] is not None)
"""

    def found(before: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", look.format(before=before)], capture_output=True, text=True, check=True
        ).stdout

    assert found("").strip() == "[(None, None)] False"
    without = found("sys.modules['awscrt'] = None")
    assert "pip install 'northbound[aws]'" in without
    assert "awsiotsdk" in without
