from __future__ import annotations

import asyncio
import base64
import itertools
import json
import re
import ssl
import time
from datetime import UTC, datetime, timedelta

import pydantic
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from northbound import (
    DeliveryError,
    EventRefused,
    Lanes,
    Message,
    NotConnected,
    Outgoing,
    PartialDelivery,
    Rejected,
    Unauthorised,
    Unavailable,
)
from northbound.config import ConnectorOptions as EveryConnector
from northbound.shaping import STATE_NAMES, Shaper, Template
from northbound.testing.twins.authority import Authority
from northbound.testing.twins.aws_iot import AwsIotTwin
from northbound.testing.twins.aws_limits import AwsLimits
from northbound.testing.twins.aws_policy import Policy
from northbound.testing.twins.aws_shadow import Shadows
from northbound.testing.twins.aws_sign_in import AccessKey, Authoriser
from northbound.topics import TopicScheme
from northbound_aws_iot import AwsIotConnector, ConnectorOptions, signing_in
from northbound_aws_iot.limits import limits_of, shadow_rate
from northbound_aws_iot.shadow import Shadow

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


async def until(condition) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - any condition
            await asyncio.sleep(0.005)


# -- signing in -------------------------------------------------------------------------------------------------


async def test_certificate_and_key_as_text(authority, pair):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, certificate_pem=pair.certificate.read_text(), private_key_pem=pair.private_key.read_text())
        await it.open()
        await it.send([out("t")])
        await it.close()
    assert len(twin.messages) == 1


async def test_a_server_of_tls_1_2_wants_the_certificate_within_the_handshake(authority, pair):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        twin._listener.context.maximum_version = ssl.TLSVersion.TLSv1_2
        texts = {"certificate_pem": pair.certificate.read_text(), "private_key_pem": pair.private_key.read_text()}
        for it in (connector(twin, **texts), connector(twin, pair)):  # our own handshake has none of the texts to show
            await it.open()
            await it.send([out("t")])
            await it.close()
        it = connector(twin, authority.client("d", valid=timedelta(hours=-1)))
        with pytest.raises(Unauthorised, match="client certificate has expired"):
            await it.open()
        await it.close()
    assert len(twin.messages) == 2


async def test_port_443_says_by_alpn_what_is_spoken(authority, pair):
    async with AwsIotTwin(authority, acts_as=443) as twin:
        it = connector(twin, pair, alpn=True)
        await it.open()
        await it.send([out("t")])
        await it.close()
        wrong = connector(twin, pair, alpn=False)
        with pytest.raises(NotConnected):
            await wrong.open()
        await wrong.close()
    assert len(twin.messages) == 1


KEYS = {"AKIDEXAMPLE": AccessKey("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "a+session/token==")}
FIXED = {
    "auth": "sigv4",
    "region": "eu-west-1",
    "access_key_id": "AKIDEXAMPLE",
    "secret_access_key": KEYS["AKIDEXAMPLE"].secret,
    "session_token": KEYS["AKIDEXAMPLE"].session_token,
}


async def test_websocket_with_sigv4(authority):
    async with AwsIotTwin(authority, acts_as=443, access_keys=KEYS) as twin:
        it = connector(twin, **FIXED)
        await it.open()
        await it.send([out(f"t/{n}", bytes(3000)) for n in range(20)])
        await it.close()
    assert [m.topic for m in twin.messages] == [f"t/{n}" for n in range(20)]


async def test_sigv4_by_the_default_chain(authority, monkeypatch):
    key = KEYS["AKIDEXAMPLE"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key.secret)
    monkeypatch.setenv("AWS_SESSION_TOKEN", key.session_token)
    async with AwsIotTwin(authority, acts_as=443, access_keys=KEYS) as twin:
        it = connector(twin, auth="sigv4", region="eu-west-1")
        await it.open()
        await it.send([out("t")])
        await it.close()
    assert len(twin.messages) == 1


@pytest.mark.parametrize("kind", ["keys", "process"])
async def test_sigv4_by_a_profile(authority, monkeypatch, tmp_path, kind):
    key, ends = KEYS["AKIDEXAMPLE"], "2099-01-01T00:00:00Z"
    told = {
        "Version": 1,
        "AccessKeyId": "AKIDEXAMPLE",
        "SecretAccessKey": key.secret,
        "SessionToken": key.session_token,
    }
    (tmp_path / "told.json").write_text(json.dumps({**told, "Expiration": ends}))
    (tmp_path / "config").write_text(f"[profile hq]\ncredential_process = cat {tmp_path / 'told.json'}\n")
    (tmp_path / "credentials").write_text(
        f"[hq]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = {key.secret}\n"
        f"aws_session_token = {key.session_token}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / ("config" if kind == "process" else "none")))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / ("credentials" if kind == "keys" else "none")))
    async with AwsIotTwin(authority, acts_as=443, access_keys=KEYS) as twin:
        it = connector(twin, auth="sigv4", region="eu-west-1", profile="hq")
        await it.open()
        await it.send([out("t")])
        told = {credential.name: credential for credential in it.credentials()}
        if kind == "process":
            assert told["AWS credentials"].expires == datetime(2099, 1, 1, tzinfo=UTC)
            assert told["AWS credentials"].renewed
        await it.close()
        assert len(twin.messages) == 1
        none = connector(twin, auth="sigv4", region="eu-west-1", profile="nobody")
        with pytest.raises(DeliveryError) as caught:
            await none.open()
        assert "credential" in str(caught.value).lower() or "profile" in str(caught.value)
        await none.close()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"secret_access_key": "wrong"}, "SignatureDoesNotMatch"),
        ({"access_key_id": "AKIDOTHER"}, "UnrecognizedClientException"),
        ({"session_token": None}, "session token"),
        ({"region": "us-east-1"}, "scope"),
    ],
)
async def test_a_wrong_signature_is_said_to_be_one(authority, change, why):
    async with AwsIotTwin(authority, acts_as=443, access_keys=KEYS) as twin:
        it = connector(twin, **{**FIXED, **change})
        with pytest.raises(Unauthorised, match="AWS credentials and the region") as caught:
            await it.open()
        assert "region" in it.explain(caught.value)
        await it.close()
    assert any(why in reason for reason in twin.reasons), twin.reasons
    assert "wJalr" not in str(caught.value)


