"""What can be configured, what is refused and in which words; tokens as the SDK and as Microsoft's page make them."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.core.testing.test_azure_hub_twin import token

from northbound.loading import load_file
from northbound.registry import Registry
from northbound.testing.twins import azure_rules
from northbound_azure_iot import AzureIotConnector, ConnectorOptions, tokens
from northbound_azure_iot.memory import Memory
from northbound_azure_iot.metering import Meter
from northbound_azure_iot.pacing import Connects, Pace
from northbound_azure_iot.provisioning import Assignment

HERE = Path(__file__).parents[2] / "plugins" / "northbound_azure_iot"
KEY = base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
STRING = f"HostName=acme.azure-devices.net;DeviceId=dev1;SharedAccessKey={KEY}"
DEVICE = {"host": "acme.azure-devices.net", "device_id": "dev1"}


@pytest.mark.parametrize(
    "options",
    [
        {"connection_string": STRING},
        {"connection_string": f"{STRING};ModuleId=m;GatewayHostName=edge"},
        {"connection_string": f"{STRING};"},
        {"connection_string": "HostName=a.azure-devices.net;DeviceId=d;x509=true", "certificate": "c.pem"},
        DEVICE | {"symmetric_key": KEY},
        DEVICE | {"symmetric_key": KEY, "module_id": "m"},
        DEVICE | {"certificate": "c.pem", "private_key": "c.key", "private_key_password": "p"},
        DEVICE | {"shared_access_signature": "SharedAccessSignature sr=x&sig=y&se=1"},
        {"id_scope": "0ne1", "registration_id": "gw-1", "symmetric_key": KEY},
        {"id_scope": "0ne1", "registration_id": "gw-1", "group_key": KEY},
        {"id_scope": "0ne1", "registration_id": "gw-1", "certificate": "c.pem"},
        {
            "identities": [{"connection_string": STRING}, {"device_id": "d2", "symmetric_key": KEY}],
            "host": "acme.azure-devices.net",
        },
        {"connection_string": STRING, "proxy": "http://u:p@proxy:3128", "pins": ["sha256:" + "0" * 64]},
    ],
)
def test_what_can_be_configured(options):
    connector = AzureIotConnector(ConnectorOptions(**options), name="out")
    assert connector.destination
    assert connector.credentials() is not None


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("write a connection_string, or host and device_id", {}),
        ("write a connection_string, or host and device_id", {"device_id": "d", "symmetric_key": KEY}),
        ("a device needs its symmetric_key", DEVICE),
        ("signs in by one of them", DEVICE | {"symmetric_key": KEY, "certificate": "c.pem"}),
        ("which says it all", {"connection_string": STRING, "device_id": "d"}),
        ("no certificate or token beside it", {"connection_string": STRING, "certificate": "c.pem"}),
        ("it needs the certificate", {"connection_string": "HostName=a;DeviceId=d;x509=true"}),
        ("host is another", {"connection_string": STRING, "host": "other.azure-devices.net"}),
        ("opens it for all devices", {"connection_string": f"HostName=a;SharedAccessKeyName=o;SharedAccessKey={KEY}"}),
        ("no connection string", {"connection_string": "Endpoint=sb://x"}),
        ("no connection string", {"connection_string": "HostName=a;DeviceId=d"}),
        ("Base64 of 16 to 64", {"connection_string": "HostName=a;DeviceId=d;SharedAccessKey=nonsense"}),
        ("begins with 'SharedAccessSignature", DEVICE | {"shared_access_signature": "secret"}),
        ("needs the id_scope", {"registration_id": "gw", "symmetric_key": KEY}),
        ("group_key or a certificate", {"id_scope": "0ne1", "registration_id": "gw"}),
        ("device that is provisioned", {"id_scope": "0", "registration_id": "g", "device_id": "d", "group_key": KEY}),
        ("Base64 of 16 to 64", DEVICE | {"symmetric_key": "c2hvcnQ="}),
        ("Base64 of 16 to 64", DEVICE | {"symmetric_key": "not base64 at all, is it"}),
        ("pattern", DEVICE | {"device_id": "a#b", "symmetric_key": KEY}),
        ("pattern", {"id_scope": "0ne1", "registration_id": "Upper", "symmetric_key": KEY}),
        ("host name alone", DEVICE | {"host": "https://a.azure-devices.net", "symmetric_key": KEY}),
        ("private_key needs", DEVICE | {"symmetric_key": KEY, "private_key": "k"}),
        ("belongs into one of the identities", {"identities": [{"connection_string": STRING}], "device_id": "d"}),
        ("basic tier", {"connection_string": STRING, "tier": "B1", "metadata": "twin"}),
        ("proxy", {"connection_string": STRING, "proxy": "ftp://x"}),
        ("pin is", {"connection_string": STRING, "pins": ["sha1:x"]}),
        ("less than or equal to 1177|19 minutes", {"connection_string": STRING, "keep_alive": "20m"}),
    ],
)  # fmt: skip
def test_what_is_refused(words, options):
    with pytest.raises(ValidationError, match=words) as caught:
        ConnectorOptions(**options)
    assert KEY not in str([error["msg"] for error in caught.value.errors()])


def test_no_secret_is_shown():
    options = ConnectorOptions(connection_string=STRING, proxy="http://user:hunter2@proxy:3128")
    connector = AzureIotConnector(options, name="out")
    connector._lanes[0].identity.client_options()
    shown = f"{options!r} {connector.destination} {connector.credentials()!r} {connector._lanes[0].identity.token!r}"
    for secret in (KEY, "hunter2", "sig="):
        assert secret not in shown


@pytest.mark.parametrize(
    ("tier", "units", "rate", "chunk"),
    [("F1", 1, 100, 512), ("S1", 1, 100, 4096), ("B1", 9, 108, 4096), ("S2", 2, 240, 4096), ("S3", 1, 6000, 4096)],
)
def test_limits_of_the_tiers(tier, units, rate, chunk):
    identities = [{"connection_string": STRING}, {"connection_string": STRING.replace("dev1", "dev2")}]
    connector = AzureIotConnector(ConnectorOptions(identities=identities, tier=tier, units=units), name="out")
    limits = connector.limits
    assert limits.messages_per_second * limits.connections == rate
    assert (limits.metering_bytes, limits.connections, limits.max_qos) == (chunk, 2, 1)
    assert (limits.retain, limits.keep_alive) == ("property", (1, 1177))
    batched = AzureIotConnector(ConnectorOptions(identities=identities, tier=tier, units=units, batch="4KiB"), name="o")
    assert batched.limits.messages_per_second is None


@pytest.mark.parametrize("resource", ["acme.azure-devices.net/devices/dev1", "a.b/devices/d%=@$'!/modules/m", "0ne/x"])
def test_the_sdks_token_is_the_pages(resource):
    made = tokens.sign(resource, KEY, 600)
    assert made.text == token(KEY, resource, lifetime=0, now=made.expires)
    assert azure_rules.check_token(made.text.encode(), [KEY], resource, time.time()) == made.expires
    assert tokens.expiry_of(made.text) == made.expires


def test_a_token_without_an_expiry():
    assert tokens.expiry_of("SharedAccessSignature sr=a&sig=b") is None
    assert tokens.expiry_of("rubbish") is None


def test_group_keys():
    # printf gw-7 | openssl dgst -sha256 -mac HMAC -macopt key:0123456789abcdef0123456789abcdef -binary | base64
    assert (
        tokens.derived_key(KEY, "gw-7")
        == "DsBlbdkSCHlr3oUEOuAob/r9J2hLLjqJHR2Mp9xNzKk="
        == azure_rules.derived_key(KEY, "gw-7")
    )


def test_the_meter_begins_anew_every_day_and_keeps_to_the_budget():
    now = [86_400.0 * 100 + 10]
    meter = Meter(4096, 5, lambda: now[0])
    assert [meter.take(size) for size in (1, 4096, 4097, 1, 1)] == [True, True, True, True, False]
    assert (meter.count, meter.messages) == (5, 4)
    assert meter.used_up().retry_after == 86_390
    assert "daily budget of 5 messages" in str(meter.used_up())
    now[0] += 86_400
    assert meter.count == 0
    assert meter.take(5 * 4096)
    assert not meter.take(0)


def test_what_is_remembered(tmp_path):
    path = tmp_path / "azure.json"
    memory = Memory(path)
    memory.assigned("gw-1", Assignment("acme.azure-devices.net", "dev1"))
    memory.count(20_000, 7)
    again = Memory(path)
    assert again.assignment("gw-1") == Assignment("acme.azure-devices.net", "dev1")
    assert again.metered == (20_000, 7)
    assert path.stat().st_mode & 0o777 == 0o600
    meter = Meter(4096, None, lambda: 86_400.0 * 20_000)
    meter.resume(*again.metered)
    assert meter.count == 7
    meter.resume(19_999, 100)
    assert meter.count == 7
    path.write_text("rubbish")
    assert Memory(path).assignment("gw-1") is None
    Memory(tmp_path / "no" / "such" / "folder").count(1, 1)  # said in the log, and no more


def test_connections_that_end_again_and_again_are_made_ten_seconds_apart():
    connects, now, made = Connects(), 1000.0, []
    while now < 1120:
        if wait := connects.wait(now):
            now += wait
        connects.made(now)
        made.append(now)
        now += 0.5
    assert len([moment for moment in made if moment < 1060]) <= 6 + 6
    assert 6 <= len([moment for moment in made if moment >= 1060]) <= 7
    assert connects.wait(now + 120) == 0.0


def test_the_pace_is_kept():
    pace, now, sent = Pace(50), 1000.0, 0
    while now < 1010:
        if wait := pace.wait(now):
            now += wait
        else:
            pace.take(5)
            sent += 5
    assert 495 <= sent <= 515


def test_the_sample_is_loaded(monkeypatch):
    monkeypatch.setenv("AZURE_CONNECTION_STRING", STRING)
    configuration = load_file(HERE / "sample.toml", Registry())
    assert [connector.plugin.type_name for connector in configuration.connectors] == ["azure-iot"]


def test_without_the_sdk_there_is_a_row_that_says_how_to_install_it():
    code = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name == "azure" or name.startswith("azure."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Gone())
from northbound.registry import Registry
registry = Registry()
(row,) = [row for row in registry.rows if row.type_name == "azure-iot"]
assert row.implementation is None, row
assert row.hint == "pip install 'northbound[azure]'", row.hint
assert "mqtt" in registry.types("connector")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_sdk_is_not_imported_until_it_is_needed():
    code = """
import sys
from northbound.registry import Registry
assert "azure-iot" in Registry().types("connector")
assert not [name for name in sys.modules if name.startswith("azure.iot.device")]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
