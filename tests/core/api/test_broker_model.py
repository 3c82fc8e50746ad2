"""The broker beside an oracle of a few lines, which knows nothing of tries, chunks, audiences or windows."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.examples import examples
from tests.support.peers import Peer, Site, message

from northbound import mqtt as m
from northbound.topics import TopicMatcher

NAMES = ("one", "two", "three", "four")
TOPICS = ("a", "a/b", "a/c", "b/c", "$x/a")
FILTERS = ("#", "a/#", "+/c", "a/b", "+", "$x/#", "a/+")
QOS = st.integers(0, 2)


@dataclass
class Client:
    """What the oracle knows of a client."""

    version: int
    kept: bool
    online: bool = False
    exists: bool = False
    subscriptions: dict[str, tuple[int, bool]] = field(default_factory=dict)  # filter → QoS, retain as published
    due: list[tuple[str, bytes, int, bool]] = field(default_factory=list)

    def forget(self) -> None:
        self.exists = False
        self.subscriptions.clear()
        self.due.clear()


class BrokerMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.site = Site(inflight=3, queue_messages=100_000)
        self.clients = {
            name: Client(version, kept)
            for name, version, kept in zip(NAMES, (3, 4, 5, 5), (True, False, True, False), strict=True)
        }
        self.peers = {}
        for name, client in self.clients.items():
            properties = {"session_expiry": 1000} if client.kept and client.version == 5 else {}
            self.peers[name] = Peer(self.site, name, client.version, clean=not client.kept, **properties)
        self.retained: dict[str, tuple[bytes, int]] = {}  # payload and QoS
        self.number = 0
        self.early = []

    def online(self):
        return [name for name, client in self.clients.items() if client.online]

    # -- what happens

    @rule(name=st.sampled_from(NAMES))
    def connect(self, name):
        client, peer = self.clients[name], self.peers[name]
        if client.online:
            self.check(name)
            self.vanish(name)
        present = client.exists and client.kept
        if not present:
            client.forget()
        connack = peer.connect()
        assert connack.reason == 0
        assert connack.session_present is (present and client.version > 3)
        client.online = client.exists = True
        self.early = peer.rest
        self.check(name)

    @precondition(lambda self: self.online())
    @rule(data=st.data())
    def leave(self, data):
        self.vanish(data.draw(st.sampled_from(self.online())))

    def vanish(self, name):
        client = self.clients[name]
        self.peers[name].lose()
        client.online = False
        if client.kept:
            client.due = [item for item in client.due if item[2]]
        else:
            client.forget()

    @precondition(lambda self: self.online())
    @rule(data=st.data(), text=st.sampled_from(FILTERS), qos=QOS, keep=st.booleans())
    def subscribe(self, data, text, qos, keep):
        name = data.draw(st.sampled_from(self.online()))
        client, peer = self.clients[name], self.peers[name]
        self.check(name)
        keep = keep and client.version == 5
        assert peer.subscribe(text, qos=qos, retain_as_published=keep) == (qos,)
        client.subscriptions[text] = (qos, keep)
        present = {t: (p, min(q, qos)) for t, (p, q) in self.retained.items() if TopicMatcher([text]).matches(t)}
        got = {}
        for packet in [*peer.rest, *self.acknowledge(peer, peer.rest)]:
            if isinstance(packet, m.Publish):
                assert packet.retain
                assert packet.topic not in got
                got[packet.topic] = (packet.payload, packet.qos)
        assert got == present

    def acknowledge(self, peer, packets):
        for packet in packets:
            if isinstance(packet, m.Publish) and packet.qos:
                peer.send(m.Puback(packet.packet_id) if packet.qos == 1 else m.Pubrec(packet.packet_id))
            elif isinstance(packet, m.Pubrel):
                peer.send(m.Pubcomp(packet.packet_id))
        return peer.messages()

    @precondition(lambda self: self.online())
    @rule(data=st.data(), text=st.sampled_from(FILTERS))
    def unsubscribe(self, data, text):
        name = data.draw(st.sampled_from(self.online()))
        client = self.clients[name]
        self.check(name)
        reasons = self.peers[name].unsubscribe(text)
        known = client.subscriptions.pop(text, None) is not None
        assert reasons == ((() if client.version < 5 else (0,)) if known or client.version < 5 else (17,))

    @rule(topics=st.lists(st.sampled_from(TOPICS), min_size=1, max_size=5), retain=st.booleans(), empty=st.booleans())
    def engine(self, topics, retain, empty):
        batch = [message(topic, self.payload(empty=empty), retain=retain) for topic in topics]
        self.site.broker.publish(batch)
        for item in batch:
            self.expect(item.topic, item.payload, 2, retain)

    @precondition(lambda self: self.online())
    @rule(data=st.data(), topic=st.sampled_from(TOPICS[:4]), qos=QOS, retain=st.booleans(), empty=st.booleans())
    def publish(self, data, topic, qos, retain, empty):
        name = data.draw(st.sampled_from(self.online()))
        self.check(name)
        peer, payload = self.peers[name], self.payload(empty=empty)
        packet_id = peer.publish(topic, payload, qos, retain=retain)
        self.expect(topic, payload, qos, retain)
        if qos == 2:
            peer.send(m.Pubrel(packet_id))

    def payload(self, *, empty):
        self.number += 1
        return b"" if empty else b"%d" % self.number

    def expect(self, topic, payload, qos, retain):
        if retain:
            if payload:
                self.retained[topic] = (payload, qos)
            else:
                self.retained.pop(topic, None)
        for client in self.clients.values():
            granted = [g for text, g in client.subscriptions.items() if TopicMatcher([text]).matches(topic)]
            if granted and client.exists:
                best = min(qos, max(item[0] for item in granted))
                if client.online or best:
                    client.due.append((topic, payload, best, retain and any(item[1] for item in granted)))

    # -- what must be true

    @rule(name=st.sampled_from(NAMES))
    def look(self, name):
        if self.clients[name].online:
            self.check(name)

    def check(self, name):
        client, peer = self.clients[name], self.peers[name]
        early, self.early = self.early, []
        got = [*early, *self.acknowledge(peer, early)]
        found = [(p.topic, p.payload, p.qos, p.retain) for p in got if isinstance(p, m.Publish)]
        due, client.due = client.due, []
        for qos in (0, 1, 2):  # the order is promised for each topic and QoS
            for topic in TOPICS:
                assert [i for i in found if i[0] == topic and i[2] == qos] == [
                    i for i in due if i[0] == topic and i[2] == qos
                ]
        assert len(found) == len(due)

    @invariant()
    def the_present_is_the_same(self):
        kept = self.site.values("#") | self.site.values("$x/#")
        assert kept == {topic: payload for topic, (payload, _) in self.retained.items()}

    @invariant()
    def the_numbers_are_right(self):
        numbers = self.site.broker.numbers()
        assert numbers.connections == len(self.online())
        assert numbers.sessions == sum(client.exists for client in self.clients.values())
        assert numbers.subscriptions == sum(len(client.subscriptions) for client in self.clients.values())
        assert numbers.strangers == 0


TestBroker = BrokerMachine.TestCase
TestBroker.settings = settings(max_examples=examples(100), stateful_step_count=40)
