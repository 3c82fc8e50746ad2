"""Packet for packet beside the ``mqtt5`` package (Rust), both ways."""

import mqtt5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mqtt_strategies import by_kind
from tests.support.examples import examples

from northbound import mqtt as m
from northbound.mqtt.properties import NONE, Properties

_RENAMED = {
    "payload_format": "payload_format_indicator",
    "message_expiry": "message_expiry_interval",
    "subscription_ids": "subscription_ids",
    "session_expiry": "session_expiry_interval",
    "request_problem_information": "request_problem_info",
    "request_response_information": "request_response_info",
    "response_information": "response_info",
    "will_delay": "will_delay_interval",
    "reason_string": "reason_str",
    "receive_maximum": "receive_max",
    "topic_alias_maximum": "topic_alias_max",
    "maximum_qos": "max_qos",
    "user": "user_properties",
    "maximum_packet_size": "max_packet_size",
    "subscription_ids_available": "subscription_id_available",
}
# what the other package means by leaving a property out
_DEFAULTS = {
    "payload_format": 0,
    "session_expiry": 0,
    "request_problem_information": True,
    "request_response_information": False,
    "will_delay": 0,
    "receive_maximum": 65535,
    "topic_alias_maximum": 0,
    "maximum_qos": 2,
    "retain_available": True,
    "wildcard_subscription_available": True,
    "subscription_ids_available": True,
    "shared_subscription_available": True,
}


def members(kind) -> dict[int, object]:
    """Return code → member; the package's enums cannot be iterated."""
    found = [getattr(kind, name) for name in dir(kind) if name.isupper()]
    return {int(member): member for member in found}


def options(properties: Properties, kind=None) -> dict:
    found = {}
    for name in properties.__struct_fields__:
        value = getattr(properties, name)
        if value is None or value == ():
            continue
        if name == "maximum_qos":
            value = mqtt5.QoS(value)
        if name in {"user", "subscription_ids"}:
            value = list(value)
        found[_RENAMED.get(name, name)] = value
    return found


def theirs(packet):
    """Return the same packet as the other package's object."""
    match packet:
        case m.Connect():
            will = packet.will and mqtt5.Will(
                packet.will.topic,
                payload=packet.will.payload,
                qos=mqtt5.QoS(packet.will.qos),
                retain=packet.will.retain,
                **options(packet.will.properties),
            )
            return mqtt5.ConnectPacket(
                packet.client_id,
                username=packet.username,
                password=packet.password,
                clean_start=packet.clean_start,
                will=will,
                keep_alive=packet.keep_alive,
                **options(packet.properties),
            )
        case m.Connack():
            return mqtt5.ConnAckPacket(
                session_present=packet.session_present,
                reason_code=members(mqtt5.ConnAckReasonCode)[packet.reason],
                **options(packet.properties),
            )
        case m.Publish():
            return mqtt5.PublishPacket(
                packet.topic,
                packet.payload,
                qos=mqtt5.QoS(packet.qos),
                retain=packet.retain,
                packet_id=packet.packet_id or None,
                duplicate=packet.duplicate,
                **options(packet.properties),
            )
        case m.Subscribe():
            given = options(packet.properties)
            given["subscription_id"] = given.pop("subscription_ids", [None])[0]
            filters = [
                mqtt5.TopicFilter(
                    item.filter,
                    max_qos=mqtt5.QoS(item.qos),
                    no_local=item.no_local,
                    retain_as_published=item.retain_as_published,
                    retain_handling=mqtt5.RetainHandling(item.retain_handling),
                )
                for item in packet.subscriptions
            ]
            return mqtt5.SubscribePacket(packet.packet_id, filters, **given)
        case m.Unsubscribe():
            return mqtt5.UnsubscribePacket(packet.packet_id, list(packet.filters), **options(packet.properties))
        case m.Suback():
            codes = [members(mqtt5.SubAckReasonCode)[code] for code in packet.reasons]
            return mqtt5.SubAckPacket(packet.packet_id, codes, **options(packet.properties))
        case m.Unsuback():
            codes = [members(mqtt5.UnsubAckReasonCode)[code] for code in packet.reasons]
            return mqtt5.UnsubAckPacket(packet.packet_id, codes, **options(packet.properties))
        case m.Pingreq():
            return mqtt5.PingReqPacket()
        case m.Pingresp():
            return mqtt5.PingRespPacket()
        case m.Disconnect():
            return mqtt5.DisconnectPacket(
                reason_code=members(mqtt5.DisconnectReasonCode)[packet.reason], **options(packet.properties)
            )
        case m.Auth():
            return mqtt5.AuthPacket(
                reason_code=members(mqtt5.AuthReasonCode)[packet.reason], **options(packet.properties)
            )
        case _:
            kind, codes = {
                m.Puback: (mqtt5.PubAckPacket, mqtt5.PubAckReasonCode),
                m.Pubrec: (mqtt5.PubRecPacket, mqtt5.PubRecReasonCode),
                m.Pubrel: (mqtt5.PubRelPacket, mqtt5.PubRelReasonCode),
                m.Pubcomp: (mqtt5.PubCompPacket, mqtt5.PubCompReasonCode),
            }[type(packet)]
            return kind(packet.packet_id, reason_code=members(codes)[packet.reason], **options(packet.properties))


