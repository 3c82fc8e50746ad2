"""Presets: what each sets and refuses, and that nothing it shapes is refused by the provider or lost on the way."""

from __future__ import annotations

import functools
import re
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from tests.support.mosquitto import Mosquitto
from tests.support.service import until
from tests.support.subscriber import Subscriber

from northbound import Rejected
from northbound.config import ConnectorOptions as CommonOptions
from northbound.errors import ConfigurationError
from northbound.loading import load_text
from northbound.message import Address, Message
from northbound.registry import Registry
from northbound.shaping import STATE_NAMES, Shaper, Template
from northbound.topics import MAX_INDEX, TopicScheme, unescape
from northbound_mqtt import ConnectorOptions, MqttConnector, SourceOptions
from northbound_mqtt.presets import PRESETS, SOURCES

REGISTRY = Registry()
LOGIN = {"username": "u", "password": "p", "client_id": "c"}
HOSTS = {
    "hivemq-cloud": "abc123.s1.eu.hivemq.cloud",
    "emqx-serverless": "abc123.ala.eu-central-1.emqxsl.com",
    "myqtthub": "node02.myqtthub.com",
    "cloudmqtt": "m10.cloudmqtt.com",
    "heroku-cloudmqtt": "m10.cloudmqtt.com",
    "azure-event-grid": "acme.westeurope-1.ts.eventgrid.azure.net",
}
SCHEMES = [TopicScheme(), TopicScheme("placeos", ("org", "region", "building", "level", "area"))]


def options(preset, **more):
    return ConnectorOptions(**{"preset": preset, "url": HOSTS.get(preset, "broker"), **LOGIN, **more})


def made(preset, **more):
    return MqttConnector(options(preset, **more), name="out")


# -- what a provider refuses, written down a second time and apart from the presets -----------------------


def refusals(levels=None, size=65_535, forbidden=""):
    def refused(topic):
        if levels is not None and topic.count("/") >= levels:
            return f"more than {levels} levels"
        if len(topic.encode()) > size:
            return f"more than {size} bytes"
        found = set(topic) & {*forbidden, *"+#\0"}
        return f"holds {found}" if found or topic.startswith("$") else None

    return refused


REFUSES = {
    "mosquitto": refusals(levels=201),
    "hivemq": refusals(),
    "hivemq-cloud": refusals(),
    "emqx": refusals(levels=128),
    "emqx-serverless": refusals(levels=10),
    "myqtthub": refusals(),
    "cloudmqtt": refusals(),
    "heroku-cloudmqtt": refusals(),
    "azure-event-grid": refusals(levels=15, size=256),
    "rabbitmq": refusals(size=255, forbidden=".*"),
    "nats": refusals(forbidden=" .\t\n\r\f\x7f"),
}


def through_rabbitmq(topic):
    """The way to another MQTT client: a routing key of AMQP, and back (rabbit_mqtt_util.erl)."""
    key = topic.replace("/", ".").replace("+", "*")
    return key.replace("*", "+").replace(".", "/")


def through_nats(topic):
    """The way to another MQTT client: a subject, and back (mqtt.go), for topics without '.'."""
    return ".".join(level or "/" for level in topic.split("/")).replace(".", "/")


ARRIVES = {"rabbitmq": through_rabbitmq, "nats": through_nats}

AWKWARD = ("_", "%", "%2E", ".", "*", " ", "/", "+", "#", "\0", "\x7f", "\t", "é", "😀", "$", "a", "B7", "-")
name = (
    st.lists(st.sampled_from(AWKWARD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), min_size=1)
    .map("".join)
    .filter(bool)
)
plain_name = st.text("abcdefghij0123456789-", min_size=1, max_size=12)


def addresses(names, zones):
    zone = st.tuples(*[st.none() | names] * zones)
    return st.builds(Address, names, zone, names, names, names, st.integers(1, MAX_INDEX), names)


@functools.lru_cache
def shaper_of(preset, scheme):
    connector = made(preset)
    return connector, Shaper.of(connector, CommonOptions(), scheme, connector.limits)


def topic_of(scheme, a):
    return scheme.state_topic(a.org, a.zones, a.system, a.driver, a.module, a.index, a.state)


