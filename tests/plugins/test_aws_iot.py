from __future__ import annotations

import asyncio

import pytest

from northbound import NotConnected, Outgoing, PartialDelivery, Rejected, Unauthorised, Unavailable
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.aws_iot import AwsIotTwin
from northbound.testing.twins.aws_limits import AwsLimits
from northbound_aws_iot import AwsIotConnector, ConnectorOptions

QUICK = AwsLimits(connects_per_client=0)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def pair(authority):
    return authority.client("acme-hq")


def connector(twin, pair=None, **options) -> AwsIotConnector:
    if pair is not None:
        options = {"certificate": pair.certificate, "private_key": pair.private_key, **options}
    options = {"endpoint": twin.endpoint, "port": twin.port, "ca": twin.authority.ca, "client_id": "acme-hq", **options}
    return AwsIotConnector(ConnectorOptions(**options), name="aws")


def out(topic: str, payload: bytes = b"x", *, key: str = "", retain: bool = False, kind="state") -> Outgoing:
    return Outgoing(topic, payload, kind, 1, retain, topic, key or f"store-{topic}")


async def test_publishes_with_a_certificate(authority, pair):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair)
        await it.open()
        await it.send([out(f"t/{n}", b"%d" % n) for n in range(20)])
        await it.close()
    assert [(m.topic, m.payload, m.retain) for m in twin.messages] == [(f"t/{n}", b"%d" % n, False) for n in range(20)]
    assert twin.messages[3].user == {"id": "store-t/3"}
    assert not twin.refused
