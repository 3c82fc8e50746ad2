"""Signing in to Pub/Sub: each kind of credentials, renewal, revocation, and what is said when it fails."""

from __future__ import annotations

import asyncio
import json
import ssl
import time

import pytest
import trustme
from tests.support.intake import until
from tests.support.pubsub import EMAIL, TOPIC, cloud, opened, outgoing

from northbound import NotConnected, PartialDelivery, Unauthorised
from northbound.testing.twins.google_tokens import TokenEndpoint
from northbound_gcp_pubsub import PubSubConnector, PubSubOptions
from northbound_gcp_pubsub.accounts import BoundedRequest, kind, load


@pytest.fixture
async def gcp(tmp_path):
    async with cloud(tmp_path) as made:
        yield made


async def publish(connector: PubSubConnector, n: int = 1) -> None:
    async with opened(connector):
        await connector.send([outgoing(n)])


async def refusal(connector: PubSubConnector, kind: type[Exception]) -> str:
    """Return what opening fails with, and the likely cause."""
    with pytest.raises(kind) as caught:
        await connector.open()
    await connector.close()
    assert type(caught.value) is kind
    return f"{caught.value} | {connector.explain(caught.value)}"


def workload(gcp, *, email: str | None = None) -> tuple[dict, object]:
    token_file = gcp.folder / "subject.jwt"
    token_file.write_text(gcp.accounts.subject_token("building-7"))
    info = gcp.accounts.external_account(str(token_file), gcp.tokens.base, email=email)
    path = gcp.folder / "workload.json"
    path.write_text(json.dumps(info))
    return {"credentials_file": str(path)}, token_file


async def test_a_token_from_the_token_endpoint(gcp):
    connector = gcp.connector(self_signed=False)
    told: list[str] = []
    connector.tell = told.append
    await publish(connector)
    assert gcp.topic.messages[0].principal == EMAIL
    assert gcp.tokens.calls == 1
    assert "tokens from its token endpoint" in told[0]


async def test_credentials_as_text_from_a_secret(gcp):
    connector = gcp.connector(credentials_file=None, credentials_json=json.dumps(gcp.key))
    await publish(connector)
    assert gcp.topic.messages[0].principal == EMAIL
    assert "BEGIN" not in repr(connector.config)
    assert [credential.name for credential in connector.credentials()] == ["access token", "CA certificates"]


async def test_application_default_credentials_by_environment(gcp, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(gcp.key_file))
    connector = gcp.connector(credentials_file=None)
    await publish(connector)
    assert gcp.topic.messages[0].principal == EMAIL
    assert connector.credentials()[1].files == (gcp.key_file,)


async def test_application_default_credentials_of_gcloud(gcp, monkeypatch):
    well_known = gcp.folder / "gcloud"
    well_known.mkdir()
    (well_known / "application_default_credentials.json").write_text(json.dumps(gcp.key))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(well_known))
    await publish(gcp.connector(credentials_file=None))
    assert gcp.topic.messages[0].principal == EMAIL