def back(connector, scheme, topic):
    """What the documentation tells a consumer to do with a topic."""
    names = (*STATE_NAMES, *scheme.hierarchy[1:])
    if connector.default_topic is not None:
        return Template(connector.default_topic, names, connector.limits.escaped).inverse(topic)
    levels = topic.split("/")
    fields = ("root", "org", "", *scheme.hierarchy[1:], "system", "driver", "module", "index", "state")
    values = dict(zip(fields, levels, strict=True))
    zones = scheme.hierarchy[1:]
    found = {field: None if field in zones and text == "_" else unescape(text) for field, text in values.items()}
    found.pop("")
    return found


def values(scheme, a):
    zones = dict(zip(scheme.hierarchy[1:], a.zones, strict=True))
    return {"root": "placeos", **zones} | {f: str(getattr(a, f)) for f in STATE_NAMES[1:]}


@pytest.mark.parametrize("scheme", SCHEMES, ids=["documented", "placeos"])
@pytest.mark.parametrize("preset", PRESETS)
@given(st.data())
@settings(max_examples=examples(20))
def test_no_address_is_refused_by_the_provider_or_lost_on_the_way(preset, scheme, data):
    address = data.draw(addresses(name, len(scheme.hierarchy) - 1))
    connector, shaper = shaper_of(preset, scheme)
    try:
        outgoing = shaper.shape(Message(topic_of(scheme, address), b"1", "state", 5, True), 1)
    except Rejected:  # only for its length, which nothing can mend
        wanted = topic_of(scheme, address)
        for character in connector.limits.escaped:
            wanted = wanted.replace(character, f"%{ord(character):02X}")
        assert preset in {"rabbitmq", "azure-event-grid"}
        assert "bytes" in str(REFUSES[preset](wanted))
        return
    assert REFUSES[preset](outgoing.topic) is None
    arrived = ARRIVES.get(preset, str)(outgoing.topic)
    assert back(connector, scheme, arrived) == values(scheme, address)


@pytest.mark.parametrize("scheme", SCHEMES, ids=["documented", "placeos"])
@pytest.mark.parametrize("preset", PRESETS)
@given(st.data())
@settings(max_examples=examples(8))
def test_what_a_building_names_its_things_is_never_set_aside(preset, scheme, data):
    address = data.draw(addresses(plain_name, len(scheme.hierarchy) - 1))
    _, shaper = shaper_of(preset, scheme)
    shaper.shape(Message(topic_of(scheme, address), b"1", "state", 5, True), 1)
    shaper.shape(Message(scheme.metadata_topic(address.org, address.system), b"{}", "metadata", 5, True), 1)


@pytest.mark.parametrize("preset", PRESETS)
def test_no_payload_is_larger_than_the_provider_takes(preset):
    connector, shaper = shaper_of(preset, SCHEMES[0])
    most = connector.limits.max_payload_bytes
    if most is None:
        return
    topic = "placeos/o/state/_/_/_/s/d/m/1/x"
    assert PRESETS[preset].limits["max_payload_bytes"] - most in {0, 256}
    if most < 10_000_000:
        with pytest.raises(Rejected, match=r"the destination takes"):
            shaper.shape(Message(topic, bytes(most + 1), "state", 5, True), 1)


# -- what each sets ---------------------------------------------------------------------------------------------------


def test_every_source_of_a_fact_is_named():
    text = (REGISTRY.find("connector", "mqtt").implementation.__module__).partition(".")[0]
    source = resources.files(text).joinpath("presets.py").read_text()
    body = source.partition("PRESETS: Final")[2]
    cited = re.findall(r"#\s*(?:unconfirmed: )?([a-z-]+)(?=[:,]|$)", body, re.MULTILINE)
    assert {word for word in cited if word not in {"unconfirmed"} | SOURCES.keys()} <= {"one", "the"}
    for number in re.findall(r'"(?:max|messages|bytes|batch|keep)[a-z_]*": .*', body):
        assert "#" in number or "payload_counts" in number or re.search(r'"(max_qos|batches_in_flight)"', number), (
            number
        )