async def test_a_wrong_clock_is_found(authority, monkeypatch):
    monkeypatch.setattr(signing_in, "now", lambda: datetime.now(UTC) + timedelta(minutes=20))
    async with AwsIotTwin(authority, acts_as=443, access_keys=KEYS) as twin:
        it = connector(twin, **FIXED)
        with pytest.raises(Unauthorised) as caught:
            await it.open()
        assert re.search(r"clock of this machine is 1,(199|2\d\d) s ahead", it.explain(caught.value))
        await it.close()
    assert any("not yet current" in reason for reason in twin.reasons)


@pytest.fixture(scope="module")
def authoriser():
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    token = "room 7/+="
    signature = base64.b64encode(key.sign(token.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()
    it = Authoriser(lambda user, password, given: (user, password, given) == ("u", b"p", token), "tk", key.public_key())
    return it, token, signature


@pytest.mark.parametrize("websocket", [False, True])
async def test_custom_authorizer(authority, authoriser, websocket):
    it, token, signature = authoriser
    options = {"auth": "custom", "username": "u", "password": "p", "authorizer": "a z", "websocket": websocket}
    signed = {"token_key": "tk", "token": token, "token_signature": signature}
    async with AwsIotTwin(authority, acts_as=443, authorisers={"a z": it}) as twin:
        good = connector(twin, **options, **signed)
        await good.open()
        await good.send([out("t")])
        await good.close()
        for change in ({"password": "q"}, {"token": "other"}, {"authorizer": "none"}):
            bad = connector(twin, **{**options, **signed, **change, "client_id": f"c-{change}"})
            with pytest.raises(Unauthorised) as caught:
                await bad.open()
            assert "custom authorizer" in bad.explain(caught.value)
            await bad.close()
    assert len(twin.messages) == 1


# -- what is wrong, in words ------------------------------------------------------------------------------------


async def refused(it: AwsIotConnector, kind: type[Exception]) -> tuple[str, str]:
    """What open raises, and the likely cause."""
    with pytest.raises(kind) as caught:
        await it.open()
    await it.close()
    return str(caught.value), it.explain(caught.value) or ""


async def test_an_expired_certificate(authority):
    async with AwsIotTwin(authority) as twin:
        words, cause = await refused(connector(twin, authority.client("d", valid=timedelta(days=-2))), Unauthorised)
    assert "certificate has expired" in words
    assert "expired on" in cause


async def test_a_certificate_of_another_ca(authority, tmp_path):
    async with AwsIotTwin(authority) as twin:
        words, _ = await refused(connector(twin, Authority(tmp_path).client("d")), Unauthorised)
    assert "CA that is not registered" in words


async def test_an_inactive_certificate_and_a_policy_without_connect(authority, pair):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        twin.inactive.add(pair.parsed.serial_number)
        words, cause = await refused(connector(twin, pair), Unauthorised)
        assert "135 not authorized" in words
        assert "not active" in cause
        twin.inactive.clear()
        twin.policy = Policy(_allow("iot:Publish", "*"))
        words, cause = await refused(connector(twin, pair), Unauthorised)
        assert "iot:Connect on client/acme-hq" in cause


async def test_a_server_that_is_not_believed_is_said_at_once(authority, pair, tmp_path):
    other = Authority(tmp_path)
    async with AwsIotTwin(authority) as twin:
        async with asyncio.timeout(10):  # the SDK takes 15 s at least
            words, cause = await refused(connector(twin, pair, ca=other.ca), NotConnected)
        assert "cannot be trusted" in words
        assert "Amazon Root CA 1" in cause


async def test_a_server_name_that_is_not_the_endpoint(authority, pair):
    async with AwsIotTwin(authority, endpoint="other.example") as twin:
        twin._listener.context.load_cert_chain(*authority.server()[:2])  # right, but for another name
        words, cause = await refused(connector(twin, pair, endpoint="localhost"), Unauthorised)
    assert "SNI" in words
    assert "SNI" in cause


async def test_no_server_and_no_name(authority, pair):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair)
    words, _ = await refused(it, NotConnected)
    assert "refuses the connection" in words
    words, _ = await refused(connector(twin, pair, endpoint="nowhere.invalid"), NotConnected)
    assert "cannot be resolved" in words


async def test_files_that_cannot_be_used(authority, pair, tmp_path):
    other = authority.client("other")
    async with AwsIotTwin(authority) as twin:
        words, _ = await refused(connector(twin, pair, private_key=other.private_key), NotConnected)
        assert "KEY_VALUES_MISMATCH" in words
        words, _ = await refused(connector(twin, pair, certificate=tmp_path / "none.pem"), NotConnected)
        assert "No such file" in words
        bad = connector(twin, certificate_pem="certificate", private_key_pem="secret words")
        words, _ = await refused(bad, NotConnected)
        assert "certificate_pem" in words
        assert "secret words" not in words


async def test_the_clock_of_tls(authority, pair):
    old = authority.server(["localhost"], valid=timedelta(days=-1))
    async with AwsIotTwin(authority) as twin:
        twin._listener.context.load_cert_chain(old.certificate, old.private_key)
        words, cause = await refused(connector(twin, pair), NotConnected)
    assert "certificate has expired" in words
    assert "clock of this machine" in cause


async def test_a_client_id_that_is_in_use_and_one_connect_a_second(authority, pair):
    async with AwsIotTwin(authority) as twin:
        first = connector(twin, pair)
        await first.open()
        second = connector(twin, pair)
        twin.last_connect["acme-hq"] = time.monotonic() + 100  # whoever comes now is too early
        words, cause = await refused(second, NotConnected)
        assert "151 quota exceeded" in words
        assert "acme-hq" in cause
        twin.last_connect.clear()
        await second.open()
        with pytest.raises(NotConnected, match="142 session taken over; another client uses the same") as caught:
            await first.lost()
        assert "its own client_id" in first.explain(caught.value)
        await first.close()
        await second.close()


async def test_each_message_behind_one_that_is_not_taken_has_an_error_of_its_own(authority, pair):
    async with AwsIotTwin(authority) as twin:
        twin.refuse_publish = lambda packet: 151
        it = connector(twin, pair)
        await it.open()
        with pytest.raises(PartialDelivery) as caught:
            await it.send([out("t", b"%d" % n) for n in range(4)])
        await it.close()
    behind = [caught.value.failures[n] for n in (1, 2, 3)]
    assert {str(error) for error in behind} == {"an older message of its topic was not taken"}
    assert len({id(error) for error in behind}) == 3  # one that is raised again and again grows by its traceback


async def test_our_own_connects_are_a_second_apart(authority, pair):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair)
        await it.open()
        await it.open()
        await it.close()
        assert len(twin.connects) == 2
        assert "151" not in str(twin.reasons)