async def test_no_credentials_at_all(gcp, monkeypatch):
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(gcp.folder / "none"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    words = await refusal(gcp.connector(credentials_file=None), Unauthorised)
    assert words.startswith("no credentials: ")
    assert words.endswith("this machine has no application default credentials")


async def test_workload_identity(gcp):
    changes, _ = workload(gcp)
    gcp.twin.grant(gcp.topic, "principal:building-7", "roles/pubsub.publisher")
    await publish(gcp.connector(**changes))
    assert gcp.topic.messages[0].principal == "principal:building-7"


async def test_workload_identity_that_impersonates_an_account(gcp):
    changes, token_file = workload(gcp, email=EMAIL)
    await publish(gcp.connector(**changes))
    assert gcp.topic.messages[0].principal == EMAIL
    assert gcp.tokens.calls == 2
    token_file.write_text("no token of anybody")
    words = await refusal(gcp.connector(**changes), Unauthorised)
    assert "no token for" in words
    assert "no token of anybody" not in words
    token_file.unlink()
    assert "no token for" in await refusal(gcp.connector(**changes), Unauthorised)


async def test_the_token_endpoint_over_tls_of_the_private_ca(gcp):
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    both = gcp.folder / "both.pem"
    both.write_bytes(gcp.ca_file.read_bytes() + ca.cert_pem.bytes())
    with TokenEndpoint(gcp.accounts, tls=context) as endpoint:
        key = gcp.accounts.service_account(EMAIL, endpoint.token_uri)
        changes = {"credentials_file": None, "credentials_json": json.dumps(key), "self_signed": False}
        await publish(gcp.connector(ca=str(both), **changes))
        assert endpoint.calls == 1
        words = await refusal(gcp.connector(**changes), NotConnected)
    assert "the token endpoint cannot be reached" in words


async def test_a_token_is_renewed_before_it_ends_without_a_failure(gcp):
    gcp.accounts.token_seconds = 1
    async with opened(gcp.connector(self_signed=False)) as connector:
        first = connector.credentials()[0].expires
        began = time.monotonic()
        n = 0
        while time.monotonic() < began + 3:
            await asyncio.gather(*(connector.send([outgoing(n + k, f"t{k}")]) for k in range(8)))
            n += 8
        assert connector.credentials()[0].expires > first
        assert connector._tokens._renew_at < connector._tokens._expires
    assert len(gcp.topic.messages) == n
    assert 3 <= gcp.tokens.calls <= 12  # and one at a time, however many are under way


async def test_a_token_that_is_refused_is_replaced_and_the_request_repeated(gcp):
    async with opened(gcp.connector(self_signed=False)) as connector:
        await connector.send([outgoing(1)])
        gcp.accounts.expire_tokens()  # earlier than it said
        await connector.send([outgoing(2)])
        assert gcp.twin.refusals == {"UNAUTHENTICATED": 1}
        assert gcp.tokens.calls == 2
    assert [m.data for m in gcp.topic.messages] == [b"1", b"2"]


async def test_a_key_that_is_deleted_is_unauthorised(gcp):
    async with opened(gcp.connector()) as connector:
        await connector.send([outgoing(1)])
        gcp.accounts.revoke(gcp.key["private_key_id"])
        with pytest.raises(PartialDelivery) as caught:
            await connector.send([outgoing(2)])
        assert type(caught.value.failures[0]) is Unauthorised
        assert EMAIL in str(caught.value.failures[0])
    assert "the key was deleted" in await refusal(gcp.connector(), Unauthorised)
    assert "the key was deleted" in await refusal(gcp.connector(self_signed=False), Unauthorised)
    gcp.write_key()
    await publish(gcp.connector())


async def test_a_wrong_clock_is_named(gcp):
    gcp.accounts.clock = lambda: time.time() + 7200
    assert "this machine's clock" in await refusal(gcp.connector(), Unauthorised)
    words = await refusal(gcp.connector(self_signed=False), Unauthorised)
    assert words.endswith("this machine's clock is wrong by more than a few minutes: set it by NTP")


async def test_while_a_token_holds_a_failing_token_endpoint_is_not_noticed(gcp):
    gcp.accounts.token_seconds = 5
    async with opened(gcp.connector(self_signed=False)) as connector:
        tokens = connector._tokens
        tokens._renew_at = 0.0
        gcp.tokens.failing = 1000
        await connector.send([outgoing(1)])  # a renewal is tried in vain, and the old token does
        assert gcp.tokens.calls > 1
        tokens._renew_at = tokens._expires = 0.0
        with pytest.raises(PartialDelivery) as caught:
            await connector.send([outgoing(2)])
        assert isinstance(caught.value.failures[0], NotConnected)
        gcp.tokens.failing = 0
        await asyncio.sleep(0)
        await connector.send([outgoing(2)])


async def test_while_a_token_holds_a_renewal_that_is_refused_is_not_noticed(gcp):
    changes, token_file = workload(gcp)
    gcp.twin.grant(gcp.topic, "principal:building-7", "roles/pubsub.publisher")
    whole = token_file.read_text()
    async with opened(gcp.connector(**changes)) as connector:
        tokens = connector._tokens
        fetched = gcp.tokens.calls
        token_file.write_text("")  # whoever writes it anew has just begun
        tokens._renew_at = 0.0
        await connector.send([outgoing(1)])
        token_file.write_text(whole)
        tokens._renew_at = 0.0
        await connector.send([outgoing(2)])
        assert gcp.tokens.calls == fetched + 1
        token_file.write_text("")
        tokens._renew_at = tokens._expires = 0.0
        with pytest.raises(PartialDelivery) as caught:
            await connector.send([outgoing(3)])
        assert type(caught.value.failures[0]) is Unauthorised


async def test_a_token_endpoint_that_is_away(gcp):
    gcp.key["token_uri"] = "http://127.0.0.1:1/token"
    connector = gcp.connector(credentials_file=None, credentials_json=json.dumps(gcp.key), self_signed=False)
    words = await refusal(connector, NotConnected)
    assert "the token endpoint cannot be reached" in words
    assert "self_signed = true they are not needed" in words


async def test_fetching_a_token_never_holds_the_event_loop_up(gcp):
    async with opened(gcp.connector(self_signed=False)) as connector:
        gcp.tokens.delay = 0.5
        gcp.accounts.expire_tokens()
        turns = 0
        sending = asyncio.create_task(connector.send([outgoing(1)]))
        while not sending.done():
            await asyncio.sleep(0.005)
            turns += 1
        await sending
    assert turns > 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no JSON"),
        ("[]", "is no JSON object"),
        ("{}", "credentials of the type 'None' are not known here"),
        ('{"type":"service_account"}', "is not as Google writes it"),
        (
            '{"type":"service_account","private_key":"canary","client_email":"a","token_uri":"b"}',
            "is not as Google writes",
        ),
        ('{"type":"external_account"}', "is not as Google writes it"),
        ('{"type":"authorized_user","refresh_token":"canary"}', "is not as Google writes it"),
        ('{"type":"impersonated_service_account"}', "is not as Google writes it"),
        ('{"type":"canary' + "y" * 100 + '"}', "are not known here"),
        ("\udcff", "is no JSON"),
    ],
)
async def test_a_file_that_is_no_credentials(tmp_path, text, words):
    path = tmp_path / "key.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    connector = PubSubConnector(PubSubOptions(pubsub_topic=TOPIC, credentials_file=path), name="gcp")
    said = await refusal(connector, Unauthorised)
    assert words in said
    assert "canary" not in said or "type" in said
    path.unlink()
    assert "cannot be read: No such file" in await refusal(connector, Unauthorised)


async def test_an_account_user_and_an_impersonated_account_are_loaded(gcp):
    """Of kinds that only Google's own endpoints could answer, what is read is looked at."""
    user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    impersonated = {
        "type": "impersonated_service_account",
        "service_account_impersonation_url": f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken",
        "source_credentials": user,
        "delegates": [],
    }
    for info, wanted in ((user, "a user's own credentials"), (impersonated, "an impersonated service account")):
        options = PubSubOptions(pubsub_topic=TOPIC, credentials_json=json.dumps(info))
        assert kind(load(options, BoundedRequest(None, 1.0))) == wanted


async def test_two_calls_that_find_a_token_refused_fetch_one(gcp):
    async with opened(gcp.connector(self_signed=False, ordering_keys=8)) as connector:
        before = gcp.tokens.calls
        gcp.accounts.expire_tokens()
        await connector.send([outgoing(n, f"topic-{n}") for n in range(40)])
        assert gcp.tokens.calls == before + 1
    await until(lambda: len(gcp.topic.messages) == 40)
