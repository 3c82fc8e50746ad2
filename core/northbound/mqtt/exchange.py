"""Packet identifiers and acknowledgements of messages sent with QoS 1 and 2: the same for both sides (section 4.3).

What an entry is, and what becomes of it when it is acknowledged, is the business of the side that sends.
"""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from northbound.mqtt.encoder import encode
from northbound.mqtt.errors import ProtocolError
from northbound.mqtt.packets import Puback, Pubcomp, Pubrec, Pubrel
from northbound.mqtt.reasons import FAILURE, PACKET_ID_NOT_FOUND, PROTOCOL

Entry = TypeVar("Entry")

# Most sessions never need one of their own. Nothing is ever put in here.
_NOTHING: Final[dict[int, None]] = {}


class Exchange(Generic[Entry]):
    """What is sent and unsettled, by packet identifier. A side says in three methods what settling means to it."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._inflight: dict[int, Entry] = {}  # until PUBACK or PUBREC, in the order sent
        self._exactly_once: set[int] = set()  # those of them with QoS 2
        self._released: dict[int, Entry] = {}  # from PUBREC until PUBCOMP
        self._again = _NOTHING  # those to be sent again after a reconnect, the first one last
        self._last_id = 0
        self.reserved: set[int] = set()  # identifiers of SUBSCRIBE and UNSUBSCRIBE
        self.unknown = 0  # acknowledgements for which there was no message

    # -- for the side that sends ----------------------------------------------------------------------------------

    def settled(self, entry: Entry) -> None:
        """Take note that the other side has the message."""
        raise NotImplementedError

    def refused(self, entry: Entry, packet: Puback | Pubrec) -> None:
        """Take note that the other side refuses the message; it is not sent again."""
        raise NotImplementedError

    def released(self, entry: Entry, now: float) -> Entry:  # noqa: ARG002 - one side keeps the time
        """Return what is kept of a message of QoS 2 until its PUBCOMP."""
        return entry

    # -- identifiers ----------------------------------------------------------------------------------------------

    @property
    def inflight(self) -> int:
        """The number of messages sent and not settled."""
        return len(self._inflight) + len(self._released)

    def next_id(self) -> int:
        """Return a packet identifier that is not in use."""
        packet_id = self._last_id
        inflight, released, reserved = self._inflight, self._released, self.reserved
        while True:
            packet_id = packet_id + 1 if packet_id < 65_535 else 1
            if packet_id not in inflight and packet_id not in released and packet_id not in reserved:
                self._last_id = packet_id
                return packet_id

    def forget(self) -> None:
        """Start anew: nothing is in flight any more."""
        self._inflight.clear()
        self._exactly_once.clear()
        self._released.clear()
        self._again = _NOTHING

    def resume(self, out: list[bytes]) -> None:
        """Go on after a reconnect (section 4.4): PUBREL is said again at once, its side sends messages again."""
        self._again = dict.fromkeys(reversed(self._inflight))
        out += [encode(Pubrel(packet_id), self._version) for packet_id in self._released]

    # -- acknowledgements -----------------------------------------------------------------------------------------

    def puback(self, packet: Puback) -> None:
        """Settle a message of QoS 1."""
        packet_id = packet.packet_id
        if self._exactly_once and packet_id in self._exactly_once:
            raise ProtocolError(PROTOCOL, "a PUBACK for a message of QoS 2")
        entry = self._inflight.pop(packet_id, None)
        self._again.pop(packet_id, None)
        if entry is None:
            self.unknown += 1
        elif packet.reason < FAILURE:
            self.settled(entry)
        else:
            self.refused(entry, packet)

    def pubrec(self, packet: Pubrec, out: list[bytes], now: float) -> None:
        """Answer with PUBREL; a refusal settles the message."""
        packet_id = packet.packet_id
        if packet_id in self._released:
            out.append(encode(Pubrel(packet_id), self._version))
            return
        entry = self._inflight.get(packet_id)
        if entry is None:
            self.unknown += 1
            if packet.reason < FAILURE:
                out.append(encode(Pubrel(packet_id, PACKET_ID_NOT_FOUND), self._version))
            return
        if packet_id not in self._exactly_once:
            raise ProtocolError(PROTOCOL, "a PUBREC for a message of QoS 1")
        del self._inflight[packet_id]
        self._again.pop(packet_id, None)
        self._exactly_once.discard(packet_id)
        if packet.reason >= FAILURE:
            self.refused(entry, packet)
            return
        self._released[packet_id] = self.released(entry, now)
        out.append(encode(Pubrel(packet_id), self._version))

    def pubcomp(self, packet: Pubcomp) -> None:
        """Settle a message of QoS 2: it was released, so it was taken, whatever the reason says of the identifier."""
        entry = self._released.pop(packet.packet_id, None)
        if entry is None:
            self.unknown += 1
        else:
            self.settled(entry)