def _allow(action, resource) -> dict:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]}


async def test_the_probe_finds_a_policy_without_publish(authority, pair):
    async with AwsIotTwin(authority, policy=_allow("iot:Connect", "*")) as twin:
        it = connector(twin, pair, probe_topic="placeos/probe")
        told: list[str] = []
        it.tell = told.append
        await it.open()
        with pytest.raises(PartialDelivery) as caught:
            await it.probe()
        assert "iot:Publish" in it.explain(caught.value)
        await it.close()
    assert any("CONNECT as acme-hq" in line for line in told)
    assert any("131,072 bytes" in line for line in told)


# -- what IoT Core answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (135, Rejected, "135 not authorized"),
        (144, Rejected, "144 topic name invalid"),
        (149, Rejected, "no name for"),  # in a PUBACK: the SDK says None
        (151, Unavailable, "151 quota exceeded"),
        (128, Unavailable, "128 unspecified"),
    ],
)
async def test_a_refusing_puback_is_no_success(authority, pair, code, kind, words):
    async with AwsIotTwin(authority) as twin:
        twin.refuse_publish = lambda packet: code if packet.payload == b"bad" else None
        it = connector(twin, pair)
        await it.open()
        with pytest.raises(PartialDelivery) as caught:
            await it.send([out("a"), out("b", b"bad"), out("c")])
        await it.close()
    assert list(caught.value.failures) == [1]
    error = caught.value.failures[1]
    assert type(error) is kind
    assert words in str(error)
    assert [m.topic for m in twin.messages] == ["a", "c"]


@pytest.mark.parametrize(
    ("reason", "words"), [(144, "144 topic name invalid"), (149, "149 packet too large"), (None, "broke")]
)
async def test_a_hang_up_says_why_and_is_not_repeated_by_the_sdk(authority, pair, capfd, reason, words):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        twin.hang_up_on = lambda packet: reason if packet.payload == b"poison" else None
        if reason is None:
            twin.hang_up_on = lambda packet: twin.cut() if packet.payload == b"poison" else None
        it = connector(twin, pair)
        await it.open()
        with pytest.raises(PartialDelivery) as caught:
            await it.send([out("a", b"poison"), out("b")])
        assert all(type(error) is NotConnected for error in caught.value.failures.values())
        assert words in str(caught.value.failures[0])
        with pytest.raises(NotConnected, match=words):
            await it.lost()
        if reason == 144:
            await asyncio.sleep(1.3)  # the SDK's own reconnecting would begin after 1 s
        assert len(twin.connects) == 1
        await it.open()
        await it.send([out("c")])
        await it.close()
        assert [m.topic for m in twin.messages][-1] == "c"
        assert len(twin.connects) == 2
    assert capfd.readouterr().err == ""


