"""Every packet a version can say, as hypothesis strategies."""

from hypothesis import strategies as st

from northbound import mqtt as m
from northbound.mqtt.properties import _TABLE, NONE, WILL, Properties

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
NAME = st.text(st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1, max_size=12)
BLOB = st.binary(max_size=20)
ID = st.integers(1, 65535)
QOS = st.integers(0, 2)
FLAG = st.booleans()
CODE = st.integers(0, 255)

_KINDS = {
    "bit": st.integers(0, 1),
    "flag": FLAG,
    "u16": st.integers(0, 65535),
    "u16+": ID,
    "u32": st.integers(0, 2**32 - 1),
    "u32+": st.integers(1, 2**32 - 1),
    "string": TEXT,
    "topic": NAME,
    "binary": BLOB,
    "varints": st.tuples(st.integers(1, 268_435_455)),
    "pairs": st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3).map(tuple),
}


def properties(where: int, version: int, without: tuple[str, ...] = ()):
    if version < 5:
        return st.just(NONE)
    fields = {name: _KINDS[kind] for _id, name, kind, allowed in _TABLE if where in allowed and name not in without}
    if where == 3:
        fields["subscription_ids"] = st.lists(st.integers(1, 268_435_455), min_size=1, max_size=3).map(tuple)

    def build(found):
        if "authentication_data" in found:
            found.setdefault("authentication_method", "m")
        return Properties(**found) if found else NONE

    return st.fixed_dictionaries({}, optional=fields).map(build)


def wills(version: int):
    return st.builds(m.Will, NAME, BLOB, QOS, FLAG, properties(WILL, version))


@st.composite
def connects(draw, version: int):
    username = draw(st.none() | TEXT)
    password = draw(st.none() | BLOB) if version == 5 or username is not None else None
    return m.Connect(
        client_id=draw(TEXT),
        version=version,
        clean_start=draw(FLAG),
        keep_alive=draw(st.integers(0, 65535)),
        username=username,
        password=password,
        will=draw(st.none() | wills(version)),
        properties=draw(properties(1, version)),
    )


@st.composite
def connacks(draw, version: int):
    reason = draw(CODE if version == 5 else st.integers(0, 5))
    return m.Connack(reason, draw(FLAG) if not reason and version > 3 else False, draw(properties(2, version)))


@st.composite
def publishes(draw, version: int):
    qos = draw(QOS)
    return m.Publish(
        draw(NAME),
        draw(st.binary(max_size=300)),
        qos,
        draw(FLAG),
        draw(FLAG) if qos else False,
        draw(ID) if qos else 0,
        draw(properties(3, version)),
    )


def _acks(kind, where, version):
    return st.builds(kind, ID, CODE if version == 5 else st.just(0), properties(where, version))


@st.composite
def subscriptions(draw, version: int):
    if version < 5:
        return m.Subscription(draw(NAME), draw(QOS))
    return m.Subscription(draw(NAME), draw(QOS), draw(FLAG), draw(FLAG), draw(QOS))


def by_kind(version: int):
    """Return a strategy for each packet type of the version."""
    granted = st.sampled_from([0, 1, 2, 128, 135, 143] if version == 5 else [0, 1, 2, 128])
    result = {
        m.Connect: connects(version),
        m.Connack: connacks(version),
        m.Publish: publishes(version),
        m.Puback: _acks(m.Puback, 4, version),
        m.Pubrec: _acks(m.Pubrec, 5, version),
        m.Pubrel: _acks(m.Pubrel, 6, version),
        m.Pubcomp: _acks(m.Pubcomp, 7, version),
        m.Subscribe: st.builds(
            m.Subscribe,
            ID,
            st.lists(subscriptions(version), min_size=1, max_size=4).map(tuple),
            properties(8, version),
        ),
        m.Suback: st.builds(m.Suback, ID, st.lists(granted, min_size=1, max_size=4).map(tuple), properties(9, version)),
        m.Unsubscribe: st.builds(
            m.Unsubscribe, ID, st.lists(NAME, min_size=1, max_size=4).map(tuple), properties(10, version)
        ),
        m.Unsuback: st.builds(
            m.Unsuback,
            ID,
            st.lists(st.sampled_from([0, 17, 128, 135]), min_size=1, max_size=4).map(tuple)
            if version == 5
            else st.just(()),
            properties(11, version),
        ),
        m.Pingreq: st.just(m.Pingreq()),
        m.Pingresp: st.just(m.Pingresp()),
        m.Disconnect: st.builds(m.Disconnect, CODE if version == 5 else st.just(0), properties(14, version)),
    }
    if version == 5:
        result[m.Auth] = st.builds(m.Auth, st.sampled_from([0, 24, 25]), properties(15, version))
    return result


def packets(version: int):
    return st.one_of(*by_kind(version).values())
