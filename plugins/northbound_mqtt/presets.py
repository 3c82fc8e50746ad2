"""What each provider of generic MQTT asks for and refuses, as data. Nothing here is code but the table's own types.

Behind each fact stands its source, of ``SOURCES``. What is only known from hearsay, or from an old page, is named in
``unconfirmed``. Every limit can be replaced in the configuration (``preset_limits``), since plans and pages change;
what a broker of version 5 says on connecting narrows it further.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from msgspec import Struct

from northbound.mqtt import Scheme

Name = Literal[
    "mosquitto",
    "hivemq",
    "hivemq-cloud",
    "emqx",
    "emqx-serverless",
    "myqtthub",
    "cloudmqtt",
    "heroku-cloudmqtt",
    "azure-event-grid",
    "rabbitmq",
    "nats",
]
Version = Literal["auto", "3.1", "3.1.1", "5"]
Needed = Literal["client_id", "username", "password"]

#: Where the facts stand. ``measured`` is a run on one machine against that broker.
SOURCES: Final[Mapping[str, str]] = {
    "measured": "a run against Mosquitto 2.0.11",
    "hivemq": "docs.hivemq.com/hivemq-edge/mqtt-specific-configuration.html",
    "hivemq-cloud": "community.hivemq.com/t/frequently-asked-questions-hivemq-cloud/514; wolfSSL/wolfMQTT#222 (2021)",
    "hivemq-sni": "cniles/picow-iot#6, zimbora/esp32-BG95#6: without SNI the broker answers 'not authorised'",
    "emqx": "docs.emqx.com/en/emqx/latest/guides/configuration/mqtt.md",
    "emqx-serverless": "docs.emqx.com/ja/cloud/latest/create/restriction.html",
    "myqtthub": "ASPLes/myqtt, server/myqttd-domain.c:333-480 (2018); ASPLes/MyQttHub, python/myqtthub.py",
    "cloudmqtt": "cloudmqtt.com/blog/end-of-life-announcement.html, quoted in comuREDE/core#18",
    "event-grid-limits": "learn.microsoft.com/azure/event-grid/quotas-limits",
    "event-grid-mqtt": "learn.microsoft.com/azure/event-grid/mqtt-support",
    "event-grid-retain": "learn.microsoft.com/azure/event-grid/mqtt-retain",
    "rabbitmq": "rabbitmq.com/docs/mqtt",
    "rabbitmq-topics": "deps/rabbitmq_mqtt/src/rabbit_mqtt_util.erl ('.' ↔ '/', '*' ↔ '+'), and a run against 3.10.8: "
    "'a.b' arrives as 'a/b'; a subscriber to whom 'a*b' comes as 'a+b' has to hang up",
    "rabbitmq-key": "a routing key of AMQP 0-9-1 has 255 bytes; between MQTT clients 3.10.8 takes more",
    "nats": "docs.nats.io/nats-server/configuration/mqtt, docs.nats.io/learn/mqtt/where-next",
    "nats-topics": "a run against nats-server 2.9.10: it hangs up on ' ' and '.'; since 2.10 it takes '.', as '//'",
}

_EVERYWHERE: Final[tuple[Scheme, ...]] = ("mqtt", "mqtts", "ws", "wss")
_TLS: Final[tuple[Scheme, ...]] = ("mqtts", "wss")
_METADATA: Final[frozenset[Literal["state", "metadata"]]] = frozenset(("metadata",))


class Preset(Struct, frozen=True, kw_only=True):
    """One provider.

    ``schemes`` are those it takes; the first is what a host without a scheme means. ``ports`` are those that differ
    from the protocol's own. ``hosts`` is a pattern of the host, ``form`` an example of one. ``limits`` are fields of
    ``northbound.Limits``. ``topic`` is the template where the configuration names none, ``retained`` the kinds that
    are retained where it does not say. ``subscriptions`` is how many one client may have. ``variable`` is where the
    URL stands if the configuration has none.
    """

    about: str
    schemes: tuple[Scheme, ...] = _EVERYWHERE
    ports: Mapping[Scheme, int] = {}
    hosts: str | None = None
    form: str = ""
    sni: bool = False
    needs: tuple[Needed, ...] = ()
    version: Version = "auto"
    client_id_bytes: int = 65_535
    subscriptions: int | None = None
    limits: Mapping[str, Any] = {}
    unconfirmed: frozenset[str] = frozenset()
    topic: str | None = None
    retained: frozenset[Literal["state", "metadata"]] = frozenset(("state", "metadata"))
    variable: str | None = None
    retired: str | None = None

    @property
    def tls_only(self) -> bool:
        """Whether it takes no connection without TLS."""
        return not {"mqtt", "ws"} & {*self.schemes}


_RETIRED = "CloudMQTT ended on 2025-01-27"  # cloudmqtt

PRESETS: Final[Mapping[str, Preset]] = {
    "mosquitto": Preset(
        about="Eclipse Mosquitto, self-hosted",
        limits={
            "max_topic_levels": 201,  # measured: at 202 it hangs up with 130
            "max_payload_bytes": 268_435_455,  # measured: what the protocol allows, unless the broker says less
            "payload_counts": "payload+topic",
            "max_qos": 2,  # measured
        },
    ),
    "hivemq": Preset(
        about="HiveMQ, HiveMQ CE and HiveMQ Edge, self-hosted",
        ports={"ws": 8000},  # unconfirmed: the listener of the documentation's examples
        limits={
            "max_payload_bytes": 268_435_455,  # hivemq: 268,435,460 with the header
            "payload_counts": "payload+topic",
            "max_in_flight": 10,  # hivemq: Server Receive Maximum
            "max_qos": 2,  # hivemq
        },
        unconfirmed=frozenset(("ws port",)),
    ),
    "hivemq-cloud": Preset(
        about="HiveMQ Cloud: TLS with SNI, user and password",
        schemes=_TLS,  # hivemq-cloud
        ports={"wss": 8884},  # unconfirmed
        hosts=r".+\.hivemq\.cloud",
        form="abc123.s1.eu.hivemq.cloud",
        sni=True,  # hivemq-sni
        needs=("username", "password"),  # hivemq-cloud
        limits={
            "max_payload_bytes": 5_242_880,  # hivemq-cloud: 5 MB
            "payload_counts": "payload+topic",
            "max_in_flight": 10,  # unconfirmed: hivemq's default
            "max_qos": 2,
            "metering_bytes": 5_120,  # hivemq-cloud: 5 KB of topic, headers, payload and user properties
        },
        unconfirmed=frozenset(("wss port", "max_in_flight", "max_payload_bytes")),
    ),
    "emqx": Preset(
        about="EMQX, self-hosted or dedicated",
        ports={"ws": 8083, "wss": 8084},
        limits={
            "max_topic_levels": 128,  # emqx: max_topic_levels
            "max_payload_bytes": 1_048_576,  # emqx: max_packet_size
            "payload_counts": "payload+topic+properties",
            "max_in_flight": 32,  # unconfirmed
            "max_qos": 2,  # emqx: max_qos_allowed
        },
        unconfirmed=frozenset(("max_in_flight",)),
    ),
    "emqx-serverless": Preset(
        about="EMQX Serverless: TLS, user and password, 10 messages a second",
        schemes=_TLS,  # emqx-serverless
        ports={"wss": 8084},  # unconfirmed
        hosts=r".+\.emqxsl\.(com|cn)",
        form="abc123.ala.eu-central-1.emqxsl.com",
        needs=("username", "password"),  # emqx-serverless: no anonymous access
        client_id_bytes=1_024,  # emqx-serverless; an older page says 23 for 3.x and 256 for 5
        subscriptions=10,  # emqx-serverless
        limits={
            "max_topic_levels": 10,  # emqx-serverless: of subscriptions, so nobody could ask for more by name
            "max_payload_bytes": 1_048_576,  # emqx-serverless
            "payload_counts": "payload+topic+properties",
            "messages_per_second": 10.0,  # emqx-serverless: for one client
            "max_in_flight": 32,  # unconfirmed
            "max_qos": 2,
        },
        unconfirmed=frozenset(("wss port", "max_in_flight", "max_topic_levels", "client_id_bytes")),
        # nine levels, ten where the hierarchy has a region
        topic="{root}/{org}/state/{zones}/{system}/{driver}.{module}.{index}/{state}",
        retained=_METADATA,  # emqx-serverless: it keeps 2,000 retained messages
    ),
    "myqtthub": Preset(
        about="MyQttHub: client id, user and password of a registered device",
        schemes=("mqtts", "mqtt"),  # myqtthub
        hosts=r".+\.myqtthub\.com",
        form="node02.myqtthub.com",
        needs=("client_id", "username", "password"),  # myqtthub
        version="3.1.1",  # myqtthub: all clients that were found speak 3.1 or 3.1.1
        limits={"max_qos": 2},
        unconfirmed=frozenset(("version",)),
    ),
    "cloudmqtt": Preset(
        about="CloudMQTT (retired): URLs of its form, at whatever serves them now",
        hosts=r".+\.cloudmqtt\.com",
        form="m10.cloudmqtt.com:12345",
        needs=("username", "password"),
        limits={"max_qos": 2},
        variable="CLOUDMQTT_URL",
        retired=_RETIRED,
    ),
    "heroku-cloudmqtt": Preset(
        about="CloudMQTT as Heroku's add-on (retired): the URL from CLOUDMQTT_URL",
        hosts=r".+\.cloudmqtt\.com",
        form="the URL in CLOUDMQTT_URL",
        needs=("username", "password"),
        limits={"max_qos": 2},
        variable="CLOUDMQTT_URL",
        retired=f"{_RETIRED}, and Heroku's add-on with it",
    ),
    "azure-event-grid": Preset(
        about="Azure Event Grid namespaces: TLS, one session per client id",
        schemes=_TLS,  # event-grid-mqtt
        hosts=r".+\.ts\.eventgrid\.azure\.net",
        form="acme.westeurope-1.ts.eventgrid.azure.net",
        sni=True,  # unconfirmed: one address serves many namespaces
        needs=("client_id",),  # event-grid-mqtt: it assigns none, and the id names the session
        limits={
            "max_topic_levels": 15,  # unconfirmed: since May 2025; 8 before
            "max_topic_bytes": 256,  # unconfirmed
            "max_payload_bytes": 524_288,  # event-grid-limits: 512 KB, 1 MB on newer pages
            "payload_counts": "payload+topic+properties",
            "messages_per_second": 1_000.0,  # event-grid-limits: per session
            "bytes_per_second": 1_000_000.0,  # event-grid-limits: per session
            "max_in_flight": 1_000,  # event-grid-limits
            "batch_bytes": 65_536,  # event-grid-limits: in flight at most 64 KB
            "batches_in_flight": 1,
            "max_qos": 1,  # event-grid-mqtt: it closes the connection on 2
            "keep_alive": (1, 1_160),  # event-grid-mqtt
        },
        unconfirmed=frozenset(("max_topic_levels", "max_topic_bytes")),
        retained=_METADATA,  # event-grid-retain: charged twice; 10,000 per unit, of 64 KB each
    ),
    "rabbitmq": Preset(
        about="RabbitMQ with its MQTT plugin: '.' means '/' there",
        ports={"ws": 15_675, "wss": 15_676},  # the Web MQTT plugin's, path /ws
        limits={
            "escaped": ".*",  # rabbitmq-topics
            "max_topic_bytes": 255,  # rabbitmq-key: a longer one no consumer with AMQP could be given
            "max_qos": 1,  # rabbitmq: 2 becomes 1 in 3.1.1, and ends the connection in 5
        },
        unconfirmed=frozenset(("max_topic_bytes",)),
    ),
    "nats": Preset(
        about="NATS server with JetStream: MQTT 3.1.1, no space in a topic",
        ports={"ws": 8080},  # unconfirmed: the documentation's examples
        version="3.1.1",  # nats
        limits={
            "escaped": " .",  # nats-topics
            "max_payload_bytes": 1_000_000,  # unconfirmed: max_payload is 1 MiB, and the server adds headers
            "payload_counts": "payload+topic",
            "max_qos": 2,  # nats
        },
        unconfirmed=frozenset(("max_payload_bytes", "ws port")),
    ),
}


def summary(preset: Preset) -> str:
    """Return what a preset sets and asks for, in words."""
    parts = [preset.about + (f". Host: {preset.form}" if preset.form else "")]
    parts.append("TLS only" + (" with SNI" if preset.sni else "") if preset.tls_only else "")
    if preset.needs:
        parts.append(f"needs {', '.join(preset.needs)}")
    if preset.version != "auto":
        parts.append(f"version {preset.version}")
    parts += [words for name, write in _WORDS if (words := write(preset.limits.get(name)))]
    if preset.topic:
        parts.append(f"state topics {preset.topic}")
    if preset.retained == _METADATA:
        parts.append("metadata retained, state not")
    if preset.unconfirmed:
        parts.append(f"unconfirmed: {', '.join(sorted(preset.unconfirmed))}")
    if preset.retired:
        parts.append(preset.retired)
    return "; ".join(part for part in parts if part) + "."


def _counted(words: str) -> Any:
    return lambda value: None if value is None else words.format(value)


_WORDS: Final[tuple[tuple[str, Any], ...]] = (
    ("max_topic_levels", _counted("{} levels at most")),
    ("max_topic_bytes", _counted("topics of {} bytes at most")),
    ("escaped", lambda value: f"{' and '.join(map(repr, value))} escaped" if value else None),
    ("max_payload_bytes", _counted("messages of {:,} bytes at most")),
    ("messages_per_second", _counted("{:g} messages/s")),
    ("bytes_per_second", _counted("{:,.0f} bytes/s")),
    ("max_in_flight", _counted("{} in flight")),
    ("max_qos", lambda value: f"QoS {value} at most" if value is not None and value < 2 else None),
    ("keep_alive", lambda value: f"keep-alive of {value[0]} to {value[1]} s" if value else None),
)