async def test_a_send_that_is_given_up_leaves_the_sdk_alone(authority, pair, capfd):
    async with AwsIotTwin(authority) as twin:
        twin.delay = 0.3
        it = connector(twin, pair)
        await it.open()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await it.send([out("a"), out("b")])
        await until(lambda: len(twin.messages) == 2)
        await it.send([out("c")])
        await it.close()
    assert [m.topic for m in twin.messages] == ["a", "b", "c"]
    assert capfd.readouterr().err == ""


async def test_no_metrics_in_the_user_name(authority, pair):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair)
        await it.open()
        connect = twin.peers["acme-hq"].connect
        await it.close()
    assert not connect.username
    assert connect.version == 5
    assert connect.clean_start


async def test_a_session_that_is_kept(authority, pair):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        it = connector(twin, pair, session_expiry="1h")
        await it.open()
        assert twin.peers["acme-hq"].connect.properties.session_expiry == 3600
        await it.close()
        await until(lambda: not twin.peers)
        await it.open()
        assert twin.peers["acme-hq"].connack.session_present
        await it.close()


async def test_what_is_never_acknowledged_is_sent_again(authority, pair):
    async with AwsIotTwin(authority) as twin:
        twin.refuse_publish = lambda packet: 0 if packet.payload == b"lost" else None
        it = connector(twin, pair, ack_timeout="1s")
        await it.open()
        task = asyncio.ensure_future(it.send([out("a", b"lost")]))
        while not task.done():
            await it.send([out("b")])
            await asyncio.sleep(0.1)
        with pytest.raises(PartialDelivery) as caught:
            await task
        assert isinstance(caught.value.failures[0], Unavailable)
        assert not isinstance(caught.value.failures[0], NotConnected)
        await it.send([out("a")])  # the connection still stands
        assert len(twin.connects) == 1
        await it.close()


async def test_a_window_filled_by_what_was_discarded_does_not_end_in_silence(authority, pair):
    async with AwsIotTwin(authority, limits=AwsLimits(publishes=2000)) as twin:
        twin.refuse_publish = lambda packet: 0 if packet.payload == b"lost" else None
        it = connector(twin, pair, ack_timeout="1s", messages_per_second=1000)
        await it.open()
        others = asyncio.ensure_future(it.send([out("b")]))
        with pytest.raises(PartialDelivery) as caught:
            await asyncio.gather(it.send([out(f"a/{n}", b"lost") for n in range(60)]), _again(it, "b", 15))
        assert isinstance(caught.value.failures[0], NotConnected)
        assert "frees their places" in str(caught.value.failures[0])
        with pytest.raises(NotConnected):
            await it.lost()
        await others
        await it.close()


async def _again(it: AwsIotConnector, topic: str, times: int) -> None:
    for _ in range(times):
        await it.send([out(topic)])
        await asyncio.sleep(0.05)


async def test_silence_ends_the_connection(authority, pair):
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        it = connector(twin, pair, ack_timeout="1s")
        await it.open()
        twin.stall(on=True)
        with pytest.raises(PartialDelivery) as caught:
            await it.send([out("a"), out("b")])
        assert all(isinstance(error, NotConnected) for error in caught.value.failures.values())
        assert "acknowledged nothing" in str(caught.value.failures[0])
        with pytest.raises(NotConnected):
            await it.lost()
        await it.open()
        await it.send([out("a")])
        await it.close()


async def test_the_limits_are_what_is_announced(authority, pair):
    smaller = AwsLimits(packet=20_000, unacknowledged=7, connects_per_client=0)
    async with AwsIotTwin(authority, limits=smaller) as twin:
        it = connector(twin, pair)
        assert it.limits.max_payload_bytes > 130_000
        await it.open()
        most = it.limits.max_payload_bytes
        assert 19_000 < most < 20_000
        assert it.limits.max_in_flight == 7
        topic = "t" * 100
        await it.send([out(topic, bytes(most - 100), key="k" * 80)])
        with pytest.raises(PartialDelivery) as caught:
            await it.send([out("t", bytes(20_000))])
        assert isinstance(caught.value.failures[0], Rejected)
        twin.delay = 0.2
        await it.send([out(f"t/{n}") for n in range(30)])
        await it.close()
    assert not twin.refused


async def test_basic_ingest(authority, pair):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair, rule="to_storage")
        assert it.limits.retain == "none"
        await it.open()
        await it.send([out("a/b/c/d/e/f/g/" + "h" * 240)])
        await it.close()
    assert twin.messages[0].topic.startswith("$aws/rules/to_storage/a/b/c")