def plain(properties: Properties) -> Properties:
    """Return the properties without those that say what their absence says."""
    kept = {
        name: value
        for name in properties.__struct_fields__
        if (value := getattr(properties, name)) not in (None, ()) and _DEFAULTS.get(name, "none") != value
    }
    return Properties(**kept) if kept else NONE


def normal(packet):
    fields = {name: getattr(packet, name) for name in packet.__struct_fields__}
    if "properties" in fields:
        fields["properties"] = plain(fields["properties"])
    if fields.get("will"):
        will = fields["will"]
        fields["will"] = m.Will(will.topic, will.payload, will.qos, will.retain, plain(will.properties))
    return type(packet)(**fields)


_CODES = {
    m.Connack: mqtt5.ConnAckReasonCode,
    m.Puback: mqtt5.PubAckReasonCode,
    m.Pubrec: mqtt5.PubRecReasonCode,
    m.Pubrel: mqtt5.PubRelReasonCode,
    m.Pubcomp: mqtt5.PubCompReasonCode,
    m.Disconnect: mqtt5.DisconnectReasonCode,
}


@pytest.mark.parametrize("kind", by_kind(5), ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=examples(60))
def test_same_packet(kind, data):
    packet = data.draw(by_kind(5)[kind])
    if kind in _CODES:
        fields = {name: getattr(packet, name) for name in packet.__struct_fields__}
        fields["reason"] = data.draw(st.sampled_from(sorted(members(_CODES[kind]))))
        if kind is m.Connack and fields["reason"]:
            fields["session_present"] = False
        packet = kind(**fields)
    other = theirs(packet)
    raw, their_raw = m.encode(packet, 5), bytes(other.write())
    read, used = mqtt5.read(memoryview(raw))
    assert used == len(raw)
    assert read == other
    got = m.Decoder(5).feed(their_raw)
    assert len(got) == 1
    assert normal(got[0]) == normal(packet)


@given(st.binary(min_size=2, max_size=40))
@settings(max_examples=examples(500))
def test_what_we_accept_they_accept_or_we_know_why(raw):
    """Random bodies: whatever both read means the same."""
    try:
        ours = m.Decoder(5).feed(raw)
    except m.ProtocolError:
        return
    if not ours or not isinstance(ours[0], m.Publish):
        return
    try:
        read, _used = mqtt5.read(memoryview(raw))
    except (ValueError, IndexError):
        return
    assert (read.topic, bytes(read.payload), int(read.qos)) == (ours[0].topic, ours[0].payload, ours[0].qos)