def test_the_schema_lists_the_presets():
    schema = REGISTRY.find("connector", "mqtt").model.model_json_schema()
    assert schema["properties"]["preset"]["anyOf"][0]["enum"] == [*PRESETS]
    assert "url" not in schema.get("required", [])
    assert [*MqttConnector.presets] == [*PRESETS]


@pytest.mark.parametrize(
    ("preset", "url", "where"),
    [
        ("hivemq-cloud", "abc.s1.eu.hivemq.cloud", "mqtts://abc.s1.eu.hivemq.cloud:8883"),
        ("hivemq-cloud", "wss://abc.s1.eu.hivemq.cloud", "wss://abc.s1.eu.hivemq.cloud:8884/mqtt"),
        ("emqx-serverless", "x.emqxsl.com", "mqtts://x.emqxsl.com:8883"),
        ("emqx", "ws://h", "ws://h:8083/mqtt"),
        ("emqx", "h:1", "mqtt://h:1"),
        ("hivemq", "ws://h", "ws://h:8000/mqtt"),
        ("rabbitmq", "wss://h/ws", "wss://h:15676/ws"),
        ("myqtthub", "node02.myqtthub.com", "mqtts://node02.myqtthub.com:8883"),
        ("myqtthub", "mqtt://node02.myqtthub.com", "mqtt://node02.myqtthub.com:1883"),
        ("azure-event-grid", "wss://n.r.ts.eventgrid.azure.net", "wss://n.r.ts.eventgrid.azure.net:443/mqtt"),
        ("cloudmqtt", "mqtt://u:p@m10.cloudmqtt.com:12345/topic", "mqtt://m10.cloudmqtt.com:12345"),
        ("nats", "h", "mqtt://h:1883"),
    ],
)
def test_hosts_and_ports(preset, url, where):
    assert made(preset, url=url).destination == where


def test_versions_rates_windows_and_what_is_retained():
    assert options("nats").protocol == "3.1.1"
    assert options("nats", version="auto").protocol == "auto"
    assert options("mosquitto").protocol == "auto"
    serverless = made("emqx-serverless")
    assert serverless.limits.messages_per_second == 10
    assert serverless.retained_kinds == {"metadata"}
    assert made("mosquitto").retained_kinds == {"state", "metadata"}
    grid = made("azure-event-grid").limits
    assert (grid.keep_alive, grid.batches_in_flight, grid.bytes_per_second, grid.max_qos) == ((1, 1160), 1, 1e6, 1)
    assert MqttConnector.limits.max_qos == 2


def test_limits_of_a_preset_can_be_replaced_either_way():
    looser = made("emqx-serverless", preset_limits={"messages_per_second": 500, "max_topic_levels": "none"})
    assert looser.limits.messages_per_second == 500
    assert looser.limits.max_topic_levels is None
    assert looser.limits.max_payload_bytes == 1_048_576 - 256
    stricter = made("mosquitto", preset_limits={"max_payload_bytes": "1 KiB", "max_in_flight": 1})
    assert stricter.limits.max_payload_bytes == 1024 - 256
    assert stricter.limits.max_in_flight == 1
    grid = made("azure-event-grid", preset_limits={"max_topic_levels": 8})
    assert grid.limits.max_topic_levels == 8


def test_the_url_from_the_environment(monkeypatch):
    text = '[site]\norg="o"\n[sources.in]\ntype="jsonl"\npath="-"\n[connectors.out]\ntype="mqtt"\npreset="{}"\n'
    for preset in ("cloudmqtt", "heroku-cloudmqtt"):
        monkeypatch.delenv("CLOUDMQTT_URL", raising=False)
        with pytest.raises(ConfigurationError, match="CLOUDMQTT_URL is not set"):
            load_text(text.format(preset), REGISTRY)
        monkeypatch.setenv("CLOUDMQTT_URL", "mqtt://usr:hunter2@m10.cloudmqtt.com:12345")
        connector = load_text(text.format(preset), REGISTRY).connectors[0]
        assert connector.create().destination == "mqtt://m10.cloudmqtt.com:12345"
        assert connector.options.login(connector.options.address) == ("usr", "hunter2")
        assert "hunter2" not in repr(connector.options)
        monkeypatch.setenv("CLOUDMQTT_URL", "mqtt://usr:hunter2@m10.cloudmqtt.com:12345x")
        with pytest.raises(ConfigurationError, match="the port is not a number") as caught:
            load_text(text.format(preset), REGISTRY)
        assert "hunter2" not in str(caught.value)