# -- lanes and quotas -------------------------------------------------------------------------------------------


async def test_lanes_keep_each_topic_in_order(authority, pair):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair, connections=3)
        assert it.limits.connections == 3
        await it.open()
        assert sorted(twin.peers) == ["acme-hq-1", "acme-hq-2", "acme-hq-3"]
        assert it.gauges()["lanes_connected"] == 3
        await asyncio.gather(*(it.send([out(f"t/{n}", b"%d" % turn) for n in range(9)]) for turn in range(6)))
        twin.hang_up(client_id="acme-hq-2")
        with pytest.raises(NotConnected):
            await it.lost()
        await it.close()
    for n in range(9):
        assert [m.payload for m in twin.messages if m.topic == f"t/{n}"] == [b"%d" % turn for turn in range(6)]
    assert {m.client_id for m in twin.messages} == {"acme-hq-1", "acme-hq-2", "acme-hq-3"}


@settings(max_examples=examples(40))
@given(st.lists(st.lists(st.sampled_from("abmn"), min_size=1, max_size=4), min_size=2, max_size=5), st.integers(1, 3))
def test_calls_that_overlap_keep_their_order_whatever_is_in_them(calls, count):
    """The engine begins several in one turn: states beside metadata must not be later than states alone."""
    taken = []

    def submit(batch):
        taken.extend(batch)
        return asyncio.sleep(0)

    async def run() -> None:
        quick = {"retained_per_topic": 10_000, "retained_per_second": 0}
        it = AwsIotConnector(ConnectorOptions(**GOOD, **quick), name="aws")
        it._lanes = Lanes([submit] * count)
        numbers = itertools.count()
        async with asyncio.TaskGroup() as tasks:
            for call in calls:
                batch = [out(topic, b"%05d" % next(numbers), retain=topic in "mn") for topic in call]
                tasks.create_task(it.send(batch))

    asyncio.run(run())
    assert len(taken) == sum(map(len, calls))
    for topic in "abmn":
        values = [message.payload for message in taken if message.topic == topic]
        assert values == sorted(values)


@pytest.mark.parametrize("more", [{}, {"shadow": "places"}])
async def test_a_state_beside_metadata_is_not_overtaken_by_the_next(authority, pair, more):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair, **more)
        await it.open()
        await asyncio.gather(it.send([meta("sys-1", b"{}"), out("t", b"1")]), it.send([out("t", b"2")]))
        await it.close()
    assert [message.payload for message in twin.messages if message.topic == "t"] == [b"1", b"2"]


async def test_a_lane_that_is_refused_takes_the_others_down_cleanly(authority, pair):
    clients = [f"arn:aws:iot:eu-west-1:123456789012:client/acme-hq-{n}" for n in (1, 2)]
    async with AwsIotTwin(authority, policy=_allow("iot:Connect", clients)) as twin:
        it = connector(twin, pair, connections=3)
        words, _ = await refused(it, Unauthorised)
        assert "135" in words
        await until(lambda: not twin.peers)


async def test_the_pace_is_kept(authority, pair):
    async with AwsIotTwin(authority, limits=AwsLimits(publishes=100)) as twin:
        it = connector(twin, pair)
        await it.open()
        await it.send([out(f"t/{n}") for n in range(120)])
        await it.send([out("large", bytes(100_000)) for n in range(4)])
        await it.close()
    assert len(twin.messages) == 124
    assert not twin.refused


async def test_the_quota_of_retained_messages_is_kept(authority, pair):
    limits = AwsLimits(retained_per_topic=4)
    async with AwsIotTwin(authority, limits=limits) as twin:
        it = connector(twin, pair, retained_per_topic=4)
        await it.open()
        batches = [
            [
                out("meta/a", b"%d" % n, retain=True, kind="metadata"),
                out("meta/b", b"%d" % n, retain=True),
                out("s", b"%d" % n),
            ]
            for n in range(4)
        ]
        await asyncio.gather(*(it.send(batch) for batch in batches))
        await it.close()
    for topic in ("meta/a", "meta/b", "s"):
        assert [m.payload for m in twin.messages if m.topic == topic] == [b"0", b"1", b"2", b"3"]
    assert twin.retained == {"meta/a": b"3", "meta/b": b"3"}
    assert not twin.refused


async def test_a_quota_that_is_reached_all_the_same_is_no_dead_letter(authority, pair):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair, retained_per_topic=0)
        await it.open()
        with pytest.raises(PartialDelivery) as caught:
            await it.send([out("meta", b"%d" % n, retain=True) for n in range(3)])
        await it.close()
    assert set(map(type, caught.value.failures.values())) == {Unavailable}
    assert "a quota of IoT Core is reached (151 quota exceeded" in str(caught.value.failures[1])


# -- options ----------------------------------------------------------------------------------------------------


