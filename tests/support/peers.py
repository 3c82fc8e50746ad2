"""The API's broker without sockets and clocks, and clients of it that are bytes and packets."""

from __future__ import annotations

from msgspec.structs import replace
from tests.support.broker import Rules, identity

from northbound import mqtt as m
from northbound.api.broker import Broker
from northbound.api.identity import Identity, SignInRefused
from northbound.message import Message
from northbound.mqtt.properties import NONE, Properties
from northbound.mqtt_options import MqttOptions


class Site:
    """A broker, and the time, which passes when told."""

    def __init__(self, *, access=None, authenticator=None, **options):
        self.now = 1000.0
        self.wall = 1_700_000_000.0
        self.broker = Broker(
            access=access or Rules(),
            authenticator=authenticator,
            options=MqttOptions(**options),
            clock=lambda: self.now,
            wall=lambda: self.wall,
        )

    def peer(self, client_id="c", version=4, **options) -> Peer:
        """Return a client that is let in."""
        peer = Peer(self, client_id, version, **options)
        peer.connect()
        return peer

    def publish(self, topic: str, payload: bytes | str = b"1", *, retain: bool = True) -> None:
        """Publish as the engine does."""
        self.broker.publish([message(topic, payload, retain=retain)])

    def pass_(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds
        self.broker.tick(self.now)

    def values(self, text="#") -> dict[str, bytes]:
        return {item.topic: item.payload for items in self.broker.current(text, None) for item in items}

    @property
    def count(self):
        return self.broker.counters


def message(topic: str, payload: bytes | str = b"1", *, retain: bool = True) -> Message:
    raw = payload.encode() if isinstance(payload, str) else payload
    return Message(topic, raw, "state", 0, retain)


class Peer:
    def __init__(
        self,
        site: Site,
        client_id="c",
        version=4,
        *,
        clean=True,
        who: Identity | None = None,
        will=None,
        keep_alive=60,
        room=1 << 20,
        address="192.0.2.1",
        **properties,
    ):
        self.site = site
        self.client_id = client_id
        self.version = version
        self.who = who or identity()
        self.room = room
        self.address = address
        self.wakes = 0
        self.aborted = False
        self._decoder = m.Decoder(version)
        self._id = 0
        self.packet = m.Connect(
            client_id=client_id,
            version=version,
            clean_start=clean,
            keep_alive=keep_alive,
            username="ann",
            password=b"secret",
            will=will,
            properties=Properties(**properties) if properties else NONE,
        )

    # -- the connection

    def open(self) -> None:
        def wake():
            self.wakes += 1

        def abort():
            self.aborted = True

        self.link = self.site.broker.open(self.address, wake, abort)
        assert self.link is not None
        self._decoder = m.Decoder(self.version)
        self.acks = True

    def connect(self, *more) -> m.Connack:
        """Sign in, with ``more`` packets in the same bytes; return the CONNACK."""
        self.open()
        self.raw(b"".join(m.encode(packet, self.version) for packet in (self.packet, *more)))
        self.link.admit(self.who, self.site.now)
        packets = self.got()
        self.connack = packets[0]
        self.rest = packets[1:]
        return self.connack

    def refuse(self, reason: str) -> m.Connack:
        self.open()
        self.send(self.packet)
        self.link.turn_away(SignInRefused(reason, "no"), self.site.now)
        return self.got()[0]

    def raw(self, data: bytes) -> None:
        self.link.receive(data, self.site.now)

    def send(self, *packets) -> None:
        self.raw(b"".join(m.encode(packet, self.version) for packet in packets))

    def bytes(self, room=None) -> bytes:
        """Return what is written now."""
        out = []
        while (pieces := self.link.output(self.site.now, room or self.room)) or self.link.searching:
            out += pieces
            if room:
                break
        return b"".join(out)

    def got(self, room=None) -> list:
        """Return the packets that are written now."""
        return self._decoder.feed(self.bytes(room))

    def lose(self) -> None:
        """Vanish."""
        self.site.broker.part(self.link)

    def leave(self, **properties) -> None:
        self.send(m.Disconnect(0, Properties(**properties) if properties else NONE))
        self.site.broker.part(self.link)

    def reconnect(self, **changes) -> m.Connack:
        self.packet = replace(self.packet, **changes)
        self.version = self.packet.version
        return self.connect()

    @property
    def over(self) -> bool:
        return self.link.over

    # -- what a client does

    def next_id(self) -> int:
        self._id += 1
        return self._id

    def subscribe(self, *filters, qos=0, keep=False, identifier=0, **options):
        """Return the reasons; what came with SUBACK is in ``rest``."""
        packet_id = self.next_id()
        items = tuple(m.Subscription(item, qos, **options) for item in filters)
        properties = Properties(subscription_ids=(identifier,)) if identifier else NONE
        self.send(m.Subscribe(packet_id, items, properties))
        packets = self.got()
        suback = packets.pop(0)
        assert isinstance(suback, m.Suback), suback
        assert suback.packet_id == packet_id
        self.rest = packets
        return suback.reasons

    def unsubscribe(self, *filters):
        packet_id = self.next_id()
        self.send(m.Unsubscribe(packet_id, filters))
        unsuback = self.got()[0]
        assert isinstance(unsuback, m.Unsuback)
        assert unsuback.packet_id == packet_id
        return unsuback.reasons

    def publish(self, topic, payload=b"x", qos=0, *, retain=False, packet_id=None, duplicate=False, **properties):
        if qos and packet_id is None:
            packet_id = self.next_id()
        self.send(
            m.Publish(
                topic,
                payload,
                qos,
                retain,
                duplicate,
                packet_id or 0,
                Properties(**properties) if properties else NONE,
            )
        )
        return packet_id

    def heard(self) -> list[tuple[str, bytes]]:
        """Return topics and payloads of what came, acknowledged as MQTT asks."""
        return [(packet.topic, packet.payload) for packet in self.messages()]

    def messages(self, *, ack=True) -> list[m.Publish]:
        found = []
        while packets := self.got():
            for packet in packets:
                match packet:
                    case m.Publish():
                        found.append(packet)
                        if ack and packet.qos == 1:
                            self.send(m.Puback(packet.packet_id))
                        elif ack and packet.qos == 2:
                            self.send(m.Pubrec(packet.packet_id))
                    case m.Pubrel():
                        self.send(m.Pubcomp(packet.packet_id))
                    case _:
                        pass
        return found