# -- what each refuses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "changes", "words"),
    [
        ("hivemq-cloud", {"url": "mqtt://x.hivemq.cloud"}, "hivemq-cloud takes mqtts:// or wss://"),
        ("hivemq-cloud", {"url": "10.0.0.1"}, r"tells its customers apart by the host's name \(SNI\)"),
        ("hivemq-cloud", {"password": None}, "wants username and password: password is missing"),
        ("emqx-serverless", {"url": "ws://x.emqxsl.com"}, "takes mqtts:// or wss://"),
        ("emqx-serverless", {"username": None, "password": None}, "username and password is missing"),
        ("emqx-serverless", {"client_id": "é" * 513}, "client ids of 1,024 bytes at most"),
        ("myqtthub", {"client_id": None}, "wants client_id and username and password: client_id is missing"),
        ("myqtthub", {"url": "ws://node02.myqtthub.com"}, "takes mqtts:// or mqtt://"),
        ("azure-event-grid", {"client_id": None}, "client_id is missing"),
        ("azure-event-grid", {"qos": 2}, "takes a qos of 1 at most"),
        ("azure-event-grid", {"keep_alive": 1200}, "keep_alive of 1 to 1160 seconds"),
        ("azure-event-grid", {"keep_alive": 0}, "keep_alive of 1 to 1160 seconds"),
        ("azure-event-grid", {"url": "10.0.0.1"}, "SNI"),
        ("rabbitmq", {"qos": 2}, "takes a qos of 1 at most"),
        ("emqx-serverless", {"availability_topic": "a/b/c/d/e/f/g/h/i/j/k"}, "more than 10 levels"),
        ("rabbitmq", {"availability_topic": "a.b/status"}, r"rabbitmq does not take '\.' in the availability_topic"),
        ("nats", {"availability_topic": "a b"}, "nats does not take ' ' in the availability_topic"),
        ("azure-event-grid", {"availability_topic": "x" * 257}, "more than 256 bytes"),
        ("acme-cloud", {}, "preset"),
        ("mosquitto", {"preset_limits": {"max_topic_levels": 0}}, "greater than 0"),
        ("mosquitto", {"preset_limits": {"max_topics": 1}}, "max_topics"),
        ("mosquitto", {"url": ["mqtt://a", "mqtts://b"]}, "with TLS, or without"),
        ("mosquitto", {"url": []}, "url"),
        ("mosquitto", {"proxy": "ftp://x"}, "a proxy's URL begins with"),
        ("mosquitto", {"url": "mqtts://x", "pin": ["sha256:1"]}, "a pin is"),
        ("mosquitto", {"url": "mqtt://x", "pin": ["sha256:" + "0" * 64]}, "pin is for TLS"),
    ],
)
def test_what_the_provider_would_refuse_is_refused(preset, changes, words):
    with pytest.raises(ValueError, match=words):
        options(preset, **changes)


def test_subscriptions_that_the_provider_would_refuse_are_refused():
    base = {"preset": "emqx-serverless", "url": HOSTS["emqx-serverless"], **LOGIN}
    ten = [{"topic": f"a/{n}/{{module}}", "system": "s"} for n in range(10)]
    assert SourceOptions(**base, map=ten)
    with pytest.raises(ValueError, match="10 subscriptions from one client: map has 11 topics"):
        SourceOptions(**base, map=[*ten, {"topic": "b/{module}", "system": "s"}])
    deep = {"topic": "a/b/c/d/e/f/g/h/i/j/{module}", "system": "s"}
    with pytest.raises(ValueError, match="subscriptions of 10 levels"):
        SourceOptions(**base, map=[deep])
    assert SourceOptions(**{**base, "preset": "mosquitto"}, map=[deep])


def test_a_name_for_sni_stands_in_for_the_host():
    assert made("hivemq-cloud", url="mqtts://10.0.0.1", server_name="x.hivemq.cloud").destination
    assert made("azure-event-grid", url="mqtts://[::1]", server_name="x").destination