GOOD = {"endpoint": "abc-ats.iot.eu-west-1.amazonaws.com", "certificate": "c.pem", "private_key": "k.pem"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"endpoint": "abc.iot.eu-west-1.amazonaws.com"}, "iot:Data-ATS"),
        ({"endpoint": "https://abc-ats.iot.eu-west-1.amazonaws.com"}, "host name alone"),
        ({"endpoint": "10.0.0.7"}, "SNI"),
        ({"private_key": None}, "one pair of the two"),
        ({"certificate_pem": "x", "private_key_pem": "y"}, "one pair of the two"),
        ({"profile": "p"}, 'profile is for auth = "sigv4"'),
        ({"auth": "pkcs11", "private_key": None}, "pkcs11_library"),
        ({"auth": "sigv4"}, "private_key is for auth"),
        ({"auth": "sigv4", "private_key": None}, "certificate is for auth"),
        ({"websocket": True}, "WebSocket"),
        ({"rule": "to-storage"}, "letters, digits"),
        ({"client_id": "$acme"}, "begin with '$'"),
        ({"client_id": "a" * 125}, "at most 124 bytes"),
        ({"proxy": "socks5://h:1"}, "a proxy is"),
        ({"proxy": "http://user:geheim@h"}, "a proxy is"),
        ({"keep_alive": "10s"}, "30 seconds"),
        ({"messages_per_second": 200}, "raise connections instead"),
        ({"shadow": "a/b"}, "letters, digits"),
        ({"shadow_thing": "t"}, "set shadow too"),
    ],
)
def test_what_cannot_work_is_refused_with_the_remedy(change, words):
    options = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(pydantic.ValidationError) as caught:
        ConnectorOptions(**options)
    assert words in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "abc-ats.iot.eu-west-1.amazonaws.com",
        "abc.ats.iot.cn-north-1.amazonaws.com.cn",
        "iot.example.com",
        "vpce-0a1b.data.iot.eu-west-1.vpce.amazonaws.com",
    ],
)
def test_endpoints_that_are_right(endpoint):
    assert ConnectorOptions(**{**GOOD, "endpoint": endpoint}).endpoint == endpoint


def test_ports_and_protocols_are_those_of_the_table():
    def way(**options):
        it = ConnectorOptions(**{"endpoint": GOOD["endpoint"], **options})
        return it.port_in_use, it.alpn_name, it.over_websocket

    x509 = {"certificate": "c", "private_key": "k"}
    assert way(**x509) == (8883, None, False)
    assert way(**x509, port=443) == (443, "x-amzn-mqtt-ca", False)
    assert way(auth="sigv4") == (443, "http/1.1", True)
    assert way(auth="custom") == (443, "mqtt", False)
    assert way(auth="custom", websocket=True) == (443, "http/1.1", True)
    assert ConnectorOptions(endpoint=GOOD["endpoint"], auth="sigv4").signing_region == "eu-west-1"


def test_nothing_secret_is_shown(authority):
    options = ConnectorOptions(
        endpoint=GOOD["endpoint"],
        auth="custom",
        password="geheim",
        token="geheim",
        token_key="k",
        proxy="http://a:geheim@h:1",
    )
    assert "geheim" not in repr(options)


HIERARCHIES = [
    ("org",),
    ("org", "campus", "building"),
    ("org", "building", "level", "area"),
    ("org", "region", "building", "level", "area"),
    ("org", "country", "region", "building", "wing", "level", "area"),
]


def default_template(scheme) -> Template:
    names = (*STATE_NAMES, *scheme.hierarchy[1:])
    return Template(AwsIotConnector.default_topic, names, most_levels=AwsIotConnector.limits.max_topic_levels)


@pytest.mark.parametrize("hierarchy", HIERARCHIES, ids=len)
def test_the_default_topic_is_folded_to_eight_levels_and_back(hierarchy):
    template = default_template(TopicScheme(hierarchy=hierarchy))
    assert template.reversible
    assert template.text.count("/") <= 7


def test_the_first_zones_share_a_level_so_that_the_others_keep_theirs():
    text = default_template(TopicScheme(hierarchy=HIERARCHIES[3])).text
    assert text == "{root}/{org}/state/{region}.{building}/{level}/{area}/{system}/{driver}.{module}.{index}.{state}"


@given(
    st.sampled_from(HIERARCHIES),
    st.lists(st.text(max_size=20), min_size=10, max_size=10),
    st.lists(st.none() | st.text(min_size=1, max_size=20), min_size=6, max_size=6),
    st.integers(1, 10_000),
)
@example(HIERARCHIES[3], ["o", "s.", "d", "m", "x"], ["_", None, "a.b", None, None, None], 1)
def test_whatever_is_sent_is_within_the_limits_and_can_be_undone(hierarchy, texts, zones, index):
    scheme = TopicScheme(hierarchy=hierarchy)
    levels = hierarchy[1:]
    try:
        topic = scheme.state_topic(texts[0], tuple(zones[: len(levels)]), *texts[1:4], index, texts[4])
    except EventRefused:
        return
    made = AwsIotConnector(ConnectorOptions(**GOOD), name="aws")
    shaper = Shaper.of(made, EveryConnector(), scheme, made.limits)
    try:
        shaped = shaper.shape(Message(topic, b"{}", "state", 1, True), 1)
    except Rejected:
        assert len(topic.encode()) + 2 * topic.count(".") > 256  # folding makes nothing longer but a '.' in a value
        return
    assert shaped.topic.count("/") <= 7
    assert len(shaped.topic.encode()) <= 256
    assert not shaped.retain
    plain = default_template(scheme).inverse(shaped.topic)
    again = scheme.state_topic(
        plain["org"], tuple(plain[level] for level in levels), plain["system"], plain["driver"],
        plain["module"], int(plain["index"]), plain["state"],
    )  # fmt: skip
    assert again == topic


async def test_a_quota_never_holds_a_send_for_longer_than_the_engine_waits(authority, pair):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair, retained_per_topic=0.02)  # one in 50 s
        await it.open()
        with pytest.raises(PartialDelivery) as caught:
            async with asyncio.timeout(5):
                await it.send([out("meta", b"%d" % n, retain=True, kind="metadata") for n in range(3)][1:] * 2)
        assert all("retained topic" in str(error) for error in caught.value.failures.values())
        await it.close()


async def test_the_certificate_is_told_and_its_files_are_watched(authority, pair):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair)
        (credential,) = it.credentials()
    assert credential.expires == pair.parsed.not_valid_after_utc
    assert set(credential.files) == {pair.certificate, pair.private_key, authority.ca}
    text = connector(twin, certificate_pem=pair.certificate.read_text(), private_key_pem="x")
    assert text.credentials()[0].expires == pair.parsed.not_valid_after_utc


# -- shadows ----------------------------------------------------------------------------------------------------


def meta(id_: str, payload: bytes) -> Outgoing:
    topic = f"placeos/org-acme/metadata/{id_}"
    return Outgoing(topic, payload, "metadata", 1, True, topic, f"store-{id_}")


async def test_metadata_as_reported_state(authority, pair):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair, shadow="places", shadow_thing="hq")
        await it.open()
        await it.send([meta("sys-1", b'{"name":"One","at":{"x":1,"y":2}}'), meta("sys-2", b'{"name":"Two"}'), out("t")])
        await it.send([meta("sys-1", b'{"name":"One","at":{"y":3}}'), meta("sys-2", b"")])
        await it.close()
    assert twin.shadows.documents == {("hq", "places"): {"reported": {"sys-1": {"name": "One", "at": {"y": 3}}}}}
    assert not twin.retained
    assert not twin.refused
    assert [m.topic for m in twin.messages if not m.topic.startswith("$aws/")] == ["t"]


def shadow_updates(twin) -> list[object]:
    """What was told, in order."""
    return [json.loads(m.payload)["state"]["reported"] for m in twin.messages if m.topic.endswith("/update")]


async def test_a_key_that_is_gone_is_told_as_null_beside_the_others(authority, pair):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair, shadow="places", shadow_thing="hq")
        await it.open()
        told = ['{"a":1,"at":{"x":1,"y":{"z":2}},"b":[1]}', '{"at":{"y":3},"b":{"c":1}}', '{"at":4}', "", '{"a":5}']
        for text in told:
            await it.send([meta("s", text.encode())])
        await it.close()
    assert [update["s"] for update in shadow_updates(twin)] == [
        None,  # what an earlier process has told is not known
        {"a": 1, "at": {"x": 1, "y": {"z": 2}}, "b": [1]},
        {"a": None, "at": {"x": None, "y": 3}, "b": {"c": 1}},
        {"at": 4, "b": None},
        None,
        {"a": 5},
    ]
    assert twin.shadows.documents["hq", "places"] == {"reported": {"s": {"a": 5}}}


documents = st.recursive(
    st.integers(0, 3), lambda parts: st.dictionaries(st.sampled_from("abc"), parts, min_size=1), max_leaves=8
)


@settings(max_examples=examples(60))
@given(st.lists(st.dictionaries(st.sampled_from("abc"), documents, max_size=3), min_size=1, max_size=6))
def test_a_shadow_becomes_what_it_is_told_whatever_it_was(entities):
    async def run() -> None:
        shadows = Shadows(AwsLimits())
        shadow = Shadow("classic", "hq", seconds=1, rate=0)

        async def publish(topic: str, payload: bytes) -> None:
            answer = shadows.ask("hq", None, "update", payload)
            shadow.heard(f"{topic}/accepted", answer.body)

        for entity in entities:
            await shadow.send([meta("s", json.dumps(entity).encode())], publish)
            assert shadows.documents["hq", None]["reported"].get("s", {}) == entity

    asyncio.run(run())


async def test_metadata_that_is_too_large_leaves_what_is_there_alone(authority, pair):
    good = b'{"name":"good","old":1}'
    async with AwsIotTwin(authority, limits=QUICK) as twin:
        for payload in (good, None):  # None: an earlier process has told it
            it = connector(twin, pair, shadow="places", shadow_thing="hq")
            await it.open()
            if payload:
                await it.send([meta("s", payload)])
            with pytest.raises(PartialDelivery):
                await it.send([meta("s", b'{"name":"%s"}' % (b"n" * 9000))])
            assert twin.shadows.documents["hq", "places"] == {"reported": {"s": json.loads(good)}}
            await it.close()