@pytest.mark.parametrize(
    ("preset", "template", "words"),
    [
        ("emqx-serverless", "{topic}", "topics of 11 levels: the destination takes 10"),
        (
            "rabbitmq",
            "{org}/{system}/{driver}.{module}.{index}/{state}",
            "holds '.', which the destination does not take",
        ),
    ],
)
def test_a_template_that_does_not_fit_the_preset_is_a_problem(preset, template, words):
    login = "".join(f'{key}="{value}"\n' for key, value in LOGIN.items())
    host = HOSTS.get(preset, "broker")
    text = (
        f'[sources.in]\ntype="jsonl"\npath="-"\n[connectors.out]\ntype="mqtt"\npreset="{preset}"\nurl="{host}"\n{login}'
    )
    load_text(text, REGISTRY)
    with pytest.raises(ConfigurationError) as caught:
        load_text(f"{text}topic='{template}'\n", REGISTRY)
    (problem,) = caught.value.problems
    assert problem.key == "connectors.out.topic"
    assert words in problem.message


# -- what deserves a look --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "changes", "key", "words"),
    [
        ("cloudmqtt", {}, "preset", "CloudMQTT ended on 2025-01-27"),
        ("heroku-cloudmqtt", {}, "preset", "CloudMQTT ended on 2025-01-27, and Heroku's add-on with it"),
        ("hivemq-cloud", {"url": "broker.acme.com"}, "url", "broker.acme.com is no host of hivemq-cloud"),
        ("emqx-serverless", {}, "preset", "takes 10 messages a second from one client"),
        ("mosquitto", {"preset_limits": {"max_topic_levels": 500}}, "preset_limits.max_topic_levels", "more than"),
        ("mosquitto", {"url": "mqtt://broker.acme.com"}, "url", "the password travels to broker.acme.com unencrypted"),
        ("mosquitto", {"url": "mqtts://x", "verify": False}, "verify", "any certificate is believed"),
        ("myqtthub", {"url": "mqtt://node02.myqtthub.com"}, "client_id", "names no domain"),
    ],
)
def test_warnings(preset, changes, key, words):
    found = {where: (what, remedy) for where, what, remedy in made(preset, **changes).warnings()}
    assert words in found[key][0]
    assert found[key][1]
    if preset.endswith("cloudmqtt"):
        for living in ("hivemq-cloud", "emqx-serverless", "myqtthub"):
            assert living in found[key][1]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_sound_configuration_of_a_living_provider_is_not_frowned_at(preset):
    found = made(preset, url=f"mqtts://{HOSTS.get(preset, 'broker')}", client_id="c@acme.example").warnings()
    alive = {key: what for key, what, _ in found if preset not in {"cloudmqtt", "heroku-cloudmqtt", "emqx-serverless"}}
    assert not alive
    assert not MqttConnector(ConnectorOptions(url="mqtt://u:p@localhost"), name="x").warnings()
    pinned = options("mosquitto", url="mqtts://x", verify=False, pin=["sha256:" + "0" * 64])
    assert not MqttConnector(pinned, name="x").warnings()


# -- on a real broker ------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["mosquitto", "hivemq", "emqx", "rabbitmq", "nats"])
async def test_a_preset_delivers_and_asks_for_no_more_than_its_window(tmp_path, preset):
    scheme, address = SCHEMES[0], Address("o.o", ("b 1", None, "*"), "s", "d", "M.x", 1, "zone-1:a/b")
    with Mosquitto(tmp_path) as broker, Subscriber(broker.port) as seen:
        connector = made(preset, url=f"127.0.0.1:{broker.port}")
        await connector.open()
        try:
            assert connector.limits.max_in_flight <= PRESETS[preset].limits.get("max_in_flight", 65_535)
            assert connector._client._options.version == (4 if preset == "nats" else 5)
            shaper = Shaper.of(connector, CommonOptions(), scheme, connector.limits)
            await connector.send([shaper.shape(Message(topic_of(scheme, address), b"1", "state", 5, True), 1)])
        finally:
            await connector.close()
        until(lambda: seen.arrived, what="it never arrived")
        assert back(connector, scheme, seen.arrived[0].topic) == values(scheme, address)