async def test_an_answer_to_somebody_else_is_none_to_us(authority, pair):
    async with AwsIotTwin(authority) as twin:
        twin.delay = 0.05
        its = [connector(twin, pair, client_id=name, shadow="places", shadow_thing="hq") for name in ("one", "two")]
        for it in its:
            await it.open()
        large = b'{"name":"%s"}' % (b"n" * 5000)
        results = await asyncio.gather(
            its[0].send([meta("a", large)]), its[1].send([meta("b", large)]), return_exceptions=True
        )
        for it in its:
            await it.close()
    kept = twin.shadows.documents["hq", "places"]["reported"]
    assert [name in kept for name in "ab"] == [result is None for result in results]


@pytest.mark.parametrize("tight", [False, True])
async def test_nothing_is_received_but_answers(authority, pair, tight):
    """And a policy for the two is enough."""
    topic, arn = "$aws/things/hq/shadow/name/places/update", "arn:aws:iot:eu-west-1:123456789012:"
    answers = {
        f"iot:{action}": [f"{arn}{what}/{topic}/{word}" for word in ("accepted", "rejected")]
        for action, what in (("Subscribe", "topicfilter"), ("Receive", "topic"))
    }
    allowed = {"iot:Connect": "*", "iot:Publish": f"{arn}topic/{topic}", **(answers if tight else {"iot:*": "*"})}
    statements = [{"Effect": "Allow", "Action": action, "Resource": on} for action, on in allowed.items()]
    async with AwsIotTwin(authority, policy={"Version": "2012-10-17", "Statement": statements}) as twin:
        it = connector(twin, pair, shadow="places", shadow_thing="hq")
        heard = []
        take = it._shadow.heard
        it._shadow.heard = lambda topic, payload: (heard.append(topic.rpartition("/")[2]), take(topic, payload))
        await it.open()
        for n in range(3):
            await it.send([meta("s", b'{"n":%d}' % n)])
        with pytest.raises(PartialDelivery):
            await it.send([meta("s", b'{"n":{"n":{"n":{"n":{"n":{"n":{"n":{"n":1}}}}}}}}')])
        await it.close()
    assert heard == ["accepted"] * 4 + ["rejected"]


@pytest.mark.parametrize("rate", [100, 10])
def test_requests_to_a_shadow_and_their_answers_are_part_of_what_a_connection_may_carry(rate):
    plain = ConnectorOptions(**GOOD, messages_per_second=rate)
    options = ConnectorOptions(**GOOD, messages_per_second=rate, shadow="places")
    assert (shadow_rate(plain), limits_of(plain).messages_per_second) == (0, rate)
    assert (shadow_rate(options), limits_of(options).messages_per_second) == (0.2 * rate, 0.6 * rate)


async def test_a_thing_for_each_entity(authority, pair):
    async with AwsIotTwin(authority) as twin:
        it = connector(twin, pair, shadow="classic", shadow_thing="{org}-{id}")
        await it.open()
        await it.send([meta(f"sys-{n}", b'{"name":"%d"}' % n) for n in range(15)])
        await it.close()
    assert not twin.refused
    assert len(twin.shadows.documents) == 15
    assert not it._shadow._things, "things are remembered for ever"
    assert twin.shadows.documents["org-acme-sys-3", None] == {"reported": {"name": "3"}}


async def test_the_bounds_of_a_shadow_are_kept_and_its_refusals_told(authority, pair):
    async with AwsIotTwin(authority, limits=AwsLimits(shadow_in_flight=10)) as twin:
        twin.delay = 0.05
        it = connector(twin, pair, shadow="classic")
        await it.open()
        many = [meta(f"s{n}", b'{"name":"%s"}' % (b"n" * 600)) for n in range(14)]
        with pytest.raises(PartialDelivery) as caught:
            await it.send([*many, meta("large", b'{"name":"%s"}' % (b"n" * 9000)), meta("list", b"[]")])
        words = [str(error) for error in caught.value.failures.values()]
        assert {type(error) for error in caught.value.failures.values()} == {Rejected}
        assert any("413" in word for word in words), words
        assert "a shadow takes 8,192" in str(caught.value.failures[14])
        assert "not a JSON object" in str(caught.value.failures[15])
        assert "429" not in str(words)
        await it.close()
    assert len(twin.shadows.documents["acme-hq", None]["reported"]) == 14 - len(words) + 2


async def test_a_shadow_that_does_not_answer_and_one_that_may_not_be_heard(authority, pair):
    policy = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["iot:Connect", "iot:Publish", "iot:Subscribe"], "Resource": "*"}]}  # fmt: skip
    async with AwsIotTwin(authority, limits=QUICK, policy=policy) as twin:  # iot:Receive is missing
        it = connector(twin, pair, shadow="classic", ack_timeout="1s")
        await it.open()
        with pytest.raises(PartialDelivery) as caught:
            await it.send([meta("a", b"{}")])
        assert type(caught.value.failures[0]) is Unavailable
        await it.close()
        twin.policy = Policy(_allow(["iot:Connect", "iot:Publish"], "*"))
        with pytest.raises(Unauthorised, match="refuses the subscription"):
            await it.open()
        await it.close()
